"""Metrics with sampling weights: the window's weighted sums as statistics of the effective size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.quantities import Metric
from hbpipe.data.weights import SAMPLING
from hbpipe.model.weights import counted, effective

if TYPE_CHECKING:
    from hbpipe.data.window import Folded

Statistics = dict[str, NDArray[Any]]


def with_effective_sizes(folded: Folded, metrics: Iterable[Metric]) -> Folded:
    """Put statistics of the fitted family in the place of weighted sums, where there are such."""
    assert folded.recent is not None
    statistics, whole, unusable = dict(folded.statistics), dict(folded.counted), folded.unusable
    apart = dict(folded.recent.apart)
    for metric in metrics:
        if metric.weights == SAMPLING:
            name, sums = metric.name, statistics[metric.name]
            whole[name], _ = usable(metric, counted(metric.model, sums))
            statistics[name], aside = usable(metric, effective(metric.model, sums))
            unusable = {**unusable, name: aside}
            if name in apart:
                parts = (apart[name].day, apart[name].rest)
                day, rest = (usable(metric, effective(metric.model, one))[0] for one in parts)
                apart[name] = replace(apart[name], day=day, rest=rest)
    recent = replace(folded.recent, apart=apart)
    return replace(folded, statistics=statistics, counted=whole, unusable=unusable, recent=recent)


def usable(metric: Metric, statistics: Statistics) -> tuple[Statistics, int]:
    """Scale exposures to the reported unit, and set aside counts that come without one.

    Returns
    -------
    The statistics, and how many units have such a count.
    """
    if "exposure" not in statistics:
        return statistics, 0
    exposure, count = statistics["exposure"], statistics["count"]
    impossible = (exposure <= 0) & (count > 0)
    scaled = {"count": np.where(impossible, 0, count), "exposure": exposure / metric.per}
    return {**statistics, **scaled}, int(impossible.sum())
