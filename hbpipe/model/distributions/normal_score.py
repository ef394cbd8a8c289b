"""Cdfs of Beta and Student's laws that are round, by a normal score: five to ten times faster.

Of a Beta law, with p = x, q = 1 − x, n = a + b − 1, S = a − ½ and T = b − ½, the cdf is Φ(−z),

    z = d/|S − np| · √(2 [S log(S/(np)) + T log(T/(nq))] / (1 + 1/(6n)))
    d = a − ⅓ − (n + ⅓) p + 0.02 [q/a − p/b + (q − ½)/(n + 1)]

(Peizer and Pratt 1968, *Journal of the American Statistical Association* 63); of Student's Φ of the
law's ``score`` (Wallace 1959).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from hbpipe.model.distributions.laws import BETA, STUDENT_T, Law, Parameters
from hbpipe.model.family import Array

#: Both shapes, or degrees of freedom, of at least this are round: a cdf is within 1e-4, and tails
#: down to 1e-6 are within an eighth of themselves; of Beta laws 4e-5, and 3 %.
ROUND = 10.0
#: So near the centre, in sds, the root over |S − np| is its limit.
_CENTRE = 1e-4


def quick_cdf(law: Law, parameters: Parameters, x: Array) -> Array:
    """Cdf of a law, broadcast: by the score where it is round, exact elsewhere."""
    if law is BETA:
        a, b, x = np.broadcast_arrays(*parameters, np.clip(x, 0.0, 1.0))
        found = special.ndtr(-beta_score(np.maximum(a, ROUND), np.maximum(b, ROUND), x))
        return _exact_where(np.minimum(a, b) < ROUND, special.betainc, found, a, b, x)
    if law is STUDENT_T:
        freedom, location, scale, x = np.broadcast_arrays(*parameters, x)
        found = special.ndtr(law.score(np.maximum(freedom, ROUND), location, scale, x))
        t = (x - location) / scale
        return _exact_where(freedom < ROUND, special.stdtr, found, freedom, t)
    return np.asarray(law.cdf(*parameters, x))


def _exact_where(rows: Any, cdf: Any, found: Array, *arguments: Array) -> Array:
    return np.asarray(cdf(*arguments, where=rows, out=found))


def beta_score(a: Array, b: Array, x: Array) -> Array:
    """Return z, broadcast, of shapes of at least ``ROUND``; that of 1 − x with b and a is −z."""
    p = np.clip(x, 1e-300, 1.0 - 1e-16)
    q, n = 1.0 - p, a + b - 1.0
    successes, failures = n * p, n * q
    apart = (a - 0.5) - successes
    # From the differences, so that large logarithms do not cancel.
    halved = (a - 0.5) * np.log1p(apart / successes) + (b - 0.5) * np.log1p(-apart / failures)
    sd = np.sqrt(successes * q)
    central = np.abs(apart) < _CENTRE * sd
    slope = np.sqrt(2.0 * np.maximum(halved, 0.0)) / np.where(central, 1.0, np.abs(apart))
    corrected = a - 1.0 / 3.0 - (n + 1.0 / 3.0) * p + 0.02 * (q / a - p / b + (q - 0.5) / (n + 1.0))
    return np.asarray(corrected * np.where(central, 1.0 / sd, slope) / np.sqrt(1.0 + 1.0 / (6 * n)))
