"""The days of a window weighed by their age, for metrics with a decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.by_day import Days
from hbpipe.data.quantities import Metric
from hbpipe.model.decay import Decayed, factor_of_days, weight
from hbpipe.model.kish import WeightedSums, effective

if TYPE_CHECKING:
    from hbpipe.data.window import Folded, WindowOrder


@dataclass(frozen=True)
class Aged:
    """Decayed statistics (U, ...) of a window, and of the window without its as-of day."""

    whole: Decayed
    before: Decayed


def with_decay(folded: Folded, order: WindowOrder, since: NDArray[np.int64]) -> Folded:
    """Put decayed statistics in the place of counted ones, of metrics that ask for it.

    ``since`` (U,) as of :func:`age_window`; raises as that does.
    """
    assert folded.recent is not None
    metrics = [metric for metric in order.metrics if metric.decay is not None]
    if not metrics:
        return folded
    assert order.by_day is not None, "the orders of such metrics have their days"
    days = Days(order.by_day, order.levels, folded.keys, order.within_parent, order.as_of)
    aged = age_window(metrics, days, order.first_day, since)
    statistics, for_fit = dict(folded.statistics), dict(folded.for_fit)
    counted, apart = dict(folded.counted), dict(folded.recent.apart)
    for metric in metrics:
        name, found = metric.name, aged[metric.name]
        assert metric.decay is not None
        counted[name] = statistics[name]
        statistics[name] = found.whole.for_update
        for_fit[name] = counted[name] if metric.decay.fit_undecayed else found.whole.for_fit
        if name in apart:
            apart[name] = replace(apart[name], rest=found.before.for_update)
    recent = replace(folded.recent, apart=apart)
    return replace(folded, statistics=statistics, for_fit=for_fit, counted=counted, recent=recent)


def age_window(
    metrics: Sequence[Metric], days: Days, first_day: int, since: NDArray[np.int64]
) -> dict[str, Aged]:
    """Decay the days of a window, the oldest first, metric by metric.

    ``since`` (U,) is the first day of each unit in the window: a calendar exposure counts from
    there on, whether a day has events or not, and each of its days ages by itself.

    Raises
    ------
    LakeError
        When a file is missing or damaged.
    """
    sums = {metric.name: WeightedSums(metric.model, len(since)) for metric in metrics}
    known = np.maximum(days.as_of - since + 1, 0)
    ages = range(days.as_of - first_day + 1)

    def scaled(some: range) -> dict[str, Decayed]:
        return {one.name: _scaled(one, sums[one.name], some, known) for one in metrics}

    before = None
    for found in days.each(metrics):
        if all(day.age == 0 for day in found.values()):
            before = scaled(ages[1:])
        for metric in metrics:
            day = found[metric.name]
            sums[metric.name].add(day.units, day.statistics, _weight(metric, day.age))
    whole = scaled(ages)
    before = scaled(ages[1:]) if before is None else before
    return {name: Aged(found, before[name]) for name, found in whole.items()}


def _weight(metric: Metric, age: int) -> float:
    assert metric.decay is not None
    return weight(age, metric.decay.half_life)


def _scaled(
    metric: Metric, weighted: WeightedSums, ages: range, known: NDArray[np.int64]
) -> Decayed:
    """Scale the sums of days of some ages; units have been ``known`` (U,) for so many days."""
    assert metric.decay is not None
    sums, squares, half_life = dict(weighted.sums), weighted.squares, metric.decay.half_life
    if metric.calendar == "days":
        weights = np.array([weight(age, half_life) for age in ages])
        last = np.clip(known - ages.start, 0, len(ages))
        sums["exposure"] = np.append(0.0, np.cumsum(weights))[last]
        squares = np.append(0.0, np.cumsum(weights**2))[last]
    if "exposure" in sums:
        # As where windows are folded: no count comes without an exposure.
        sums["count"] = np.where(sums["exposure"] > 0, sums["count"], 0.0)
        sums["exposure"], squares = sums["exposure"] / metric.per, squares / metric.per
    family, most = metric.model, factor_of_days(ages, half_life)
    return Decayed(effective(family, sums, squares), effective(family, sums, squares, most))
