"""Stores that their pool does not expect: mixed predictive p-values, by their false discovery rate.

A store's p-value is two-sided, about the leave-one-out predictive distribution (Marshall and
Spiegelhalter 2007, *Bayesian Analysis* 2). Those at or below a pool's line are *outliers*: of all
stores so named a twentieth are there by chance, or fewer (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Codes

#: The false discovery rate: a p-value above it is never an outlier's.
RATE = 0.05


def outlier_lines(p: Array, pools: Codes, stores: Array) -> tuple[Array, NDArray[np.int64]]:
    """Find the line of each pool, and how many stores are at or below it.

    Parameters
    ----------
    p, pools
        (N,) the p-values that are at most ``RATE``, and their pools.
    stores
        (G,) how many stores each pool has in all.

    Returns
    -------
    (G,) the largest p-value that is an outlier's, 0 where there is none; (G,) outliers.
    """
    order = np.lexsort((p, pools))
    p, pools = p[order], np.asarray(pools)[order]
    rank = np.arange(len(p)) - np.searchsorted(pools, pools) + 1
    line, count = np.zeros(len(stores)), np.zeros(len(stores), np.int64)
    below = p * stores[pools] <= RATE * rank
    np.maximum.at(line, pools[below], p[below])
    np.maximum.at(count, pools[below], rank[below])
    return line, count


def usual_outliers(probability: float) -> int:
    """How many outliers chance exceeds in a pool with a probability.

    Where the model holds for all of many stores, k of them fall below the line with probability
    (1 − q)(kq)^k e^(−kq)/k!, q the rate (Finner and Roters 2002, *Annals of Statistics* 30).
    """
    k = np.arange(1, 200)
    log_mass = k * np.log(k * RATE) - k * RATE - special.gammaln(k + 1.0)
    mass = (1.0 - RATE) * np.exp(log_mass)
    beyond = np.concatenate([np.cumsum(mass[::-1])[::-1], [0.0]])
    return int(np.argmax(beyond <= probability))
