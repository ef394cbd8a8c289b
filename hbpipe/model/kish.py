"""Effective sizes of weighted statistics: how many unweighted events tell as much.

Events of weight w_i add up to weighted sums: Σ w y and Σ w n of trials or an exposure, a weighted
mean and squares of values, estimates of precision Σ w/v. Their rate is the weighted one, but as
counts they claim more or less than is there: the variance of the rate is V Σ w²n/(Σ w n)², with V
that of one unit of size, and not V/Σ w n. So all sizes are multiplied by Kish's factor
(Kish 1965, *Survey Sampling*, section 11.7)

    c = Σ w n / Σ w² n,        c Σ w n = (Σ w n)²/Σ w² n ≤ Σ n,

after which rate and variance are those of c Σ w n independent units: for normal means exactly, for
counts in the first two moments. Of values, E Σ w (x − x̄)² = σ² (Σ w n − Σ w² n/Σ w n), so the
squares times c have c Σ w n − 1 degrees of freedom. The factor has no unit: weights that are all
multiplied by a number give the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.statistics import Effective

#: Effective counts lie on this grid: those of parts and of the whole are exact to each other, and
#: equal numbers stay equal, of which the sketch of the likelihood keeps one.
_GRID = 2.0**-30

#: The number of independent units behind a rate or a mean, by family, (J,).
_SIZES: dict[str, Callable[[Statistics], NDArray[Any]]] = {
    "beta_binomial": lambda s: s["trials"],
    "dirichlet_multinomial": lambda s: s["counts"].sum(axis=1),
    "gamma_poisson": lambda s: s["exposure"],
    "normal": lambda s: s["n"],
    "normal_inverse_gamma": lambda s: s["n"],
    "normal_known_variance": lambda s: 1.0 / np.asarray(s["variance"], np.float64),
}


def can_weigh(family: Family) -> bool:
    """Whether events of a family may have weights: its size is one number."""
    return family.name in _SIZES


def size_of(family: Family, statistics: Statistics) -> Array:
    """Return the size of each store, (J,): trials, events, exposure, values, or precision.

    Raises
    ------
    FitError
        If the family has no such number: with predictors each coefficient has its own.
    """
    if not can_weigh(family):
        raise FitError(
            f"{family.name} has no effective size",
            expected=f"one of {', '.join(_SIZES)}",
            remedy="fit it without weights or a decay",
        )
    return np.asarray(_SIZES[family.name](statistics), np.float64)


def scaled(family: Family, statistics: Statistics, factor: Any) -> dict[str, Array]:
    """Multiply the sizes of stores, (J,), by a factor or one each; rates and means stay."""
    found, weight = {}, np.asarray(factor, np.float64)
    for kind in family.statistics:
        values = np.asarray(statistics[kind.name], np.float64)
        by = weight.reshape(weight.shape + (1,) * (values.ndim - 1)) if weight.ndim else weight
        if kind.merge == "precision":
            found[kind.name] = values / by if kind.name == "variance" else values
        else:
            found[kind.name] = values if kind.name == "mean" else values * by
    return found


class WeightedSums:
    """Weighted statistics of ``n_stores`` stores, part by part, and Σ w² n of each.

    Floats are added in the order in which parts come: the sums of a store depend on its own
    parts alone.
    """

    def __init__(self, family: Family, n_stores: int) -> None:
        self.family = family
        self.sums: dict[str, Array] = {
            kind.name: np.full((n_stores, *kind.shape), kind.absent, np.float64)
            for kind in family.statistics
        }
        self.squares = np.zeros(n_stores)

    def add(self, stores: Codes, statistics: Statistics, weight: float) -> None:
        """Add a part of some stores, each named once, whose events have one weight."""
        part = scaled(self.family, statistics, weight)
        before = {name: values[stores] for name, values in self.sums.items()}
        merge = _MERGED[self.family.statistics[0].merge]
        for name, values in merge(before, part).items():
            self.sums[name][stores] = values
        self.squares[stores] += weight**2 * size_of(self.family, statistics)

    def effective(self, most: float = np.inf) -> Effective:
        """Return the effective statistics of the stores as they are now; see :func:`effective`."""
        return effective(self.family, self.sums, self.squares, most)


def effective(family: Family, sums: Statistics, squares: Array, most: float = np.inf) -> Effective:
    """Multiply weighted sums by Kish's factor, or by ``most`` where that is less.

    Parameters
    ----------
    family
        One that :func:`can_weigh`.
    sums
        Weighted statistics, name -> (J, ...).
    squares
        Σ w² n of each store, (J,), with the n that is the size of the family.
    most
        The largest factor.

    Returns
    -------
    Effective
        What likelihoods and updates take, counts with fractions.

    Raises
    ------
    FitError
        If the family has no effective size.
    """
    factor = np.minimum(ratio(size_of(family, sums), squares), most)
    found = scaled(family, sums, np.where(factor > 0, factor, 1.0))
    if family.name == "beta_binomial":
        successes = _on_grid(found["successes"])
        failures = _on_grid(found["trials"] - found["successes"])
        return Effective(successes=successes, trials=successes + failures)
    if family.name == "dirichlet_multinomial":
        return Effective(counts=_on_grid(found["counts"]))
    return Effective(found)


def _on_grid(values: Array) -> Array:
    return np.round(np.maximum(values, 0.0) / _GRID) * _GRID


def _added(left: Statistics, right: Statistics) -> dict[str, Array]:
    return {name: left[name] + right[name] for name in left}


def _moments(left: Statistics, right: Statistics) -> dict[str, Array]:
    """Chan, Golub and LeVeque (1983), with sizes that need not be whole."""
    n, apart = left["n"] + right["n"], right["mean"] - left["mean"]
    share = ratio(right["n"], n)
    m2 = left["m2"] + right["m2"] + apart**2 * left["n"] * share
    return {"n": n, "mean": left["mean"] + apart * share, "m2": m2}


def _estimates(left: Statistics, right: Statistics) -> dict[str, Array]:
    """Estimates weighted by precision; an infinite variance says that there is none."""
    one, other = 1.0 / left["variance"], 1.0 / right["variance"]
    precision = one + other
    moved = (right["estimate"] - left["estimate"]) * ratio(other, precision)
    variance = np.where(precision > 0, 1.0 / np.where(precision > 0, precision, 1.0), np.inf)
    return {"estimate": left["estimate"] + moved, "variance": variance}


_MERGED = {"sum": _added, "moments": _moments, "precision": _estimates}
