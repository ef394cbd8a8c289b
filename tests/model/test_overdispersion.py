"""Overdispersion over the cells of stores, and what fits and posteriors make of thinned counts."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

import hbpipe
from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.dispersion import Dispersion
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.family import Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.marginal.normal_inverse_gamma import log_likelihood
from hbpipe.model.overdispersion import overdispersion, thin

MEASURED = [family for family in FAMILIES.values() if family.dispersion is not None]
every_family = pytest.mark.parametrize("family", MEASURED, ids=lambda family: family.name)


def law_of(name: str) -> tuple[Family, Dispersion]:
    family = get_family(name)
    assert family.dispersion is not None
    return family, family.dispersion


def squares_and_expected(name: str, cells: dict[str, Any]) -> tuple[float, float]:
    """What one store's cells give."""
    rows = len(next(iter(cells.values())))
    found = overdispersion(name, cells, np.zeros(rows, np.int64)).sums
    return float(found.squares[0]), float(found.expected[0])


# --- the mean of the squares, by enumeration of all that could have been -------------------------


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2, 3), (4, 1, 1), (6,)])
@pytest.mark.parametrize("successes", [0, 1, 3, 6])
def test_successes_over_cells_have_the_mean_of_all_allocations(sizes, successes):
    n = sum(sizes)
    if successes > n:
        return
    outcomes = np.array([1] * successes + [0] * (n - successes))
    cell = np.repeat(np.arange(len(sizes)), sizes)
    every = []
    for order in set(permutations(outcomes.tolist())):
        y = np.bincount(cell, order, len(sizes)).astype(int)
        squares, expected = squares_and_expected(
            "beta_binomial", {"successes": y, "trials": np.array(sizes)}
        )
        every.append(squares)
    assert np.mean(every) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_counts_over_cells_have_the_mean_of_all_allocations():
    exposure, count = np.array([0.5, 2.0, 1.0]), 4
    share = exposure / exposure.sum()
    mean = 0.0
    for fell in product(range(3), repeat=count):
        y = np.bincount(fell, minlength=3)
        squares, expected = squares_and_expected(
            "gamma_poisson", {"count": y, "exposure": exposure}
        )
        mean += squares * np.prod(share[list(fell)])
    assert mean == pytest.approx(expected, rel=1e-12)


def test_values_over_cells_have_the_mean_of_all_allocations():
    values, cell = np.array([3.0, -1.0, 7.5, 2.0, 2.0]), np.array([0, 0, 1, 2, 2])
    family = get_family("normal")
    every = []
    for order in permutations(values):
        cells = family.summarise({"value": np.array(order)}, cell, 3)
        squares, expected = squares_and_expected("normal", cells)
        every.append(squares)
    assert np.mean(every) == pytest.approx(expected, rel=1e-12)


def test_estimates_have_the_mean_of_their_variances():
    rng = np.random.default_rng(3)
    variance = np.array([0.5, 1.0, 4.0])
    draws = rng.normal(0.0, np.sqrt(variance), (20_000, 3))
    cells = {"estimate": draws.ravel(), "variance": np.tile(variance, len(draws))}
    found = overdispersion("normal_known_variance", cells, np.repeat(np.arange(20_000), 3))
    assert found.phi[0] == pytest.approx(1.0, abs=0.02)


# --- simulations with a known overdispersion ----------------------------------------------------


def simulated(name: str, copies: int, seed: int, stores: int = 60, cells: int = 20) -> Any:
    """Few events in each cell, each event ``copies`` times: the design effect is ``copies``."""
    rng = np.random.default_rng(seed)
    family = get_family(name)
    at = {
        "beta_binomial": {"alpha": 2.0, "beta": 30.0},
        "gamma_poisson": {"shape": 3.0, "rate": 4.0},
        "normal": {"mu": 50.0, "tau": 3.0, "sigma": 5.0},
        "normal_inverse_gamma": {"mu": 50.0, "kappa": 3.0, "d0": 6.0, "s0_squared": 25.0},
    }[name]
    sizes = 1 + rng.poisson(3.0, (stores, cells))
    if name == "gamma_poisson":
        theta = rng.gamma(3.0, 0.25, stores)
        y = copies * rng.poisson(theta[:, None] * sizes / copies)
        return {"count": y.ravel(), "exposure": sizes.ravel().astype(float)}
    events, codes, _ = family.simulate(rng, at, stores, sizes.sum(axis=1))
    cell = np.repeat(np.arange(stores * cells), sizes.ravel())
    assert (codes == cell // cells).all()
    return family.summarise(
        {role: np.repeat(column, copies) for role, column in events.items()},
        np.repeat(cell, copies),
        stores * cells,
    )


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize(
    "name", ["beta_binomial", "gamma_poisson", "normal", "normal_inverse_gamma"]
)
def test_the_estimate_is_the_known_overdispersion(name, copies):
    stores = np.repeat(np.arange(60), 20)
    found = [
        overdispersion(name, simulated(name, copies, seed), stores).phi[0] for seed in range(40)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - copies) < 3 * error + 0.02 * copies
    assert error < 0.03


def test_it_is_the_variance_of_a_rate_where_clusters_differ_in_size():
    """Households of 1 to 50 events, correlated by 0.1: not what Pearson's statistic says."""
    rng, stores, households, p, rho = np.random.default_rng(4), 4000, 60, 0.3, 0.1
    store = np.repeat(np.arange(stores), households)
    n = 1 + rng.negative_binomial(0.3, 0.04, len(store))
    theta = rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), len(store))
    y = rng.binomial(n, theta)
    found = overdispersion("beta_binomial", {"successes": y, "trials": n}, store)
    total, size = np.bincount(store, y), np.bincount(store, n)
    truth = np.mean((total - size * p) ** 2) / np.mean(size * p * (1 - p))
    assert truth == pytest.approx(3.9, abs=0.2)
    assert found.phi[0] == pytest.approx(truth, rel=0.1)
    rate = (total / size)[store]
    pearson = np.sum((y - n * rate) ** 2 / (n * rate * (1 - rate))) / (len(n) - stores)
    assert pearson < 2.0


def test_a_pattern_of_the_week_counts_only_without_strata():
    rng = np.random.default_rng(5)
    stores, days = np.repeat(np.arange(40), 28), np.tile(np.arange(28), 40)
    rate = np.where(days % 7 < 5, 4.0, 12.0)
    cells = {"count": rng.poisson(rate), "exposure": np.ones(len(days))}
    assert overdispersion("gamma_poisson", cells, stores).phi[0] > 2.5
    within = overdispersion("gamma_poisson", cells, stores, strata=days % 7)
    assert within.phi[0] == pytest.approx(1.0, abs=0.15)
    assert 500 < within.df[0] < 40 * 21, "the busy days weigh more"


def test_clusters_without_exposure_are_a_compound_poisson_process():
    count = np.array([1, 1, 3, 2, 1])
    cells = {"count": count, "exposure": np.zeros(5)}
    law = law_of("gamma_poisson")[1]
    sums = law.sums(law.cells(cells), np.zeros(5, np.int64), {}, 1)
    assert sums.squares[0] / sums.expected[0] == pytest.approx(np.sum(count**2) / np.sum(count))


def test_days_without_an_event_need_no_row():
    law = law_of("gamma_poisson")[1]
    some, none = {"count": np.array([3, 1])}, np.zeros(2, np.int64)
    cells = np.ones(2), some["count"]
    (found,) = law.sums_with_empty(cells, none, {}, 1, [np.array([2.0])])
    every = law.sums((np.ones(4), np.array([3.0, 1.0, 0.0, 0.0])), np.zeros(4, np.int64), {}, 1)
    for name, part in vars(found).items():
        assert part == pytest.approx(getattr(every, name), rel=1e-14), name


def test_its_lower_limit_misses_as_often_as_it_says():
    stores = np.repeat(np.arange(15), 10)
    above = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n = 1 + rng.poisson(8.0, len(stores))
        y = rng.binomial(n, rng.beta(3.0, 5.0, 15)[stores])
        found = overdispersion("beta_binomial", {"successes": y, "trials": n}, stores)
        above += found.lower(0.05)[0] > 1.0
    assert 3 <= above <= 27, "5 % of 300 is 15"


# --- pools, strata, cuts ------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.data())
def test_sums_of_disjoint_stores_add_up(data):
    name = data.draw(st.sampled_from(["beta_binomial", "gamma_poisson", "normal"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    cells = simulated(name, 1, data.draw(st.integers(0, 50)), stores=12, cells=5)
    stores, pools = np.repeat(np.arange(12), 5), rng.integers(0, 3, 12)
    pools[:3] = [0, 1, 2]
    whole = overdispersion(name, cells, stores, pools=pools)
    for pool in range(3):
        members = np.flatnonzero(pools == pool)
        mine = np.isin(stores, members)
        part = {key: values[mine] for key, values in cells.items()}
        alone = overdispersion(name, part, np.searchsorted(members, stores[mine]))
        for key, values in vars(alone.sums).items():
            assert values[0] == getattr(whole.sums, key)[pool], "bits depend on the pool alone"
    together = whole.together()
    assert together.phi[0] == pytest.approx(
        np.sum(whole.sums.squares) / np.sum(whole.sums.expected), rel=1e-12
    )


def test_what_knows_nothing_takes_the_estimate_of_all():
    cells = {"successes": np.array([5, 0, 9, 1, 2]), "trials": np.array([10, 10, 10, 10, 4])}
    found = overdispersion(
        "beta_binomial", cells, np.array([0, 0, 1, 1, 2]), pools=np.array([0, 0, 1])
    )
    assert np.isnan([found.phi[1], found.lower()[1]]).all()
    assert found.divisor()[1] == found.together().phi[0] > 1
    alike = {"successes": np.array([2, 2]), "trials": np.array([4, 4])}
    one = overdispersion("beta_binomial", alike, np.array([0, 0]))
    assert (one.phi[0], one.divisor()[0]) == (0.0, 1.0)
    none = overdispersion("beta_binomial", alike, np.array([0, 1]))
    assert (none.df[0], none.divisor()[0]) == (0.0, 1.0)


# --- thinned statistics -------------------------------------------------------------------------


def statistics_of(family: Family, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    point = np.array([0.1 if axis.spread else 0.3 for axis in family.coordinates])
    at = family.from_coordinates(point)
    events, codes, _ = family.simulate(rng, at, 40, rng.integers(0, 60, 40))
    return family.summarise(events, codes, 40), at, point


@every_family
def test_the_evidence_of_thinned_stores_is_the_ratio_of_normalisers(family):
    whole, at, point = statistics_of(family, 6)
    thinned = thin(family, whole, 1.7)
    before, after = family.prior(at), family.update(thinned, at)
    stores = family.log_normaliser(after) - family.log_normaliser(before)
    stores = stores + family.log_base_measure(thinned, at)
    sketch = family.compress(thinned, np.zeros(40, np.int64), 1)
    value, gradient, hessian = family.log_marginal(sketch, point[None])
    assert value[0] == pytest.approx(np.sum(stores), rel=1e-10, abs=1e-9)
    for axis in range(len(point)):
        step = np.zeros((1, len(point)))
        step[0, axis] = 1e-5
        up, down = (family.log_marginal(sketch, point + side * step) for side in (1, -1))
        assert gradient[0, axis] == pytest.approx((up[0] - down[0])[0] / 2e-5, rel=1e-5, abs=1e-4)
        slopes = (up[1] - down[1])[0] / 2e-5
        np.testing.assert_allclose(hessian[0, axis], slopes, rtol=1e-5, atol=1e-3)


@every_family
def test_thinning_by_one_changes_no_bit_of_a_fit(family):
    whole, *_ = statistics_of(family, 7)
    plain, thinned = hbpipe.fit(family, whole), hbpipe.fit(family, thin(family, whole, 1.0))
    assert plain.log_marginal_likelihood == thinned.log_marginal_likelihood
    assert plain.hyperparameters == thinned.hyperparameters


@every_family
def test_thinned_sketches_merge_and_can_be_cut(family):
    whole, _, point = statistics_of(family, 8)
    thinned = family.dispersion.thin(whole, np.full(40, 2.3))
    pools = np.arange(40) % 3
    sketch = family.compress(thinned, pools, 3)
    parts = [
        family.compress({n: v[i::2] for n, v in thinned.items()}, pools[i::2], 3) for i in range(2)
    ]
    merged, at = family.merge_sketches(parts), np.tile(point, (3, 1))
    value = family.log_marginal(sketch, at)[0]
    np.testing.assert_allclose(family.log_marginal(merged, at)[0], value, rtol=1e-12)
    one = family.log_marginal(sketch.select(np.array([1])), at[:1])[0]
    assert one[0] == value[1], "bits depend on the pool alone"


def test_a_fit_to_thinned_successes_is_the_maximum_of_the_quasi_likelihood():
    rng = np.random.default_rng(9)
    n = rng.integers(5, 90, 60)
    y = rng.binomial(n, rng.beta(3.0, 9.0, 60))

    def minus_log_likelihood(logs: Any) -> float:
        alpha, beta = np.exp(logs)
        m, s = n / 2.5, y / 2.5
        return -float(np.sum(special.betaln(alpha + s, beta + m - s) - special.betaln(alpha, beta)))

    best = optimize.minimize(minus_log_likelihood, [1.0, 2.0], method="Nelder-Mead", tol=1e-10)
    thinned = thin("beta_binomial", {"successes": y, "trials": n}, 2.5)
    fit = hbpipe.fit("beta_binomial", thinned)
    found = [fit.hyperparameters[name] for name in ("alpha", "beta")]
    np.testing.assert_allclose(found, np.exp(best.x), rtol=1e-4)
    posterior = hbpipe.posterior(fit, thinned, uncertainty="plug_in")
    exact = stats.beta(found[0] + y / 2.5, found[1] + (n - y) / 2.5)
    np.testing.assert_allclose(posterior["mean"], exact.mean(), rtol=1e-8)
    np.testing.assert_allclose(posterior["q0.975"], exact.ppf(0.975), rtol=1e-8)


def test_thinned_values_estimate_the_same_sigma():
    """E m2 = σ² (n − phi): dividing n and m2 alike leaves the estimate of σ² unbiased."""
    rng, stores, pairs = np.random.default_rng(10), 3000, 4
    theta = rng.normal(0.0, 1.0, stores)
    x = rng.normal(np.repeat(theta, pairs), 2.0)
    codes = np.repeat(np.arange(stores), 2 * pairs)
    family = get_family("normal")
    whole = family.summarise({"value": np.repeat(x, 2)}, codes, stores)  # every value twice
    fit = hbpipe.fit("normal", thin("normal", whole, 2.0))
    assert fit.hyperparameters["sigma"] == pytest.approx(2.0, rel=0.03)
    assert fit.hyperparameters["tau"] == pytest.approx(1.0, rel=0.06)
    assert hbpipe.fit("normal", whole).hyperparameters["sigma"] < 1.9


def test_a_store_keeps_one_event_at_least():
    thinned = thin("beta_binomial", {"successes": [1, 2, 3], "trials": [1, 2, 30]}, 3.0)
    np.testing.assert_array_equal(thinned["trials"], [1, 1, 10])
    np.testing.assert_array_equal(thinned["successes"], [1, 1, 1])
    values = thin("normal", {"n": [0, 1, 4], "mean": [0.0, 3.0, 4.0], "m2": [0.0, 0.0, 8.0]}, 2.0)
    np.testing.assert_array_equal(values["n"], [0, 1, 2])
    np.testing.assert_array_equal(values["m2"], [0, 0, 4])


def test_divided_intervals_cover_where_the_others_do_not():
    """Events come in households of four that agree: three quarters of them tell nothing new."""
    rng, hits, stores = np.random.default_rng(11), {"plain": 0, "divided": 0}, 60
    for _ in range(12):
        theta = rng.beta(12.0, 28.0, stores)
        households = rng.integers(10, 60, stores)
        store = np.repeat(np.arange(stores), households)
        y = 4 * rng.binomial(1, theta[store])
        cells = {"successes": y, "trials": np.full(len(store), 4)}
        phi = overdispersion("beta_binomial", cells, store).divisor()[0]
        whole = get_family("beta_binomial").fold(cells, store, stores)
        for name, used in {"plain": whole, "divided": thin("beta_binomial", whole, phi)}.items():
            posterior = hbpipe.posterior(hbpipe.fit("beta_binomial", used), used)
            inside = (posterior["q0.025"] < theta) & (theta < posterior["q0.975"])
            hits[name] += int(inside.sum())
    assert hits["divided"] / (12 * stores) > 0.925
    assert hits["plain"] / (12 * stores) < 0.80


# --- errors -------------------------------------------------------------------------------------


def test_what_is_wrong_is_said():
    cells = {"successes": [1, 2], "trials": [3, 3]}
    with pytest.raises(StatisticsError, match="stores are of type"):
        overdispersion("beta_binomial", cells, [0.5, 1.0])
    with pytest.raises(StatisticsError, match="pools are of type"):
        overdispersion("beta_binomial", cells, [0, 1], pools=[0])
    with pytest.raises(StatisticsError, match="strata are of type"):
        overdispersion("beta_binomial", cells, [0, 1], strata=[0, -1])
    for phi in (0.9, [1.0, np.nan], [2.0]):
        with pytest.raises(StatisticsError, match="overdispersion has shape"):
            thin("beta_binomial", cells, phi)
    with pytest.raises(StatisticsError, match="is not whole"):
        hbpipe.fit("beta_binomial", dict(thin("beta_binomial", cells, 1.5)))


def test_a_family_may_have_none():
    family = get_family("beta_binomial")
    silent = Family(**{**vars(family), "dispersion": None})
    with pytest.raises(FitError, match="overdispersion is not defined"):
        overdispersion(silent, {"successes": [1], "trials": [3]}, [0])
    with pytest.raises(FitError, match="overdispersion is not defined"):
        thin(silent, {"successes": [1], "trials": [3]}, 2.0)


def test_pools_of_thinned_and_whole_stores_are_fitted_side_by_side():
    family = get_family("beta_binomial")
    whole, *_ = statistics_of(family, 12)
    pools = np.arange(40) % 2
    thinned = family.dispersion.thin(whole, np.where(pools == 0, 1.0, 2.0))
    both = fit_pools(family, family.compress(thinned, pools, 2))
    plain = fit_pools(family, family.compress(whole, pools, 2))
    assert both.hyperparameters["alpha"][0] == plain.hyperparameters["alpha"][0]
    assert both.hyperparameters["alpha"][1] != plain.hyperparameters["alpha"][1]


def test_a_variance_per_store_keeps_its_law_where_values_are_not_whole():
    # Every value twice: half as many tell as much, of means and of variances alike.
    family = get_family("normal_inverse_gamma")
    whole, _, point = statistics_of(family, 14)
    twice = {"n": 2 * whole["n"], "mean": whole["mean"], "m2": 2.0 * whole["m2"]}
    thinned = thin(family, twice, 2.0)
    seen = whole["n"] > 0  # where a store keeps one value, m2 is 0 in both
    for name in ("n", "mean", "m2"):
        np.testing.assert_allclose(thinned[name][seen], whole[name][seen], rtol=1e-12)
    odd = thin(family, whole, 1.7)
    sketch = family.compress(odd, np.zeros(40, np.int64), 1)
    points = point + 0.1 * np.random.default_rng(15).uniform(size=(5, 4))
    exact = family.log_marginal(sketch.select(np.zeros(5, np.int64)), points)[0]
    np.testing.assert_allclose(log_likelihood(sketch, points), exact, rtol=1e-11)
    fits = hbpipe.fit(family, whole), hbpipe.fit(family, odd)
    before, after = (hbpipe.posterior(f, s) for f, s in zip(fits, (whole, odd), strict=True))
    # Less than by the root of 1.7, because more is borrowed from the others.
    assert 1.1 < np.median((after["sd"] / before["sd"])[seen]) < np.sqrt(1.7)
