"""The tables of the gates: what checks and models found, and what a person has accepted."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from hbpipe.data.schemas import Table

_DAY = pa.date32()
_TIME = pa.timestamp("us", tz="UTC")
_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()

#: One row per run, as-of day and check; a run writes the partition of its own day alone.
AUDITS = Table(
    pa.schema(
        {
            "as_of": _DAY,
            "gate": _TEXT,
            "name": _TEXT,
            "subject": _TEXT,
            "status": _TEXT,  # pass, warn, fail, accepted
            "value": _FLOAT,
            "threshold": _FLOAT,
            "message": _TEXT,
            "run_id": _TEXT,
            "checked_at": _TIME,
        }
    ),
    partition_by=("as_of",),
    key=("run_id", "as_of", "gate", "name", "subject"),
)

#: What a person has taken as it is: one row per check, subject and fingerprint of what was checked.
ACCEPTANCES = Table(
    pa.schema(
        {
            "gate": _TEXT,
            "check": _TEXT,
            "subject": _TEXT,
            "fingerprint": _TEXT,
            "value": _FLOAT,
            "threshold": _FLOAT,
            "message": _TEXT,
            "reason": _TEXT,
            "by": _TEXT,
            "at": _TIME,
            "run_id": _TEXT,
        }
    ),
    partition_by=(),
    key=("gate", "check", "subject", "fingerprint"),
)


def diagnostics_table(pool_levels: Mapping[str, pa.DataType]) -> Table:
    """One row per as-of day, metric, pool and check of the model; ``pool`` null: of all pools."""
    return Table(
        pa.schema(
            {
                "as_of": _DAY,
                "metric": _TEXT,
                **pool_levels,
                "pool": _TEXT,
                "check": _TEXT,
                "status": _TEXT,  # ok, warn, fail, not_applicable
                "value": _FLOAT,
                "threshold": _FLOAT,
                "n_groups": _INT,
                "values": pa.list_(_FLOAT),
                "message": _TEXT,
                "run_id": _TEXT,
            }
        ),
        partition_by=("as_of",),
        key=("as_of", "metric", *pool_levels, "pool", "check"),
    )
