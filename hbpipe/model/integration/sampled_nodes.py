"""Nodes in the hyperparameters of pools whose families have more of them than a grid can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.numerics.chains import R_HAT_LIMIT

#: Half the distance between two nodes of ``first_order``, in sds of the hyperparameters: the error
#: of a gradient is a hundredth of the third derivative.
STEP = 0.25


@dataclass(frozen=True)
class PoolNodes:
    """Posterior of the hyperparameters of one pool on ``S`` nodes.

    Parameters
    ----------
    method
        ``integrated``, ``first_order``, ``plug_in`` or ``unidentified``.
    points
        (S, V) in the working variables. Under ``first_order`` the centre, then a point ``STEP``
        sds above it on each axis of the covariance, then those below.
    weight
        (S,) posterior probabilities, adding to one; under ``first_order`` all at the centre.
    values
        What the family's conditional posteriors need, name -> (S, ...).
    n_groups
        Stores with data.
    sampler
        What found the nodes: ``sobol``, ``nuts``, or nothing.
    ess
        Effective number of points, of which the nodes may be the first few; of chains the least
        of a variable.
    pareto_k, moved
        Of importance sampling: k̂ of the weights, and the last movement of the limits, in
        posterior sds.
    r_hat
        Of chains: the largest split R̂ of a variable.
    curvature
        κ, the least curvature of the log posterior in a log sd between stores at its mode; zero
        where the mode is not regular, NaN where none was sought.
    """

    method: str
    points: Array
    weight: Array
    values: dict[str, Array]
    n_groups: int
    sampler: str = ""
    ess: float = np.nan
    pareto_k: float = np.nan
    moved: float = np.nan
    r_hat: float = np.nan
    curvature: float = np.nan

    @property
    def converged(self) -> bool:
        """Whether the nodes are to be trusted: not where chains disagree."""
        return self.sampler != "nuts" or self.r_hat <= R_HAT_LIMIT


@dataclass(frozen=True)
class SampledNodes:
    """Posterior of the hyperparameters of ``G`` pools of one family; it pickles.

    The properties are those of :class:`PoolNodes`, one for each pool.
    """

    family: str
    pools: tuple[PoolNodes, ...]

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.pools)

    def select(self, pools: Codes) -> SampledNodes:
        """Return the nodes of some pools."""
        return SampledNodes(self.family, tuple(self.pools[int(g)] for g in pools))

    @property
    def method(self) -> NDArray[np.str_]:
        """(G,)."""
        return np.array([pool.method for pool in self.pools], dtype="<U16")

    @property
    def sampler(self) -> NDArray[np.str_]:
        """(G,)."""
        return np.array([pool.sampler for pool in self.pools], dtype="<U16")

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """(G,)."""
        return np.array([pool.n_groups for pool in self.pools], dtype=np.int64)

    @property
    def converged(self) -> NDArray[np.bool_]:
        """(G,)."""
        return np.array([pool.converged for pool in self.pools], dtype=np.bool_)

    @property
    def ess(self) -> Array:
        """(G,)."""
        return np.array([pool.ess for pool in self.pools])

    @property
    def pareto_k(self) -> Array:
        """(G,)."""
        return np.array([pool.pareto_k for pool in self.pools])

    @property
    def moved(self) -> Array:
        """(G,)."""
        return np.array([pool.moved for pool in self.pools])

    @property
    def r_hat(self) -> Array:
        """(G,)."""
        return np.array([pool.r_hat for pool in self.pools])

    @property
    def curvature(self) -> Array:
        """(G,)."""
        return np.array([pool.curvature for pool in self.pools])


#: What ``integrate_pools`` gives, by the family.
AnyNodes: TypeAlias = Nodes | SampledNodes
