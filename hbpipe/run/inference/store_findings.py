"""What the units of a metric say of its model, pool by pool, and of all pools together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hbpipe.config import Audits
from hbpipe.model.diagnostics.diagnosis import CHANCE, FEWEST, Diagnosis, PoolTests
from hbpipe.model.diagnostics.next_day import DayScores, critical_z
from hbpipe.model.diagnostics.outliers import usual_outliers
from hbpipe.model.diagnostics.sizes import COVERAGE
from hbpipe.model.family import Array
from hbpipe.run.audits import Finding
from hbpipe.run.inference import finding_words as words
from hbpipe.run.inference.diagnosed import Diagnosed
from hbpipe.run.inference.fits import MetricFit

STORE_CHECKS = ("pit", "prior_shape", "calibration", "outliers", "next_day")
#: Beyond chance is not enough with a million units: a test must also find a distance from the model
#: of a tenth, such as four points of coverage, or bins of a histogram that are off by a fifth.
EFFECT = 0.1
#: Nor are a few outliers: they must be a hundredth of the units.
_OUTLYING = 0.01


def find_in_stores(fit: MetricFit, diagnosed: Diagnosed, limits: Audits) -> list[Finding]:
    """Return the findings of the checks that hold every unit against the others of its pool."""
    diagnosis = diagnosed.diagnosis
    return [
        *_find_tested("pit", diagnosis, diagnosis.pit, limits, words.of_pit),
        *_find_tested("prior_shape", diagnosis, diagnosis.shape, limits, words.of_shape),
        *_find_tested("calibration", diagnosis, diagnosis.calibration, limits, words.of_sizes),
        *_find_outliers(fit, diagnosed, limits),
        *_find_next_day(fit, diagnosed, limits),
    ]


def _find_tested(
    name: str,
    diagnosis: Diagnosis,
    tested: PoolTests,
    limits: Audits,
    tell: Callable[[Array, bool], str],
) -> Iterator[Finding]:
    """Yield the results of a score test: χ² beyond what chance gives, and far enough to matter."""
    stores = diagnosis.stores
    chance, effect = words.by_chance(CHANCE), tested.effect(stores)
    for g in np.flatnonzero(diagnosis.usable).tolist():
        if not tested.enough[g]:
            told = words.of_too_few(int(stores[g]), FEWEST)
            # A histogram is worth a look, also where nothing is tested.
            seen = diagnosis.heights[g].tolist() if name == "pit" and stores[g] else None
            yield Finding(name, g, "not_applicable", told, n_groups=int(stores[g]), values=seen)
            continue
        statistic, critical = float(tested.pools.statistic[g]), float(tested.critical[g])
        beyond = statistic > critical
        matters = bool(beyond and effect[g] > EFFECT)
        values = _values(name, diagnosis, tested, g)
        told = tell(values, matters) + words.of_test(statistic, critical, beyond, matters, chance)
        status = limits.severity(name) if matters else "ok"
        yield Finding(name, g, status, told, statistic, critical, int(stores[g]), values.tolist())
    yield _together(name, diagnosis, tested, limits, tell)


def _together(
    name: str,
    diagnosis: Diagnosis,
    tested: PoolTests,
    limits: Audits,
    tell: Callable[[Array, bool], str],
) -> Finding:
    count = float(diagnosis.stores[tested.enough].sum())
    if not tested.whole.freedom[0]:
        told = words.of_too_few(int(count), FEWEST)
        return Finding(name, None, "not_applicable", told)
    statistic, critical = float(tested.whole.statistic[0]), tested.whole_critical
    beyond = statistic > critical
    matters = bool(beyond and tested.whole_effect(count) > EFFECT)
    values = _values(name, diagnosis, tested, None)
    chance = words.by_chance(CHANCE)
    told = tell(values, matters) + words.of_test(statistic, critical, beyond, matters, chance)
    status = limits.severity(name) if matters else "ok"
    return Finding(name, None, status, told, statistic, critical, int(count), values.tolist())


def _values(name: str, diagnosis: Diagnosis, tested: PoolTests, g: int | None) -> Array:
    """Return what stands in ``values``: of one pool, or of all together."""
    if name == "pit":
        return diagnosis.heights_of(tested.enough) if g is None else diagnosis.heights[g]
    mean = tested.whole.mean[0] if g is None else tested.pools.mean[g]
    if name == "calibration":
        sizes = diagnosis.by_decile if g is None else diagnosis.by_size
        counts = sizes.stores[tested.enough].sum(axis=0) if g is None else sizes.stores[g]
        return np.asarray(COVERAGE + mean[counts > 0])
    return np.asarray(mean)


def _find_outliers(fit: MetricFit, diagnosed: Diagnosed, limits: Audits) -> Iterator[Finding]:
    """Yield how many units are outliers: more than chance makes, and a hundredth of all, warn."""
    name, diagnosis = "outliers", diagnosed.diagnosis
    line, count = diagnosis.outliers
    usable = np.flatnonzero(diagnosis.usable & (diagnosis.stores > 0)).tolist()
    usual = usual_outliers(CHANCE / max(len(usable), 1))
    statuses = []
    for g in usable:
        stores = int(diagnosis.stores[g])
        limit = max(usual / stores, _OUTLYING)
        share = int(count[g]) / stores
        named = [unit for p, unit in diagnosed.worst.get(g, ()) if p <= line[g]]
        status = limits.severity(name) if share > limit else "ok"
        statuses.append(status)
        told = words.of_outliers(int(count[g]), stores, named, status != "ok")
        yield Finding(name, g, status, told, share, limit, stores, [float(line[g])])
    stores, found = int(diagnosis.stores[usable].sum()), int(count[usable].sum())
    if not stores:
        yield Finding(name, None, "not_applicable", "no pool determines its hyperparameters")
        return
    status = next((word for word in statuses if word != "ok"), "ok")
    told = words.of_outliers(found, stores, [], status != "ok")
    told += f"; too many in {sum(word != 'ok' for word in statuses)} of {len(fit.pools)} pool(s)"
    yield Finding(name, None, status, told, found / stores, None, stores)


def _find_next_day(fit: MetricFit, diagnosed: Diagnosed, limits: Audits) -> Iterator[Finding]:
    """Yield whether no or complete pooling predicts the as-of day better, beyond chance.

    The value is how many standard errors the better of them is ahead.
    """
    name, day = "next_day", diagnosed.day
    if day is None:
        yield Finding(name, None, "not_applicable", words.NOT_SCORED)
        return
    tested = diagnosed.diagnosis.usable & (day.stores >= FEWEST)
    critical = critical_z(CHANCE / 2.0, int(tested.sum()))
    for g in np.flatnonzero(diagnosed.diagnosis.usable).tolist():
        yield _scored(name, g, day, g, bool(tested[g]), critical, limits)
    whole = day.together(tested)
    yield _scored(name, None, whole, 0, bool(tested.any()), critical_z(CHANCE / 2.0, 1), limits)


def _scored(
    name: str,
    pool: int | None,
    day: DayScores,
    g: int,
    tested: bool,
    critical: float,
    limits: Audits,
) -> Finding:
    stores, means = int(day.stores[g]), day.means[g]
    if not tested:
        told = words.of_few_on_day(stores, FEWEST)
        return Finding(name, pool, "not_applicable", told, n_groups=stores)
    ahead = float(day.z[g].max())
    status = limits.severity(name) if ahead > critical else "ok"
    told = words.of_next_day(means, day.z[g], critical, status != "ok")
    return Finding(name, pool, status, told, ahead, critical, stores, means.tolist())
