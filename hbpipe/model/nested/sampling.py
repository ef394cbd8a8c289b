"""Weighted points of the hyperparameters of one root of nested levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.numerics.chains import R_HAT_LIMIT, draw_chains
from hbpipe.model.numerics.importance import Limits, fitted, sample, tempered
from hbpipe.model.numerics.modes import find_mode
from hbpipe.model.numerics.pareto import LIMIT

#: Chains where importance sampling fails, and draws that are kept.
_CHAINS, _DRAWS = 4, 4096


class Target(Protocol):
    """The posterior of the hyperparameters.

    As :class:`hbpipe.model.integration.sampling.HyperTarget` says.

    ``log_density`` bounds its own memory and is finite or −∞ everywhere.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of those that are log sds."""

    @property
    def start(self) -> Array:
        """A point estimate, (V,)."""

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""


@dataclass(frozen=True)
class Drawn:
    """Points of the hyperparameters, and how they were found.

    Parameters
    ----------
    points, weight
        (S, V), and (S,) adding to one.
    sampler
        ``sobol``, ``nuts``, or ``none`` where nothing was left to integrate.
    ess, pareto_k
        Effective number of points; k̂ of the weights of importance sampling.
    r_hat
        Of chains: the largest split R̂ of a variable.
    """

    points: Array
    weight: Array
    sampler: str
    ess: float
    pareto_k: float
    r_hat: float = np.nan

    @property
    def converged(self) -> bool:
        """Whether the points are to be trusted: not where chains disagree."""
        return self.sampler != "nuts" or self.r_hat <= R_HAT_LIMIT


def draw(target: Target, limits: Limits) -> Drawn:
    """Integrate by importance sampling, or by chains where its weights are not to be trusted.

    Chains that disagree in the end raise nothing: see ``Drawn.converged``.

    Parameters
    ----------
    target
        The posterior density; without free variables there is one point.
    limits
        What has to settle.
    """
    if not target.names:
        return Drawn(np.zeros((1, 0)), np.ones(1), "none", 1.0, 0.0)
    density = target.log_density
    found = sample(density, find_mode(density, target.start, target.spreads), limits)
    k = found.pareto_k
    if k <= LIMIT:
        return Drawn(found.points, found.weight, "sobol", found.ess, k)
    place = (np.arange(_CHAINS) + 0.5) / _CHAINS
    begin = np.searchsorted(np.cumsum(tempered(found)), place)
    chains = draw_chains(density, found.points[begin], fitted(found).root)
    draws = chains.draws.reshape(-1, chains.draws.shape[2])
    points = draws[:: max(1, -(-len(draws) // _DRAWS))]
    weight = np.full(len(points), 1.0 / len(points))
    return Drawn(points, weight, "nuts", chains.ess, k, chains.r_hat)
