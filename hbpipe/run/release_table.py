"""The table ``releases``: what a night published, and what upkeep has made of it since."""

from __future__ import annotations

import pyarrow as pa

from hbpipe.data.schemas import Table

_DAY, _TIME = pa.date32(), pa.timestamp("us", tz="UTC")
_TEXT, _INT = pa.string(), pa.int64()

#: One row per release.
RELEASES = Table(
    pa.schema(
        {
            "release": _TEXT,
            "number": _INT,  # rises by one with every release of the lake
            "environment": _TEXT,
            "as_of": _DAY,
            "run_id": _TEXT,
            "released_at": _TIME,
            "pipeline": _TEXT,
            "hbpipe": _TEXT,
            "versions": pa.map_(_TEXT, _INT),
            "input": _TEXT,
            "settings": _TEXT,
            "kernel": _TEXT,
            "stores": _TEXT,
            "days": _INT,
            "rows": _INT,
            "accepted": _INT,
            "rejected": _INT,
            "repeated": _INT,
            "units": _INT,
            "pools": _INT,
            "expiring_since": _TIME,  # since when nobody can be pointed to it; until it expires
            "expired_at": _TIME,  # since when it can no longer be read; null while it can
            "note": _TEXT,  # what upkeep has done to it, and why
        }
    ),
    partition_by=(),
    key=("release",),
)
