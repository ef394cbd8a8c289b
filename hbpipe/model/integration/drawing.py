"""Points of the hyperparameters of one pool: the one way in which more than two are integrated.

Quasi-random importance sampling around the mode (``numerics/importance.py``), and Markov chains
(``numerics/chains.py``) where its weights are not to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.integration.sampled_nodes import PoolNodes
from hbpipe.model.numerics.chains import R_HAT_LIMIT, draw_chains
from hbpipe.model.numerics.importance import Limits, Weighted, fitted, sample, shortest, tempered
from hbpipe.model.numerics.modes import LogDensity, Mode
from hbpipe.model.numerics.pareto import LIMIT

#: Chains, and the largest number of their draws that are kept as nodes.
_CHAINS, _DRAWS = 4, 4096
#: Numbers that one call of a density may hold: points times rows of the sketch.
_BLOCK = 2**20
#: Points that together have less weight than this are left out.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True)
class Drawn:
    """Weighted points of the hyperparameters, and how they were found.

    Parameters
    ----------
    points, weight
        (S, V), and (S,) adding to one.
    sampler
        ``sobol``, ``nuts``, or ``none`` where nothing was left to integrate.
    ess
        Effective number of points of importance sampling, of which ``points`` may be the first
        few; of chains the least of a variable.
    pareto_k, moved
        Of importance sampling: k̂ of the weights, and the last movement of the limits, in
        posterior sds.
    r_hat
        Of chains: the largest split R̂ of a variable.
    """

    points: Array
    weight: Array
    sampler: str
    ess: float
    pareto_k: float
    moved: float = np.nan
    r_hat: float = np.nan

    @property
    def converged(self) -> bool:
        """Whether the points are to be trusted: not where chains disagree."""
        return self.sampler != "nuts" or self.r_hat <= R_HAT_LIMIT


def draw(
    density: LogDensity,
    mode: Mode,
    limits: Limits,
    *,
    far: LogDensity | None = None,
    few: bool = False,
) -> Drawn:
    """Integrate by importance sampling, or by chains where its weights are not to be trusted.

    Parameters
    ----------
    density, mode
        The log density, and its mode.
    limits
        What has to settle.
    far
        The density for points that may be beyond the range of floats, where chains may go.
    few
        Whether to keep only as many points as the limits need.
    """
    found = sample(density, mode, limits)
    if found.pareto_k > LIMIT:
        return _by_chains(far or density, found)
    points, weight = found.points, found.weight
    if few:
        points, weight = _kept(shortest(found, limits))
    return Drawn(points, weight, "sobol", found.ess, found.pareto_k, found.moved)


def drawn_nodes(drawn: Drawn, values: dict[str, Array], n_groups: int) -> PoolNodes:
    """Make nodes of points and the family's ``values`` there."""
    return PoolNodes(
        "integrated",
        drawn.points,
        drawn.weight,
        values,
        n_groups,
        sampler=drawn.sampler,
        ess=drawn.ess,
        pareto_k=drawn.pareto_k,
        moved=drawn.moved,
        r_hat=drawn.r_hat,
    )


def _by_chains(density: LogDensity, found: Weighted) -> Drawn:
    """Draws of chains that begin at points taken by their weights."""
    place = (np.arange(_CHAINS) + 0.5) / _CHAINS
    begin = np.searchsorted(np.cumsum(tempered(found)), place)
    chains = draw_chains(density, found.points[begin], fitted(found).root)
    draws = chains.draws.reshape(-1, chains.draws.shape[2])
    points = draws[:: max(1, -(-len(draws) // _DRAWS))]
    weight = np.full(len(points), 1.0 / len(points))
    return Drawn(points, weight, "nuts", chains.ess, found.pareto_k, r_hat=chains.r_hat)


def _kept(found: Weighted) -> tuple[Array, Array]:
    """Points and weights without those that carry next to nothing."""
    order = np.argsort(found.weight, kind="stable")
    little = order[np.cumsum(found.weight[order]) < _NEGLIGIBLE]
    kept = np.setdiff1d(np.arange(len(order)), little)
    weight = found.weight[kept]
    return found.points[kept], weight / np.sum(weight)


class Drawable(Protocol):
    """A density over named variables, such as ``sampling.HyperTarget``."""

    @property
    def names(self) -> tuple[str, ...]:
        """The ``V`` variables."""

    def log_density(self, points: Array) -> Array:
        """Log density at points, (S, V) -> (S,)."""


@dataclass(frozen=True)
class Density:
    """The log density of a target, a bounded number of points at a time."""

    target: Drawable
    rows: int

    def __call__(self, points: Array) -> Array:
        """Log density at points, (S, V) -> (S,)."""
        values = self._values(points)
        if np.isnan(values).any():
            point = points[int(np.flatnonzero(np.isnan(values))[0])]
            raise FitError(
                "the log posterior of the hyperparameters is not a number",
                where=dict(zip(self.target.names, point.tolist(), strict=True)),
                expected="a finite number, or -inf where a point is impossible",
                remedy="this is a fault of the family, not of the data: report it with the data",
            )
        return values

    def far(self, points: Array) -> Array:
        """Return the same for points that may be beyond the range of floats, where it is -inf.

        On the way to a mode, and where a trajectory of a chain has gone astray.
        """
        values = self._values(points)
        return np.where(np.isnan(values), -np.inf, values)

    def _values(self, points: Array) -> Array:
        length = max(1, _BLOCK // max(1, self.rows))
        with np.errstate(all="ignore"):
            parts = [
                self.target.log_density(points[begin : begin + length])
                for begin in range(0, len(points), length)
            ]
        return np.concatenate(parts)
