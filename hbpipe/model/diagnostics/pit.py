"""The probability integral transform of stores: where each lies in what the others predict of it.

Under the model it is uniform. Of a count it is an interval, [P(Y < y), P(Y ≤ y)]: the store is
spread evenly over it and not put anywhere by chance (Czado, Gneiting and Held 2009, *Biometrics*
65), so there is no randomisation that a store's id would have to seed. The expectation of any
function of a uniform variable is then kept exactly.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.diagnostics.tails import Tails
from hbpipe.model.family import Array

#: Bins of the histogram.
BINS = 10
#: Legendre polynomials of the smooth test, of degree 1 to this.
DEGREE = 4
#: Intervals shorter than this are points.
_POINT = 1e-12
#: The Gauss rule of three nodes on (0, 1): exact for polynomials of degree 5.
_NODES = 0.5 + np.sqrt(0.15) * np.array([-1.0, 0.0, 1.0])
_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0


def covered(tails: Tails, low: float, high: float) -> Array:
    """Share of each store that lies between two levels, (J,).

    Under the model it is high − low, on average.
    """
    start, end = tails.below, 1.0 - tails.above
    width = np.maximum(end - start, _POINT)

    def up_to(level: float) -> Array:
        return np.clip((level - start) / width, 0.0, 1.0)

    return up_to(high) - up_to(low)


def histogram(tails: Tails) -> Array:
    """How each store is spread over the bins, (J, BINS): rows add up to one."""
    edges = np.arange(BINS + 1) / BINS
    # What lies at an end of (0, 1) belongs to the bin there.
    edges[0], edges[-1] = -1.0, 2.0
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return np.stack([covered(tails, low, high) for low, high in pairs], axis=1)


def components(tails: Tails) -> Array:
    """Means of the normalised Legendre polynomials over each store's interval, (J, DEGREE).

    Under the model each has mean 0. Those of degree 1 to 4 show a shift, a spread that is too wide
    or too narrow, skewness, and heavy tails (Neyman 1937; Rayner, Thas and Best 2009, *Smooth Tests
    of Goodness of Fit*).
    """
    start, end = tails.below, 1.0 - tails.above
    out = np.zeros((len(start), DEGREE))
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        t = 2.0 * (start + (end - start) * node) - 1.0
        square = t * t
        out[:, 0] += weight * np.sqrt(3.0) * t
        out[:, 1] += weight * np.sqrt(5.0) * 0.5 * (3.0 * square - 1.0)
        out[:, 2] += weight * np.sqrt(7.0) * 0.5 * t * (5.0 * square - 3.0)
        out[:, 3] += weight * 0.375 * (35.0 * square * square - 30.0 * square + 3.0)
    return out
