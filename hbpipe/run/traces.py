"""Traces of a unit in a lake: every file that lies there is read, whether or not a table names it.

Parquet files are decoded, for their pages are compressed, and searched value by value; where the id
is long enough to be no accident, their bytes are searched as well. All other files, the logs first
of all, are searched byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hbpipe.data.lake import Lake
from hbpipe.data.quantities import RESERVED
from hbpipe.data.snapshot import Snapshot

#: Shorter ids turn up in compressed bytes by accident, shorter numbers in any text.
_NO_ACCIDENT = 6
#: Columns that never hold an id, whatever text they share with one; ``value`` of quarantine and the
#: ``message`` of a check may.
_NEVER_IDS = RESERVED - {"value", "message"}


@dataclass(frozen=True)
class Unit:
    """A unit by the levels that name it, level -> value, the finest last."""

    named: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The id as text."""
        return str(list(self.named.values())[-1])

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The id as a word of its own: ``s1`` is not in ``s12``."""
        return re.compile(rf"(?<![\w.-]){re.escape(self.id)}(?![\w-]|\.\d)")

    def named_in(self, table: pa.Table) -> bool:
        """Tell whether a table has all the levels that name the unit."""
        return all(name in table.column_names for name in self.named)

    def rows(self, table: pa.Table) -> pa.ChunkedArray:
        """Tell which rows are of the unit."""
        found = pa.chunked_array([pa.repeat(True, table.num_rows)])
        for name, value in self.named.items():
            same = pc.equal(table.column(name), pa.scalar(value, table.schema.field(name).type))
            found = pc.and_(found, pc.fill_null(same, False))
        return found

    def texts(self, table: pa.Table) -> pa.ChunkedArray:
        """Tell which rows mention the id in a text that is no level."""
        found = pa.chunked_array([pa.repeat(False, table.num_rows)])
        for name in self._prose(table.schema):
            mentions = {t for t in pc.unique(table.column(name)).to_pylist() if self.mentioned(t)}
            if mentions:
                found = pc.or_(found, pc.is_in(table.column(name), pa.array(sorted(mentions))))
        return found

    def _prose(self, schema: pa.Schema) -> list[str]:
        kept = {*_NEVER_IDS, *self.named}
        return [f.name for f in schema if pa.types.is_string(f.type) and f.name not in kept]

    def mentioned(self, text: str | None) -> bool:
        """Tell whether a text holds the id as a word."""
        if text is None or self.id not in text:
            return False
        accident = self.id.isdigit() and len(self.id) < _NO_ACCIDENT
        return not accident and self.pattern.search(text) is not None


def find_traces(lake: Lake, unit: Unit) -> Iterator[str]:
    """Search every file below the lake; yield what was found, and where."""
    filesystem = lake.storage.filesystem()
    selector = pafs.FileSelector(lake.storage.path(), recursive=True)
    for info in filesystem.get_file_info(selector):
        if not info.is_file:
            continue
        with filesystem.open_input_file(info.path) as source:
            content = source.read()
        name = info.path.removeprefix(lake.storage.path() + "/")
        if content[:4] == b"PAR1":
            rows = _in_rows(pq.read_table(pa.BufferReader(content)), unit)
            if rows:
                yield f"{name}: {rows} row(s)"
        if _in_bytes(content, unit):
            yield f"{name}: in its bytes"
        if unit.mentioned(name):
            yield f"{name}: in its name"


def _in_rows(table: pa.Table, unit: Unit) -> int:
    found = unit.texts(table)
    if unit.named_in(table):
        found = pc.or_(found, unit.rows(table))
    return pc.sum(found).as_py() or 0


def _in_bytes(content: bytes, unit: Unit) -> bool:
    """Search the bytes; of Parquet only for ids that are there by no accident."""
    if unit.id.encode() not in content:
        return False
    if content[:4] == b"PAR1":
        return len(unit.id) >= _NO_ACCIDENT
    return unit.mentioned(content.decode("utf-8", "replace"))


def rows_of_unit(snapshot: Snapshot, unit: Unit) -> int:
    """Count the rows of a unit in one version of a table."""
    names = list(unit.named)
    if any(name not in snapshot.schema.names for name in names):
        return 0
    return pc.sum(unit.rows(snapshot.read(columns=names))).as_py() or 0
