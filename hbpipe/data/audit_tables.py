"""The tables of the gates: what the checks found, and what a person has accepted."""

from __future__ import annotations

import pyarrow as pa

from hbpipe.data.schemas import Table

_DAY = pa.date32()
_TIME = pa.timestamp("us", tz="UTC")
_TEXT, _FLOAT = pa.string(), pa.float64()

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
