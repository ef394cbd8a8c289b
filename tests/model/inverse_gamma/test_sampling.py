"""Hyperpriors and integration of normal_inverse_gamma, against formulas written out here."""

import itertools

import numpy as np
import pytest
from scipy import optimize, special, stats

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit
from hbpipe.model.hyperpriors import compile_hyperprior
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES, LARGEST
from hbpipe.model.inverse_gamma.hyperpriors import SPACE, integrable
from hbpipe.model.numerics import jets

NAME = "normal_inverse_gamma"
FAMILY = get_family(NAME)
FREE = np.full(4, np.nan)
LEVELS = np.array([0.025, 0.5, 0.975])
INFORMED = {
    "mu": "normal(4, 2)",
    "kappa": "gamma(2, 0.1)",
    "d0": "half_cauchy(5)",
    "s0": "half_normal(3)",
}


def table(n, mean, m2):
    return {"n": np.array(n), "mean": np.array(mean, float), "m2": np.array(m2, float)}


def statistics(seed=1, stores=12):
    rng = np.random.default_rng(seed)
    truth = {"mu": 5.0, "kappa": 4.0, "d0": 6.0, "s0_squared": 4.0}
    columns, codes, _ = FAMILY.simulate(rng, truth, stores, rng.integers(1, 10, stores))
    return FAMILY.summarise(columns, codes, stores)


def one_pool(data):
    return FAMILY.compress(data, np.zeros(len(data["n"]), np.int64), 1)


def target_of(data, spec=None, held=FREE):
    fixed = FAMILY.from_coordinates(held)
    known = {name: fixed[name] for name, value in zip(fixed, held, strict=True) if value == value}
    estimate = fit(NAME, data, fixed=known).pools.coordinates[0]
    return FAMILY.sampling.target(one_pool(data), spec, held, estimate)


def log_posterior(data, spec, mu, kappa, d0, s0_squared):
    """Density of (μ, log κ, log (d₀ − least), log s₀²), all arguments (S,), from raw formulas."""
    shape = [values[:, None] for values in (mu, kappa, d0, s0_squared)]
    n, mean, m2 = (data[name] for name in ("n", "mean", "m2"))
    squares = m2 + (mean - shape[0]) ** 2 / (1 / n + 1 / shape[1])
    half, after = 0.5 * shape[2], 0.5 * (shape[2] + n)
    likelihood = (
        special.gammaln(after)
        - special.gammaln(half)
        + 0.5 * np.log(shape[1] / (shape[1] + n))
        + half * np.log(half * shape[3])
        - after * np.log(half * shape[3] + 0.5 * squares)
    ).sum(axis=1)
    jacobian = np.log(kappa) + np.log(d0 - FEWEST_DEGREES) + np.log(s0_squared)
    if spec is None:
        scale = np.sort(n[n > 0])[(np.sum(n > 0) - 1) // 2] / 10.0
        prior = -2 * np.log(scale + kappa) - 2 * np.log(scale + d0) - np.log(s0_squared)
    else:
        prior = (
            stats.norm.logpdf(mu, 4, 2)
            + stats.gamma.logpdf(kappa, 2, scale=10)
            + stats.halfcauchy.logpdf(d0, scale=5)
            + stats.halfnorm.logpdf(np.sqrt(s0_squared), scale=3)
            - 0.5 * np.log(s0_squared)
        )
    return likelihood + prior + jacobian


@pytest.mark.parametrize("spec", [None, INFORMED], ids=["default", "informed"])
def test_the_density_is_likelihood_times_hyperprior_times_jacobian(spec):
    data = statistics()
    target = target_of(data, spec)
    points = np.array([0.0, -0.7, 0.0, 0.7]) + np.random.default_rng(2).normal(0, 1.5, (200, 4))
    nodes = target.nodes(points)
    # The working variables are half of log 1/κ, half of −log(d₀ − least), and half of log s₀².
    np.testing.assert_allclose(points[:, 1], -0.5 * np.log(nodes["kappa"]), rtol=1e-12)
    np.testing.assert_allclose(
        points[:, 2], -0.5 * np.log(nodes["d0"] / FEWEST_DEGREES - 1), rtol=1e-9, atol=1e-12
    )
    # The first is μ in s₀ √((1/κ + 1/n̄)/J).
    width = np.sqrt(nodes["s0_squared"] * (1 / nodes["kappa"] + 1 / np.mean(data["n"])) / 12)
    shift = nodes["mu"] - points[:, 0] * width
    np.testing.assert_allclose(shift, shift[0], rtol=1e-9)
    expected = log_posterior(data, spec, *nodes.values()) + np.log(width)
    difference = target.log_density(points) - expected
    np.testing.assert_allclose(difference, difference[0], atol=1e-8)


def test_a_points_density_does_not_depend_on_the_other_points(monkeypatch):
    target = target_of(statistics())
    points = target.start + np.random.default_rng(3).normal(0.0, 1.0, (50, 4))
    together = target.log_density(points)
    alone = np.array([target.log_density(point[None])[0] for point in points])
    np.testing.assert_array_equal(together, alone)
    monkeypatch.setattr("hbpipe.model.inverse_gamma.sampling._ROWS", 30)
    np.testing.assert_array_equal(target.log_density(points), together)


def test_impossible_and_far_points_have_a_density():
    target = target_of(statistics())
    far = target.start + 1e3 * np.array(list(itertools.product((-1, 0, 1), repeat=4)))
    density = target.log_density(far)
    assert not np.isnan(density).any()
    assert np.all(density[np.abs(far[:, 3]) > 100] == -np.inf)


def test_held_hyperparameters_are_not_sampled():
    data = statistics()
    held = np.array([np.nan, 0.25, np.nan, np.nan])
    full = target_of(data)
    target = FAMILY.sampling.target(one_pool(data), None, held, full.estimate)
    assert target.names == ("standard_mu", "log_sd_of_log_variance", "log_s0")
    assert target.spreads == (1,)
    point = np.array([[0.5, 0.5 * np.log(0.25), 0.1, 0.6]])
    nodes = target.nodes(point[:, [0, 2, 3]])
    assert nodes["kappa"][0] == pytest.approx(4.0)
    shifts = []
    for move in (0.0, 0.3):
        at = point + np.array([move, 0.0, move, move])
        shifts.append(full.log_density(at)[0] - target.log_density(at[:, [0, 2, 3]])[0])
    assert shifts[0] == pytest.approx(shifts[1], abs=1e-10)
    common = target_of(data, None, np.array([np.nan, np.nan, 1.0 / LARGEST, np.nan]))
    assert common.nodes(common.start[None])["d0"][0] == pytest.approx(LARGEST)


def test_starts_are_finite_where_estimates_are_on_their_bounds():
    rng = np.random.default_rng(4)
    alike = table(np.full(10, 6), np.full(10, 2.0), 5.0 * rng.uniform(0.95, 1.05, 10))
    target = target_of(alike)
    assert np.isfinite(target.start).all()
    nodes = target.nodes(target.start[None])
    assert nodes["kappa"][0] > 1e6
    assert nodes["d0"][0] > 1e5
    assert np.isfinite(target.log_density(target.start[None])).all()


def on_a_grid(data, spec):
    """The posterior on a regular grid of four logarithms: weights and (μ, κ, d₀, s₀²)."""
    axes = np.meshgrid(
        np.linspace(2.5, 8.0, 27),
        np.linspace(-3.0, 13.0, 35),
        np.linspace(-7.0, 11.0, 35),
        np.linspace(-1.2, 4.0, 25),
        indexing="ij",
    )
    mu, log_kappa, log_d0, log_s2 = (axis.ravel() for axis in axes)
    hyper = mu, np.exp(log_kappa), FEWEST_DEGREES + np.exp(log_d0), np.exp(log_s2)
    blocks = [tuple(v[i::60] for v in hyper) for i in range(60)]
    log_weight = np.concatenate([log_posterior(data, spec, *block) for block in blocks])
    hyper = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    kept = log_weight > log_weight.max() - 16.0
    weight = np.exp(log_weight[kept] - log_weight.max())
    return weight / weight.sum(), [values[kept] for values in hyper]


@pytest.mark.parametrize("spec", [None, INFORMED], ids=["default", "informed"])
def test_integrated_posteriors_agree_with_a_grid_in_four_dimensions(spec):
    data = statistics(seed=6)
    some = {name: np.append(values[:3], 0) for name, values in data.items()}
    found = hbpipe.posterior(
        fit(NAME, data, hyperprior=spec), some, uncertainty="integrated", quantiles=tuple(LEVELS)
    )
    ahead = found.predict(2.0, tuple(LEVELS))
    limits = np.stack([found[f"q{level:g}"] for level in LEVELS], axis=1)
    grid, (mu, kappa, d0, s2) = on_a_grid(data, spec)
    for store, (n, centre, m2) in enumerate(zip(*some.values(), strict=True)):
        share = n / (kappa + n)
        squares = d0 * s2 + m2 + kappa * share * (centre - mu) ** 2
        scale = np.sqrt(squares / (d0 + n) / (kappa + n))
        law = stats.t(d0 + n, mu + share * (centre - mu), scale)
        expected = grid @ law.mean()
        sd = np.sqrt(grid @ (law.var() + (law.mean() - expected) ** 2))
        assert found["mean"][store] == pytest.approx(expected, abs=0.01 * sd)
        assert found["sd"][store] == pytest.approx(sd, rel=0.01)
        below = [grid @ law.cdf(limit) for limit in limits[store]]
        np.testing.assert_allclose(below, LEVELS, atol=0.001)
        assert found["weight"][store] == pytest.approx(grid @ share, abs=0.003)
        assert found["prior_mean"][store] == pytest.approx(grid @ mu, abs=0.01 * sd)
        new = stats.t(d0 + n, law.mean(), np.sqrt(scale**2 + 0.5 * squares / (d0 + n)))
        below = [grid @ new.cdf(limit) for limit in ahead.quantiles[store]]
        np.testing.assert_allclose(below, LEVELS, atol=0.001)


def test_nodes_give_each_store_the_familys_own_posterior():
    data = table([0, 1, 7], [0.0, 9.0, 4.0], [0.0, 0.0, 11.0])
    target = target_of(statistics())
    points = target.start + np.random.default_rng(8).normal(0.0, 0.5, (6, 4))
    nodes = target.nodes(points)
    found = FAMILY.sampling.conditional(data, nodes)
    ahead = FAMILY.sampling.predict(found, nodes, np.array([1.0, 1.0, 5.0]))
    for s in range(6):
        at = {name: values[s] for name, values in nodes.items()}
        posterior = FAMILY.update(data, at)
        expected = FAMILY.describe(posterior, LEVELS)
        np.testing.assert_allclose(found.mean[:, s, 0], expected.mean, rtol=1e-12)
        np.testing.assert_allclose(np.sqrt(found.variance[:, s, 0]), expected.sd, rtol=1e-12)
        new = FAMILY.predict(posterior, np.array([1.0, 1.0, 5.0]), at, LEVELS)
        np.testing.assert_allclose(np.sqrt(ahead.variance[:, s]), new.sd, rtol=1e-9)
        alone = ahead.mixed(np.eye(6)[s], LEVELS)
        np.testing.assert_allclose(alone.quantiles, new.quantiles, rtol=1e-7)
        np.testing.assert_allclose(alone.cdf(new.quantiles[:, 2]), 0.975, rtol=1e-9)
    one = FAMILY.sampling.conditional(table([7], [4.0], [11.0]), nodes)
    np.testing.assert_array_equal(one.mean[0], found.mean[2])
    np.testing.assert_array_equal(one.parameters[2][0], found.parameters[2][2])


def test_representatives_are_among_the_stores():
    data = statistics(seed=9)
    found = FAMILY.sampling.representatives(one_pool(data))
    assert found["n"].tolist() == [data["n"].min(), data["n"].max(), found["n"][2], 0]
    assert found["mean"][2] in data["mean"]


@pytest.mark.parametrize("spec", [None, INFORMED, "uniform_shrinkage(3)"])
def test_derivatives_of_hyperpriors_agree_with_differences(spec):
    prior = compile_hyperprior(FAMILY, spec, one_pool(statistics()))
    point = np.array([[1.3, 0.4, 0.2, 0.3]])
    _, gradient, hessian = prior(point)
    working = np.array([[1.3, 0.5 * np.log(0.4), 0.5 * special.logit(0.2 * FEWEST_DEGREES), 0.3]])
    named, at = SPACE.named(jets.variables(working)), FAMILY.from_coordinates(point)
    for name, values in at.items():
        np.testing.assert_allclose(named[name].value, values, rtol=1e-12)
    slopes = np.array([named[name].gradient[0] for name in prior.measure])
    expected = prior(point)[0][0] + np.log(abs(np.linalg.det(slopes)))
    assert prior.in_working(jets.variables(working)).value[0] == pytest.approx(expected)
    for axis in range(4):
        step = np.zeros_like(point)
        step[0, axis] = 1e-5
        up, down = prior(point + step), prior(point - step)
        assert gradient[0, axis] == pytest.approx((up[0] - down[0])[0] / 2e-5, rel=1e-6, abs=1e-8)
        np.testing.assert_allclose(
            hessian[0, axis], (up[1] - down[1])[0] / 2e-5, rtol=1e-5, atol=1e-8
        )


def test_map_maximises_likelihood_times_hyperprior_in_the_named_parameters():
    data = statistics(seed=10, stores=30)
    found = fit(NAME, data, estimator="map", hyperprior=INFORMED)

    def objective(z):
        mu, kappa, d0, s2 = (np.array([v]) for v in z)
        # Without the Jacobian of the logarithms, and as a density of s₀ in place of s₀².
        value = log_posterior(data, INFORMED, mu, kappa, d0, s2)
        return -(value - np.log(kappa * (d0 - FEWEST_DEGREES) * np.sqrt(s2)))[0]

    at = np.array(list(found.hyperparameters.values()))
    assert found.status == "ok"
    slopes = optimize.approx_fprime(at, objective, 1e-6 * at)
    np.testing.assert_allclose(slopes * at, 0.0, atol=2e-4)


IMPROPER = [
    ({"kappa": "uniform"}, "large kappa"),
    ({"kappa": "reciprocal"}, "large kappa"),
    ("kappa^-3 d0^-2 s0^-1", "small kappa"),
    ({"d0": "reciprocal"}, "large d0"),
    ({"s0_squared": "uniform"}, "large s0_squared"),
    ("kappa^-1.2 s0_squared^-4 d0^-2", "small s0_squared"),
]


@pytest.mark.parametrize(("spec", "end"), IMPROPER)
def test_improper_posteriors_are_refused(spec, end):
    data = table([2, 1], [1.0, 2.0], [1.0, 0.0])
    with pytest.raises(FitError, match=f"arbitrarily {end}"):
        target_of(data, spec)


PROPER = ["kappa^-1.5 d0^-2 s0_squared^-1", {"s0": "uniform"}, {"kappa": "gamma(0.1, 1)"}, None]


@pytest.mark.parametrize("spec", PROPER)
def test_the_density_of_proper_posteriors_falls_off_at_every_end(spec):
    data = table([2, 3, 1, 4, 2, 3], [1, 2, 4, 3, 0, 2], [1, 3, 0, 2, 1, 2])
    target = target_of(data, spec)
    middle = np.array([2.0, 0.0, 0.0, 0.0])
    for way in itertools.product((-1.0, 0.0, 1.0), repeat=4):
        # Far out along this way the log density falls by more than a hair for each step.
        far = middle + np.outer((40.0, 60.0), np.multiply(way, (1e3, 1.0, 1.0, 1.0)))
        near, beyond = target.log_density(far)
        assert not any(way) or beyond == -np.inf or beyond < near - 1.0, way


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (table([0], [0], [0]), False),
        (table([1], [3], [0]), False),
        (table([2], [3], [1]), True),
        (table([1, 1], [3, 3], [0, 0]), False),
        (table([1, 1], [3, 4], [0, 0]), True),
        (table([5, 5, 5], [1, 2, 3], [0, 0, 0]), False),
        (table([50, 3, 4, 3], [2, 1, 3, 2], [0, 2, 1, 2]), False),
        (table([3, 3, 4, 3], [2, 1, 3, 2], [0, 2, 1, 2]), True),
    ],
)
def test_which_data_can_be_integrated(data, expected):
    assert integrable(one_pool(data)).tolist() == [expected]
