"""The checks of the models: every store is held against its pool on workers, and added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.covariates.ranks import Span
from hbpipe.model.diagnostics.diagnosis import (
    Diagnosis,
    DiagnosticSums,
    PoolPriors,
    diagnose_stores,
)
from hbpipe.model.diagnostics.next_day import DayScores, can_score, score_day
from hbpipe.model.diagnostics.outliers import RATE
from hbpipe.model.diagnostics.predictive import sizes_of, why_no_predictive
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.pooling import CompletePooling
from hbpipe.run.inference.coding import COVARIATES, known_units
from hbpipe.run.inference.diagnosed import Diagnosed
from hbpipe.run.inference.fits import MetricFit, effective
from hbpipe.run.inference.tree import Pool, pool_codes
from hbpipe.run.night import Night

#: So many outlying units of a pool are named.
_NAMED = 3


@dataclass(frozen=True)
class OfMetric:
    """What a worker must know to check one metric; the rest as in ``UnitPriors``."""

    metric: Metric
    priors: PoolPriors
    complete: CompletePooling
    divisor: Array | None
    span: Span | None


@dataclass(frozen=True)
class DiagnosticOrder:
    """What a worker must know to check one shard."""

    metrics: tuple[OfMetric, ...]
    levels: tuple[str, ...]
    pool_by: tuple[str, ...]
    pools: list[Pool]


@dataclass(frozen=True)
class ShardSums:
    """Sums of one shard and metric; ``worst`` has, by pool, the least p-values and their units.

    ``rows`` (N,) are the units of the p-values of ``sums``; ``day`` has the scores of the last day,
    None where the family's days are not scored.
    """

    sums: DiagnosticSums
    rows: NDArray[np.int64]
    worst: dict[int, list[tuple[float, str]]]
    day: DayScores | None


def why_unchecked(fit: MetricFit) -> str:
    """Say why the stores of a metric are not checked; nothing where they are."""
    if fit.groups is not None:
        return "units of nested groups are not held against their groups"
    return why_no_predictive(fit.fits.model)


def diagnose(night: Night) -> None:
    """Add to each fit what its units say of its model."""
    checked = {name: fit for name, fit in night.fits.items() if not why_unchecked(fit)}
    if not checked:
        return
    first = next(iter(checked.values()))
    order = DiagnosticOrder(
        tuple(_of_metric(fit) for fit in checked.values()),
        night.form.levels,
        tuple(night.settings.pool_by),
        first.pools,
    )
    shared = night.engine.share(order, label="hyperparameters for the checks of models")
    shards = night.engine.gather(
        [
            night.engine.submit(diagnose_shard, shared, folded, label="checks of models")
            for folded in night.folded
        ]
    )
    for name, fit in checked.items():
        usable = fit.fits.identified & (fit.nodes.method != "unidentified")
        parts = [shard[name] for shard in shards]
        diagnosis = Diagnosis(DiagnosticSums.added([part.sums for part in parts]), usable)
        worst = merge_worst([part.worst for part in parts])
        line, _ = diagnosis.outliers
        outliers = [part.rows[part.sums.p <= line[part.sums.pool]] for part in parts]
        days = [part.day for part in parts if part.day is not None]
        day = DayScores.added(days) if days else None
        night.fits[name] = replace(fit, diagnosed=Diagnosed(diagnosis, worst, outliers, day))


def outliers_of(night: Night) -> list[dict[str, NDArray[np.int64]]]:
    """Return, shard by shard, the rows of outliers by metric; none of what is not checked."""
    found = {name: fit.diagnosed for name, fit in night.fits.items()}
    return [
        {name: of.outliers[shard] for name, of in found.items() if of is not None}
        for shard in range(len(night.folded))
    ]


def _of_metric(fit: MetricFit) -> OfMetric:
    fits = fit.fits
    priors = PoolPriors(fits.model, fit.nodes, fits.hyperparameters, fits.coordinates, fits.held)
    return OfMetric(fit.metric, priors, fit.complete, fit.divisor, fit.span)


def diagnose_shard(order: DiagnosticOrder, folded: Folded) -> dict[str, ShardSums]:
    """Add up what the checks need of one shard, metric by metric."""
    codes, found = pool_codes(folded, order.levels, order.pool_by, order.pools), {}
    for one in order.metrics:
        name, priors = one.metric.name, one.priors
        statistics = effective(one.metric, folded.fitted(name), codes, one.divisor)
        sizes = sizes_of(priors.family, statistics)
        known = _has_prior(one, statistics, codes)
        rows = np.flatnonzero(known & (sizes > 0))
        sums, p = diagnose_stores(priors, _some(statistics, rows), sizes[rows], codes[rows])
        worst = _worst(folded, rows, p, codes[rows])
        day = _score_last_day(one, folded, statistics, codes, known)
        found[name] = ShardSums(sums, rows[p <= RATE], worst, day)
    return found


def _has_prior(one: OfMetric, statistics: Statistics, codes: Codes) -> NDArray[np.bool_]:
    """Tell which units have a prior mean, (U,)."""
    found = one.priors.nodes.method[codes] != "unidentified"
    known = known_units(statistics)
    if known is not None:
        found &= known
        if one.span is not None:
            x = np.where(known[:, None], statistics[COVARIATES], 0.0)
            found &= one.span.reaches(x, codes)
    return np.asarray(found)


def _some(statistics: Statistics, rows: NDArray[np.int64]) -> Statistics:
    return {name: np.asarray(values)[rows] for name, values in statistics.items()}


def _score_last_day(
    one: OfMetric,
    folded: Folded,
    statistics: Statistics,
    codes: Codes,
    known: NDArray[np.bool_],
) -> DayScores | None:
    """Score the as-of day of the units that have data on it and before it."""
    priors, name = one.priors, one.metric.name
    if folded.recent is None or not can_score(priors.family):
        return None
    apart, covariates = folded.recent.apart[name], {}
    if COVARIATES in statistics:
        covariates = {COVARIATES: statistics[COVARIATES]}
    day = {**effective(one.metric, apart.day, codes, one.divisor), **covariates}
    rest = {**effective(one.metric, apart.rest, codes, one.divisor), **covariates}
    both = (sizes_of(priors.family, day) > 0) & (sizes_of(priors.family, rest) > 0)
    rows = np.flatnonzero(known & both)
    scores = score_day(
        priors.family,
        priors.nodes,
        priors.hyperparameters,
        one.complete,
        _some(rest, rows),
        _some(day, rows),
        codes[rows],
    )
    return DayScores.of(scores, codes[rows], priors.n_pools)


def _worst(
    folded: Folded, rows: NDArray[np.int64], p: Array, pools: NDArray[np.int64]
) -> dict[int, list[tuple[float, str]]]:
    """Name the units of each pool with the least p-values of all that may be outliers."""
    low = np.flatnonzero(p <= RATE)
    order = low[np.lexsort((rows[low], p[low], pools[low]))]
    place = np.arange(len(order)) - np.searchsorted(pools[order], pools[order])
    named = order[place < _NAMED]
    ids = folded.keys[-1].take(rows[named]).to_pylist()
    found: dict[int, list[tuple[float, str]]] = {}
    for row, unit in zip(named.tolist(), ids, strict=True):
        found.setdefault(int(pools[row]), []).append((float(p[row]), str(unit)))
    return found


def merge_worst(
    parts: Sequence[Mapping[int, list[tuple[float, str]]]],
) -> dict[int, list[tuple[float, str]]]:
    """Keep the units with the least p-values of all shards, pool by pool."""
    found: dict[int, list[tuple[float, str]]] = {}
    for part in parts:
        for pool, named in part.items():
            found[pool] = sorted(found.get(pool, []) + named)[:_NAMED]
    return found
