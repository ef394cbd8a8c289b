"""Fits of regressions: summits against scipy on a dense likelihood, singular ones, and words."""

import numpy as np
import pytest
from scipy import linalg, optimize

from hbpipe.errors import FitError
from hbpipe.model.estimation.climb import climb
from hbpipe.model.estimation.problem import Problem
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.regression import relative

FAMILY = "normal_regression"


def drawn(size, seed, stores=12, most=9, covariance=None, sigma=1.0):
    rng = np.random.default_rng(seed)
    family = get_family(FAMILY, size)
    spread = np.eye(size) if covariance is None else covariance
    named = {"mu": np.arange(size) + 1.0, "Sigma": spread, "sigma": sigma}
    sizes = np.concatenate([[most, most], rng.integers(0, most, stores - 2)])
    columns, codes, _ = family.simulate(rng, named, stores, sizes)
    return family, columns, codes, family.summarise(columns, codes, stores)


def single(family, statistics):
    return family.compress(statistics, np.zeros(len(statistics["n"]), int), 1)


def dense_objective(columns, codes, size, restricted):
    """−log L of (Λ, log σ) with μ at its generalised least-squares fit, by one n × n matrix."""
    x, y, n = columns["predictors"], columns["response"], len(codes)
    same = codes[:, None] == codes[None, :]
    both = np.column_stack([x, y])
    rows, places = relative.triangle(size)

    def objective(theta):
        loading = np.zeros((size, size))
        loading[rows, places] = theta[:-1]
        variance = np.exp(2 * theta[-1])
        spread = x @ loading
        factor = linalg.cholesky(np.eye(n) + same * (spread @ spread.T), lower=True)
        white = linalg.solve_triangular(factor, both, lower=True)
        information, score = white[:, :-1].T @ white[:, :-1], white[:, :-1].T @ white[:, -1]
        left = white[:, -1] @ white[:, -1] - score @ np.linalg.solve(information, score)
        log_det = 2 * np.log(np.diag(factor)).sum()
        value = -0.5 * (n * np.log(2 * np.pi * variance) + log_det + left / variance)
        if restricted:
            value += 0.5 * size * np.log(2 * np.pi * variance)
            value -= 0.5 * np.linalg.slogdet(information)[1]
        return -value

    return objective


def best_of_scipy(objective, size, at, seed=0):
    rng = np.random.default_rng(seed)
    values = []
    for scale in (0.1, 0.7) if size < 3 else (0.5,):
        start = np.append(scale * rng.normal(size=size * (size + 1) // 2), at)
        found = optimize.minimize(objective, start, method="BFGS", options={"gtol": 1e-4})
        values.append(-found.fun)
    return max(values)


#: Coefficients, seed, and columns of a root of Σ that are left out: its rank.
SINGULAR = [(1, 3, 1), (2, 0, 1), (2, 2, 0), (3, 1, 2)]


@pytest.mark.parametrize("estimator", ["ml", "reml"])
@pytest.mark.parametrize(("size", "seed", "lost"), SINGULAR)
def test_singular_or_not_no_other_optimiser_finds_a_higher_summit(size, seed, lost, estimator):
    root = np.random.default_rng(seed).normal(size=(size, size)) * 0.5
    root[:, :lost] = 0.0
    family, columns, codes, statistics = drawn(size, seed, covariance=root @ root.T)
    found = fit(family, statistics, estimator=estimator)
    objective = dense_objective(columns, codes, size, estimator == "reml")
    theta = np.array(list(found.coordinates.values()))[size:]
    at_mine = -objective(theta)
    np.testing.assert_allclose(found.log_marginal_likelihood, at_mine, rtol=1e-10)
    best = best_of_scipy(objective, size, np.log(found.hyperparameters["sigma"]))
    assert found.log_marginal_likelihood > best - 1e-6
    assert found.converged


def test_singular_fits_are_reported_and_not_fatal():
    # One direction of spread in three coefficients.
    direction = np.array([1.0, 0.5, -0.3])
    family, _, _, statistics = drawn(3, 7, stores=40, covariance=np.outer(direction, direction))
    found = fit(family, statistics)
    assert found.status == "singular"
    assert found.boundary
    assert found.at_bound == ("Sigma",)
    assert found.converged
    eigenvalues = np.linalg.eigvalsh(found.hyperparameters["Sigma"])
    assert eigenvalues[0] == pytest.approx(0.0, abs=1e-12)
    # A column of Λ that is zero has no variance; everything else does.
    zero = np.array([value == 0 for value in found.coordinates.values()])
    np.testing.assert_array_equal(np.diag(found.covariance) == 0, zero)
    assert zero.any()


@pytest.mark.parametrize(("still", "seed"), [(0, 1), (1, 4)])
def test_a_coefficient_that_does_not_vary_is_named(still, seed):
    # Every store comes once more with its predictor mirrored, so the correlation is 0.
    spread = np.diag([float(still), 1.0 - still])
    family, columns, codes, _ = drawn(2, seed, stores=30, most=30, covariance=spread)
    x, y = columns["predictors"], columns["response"] - 2.0 * columns["predictors"][:, 1]
    both = {"predictors": np.concatenate([x, x * [1.0, -1.0]]), "response": np.tile(y, 2)}
    statistics = family.summarise(both, np.concatenate([codes, 30 + codes]), 60)
    found = fit(family, statistics)
    assert found.status == "singular"
    assert found.at_bound == (f"tau[{still}]",)
    np.testing.assert_array_equal(found.hyperparameters["Sigma"][still], 0.0)
    assert found.hyperparameters["tau"][still] == 0.0
    np.testing.assert_array_equal(found.hyperparameters["correlation"], np.eye(2))


def test_no_spread_at_all():
    family, columns, _, statistics = drawn(2, 4, covariance=np.zeros((2, 2)), most=30)
    found = fit(family, statistics)
    assert found.status == "no_spread"
    assert found.at_bound == ("tau[0]", "tau[1]")
    pooled = np.linalg.lstsq(columns["predictors"], columns["response"], rcond=None)[0]
    np.testing.assert_allclose(found.hyperparameters["mu"], pooled, rtol=1e-9)


def test_a_saddle_does_not_pass_for_an_optimum():
    # At no spread the gradient along every column of Λ vanishes by symmetry. A climb from there
    # must leave it, because Σ is not zero.
    family, _, _, statistics = drawn(2, 8, stores=40, covariance=0.5 * np.eye(2))
    expected = fit(family, statistics)
    sketch = single(family, statistics)
    nothing = np.full((1, 6), np.nan)
    words = (np.array([""]), np.array([True]), False)
    problem = Problem(family, sketch, nothing, nothing, *words)
    start = expected.pools.coordinates.copy()
    for zero in ([2, 3, 4], [4], [2, 3]):
        saddle = start.copy()
        saddle[:, zero] = 0.0
        found = climb(problem, saddle)
        np.testing.assert_allclose(found.value[0], expected.log_marginal_likelihood, atol=1e-8)
        assert found.converged[0]


@pytest.mark.parametrize("estimator", ["ml", "reml"])
@pytest.mark.parametrize(("shift", "unit", "scale"), [(0, 1e6, 1e-6), (0, 1e-6, 1e4), (2017, 1, 1)])
def test_units_and_origins_do_not_matter(shift, unit, scale, estimator):
    _, columns, codes, statistics = drawn(2, 9, stores=30, covariance=0.3 * np.eye(2) + 0.1)
    family = get_family(FAMILY, 2)
    moved = {"predictors": columns["predictors"].copy(), "response": scale * columns["response"]}
    moved["predictors"][:, 1] = unit * moved["predictors"][:, 1] + shift
    here = fit(family, statistics, estimator=estimator)
    there = fit(family, family.summarise(moved, codes, 30), estimator=estimator)
    assert here.status == there.status == "ok"
    n = len(codes)
    integrated = 2 if estimator == "reml" else 0
    expected = here.log_marginal_likelihood - (n - integrated) * np.log(scale)
    expected -= np.log(unit) if estimator == "reml" else 0.0
    assert there.log_marginal_likelihood == pytest.approx(expected, abs=1e-7)
    a, b = here.hyperparameters, there.hyperparameters
    turn = scale * np.array([[1.0, -shift / unit], [0.0, 1.0 / unit]])
    np.testing.assert_allclose(b["Sigma"], turn @ a["Sigma"] @ turn.T, rtol=1e-5)
    np.testing.assert_allclose(b["mu"], turn @ a["mu"], rtol=1e-6)
    assert b["sigma"] == pytest.approx(scale * a["sigma"], rel=1e-8)


@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_one_coefficient_is_the_normal_family(estimator):
    rng = np.random.default_rng(10)
    codes = np.repeat(np.arange(30), rng.integers(1, 8, 30))
    y = rng.normal(size=len(codes)) + rng.normal(size=30)[codes]
    normal, family = get_family("normal"), get_family(FAMILY, 1)
    values = normal.summarise({"value": y}, codes, 30)
    rows = family.summarise({"response": y, "predictors": np.ones((len(y), 1))}, codes, 30)
    expected, found = (
        fit(normal, values, estimator=estimator),
        fit(family, rows, estimator=estimator),
    )
    assert found.log_marginal_likelihood == pytest.approx(expected.log_marginal_likelihood)
    for name in ("mu", "tau", "sigma"):
        one = np.ravel(found.hyperparameters[name])[0]
        assert one == pytest.approx(expected.hyperparameters[name], rel=1e-6)


def test_many_stores_recover_five_coefficients():
    rng = np.random.default_rng(11)
    root = 0.4 * rng.normal(size=(5, 5))
    covariance = root @ root.T + 0.05 * np.eye(5)
    family, _, _, statistics = drawn(5, 12, stores=2000, most=20, covariance=covariance)
    found = fit(family, statistics)
    assert found.status == "ok"
    at = family.to_coordinates({"mu": np.arange(5) + 1.0, "Sigma": covariance, "sigma": 1.0})
    z = (np.array(list(found.coordinates.values())) - at) / np.sqrt(np.diag(found.covariance))
    assert np.abs(z).max() < 4.0


def test_a_pool_does_not_know_the_others():
    family, _, _, a = drawn(2, 13, stores=15)
    _, _, _, b = drawn(2, 14, stores=9, covariance=np.zeros((2, 2)))
    both = {name: np.concatenate([a[name], b[name]]) for name in a}
    pools = np.repeat([0, 1], [15, 9])
    for estimator in ("ml", "reml"):
        together = fit_pools(family, family.compress(both, pools, 2), estimator=estimator)
        for g, statistics in enumerate((a, b)):
            alone = fit_pools(family, single(family, statistics), estimator=estimator)
            np.testing.assert_array_equal(together.coordinates[g], alone.coordinates[0])
            np.testing.assert_array_equal(together.covariance[g], alone.covariance[0])


HELD = [
    {"sigma": 1.3},
    {"mu": [1.0, 2.0]},
    {"mu": [np.nan, 2.0]},
    {"tau": [np.nan, 0.0]},
    {"tau": [0.0, np.nan]},
    {"tau": [0.0, 0.0]},
    {"tau": [0.5, np.nan], "sigma": 1.1},
    {"Sigma": [[1.0, 0.2], [0.2, 0.5]], "sigma": 1.0},
    {"tau": [1.0, 0.5], "correlation": [[1.0, 0.3], [0.3, 1.0]], "sigma": 1.0},
]


@pytest.mark.parametrize("fixed", HELD)
def test_what_is_held_stays(fixed):
    family, _, _, statistics = drawn(2, 15, stores=30)
    found = fit(family, statistics, fixed=fixed)
    assert found.converged
    for name, value in fixed.items():
        stated = ~np.isnan(value)
        held = np.asarray(found.hyperparameters[name])[stated]
        np.testing.assert_allclose(held, np.asarray(value)[stated], rtol=1e-12)
    assert found.log_marginal_likelihood <= fit(family, statistics).log_marginal_likelihood


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ({"tau": [1.0, np.nan]}, "tau cannot be held"),
        ({"Sigma": np.eye(2)}, "Sigma cannot be held"),
        ({"Sigma": -np.eye(2), "sigma": 1.0}, "Sigma cannot be held"),
        ({"Sigma": [[1.0, 0.5], [0.4, 1.0]], "sigma": 1.0}, "Sigma cannot be held"),
        ({"correlation": np.eye(2)}, "correlation cannot be held"),
        ({"mu": [1.0, 2.0, 3.0]}, r"mu has the shape \(3,\)"),
        ({"mu": 1.0}, r"mu has the shape \(\)"),
        ({"mu": [np.inf, 0.0]}, "mu cannot be held"),
        ({"sigma": np.nan}, "sigma cannot be held"),
        ({"slope": 1.0}, "slope"),
    ],
)
def test_what_cannot_be_held_is_refused(fixed, words):
    family, _, _, statistics = drawn(2, 16)
    with pytest.raises(FitError, match=words):
        fit(family, statistics, fixed=fixed)


def test_reml_integrates_all_of_mu_or_none():
    family, _, _, statistics = drawn(2, 17)
    with pytest.raises(FitError, match="some elements of mu are held"):
        fit(family, statistics, estimator="reml", fixed={"mu": [1.0, np.nan]})
    known = {"mu": [1.0, 2.0]}
    restricted = fit(family, statistics, estimator="reml", fixed=known)
    plain = fit(family, statistics, fixed=known)
    assert restricted.log_marginal_likelihood == plain.log_marginal_likelihood


def rows_of(x, y, codes):
    x = np.asarray(x, float)
    family = get_family(FAMILY, x.shape[1])
    events = {"predictors": x, "response": np.asarray(y, float)}
    return family, family.summarise(events, np.asarray(codes), int(max(codes)) + 1)


def test_words_for_what_the_data_cannot_tell():
    rng = np.random.default_rng(18)
    t, y = rng.normal(size=24), rng.normal(size=24)
    one, codes = np.ones(24), np.repeat(np.arange(8), 3)
    cases = {
        "collinear": rows_of(np.column_stack([one, np.full(24, 2.0)]), y, codes),
        "sigma_unidentified": rows_of(np.column_stack([one, t]), y, np.arange(24)),
        "no_variation_within": rows_of(np.column_stack([one, t]), 3 + codes * t, codes),
    }
    words = {
        "collinear": "predictor 1",
        "sigma_unidentified": "cannot be told apart",
        "no_variation_within": "own plane",
    }
    for status, (family, statistics) in cases.items():
        found = fit_pools(family, single(family, statistics))
        assert found.status == (status,)
        assert not found.identified[0]
        for values in found.hyperparameters.values():
            assert np.isfinite(values).all()
        with pytest.raises(FitError, match=words[status]):
            fit(family, statistics)
    # A known σ makes the last two ordinary.
    for status in ("sigma_unidentified", "no_variation_within"):
        family, statistics = cases[status]
        assert fit(family, statistics, fixed={"sigma": 0.7}).converged


def test_a_predictor_far_from_zero_is_named_before_it_loses_digits():
    _, columns, codes, _ = drawn(2, 19, stores=20)
    columns["predictors"][:, 1] += 1e7
    family, statistics = rows_of(columns["predictors"], columns["response"], codes)
    with pytest.raises(FitError, match="subtract a typical value"):
        fit(family, statistics)


def test_one_store_has_no_spread():
    family, _, _, statistics = drawn(2, 20, stores=2)
    alone = {name: values[:1] for name, values in statistics.items()}
    found = fit(family, alone)
    assert found.status == "one_store"
    assert found.boundary
    np.testing.assert_array_equal(found.hyperparameters["Sigma"], 0.0)
    with pytest.raises(FitError, match="single store"):
        fit(family, alone, estimator="reml")


def test_stores_of_one_row_lend_what_they_have():
    family, _, _, statistics = drawn(2, 21, stores=60, most=3)
    assert np.sum(statistics["n"] == 1) > 5
    found = fit(family, statistics)
    assert found.converged
    assert np.isfinite(found.covariance).all()


def test_moments_are_swamys():
    covariance = np.array([[1.0, 0.3], [0.3, 0.5]])
    family, columns, codes, statistics = drawn(2, 23, stores=50, most=20, covariance=covariance)
    fits, inverses, residual, freedom = [], [], 0.0, 0
    for store in range(50):
        x, y = columns["predictors"][codes == store], columns["response"][codes == store]
        rank = np.linalg.matrix_rank(x) if len(x) else 0
        freedom += len(y) - rank
        if rank == 2:
            own = np.linalg.lstsq(x, y, rcond=None)[0]
            fits.append(own)
            inverses.append(np.linalg.inv(x.T @ x))
            residual += np.sum((y - x @ own) ** 2)
    variance = residual / freedom
    between = np.cov(np.array(fits).T) - variance * np.mean(inverses, axis=0)
    found = fit(family, statistics, estimator="moments").hyperparameters
    assert found["sigma"] ** 2 == pytest.approx(variance, rel=1e-10)
    assert np.linalg.eigvalsh(between)[0] > 0
    np.testing.assert_allclose(found["Sigma"], between, rtol=1e-8)
