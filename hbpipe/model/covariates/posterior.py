"""Posterior of the hyperparameters of pools with covariates, by the method asked for.

Normal families: the coefficients are integrated analytically, spread and noise by the quadrature
of the base family. Counts: see ``draws.py``. First order and ``auto``'s rule are those without
covariates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.covariates.analytic import integrated_out, with_coefficients
from hbpipe.model.covariates.draws import draw_counts
from hbpipe.model.covariates.prior import COEFFICIENTS, compile_prior
from hbpipe.model.covariates.separation import standardise, unbounded
from hbpipe.model.covariates.single import first_order, plug_in
from hbpipe.model.covariates.sketch import CovariateSketch, StandardSketch
from hbpipe.model.covariates.target import RegressionTarget, by_place, geometry_at_the_mean
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD
from hbpipe.model.integrate import start_point
from hbpipe.model.integration.peak import Peak, find_peak, scan_spread
from hbpipe.model.integration.proper import check_proper
from hbpipe.model.integration.quadrature import quadrature
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.integration.window import locate


def covariate_pools(
    family: Family,
    sketch: CovariateSketch,
    coordinates: Array,
    *,
    held: Array,
    hyperprior: Any,
    uncertainty: str,
    enough: float,
) -> SampledNodes:
    """Posterior of the hyperparameters of ``G`` pools with covariates, as nodes.

    Parameters are those of :func:`hbpipe.model.integrate.hyperposterior`, in the user's units;
    ``enough`` is the curvature in log τ from which on ``auto`` takes first order. Pools with
    collinear covariates are ``unidentified`` unless every coefficient has a normal hyperprior.

    Raises
    ------
    FitError
        As there; also where the coefficients of counts are flat and the stores separated.
    """
    base = get_family(family.name, family.size)
    coordinates = np.where(np.isnan(held), coordinates, held)
    pools = plug_in(base, sketch, coordinates)
    if uncertainty == "plug_in" or not np.isnan(held).any():
        return SampledNodes(family.name, tuple(pools))
    standard = standardise(base, sketch, apart=False)
    target = _target(family, base, standard, held, hyperprior)
    usable = _usable(target)
    for pool in np.flatnonzero(~usable).tolist():
        pools[pool] = replace(pools[pool], method="unidentified")
    chosen = np.flatnonzero(usable)
    if len(chosen):
        cut = target.select(chosen)
        inside = standard.units.inside(coordinates)[chosen]
        start = start_point(cut, by_place(inside, standard.x.shape[1]))
        if hyperprior is not None:
            _check(cut, start, hyperprior)
        found = _infer(cut, find_peak(cut, start), uncertainty, enough)
        for pool, nodes in zip(chosen.tolist(), found, strict=True):
            pools[pool] = nodes
    return SampledNodes(family.name, tuple(pools))


def _target(
    family: Family, base: Family, sketch: StandardSketch, held: Array, hyperprior: Any
) -> RegressionTarget:
    fixed = frozenset(
        axis.hyperparameter
        for axis, known in zip(family.coordinates, ~np.isnan(held[0]), strict=True)
        if known
    )
    geometry = geometry_at_the_mean(base)
    own = by_place(sketch.units.inside(held), sketch.x.shape[1])
    prior = compile_prior(family, hyperprior, sketch, held=fixed)
    return RegressionTarget(base, geometry, sketch, prior, own)


def _usable(target: RegressionTarget) -> NDArray[np.bool_]:
    """Whether data and hyperprior of a pool give a proper posterior, (G,)."""
    sketch, geometry = target.sketch, target.geometry
    usable = geometry.integrable(sketch.whole)
    if geometry.has_noise:
        usable = usable | (~np.isnan(target.held[:, NOISE]) & (sketch.n_groups > 0))
    known = ~np.isnan(target.held[:, LOCATION])
    known |= np.linalg.eigvalsh(target.prior.precision)[:, 0] > 0
    usable = usable & ((sketch.units.collinear < 0) | known)
    # One value a store: where coefficients can meet them all, σ has no lower end.
    spare = (sketch.n_groups > sketch.x.shape[1]) | known
    for case in target.family.degeneracies(sketch.whole):
        if case.status == "sigma_unidentified":
            usable = usable & (spare | ~case.pools)
    return np.asarray(usable)


def _check(target: RegressionTarget, start: Array, spec: Any) -> None:
    """Raise unless the posterior is proper."""
    if target.geometry.location_is_analytic:
        own = target.geometry.n_working
        check_proper(integrated_out(target), start[:, :own], spec)
        return
    if LOCATION in target.free and COEFFICIENTS in spec:
        _check_bounded(target, spec)
    check_proper(target, start, spec)


def _check_bounded(target: RegressionTarget, spec: Any) -> None:
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


def _infer(
    target: RegressionTarget, peak: Peak, uncertainty: str, enough: float
) -> list[PoolNodes]:
    quick = np.full(target.n_pools, uncertainty == "first_order")
    if uncertainty == "auto" and SPREAD in target.free:
        quick = peak.curvature >= enough
    found = dict[int, PoolNodes]()
    for some, method in ((quick, first_order), (~quick, _integrate)):
        pools = np.flatnonzero(some)
        if len(pools):
            nodes = method(target.select(pools), peak.select(pools))
            found.update(zip(pools.tolist(), nodes, strict=True))
    return [
        replace(found[pool], curvature=float(curvature))
        for pool, curvature in enumerate(peak.curvature)
    ]


def _integrate(target: RegressionTarget, peak: Peak) -> list[PoolNodes]:
    if not target.geometry.location_is_analytic:
        return draw_counts(target, peak)
    own = target.geometry.n_working
    single, point = integrated_out(target), peak.point[:, :own]
    scan = scan_spread(single, point)
    alone = Peak(point, peak.covariance[:, :own, :own], peak.regular, scan)
    return with_coefficients(single, quadrature(single, locate(single, alone)))
