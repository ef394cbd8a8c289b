"""The posterior of nested groups: what workers receive, and the groups' own means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.arguments import checked_levels, quantile_names
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.drawing import Drawn
from hbpipe.model.integration.nodes import Nodes

#: Half the distance of floats at 1, so that 1 − this is below 1.
_LEAST = 2.0**-53


@dataclass(frozen=True, eq=False)
class NestedNodes:
    """The posterior of nested groups, as nodes for stores of known and of new groups.

    Pools are numbered: first the finest groups; then, for each level from coarse to fine, a new
    group of that level under each known parent, whose stores vary around the parent's mean as
    far as all levels between let them.

    Parameters
    ----------
    levels
        Names, coarse to fine.
    nodes
        Of all these pools.
    hyperparameters
        name -> (pools,) point estimates for ``update_pools``: for a normal family ``mu`` is the
        posterior mean of the group's mean at the estimated hyperparameters.
    first
        For each level the number of the pool of a new group under the first parent; then the
        number of pools.
    drawn
        The points of the hyperparameters that the nodes come from.
    """

    levels: tuple[str, ...]
    nodes: Nodes
    hyperparameters: dict[str, Array]
    first: tuple[int, ...]
    drawn: Drawn

    @property
    def method(self) -> str:
        """``integrated``, ``plug_in`` or ``unidentified``."""
        return str(self.nodes.method[0])

    def pools(self, groups: Sequence[Codes]) -> NDArray[np.int64]:
        """Pool of each store, (J,).

        Parameters
        ----------
        groups
            For each level, coarse to fine, (J,) the number of each store's group, −1 where it is
            new; groups within a new group are new.
        """
        found = np.asarray(groups[-1], np.int64).copy()
        parent = np.zeros(len(found), np.int64)
        for number, first in zip(groups, self.first, strict=False):
            here = (number < 0) & (parent >= 0)
            found[here] = first + parent[here]
            parent = np.asarray(number)
        return found

    def groups(self, level: str) -> Nodes:
        """Nodes of the groups of a level: prior mean and its variance are those of their means."""
        place = self.levels.index(level) + 1
        if place == len(self.levels):
            return self.nodes.select(np.arange(self.first[0]))
        return self.nodes.select(np.arange(self.first[place], self.first[place + 1]))


class GroupMeans(Mapping[str, Array]):
    """Posteriors of the means of ``G`` groups of one level.

    The mean of a group is what its stores vary around: a chain's, or a region's, prior mean. A
    mapping of columns, float64 (G,): ``mean``, ``sd``, ``q0.025`` and so on.

    Attributes
    ----------
    labels
        (G,) the label of each group, where it has one.
    """

    def __init__(
        self,
        nodes: Nodes,
        quantiles: float | tuple[float, ...],
        labels: NDArray[Any] | None = None,
    ) -> None:
        self.labels = labels
        self._geometry = geometry_of(nodes.family)
        self._line = _on_the_line(nodes)
        mean = np.sum(nodes.weight * nodes.location, axis=(1, 2))
        away = nodes.location - mean[:, None, None]
        variance = np.sum(nodes.weight * (nodes.location_variance + away**2), axis=(1, 2))
        self._columns: dict[str, Array] = {"mean": mean, "sd": np.sqrt(variance)}
        found = self.quantile(tuple(np.atleast_1d(quantiles)))
        for name, column in zip(quantile_names(checked_levels(quantiles)), found.T, strict=True):
            self._columns[name] = column

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def quantile(self, q: float | tuple[float, ...]) -> Array:
        """Quantiles at one level, (G,), or at several, (G, Q)."""
        found = np.asarray(self._geometry.mean(self._line.quantiles(checked_levels(q))))
        return np.asarray(found[:, 0]) if np.ndim(q) == 0 else found

    def cdf(self, x: Array | float) -> Array:
        """Posterior probability that a group's mean is at most ``x``, a number or (G,)."""
        at = np.broadcast_to(np.asarray(x, np.float64), (len(self["mean"]),))
        return self._line.cdf(self._geometry.law.to_line(at))


def _on_the_line(nodes: Nodes) -> Mixture:
    """Return normal mixtures of the means, on the line of the location, (G,).

    For counts the inner nodes are those of the location itself, points: at each spread they become
    a normal law of the same mean and variance, which a mixture over spreads keeps smooth.
    """
    geometry, rows = geometry_of(nodes.family), (nodes.n_pools, -1)
    if geometry.location_is_analytic:
        sd = np.sqrt(nodes.location_variance)
        parts = (nodes.weight, nodes.location, sd)
        weight, centre, sd = (values.reshape(rows) for values in parts)
        return Mixture(NORMAL, weight, (centre, sd))
    _, v1, v2 = geometry.variance
    # A rate that rounds to 1 has no place on the line; one as near to 0 is treated alike.
    location = np.clip(nodes.location, _LEAST, 1.0 - _LEAST) if v2 else nodes.location
    slope = v1 * location + v2 * location**2
    line = np.asarray(geometry.law.to_line(location))
    weight = np.sum(nodes.weight, axis=2)
    share = nodes.weight / np.where(weight > 0, weight, 1.0)[:, :, None]
    centre = np.sum(share * line, axis=2)
    away = line - centre[:, :, None]
    variance = np.sum(share * (nodes.location_variance / slope**2 + away**2), axis=2)
    return Mixture(NORMAL, weight, (centre, np.sqrt(variance)))
