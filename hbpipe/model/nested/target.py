"""The posterior of the hyperparameters of one root of nested levels, in logarithms of sds.

The working variables are log τ of the stores, log σ where there is one, and log τ of the levels
from coarse to fine: the coordinates of :func:`hbpipe.model.nested.normal.nested_family` without
the mean, which is integrated analytically. Fixed ones are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of, log_of_spread
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.nested.message_table import MessageTable
from hbpipe.model.nested.normal import NestedSketch, Upward, ascend
from hbpipe.model.nested.prior import NestedPrior
from hbpipe.model.nested.tree import Forest
from hbpipe.model.numerics.jets import constants

#: Groups that are evaluated together, each for every point.
_ROWS = 2**18
#: No log sd is farther from 0: sds between 1e-33 and 1e33, whose powers are still numbers.
_FARTHEST = 75.0
#: A start for a spread estimated as none, as a share of its default's scale.
_LEAST_SHARE = 0.03


@dataclass(frozen=True)
class NestedTarget:
    """Log marginal likelihood times hyperprior of one root.

    Parameters
    ----------
    family
        The family of the stores.
    sketch, prior
        Of one root.
    held
        (D,) coordinates that are known, NaN for the free ones.
    estimate
        (D,) point estimates in coordinates.
    table
        The messages of the finest groups.
    """

    family: Family
    sketch: NestedSketch
    prior: NestedPrior
    held: Array
    estimate: Array
    table: MessageTable

    @classmethod
    def at(
        cls, family: Family, sketch: NestedSketch, prior: NestedPrior, estimate: Array
    ) -> NestedTarget:
        """Return the target in which everything is known, as estimated."""
        table = MessageTable.of(family, sketch.pools, 1.0 / float(prior.sampling[0]))
        return cls(family, sketch, prior, estimate, estimate, table)

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""
        own = ("log_tau", "log_sigma")[: len(self.family.coordinates) - 1]
        every = ("mu", *own, *(f"log_{name}" for name in self.prior.names))
        return tuple(every[place] for place in self._free)

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of the variables that are log sds between stores or groups."""
        places = self._free.tolist()
        return tuple(i for i, place in enumerate(places) if place not in self._noise)

    @property
    def start(self) -> Array:
        """The point estimate; one on its bound is moved inside."""
        point = self.estimate[None].copy()
        noise = self.noise(point)
        least = _LEAST_SHARE * noise[0] * self.prior.sampling[0]
        spreads = [place for place in self._free.tolist() if place not in self._noise]
        point[:, spreads] = np.maximum(point[:, spreads], least)
        return np.asarray(self._working(point)[0])

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""
        possible = np.all(np.abs(points) <= _FARTHEST, axis=1)
        found = np.full(len(points), -np.inf)
        chosen = np.flatnonzero(possible)
        for block in self.blocks(len(chosen)):
            part = chosen[block]
            coordinates = self.coordinates(points[part])
            value, _, _ = self._root(self.messages(coordinates))
            found[part] = value + self._log_prior(coordinates)
        return found

    def means(self, coordinates: Array) -> list[tuple[Array, Array]]:
        """Posterior mean and variance of the means of root and groups, given coordinates (S, D).

        Returns
        -------
        For the root, then for the levels from coarse to fine, two arrays (S, G); groups are in
        the order of the tree.
        """
        messages = self.messages(coordinates)
        _, mean, variance = self._root(messages)
        forest = self._forest(len(coordinates))
        spreads = coordinates[:, len(self.family.coordinates) :]
        found = [(mean, variance), *messages.downward(forest, spreads, (mean, variance))]
        return [tuple(part.reshape(len(coordinates), -1) for part in pair) for pair in found]

    def coordinates(self, points: Array) -> Array:
        """Working variables (S, V) → the family's coordinates (S, D); the mean is 0 or held."""
        everything = np.tile(np.where(np.isnan(self.held), 0.0, self.held), (len(points), 1))
        for number, place in enumerate(self._free.tolist()):
            values = points[:, number]
            everything[:, place] = values if place in self._noise else np.exp(2.0 * values)
        return everything

    def _working(self, coordinates: Array) -> Array:
        columns = [
            coordinates[:, place] if place in self._noise else 0.5 * np.log(coordinates[:, place])
            for place in self._free.tolist()
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def _free(self) -> NDArray[np.int64]:
        free = np.isnan(self.held)
        free[LOCATION] = False
        return np.flatnonzero(free)

    @property
    def _noise(self) -> tuple[int, ...]:
        return (NOISE,) if geometry_of(self.family).has_noise else ()

    def noise(self, coordinates: Array) -> Array:
        """σ², or 1 where the sampling variances are known, (S,)."""
        if not self._noise:
            return np.ones(len(coordinates))
        return np.asarray(np.exp(2.0 * coordinates[:, NOISE]))

    def blocks(self, points: int) -> list[slice]:
        """Cut points into parts that are evaluated together, in bounded memory."""
        groups = sum(len(level) for level in self.sketch.forest.levels)
        length = max(1, min(_ROWS // groups, points))
        return [slice(begin, begin + length) for begin in range(0, points, length)]

    def messages(self, coordinates: Array) -> Upward:
        """Messages about the means of the groups, given coordinates (S, D): S trees."""
        noise = self.noise(coordinates)
        message = self.table.at(log_of_spread(coordinates[:, SPREAD] / noise), noise)
        spreads = coordinates[:, len(self.family.coordinates) :].T
        return ascend(message, self._forest(len(coordinates)), [constants(t, 0) for t in spreads])

    def _forest(self, times: int) -> Forest:
        """Return the tree as often as that."""
        forest, _ = self.sketch.forest.select(np.zeros(times, np.int64))
        return forest

    def _root(self, messages: Upward) -> tuple[Array, Array, Array]:
        """Log likelihood with the root's mean integrated, and mean and variance of that mean."""
        message = messages.root
        precision, mean, peak = (
            part.value for part in (message.precision, message.mean, message.peak)
        )
        known = self.held[LOCATION]
        if not np.isnan(known):
            fixed = np.full(len(mean), known)
            return peak - 0.5 * precision * (mean - known) ** 2, fixed, 0.0 * fixed
        centre, own, constant = 0.0, 0.0, 0.5 * LOG_2PI
        term = self.prior.stores.term("mu")
        if term is not None and term.density == "normal":
            centre, sd = (float(np.asarray(value)) for value in term.arguments)
            own, constant = sd**-2.0, -np.log(sd)
        both = precision + own
        peak = peak - 0.5 * precision * own / both * (mean - centre) ** 2
        value = peak + constant - 0.5 * np.log(both)
        return value, (precision * mean + own * centre) / both, 1.0 / both

    def _log_prior(self, coordinates: Array) -> Array:
        """Log density of the working variables, (S,)."""
        prior, own = self.prior, len(self.family.coordinates)
        squared = [coordinates[:, SPREAD], *coordinates[:, own:].T]
        variances = [constants(column, 0) for column in squared]
        noise = self.noise(coordinates)
        stores = replace(
            prior.stores, terms=tuple(t for t in prior.stores.terms if t.parameter != "mu")
        )
        working = [np.zeros(len(noise)), log_of_spread(squared[0] / noise), 0.5 * np.log(noise)]
        total = stores.in_working([constants(values, 0) for values in working[:own]])
        total = total + prior.of_levels(constants(noise, 0), variances)
        # From log A to log τ of the stores; from τ to log τ of the levels.
        jacobian = np.log(2.0) * (SPREAD in self._free)
        levels = [place for place in self._free.tolist() if place >= own]
        jacobian = jacobian + 0.5 * np.sum(np.log(coordinates[:, levels]), axis=1)
        return np.asarray(total.value + jacobian)
