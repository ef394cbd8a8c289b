"""Clusters of events within units, such as the lines of one household: totals, kept and merged.

A cluster may return on other days, so its totals of a day are kept with the unit's statistics of
that day, and only the window adds them up. They are kept under a 64-bit hash of the cluster's id:
two of a unit's clusters share one with a probability below 1e-7 for a million of them. Of days
with very many rows a sample by hash is kept, the same clusters on every day: overdispersion is
estimated for a pool, and a million totals a day are plenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.batch import Mask
from hbpipe.data.measure import Measured
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import CLUSTERS
from hbpipe.data.units import encode_any
from hbpipe.model.family import Array, Codes

Hashes = NDArray[np.uint64]

#: Rows of a day above which a sample of its clusters is kept.
SAMPLED_ROWS = 1 << 20
_LARGEST_WHOLE_FLOAT = 2.0**53
_ARM_BIT = np.uint64(1 << 63)


@dataclass(frozen=True)
class Clusters:
    """Clusters of units, ordered by unit and key: unit, key, size and total, (R,) each."""

    owner: NDArray[np.int64]
    key: Hashes
    size: Array
    total: Array

    def take(self, rows: Any) -> Clusters:
        """Return some of the clusters."""
        return Clusters(*(column[rows] for column in vars(self).values()))

    def of(self, owners: NDArray[np.int64]) -> Clusters:
        """Return the clusters under other numbers of their units, without those of unit -1."""
        owner = owners[self.owner]
        return Clusters(owner, self.key, self.size, self.total).take(owner >= 0)


NO_CLUSTERS = Clusters(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0), np.empty(0))


def one_in(rows: int) -> int:
    """Return k where one cluster in k is kept of a day with so many rows: a power of two."""
    k = 1
    while rows > k * SAMPLED_ROWS:
        k *= 2
    return k


def sampled(clusters: Clusters, k: int) -> Clusters:
    """Keep one cluster in k, chosen by key: k is a power of two, so samples nest."""
    return clusters if k == 1 else clusters.take(_chosen(clusters.key, k))


def _chosen(keys: Hashes, k: int) -> Mask:
    return np.asarray((keys & np.uint64(k - 1)) == 0)


# --- keys ---------------------------------------------------------------------------------------


def identify(table: pa.Table, columns: Sequence[str]) -> tuple[Hashes, Mask]:
    """Hash the tuple of some columns, (E,); the mask marks rows where none is null or NaN."""
    hashes, known = np.zeros(table.num_rows, np.uint64), np.ones(table.num_rows, np.bool_)
    for name in columns:
        encoded = encode_any(table.column(name))
        values = np.append(_hash(encoded.values), np.uint64(0))  # the last for null, code -1
        hashes = _mix(hashes * np.uint64(0x9E3779B97F4A7C15) + values[encoded.codes])
        known &= np.append(_is_known(encoded.values), False)[encoded.codes]
    return hashes, known


def _is_known(values: pa.Array) -> Mask:
    if pa.types.is_floating(values.type):
        return np.asarray(~np.isnan(values.to_numpy(zero_copy_only=False)))
    return np.ones(len(values), np.bool_)


def _hash(values: pa.Array) -> Hashes:
    """Hash distinct values; whole numbers are the same id in every type of number."""
    kind = values.type
    if pa.types.is_uint64(kind):
        return _mix(values.to_numpy())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return _mix(values.cast(pa.int64()).to_numpy().view(np.uint64))
    if pa.types.is_floating(kind):
        numbers = values.cast(pa.float64()).to_numpy()
        with np.errstate(invalid="ignore"):
            whole = (numbers == np.rint(numbers)) & (np.abs(numbers) <= _LARGEST_WHOLE_FLOAT)
        as_integers = np.where(whole, numbers, 0.0).astype(np.int64)
        return _mix(np.where(whole, as_integers, numbers.view(np.int64)).view(np.uint64))
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _hash_text(values.cast(pa.large_binary()))
    return _hash_text(values.cast(pa.large_string()))


def _hash_text(values: pa.Array) -> Hashes:
    """FNV-1a of the bytes (Fowler, Noll and Vo), byte by byte for all values at once."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    data = np.frombuffer(data if data is not None else b"", np.uint8)
    length = np.diff(ends)
    hashes = np.full(len(values), 0xCBF29CE484222325, np.uint64)
    for place in range(int(length.max(initial=0))):
        live = np.flatnonzero(length > place)
        byte = data[ends[live] + place].astype(np.uint64)
        hashes[live] = (hashes[live] ^ byte) * np.uint64(0x100000001B3)
    return _mix(hashes)


def _mix(hashes: Hashes) -> Hashes:
    """Spread over all bits: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(hashes ^ (hashes >> np.uint64(31)))


def in_arm(keys: Hashes, arm: NDArray[np.int64]) -> Hashes:
    """Put the arm, 0 or 1, into the first bit of keys; samples go by the last ones."""
    return (keys & ~_ARM_BIT) | (arm.astype(np.uint64) << np.uint64(63))


def of_arm(clusters: Clusters, arm: int) -> Clusters:
    """Return the clusters of an arm."""
    return clusters.take((clusters.key >> np.uint64(63)) == np.uint64(arm))


# --- totals -------------------------------------------------------------------------------------


class ClusterKeys:
    """The clusters of some events, each set of columns hashed once; one in ``k`` is kept."""

    def __init__(self, table: pa.Table, k: int) -> None:
        self._table, self._k = table, k
        self._keys: dict[tuple[str, ...], tuple[Hashes, Mask]] = {}

    def of(self, columns: tuple[str, ...]) -> tuple[Hashes, Mask]:
        """Return the key of each row, and the rows that have one that is kept."""
        if columns not in self._keys:
            keys, known = identify(self._table, columns)
            self._keys[columns] = keys, known & _chosen(keys, self._k)
        return self._keys[columns]


class ClusterTotals:
    """The clusters of one metric, gathered over the stretches of a piece."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._codes: list[Codes] = []
        self._keys: list[Hashes] = []
        self._values: list[dict[str, NDArray[Any]]] = []

    def add(self, found: Measured, codes: Codes, keys: ClusterKeys) -> None:
        """Add what the metric measured, by cluster and the cell (E,) of each row.

        A row without a key says nothing of clusters and stays out. What a cluster has in each arm
        of an experiment is a cluster of its own.
        """
        hashes, kept = keys.of(self._metric.cells.clusters)
        kept = kept[found.rows]
        rows = found.rows[kept]
        self._codes.append(codes[rows])
        values = {role: column[kept] for role, column in found.values.items()}
        arm = values.pop("arm", None)
        self._keys.append(hashes[rows] if arm is None else in_arm(hashes[rows], arm))
        self._values.append(values)

    def totals(self, cells: Codes) -> Clusters:
        """Return the totals of clusters; ``cells`` are the numbers of those that were added."""
        metric, family = self._metric, self._metric.of_one_arm
        codes = cells[np.concatenate(self._codes)]
        inverse, owner, key = _pairs(codes, np.concatenate(self._keys))
        values = {
            role: np.concatenate([one[role] for one in self._values]) for role in self._values[0]
        }
        if metric.calendar is not None:
            values["exposure"] = np.zeros(len(codes))
        assert family.dispersion is not None  # parse_metric refuses clusters of other families
        size, total = family.dispersion.cells(family.summarise(values, inverse, len(owner)))
        return Clusters(owner, key, size, total)


def merge_clusters(parts: Sequence[Clusters]) -> Clusters:
    """Add up clusters of the same units, in the order of the parts."""
    owner, key, size, total = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("owner", "key", "size", "total")
    )
    inverse, owner, key = _pairs(owner, key)
    sums = (np.bincount(inverse, column, len(owner)) for column in (size, total))
    return Clusters(owner, key, *(column.astype(np.float64, copy=False) for column in sums))


def _pairs(owner: Codes, key: Hashes) -> tuple[Codes, NDArray[np.int64], Hashes]:
    """Return the number of each row's (owner, key) pair in their order, and the pairs."""
    order = np.lexsort((key, owner))
    owner, key = owner[order], key[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (owner[1:] != owner[:-1]) | (key[1:] != key[:-1])
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(begins) - 1
    return codes, owner[begins].astype(np.int64), key[begins]


# --- columns of the lake ------------------------------------------------------------------------


def to_columns(clusters: Clusters, n_units: int) -> dict[str, pa.Array]:
    """Turn clusters into one list per unit, by column."""
    offsets = np.searchsorted(clusters.owner, np.arange(n_units + 1))
    values = (clusters.key.view(np.int64), clusters.size, clusters.total)
    return {
        name: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(column))
        for name, column in zip(CLUSTERS, values, strict=True)
    }


def from_columns(table: pa.Table, codes: Codes) -> Clusters:
    """Turn the lists of some rows back into clusters, not merged; ``codes`` (R,) are the owners."""
    lists = [table.column(name).combine_chunks() for name in CLUSTERS]
    lengths = np.asarray(lists[0].value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    key, size, total = (column.flatten().to_numpy(zero_copy_only=False) for column in lists)
    return Clusters(np.repeat(codes, lengths), key.view(np.uint64), size, total)


def fold_clusters(before: Clusters, table: pa.Table, codes: Codes, k: int) -> Clusters:
    """Add rows of the lake, of the units with these codes (R,), to what was folded before."""
    return merge_clusters([before, sampled(from_columns(table, codes), k)])
