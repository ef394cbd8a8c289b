"""The θ that all stores of a pool share where there is no spread, of families without a geometry.

Its sd comes from the information on the coordinates that it depends on, by the delta method
(Oehlert 1992). For most that is the location; a family whose θ has more in it says what in
``shared``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hbpipe.model.family import Array, Family
from hbpipe.model.numerics.optimise import Optimum

#: Step of a difference, relative to a coordinate.
_STEP = 1e-6


def by_information(family: Family, best: Optimum, held: Array) -> tuple[Array, Array]:
    """Return θ and its sd at the optimum without spread, (G,) or (G, P) each.

    ``held`` (G, D) has the coordinates that are known, NaN where free. The location is looked at as
    if it were not; of a ``shared`` θ they add no variance.
    """
    located, at = _located(family)
    fixed = ~np.isnan(held[:, at]) & (family.shared is not None)
    information = -best.hessian[:, at][:, :, at]
    information = np.where(fixed[:, :, None] | fixed[:, None, :], np.eye(len(at)), information)
    known = np.linalg.eigvalsh(information)[:, 0] > 0
    inverse = np.linalg.inv(np.where(known[:, None, None], information, np.eye(len(at))))

    def flat(coordinates: Array) -> Array:
        return located(coordinates).reshape(len(known), -1)

    estimate, step = located(best.coordinates), np.zeros_like(best.coordinates)
    slopes = []
    for place, axis in enumerate(at):  # the location itself, or a number on its line
        step[:] = 0.0
        step[:, axis] = _STEP * (1.0 + np.abs(best.coordinates[:, axis]))
        up, down = (flat(best.coordinates + sign * step) for sign in (1.0, -1.0))
        slope = (up - down) / (2.0 * step[:, axis, None])
        slopes.append(np.where(fixed[:, place, None], 0.0, slope))
    variance = np.einsum("igk,gij,jgk->gk", np.stack(slopes), inverse, np.stack(slopes))
    sd = np.where(known[:, None], np.sqrt(variance), np.inf)
    found = np.where(known[:, None], estimate.reshape(len(known), -1), np.nan)
    return found.reshape(estimate.shape), sd.reshape(estimate.shape)


def _located(family: Family) -> tuple[Callable[[Array], Array], list[int]]:
    """Return coordinates -> θ, and the coordinates that it depends on."""
    if family.shared is not None:
        return family.shared, [i for i, axis in enumerate(family.coordinates) if not axis.spread]
    name = family.coordinates[0].hyperparameter

    def location(coordinates: Array) -> Array:
        return np.asarray(family.from_coordinates(coordinates)[name], np.float64)

    at = [i for i, axis in enumerate(family.coordinates) if axis.hyperparameter == name]
    return location, at
