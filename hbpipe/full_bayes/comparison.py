"""What was published beside full Bayes, store by store; the worst store decides.

Limits are net of Monte Carlo error: each is raised by ``ALLOWED_ERRORS`` standard errors of the
sampler, so an audit by few draws finds less but never cries wolf.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.full_bayes.answer import Answer

Array = NDArray[np.float64]

#: |Δ mean|/sd. First order, which ``auto`` takes where the spread is well determined, moves limits
#: by 0.08 sd at most (hbpipe/model/README.md); beyond 0.1 sd a store is not where it should be.
MEAN_MOVED = 0.1
#: The larger sd over the smaller. A tenth more or less takes 0.02 from the coverage of a 90 %
#: interval, or adds it.
SD_RATIO = 1.1
#: Length that both intervals cover over length that either does. Both limits of a 90 % interval
#: moved by 0.1 sd leave 0.94; one that is a tenth too short is at 0.9.
INTERVAL_OVERLAP = 0.9
#: Of each standard error: beyond four lies one store in 16,000 by chance.
ALLOWED_ERRORS = 4.0
#: A ratio of sds is shown as this where it is larger, or infinite.
_LARGEST_RATIO = 1e6


@dataclass(frozen=True)
class Published:
    """Posteriors as released: (J, T) each; the two quantiles are those of the answer."""

    mean: Array
    sd: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Comparison:
    """One measure of agreement, of the store and term where it is worst.

    ``agrees`` says on which side of ``threshold`` the ``value`` lies; ``store`` and ``term`` are
    numbers.
    """

    name: str
    value: float
    threshold: float
    agrees: bool
    store: int
    term: int


def compare(published: Published, answer: Answer) -> list[Comparison]:
    """Compare mean, sd and interval of every store with full Bayes."""
    moved = np.abs(published.mean - answer.mean) / answer.sd
    least = np.minimum(published.sd, answer.sd)
    # A posterior without width, as of a plug-in at no spread, is off by any factor.
    spread = np.maximum(published.sd, answer.sd) / np.maximum(least, answer.sd / _LARGEST_RATIO)
    width = answer.high - answer.low
    overlap = _overlap(published, answer)
    error = answer.error
    by_chance = ALLOWED_ERRORS * (error["low"] + error["high"]) / width
    return [
        _worst("mean_moved", moved, MEAN_MOVED + ALLOWED_ERRORS * error["mean"] / answer.sd),
        _worst("sd_ratio", spread, SD_RATIO + ALLOWED_ERRORS * error["sd"] / answer.sd),
        _worst("interval_overlap", overlap, INTERVAL_OVERLAP - by_chance, least=True),
    ]


def _overlap(published: Published, answer: Answer) -> Array:
    both = np.minimum(published.high, answer.high) - np.maximum(published.low, answer.low)
    either = np.maximum(published.high, answer.high) - np.minimum(published.low, answer.low)
    return np.asarray(np.maximum(both, 0.0) / either)


def _worst(name: str, values: Array, limits: Array, *, least: bool = False) -> Comparison:
    """Return the store and term furthest beyond their limit, or nearest to it."""
    room = (values - limits) if least else (limits - values)
    store, term = np.unravel_index(int(np.argmin(room)), room.shape)
    value, limit = float(values[store, term]), float(limits[store, term])
    return Comparison(name, value, limit, bool(room[store, term] >= 0), int(store), int(term))
