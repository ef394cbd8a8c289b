"""Stores of one pool with equal statistics, whose posteriors are equal too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Codes, Statistics

#: From this share of distinct stores on, putting equal ones together does not pay.
_MOST = 0.8
_LARGEST = 2**62


def alike(
    statistics: Statistics, pools: Codes
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Find stores with equal statistics in the same pool, where these are counts.

    Returns
    -------
    One store of each kind, and (J,) the kind of each store; None where statistics are not whole
    numbers, or nearly all stores are of a kind of their own.
    """
    code, bound = np.asarray(pools, np.int64), int(np.max(pools, initial=0)) + 1
    for values in statistics.values():
        whole = _whole(np.asarray(values))
        if whole is None:
            return None
        width = int(np.max(whole, initial=0)) + 1
        if width * bound > _LARGEST:
            return None
        code, bound = code * width + whole, bound * width
    stores, kind = _kinds(code, bound)
    return None if len(stores) > _MOST * len(code) else (stores, kind)


def _whole(values: NDArray[np.generic]) -> NDArray[np.int64] | None:
    """Return whole numbers that are not negative, one for each store; None for anything else."""
    if values.ndim != 1 or (values.dtype.kind == "f" and not np.all(np.abs(values) < 2.0**53)):
        return None
    whole = values.astype(np.int64)
    return whole if np.array_equal(whole, values) and np.min(whole, initial=0) >= 0 else None


def _kinds(code: NDArray[np.int64], bound: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if bound > 4 * len(code):
        _, stores, kind = np.unique(code, return_index=True, return_inverse=True)
        return stores, kind
    # A table of all that may occur is several times faster than sorting.
    present = np.zeros(bound, bool)
    present[code] = True
    kind = (np.cumsum(present) - 1)[code]
    stores = np.empty(int(np.count_nonzero(present)), np.int64)
    stores[kind] = np.arange(len(code))
    return stores, kind
