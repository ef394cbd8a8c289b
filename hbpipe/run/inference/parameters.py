"""Hyperparameters as rows: one for each number of a vector or a matrix, named by its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.fits import PoolFits
from hbpipe.model.mixtures.conjugate import PROPORTION
from hbpipe.model.nonparametric.fits import GridFits

Array = NDArray[np.float64]

#: Matrices whose diagonal says nothing, as it is always 1.
_UNIT_DIAGONAL = ("correlation",)


def terms_of(hyperparameters: Mapping[str, Array], terms: Sequence[str]) -> tuple[str, ...]:
    """Name the numbers of a vector: the terms, or the numbers of a mixture's components."""
    if PROPORTION not in hyperparameters:
        return tuple(terms)
    return tuple(str(k) for k in range(hyperparameters[PROPORTION].shape[1]))


def has_weight(fits: PoolFits, g: int, place: tuple[int, ...]) -> bool:
    """Tell whether a number is of a component of the pool: pools have grids of different size."""
    if not isinstance(fits, GridFits):
        return True
    return bool(fits.hyperparameters[PROPORTION][(g, *place)] > 0)


def places(
    name: str, shape: tuple[int, ...], terms: Sequence[str]
) -> list[tuple[str, tuple[int, ...]]]:
    """List the numbers of a hyperparameter: a label and a place for each.

    A number keeps its name, a vector gives ``mu[price]``, a symmetric matrix each pair of terms
    once, ``Sigma[intercept,price]``.
    """
    if not shape:
        return [(name, ())]
    if shape != (len(terms),) * len(shape):
        raise ValueError(f"{name} has the shape {shape}, and there are {len(terms)} terms")
    if len(shape) == 1:
        return [(f"{name}[{term}]", (k,)) for k, term in enumerate(terms)]
    first = 1 if name in _UNIT_DIAGONAL else 0
    return [
        (f"{name}[{terms[i]},{terms[k]}]", (i, k))
        for i in range(len(terms))
        for k in range(i + first, len(terms))
    ]


def labels(hyperparameters: Mapping[str, Array], terms: Sequence[str]) -> set[str]:
    """Return the labels of all numbers of hyperparameters, (G, ...) each."""
    return {
        label
        for name, values in hyperparameters.items()
        for label, _ in places(name, np.shape(values)[1:], terms)
    }


def rebuild(
    name: str, values: Array, terms: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> Array:
    """Return ``values`` (G, ...) with the numbers of pools put in that ``rows`` has, by label.

    ``rows`` has one mapping for each pool; an empty one leaves its pool alone.
    """
    found = np.array(values, np.float64)
    for g, known in enumerate(rows):
        for label, place in places(name, found.shape[1:], terms) if known else ():
            found[(g, *place)] = found[(g, *place[::-1])] = known[label]
    return found
