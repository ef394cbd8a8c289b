"""Units as integer codes: every sum goes by code, never by string."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.events import SHARD_ROWS, level_type

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """A level column as codes (E,), -1 where null, into its distinct values."""

    codes: Codes
    values: pa.Array


@dataclass(frozen=True)
class Units:
    """Units found: a code (E,) per row, and the level values (one array per level) per code."""

    codes: Codes
    keys: tuple[pa.Array, ...]

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.keys[-1])


def encode(column: pa.ChunkedArray | pa.Array) -> Encoded:
    """Encode a level column of text or whole numbers, as the type that levels are stored with."""
    stored = level_type(column.type)
    if not pa.types.is_dictionary(column.type):
        return encode_any(column.cast(stored))
    encoded = encode_any(column)
    return Encoded(encoded.codes, encoded.values.cast(stored))


def encode_any(column: pa.ChunkedArray | pa.Array) -> Encoded:
    """Encode a column of any type that Arrow can hash."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if not pa.types.is_dictionary(chunked.type):
        chunked = chunked.dictionary_encode()
    if chunked.num_chunks == 0:
        return Encoded(np.empty(0, np.int64), pa.array([], chunked.type.value_type))
    whole = chunked.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    indices = whole.indices.cast(pa.int64())
    codes = (indices.fill_null(-1) if indices.null_count else indices).to_numpy()
    return Encoded(codes, whole.dictionary)


def find_units(levels: list[Encoded], valid: NDArray[np.bool_]) -> Units:
    """Give each valid row the code of its unit: the tuple of all its levels.

    Where each value of the last level stands under one parent only, its own code will do; that
    is checked on every row, and where it does not hold the tuples themselves are coded.
    Rows that are not valid get a code that means nothing.
    """
    finest = levels[-1]
    parents = [_parents(finest, level, valid) for level in levels[:-1]]
    if all(parent is not None for parent in parents):
        keys = [
            _take(level.values, parent)
            for level, parent in zip(levels, parents, strict=False)
            if parent is not None
        ]
        return Units(np.maximum(finest.codes, 0), (*keys, finest.values))
    return _tuples(levels, valid)


def _parents(finest: Encoded, level: Encoded, valid: NDArray[np.bool_]) -> Codes | None:
    """Return the parent's code of each finest value, or None where one has several."""
    units, above = finest.codes, level.codes
    if not valid.all():
        units, above = units[valid], above[valid]
    parents = np.full(len(finest.values), -1, np.int64)
    parents[units] = above
    return parents if np.array_equal(parents[units], above) else None


def _take(values: pa.Array, codes: Codes) -> pa.Array:
    return values.take(pa.array(codes, mask=codes < 0))


def _tuples(levels: list[Encoded], valid: NDArray[np.bool_]) -> Units:
    """Code the tuples themselves, level by level so that no product of sizes can overflow."""
    codes, size = np.zeros(len(valid), np.int64), 1
    for level in levels:
        width = len(level.values)
        joint = codes * width + np.maximum(level.codes, 0)
        codes, present = compact(joint, size * width, valid)
        size = len(present)
    rows = np.flatnonzero(valid)
    example = np.empty(size, np.int64)
    example[codes[rows]] = rows
    return Units(codes, tuple(_take(level.values, level.codes[example]) for level in levels))


def compact(codes: Codes, size: int, valid: NDArray[np.bool_]) -> tuple[Codes, Codes]:
    """Renumber codes below ``size`` so that only those of valid rows remain, in their order.

    Returns the new codes (E,), and the old code of each new one. A table of all codes is used
    where it is small beside the rows, a sort elsewhere.
    """
    if size <= 4 * len(codes) + (1 << 16):
        seen = np.zeros(size, np.bool_)
        seen[codes[valid]] = True
        present = np.flatnonzero(seen)
        renumber = np.cumsum(seen) - 1
        return np.maximum(renumber[codes], 0), present
    present = np.unique(codes[valid])
    return np.minimum(np.searchsorted(present, codes), max(len(present) - 1, 0)), present


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


def shared_ids(keys: tuple[Any, ...]) -> int:
    """Count the ids of the last level that stand under more than one parent."""
    if len(keys) == 1:
        return 0
    ids = encode(keys[-1])
    return int((np.bincount(ids.codes, minlength=1) > 1).sum())
