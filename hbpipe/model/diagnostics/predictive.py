"""The leave-one-out predictive distribution of a store: what its pool says of it without it.

Given the hyperparameters η a store's data have a law in closed form. The posterior of η without
store j is that of all stores divided by the store's likelihood, so on nodes η_k of weight w_k
(Gelfand, Dey and Chang 1992)

    p(y_j | y_−j) = Σ_k w_k′ p(y_j | η_k),     w_k′ ∝ w_k / p(y_j | η_k)

Where a node keeps a variance v of the prior mean m, a store with raw value y and variance V about m
is taken out of it as a Gaussian observation is: m′ = m − (y − m) v/(V − v), v′ = v V/(V − v). For
normal families that is exact, and (y − m)/√(V − v) is the standardised deleted residual.

Approximations, by what stands for the hyperparameters of a pool:

* of counts the prior mean is integrated out at each node, and a store taken out of it as above;
* from ``MANY_STORES`` stores on one node stands for all: a store moves the hyperparameters by 1/J
  of what it says of them, and the sum of squares of the PIT histogram by some d²/J for d of them;
* ``first_order`` takes the store out of the prior mean, not out of the spread, whose logarithm it
  would move by (z² − 1)/κ or less, κ ≥ 80: outlying stores look a little less so;
* ``plug_in``, covariates and a variance per store: hyperparameters of all stores. With J stores and
  d hyperparameters the squared residuals are small by d/J, on average.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.model.diagnostics.tails import (
    Tails,
    beta_binomial_tails,
    negative_binomial_tails,
    normal_tails,
    student_tails,
)
from hbpipe.model.distributions.laws import BETA, NORMAL
from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Statistics
from hbpipe.model.geometry import Geometry, geometry_of
from hbpipe.model.integration.merging import AVERAGED, merged
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import AnyNodes
from hbpipe.model.integration.thinning import thinned
from hbpipe.model.update.shrink import NodeRows, NodeTable

#: Numbers that one array of a block may hold: half a megabyte, which a core's cache does.
_BLOCK = 2**16
#: Nodes that stand for the spread of counts.
_FEW = 8
#: Nodes that together weigh less are left out; a store that its pool does not expect raises some.
_NEGLIGIBLE = 1e-6
#: A spread below a millionth of a store's sampling variance counts as that: no digit is lost.
LEAST_SPREAD = 1e-6
#: A store that alone decides its pool's mean leaves nothing behind to predict it.
_LEAST_LEFT = 1e-3


def why_no_predictive(family: Family) -> str:
    """Say why a family's stores have no predictive distribution in closed form; else nothing."""
    if "signal_ratio" in family.hyperparameters:
        return "levels that move are judged by their next days, as the fits tell"
    if family.size is not None:
        return "a store has several coefficients, and no one number whose law is known"
    if family.geometry is None and "kappa" not in family.hyperparameters:
        return "the family's predictive distribution has no closed form here"
    return ""


def leave_one_out(
    family: Family,
    nodes: AnyNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
) -> Tails:
    """Tails of what stores have shown, in what their pools predict without them.

    Parameters
    ----------
    family, nodes, hyperparameters
        As :func:`hbpipe.model.update.pools.update_pools` takes them.
    statistics, pools
        name -> (J, ...), and (J,), of stores with data.

    Returns
    -------
    Tails
        (J,) each, of the successes, the count, the mean or the estimate; of a family with a
        variance per store of the mean given the store's own squares.
    """
    pools = np.asarray(pools)
    at = {name: np.asarray(values)[pools] for name, values in hyperparameters.items()}
    if family.geometry is None:
        return _with_own_variance(statistics, at)
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    squares = _squares(geometry, statistics)
    out = Tails(*(np.empty(len(pools)) for _ in range(3)))
    if not isinstance(nodes, Nodes):
        part = point_nodes(family, geometry, statistics, at)
        return _without_each(geometry, part, size, raw, squares)
    for rows, part in node_table(nodes, geometry).blocks(pools, _BLOCK):
        found = _without_each(geometry, part, size[rows], raw[rows], squares[rows])
        out.below[rows], out.equal[rows], out.above[rows] = found.below, found.equal, found.above
    return out


def node_table(nodes: Nodes, geometry: Geometry) -> NodeTable:
    """Return the nodes of small pools, and one node with the average of all for large ones.

    Prior means of counts, which are not Gaussian at a node, are integrated out within it, and
    ``_FEW`` spreads stand for all: a tail of a count is not as cheap as that of a normal.
    """
    return nodes.once("leave-one-out", lambda: _node_table(nodes, geometry))


def _node_table(nodes: Nodes, geometry: Geometry) -> NodeTable:
    large, outer = nodes.is_large[:, None, None], nodes.collapse()
    one = merged(outer, 1)
    few = thinned(nodes, geometry) if geometry.location_is_analytic else merged(outer, _FEW)
    place = np.zeros(few.weight.shape[1:])
    place[0, 0] = 1.0
    first = {name: getattr(one, name) for name in AVERAGED} | {"weight": one.weight * place}
    chosen: dict[str, Any] = {
        name: np.where(large, first[name], getattr(few, name)) for name in first
    }
    return NodeTable.of(replace(few, **chosen), _NEGLIGIBLE)


def point_nodes(
    family: Family, geometry: Geometry, statistics: Statistics, at: Hyperparameters
) -> NodeRows:
    """Return the prior of each store at point estimates as its only node, (J, 1)."""
    if family.covariates is not None:
        at = {**at, "covariates": np.asarray(statistics["covariates"], np.float64)}
    described = family.describe(family.prior(at), np.empty(0))
    mean, variance = described.mean, np.square(described.sd)
    noise = np.square(at["sigma"]) if geometry.has_noise else np.ones_like(mean)
    v0, v1, v2 = geometry.variance
    unit = v0 * noise + v1 * mean + v2 * mean**2
    spread = variance / (unit + v2 * variance)
    none = np.zeros((len(mean), 1))
    return NodeRows(
        weight=none + 1.0,
        spread=spread[:, None],
        location=mean[:, None],
        location_variance=none,
        noise=noise[:, None],
        spread_variance=none,
        covariance=none,
    )


def _without_each(
    geometry: Geometry, nodes: NodeRows, size: Array, raw: Array, squares: Array
) -> Tails:
    """Tails (J,) of stores under nodes (J, K) of all stores of their pools."""
    size, raw = size[:, None], raw[:, None]
    spread = np.maximum(nodes.spread, LEAST_SPREAD / size)
    v0, v1, v2 = geometry.variance
    mean = nodes.location
    unit = v0 * nodes.noise + v1 * mean + v2 * mean**2
    between = spread * unit / (1.0 - v2 * spread)
    within = v0 * nodes.noise + v1 * mean + v2 * (mean**2 + between)
    variance = between + within / size
    left = np.maximum(variance - nodes.location_variance, _LEAST_LEFT * variance)
    moved = (raw - mean) * nodes.location_variance / left
    open_ = nodes.location_variance * variance / left
    if geometry.law is NORMAL:
        z = (raw - mean) / np.sqrt(left)
        log_mass = -0.5 * (z**2 + np.log(variance**2 / left))
        log_mass = log_mass + _log_squares(geometry, nodes.noise, size, squares[:, None])
        return _averaged(nodes.weight, normal_tails(z), log_mass)
    mean = _inside(mean - moved, v2)
    parameters = geometry.law.from_moments(mean, _least(between + open_, mean, v2))
    total, size, first, second = np.broadcast_arrays(raw * size, size, *parameters)
    tails = beta_binomial_tails if geometry.law is BETA else negative_binomial_tails
    found = tails(total, size, first, second)
    return _averaged(nodes.weight, found, np.log(np.maximum(found.equal, 1e-300)))


def _averaged(weight: Array, tails: Tails, log_mass: Array) -> Tails:
    """Average over nodes, whose weights lose what the store itself had given them."""
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight) - log_mass
    log_weight = log_weight - np.max(log_weight, axis=1, keepdims=True)
    without = np.exp(log_weight)
    return tails.mixed(without / np.sum(without, axis=1, keepdims=True))


def _inside(mean: Array, v2: float) -> Array:
    """Keep the mean of a rate where rates are."""
    return np.clip(mean, 1e-12, 1.0 - 1e-12 if v2 < 0 else np.inf)


def _least(variance: Array, mean: Array, v2: float) -> Array:
    """Keep the variance of a chance below that of all or nothing."""
    return np.minimum(variance, 0.98 * mean * (1.0 - mean)) if v2 < 0 else variance


def _squares(geometry: Geometry, statistics: Statistics) -> Array:
    if geometry.has_noise:
        return np.asarray(statistics["m2"], np.float64)
    return np.zeros(len(next(iter(statistics.values()))))


def _log_squares(geometry: Geometry, noise: Array, size: Array, squares: Array) -> Array | float:
    """Log density of a store's own squares, up to what no hyperparameter changes."""
    if not geometry.has_noise:
        return 0.0
    return np.asarray(-0.5 * ((size - 1.0) * np.log(noise) + squares / noise))


def _with_own_variance(statistics: Statistics, at: Hyperparameters) -> Tails:
    """Tails of means whose stores have variances of their own: Student's t, given the squares.

    With d₀ + n − 1 degrees of freedom about μ, and the square of the scale (1/κ + 1/n) times
    (d₀ s₀² + M2)/(d₀ + n − 1) (Bernardo and Smith 1994, appendix A).
    """
    n = np.asarray(statistics["n"], np.float64)
    freedom = at["d0"] + n - 1.0
    variance = (at["d0"] * at["s0_squared"] + np.asarray(statistics["m2"])) / freedom
    scale = np.sqrt(variance * (1.0 / at["kappa"] + 1.0 / n))
    return student_tails(freedom, (np.asarray(statistics["mean"]) - at["mu"]) / scale)


def sizes_of(family: Family, statistics: Statistics) -> Array:
    """Size of each store, (J,); 0 where there are no data to be predicted."""
    if family.geometry is None:
        return np.asarray(statistics["n"], np.float64)
    return family.geometry.sizes(statistics)[0]


def data_weight(
    family: Family, hyperparameters: Hyperparameters, statistics: Statistics, pools: Codes
) -> Array:
    """How much a store's data tell of its θ at the point estimates: its shrinkage weight, (J,).

    That of a store of large weight lies about where its θ does, so the prior's shape shows.
    """
    at = {name: np.asarray(values)[pools] for name, values in hyperparameters.items()}
    if family.geometry is None:
        n = np.asarray(statistics["n"], np.float64)
        return np.asarray(n / (at["kappa"] + n))
    size, _ = family.geometry.sizes(statistics)
    spread = point_nodes(family, family.geometry, statistics, at).spread[:, 0]
    return np.asarray(size * spread / (1.0 + size * spread))
