"""Arrow schemas of what a release says of stores: those of its events, and those never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from hbpipe.data.schemas import Table, quantile_name

_DAY, _TEXT, _INT, _FLOAT, _FLAG = pa.date32(), pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _posterior_columns(quantiles: Sequence[float]) -> dict[str, pa.DataType]:
    return {
        "mean": _FLOAT,
        "sd": _FLOAT,
        "sd_plug_in": _FLOAT,
        **{quantile_name(level): _FLOAT for level in quantiles},
    }


#: What ``posteriors`` says beside the posterior itself; README.md defines each.
_DECISIONS = (
    *("next_exposure", "predictive_mean", "predictive_sd", "predictive_low", "predictive_high"),
    *("p_below_target", "p_above_zero", "false_sign_rate", "s_value"),
    *("expected_percentile", "p_top_10", "p_bottom_10", "r_value"),
    *("last_day_n", "last_day_raw", "last_day_p", "last_day_q", "change", "change_sd"),
    *("reconciled", "reconciled_rmse"),
)
_FLAGS = ("silent", "is_new", "outlier", "at_boundary")


def posteriors_table(levels: Mapping[str, pa.DataType], quantiles: Sequence[float]) -> Table:
    """One row per as-of day, metric, unit and term; and one for each nested group.

    A group has null in the levels below its own, which ``level`` names.
    """
    columns = {
        "as_of": _DAY,
        "metric": _TEXT,
        **levels,
        "level": _TEXT,
        "term": _TEXT,
        "pool": _TEXT,
        "n_events": _INT,
        "n": _INT,
        "n_effective": _FLOAT,
        "n_control": _INT,
        "n_treatment": _INT,
        "raw": _FLOAT,
        "raw_sd": _FLOAT,
        "complete_pooling": _FLOAT,
        "complete_pooling_sd": _FLOAT,
        **_posterior_columns(quantiles),
        "weight": _FLOAT,
        "prior_mean": _FLOAT,
        "method": _TEXT,
        **dict.fromkeys(_DECISIONS, _FLOAT),
        **dict.fromkeys(_FLAGS, _FLAG),
        "run_id": _TEXT,
    }
    return Table(pa.schema(list(columns.items())), ("as_of",), ("as_of", "metric", *levels, "term"))


def new_stores_table(pool_levels: Mapping[str, pa.DataType], quantiles: Sequence[float]) -> Table:
    """One row per as-of day, metric, pool and term: what to expect of a store never seen.

    ``level`` says what of it is new: the store alone, or a nested group that it belongs to. With
    covariates one for each kind of store that a pool has, named by ``covariates``.
    """
    columns = {
        "as_of": _DAY,
        "metric": _TEXT,
        **pool_levels,
        "pool": _TEXT,
        "level": _TEXT,
        "covariates": _TEXT,
        "term": _TEXT,
        "mean": _FLOAT,
        "sd": _FLOAT,
        **{quantile_name(level): _FLOAT for level in quantiles},
        "method": _TEXT,
        "run_id": _TEXT,
    }
    key = ("as_of", "metric", *pool_levels, "pool", "covariates", "term")
    return Table(pa.schema(list(columns.items())), ("as_of",), key)
