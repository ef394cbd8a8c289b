"""Error rates over many stores: s-values, and p-values adjusted for the false discovery rate.

Both sort the stores of each pool, and so give the same bits in whatever order these come.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes


def s_values(false_sign_rates: Array, pools: Codes) -> Array:
    """Give each store the mean of all false sign rates of its pool that are at most its own.

    Of the stores whose s-value is at most α, a share of about α has the other sign than it seems
    to have (Stephens 2017, "False discovery rates: a new deal", Biostatistics 18, section 2.3).

    Parameters
    ----------
    false_sign_rates
        (J,), NaN where a store has none.
    pools
        (J,) the pool of each store.

    Returns
    -------
    (J,), NaN where a store has no rate.
    """
    out = np.full(len(pools), np.nan)
    for rows in _sorted(false_sign_rates, pools):
        rates = false_sign_rates[rows]
        upto = np.searchsorted(rates, rates, side="right")
        out[rows] = np.cumsum(rates)[upto - 1] / upto
    return out


def adjusted_p_values(p: Array, pools: Codes) -> Array:
    """Adjust the p-values of each pool for the false discovery rate.

    The k-th smallest of m becomes the least of m p/k over it and all greater ones (Benjamini and
    Hochberg 1995; as an adjusted value Yekutieli and Benjamini 1999).

    Parameters
    ----------
    p
        (J,), NaN where a store has none; such stores do not count.
    pools
        (J,) the pool of each store.

    Returns
    -------
    (J,), at most 1, NaN where a store has none.
    """
    out = np.full(len(pools), np.nan)
    for rows in _sorted(p, pools):
        scaled = p[rows] * (len(rows) / np.arange(1.0, len(rows) + 1.0))
        out[rows] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return out


def _sorted(values: Array, pools: Codes) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each pool that have a value, by their values."""
    rows = np.flatnonzero(~np.isnan(values))
    rows = rows[np.lexsort((values[rows], pools[rows]))]
    cuts = np.flatnonzero(np.diff(pools[rows])) + 1
    return (part for part in np.split(rows, cuts) if len(part))
