"""Posterior of the hyperparameters of pools with covariates, by the method asked for.

The counterpart of ``integrate.py``. Normal families: the coefficients are integrated analytically,
spread and noise by the quadrature of the base family. Counts: see ``draws.py``. First order and
``auto``'s rule are those without covariates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.covariates.draws import draw, in_user_units
from hbpipe.model.covariates.nodes import CoefficientNodes, combine_nodes, spread_follows
from hbpipe.model.covariates.prior import CoefficientPrior, compile_prior
from hbpipe.model.covariates.separation import standardise, unbounded
from hbpipe.model.covariates.sketch import CovariateSketch
from hbpipe.model.covariates.target import (
    IntegratedTarget,
    RegressionTarget,
    by_place,
    geometry_at_the_mean,
)
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.first_order import marginal_mode
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of
from hbpipe.model.integrate import (
    FIRST_ORDER_CURVATURE,
    UNCERTAINTIES,
    start_point,
    working_point,
)
from hbpipe.model.names import unknown
from hbpipe.model.nodes import Nodes
from hbpipe.model.peak import Peak, find_peak
from hbpipe.model.proper import check_proper
from hbpipe.model.quadrature import quadrature
from hbpipe.model.window import locate

Parts = list[tuple[NDArray[np.int64], CoefficientNodes]]


def coefficient_posterior(
    family: Family,
    sketch: CovariateSketch,
    coordinates: Array,
    *,
    held: Array,
    hyperprior: Any = None,
    uncertainty: str = "auto",
) -> CoefficientNodes:
    """Posterior of the hyperparameters of ``G`` pools with covariates, as nodes.

    Parameters are those of :func:`hbpipe.model.integrate.hyperposterior`, in the user's units.
    Pools with collinear covariates are ``unidentified`` unless every coefficient has a normal
    hyperprior.

    Raises
    ------
    FitError
        As there; also where the coefficients of counts are flat and the stores separated.
    """
    if uncertainty not in UNCERTAINTIES:
        raise unknown("uncertainty", uncertainty, UNCERTAINTIES)
    base = get_family(family.name, family.size)
    coordinates = np.where(np.isnan(held), coordinates, held)
    plain = plug_in(base, sketch, coordinates)
    if uncertainty == "plug_in" or not np.isnan(held).any():
        return plain
    sketch = standardise(base, sketch, apart=False)
    target = _target(family, base, sketch, held, hyperprior)
    chosen, rest = (np.flatnonzero(found) for found in _usable(target))
    parts = [(rest, replace(plain.select(rest), method=np.full(len(rest), "unidentified")))]
    if len(chosen):
        cut = target.select(chosen)
        inside = sketch.units.inside(coordinates)[chosen]
        start = start_point(cut, by_place(cut.geometry, inside, family.covariates))
        if hyperprior is not None:
            _check(cut, start, hyperprior)
        found = _infer(cut, find_peak(cut, start), uncertainty)
        parts += [(chosen[pools], nodes) for pools, nodes in found]
    return combine_nodes([part for part in parts if len(part[0])], len(coordinates))


def plug_in(base: Family, sketch: CovariateSketch, coordinates: Array) -> CoefficientNodes:
    """One node for each pool at given coordinates (G, D), without any uncertainty."""
    geometry, pools = geometry_of(base), len(coordinates)
    width = sketch.x.shape[1]
    own = np.concatenate([np.zeros((pools, 1)), coordinates[:, width:]], axis=1)
    noise = np.exp(2.0 * own[:, NOISE]) if geometry.has_noise else np.ones(pools)
    return single_node(
        base,
        "plug_in",
        coefficients=coordinates[:, :width],
        spread=np.exp(working_point(geometry, own)[:, SPREAD]),
        noise=noise,
        n_groups=sketch.n_groups,
    )


def single_node(
    base: Family,
    method: str,
    *,
    coefficients: Array,
    spread: Array,
    noise: Array,
    n_groups: NDArray[np.int64],
    **known: Array,
) -> CoefficientNodes:
    """One node for each pool; variances that are not given are zero and the curvature NaN."""
    pools, width = coefficients.shape
    remaining = known.pop("remaining", np.zeros((pools, width, width)))
    defaults = {
        "spread_variance": np.zeros(pools),
        "spread_covariance": np.zeros((pools, width)),
        "curvature": np.full(pools, np.nan),
    }
    return CoefficientNodes(
        family=base.name,
        method=np.full(pools, method, dtype="<U16"),
        weight=np.ones((pools, 1, 1)),
        spread=spread[:, None, None],
        noise=noise[:, None, None],
        coefficients=coefficients[:, None, None],
        remaining=remaining[:, None, None],
        n_groups=n_groups,
        inner=np.ones(pools, np.int64),
        drawn=False,
        **(defaults | known),
    )


def _target(
    family: Family, base: Family, sketch: CovariateSketch, held: Array, hyperprior: Any
) -> RegressionTarget:
    fixed = frozenset(
        axis.hyperparameter
        for axis, known in zip(family.coordinates, ~np.isnan(held[0]), strict=True)
        if known
    )
    geometry = geometry_at_the_mean(base)
    own = by_place(geometry, sketch.units.inside(held), family.covariates)
    prior = compile_prior(family, hyperprior, sketch, held=fixed)
    return RegressionTarget(base, geometry, sketch, prior, own)


def _usable(target: RegressionTarget) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pools whose data and hyperprior give a proper posterior, (G,), and the others."""
    sketch, geometry = target.sketch, target.geometry
    usable = geometry.integrable(sketch.whole)
    if geometry.has_noise:
        usable = usable | (~np.isnan(target.held[:, NOISE]) & (sketch.n_groups > 0))
    known = ~np.isnan(target.held[:, LOCATION])
    known |= np.linalg.eigvalsh(target.prior.precision)[:, 0] > 0
    usable = usable & ((sketch.units.collinear < 0) | known)
    return usable, ~usable


def _check(target: RegressionTarget, start: Array, spec: Any) -> None:
    """Raise unless the posterior is proper."""
    if target.geometry.location_is_analytic:
        own = target.geometry.n_working
        check_proper(_integrated_out(target), start[:, :own], spec)
        return
    check_proper(target, start, spec)
    if LOCATION not in target.free or "coefficients" not in spec:
        return
    endless = unbounded(target.family, target.sketch, target.prior.precision)
    if endless.any():
        pool = int(np.flatnonzero(endless)[0])
        raise FitError(
            f"the hyperprior {spec!r} gives an improper posterior: stores without a success, "
            "failure or count let a coefficient grow for ever",
            where={"pool": pool, "stores": int(target.sketch.n_groups[pool])},
            expected="a posterior that integrates to one",
            remedy="leave the coefficients out (their default is proper), or give them "
            "normal(m, s)",
        )


def _infer(target: RegressionTarget, peak: Peak, uncertainty: str) -> Parts:
    every = np.arange(target.n_pools)
    if uncertainty == "first_order":
        return [(every, first_order(target, peak))]
    if uncertainty == "integrated" or SPREAD not in target.free:
        return _integrate(target, peak)
    enough = peak.curvature >= FIRST_ORDER_CURVATURE
    quick, slow = np.flatnonzero(enough), np.flatnonzero(~enough)
    parts: Parts = []
    if len(quick):
        parts.append((quick, first_order(target.select(quick), peak.select(quick))))
    if len(slow):
        found = _integrate(target.select(slow), peak.select(slow))
        parts += [(slow[pools], nodes) for pools, nodes in found]
    return parts


def first_order(target: RegressionTarget, peak: Peak) -> CoefficientNodes:
    """One node for each pool, with the covariance of coefficients and log spread around it."""
    free = SPREAD in target.free
    point = marginal_mode(target, peak) if free else peak.point
    own, follows = target.geometry.n_working, spread_follows(target.geometry)
    places = [LOCATION, *range(own, point.shape[1])]
    matrix = target.sketch.units.matrix
    coefficients, log_spread = in_user_units(target, point)
    covariance = peak.covariance
    # log A at location 0 is that at the mean row less c times the location there.
    along = covariance[:, SPREAD] - follows * covariance[:, LOCATION]
    variance = along[:, SPREAD] - follows * along[:, LOCATION]
    noise = np.exp(2.0 * point[:, NOISE]) if target.geometry.has_noise else np.ones(len(point))
    return single_node(
        target.family,
        "first_order",
        coefficients=coefficients,
        spread=np.exp(log_spread),
        noise=noise,
        n_groups=target.sketch.n_groups,
        remaining=matrix @ covariance[:, places][:, :, places] @ np.swapaxes(matrix, 1, 2),
        spread_variance=variance * free,
        spread_covariance=np.einsum("gpq,gq->gp", matrix, along[:, places]) * free,
        curvature=peak.curvature,
    )


def _integrate(target: RegressionTarget, peak: Peak) -> Parts:
    if not target.geometry.location_is_analytic:
        drawn = draw(target, locate(target, peak))
        return [
            (pools, replace(nodes, curvature=peak.curvature[pools])) for pools, nodes in drawn
        ]
    own = target.geometry.n_working
    alone = Peak(peak.point[:, :own], peak.covariance[:, :own, :own], peak.regular)
    single = _integrated_out(target)
    nodes = _with_coefficients(single, quadrature(single, locate(single, alone)))
    return [(np.arange(target.n_pools), replace(nodes, curvature=peak.curvature))]


def _integrated_out(target: RegressionTarget) -> IntegratedTarget:
    """Return the target of a normal family without its coefficients."""
    own = target.geometry.n_working
    held, fixed = target.held[:, :own].copy(), None
    if LOCATION not in target.free:
        fixed = np.concatenate([held[:, :1], target.held[:, own:]], axis=1)
    held[:, LOCATION] = 0.0
    return IntegratedTarget(
        target.family, target.geometry, target.sketch, target.prior, held, fixed
    )


def _with_coefficients(target: IntegratedTarget, nodes: Nodes) -> CoefficientNodes:
    """Add the coefficients' posterior at every node of spread and noise."""
    pools, outer, inner = nodes.weight.shape
    tau_squared = (nodes.spread * nodes.noise).reshape(pools, -1)
    others = [tau_squared]
    if target.geometry.has_noise:
        others.append(0.5 * np.log(nodes.noise).reshape(pools, -1))
    at = np.stack(others, axis=2)
    length = target.at_once(at.shape[1])
    means, covariances = [], []
    for begin in range(0, at.shape[1], length):
        block = at[:, begin : begin + length]
        many = target.repeat(block.shape[1])
        mean, covariance = many.coefficients(block.reshape(-1, at.shape[2]))
        means.append(mean.reshape(pools, block.shape[1], -1))
        covariances.append(covariance.reshape(pools, block.shape[1], *covariance.shape[1:]))
    matrix = target.sketch.units.matrix
    coefficients = np.einsum("gpq,gnq->gnp", matrix, np.concatenate(means, axis=1))
    remaining = np.einsum(
        "gpi,gnij,gqj->gnpq", matrix, np.concatenate(covariances, axis=1), matrix
    )
    used = np.sum(np.any(nodes.weight > 0, axis=1), axis=1)
    return CoefficientNodes(
        family=target.family.name,
        method=nodes.method,
        weight=nodes.weight,
        spread=nodes.spread,
        noise=nodes.noise,
        coefficients=coefficients.reshape(pools, outer, inner, -1),
        remaining=remaining.reshape(pools, outer, inner, *remaining.shape[2:]),
        spread_variance=nodes.spread_variance,
        spread_covariance=np.zeros(coefficients[:, 0].shape),
        curvature=nodes.curvature,
        n_groups=nodes.n_groups,
        inner=used,
        drawn=False,
    )
