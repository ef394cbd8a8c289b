"""Units as integer codes: every sum goes by code, never by string."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.events import SHARD_ROWS, level_type

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """A level column as codes (E,), -1 where null, into its distinct values.

    The codes have the width that Arrow gives them, so that millions of rows need no copy.
    ``complete`` says that no code is -1.
    """

    codes: NDArray[Any]
    values: pa.Array
    complete: bool = False


@dataclass(frozen=True)
class Units:
    """Units found: a code (E,) per row, and the level values (one array per level) per code."""

    codes: Codes
    keys: tuple[pa.Array, ...]

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.keys[-1])


@dataclass(frozen=True)
class CodedUnits:
    """Units found: a code (E,) per row, and per level the encoded values of the ``n`` units."""

    codes: NDArray[Any]
    levels: tuple[Encoded, ...]

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.levels[-1].codes)


def encode(column: pa.ChunkedArray | pa.Array) -> Encoded:
    """Encode a level column of text or whole numbers, as the type that levels are stored with."""
    stored = level_type(column.type)
    if not pa.types.is_dictionary(column.type):
        return encode_any(column.cast(stored))
    encoded = encode_any(column)
    return replace(encoded, values=encoded.values.cast(stored))


def encode_any(column: pa.ChunkedArray | pa.Array) -> Encoded:
    """Encode a column of any type that Arrow can hash."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.unify_dictionaries()
    else:
        chunked = chunked.dictionary_encode()
    if chunked.num_chunks == 0:
        return Encoded(np.empty(0, np.int64), pa.array([], chunked.type.value_type))
    # All chunks have one dictionary now; Arrow, asked to combine them, would compare them all.
    values, parts = chunked.chunk(0).dictionary, [chunk.indices for chunk in chunked.chunks]
    indices = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    if indices.type not in (pa.int32(), pa.int64()):  # others have no -1, or no room for it
        indices = indices.cast(pa.int64())
    complete = indices.null_count == 0
    filled = indices if complete else indices.fill_null(-1)
    return Encoded(filled.to_numpy(), values, complete)


def to_dictionary(encoded: Encoded, rows: Any = slice(None)) -> pa.DictionaryArray:
    """Return an encoded column, or some of its rows, as an Arrow dictionary."""
    codes = encoded.codes[rows].astype(np.int32, copy=False)
    missing = codes < 0
    indices = pa.array(codes, mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, encoded.values)


def find_units(levels: Sequence[Encoded], valid: NDArray[np.bool_]) -> Units:
    """Give each valid row the code of its unit, and each unit its keys; see ``code_units``."""
    found = code_units(levels, valid)
    codes = found.codes.astype(np.int64, copy=False)
    return Units(codes, tuple(to_plain(level) for level in found.levels))


def to_plain(level: Encoded) -> pa.Array:
    """Return the values of an encoded column, one for each row."""
    if np.array_equal(level.codes, np.arange(len(level.values))):
        return level.values
    return level.values.take(pa.array(level.codes, mask=level.codes < 0))


def code_units(levels: Sequence[Encoded], valid: NDArray[np.bool_]) -> CodedUnits:
    """Give each valid row the code of its unit: the tuple of all its levels.

    Where each value of the last level stands under one parent only, its own code will do; that
    is checked on every row, and where it does not hold the tuples themselves are coded.
    Rows that are not valid get a code that means nothing.
    """
    finest, rows = levels[-1], slice(None) if valid.all() else valid
    # Of the machine's own width, or each pass that looks up by them would convert them again.
    units = finest.codes.astype(np.intp, copy=False)
    parents = [
        _parents(units[rows], level.codes[rows], len(finest.values)) for level in levels[:-1]
    ]
    known = [parent for parent in parents if parent is not None]
    if len(known) < len(parents):
        return _tuples(levels, valid)
    codes = units if finest.complete else np.maximum(units, 0)
    above = [Encoded(codes, level.values) for codes, level in zip(known, levels, strict=False)]
    return CodedUnits(codes, (*above, Encoded(np.arange(len(finest.values)), finest.values)))


def _parents(units: Codes, above: NDArray[Any], n_units: int) -> NDArray[Any] | None:
    """Return the parent's code of each of the units, or None where one has several."""
    parents = np.full(n_units, -1, above.dtype)
    parents[units] = above
    return parents if np.array_equal(parents.take(units), above) else None


def _tuples(levels: Sequence[Encoded], valid: NDArray[np.bool_]) -> CodedUnits:
    """Code the tuples themselves, level by level so that no product of sizes can overflow."""
    codes, size = np.zeros(len(valid), np.int64), 1
    for level in levels:
        width = len(level.values)
        joint = codes * width + np.maximum(level.codes, 0)  # of 64 bits, as the codes are
        codes, present = compact(joint, size * width, valid)
        size = len(present)
    rows = np.flatnonzero(valid)
    example = np.empty(size, np.int64)
    example[codes[rows]] = rows
    return CodedUnits(codes, tuple(Encoded(one.codes[example], one.values) for one in levels))


def compact(codes: NDArray[Any], size: int, valid: NDArray[np.bool_]) -> tuple[NDArray[Any], Codes]:
    """Renumber codes below ``size`` so that only those of valid rows remain, in their order.

    Returns the new codes (E,), and the old code of each new one; see ``tally``.
    """
    renumbered, present, _ = tally(codes, size, valid)
    return renumbered, present


def tally(
    codes: NDArray[Any], size: int, valid: NDArray[np.bool_]
) -> tuple[NDArray[Any], Codes, Codes]:
    """Renumber codes as ``compact``, and count the valid rows of each.

    A table of all codes is used where it is small beside the rows, a sort elsewhere.
    """
    every = bool(valid.all())
    counted = codes if every else codes[valid]
    if size <= 4 * len(codes) + (1 << 16):
        counts = np.bincount(counted, minlength=size)
        if counts.all():
            return codes, np.arange(size), counts
        present = np.flatnonzero(counts)
        renumber = np.zeros(size, np.int64)
        renumber[present] = np.arange(len(present))
        return renumber[codes], present, counts[present]
    present, counts = np.unique(counted, return_counts=True)
    last = max(len(present) - 1, 0)
    return np.minimum(np.searchsorted(present, codes), last), present, counts


def count_shards(rows: int) -> int:
    """Return the shards of a day with so many rows: a power of two, from the rows alone.

    Rows bound stores, and footers tell them before anything is read; memory and workers have no
    say, so the same files always give the same shards.
    """
    count = 1
    while rows > count * SHARD_ROWS:
        count *= 2
    return count


def shard_of(values: pa.Array, shards: int) -> NDArray[np.int32]:
    """Return the shard of each unit id: CRC-32 of its text, the same on every machine.

    Shard counts are powers of two, so shard ``s`` of many lies within shard ``s % few`` of few.
    """
    if shards == 1:
        return np.zeros(len(values), np.int32)
    hashes = [zlib.crc32(str(value).encode()) for value in values.to_pylist()]
    return (np.array(hashes, np.int64) % shards).astype(np.int32)


def all_distinct(values: pa.Array) -> bool:
    """Tell whether no value stands twice."""
    return len(encode_any(values).values) == len(values)


def shared_ids(keys: tuple[Any, ...]) -> int:
    """Count the ids of the last level that stand under more than one parent."""
    if len(keys) == 1:
        return 0
    ids = encode(keys[-1])
    return int((np.bincount(ids.codes, minlength=1) > 1).sum())
