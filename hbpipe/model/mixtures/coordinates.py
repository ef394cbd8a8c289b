"""Coordinates of a mixture of two conjugate laws.

Those of the base family for the first component, the same for the second, and the proportion of
the second: (location, spread, location, spread, w). Both spreads 0 and w = 0 is no spread; w = 0
alone is a single law. Exchanging the components is the same model: a fit puts the larger one first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Coordinate, Family
from hbpipe.model.mixtures.conjugate import PROPORTION

#: The number of components, ``K``.
COMPONENTS = 2
#: The place of the proportion of the second component.
WEIGHT = -1


@dataclass(frozen=True)
class TwoComponents:
    """The way from coordinates (..., 2 D + 1) to hyperparameters (..., 2) and back.

    Parameters
    ----------
    base
        The family of the components, with D coordinates.
    """

    base: Family

    @property
    def axes(self) -> tuple[Coordinate, ...]:
        """The coordinates of both components, and the proportion of the second."""
        return (
            *(
                replace(axis, name=f"{axis.name}[{component}]")
                for component in range(COMPONENTS)
                for axis in self.base.coordinates
            ),
            Coordinate(PROPORTION, 0.0, 1.0, PROPORTION, spread=True),
        )

    def of_components(self, coordinates: Array) -> Array:
        """Coordinates of the base family for each component, (..., 2, D)."""
        own = coordinates[..., :WEIGHT]
        return own.reshape(*own.shape[:-1], COMPONENTS, len(self.base.coordinates))

    def from_coordinates(self, coordinates: Array) -> dict[str, Array]:
        """Proportions and the base family's hyperparameters, name → (..., 2)."""
        second = coordinates[..., WEIGHT]
        named = self.base.from_coordinates(self.of_components(coordinates))
        return {PROPORTION: np.stack([1.0 - second, second], axis=-1), **named}

    def to_coordinates(self, hyperparameters: Mapping[str, Any]) -> Array:
        """Hyperparameters (..., 2) → coordinates; NaN for what the given names leave open.

        Raises
        ------
        FitError
            If one is not given for each component.
        """
        given = {name: _of_both(name, value) for name, value in hyperparameters.items()}
        proportion = given.pop(PROPORTION, np.full(COMPONENTS, np.nan))
        own = self.base.to_coordinates(given)
        shape = np.broadcast_shapes(proportion.shape, own.shape[:-1])
        own = np.broadcast_to(own, (*shape, own.shape[-1])).reshape(*shape[:-1], -1)
        second = np.broadcast_to(proportion, shape)[..., -1:]
        return np.concatenate([own, second], axis=-1)


def _of_both(name: str, value: Any) -> Array:
    found = np.asarray(value, np.float64)
    if found.ndim == 0 or found.shape[-1] != COMPONENTS:
        raise FitError(
            f"{name} of a mixture has the shape {found.shape}",
            expected="two numbers, one for each component",
            remedy=f"give {name} of both components, NaN for one that is not known",
        )
    return found


def exchanged(coordinates: Array) -> Array:
    """Exchange the components of the same models, (G, 2 D + 1)."""
    width = coordinates.shape[-1] // COMPONENTS
    first, second = coordinates[..., :width], coordinates[..., width:WEIGHT]
    rest = 1.0 - coordinates[..., WEIGHT:]
    return np.concatenate([second, first, rest], axis=-1)


def larger_first(coordinates: Array) -> Array:
    """Put the larger component of the same models first, (G, 2 D + 1)."""
    swap = coordinates[..., WEIGHT:] > 0.5
    return np.where(swap, exchanged(coordinates), coordinates)


def as_two(single: Array) -> Array:
    """Write a single law as two of which the second has no stores, (G, D) -> (G, 2 D + 1)."""
    return np.concatenate([single, single, np.zeros((*single.shape[:-1], 1))], axis=-1)
