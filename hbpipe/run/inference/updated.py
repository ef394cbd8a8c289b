"""What is known of the units of one shard, from their update until their rows are written.

A shard is updated on a worker and stays there. What compares its units with those of other shards
takes a few numbers of each; then its rows are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import Table
from hbpipe.model.family import Codes, Statistics
from hbpipe.model.update.pools import PosteriorColumns
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.inference.fits import UnitPriors

#: Columns of ``posteriors`` by name: (U,) of each unit, or (U, T) of each unit and term. A number
#: that is not finite is published as null; a flag that may be null is a number, 0 or 1.
Columns: TypeAlias = dict[str, NDArray[Any]]
#: The same, metric by metric.
MetricColumns: TypeAlias = dict[str, Columns]


@dataclass(frozen=True)
class UpdateOrder:
    """What a worker must know to update one shard, and to write its rows."""

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    priors: dict[str, UnitPriors]
    quantiles: tuple[float, ...]
    table: Table
    label: str  # the ISO date, the partition
    run_id: str
    last_day: bool  # whether the as-of day was counted, or is left out as held


@dataclass(frozen=True)
class MetricUpdate:
    """The units of one shard in one metric.

    Parameters
    ----------
    codes
        (U,) the pool of each unit, a number of ``UnitPriors.pools``.
    statistics
        What their posteriors rest on, name -> (U, ...): sizes divided by the overdispersion, and
        any numbers in place of covariates that are unknown.
    posterior
        Their posteriors; ``posterior_rows.has_posterior`` tells which may be published.
    columns
        What else is published of them.
    tally
        What is wrong with them.
    """

    codes: Codes
    statistics: Statistics
    posterior: PosteriorColumns
    columns: Columns
    tally: PosteriorTally


#: The units of one shard, by metric.
ShardUpdate: TypeAlias = dict[str, MetricUpdate]
