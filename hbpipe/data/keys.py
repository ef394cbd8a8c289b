"""The keys of a row: its levels and event id, without which it cannot be counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.batch import Mask
from hbpipe.data.events import EventFormat, Piece
from hbpipe.data.forgotten import rows_forgotten
from hbpipe.data.rejections import FORGOTTEN, Rejection, reject
from hbpipe.data.units import Encoded


def check_keys(
    form: EventFormat,
    piece: Piece,
    table: pa.Table,
    levels: list[Encoded],
    row_days: NDArray[np.int32],
    wanted: Mask,
) -> tuple[Mask, list[Rejection]]:
    """Find rows without a level or an event id, or of a forgotten unit; the first fault counts."""
    bad = np.zeros(len(wanted), np.bool_)
    rejections: list[Rejection] = []

    def refuse(column: str, reason: str, fault: Mask) -> None:
        rows = np.flatnonzero(fault & wanted & ~bad)
        bad[rows] = True
        rejections.extend(
            reject(
                file=piece.file.path,
                day=int(day),
                metric="",
                column=column,
                reason=reason,
                values=table.column(column),
                rows=rows[row_days[rows] == day],
                piece=piece,
            )
            for day in np.unique(row_days[rows])
        )

    for name, level in zip(form.levels, levels, strict=True):
        if not level.complete:
            refuse(name, "missing level", level.codes < 0)
        if (empty := _empty(level.values)) is not None:
            refuse(name, "empty level", level.codes == empty)
        if len(unreadable := _not_utf8(level.values)):
            refuse(name, "unreadable level", np.isin(level.codes, unreadable))
    for name in form.event_id:
        if (absent := _missing_ids(table.column(name))) is not None:
            refuse(name, "missing event id", absent)
    if form.forgotten:
        unknown = rows_forgotten(form.forgotten, form.levels, levels, wanted & ~bad)
        bad |= unknown
        rejections += _uncited(form, piece, row_days, unknown)
    return bad, rejections


def _uncited(
    form: EventFormat, piece: Piece, row_days: NDArray[np.int32], forgotten: Mask
) -> list[Rejection]:
    """Count the rows of forgotten units by day; an example would bring one back."""
    days, counts = np.unique(row_days[forgotten], return_counts=True)
    return [
        Rejection(piece.file.path, int(day), "", form.levels[-1], FORGOTTEN, int(rows), ())
        for day, rows in zip(days, counts, strict=True)
    ]


def _empty(values: pa.Array) -> int | None:
    """Return the place of the empty text among distinct values, if it is there."""
    if not pa.types.is_string(values.type) or pc.min(pc.binary_length(values)).as_py() != 0:
        return None
    return int(values.index("").as_py())


def _not_utf8(values: pa.Array) -> NDArray[np.int64]:
    """Return the places of texts that no reader could show: Arrow itself does not look."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        found = [k for k, raw in enumerate(values.cast(pa.binary())) if not _is_utf8(raw.as_py())]
        return np.array(found, np.int64)
    return np.empty(0, np.int64)


def _is_utf8(raw: bytes | None) -> bool:
    try:
        (raw or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _missing_ids(column: pa.ChunkedArray) -> Mask | None:
    """Return where an id is null or empty text; None when it is nowhere."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    missing = column.is_null()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        missing = pc.or_kleene(missing, pc.equal(pc.binary_length(column), 0))
    return np.asarray(missing.to_numpy()) if pc.any(missing).as_py() else None
