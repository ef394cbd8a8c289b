"""Posterior of the hyperparameters of fitted pools, by the method asked for.

``integrate_pools`` runs once for a fit, on the sketch; its nodes are all that a worker needs to
update stores with the whole pool's uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.fits import PoolFits
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, Geometry, geometry_of
from hbpipe.model.hyperpriors import LogPrior, Spec, compile_hyperprior
from hbpipe.model.integration.first_order import first_order_nodes
from hbpipe.model.integration.nodes import Nodes, combine_pools, single_nodes
from hbpipe.model.integration.peak import Peak, find_peak
from hbpipe.model.integration.proper import check_proper
from hbpipe.model.integration.quadrature import quadrature
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.integration.sampled_pools import sample_pools
from hbpipe.model.integration.target import Target
from hbpipe.model.integration.window import locate
from hbpipe.model.names import unknown
from hbpipe.model.nonparametric.fits import GridFits
from hbpipe.model.nonparametric.integrate import integrate_grids
from hbpipe.model.numerics.jets import variables

UNCERTAINTIES = ("auto", "plug_in", "first_order", "integrated")
#: ``auto`` takes first order from this curvature in log τ on: sd(log τ) ≤ 0.11, limits within
#: 0.08 posterior sd of the integrated ones for every store, 0.004 on average.
FIRST_ORDER_CURVATURE = 80.0
#: A start for an estimate at infinity: logit or logarithm of a mean that is as good as zero.
_FARTHEST = 12.0


def integrate_pools(fits: PoolFits, *, uncertainty: str = "auto") -> AnyNodes:
    """Posterior of the hyperparameters of fitted pools, as nodes that a worker can use.

    The point estimates are only a start, except for ``plug_in``. Pools whose data leave the
    posterior improper under any hyperprior (no data; no variation within stores where σ is
    estimated) have the method ``unidentified`` and the fit's finite numbers without uncertainty:
    ``PoolFits.status`` says why, and they should not be published.

    Parameters
    ----------
    fits
        From :func:`hbpipe.model.fit.fit_pools`; its hyperprior and fixed values are used.
    uncertainty
        ``auto``, ``plug_in``, ``first_order`` or ``integrated``.

    Raises
    ------
    FitError
        As :func:`hyperposterior`.
    """
    if isinstance(fits, GridFits):
        if uncertainty not in UNCERTAINTIES:
            raise unknown("uncertainty", uncertainty, UNCERTAINTIES)
        return integrate_grids(get_family(fits.family), fits, uncertainty)
    return hyperposterior(
        fits.model,
        fits.sketch,
        fits.coordinates,
        held=fits.held,
        hyperprior=fits.hyperprior,
        uncertainty=uncertainty,
    )


def hyperposterior(
    family: Family,
    sketch: Any,
    coordinates: Array,
    *,
    held: Array,
    hyperprior: Spec = None,
    uncertainty: str = "auto",
) -> AnyNodes:
    """Posterior of the hyperparameters of ``G`` pools, as nodes.

    Parameters
    ----------
    family, sketch
        The family and its sketch of ``G`` pools.
    coordinates
        (G, D) point estimates: the values for ``plug_in``, a start for the other methods.
    held
        (G, D) coordinates that are known, NaN where free; the same ones in every pool.
    hyperprior
        As in :func:`hbpipe.model.hyperpriors.compile_hyperprior`.
    uncertainty
        ``auto``, ``plug_in``, ``first_order`` or ``integrated``.

    Returns
    -------
    Nodes, or SampledNodes for a family with ``sampling`` or covariates
        With the method of each pool, ``unidentified`` where there is none.

    Raises
    ------
    FitError
        If the method is unknown, the hyperprior does not fit the family, or the posterior of
        the hyperparameters is improper.
    """
    if uncertainty not in UNCERTAINTIES:
        raise unknown("uncertainty", uncertainty, UNCERTAINTIES)
    infer = _of_its_own(family)
    if infer is not None:
        return infer(
            family,
            sketch,
            coordinates,
            held=held,
            hyperprior=hyperprior,
            uncertainty=uncertainty,
            enough=FIRST_ORDER_CURVATURE,
        )
    geometry = geometry_of(family)
    plain = plug_in_nodes(family, sketch, np.where(np.isnan(held), coordinates, held))
    if uncertainty == "plug_in" or not np.isnan(held).any():
        return plain
    usable = geometry.integrable(sketch)
    if geometry.has_noise:
        usable |= ~np.isnan(held[:, NOISE]) & (np.asarray(sketch.n_groups) > 0)
    chosen, rest = np.flatnonzero(usable), np.flatnonzero(~usable)
    parts = [(rest, replace(plain.select(rest), method=np.full(len(rest), "unidentified")))]
    if len(chosen):
        cut, spec = sketch, hyperprior
        if len(rest):
            cut = sketch.select(chosen)
            spec = spec.select(chosen) if isinstance(spec, LogPrior) else spec
        target = _target(family, geometry, cut, held[chosen], spec)
        parts.append((chosen, _infer(target, coordinates[chosen], hyperprior, uncertainty)))
    return combine_pools(parts, len(coordinates))


def _of_its_own(family: Family) -> Callable[..., SampledNodes] | None:
    """Return what integrates families that need more than a grid."""
    if family.covariates is not None:
        from hbpipe.model.covariates.posterior import covariate_pools  # it starts as pools here do

        return covariate_pools
    if family.integrate is not None:
        return family.integrate
    if family.sampling is not None and family.geometry is None:
        return sample_pools
    return None


def _target(
    family: Family, geometry: Geometry, sketch: Any, held: Array, hyperprior: Spec
) -> Target:
    fixed = frozenset(
        axis.hyperparameter
        for axis, known in zip(family.coordinates, ~np.isnan(held[0]), strict=True)
        if known
    )
    prior = compile_hyperprior(family, hyperprior, sketch, held=fixed)
    return Target(family, geometry, sketch, prior, held)


def _infer(target: Target, coordinates: Array, hyperprior: Spec, uncertainty: str) -> Nodes:
    start = start_point(target, coordinates)
    if hyperprior is not None:
        check_proper(target, start, hyperprior)
    peak = find_peak(target, start)
    if uncertainty == "first_order":
        return first_order_nodes(target, peak)
    if SPREAD not in target.free:
        return quadrature(target, locate(target, peak))
    if uncertainty == "integrated":
        return _integrated(target, peak)
    return _automatic(target, peak)


def _integrated(target: Target, peak: Peak) -> Nodes:
    return replace(quadrature(target, locate(target, peak)), curvature=peak.curvature)


def _automatic(target: Target, peak: Peak) -> Nodes:
    """First order where the spread is well determined, quadrature elsewhere."""
    enough = peak.curvature >= FIRST_ORDER_CURVATURE
    parts = []
    for chosen, quick in ((np.flatnonzero(enough), True), (np.flatnonzero(~enough), False)):
        if len(chosen):
            some, at = target.select(chosen), peak.select(chosen)
            nodes = first_order_nodes(some, at) if quick else _integrated(some, at)
            parts.append((chosen, nodes))
    return combine_pools(parts, target.n_pools)


def plug_in_nodes(family: Family, sketch: Any, coordinates: Array) -> Nodes:
    """One node for each pool at given coordinates (G, D), without any uncertainty."""
    geometry = geometry_of(family)
    working = variables(working_point(geometry, coordinates))
    noise = np.ones(len(coordinates))
    if geometry.has_noise:
        noise = np.exp(2.0 * coordinates[:, NOISE])
    return single_nodes(
        family.name,
        "plug_in",
        spread=np.exp(working[SPREAD].value),
        location=geometry.mean(coordinates[:, LOCATION]),
        noise=noise,
        n_groups=np.asarray(sketch.n_groups),
    )


def working_point(geometry: Geometry, coordinates: Array) -> Array:
    """Coordinates (G, D) → working variables (G, V); no spread becomes a very small one."""
    point = coordinates.copy()
    point[:, SPREAD] = geometry.log_spread(coordinates[:, SPREAD], variables(point)).value
    return point


def start_point(target: Target, coordinates: Array) -> Array:
    """Return a finite start: estimates on a bound or missing are moved inside."""
    geometry = target.geometry
    known = np.where(np.isfinite(coordinates), coordinates, 0.0)
    point = working_point(geometry, known)
    typical = -np.log(geometry.median_size(target.sketch))
    point[:, SPREAD] = np.clip(point[:, SPREAD], typical - 10.0, typical + 30.0)
    if not geometry.location_is_analytic:
        lines = [place for place in range(point.shape[1]) if place != SPREAD]
        point[:, lines] = np.clip(point[:, lines], -_FARTHEST, _FARTHEST)
    return point
