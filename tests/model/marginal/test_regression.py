"""The likelihood of regressions against dense normal densities, row by row of the data."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.families import get_family
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import factors_of
from hbpipe.model.marginal.regression import log_marginal
from hbpipe.model.marginal.restricted import from_information, information, log_restriction

FAMILY = "normal_regression"


def drawn(size, stores=25, most=9, seed=0, shift=0.0):
    """Events of stores of unequal size, some with fewer rows than coefficients, some with none."""
    rng = np.random.default_rng(seed)
    family = get_family(FAMILY, size)
    named = {"mu": np.arange(size) + 1.0, "Sigma": np.eye(size), "sigma": 1.0}
    sizes = np.concatenate([[0, 1, 2], rng.integers(0, most, stores - 3)])
    columns, codes, _ = family.simulate(rng, named, stores, sizes)
    columns["predictors"][:, 1:] += shift
    return family, columns, codes, family.summarise(columns, codes, stores)


def point(size, seed=1):
    rng = np.random.default_rng(seed)
    return 0.6 * rng.normal(size=size + size * (size + 1) // 2 + 1)


def single(family, statistics):
    stores = len(statistics["n"])
    return family.compress(statistics, np.zeros(stores, int), 1)


def dense(columns, codes, named):
    """Σ log N(y; Xμ, σ²I + XΣX') and Σ X'V⁻¹X over stores, from n × n matrices."""
    value, information_matrix = 0.0, 0.0
    for store in np.unique(codes):
        x, y = columns["predictors"][codes == store], columns["response"][codes == store]
        covariance = named["sigma"] ** 2 * np.eye(len(y)) + x @ named["Sigma"] @ x.T
        value += stats.multivariate_normal(x @ named["mu"], covariance).logpdf(y)
        information_matrix = information_matrix + x.T @ np.linalg.solve(covariance, x)
    return value, information_matrix


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_is_the_density_of_all_responses(size):
    family, columns, codes, statistics = drawn(size)
    at = point(size)
    expected, on_mu = dense(columns, codes, family.from_coordinates(at))
    sketch = single(family, statistics)
    value = log_marginal(sketch, at[None])[0][0]
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    restriction = log_restriction(sketch, at[None])[0][0]
    integral = 0.5 * size * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(on_mu)[1]
    np.testing.assert_allclose(restriction, integral, rtol=1e-10)


def test_restriction_is_the_integral_over_mu():
    # One coefficient: ∫ L dμ by quadrature.
    family, _, _, statistics = drawn(1)
    sketch, at = single(family, statistics), point(1)
    _, gradient, hessian = log_marginal(sketch, at[None])
    best = at[0] - gradient[0, 0] / hessian[0, 0, 0]
    width = 1 / np.sqrt(-hessian[0, 0, 0])
    nodes, weights = np.polynomial.legendre.leggauss(200)
    grid = np.repeat(at[None], 200, axis=0)
    grid[:, 0] = best + 12 * width * nodes
    values = np.array([log_marginal(sketch, one[None])[0][0] for one in grid])
    top = values.max()
    integral = top + np.log(12 * width * np.sum(weights * np.exp(values - top)))
    grid[0, 0] = best
    peak = log_marginal(sketch, grid[:1])[0][0] + log_restriction(sketch, grid[:1])[0][0]
    np.testing.assert_allclose(peak, integral, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 3])
def test_stores_of_one_design_share_a_row_and_lose_nothing(size):
    rng = np.random.default_rng(3)
    family = get_family(FAMILY, size)
    designs = [np.column_stack([np.ones(n), rng.normal(size=(n, size - 1))]) for n in (2, 6, 9)]
    kinds = rng.integers(0, 3, 40)
    x = np.concatenate([designs[kind] for kind in kinds])
    codes = np.repeat(np.arange(40), [len(designs[kind]) for kind in kinds])
    columns = {"predictors": x, "response": rng.normal(size=len(x)) + rng.normal(size=40)[codes]}
    sketch = single(family, family.summarise(columns, codes, 40))
    assert sketch.n_rows == 3
    assert sketch.n_groups.tolist() == [40]
    at = point(size)
    expected, _ = dense(columns, codes, family.from_coordinates(at))
    np.testing.assert_allclose(log_marginal(sketch, at[None])[0][0], expected, rtol=1e-11)


@pytest.mark.parametrize("shift", [2017.0, 1e4])
def test_a_distant_origin_of_a_predictor_costs_next_to_nothing(shift):
    # The same model in other units: b₀ moves by −shift b₁, so Λ' turns by an upper matrix.
    size = 2
    family, _, _, near = drawn(size, seed=5)
    _, _, _, far = drawn(size, seed=5, shift=shift)
    at = family.from_coordinates(point(size))
    turn = np.array([[1.0, -shift], [0.0, 1.0]])
    moved = family.to_coordinates(
        {
            "mu": turn @ at["mu"],
            "Sigma": turn @ at["Sigma"] @ turn.T,
            "sigma": at["sigma"],
        }
    )
    here = family.to_coordinates(at)
    for function in (log_marginal, log_restriction):
        value = function(single(family, far), moved[None])[0][0]
        expected = function(single(family, near), here[None])[0][0]
        # Σ itself, as it is given, has lost shift² ulps of its smaller eigenvalue.
        np.testing.assert_allclose(value, expected, rtol=1e-15 * shift**2 * 20)


def test_shards_add_up():
    family, _, _, statistics = drawn(3, stores=40)
    whole = single(family, statistics)
    parts = [
        single(family, {name: values[rows] for name, values in statistics.items()})
        for rows in (slice(0, 13), slice(13, 14), slice(14, 40))
    ]
    at = point(3)[None]
    total = [sum(terms) for terms in zip(*(log_marginal(p, at) for p in parts), strict=True)]
    for found, expected in zip(total, log_marginal(whole, at), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    merged = RegressionSketch.merged(parts)
    for restricted in zip(log_restriction(merged, at), log_restriction(whole, at), strict=True):
        np.testing.assert_allclose(*restricted, rtol=1e-9, atol=1e-9)
    sums = information(whole, at)
    again = from_information(sums, at, whole.basis[0])
    np.testing.assert_array_equal(again[0], log_restriction(whole, at)[0])


def test_blocks_of_rows_change_no_bit(monkeypatch):
    family, _, _, statistics = drawn(2, stores=60)
    pools = np.arange(60) // 20
    sketch = family.compress(statistics, pools, 3)
    at = np.stack([point(2, seed) for seed in range(3)])
    whole = log_marginal(sketch, at)
    monkeypatch.setattr("hbpipe.model.marginal.regression.BLOCK", 7)
    for found, expected in zip(log_marginal(sketch, at), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shift", [0.0, 2017.0, 1e8])
def test_factors_are_those_of_each_stores_rows(shift):
    _, columns, codes, statistics = drawn(3, seed=7, shift=shift)
    found = factors_of(statistics)
    for store in range(25):
        x, y = columns["predictors"][codes == store], columns["response"][codes == store]
        factor = found.factor[:, :, store]
        np.testing.assert_allclose(factor.T @ factor, x.T @ x, rtol=1e-12)
        np.testing.assert_allclose(factor.T @ found.response[:, store], x.T @ y, rtol=1e-11)
        centred = x - [0.0, shift, shift]
        assert found.rank[store] == min(3, len(y))
        residual = y - centred @ np.linalg.lstsq(centred, y, rcond=None)[0]
        np.testing.assert_allclose(found.residual[store], residual @ residual, atol=1e-6)


def test_a_dependent_column_of_a_store_is_none():
    rng = np.random.default_rng(8)
    family = get_family(FAMILY, 3)
    a = rng.normal(size=8)
    designs = [
        np.column_stack([np.ones(8), np.full(8, 0.3), a]),
        np.column_stack([np.ones(8), a, 2 * a - 7]),
        np.column_stack([a, 3 * a, a**2]),
    ]
    codes = np.repeat(np.arange(3), 8)
    columns = {"predictors": np.concatenate(designs), "response": rng.normal(size=24)}
    found = factors_of(family.summarise(columns, codes, 3))
    assert found.rank.tolist() == [2, 2, 2]
    for store, x in enumerate(designs):
        y = columns["response"][codes == store]
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        np.testing.assert_allclose(found.residual[store], residual @ residual, rtol=1e-9)


def test_one_coefficient_is_the_normal_family():
    rng = np.random.default_rng(9)
    codes = np.repeat(np.arange(30), rng.integers(1, 8, 30))
    y = rng.normal(size=len(codes)) + rng.normal(size=30)[codes]
    normal, family = get_family("normal"), get_family(FAMILY, 1)
    values = normal.summarise({"value": y}, codes, 30)
    rows = family.summarise({"response": y, "predictors": np.ones((len(y), 1))}, codes, 30)
    for tau, sigma in ((0.0, 1.0), (0.7, 1.3)):
        named = {"mu": 0.2, "tau": tau, "sigma": sigma}
        mine = {"mu": np.array([0.2]), "Sigma": np.array([[tau**2]]), "sigma": sigma}
        for log_density in ("log_marginal", "log_restriction"):
            expected = getattr(normal, log_density)(
                single(normal, values), normal.to_coordinates(named)[None]
            )
            found = getattr(family, log_density)(
                single(family, rows), family.to_coordinates(mine)[None]
            )
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
