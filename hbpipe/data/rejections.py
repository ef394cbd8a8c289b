"""Rejected rows: counted exactly, with examples that say where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.events import Piece

MAX_EXAMPLES = 1000
_MAX_TEXT = 200

#: Why rows of a unit that was forgotten are rejected; no example of them is kept.
FORGOTTEN = "forgotten"

#: What to do about each kind of rejection, for ``quarantine`` and the report.
REMEDIES = {
    "missing time": "fill the time at the source",
    "unreadable time": "write times as ISO 8601, for instance 2026-01-31T18:45:00",
    "day out of range": "correct the date, or widen events.earliest and events.latest",
    "missing level": "fill the level at the source; a row without its store cannot be counted",
    "empty level": "fill the level at the source; a row without its store cannot be counted",
    "unreadable level": "write ids in UTF-8",
    "missing event id": "fill the id at the source, or drop events.event_id",
    "negative": "correct the value, or leave such rows out with a where condition",
    "not a number": "write null for an unknown value",
    "infinite": "write null for an unknown value",
    "not whole": "counts are whole numbers; for amounts choose a normal family",
    "logarithm of a value not above zero": "leave such rows out: where: [[column, '>', 0]]",
    "variance not above zero": "give the squared standard error, or null where it is unknown",
    "successes exceed trials": "check that both columns count the same events",
    "more than one event": "a spell ends once: give 1 where it ended with the event, else 0",
    "value without trials": "give such rows a visit, or leave them out with a where condition",
}


@dataclass(frozen=True)
class Example:
    """One rejected row: its row group, its row within the file, and the value found."""

    row_group: int
    row: int
    value: str


@dataclass(frozen=True)
class Rejection:
    """All rows of one file rejected for one reason; ``metric`` is empty when the row itself is.

    ``day`` is None where the row has no business day.
    """

    file: str
    day: int | None
    metric: str
    column: str
    reason: str
    rows: int
    examples: tuple[Example, ...]


def reject(
    *,
    file: str,
    day: int | None,
    metric: str,
    column: str,
    reason: str,
    values: pa.ChunkedArray | None,
    rows: NDArray[np.int64],
    piece: Piece,
) -> Rejection:
    """Count the ``rows`` of a piece (indices into it) and keep the first as examples."""
    shown = rows[:MAX_EXAMPLES]
    found = ["" for _ in shown] if values is None else _texts(values, shown)
    examples = tuple(
        Example(*_place(piece, int(row)), text) for row, text in zip(shown, found, strict=True)
    )
    return Rejection(file, day, metric, column, reason, len(rows), examples)


def _texts(values: pa.ChunkedArray, rows: NDArray[np.int64]) -> list[str]:
    return [_short(value) for value in _printable(values.take(pa.array(rows))).to_pylist()]


def _printable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give times as text and text as bytes: Python lacks the first's range, UTF-8 the second's."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_temporal(kind):
        return values.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.large_binary())
    return values


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = "null" if value is None else str(value)
    printable = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return printable if len(printable) <= _MAX_TEXT else printable[: _MAX_TEXT - 1] + "…"


def _place(piece: Piece, row: int) -> tuple[int, int]:
    """Return (row group, row within the file) of a row of the piece."""
    for group, first, size in zip(piece.row_groups, piece.first_rows, piece.lengths, strict=True):
        if row < size:
            return group, first + row
        row -= size
    raise IndexError(row)


def merge_rejections(parts: list[Rejection]) -> list[Rejection]:
    """Add up rejections of the same kind, keeping the first examples."""
    merged: dict[tuple[Any, ...], Rejection] = {}
    for part in parts:
        key = (part.file, part.day, part.metric, part.column, part.reason)
        if key in merged:
            before = merged[key]
            examples = (before.examples + part.examples)[:MAX_EXAMPLES]
            merged[key] = Rejection(*key, before.rows + part.rows, examples)
        else:
            merged[key] = part
    return list(merged.values())
