"""Data at the edge, for every family: a word, finite numbers, and intervals that have a width.

What each family's own edge means (which status, which limit) is in test_fit.py. Here no family is
named: the cases are built from what a family declares.
"""

from typing import Any

import numpy as np
import pytest

from hbpipe.errors import FitError
from hbpipe.model.estimation.adjusted import POWERS
from hbpipe.model.families import FAMILIES
from hbpipe.model.family import Family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.posterior import posterior
from hbpipe.model.update.pools import update_pools

LEVELS = (0.025, 0.5, 0.975)
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


def simulated(family: Family, sizes: Any, seed: int = 1) -> dict[str, Any]:
    """Statistics of stores with these numbers of events, drawn from an ordinary prior."""
    point = np.array([0.1 if axis.spread else 0.3 for axis in family.coordinates])
    events, codes, _ = family.simulate(
        np.random.default_rng(seed), family.from_coordinates(point), len(sizes), np.array(sizes)
    )
    return family.summarise(events, codes, len(sizes))


def repeated(statistics: dict[str, Any], stores: int) -> dict[str, Any]:
    return {name: np.repeat(values[:1], stores, axis=0) for name, values in statistics.items()}


def counts_of(family: Family) -> list[Any]:
    """Statistics that count what happened, as against how often it could."""
    return [s for s in family.statistics if s.dtype == "int64" and (s.at_most or s.needs)]


def underdispersed(family: Family) -> dict[str, Any] | None:
    """Nine stores of 20 events whose counts differ by one: far less than by chance."""
    statistics = repeated(simulated(family, [20], seed=6), 9)
    for item in counts_of(family):
        statistics[item.name] = statistics[item.name] + np.arange(9) % 2
    return statistics if counts_of(family) else None


def at_the_end(family: Family, *, upper: bool) -> dict[str, Any] | None:
    """Six stores whose counts are all 0, or all as large as they can be; None without such."""
    statistics = simulated(family, [8, 2, 5, 9, 1, 4])
    for item in counts_of(family):
        if upper and item.at_most is None:
            return None
        end = statistics[item.at_most] if upper else np.zeros(6, np.int64)
        statistics[item.name] = end.copy()
        for other in family.statistics:
            if other.needs == item.name and other.lowest is not None:
                statistics[other.name] = np.where(
                    end > other.needs_above, statistics[other.name], 0
                )
    return statistics if counts_of(family) else None


def cases(family: Family) -> dict[str, dict[str, Any] | None]:
    one = simulated(family, [12])
    return {
        "identical stores": repeated(one, 7),
        "underdispersed counts": underdispersed(family),
        "one store": one,
        "two stores": simulated(family, [9, 4], seed=2),
        "two identical stores": repeated(one, 2),
        "one event each": simulated(family, [1] * 9, seed=3),
        "one store of many with data": simulated(family, [0, 0, 7, 0], seed=4),
        "nothing happened": at_the_end(family, upper=False),
        "everything happened": at_the_end(family, upper=True),
        "no data": simulated(family, [0, 0, 0], seed=5),
    }


CASES = [
    pytest.param(family, statistics, id=f"{name}-{case.replace(' ', '_')}")
    for name, family in FAMILIES.items()
    for case, statistics in cases(family).items()
    if statistics is not None
]
every_case = pytest.mark.parametrize(("family", "statistics"), CASES)


def sketch_of(family: Family, statistics: dict[str, Any]) -> Any:
    stores = len(next(iter(statistics.values())))
    return family.compress(statistics, np.zeros(stores, np.int64), 1)


def estimators(family: Family) -> list[str]:
    kinds = ["ml"] if family.log_restriction is None else ["ml", "reml"]
    # A covariance between stores has no single spread to keep off zero.
    single = len(family.spreads) == 1
    adjusted = [f"{kind}:{name}" for kind in kinds for name in POWERS if single]
    return ["moments", *kinds, *adjusted]


@every_case
def test_every_estimator_has_a_word_and_finite_numbers(
    family: Family, statistics: dict[str, Any]
) -> None:
    sketch = sketch_of(family, statistics)
    for estimator in estimators(family):
        fits = fit_pools(family, sketch, estimator=estimator)
        assert fits.status[0], estimator
        numbers = [*fits.hyperparameters.values(), fits.coordinates, fits.covariance]
        numbers += [fits.log_marginal_likelihood, fits.start_log_marginal_likelihood]
        numbers += [fits.start_values, fits.gradient_norm, fits.eigenvalues]
        assert all(np.isfinite(value).all() for value in numbers), estimator
        # What is not an estimate says so: it is not converged, and a single fit is an error.
        assert bool(fits.converged[0]) <= bool(fits.identified[0])
        if fits.status[0] == "ok":
            assert fits.converged[0]
            assert not fits.boundary[0]
        if not fits.identified[0]:
            with pytest.raises(FitError, match="what to do"):
                fit(family, statistics, estimator=estimator)
            continue
        found = fit(family, statistics, estimator=estimator)
        assert found.story
        gained = found.pooling.homogeneity
        assert gained is None or gained >= 0


@every_case
@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_intervals_are_finite_and_have_a_width(
    family: Family, statistics: dict[str, Any], uncertainty: str
) -> None:
    if family.geometry is None:
        return
    fits = fit_pools(family, sketch_of(family, statistics))
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    stores = len(next(iter(statistics.values())))
    found = update_pools(
        family,
        nodes,
        fits.hyperparameters,
        statistics,
        np.zeros(stores, np.int64),
        quantiles=LEVELS,
        exposure=1.0,
    )
    for values in (found.mean, found.sd, found.quantiles, found.weight, found.prior_mean):
        assert np.isfinite(values).all()
    assert np.all(np.diff(found.quantiles, axis=1) >= 0)
    assert set(found.method) <= {"plug_in", "first_order", "integrated", "unidentified"}
    if found.method[0] in ("first_order", "integrated"):
        assert np.all(found.sd > 0)
        assert np.all(found.quantiles[:, 0] < found.quantiles[:, -1])
        assert np.all(found.sd > 0.5 * found.sd_plug_in)
    elif np.any(found.sd <= 0):
        # No width at all is the plug-in's alone, and the fit is flagged.
        assert fits.boundary[0] or not fits.identified[0]


@every_case
def test_the_library_shows_all_columns_without_a_warning(
    family: Family, statistics: dict[str, Any]
) -> None:
    fits = fit_pools(family, sketch_of(family, statistics))
    if not fits.identified[0] or family.geometry is None:
        return
    found = posterior(fits.pool(0), statistics)
    silent = np.isinf(found["no_pooling_sd"])
    np.testing.assert_array_equal(silent, np.isnan(found["no_pooling"]))
    np.testing.assert_array_equal(silent, found["weight"] == 0)
    for name, column in found.items():
        if name.startswith("no_pooling"):
            column = column[~silent]
        assert np.isfinite(column).all(), name
    assert np.all(found["no_pooling_sd"] > 0)
    assert np.all(found["complete_pooling_sd"] > 0)


@every_family
def test_stores_more_alike_than_chance_have_no_spread(family: Family) -> None:
    for statistics in (repeated(simulated(family, [12]), 7), underdispersed(family)):
        if statistics is None:
            continue
        sketch = sketch_of(family, statistics)
        fits = fit_pools(family, sketch)
        # Stores that are alike may all drift.
        drifting = len(family.spreads) > 1 and family.mirror is None
        assert fits.status[0] in ("no_spread", *(["at_bound"] if drifting else []))
        assert fits.boundary[0]
        assert fits.starts_agree[0] or drifting
        if len(family.spreads) > 1:
            continue
        spreads = {family.coordinates[axis].hyperparameter for axis in family.spreads}
        assert spreads <= set(fits.at_bound[0])
        adjusted = fit_pools(family, sketch, estimator="ml:chung")
        assert adjusted.converged[0]
        assert spreads.isdisjoint(adjusted.at_bound[0])
        assert np.all(adjusted.coordinates[0, family.spreads] > 0)


@every_family
def test_a_batch_of_edges_is_each_edge_by_itself(family: Family) -> None:
    batch = [statistics for statistics in cases(family).values() if statistics is not None]
    sizes = [len(next(iter(statistics.values()))) for statistics in batch]
    together = {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
    pools = np.repeat(np.arange(len(batch)), sizes)
    fits = fit_pools(family, family.compress(together, pools, len(batch)))
    for g, statistics in enumerate(batch):
        alone = fit_pools(family, sketch_of(family, statistics))
        assert alone.status[0] == fits.status[g]
        np.testing.assert_array_equal(alone.coordinates[0], fits.coordinates[g])
        assert alone.log_marginal_likelihood[0] == fits.log_marginal_likelihood[g]
