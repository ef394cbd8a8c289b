"""The fixed components of a nonparametric prior: a grid of locations and a few spreads.

Locations and spreads are on the line of the family's link (the value itself, the logit of a rate,
the logarithm of an intensity). The smallest spread is that of a kernel density estimate of the
stores' raw estimates, by the normal reference rule (Silverman 1986, section 3.4.2),

    h = 1.06 A J^(−1/5),

with A the smaller one of the sd and of the sd of a normal law whose shortest half is as short
(Rousseeuw and Leroy 1987, section 4.4, with their correction for few values 1 + 5/(J − 1)): two
kinds of stores far apart do not make it wide. A is no less than the median sampling sd. J stores
tell no more of the shape of their prior than of its density, and narrower laws let single stores
have a law each, whose intervals are too narrow.

Further spreads are three times as wide each, up to half of the range of the estimates, so that a
smooth prior takes few components (scales as in Stephens 2017, *Biostatistics* 18). Locations are
one and a half spreads apart, from the median on, wherever a raw estimate is near.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from hbpipe.model.family import Array, Prior, Statistics

#: Silverman's factor, and the length of the shortest half of a normal law in sds.
_RULE, _HALF = 1.06, 1.349
#: A spread in those of the next smaller one, and locations in spreads apart.
_FACTOR, _APART = 3.0, 1.5
#: The largest spread on a logit or logarithm: a Gamma law of shape 1/9, most of which lies next to
#: nothing, as the prior of rare events does.
_LARGEST = 3.0


@dataclass(frozen=True)
class _Line:
    """A family on the line of its link.

    Parameters
    ----------
    place
        Statistics -> raw estimates on the line and their sampling sds, (R,) each, finite.
    law
        (locations, spreads), (K,) each -> the conjugate laws about there, by the prior's names.
    largest
        The largest spread.
    """

    place: Callable[[Statistics], tuple[Array, Array]]
    law: Callable[[Array, Array], Prior]
    largest: float = np.inf


def components(family: str, statistics: Statistics, counts: Array) -> Prior:
    """Choose the components for the stores of one pool.

    Parameters
    ----------
    family
        Its name.
    statistics
        name -> (R,) of the distinct stores with data.
    counts
        (R,) how many stores each stands for.

    Returns
    -------
    Parameters of the conjugate laws, name -> (K,): by spread, then by location.
    """
    line = LINES[family]
    at, noise = line.place(statistics)
    spread = min(_smallest(at, noise, counts), line.largest)
    centre, width = _quantile(at, counts, 0.5), 0.5 * float(np.ptp(at))
    locations, spreads = [], []
    while True:
        apart = _APART * spread
        cells = np.unique(np.rint((at - centre) / apart))
        locations.append(centre + apart * cells)
        spreads.append(np.full(len(cells), spread))
        if spread >= min(width, line.largest):
            break
        spread = min(_FACTOR * spread, line.largest)
    return line.law(np.concatenate(locations), np.concatenate(spreads))


def _smallest(at: Array, noise: Array, counts: Array) -> float:
    """Return the bandwidth h."""
    stores = float(np.sum(counts))
    mean = np.sum(counts * at) / stores
    sd = float(np.sqrt(np.sum(counts * np.square(at - mean)) / stores))
    half = _shortest_half(at, counts) / _HALF * (1.0 + 5.0 / max(stores - 1.0, 1.0))
    return _RULE * max(min(sd, half), _quantile(noise, counts, 0.5)) / float(stores**0.2)


def _shortest_half(values: Array, counts: Array) -> float:
    """Return the length of the shortest interval with more than half of the stores."""
    order = np.argsort(values, kind="stable")
    every = np.repeat(values[order], counts[order].astype(np.int64))
    within = len(every) // 2
    return float(np.min(every[within:] - every[: len(every) - within]))


def _quantile(values: Array, counts: Array, level: float) -> float:
    """Return the smallest value that a share ``level`` of the stores does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(reached, level * reached[-1])])


def _rates(statistics: Statistics) -> tuple[Array, Array]:
    """Empirical logits, half an event inside (0, 1) (Haldane 1956; Anscombe 1956)."""
    y = np.asarray(statistics["successes"], np.float64) + 0.5
    rest = np.asarray(statistics["trials"], np.float64) + 1.0 - y
    return np.log(y) - np.log(rest), np.sqrt(1.0 / y + 1.0 / rest)


def _beta(location: Array, spread: Array) -> Prior:
    """Beta laws of this mean whose logit has about this sd, 1/√(M μ(1 − μ))."""
    size = np.square(1.0 / spread)
    return {"alpha": size / special.expit(-location), "beta": size / special.expit(location)}


def _intensities(statistics: Statistics) -> tuple[Array, Array]:
    y = np.asarray(statistics["count"], np.float64) + 0.5
    return np.log(y) - np.log(np.asarray(statistics["exposure"], np.float64)), 1.0 / np.sqrt(y)


def _gamma(location: Array, spread: Array) -> Prior:
    """Gamma laws of this mean whose logarithm has about this sd, 1/√shape."""
    shape = np.square(1.0 / spread)
    return {"shape": shape, "rate": shape * np.exp(-location)}


def _estimates(statistics: Statistics) -> tuple[Array, Array]:
    variance = np.asarray(statistics["variance"], np.float64)
    return np.asarray(statistics["estimate"], np.float64), np.sqrt(variance)


LINES = {
    "beta_binomial": _Line(_rates, _beta, _LARGEST),
    "gamma_poisson": _Line(_intensities, _gamma, _LARGEST),
    "normal_known_variance": _Line(_estimates, lambda mu, tau: {"mu": mu, "tau": tau}),
}
