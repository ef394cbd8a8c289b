"""What settings must agree on: levels with each other, metrics with estimators and levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from hbpipe.data.quantities import Metric
from hbpipe.data.reconcile import needed_columns
from hbpipe.data.spelling import nearest
from hbpipe.model.family import Family
from hbpipe.model.nested.names import law_of, spread_of
from hbpipe.sections import Inference, Stores


def pool_faults(levels: Sequence[str], pool_by: Sequence[str]) -> list[str]:
    """List what is wrong with the levels that share a prior."""
    faults = [
        f"inference.pool_by: {name!r} is not a level{nearest(name, levels)}"
        for name in dict.fromkeys(pool_by)
        if name not in levels
    ]
    if levels and levels[-1] in pool_by:
        faults.append("inference.pool_by: a pool needs many units; name coarser levels only")
    return faults


def estimator_faults(estimator: str, metrics: Sequence[Metric]) -> list[str]:
    """List the metrics whose family does not have the estimator."""
    kind, _, variant = estimator.partition(":")
    faults = []
    for metric in metrics:
        family = metric.fitted
        if family.prior_form != "single":
            if estimator != "ml":
                faults.append(
                    f"inference.estimator: the prior {family.prior_form} of {metric.name} has "
                    f"ml alone, found {estimator}"
                )
            continue
        if kind == "reml" and family.log_restriction is None:
            faults.append(
                f"inference.estimator: {family.name} of {metric.name} has no restricted "
                "likelihood; use ml or map"
            )
        if kind == "moments" and variant and variant not in family.moments:
            faults.append(
                f"inference.estimator: {family.name} of {metric.name} has no moments:{variant}"
                f"{nearest(variant, family.moments)}"
            )
    return faults


#: Days of the windows over which levels may move: two weeks, the last of them predicted, to a year.
_DYNAMIC_DAYS = (14, 366)


def dynamics_faults(inference: Inference, metrics: Sequence[Metric]) -> list[str]:
    """List the metrics whose levels move over too few or too many days, or without their model."""
    least, most = _DYNAMIC_DAYS
    kind, _, variant = inference.estimator.partition(":")
    faults = []
    for metric in metrics:
        if metric.dynamics is None:
            continue
        key, days = f"metrics.{metric.name}: dynamics", metric.dynamics.days
        if days is None or not least <= days <= most:
            found = "all" if days is None else f"{days}d"
            faults.append(
                f"{key} needs inference.window of {least}d to {most}d, one state a day; it is "
                f"{found}"
            )
        if variant and kind != "moments":
            faults.append(
                f"{key} has two spreads, and {inference.estimator} adjusts one; use {kind} or map"
            )
    return faults


def covariate_faults(path: str | None, metrics: Sequence[Metric]) -> list[str]:
    """List the metrics whose covariates or weights are in no table."""
    if path is not None:
        return []
    return [
        f"stores.path: the {_what(metric)} of {metric.name} ({', '.join(columns)}) are columns of "
        "the table of stores, and none is set"
        for metric in metrics
        if (columns := needed_columns([metric]))
    ]


def _what(metric: Metric) -> str:
    return "covariates" if metric.covariates else "weights"


def nest_faults(
    levels: Sequence[str], pool_by: Sequence[str] | None, nest_by: Sequence[str]
) -> list[str]:
    """List what is wrong with the levels at which priors vary."""
    unknown = [
        f"inference.nest_by: {name!r} is not a level{nearest(name, levels)}"
        for name in dict.fromkeys(nest_by)
        if name not in levels
    ]
    if unknown or not nest_by:
        return unknown
    faults, places = [], [levels.index(name) for name in nest_by]
    if places != sorted(set(places)):
        order = [name for name in levels if name in nest_by]
        faults.append(f"inference.nest_by: each level once, coarse to fine: {order}")
    if levels[-1] in nest_by:
        faults.append("inference.nest_by: a group needs many units; name coarser levels only")
    above = [name for name in pool_by or () if name in levels[min(places) :]]
    if above:
        faults.append(
            f"inference.nest_by: {above[0]!r} of pool_by is not above {nest_by[0]!r}; pools are "
            "cut at coarser levels than those nested in them"
        )
    return faults


def nested_metric_faults(inference: Inference, metrics: Sequence[Metric]) -> list[str]:
    """List the metrics whose family, estimator or numbers do not go with nested levels."""
    return [
        f"metrics.{metric.name}: {fault}"
        for metric in metrics
        for fault in _nested_faults(inference, metric)
    ]


def _nested_faults(inference: Inference, metric: Metric) -> Iterator[str]:
    chosen = inference.nest_by if metric.nest is None else metric.nest
    for name in chosen:
        if name not in inference.nest_by:
            found = nearest(name, inference.nest_by) if inference.nest_by else ""
            yield f"nest: {name!r} is not a level of inference.nest_by{found}"
    if [name for name in inference.nest_by if name in chosen] != list(chosen):
        yield "nest: each level once, in the order of inference.nest_by"
    yield from _fixed_faults(metric, chosen)
    if not chosen:
        return
    if metric.covariates:
        yield "nested levels do not go with covariates; set nest: false for one prior in each pool"
    most = _most_levels(metric.model)
    if most == 0:
        name = metric.model.name
        yield f"{name} has no nested levels; set nest: false for one prior in each pool"
    elif len(chosen) > most:
        yield (
            f"{metric.model.name} takes {most} nested level, found {len(chosen)}; set nest to that "
            f"whose groups differ most, such as nest: [{chosen[0]}]"
        )
    kind, _, variant = inference.estimator.partition(":")
    if kind == "moments" or variant:
        yield (
            f"nested levels have no estimator {inference.estimator}; use ml, reml or map, or set "
            "nest: false"
        )
    if inference.uncertainty == "first_order":
        yield (
            "nested levels have no uncertainty first_order; use auto or integrated, or set "
            "nest: false"
        )


def _fixed_faults(metric: Metric, levels: Sequence[str]) -> Iterator[str]:
    """List what is held of levels that the metric does not have."""
    own, counts = metric.model.hyperparameters, metric.model.location_message is None
    of_levels = [law_of(level) if counts else (spread_of(level),) for level in levels]
    known = [*own, *chain.from_iterable(of_levels)]
    for name in metric.fixed:
        if name not in known:
            yield f"fixed: {name!r} is of no nested level; can be held: {', '.join(known)}"


def _most_levels(family: Family) -> float:
    """Return how many nested levels of groups a family takes."""
    if family.location_message is not None:
        return float("inf")
    return 0 if family.geometry is None or family.geometry.location_is_analytic else 1


def retention_faults(
    statistics: int | None, inference: Inference, stores: Stores, metrics: Sequence[Metric]
) -> list[str]:
    """List why statistics of ``statistics`` days are too few for what releases rest on."""
    if statistics is None:
        return []
    key, window, silent = "retention.statistics", inference.window, stores.keep_silent or 0
    faults = [
        f"{key}: {metric.name} has exposure: days, which count from a store's first day, however "
        "long ago; set null"
        for metric in metrics
        if metric.calendar == "days"
    ]
    if window is None:
        faults.append(f"{key}: inference.window is all, so every day is needed; set null")
    elif statistics < window:
        faults.append(f"{key}: {statistics}d are fewer than the {window}d of inference.window")
    if statistics < silent:
        faults.append(f"{key}: {statistics}d are fewer than the {silent}d of stores.keep_silent")
    return faults
