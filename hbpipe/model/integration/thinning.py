"""Fewer inner nodes: at each spread the Gauss rule of the posterior of the location, or of σ.

Trapezoidal nodes resolve that posterior. What a store makes of it is smoother: the cdf of θ at a
given location is a step as wide as θ's own law. A Gauss rule of n nodes has the first 2n − 1
moments of all inner nodes (Golub and Welsch 1969; Gautschi 2004, section 2.2), so means and
variances of stores stay as they are; and the average of f over a standard normal z moves by
n!/(2n)! max|f⁽²ⁿ⁾| at most. Stores without data, the worst, have two kinds of cdf:

    Φ(x − ρz)              ρ the sd of the location in sds of θ given it;
    exp(−s(1 + cz)), s > 0  where a shape is small: c the sd of the location in units of itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.geometry import Geometry
from hbpipe.model.integration.nodes import Nodes

#: No spread may move a cdf by more, all of them together by some 2e-5: limits at 2.5 % by 4e-4 sd.
_CDF = 5e-6
#: n!/(2n)! max|f⁽²ⁿ⁾| for n = 1, 2, …, with ρ = 1 and with c = 1. A single node keeps the variance
#: of the location, which does better.
_BOUNDS = np.array([0.121, 0.0459, 0.0193, 8.44e-3, 3.81e-3, 1.75e-3, 8.13e-4, 3.81e-4])
_SMALL_SHAPE_BOUNDS = np.array([0.271, 0.391, 0.964, 3.35, 15.0, 82.3, 534.0, 4000.0])
#: A shape below this is small.
_SMALL_SHAPE = 4.0
#: A vector of length 1 that is left with less than this is a rounding error.
_NOTHING = 1e-12
#: Derivatives of Φ(x/σ) in log σ grow as those of Φ(x − ρz) with this ρ for each unit of log σ.
_SCALE = 2.0


def thinned(nodes: Nodes, geometry: Geometry, least: int = 1) -> Nodes:
    """Put Gauss rules in place of inner nodes; an outer node of little weight may have a worse one.

    ``least`` is how many inner nodes each has at least, for those to whom σ matters by itself.

    Fields of a new node are averages of those of the old ones, and weights of an outer node add to
    what they did. Nodes that are no rule along one variable stay as they are. A pool's nodes do not
    depend on the other pools.
    """
    inner = nodes.weight.shape[2]
    if inner == 1 or not nodes.along_one:
        return nodes
    fields = ("weight", "spread", "location", "location_variance", "noise")
    small = nodes.collapse()
    carries = small.weight[:, :, 0] > 0  # what only fills up has no moments
    wanted = np.minimum(np.maximum(_wanted(nodes, geometry), np.where(carries, least, 1)), inner)
    width = int(np.max(wanted))
    out: dict[str, Any] = {name: np.repeat(getattr(small, name), width, axis=2) for name in fields}
    out["weight"][:, :, 1:] = 0.0
    for count in np.unique(wanted[wanted > 1]).tolist():
        g, k = np.nonzero(wanted == count)
        variable = nodes.noise if geometry.location_is_analytic else nodes.location
        weight, average = _gauss(variable[g, k], nodes.weight[g, k], count)
        for name in fields[1:]:
            values = getattr(nodes, name)[g, k]
            out[name][g, k, :count] = np.sum(average * values[:, :, None], axis=1)
        out["weight"][g, k, :count] = weight
    return replace(nodes, **out)


def _wanted(nodes: Nodes, geometry: Geometry) -> NDArray[np.int64]:
    """Return how many inner nodes each outer node needs, (G, K)."""
    small = nodes.collapse()
    weight = small.weight[:, :, 0]
    share = np.divide(
        nodes.weight, small.weight, out=np.zeros_like(nodes.weight), where=small.weight > 0
    )
    order = 2.0 * np.arange(1, len(_BOUNDS) + 1)
    if geometry.location_is_analytic:
        log_sigma = 0.5 * np.log(nodes.noise)
        rho = _SCALE * np.sqrt(_variance(share, log_sigma))
        error = _BOUNDS * rho[:, :, None] ** order
    else:
        location, (_, v1, v2) = small.location[:, :, 0], geometry.variance
        sd = np.sqrt(_variance(share, nodes.location))
        rho = _in_units_of(sd, np.sqrt(small.spread[:, :, 0] * (v1 * location + v2 * location**2)))
        error = _BOUNDS * rho[:, :, None] ** order
        # The distance to the nearer end of the range, of which there is one or two.
        end = np.minimum(location, 1.0 - location) if v2 < 0 else location
        c = np.where(end < _SMALL_SHAPE * small.spread[:, :, 0], _in_units_of(sd, end), 0.0)
        error = np.maximum(error, _SMALL_SHAPE_BOUNDS * c[:, :, None] ** order)
    enough = (error <= _CDF) | (weight[:, :, None] * np.minimum(error, 1.0) <= _CDF)
    first = np.argmax(enough, axis=2) + 1
    return np.asarray(np.where(enough.any(axis=2), first, nodes.weight.shape[2]), np.int64)


def _in_units_of(sd: Array, unit: Array) -> Array:
    """Return sd/unit, 0 where both are: what does not vary needs one node, however narrow θ is."""
    return np.divide(sd, unit, out=np.where(sd > 0, np.inf, 0.0), where=unit > 0)


def _variance(share: Array, values: Array) -> Array:
    centre = np.sum(share * values, axis=2, keepdims=True)
    return np.asarray(np.sum(share * (values - centre) ** 2, axis=2))


def _gauss(x: Array, weight: Array, count: int) -> tuple[Array, Array]:
    """Gauss rules of C discrete measures on L points each, (C, L), by Lanczos' method.

    Returns
    -------
    Weights (C, n), and (C, L, n) the share that each old point has in each new one.
    """
    total = np.sum(weight, axis=1, keepdims=True)
    centre = np.sum(weight * x, axis=1, keepdims=True) / total
    scale = np.sqrt(np.sum(weight * (x - centre) ** 2, axis=1, keepdims=True) / total)
    point = np.divide(x - centre, scale, out=np.zeros_like(x), where=scale > 0)
    basis = np.zeros((*x.shape, count))
    jacobi = np.zeros((len(x), count, count))
    basis[:, :, 0] = np.sqrt(weight / total)
    for n in range(count):
        vector = point * basis[:, :, n]
        jacobi[:, n, n] = np.sum(basis[:, :, n] * vector, axis=1)
        if n + 1 == count:
            break
        for _ in range(2):  # rounding leaves something of the earlier vectors the first time
            along = np.einsum("cln,cl->cn", basis, vector)
            vector = vector - np.einsum("cln,cn->cl", basis, along)
        size = np.sqrt(np.sum(vector**2, axis=1))
        size[size <= _NOTHING] = 0.0
        jacobi[:, n, n + 1] = jacobi[:, n + 1, n] = size
        np.divide(vector, size[:, None], out=basis[:, :, n + 1], where=size[:, None] > 0)
    _, turn = np.linalg.eigh(jacobi)
    share = np.einsum("clm,cmn->cln", basis, turn) ** 2
    # A measure on fewer points than nodes: what is left of the rule has no weight, and may stand
    # anywhere, such as at the centre.
    spare = np.sum(share, axis=1, keepdims=True) < 0.5
    share = np.where(spare, (weight / total)[:, :, None], share)
    return total * np.where(spare[:, 0], 0.0, turn[:, 0, :] ** 2), share
