"""The days of a window weighed by their age, for metrics with a decay."""

from __future__ import annotations

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
    statistics, for_fit, counted = dict(folded.statistics), {}, {}
    apart = dict(folded.recent.apart)
    for metric in order.metrics:
        if metric.decay is not None:
            name = metric.name
            assert order.by_day is not None, "the orders of such metrics have their days"
            days = Days(order.by_day, order.levels, folded.keys, order.within_parent, order.as_of)
            aged = age_window(metric, days, order.first_day, since)
            counted[name] = statistics[name]
            statistics[name] = aged.whole.for_update
            for_fit[name] = counted[name] if metric.decay.fit_undecayed else aged.whole.for_fit
            if name in apart:
                apart[name] = replace(apart[name], rest=aged.before.for_update)
    recent = replace(folded.recent, apart=apart)
    return replace(folded, statistics=statistics, for_fit=for_fit, counted=counted, recent=recent)


def age_window(metric: Metric, days: Days, first_day: int, since: NDArray[np.int64]) -> Aged:
    """Decay the days of a window, the oldest first.

    ``since`` (U,) is the first day of each unit in the window: a calendar exposure counts from
    there on, whether a day has events or not, and each of its days ages by itself.

    Raises
    ------
    LakeError
        When a file is missing or damaged.
    """
    assert metric.decay is not None
    half_life, sums = metric.decay.half_life, WeightedSums(metric.model, len(since))
    known = np.maximum(days.as_of - since + 1, 0)
    ages, last = range(days.as_of - first_day + 1), None
    for day in days.of(metric):
        if day.age == 0:
            last = day
        else:
            sums.add(day.units, day.statistics, weight(day.age, half_life))
    before = _scaled(metric, sums, ages[1:], known)
    if last is not None:
        sums.add(last.units, last.statistics, 1.0)
    return Aged(_scaled(metric, sums, ages, known), before)


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
