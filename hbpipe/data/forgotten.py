"""Units that were forgotten: known again by a keyed digest, never by name.

The table ``forgotten`` holds the HMAC-SHA-256 of a unit's levels under a random key that is kept
beside it. Nobody can read an id from it, or look it up in a list of digests made elsewhere. Whoever
can read the table can ask, of an id that they guess, whether it was forgotten: aggregation does so
with every id it meets, and could not do without.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hbpipe.data.batch import Mask
from hbpipe.data.lake import Lake
from hbpipe.data.schemas import Table
from hbpipe.data.units import Encoded, encode, find_units

#: One row per unit that was forgotten.
FORGOTTEN = Table(
    pa.schema(
        [
            ("levels", pa.list_(pa.string())),
            ("key", pa.string()),
            ("digest", pa.string()),
            ("reason", pa.string()),
            ("run_id", pa.string()),
            ("forgotten_at", pa.timestamp("us", tz="UTC")),
        ]
    ),
    partition_by=(),
    key=("digest",),
)


@dataclass(frozen=True)
class Forgotten:
    """One unit that was forgotten: the levels that name it, and the digest of their values."""

    levels: tuple[str, ...]
    key: str
    digest: str


def read_forgotten(lake: Lake) -> tuple[Forgotten, ...]:
    """Read who was forgotten; empty when there is no such table yet."""
    found = lake.find("forgotten")
    if found is None:
        return ()
    rows = found.read(columns=["levels", "key", "digest"]).to_pylist()
    return tuple(Forgotten(tuple(row["levels"]), row["key"], row["digest"]) for row in rows)


def remember(lake: Lake, unit: Mapping[str, Any], **columns: Any) -> bool:
    """Enter a unit, level -> value; False when it is there already. All share one random key."""
    lake.create("forgotten", FORGOTTEN.schema)
    known = read_forgotten(lake)
    key = known[0].key if known else secrets.token_hex(32)
    digest = digest_of(key, tuple(unit.values()))
    if any((one.levels, one.digest) == (tuple(unit), digest) for one in known):
        return False
    row = {"levels": list(unit), "key": key, "digest": digest, **columns}
    table = pa.Table.from_pylist([row], schema=FORGOTTEN.schema)
    lake.upsert("forgotten", table, FORGOTTEN.key, run_id=columns["run_id"])
    return True


def digest_of(key: str, values: Sequence[Any]) -> str:
    """Return the keyed digest of the values of a unit's levels."""
    text = json.dumps([str(value) for value in values], ensure_ascii=True)
    return hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()


def rows_forgotten(
    forgotten: Sequence[Forgotten], names: Sequence[str], levels: Sequence[Encoded], valid: Mask
) -> Mask:
    """Find the rows (E,) of forgotten units, of those that are ``valid``."""
    found = np.zeros(len(valid), np.bool_)
    for key, by in sorted({(one.key, one.levels) for one in forgotten}):
        digests = {one.digest for one in forgotten if (one.key, one.levels) == (key, by)}
        units = find_units([levels[names.index(name)] for name in by], valid)
        tuples = zip(*(column.to_pylist() for column in units.keys), strict=True)
        flags = np.array([digest_of(key, one) in digests for one in tuples], np.bool_)
        if flags.any():
            found |= flags[units.codes] & valid
    return found


def without_forgotten(
    table: pa.Table, forgotten: Sequence[Forgotten], names: Sequence[str]
) -> pa.Table:
    """Return the rows of a table of units that were not forgotten."""
    if not forgotten or not table.num_rows:
        return table
    everything = np.ones(table.num_rows, np.bool_)
    levels = [encode(table.column(name)) for name in names]
    return table.filter(pa.array(~rows_forgotten(forgotten, names, levels, everything)))


def is_forgotten(forgotten: Iterable[Forgotten], unit: Mapping[str, Any]) -> bool:
    """Tell whether a single unit, level -> value, was forgotten."""
    return any(
        digest_of(one.key, [unit[name] for name in one.levels]) == one.digest for one in forgotten
    )
