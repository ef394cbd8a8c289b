"""What families say of data and of posteriors: records that pass through the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hbpipe.model.family import Array


@dataclass(frozen=True)
class Degeneracy:
    """A shape of the data that leaves some coordinates without an interior estimate.

    Parameters
    ----------
    status
        The word that a fit of such a pool reports.
    pools
        Which pools are concerned, (G,) bool.
    limit
        (G, D): the coordinates at which the likelihood attains or approaches its supremum, NaN
        where the data determine the coordinate as usual.
    identified
        Whether that limit is the only one. If not, the data say nothing about these coordinates
        and the limit is merely a representative that must not pass for an estimate.
    found, remedy
        What the reader is told.
    unless
        Hyperparameters; holding any one of them makes the rest estimable, and nothing is wrong.
    prior_helps
        Whether a hyperprior may make them estimable: not where it is about others.
    """

    status: str
    pools: NDArray[np.bool_]
    limit: Array
    identified: bool
    found: str
    remedy: str
    unless: tuple[str, ...] = ()
    prior_helps: bool = True


@dataclass(frozen=True)
class Description:
    """Summary of posteriors of any shape (J, ...).

    ``mean`` and ``sd`` have the posteriors' shape, ``quantiles`` one more axis (..., Q), and
    ``cdf`` takes points that broadcast against that shape. ``covariance`` (J, P, P) is that of a
    vector's elements, or a function that gives it where there may be hundreds; None for single
    numbers and predictions.
    """

    mean: Array
    sd: Array
    quantiles: Array
    cdf: Callable[[Any], Array]
    covariance: Array | Callable[[], Array] | None = None


def given(covariance: Array | Callable[[], Array] | None) -> Array | None:
    """Return a covariance, computed now where it had not been asked for."""
    return covariance() if callable(covariance) else covariance


@dataclass(frozen=True)
class Pearson:
    """How far stores lie from the location, by pool, (G,) each.

    With w the precision of a store's raw value given θ, in units of its variance function:
    ``square`` is Pearson's X² = Σ w (raw − location)²; a spread s raises its expectation to
    Σ (1 + c s)(1 − leverage). ``growth`` is Σ c, ``leverage`` Σ c times the information of the
    store about the location (McCullagh and Nelder 1989, section 4.5; Williams 1982).
    """

    square: Array
    growth: Array
    leverage: Array


@dataclass(frozen=True)
class Regression:
    """What covariates on the prior mean need to know of a family.

    Parameters
    ----------
    link
        Name of the line on which coordinate 0, the location, is linear in the covariates.
    pearson
        (sketch, coordinates (G, D)) -> Pearson; the families of counts take the spread as 0.
    log_probability
        (sketch, coordinates (G, D)) -> the value of ``log_marginal`` alone, (G,); None where the
        location is integrated analytically, and values alone are not needed.
    """

    link: str
    pearson: Callable[[Any, Array], Pearson]
    log_probability: Callable[[Any, Array], Array] | None = None


@dataclass(frozen=True)
class Mirror:
    """For a family in which coordinates of either sign stand for one model.

    Its spread coordinates then have the bound 0 by convention alone: the gradient along them
    vanishes there by symmetry, a climb walks across, and what it found is folded back.

    Parameters
    ----------
    fold
        (coordinates (G, D), sizes below which a spread counts as none (G, D)) -> the coordinates
        inside the bounds that stand for the same models, and which of them (G, D) are 0 because
        the covariance between stores has lost a rank.
    names
        (folded coordinates (G, D), which are estimated and on a bound (G, D)) -> names of what
        is on a bound, for each pool.
    """

    fold: Callable[[Array, Array], tuple[Array, NDArray[np.bool_]]]
    names: Callable[[Array, NDArray[np.bool_]], tuple[tuple[str, ...], ...]]
