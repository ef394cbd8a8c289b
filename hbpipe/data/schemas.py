"""One Arrow schema per table. Column names here are promises to every reader of the lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hbpipe.data.arrays import arrow_type
from hbpipe.model.families import get_family

_DAY = pa.date32()
_TIME = pa.timestamp("us", tz="UTC")
_TEXT, _INT, _FLOAT, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()


@dataclass(frozen=True)
class Table:
    """A table's schema, its partition columns, and the columns that identify a row."""

    schema: pa.Schema
    partition_by: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def data_schema(self) -> pa.Schema:
        """The columns inside the files: all but the partition columns."""
        return pa.schema([f for f in self.schema if f.name not in self.partition_by])


def quantile_name(level: float) -> str:
    """Return the column of a quantile level: 0.05 -> ``q0.05``."""
    return f"q{level:g}"


def _table(
    columns: Mapping[str, pa.DataType], key: Sequence[str], partition_by: Sequence[str] = ()
) -> Table:
    return Table(pa.schema(list(columns.items())), tuple(partition_by), tuple(key))


def _records(**columns: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct(list(columns.items())))


#: One row per input file; ``rows = accepted + rejected + repeated + pending``, always.
FILES = _table(
    {
        "path": _TEXT,
        "state": _TEXT,  # read, duplicate (same bytes as duplicate_of), gone
        "duplicate_of": _TEXT,
        "size": _INT,
        "modified_ns": _INT,
        "sha256": _TEXT,
        "format": _TEXT,
        "level_types": pa.list_(_TEXT),
        "columns": _records(name=_TEXT, type=_TEXT),
        "rows": _INT,
        "accepted": _INT,
        "rejected": _INT,
        "repeated": _INT,
        "pending": _INT,
        "days": _records(
            day=_DAY, rows=_INT, accepted=_INT, rejected=_INT, repeated=_INT, conflicting=_INT
        ),
        "row_groups": _records(
            index=_INT, first_row=_INT, rows=_INT, bytes=_INT, first_day=_INT, last_day=_INT
        ),
        "rejections": _records(day=_DAY, metric=_TEXT, column=_TEXT, reason=_TEXT, rows=_INT),
        "run_id": _TEXT,
    },
    key=["path"],
)

#: One row per business day that was ever processed.
DAYS = _table(
    {
        "day": _DAY,
        "state": _TEXT,  # complete, empty, held, gone; begun while a run redoes it
        "reason": _TEXT,
        "input": _TEXT,
        "kernel": _TEXT,
        "settings": _TEXT,
        "files": _INT,
        "rows": _INT,
        "accepted": _INT,
        "rejected": _INT,
        "repeated": _INT,
        "conflicting": _INT,
        "units": _INT,
        "shared_ids": _INT,
        "shards": _INT,
        "metrics": _records(metric=_TEXT, used=_INT, skipped=_INT, excluded=_INT, rejected=_INT),
        "arms": _records(metric=_TEXT, arm=_TEXT, rows=_INT),  # used rows, of experiments
        "makings": _records(metric=_TEXT, settings=_TEXT, kernel=_TEXT),
        "statistics_version": _INT,
        "run_id": _TEXT,
        "processed_at": _TIME,
    },
    key=["day"],
)

#: Up to a thousand examples of each rejection; the exact counts are in ``files``.
QUARANTINE = _table(
    {
        "file": _TEXT,
        "row_group": _INT,
        "row": _INT,
        "day": _DAY,
        "metric": _TEXT,
        "column": _TEXT,
        "value": _TEXT,
        "reason": _TEXT,
        "remedy": _TEXT,
        "run_id": _TEXT,
    },
    key=["file", "row", "metric", "column", "reason"],
)

#: The clusters of a unit's events, such as households: parallel lists, ordered by id.
CLUSTERS = {
    "cluster_id": pa.list_(_INT),
    "cluster_size": pa.list_(_FLOAT),
    "cluster_total": pa.list_(_FLOAT),
}

#: ``model.dispersion.CellSums`` of a unit's days in a month, and those of a unit new in it where
#: they differ.
CELL_SUMS = ("squares", "expected", "noise")
NEW_CELL_SUMS = ("squares_new", "expected_new", "noise_new")


def _measured(families: Iterable[str]) -> dict[str, pa.DataType]:
    """Return the statistics of some families and their types."""
    return {
        statistic.name: arrow_type(statistic)
        for family in sorted(set(families))
        for statistic in get_family(family).statistics
    }


def statistics_table(
    levels: Mapping[str, pa.DataType], families: Iterable[str], *, clusters: bool = False
) -> Table:
    """One row per metric, day and unit; a statistic that a family lacks is null.

    ``clusters`` adds the columns of metrics whose overdispersion is by cluster.
    """
    return _table(
        {
            "day": _DAY,
            "metric": _TEXT,
            **levels,
            "shard": pa.int32(),
            "n_events": _INT,
            **_measured(families),
            **(CLUSTERS if clusters else {}),
        },
        key=["day", "metric", *levels],
        partition_by=["day"],
    )


def months_table(
    levels: Mapping[str, pa.DataType], families: Iterable[str], *, clusters: bool = False
) -> Table:
    """One row per metric, calendar month and unit: ``statistics`` of its days folded, a cache.

    ``month`` is its first day; the last three columns say what it was made from (``rollup``).
    """
    sums = (*CELL_SUMS, *NEW_CELL_SUMS)
    return _table(
        {
            "month": _DAY,
            "metric": _TEXT,
            **levels,
            "shard": pa.int32(),
            "first_day": _DAY,
            "last_day": _DAY,
            "days_seen": _INT,  # bit k: events on day k + 1 of the month
            "n_events": _INT,
            **_measured(families),
            **dict.fromkeys(sums, _FLOAT),
            **(CLUSTERS if clusters else {}),
            "made_from": _TEXT,
            "made_with": _TEXT,
            "unit_ids": _TEXT,  # any, unique, within_parent
        },
        key=["month", "metric", *levels],
        partition_by=["month"],
    )


def hyperparameters_table(
    pool_levels: Mapping[str, pa.DataType], quantiles: Sequence[float]
) -> Table:
    """One row per as-of day, metric, pool or nested group, and parameter.

    A pool has null in the levels of the groups nested in it. The posterior of a parameter is that
    of experiments: their pooled effect and its spread.
    """
    return _table(
        {
            "as_of": _DAY,
            "metric": _TEXT,
            **pool_levels,
            "pool": _TEXT,
            "family": _TEXT,
            "parameter": _TEXT,
            "value": _FLOAT,
            "sd": _FLOAT,
            "posterior_mean": _FLOAT,
            "posterior_sd": _FLOAT,
            **{quantile_name(level): _FLOAT for level in quantiles},
            "p_above_zero": _FLOAT,
            "run_id": _TEXT,
        },
        key=["as_of", "metric", *pool_levels, "pool", "parameter"],
        partition_by=["as_of"],
    )


#: Of metrics with a choice of models: what was chosen for a pool, and by which numbers.
_CHOICES = {
    "prior": _TEXT,  # single, or the mixture that the pool's stores ask for
    "bic_single": _FLOAT,
    "bic_mixture": _FLOAT,
    "score_single": _FLOAT,
    "score_grid": _FLOAT,
    "duality_gap": _FLOAT,  # of a grid's weights: what the likelihood lacks at most
    "dynamics": _TEXT,  # local_level, or static where levels do not move
    "log_score_static": _FLOAT,
    "log_score_drifting": _FLOAT,
    "scored_days": _INT,
}


def fits_table(pool_levels: Mapping[str, pa.DataType]) -> Table:
    """One row per as-of day, metric and pool: the story of the fit."""
    return _table(
        {
            "as_of": _DAY,
            "metric": _TEXT,
            **pool_levels,
            "pool": _TEXT,
            "family": _TEXT,
            "estimator": _TEXT,
            "n_groups": _INT,
            "log_marginal_likelihood": _FLOAT,
            "start_log_marginal_likelihood": _FLOAT,
            "log_likelihood_no_pooling": _FLOAT,
            "log_likelihood_complete_pooling": _FLOAT,
            "starts": _INT,
            "starts_agree": _FLAG,
            "start_values": pa.list_(_FLOAT),
            "iterations": _INT,
            "gradient_norm": _FLOAT,
            "smallest_eigenvalue": _FLOAT,
            "largest_eigenvalue": _FLOAT,
            "converged": _FLAG,
            "boundary": _FLAG,
            "at_bound": _TEXT,
            "status": _TEXT,
            "method": _TEXT,
            "sampler": _TEXT,  # of pools with many hyperparameters: sobol or nuts
            "ess": _FLOAT,
            "pareto_k": _FLOAT,
            "r_hat": _FLOAT,
            "drift": _FLOAT,
            "definition": _TEXT,  # digest of what the metric means
            "covariates": _TEXT,  # how they are coded, as JSON
            "overdispersion": _FLOAT,
            "overdispersion_by": _TEXT,
            "overdispersion_df": _FLOAT,
            **_CHOICES,
            "run_id": _TEXT,
        },
        key=["as_of", "metric", *pool_levels, "pool"],
        partition_by=["as_of"],
    )
