"""What every registered family promises. No family is named here, except to be found by name."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import WITH_OTHER_PRIORS, coordinates, events, families

from hbpipe.errors import FitError
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.family import Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.kish import WeightedSums, can_weigh
from hbpipe.model.numerics.optimise import Curvature
from hbpipe.model.pooling import complete_pooling
from hbpipe.model.statistics import check_statistics

#: Statistics in the square of a value's unit.
SQUARED = ("m2", "cross")

#: Every family, those that come in sizes with two more, and those that take other priors.
SIZED = [family for family in FAMILIES.values() if family.sized]
ALL = [
    *FAMILIES.values(),
    *(f.sized(n) for f in SIZED for n in (f.least_size, 3) if n != f.size),
    *WITH_OTHER_PRIORS,
]
every_family = pytest.mark.parametrize(
    "family",
    ALL,
    ids=lambda f: f"{f.name}{f.size or ''}{'' if f.prior_form == 'single' else f.prior_form}",
)


def inner_point(family: Family) -> np.ndarray:
    point = np.array([0.1 if axis.spread else 0.3 for axis in family.coordinates])
    if family.prior_form != "single":  # components that can be told apart
        locations = [i for i, axis in enumerate(family.coordinates) if not axis.spread]
        point[locations] -= 2.5 * np.arange(len(locations))
    return point


def simulated(family: Family, seed: int, n_stores: int = 40, most: int = 12) -> Any:
    """Events of stores of unequal size, some of them empty, at the inner point."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, most, n_stores)
    hyperparameters = family.from_coordinates(inner_point(family))
    columns, codes, _ = family.simulate(rng, hyperparameters, n_stores, sizes)
    return family.summarise(columns, codes, n_stores), hyperparameters


def assert_same(left: Any, right: Any, rtol: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        if left[name].dtype.kind == "i":
            np.testing.assert_array_equal(left[name], right[name])
        else:
            np.testing.assert_allclose(left[name], right[name], rtol=rtol, atol=1e-9)


def part(statistics: Any, kept: Any) -> Any:
    return {name: values[kept] for name, values in statistics.items()}


@settings(max_examples=100)
@given(st.data())
def test_any_cut_of_the_events_combines_to_the_whole(data: st.DataObject) -> None:
    family = data.draw(families)
    columns, codes, n_stores = data.draw(events(family))
    left = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    left = left.astype(bool)
    whole = family.summarise(columns, codes, n_stores)
    parts = [family.summarise(part(columns, side), codes[side], n_stores) for side in (left, ~left)]
    together = family.combine(*parts)
    size = max([1.0, *(float(np.abs(c).max(initial=0)) for c in columns.values())])
    for name, values in whole.items():
        tolerance = 1e-11 * len(codes) * (size**2 if name in SQUARED else size)
        np.testing.assert_allclose(together[name], values, rtol=1e-11, atol=tolerance)


@settings(max_examples=100)
@given(st.data())
def test_an_absent_store_is_the_identity_of_combine(data: st.DataObject) -> None:
    family = data.draw(families)
    columns, codes, n_stores = data.draw(events(family))
    whole = family.summarise(columns, codes, n_stores)
    nobody = {name: column[:0] for name, column in columns.items()}
    nothing = family.summarise(nobody, np.zeros(0, np.int64), n_stores)
    for statistic in family.statistics:
        np.testing.assert_array_equal(nothing[statistic.name], statistic.absent)
    for together in (family.combine(whole, nothing), family.combine(nothing, whole)):
        for name, values in whole.items():
            np.testing.assert_array_equal(together[name], values)


@every_family
def test_statistics_have_the_declared_types(family: Family) -> None:
    statistics, _ = simulated(family, 1)
    for item in family.statistics:
        assert statistics[item.name].dtype == item.dtype
        assert statistics[item.name].shape == (40, *item.shape)


@every_family
def test_folding_is_one_pass_of_combine(family: Family) -> None:
    statistics, _ = simulated(family, 2, n_stores=30)
    stores = np.arange(30) % 7
    folded = family.fold(statistics, stores, 7)
    running = family.fold(part(statistics, slice(0, 0)), stores[:0], 7)
    for row in range(30):
        one = family.fold(part(statistics, slice(row, row + 1)), stores[row : row + 1], 7)
        running = family.combine(running, one)
    assert_same(folded, running, rtol=1e-12)


@settings(max_examples=60)
@given(st.data())
def test_evidence_is_the_ratio_of_normalisers(data: st.DataObject) -> None:
    family = data.draw(families)
    point = data.draw(coordinates(family))
    statistics, _ = simulated(family, data.draw(st.integers(0, 1000)))
    hyperparameters = family.from_coordinates(point)
    before, after = family.prior(hyperparameters), family.update(statistics, hyperparameters)
    ends = family.log_normaliser(after), family.log_normaliser(before)
    stores = ends[0] - ends[1] + family.log_base_measure(statistics, hyperparameters)
    sketch = family.compress(statistics, np.zeros(40, np.int64), 1)
    value, _, _ = family.log_marginal(sketch, point[None])
    # Normalisers of a nearly singular covariance are large, and their difference is not.
    rounding = 1e-9 + 1e-12 * np.sum(np.abs(ends[0]) + np.abs(ends[1]))
    np.testing.assert_allclose(value[0], stores.sum(), rtol=1e-9, atol=rounding)


@pytest.mark.parametrize("name", [name for name in FAMILIES if can_weigh(FAMILIES[name])])
def test_effective_statistics_obey_the_same_algebra(name: str) -> None:
    """Counts with fractions: evidence, gradient, and sketches of disjoint stores."""
    family, point = FAMILIES[name], inner_point(FAMILIES[name])
    parts, weights = [simulated(family, seed)[0] for seed in (5, 6)], (0.3, 0.8)
    sums = WeightedSums(family, 40)
    for one, weight in zip(parts, weights, strict=True):
        sums.add(np.arange(40), one, weight)
    effective, hyperparameters = sums.effective(), family.from_coordinates(point)
    assert check_statistics(family, effective).keys() == effective.keys()
    before, after = family.prior(hyperparameters), family.update(effective, hyperparameters)
    gain = family.log_normaliser(after) - family.log_normaliser(before)
    stores = gain + family.log_base_measure(effective, hyperparameters)
    halves = [
        family.compress(part(effective, slice(k, None, 2)), np.zeros(20, np.int64), 1)
        for k in (0, 1)
    ]
    for sketch in (
        family.compress(effective, np.zeros(40, np.int64), 1),
        family.merge_sketches(halves),
    ):
        value, gradient, _ = family.log_marginal(sketch, point[None])
        assert value[0] == pytest.approx(stores.sum(), rel=1e-9)
        for axis in range(len(point)):
            step = 1e-6 * np.eye(len(point))[axis]
            ends = [family.log_marginal(sketch, (point + s * step)[None])[0][0] for s in (1, -1)]
            slope = (ends[0] - ends[1]) / 2e-6
            assert gradient[0, axis] == pytest.approx(slope, rel=1e-5, abs=1e-4)


@every_family
def test_learning_in_two_steps_is_learning_at_once(family: Family) -> None:
    first, hyperparameters = simulated(family, 3)
    second, _ = simulated(family, 4)
    at_once = family.update(family.combine(first, second), hyperparameters)
    halfway = family.update(first, hyperparameters)
    # The posterior of the first half is the prior of the second: same type, same names.
    then = family.update(second, {**hyperparameters, **halfway})
    assert at_once.keys() == halfway.keys() == family.prior(hyperparameters).keys()
    for name in at_once:
        np.testing.assert_allclose(then[name], at_once[name], rtol=1e-12)
    steps = [family.log_normaliser(x) for x in (family.prior(hyperparameters), halfway, then)]
    gains = (steps[1] - steps[0]) + (steps[2] - steps[1])
    total = family.log_normaliser(at_once) - steps[0]
    np.testing.assert_allclose(gains, total, rtol=1e-9, atol=1e-9)


@every_family
def test_a_store_without_events_leaves_everything_untouched(family: Family) -> None:
    statistics, hyperparameters = simulated(family, 5)
    absent = {
        item.name: np.full((3, *item.shape), item.absent, item.dtype) for item in family.statistics
    }
    padded = {name: np.concatenate([absent[name], statistics[name]]) for name in statistics}
    point = inner_point(family)[None]
    with_them = family.log_marginal(family.compress(padded, np.zeros(43, int), 1), point)
    without = family.log_marginal(family.compress(statistics, np.zeros(40, int), 1), point)
    for left, right in zip(with_them, without, strict=True):
        np.testing.assert_array_equal(left, right)
    before, after = family.prior(hyperparameters), family.update(padded, hyperparameters)
    for name in before:
        untouched = after[name][:3]
        np.testing.assert_array_equal(untouched, np.broadcast_to(before[name], untouched.shape))
    assert np.all(family.log_base_measure(padded, hyperparameters)[:3] == 0)


@settings(max_examples=60)
@given(st.data())
def test_gradient_and_hessian_are_the_derivatives(data: st.DataObject) -> None:
    family = data.draw(families)
    point = data.draw(coordinates(family))
    statistics, _ = simulated(family, data.draw(st.integers(0, 1000)))
    sketch = family.compress(statistics, np.zeros(40, np.int64), 1)
    functions = [family.log_marginal]
    if family.log_restriction is not None:
        functions.append(family.log_restriction)
    for function in functions:
        _, gradient, hessian = function(sketch, point[None])
        np.testing.assert_array_equal(hessian, np.swapaxes(hessian, 1, 2))
        for axis in range(len(point)):
            step = np.zeros_like(point)
            step[axis] = 1e-5
            values, slopes, _ = zip(
                *(function(sketch, (point + k * step)[None]) for k in (-2, -1, 1, 2)), strict=True
            )
            for exact, f in ((gradient[0, axis], values), (hessian[0, axis], slopes)):
                # Five-point formula, error O(h⁴).
                slope = (f[0][0] - 8 * f[1][0] + 8 * f[2][0] - f[3][0]) / 12e-5
                np.testing.assert_allclose(exact, slope, rtol=1e-6, atol=1e-4)


@every_family
def test_gradient_points_inward_from_the_bound_as_differences_do(family: Family) -> None:
    statistics, _ = simulated(family, 6)
    sketch = family.compress(statistics, np.zeros(40, np.int64), 1)
    point, axis = inner_point(family), family.spreads[0]
    point[axis] = 0.0
    _, gradient, hessian = family.log_marginal(sketch, point[None])
    h = 1e-5
    points = np.repeat(point[None], 3, axis=0)
    points[:, axis] = [0.0, h, 2 * h]
    values, slopes, _ = family.log_marginal(
        family.compress(
            {name: np.concatenate([v] * 3) for name, v in statistics.items()},
            np.repeat(np.arange(3), 40),
            3,
        ),
        points,
    )
    forward = (-3 * values[0] + 4 * values[1] - values[2]) / (2 * h)
    np.testing.assert_allclose(gradient[0, axis], forward, rtol=1e-4, atol=1e-6)
    forward = (-3 * slopes[0] + 4 * slopes[1] - slopes[2]) / (2 * h)
    np.testing.assert_allclose(hessian[0, axis], forward, rtol=1e-3, atol=1e-3)


@every_family
def test_pools_do_not_touch_each_other(family: Family) -> None:
    batches = [simulated(family, seed, n_stores=n)[0] for seed, n in ((7, 5), (8, 40), (9, 17))]
    together = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    pools = np.repeat(np.arange(3), [5, 40, 17])
    sketch = family.compress(together, pools, 3)
    points = np.stack([inner_point(family) * k for k in (1.0, 1.5, 0.5)])
    value, gradient, hessian = family.log_marginal(sketch, points)
    cut = sketch.select(np.array([0, 2]))
    assert cut.n_pools == 2
    twice = family.log_marginal(sketch.select(np.array([2, 0, 2])), points[[2, 0, 2]])
    for many, once in zip(twice, (value, gradient, hessian), strict=True):
        np.testing.assert_array_equal(many, once[[2, 0, 2]])
    assert 0 < cut.n_rows < sketch.n_rows
    np.testing.assert_array_equal(cut.n_groups, sketch.n_groups[[0, 2]])
    for g, batch in enumerate(batches):
        alone = family.compress(batch, np.zeros(len(batch[next(iter(batch))]), int), 1)
        results = [family.log_marginal(alone, points[g : g + 1])]
        if g != 1:
            of_cut = family.log_marginal(cut, points[[0, 2]])
            results.append(tuple(x[[g // 2]] for x in of_cut))
        for v, d, h in results:
            assert v[0] == value[g]
            np.testing.assert_array_equal(d[0], gradient[g])
            np.testing.assert_array_equal(h[0], hessian[g])


@every_family
def test_order_of_stores_does_not_matter(family: Family) -> None:
    statistics, _ = simulated(family, 10)
    order = np.random.default_rng(0).permutation(40)
    point = inner_point(family)[None]
    sketches = [
        family.compress(part(statistics, rows), np.zeros(40, int), 1) for rows in (order, ...)
    ]
    left, right = (family.log_marginal(sketch, point) for sketch in sketches)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@every_family
def test_sketches_add_up_over_disjoint_stores(family: Family) -> None:
    statistics, _ = simulated(family, 11)
    pools = np.arange(40) % 3
    whole = family.compress(statistics, pools, 3)
    shards = [
        family.compress(part(statistics, slice(i, i + 10)), pools[i : i + 10], 3)
        for i in range(0, 40, 10)
    ]
    merged = family.merge_sketches(shards)
    points = np.tile(inner_point(family), (3, 1))
    np.testing.assert_array_equal(merged.n_groups, whole.n_groups)
    for a, b in zip(
        family.log_marginal(merged, points), family.log_marginal(whole, points), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-10)
    free = np.full(points.shape, np.nan)
    for name, estimate in family.moments.items():
        np.testing.assert_allclose(
            estimate(merged, free), estimate(whole, free), rtol=1e-9, atol=1e-12, err_msg=name
        )


@settings(max_examples=100)
@given(st.data())
def test_coordinates_and_hyperparameters_are_inverse(data: st.DataObject) -> None:
    family = data.draw(families)
    point = data.draw(coordinates(family))
    named = family.from_coordinates(point)
    assert tuple(named) == family.hyperparameters
    np.testing.assert_allclose(family.to_coordinates(named), point, rtol=1e-9, atol=1e-9)
    for i, axis in enumerate(family.coordinates):
        alone = family.to_coordinates({axis.hyperparameter: named[axis.hyperparameter]})
        if np.ndim(named[axis.hyperparameter]) < 2:
            np.testing.assert_allclose(alone[i], point[i], rtol=1e-9, atol=1e-9)
        else:  # a matrix determines its coordinates together with others
            assert np.isnan(alone[i])


@every_family
def test_no_spread_has_finite_hyperparameters(family: Family) -> None:
    point = inner_point(family)
    point[family.spreads] = 0.0
    named = family.from_coordinates(point)
    assert all(np.isfinite(value).all() for value in named.values())
    statistics, _ = simulated(family, 12)
    described = family.describe(family.update(statistics, named), [0.025, 0.975])
    assert np.all(np.isfinite(described.mean))
    assert np.all(described.sd < 1e-6 * np.maximum(1.0, np.abs(described.mean)))


@every_family
def test_moments_start_is_inside_the_bounds(family: Family) -> None:
    statistics, _ = simulated(family, 13)
    sketch = family.compress(statistics, np.arange(40) % 20, 21)
    start = family.start(sketch)
    lower, upper = family.bounds
    assert start.shape == (21, len(family.coordinates))
    assert np.all((start >= lower) & (start <= upper))


@every_family
def test_simulate_then_fit_recovers(family: Family) -> None:
    rng = np.random.default_rng(20)
    point = inner_point(family)
    n_stores = 3000
    columns, codes, theta = family.simulate(
        rng, family.from_coordinates(point), n_stores, rng.integers(1, 30, n_stores)
    )
    assert len(theta) == n_stores
    statistics = family.summarise(columns, codes, n_stores)
    fits = fit_pools(family, family.compress(statistics, np.zeros(n_stores, int), 1))
    assert fits.status == ("ok",)
    # A grid of laws has no coordinates: they are those of the single law beside it.
    own = fits.single_law() if fits.chosen == ["grid"] else fits
    z = (own.coordinates[0] - point) / np.sqrt(np.diag(own.covariance[0]))
    assert np.all(np.abs(z) < 4.0), z


@every_family
def test_covariance_is_the_inverse_information(family: Family) -> None:
    statistics, _ = simulated(family, 21, n_stores=200)
    sketch = family.compress(statistics, np.zeros(200, int), 1)
    fits = fit_pools(family, sketch)
    _, _, hessian = family.log_marginal(sketch, fits.coordinates)
    inside = np.flatnonzero(np.diag(fits.covariance[0]) > 0)
    free = np.ix_(inside, inside)
    product = fits.covariance[0][free] @ -hessian[0][free]
    np.testing.assert_allclose(product, np.eye(len(inside)), atol=1e-8)
    # Where a single law was chosen in place of a mixture, its coordinates alone have a variance;
    # the weights of a grid of laws have no coordinates.
    chosen = getattr(fits, "single", fits)
    possible = (len(hessian[0]), chosen.coordinates.shape[1], 0 if fits.chosen[0] == "grid" else -1)
    assert len(inside) in possible or fits.boundary[0]


def probability_integral(family: Family, seed: int) -> np.ndarray:
    """P(θ ≤ true θ) under the posteriors at the true hyperparameters, one column a term."""
    rng = np.random.default_rng(seed)
    n_stores = 50_000
    hyperparameters = family.from_coordinates(inner_point(family))
    columns, codes, theta = family.simulate(
        rng, hyperparameters, n_stores, rng.integers(0, 20, n_stores)
    )
    statistics = family.summarise(columns, codes, n_stores)
    posterior = family.update(statistics, hyperparameters)
    return family.describe(posterior, [0.5]).cdf(theta).reshape(n_stores, -1).T


@every_family
def test_posteriors_are_calibrated(family: Family) -> None:
    for uniform in probability_integral(family, 30):
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3
        # The same with posteriors whose variance is a tenth too large must be found out.
        mutant = stats.norm.cdf(stats.norm.ppf(uniform) / np.sqrt(1.1))
        assert stats.kstest(mutant, "uniform").pvalue < 1e-3


@every_family
def test_description_agrees_with_itself(family: Family) -> None:
    statistics, hyperparameters = simulated(family, 31)
    levels = np.array([0.025, 0.1, 0.5, 0.9, 0.975])
    described = family.describe(family.update(statistics, hyperparameters), levels)
    assert described.mean.shape == described.sd.shape
    assert described.quantiles.shape == (*described.mean.shape, 5)
    for q, level in enumerate(levels):
        # Between the summits of a mixture Newton's last step leaves a little more.
        rtol = 1e-9 if family.prior_form == "single" else 1e-6
        np.testing.assert_allclose(described.cdf(described.quantiles[..., q]), level, rtol=rtol)
    # Mean and sd by integrating the quantile function over a fine grid of probabilities.
    nodes, weights = np.polynomial.legendre.leggauss(400)
    grid = family.describe(family.update(statistics, hyperparameters), 0.5 + 0.5 * nodes)
    mean = grid.quantiles @ (weights / 2)
    sd = np.sqrt(((grid.quantiles - mean[..., None]) ** 2) @ (weights / 2))
    # There the quantile function has a cliff, which the nodes miss by a little.
    loose = 1.0 if family.prior_form == "single" else 10.0
    np.testing.assert_allclose(described.mean, mean, rtol=loose * 1e-3)
    np.testing.assert_allclose(described.sd, sd, rtol=loose * 1e-2)


@every_family
def test_description_takes_any_shape(family: Family) -> None:
    statistics, hyperparameters = simulated(family, 32)
    posterior = family.update(statistics, hyperparameters)
    table = {name: np.stack([v, v], axis=1) for name, v in posterior.items()}
    flat, deep = family.describe(posterior, [0.5]), family.describe(table, [0.5])
    assert deep.mean.shape == (40, 2, *flat.mean.shape[1:])
    assert deep.quantiles.shape == (*deep.mean.shape, 1)
    np.testing.assert_array_equal(deep.quantiles[:, 1], flat.quantiles)


@every_family
def test_prediction_covers_new_data(family: Family) -> None:
    rng = np.random.default_rng(33)
    hyperparameters = family.from_coordinates(inner_point(family))
    n_stores = 4000
    columns, codes, _ = family.simulate(rng, hyperparameters, n_stores, 8)
    # Seven events are seen, the eighth of each store is predicted.
    last = np.arange(len(codes)) % 8 == 7
    seen = family.summarise(part(columns, ~last), codes[~last], n_stores)
    sized = [role for role in family.roles[1:] if role.several or role.name == "precision"]
    given = [columns[role.name][last] for role in sized]
    exposure = given[0] if given else 1.0
    posterior = family.update(seen, hyperparameters)
    ahead = family.predict(posterior, exposure, hyperparameters, [0.05, 0.95])
    new = columns[family.roles[0].name][last].astype(float)
    below = ahead.cdf(new)
    before = ahead.cdf(np.where(new == np.floor(new), new - 1, new))
    # Randomised probability integral: exact for counts too (Smith 1985).
    uniform = before + rng.random(below.shape) * (below - before)
    for column in uniform.reshape(n_stores, -1).T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    standard = (new - ahead.mean) / ahead.sd
    assert np.all(abs(standard.mean(axis=0)) < 4 / np.sqrt(n_stores))
    assert np.all(abs(standard.var(axis=0) - 1) < 0.25)
    reached = ahead.cdf(ahead.quantiles[..., 1])
    assert np.all(reached >= 0.95 - 1e-9)


@every_family
def test_families_pickle_by_name(family: Family) -> None:
    data = pickle.dumps(family)
    assert len(data) < 200
    assert pickle.loads(data) is family


@every_family
def test_sketches_survive_pickling(family: Family) -> None:
    statistics, _ = simulated(family, 34)
    sketch = family.compress(statistics, np.arange(40) % 2, 2)
    points = np.tile(inner_point(family), (2, 1))
    expected = family.log_marginal(sketch, points)
    again = family.log_marginal(pickle.loads(pickle.dumps(sketch)), points)
    for a, b in zip(expected, again, strict=True):
        np.testing.assert_array_equal(a, b)


@every_family
def test_declarations_fit_together(family: Family) -> None:
    assert get_family(family.name, family.size, prior=family.prior_form) is family
    spreads = [axis.lower for axis in family.coordinates if axis.spread]
    assert set(spreads) <= {0.0, -np.inf}
    assert 0.0 in spreads
    assert family.mirror is not None or set(spreads) == {0.0}
    assert (family.size is None) == (family.sized is None)
    roles = {role.name for role in family.roles}
    names = {item.name for item in family.statistics}
    assert all(role.at_most is None or role.at_most in roles for role in family.roles)
    assert all(item.at_most is None or item.at_most in names for item in family.statistics)
    assert {axis.hyperparameter for axis in family.coordinates} <= set(family.hyperparameters)


@every_family
def test_every_pool_gets_finite_numbers_and_a_word(family: Family) -> None:
    statistics, _ = simulated(family, 35, n_stores=60, most=4)
    pools = np.sort(np.random.default_rng(1).integers(0, 30, 60))
    fits = fit_pools(family, family.compress(statistics, pools, 31))
    assert len(fits.status) == 31
    assert fits.status[30] == "no_data"
    assert not fits.identified[30]
    assert all(np.isfinite(v).all() for v in fits.hyperparameters.values())
    assert np.isfinite(fits.log_marginal_likelihood).all()
    assert np.isfinite(fits.covariance).all()


@every_family
def test_likelihoods_rise_from_complete_to_no_pooling(family: Family) -> None:
    if family.log_no_pooling is None:
        return
    statistics, _ = simulated(family, 36, n_stores=60)
    pools = np.sort(np.random.default_rng(2).integers(0, 6, 60))
    sketch = family.compress(statistics, pools, 7)
    fits = fit_pools(family, sketch)
    none = family.log_no_pooling(sketch, fits.held)
    complete = complete_pooling(fits).log_likelihood
    # The marginal likelihood averages over θ; with its own θ a store does at least as well.
    assert np.all(none >= fits.log_marginal_likelihood - 1e-9)
    assert np.all(fits.log_marginal_likelihood >= complete - 1e-9)
    assert none[6] == complete[6] == 0.0
    halves = [
        family.compress(part(statistics, side), pools[side], 7)
        for side in (np.arange(60) % 2 == 0, np.arange(60) % 2 == 1)
    ]
    merged = family.log_no_pooling(family.merge_sketches(halves), fits.held)
    np.testing.assert_allclose(merged, none, rtol=1e-10, atol=1e-9)


def test_unknown_family_suggests_the_nearest() -> None:
    name = next(iter(FAMILIES))
    with pytest.raises(FitError, match=f"did you mean '{name}'"):
        get_family(name[:-1])


def test_curvature_leaves_out_what_is_not_used() -> None:
    hessian = -np.array([[[4.0, 1.0], [1.0, 2.0]]])
    used = np.array([[True, False]])
    curvature = Curvature.of(hessian, np.zeros((1, 2)), np.ones((1, 2)), used)
    np.testing.assert_allclose(curvature.covariance(), [[[0.25, 0.0], [0.0, 0.0]]], atol=1e-15)
    assert curvature.definite().all()
