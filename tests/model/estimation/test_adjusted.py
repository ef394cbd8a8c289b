"""Adjusted likelihoods: Li and Lahiri's and Chung et al.'s estimates, never without spread."""

import numpy as np
import pytest
from scipy import optimize, stats

from hbpipe.errors import FitError
from hbpipe.model.estimation.adjusted import POWERS, log_penalty
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.fit import fit, fit_pools

#: Adjusted likelihoods are those of a single spread.
ONE_SPREAD = [name for name, family in FAMILIES.items() if len(family.spreads) == 1]
EIGHT_SCHOOLS = {
    "estimate": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
    "variance": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]) ** 2,
}
#: Stores more alike than chance would have them: plain ML finds no spread in any of these.
ALIKE = {
    "beta_binomial": {"successes": [10, 10, 11, 9, 10], "trials": [100] * 5},
    "gamma_poisson": {"count": [20, 21, 19, 20], "exposure": [2.0] * 4},
    "normal": {"n": [4, 4, 4, 4], "mean": [1.0, 1.1, 0.9, 1.0], "m2": [3.0, 5.0, 4.0, 4.0]},
    "normal_known_variance": EIGHT_SCHOOLS,
}
adjustments = pytest.mark.parametrize("adjustment", POWERS)


def profile(log_spread: float, adjustment: str, *, restricted: bool) -> float:
    """Log likelihood of eight schools with μ at its best, or integrated out, plus the penalty."""
    tau_squared = np.exp(log_spread)
    total = tau_squared + EIGHT_SCHOOLS["variance"]
    mu = np.average(EIGHT_SCHOOLS["estimate"], weights=1 / total)
    value = stats.norm.logpdf(EIGHT_SCHOOLS["estimate"], mu, np.sqrt(total)).sum()
    if restricted:
        value += 0.5 * np.log(2 * np.pi) - 0.5 * np.log(np.sum(1 / total))
    return float(value + {"li_lahiri": 1.0, "chung": 0.5}[adjustment] * log_spread)


@adjustments
@pytest.mark.parametrize("kind", ["ml", "reml"])
def test_eight_schools_equal_a_search_in_one_dimension(kind, adjustment):
    restricted = kind == "reml"
    best = optimize.minimize_scalar(
        lambda x: -profile(x, adjustment, restricted=restricted),
        bounds=(-5, 12),
        options={"xatol": 1e-12},
    )
    found = fit("normal_known_variance", EIGHT_SCHOOLS, estimator=f"{kind}:{adjustment}")
    assert fit("normal_known_variance", EIGHT_SCHOOLS, estimator=kind).hyperparameters["tau"] == 0
    assert (found.status, found.boundary, found.converged) == ("ok", False, True)
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, np.exp(best.x), rtol=1e-6)
    np.testing.assert_allclose(found.pools.start_values, -best.fun, rtol=1e-12)
    assert found.pools.starts_agree[0]
    # What is reported is the likelihood, without the penalty.
    penalty = POWERS[adjustment] * best.x
    np.testing.assert_allclose(found.log_marginal_likelihood, -best.fun - penalty, atol=1e-6)


def test_equal_variances_satisfy_the_first_order_condition_in_closed_form():
    # −(J−1)/(2V) + S/(2V²) + 1/(V − v) = 0 with V = v + τ²: a quadratic in V.
    rng = np.random.default_rng(1)
    for stores in (4, 5, 12, 60):
        estimate = rng.normal(0.0, 1.1, stores)
        squares = np.sum((estimate - estimate.mean()) ** 2)
        roots = np.roots([3 - stores, stores - 1 + squares, -squares])
        expected = roots[np.isreal(roots) & (roots > 1)].max() - 1.0
        data = {"estimate": estimate, "variance": np.ones(stores)}
        found = fit("normal_known_variance", data, estimator="reml:li_lahiri")
        np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, expected, rtol=1e-7)


@adjustments
@pytest.mark.parametrize("name", ALIKE)
def test_the_optimum_is_never_without_spread(name, adjustment):
    family = get_family(name)
    plain = fit(name, ALIKE[name])
    found = fit(name, ALIKE[name], estimator=f"ml:{adjustment}")
    assert plain.status == "no_spread"
    assert (found.status, found.boundary, found.converged) == ("ok", False, True)
    assert np.all(found.pools.coordinates[0, family.spreads] > 0)
    assert found.log_marginal_likelihood < plain.log_marginal_likelihood
    # The summit is that of a search over all coordinates.
    sketch, power = found.sketch, POWERS[adjustment]

    def loss(x):
        point = x.copy()
        point[family.spreads[0]] = np.exp(x[family.spreads[0]])
        value = family.log_marginal(sketch, point[None])[0][0]
        return -value - power * x[family.spreads[0]]

    start = found.pools.coordinates[0].copy()
    start[family.spreads[0]] = np.log(start[family.spreads[0]])
    other = optimize.minimize(
        loss, start + 0.3, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    np.testing.assert_allclose(found.pools.start_values.max(), -other.fun, atol=1e-8)


@adjustments
@pytest.mark.parametrize("name", ONE_SPREAD)
def test_the_penalty_is_differentiated_right(name, adjustment):
    family = get_family(name)
    point = np.array([0.2 if axis.spread else 0.3 for axis in family.coordinates])[None]
    power = np.array([POWERS[adjustment]])
    value, gradient, hessian = log_penalty(family, power, point)
    step = np.zeros_like(point)
    (spread,) = family.spreads
    step[0, spread] = 1e-5
    up, down = (log_penalty(family, power, point + sign * step) for sign in (1, -1))
    np.testing.assert_allclose(value, power * np.log(0.2))
    slope = (up[0] - down[0]) / 2e-5
    np.testing.assert_allclose(gradient[0], slope * (step[0] > 0), rtol=1e-8)
    np.testing.assert_allclose(hessian[0, spread], (up[1] - down[1])[0] / 2e-5, rtol=1e-8)
    point[0, spread] = 0.0
    assert log_penalty(family, power, point)[0] == -np.inf
    assert log_penalty(family, 0 * power, point)[0] == 0.0


def test_a_batch_gives_the_bits_of_single_fits():
    family = get_family("normal_known_variance")
    rng = np.random.default_rng(3)
    pools = np.repeat(np.arange(4), [1, 3, 8, 20])
    data = {"estimate": rng.normal(size=32), "variance": rng.uniform(0.5, 2.0, 32)}
    fits = fit_pools(family, family.compress(data, pools, 4), estimator="ml:li_lahiri")
    for g in (2, 3):
        alone = fit(family, {k: v[pools == g] for k, v in data.items()}, estimator="ml:li_lahiri")
        np.testing.assert_array_equal(alone.pools.coordinates[0], fits.coordinates[g])
        np.testing.assert_array_equal(alone.covariance, fits.covariance[g])


@adjustments
def test_a_held_spread_has_no_penalty(adjustment):
    plain = fit("normal_known_variance", EIGHT_SCHOOLS, fixed={"tau": 0.0})
    found = fit(
        "normal_known_variance", EIGHT_SCHOOLS, fixed={"tau": 0.0}, estimator=f"ml:{adjustment}"
    )
    assert found.hyperparameters == plain.hyperparameters
    assert found.log_marginal_likelihood == plain.log_marginal_likelihood


@pytest.mark.parametrize(
    ("estimator", "needed"),
    [("ml:chung", 1), ("ml:li_lahiri", 2), ("reml:chung", 2), ("reml:li_lahiri", 3)],
)
def test_too_few_stores_leave_no_maximum(estimator, needed):
    family = get_family("normal_known_variance")
    rng = np.random.default_rng(2)
    pools = np.repeat([0, 1], [needed, needed + 1])
    data = {"estimate": rng.normal(size=len(pools)), "variance": np.ones(len(pools))}
    fits = fit_pools(family, family.compress(data, pools, 2), estimator=estimator)
    assert fits.identified.tolist() == [False, True]
    assert fits.status[0] == ("one_store" if needed == 1 else "too_few_stores")
    assert fits.status[1] == "ok"
    assert np.isfinite(fits.coordinates).all()
    few = {name: values[:needed] for name, values in data.items()}
    with pytest.raises(FitError, match=r"estimator='map'") as caught:
        fit(family, few, estimator=estimator)
    assert "store" in str(caught.value)
    # Holding the spread leaves nothing open.
    held = fit(family, few, estimator=estimator, fixed={"tau": 1.0})
    assert held.hyperparameters["tau"] == 1.0


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("beta_binomial", {"successes": [0, 0], "trials": [5, 9]}),
        ("beta_binomial", {"successes": [5, 9], "trials": [5, 9]}),
        ("beta_binomial", {"successes": [3], "trials": [9]}),
        ("gamma_poisson", {"count": [0, 0], "exposure": [5.0, 1.0]}),
    ],
)
def test_the_penalty_alone_is_no_estimate(name, data):
    with pytest.raises(FitError, match=r"estimator='map'"):
        fit(name, data, estimator="ml:chung")


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        ("ml:lilahiri", "did you mean 'ml:li_lahiri'"),
        ("reml:chung", "no restricted likelihood"),
        ("map:chung", "no estimator 'map:chung'"),
    ],
)
def test_wrong_names_are_explained(estimator, words):
    with pytest.raises(FitError, match=words):
        fit("beta_binomial", ALIKE["beta_binomial"], estimator=estimator)
