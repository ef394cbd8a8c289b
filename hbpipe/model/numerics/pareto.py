"""Pareto k̂, which says whether averages with importance weights are to be trusted."""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array

#: Above this an average over weighted points is not reliable (Vehtari et al. 2024).
LIMIT = 0.7
#: Weight, in observations, and value of the prior on k̂ (Vehtari et al. 2024, appendix G).
_PRIOR_SIZE, _PRIOR_SHAPE = 10.0, 0.5


def pareto_k(weight: Array) -> float:
    """Shape k̂ of a generalised Pareto law fitted to the largest of the weights (S,).

    The tail has min(S/5, 3 √S) weights. Zero where they are all equal: bounded weights.
    """
    ordered = np.sort(weight)
    tail = int(min(len(ordered) // 5, 3.0 * np.sqrt(len(ordered))))
    excess = ordered[len(ordered) - tail :] - ordered[len(ordered) - tail - 1]
    if tail < 5 or not excess[-1] > 1e-9 * ordered[-1]:
        return 0.0
    return float((tail * _shape(excess) + _PRIOR_SIZE * _PRIOR_SHAPE) / (tail + _PRIOR_SIZE))


def _shape(excess: Array) -> float:
    """Shape of the generalised Pareto law by Zhang and Stephens (2009); ``excess`` ascends."""
    size = len(excess)
    grid = 30 + int(np.sqrt(size))
    quartile = excess[max(int(size / 4.0 + 0.5) - 1, 0)]
    quartile = max(quartile, 1e-12 * excess[-1])
    inverse_scale = 1.0 / excess[-1] + (1.0 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (
        3.0 * quartile
    )
    shape = np.mean(np.log1p(-inverse_scale[:, None] * excess), axis=1)
    profile = size * (np.log(-inverse_scale / shape) - shape - 1.0)
    share = np.exp(profile - np.max(profile))
    estimate = np.sum(share * inverse_scale) / np.sum(share)
    return float(np.mean(np.log1p(-estimate * excess)))
