"""Integration nodes: the posterior of the hyperparameters of each pool as weighted points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes

T = TypeVar("T")

#: From this many stores on, the location is integrated within a node by matching moments.
MANY_STORES = 200
#: Fields that are of all pools together.
_SHARED = ("family", "along_one")


@dataclass(frozen=True)
class Nodes:
    """Posterior of the hyperparameters of ``G`` pools on ``K`` outer and ``L`` inner nodes.

    Arrays are (G, K, L); a pool that needs fewer nodes has weights of zero at the end. The
    record pickles, so a worker can update a shard with the whole pool's uncertainty.

    Parameters
    ----------
    family
        The family's name.
    method
        (G,) ``integrated``, ``first_order`` or ``plug_in``.
    weight
        Posterior probability of each node; a pool's weights add to one.
    spread
        A, the spread in units of one observation's variance (see ``geometry``).
    location
        Prior mean, in the units of θ.
    location_variance
        Variance of the prior mean that is left within a node.
    noise
        Within-store variance σ²; 1 for families without it.
    spread_variance, covariance
        (G,) variance of log A and its covariance with the prior mean that are left within a
        pool's only node; zero unless the method is ``first_order``.
    curvature
        (G,) κ, the curvature of the log posterior in log τ at its mode, on which ``auto``
        decides; NaN where no mode was sought.
    n_groups
        (G,) stores with data.
    along_one
        Whether the inner nodes of a spread are a rule along one variable, the location or σ, and
        so may be fewer for limits (``thinning``).
    """

    family: str
    method: NDArray[np.str_]
    weight: Array
    spread: Array
    location: Array
    location_variance: Array
    noise: Array
    spread_variance: Array
    covariance: Array
    curvature: Array
    n_groups: NDArray[np.int64]
    along_one: bool = False

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.method)

    @property
    def is_large(self) -> NDArray[np.bool_]:
        """Whether a pool has so many stores that its location needs no nodes of its own, (G,)."""
        return np.asarray(self.n_groups >= MANY_STORES)

    def once(self, name: str, derive: Callable[[], T]) -> T:
        """Derive something of the nodes once, and use it again shard after shard."""
        if name not in self._derived:
            self._derived[name] = derive()
        found: T = self._derived[name]
        return found

    @cached_property
    def _derived(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be derived again."""
        return {name: value for name, value in vars(self).items() if name != "_derived"}

    def select(self, pools: Codes) -> Nodes:
        """Return the nodes of some pools."""
        return replace(
            self,
            **{f.name: getattr(self, f.name)[pools] for f in fields(self) if f.name not in _SHARED},
        )

    def collapse(self) -> Nodes:
        """Integrate over the inner nodes by matching moments: (G, K, 1).

        Mean and variance of every store's posterior are unchanged, because at a given spread
        they depend on the location through its first two moments only.
        """
        weight = _sum_inner(self.weight)
        share = np.divide(self.weight, weight, out=np.zeros_like(self.weight), where=weight > 0)
        centre = _sum_inner(share * self.location)
        between = (self.location - centre) ** 2
        return replace(
            self,
            weight=weight,
            spread=_sum_inner(share * self.spread),
            location=centre,
            location_variance=_sum_inner(share * (self.location_variance + between)),
            noise=_sum_inner(share * self.noise),
        )


def _sum_inner(values: Array) -> Array:
    """Sum over inner nodes one after the other: zeros that pad the end leave every bit alone."""
    return np.asarray(np.cumsum(values, axis=2)[:, :, -1:])


def combine_pools(parts: list[tuple[NDArray[np.int64], Nodes]], n_pools: int) -> Nodes:
    """Put nodes of disjoint sets of pools together, padded with weights of zero.

    Padding repeats a node's first values, so that every formula stays finite there.
    """
    outer = max(part.weight.shape[1] for _, part in parts)
    inner = max(part.weight.shape[2] for _, part in parts)
    first = parts[0][1]
    out: dict[str, Any] = {}
    for field in fields(first):
        if field.name in _SHARED:
            continue
        template = getattr(first, field.name)
        shape = (n_pools, outer, inner) if template.ndim == 3 else (n_pools,)
        dtype = "<U16" if field.name == "method" else template.dtype
        whole = np.empty(shape, dtype=dtype)
        for pools, part in parts:
            whole[pools] = _pad(field.name, getattr(part, field.name), outer, inner)
        out[field.name] = whole
    return replace(first, along_one=any(part.along_one for _, part in parts), **out)


def _pad(name: str, values: NDArray[np.generic], outer: int, inner: int) -> NDArray[np.generic]:
    if values.ndim != 3:
        return values
    width = ((0, 0), (0, outer - values.shape[1]), (0, inner - values.shape[2]))
    if name == "weight":
        return np.pad(values, width)
    return np.pad(values, width, mode="edge")


def single_nodes(
    family: str,
    method: str,
    *,
    spread: Array,
    location: Array,
    noise: Array,
    n_groups: NDArray[np.int64],
    location_variance: Array | None = None,
    spread_variance: Array | None = None,
    covariance: Array | None = None,
    curvature: Array | None = None,
) -> Nodes:
    """One node for each pool; what is not given, each (G,), is zero and the curvature NaN."""
    none = np.zeros(len(spread))

    def cell(values: Array | None) -> Array:
        return (none if values is None else values)[:, None, None]

    return Nodes(
        family=family,
        method=np.full(len(spread), method, dtype="<U16"),
        weight=cell(none + 1.0),
        spread=cell(spread),
        location=cell(location),
        location_variance=cell(location_variance),
        noise=cell(noise),
        spread_variance=none if spread_variance is None else spread_variance,
        covariance=none if covariance is None else covariance,
        curvature=none + np.nan if curvature is None else curvature,
        n_groups=n_groups,
    )
