"""Hyperparameters from statistics: moments, ML-II, REML, MAP.

A fit climbs from several starts: the moments, the same without spread, and with a large one. The
best summit wins; since no climb goes down, the result is never below the moments start or the
pooled limit. Pools that data cannot determine get a status word and do not stop the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.fits import Fit, PoolFits
from hbpipe.model.optimise import Curvature, Optimum, active_bounds, maximise
from hbpipe.model.problem import Problem, diagnose, hold, read_estimator
from hbpipe.model.statistics import check_statistics

__all__ = ["Fit", "PoolFits", "fit", "fit_pools"]

#: Two climbs found the same summit when their values differ by less, relative to 1 + |value|.
_SAME_SUMMIT = 1e-8
#: A walk that stopped with less slope than this without a proper maximum stands on a plain.
_FLAT_NORM = 1e-3


def fit(
    family: str | Family,
    statistics: Mapping[str, Any],
    *,
    estimator: str = "ml",
    fixed: Mapping[str, Any] | None = None,
    hyperprior: Any = None,
    start: Mapping[str, Any] | None = None,
    nesting: Mapping[str, Any] | None = None,
) -> Fit:
    """Estimate the hyperparameters of one pool of stores.

    Parameters
    ----------
    family
        Its name, or the family.
    statistics
        name -> (J,) array-like, one value per store.
    estimator
        ``ml`` (maximum marginal likelihood), ``reml`` (normal families; Patterson and Thompson
        1971), ``map`` (likelihood × hyperprior in the named parameters, no Jacobian) or
        ``moments``, with a variant as in ``moments:hedges``.
    fixed
        Hyperparameters that are known, name -> value; they are not estimated.
    hyperprior
        Specification of the hyperprior. It shapes ``map``, and posteriors remember it.
    start
        Hyperparameters to start from, in place of the moments.
    nesting
        Levels of groups between all stores and one, coarse to fine: name -> (J,) label of each
        store's group, a whole number or text. See :func:`hbpipe.model.nesting.fit_nested`.

    Raises
    ------
    StatisticsError
        If the statistics are impossible.
    FitError
        If the data do not determine the hyperparameters, or an argument is wrong. An estimate on
        a bound is not an error: see ``Fit.boundary``.
    """
    model = get_family(family) if isinstance(family, str) else family
    arrays = check_statistics(model, statistics)
    given: dict[str, Any] = {
        "estimator": estimator,
        "fixed": fixed,
        "hyperprior": hyperprior,
        "start": start,
    }
    if nesting is not None:
        from hbpipe.model.nested_posterior import fit_labelled  # it builds on this module

        fits: PoolFits = fit_labelled(model, arrays, nesting, **given)
    else:
        stores = len(arrays[model.statistics[0].name])
        fits = fit_pools(model, model.compress(arrays, np.zeros(stores, np.int64), 1), **given)
    if not fits.identified[0]:
        raise _not_identified(fits.model, fits)
    return fits.pool(0)


def fit_pools(
    family: str | Family,
    sketch: Any,
    *,
    estimator: str = "ml",
    fixed: Mapping[str, Any] | None = None,
    hyperprior: Any = None,
    start: Mapping[str, Any] | None = None,
) -> PoolFits:
    """Estimate the hyperparameters of ``G`` pools, each on its own, in one pass.

    Parameters are those of :func:`fit`, with the family's sketch in place of statistics; values in
    ``fixed`` and ``start`` may be (G,). Data that determine nothing raise no error here: see
    ``PoolFits.status`` and ``PoolFits.identified``.

    Raises
    ------
    FitError
        If an argument is wrong.
    """
    model = get_family(family) if isinstance(family, str) else family
    kind, variant = read_estimator(model, estimator)
    held = hold(model, fixed or {}, sketch.n_pools)
    prior = _compile(model, sketch, hyperprior, frozenset(fixed or ()), needed=kind == "map")
    pinned, status, identified = diagnose(model, sketch, held, kind=kind)
    # A location that is held is not integrated out either: REML is then ML.
    restricted = kind == "reml" and bool(np.isnan(held[:, 0]).all())
    problem = Problem(
        model,
        sketch,
        held,
        pinned,
        status,
        identified,
        restricted,
        prior if kind == "map" else None,
    )
    first = _first_start(problem, start)
    if kind == "moments":
        found = _evaluate(problem, problem.settle(model.moments[variant](sketch, held)))
    else:
        found = _climb(problem, first)
    return _report(problem, found, first, estimator, fixed or {}, hyperprior)


@dataclass(frozen=True)
class _Found:
    """The best optimum of each pool, and what each start reached."""

    optimum: Optimum
    start_values: Array

    @property
    def agree(self) -> NDArray[np.bool_]:
        """Whether all climbs ended on the same summit, (G,)."""
        summit = self.start_values.max(axis=0)
        return np.asarray(np.ptp(self.start_values, axis=0) <= _same_summit(summit))


def _same_summit(value: Array) -> Array:
    """Values this near to a summit's are of the same summit."""
    return np.asarray(_SAME_SUMMIT * (1.0 + np.abs(value)))


def _compile(family: Family, sketch: Any, spec: Any, held: frozenset[str], *, needed: bool) -> Any:
    """Compile the hyperprior; a wrong specification is an error of every fit that is given one."""
    if callable(spec) or (spec is None and not needed):
        return spec
    from hbpipe.model.hyperpriors import compile_hyperprior

    return compile_hyperprior(family, spec, sketch, held=held)


def _first_start(problem: Problem, start: Mapping[str, Any] | None) -> Array:
    """Moments, or the given start where it says something, inside the bounds."""
    moments = problem.family.start(problem.sketch, problem.held)
    if start:
        given = hold(problem.family, start, len(moments))
        moments = np.where(np.isnan(given), moments, given)
    return problem.settle(moments)


def _starts(problem: Problem, first: Array) -> list[Array]:
    """Give the first start, the same without spread, and the same with a large spread.

    Where there are several spreads, also without each of them alone.
    """
    spreads, lower = list(problem.family.spreads), problem.family.bounds[0]
    if not problem.free[:, spreads].any():
        return [first]
    starts = []
    for axes in [spreads, *([axis] for axis in spreads if len(spreads) > 1)]:
        alike = first.copy()
        alike[:, axes] = lower[axes]
        starts.append(problem.settle(alike))
    apart = first.copy()
    apart[:, spreads] = lower[spreads] + problem.family.scale(problem.sketch)[:, spreads]
    return [first, starts[0], problem.settle(apart), *starts[1:]]


def _climb(problem: Problem, first: Array) -> _Found:
    lower, upper = problem.family.bounds
    scale = problem.family.scale(problem.sketch)
    climbs = [
        maximise(problem.objective, start, lower, upper, scale, problem.free)
        for start in _starts(problem, first)
    ]
    values = np.stack([climb.value for climb in climbs])
    # Among climbs that found the same summit the first that converged wins.
    near = values >= values.max(axis=0) - _same_summit(values.max(axis=0))
    converged = np.stack([climb.converged for climb in climbs])
    best = np.argmax(near * (1 + converged), axis=0)
    pools = np.arange(values.shape[1])
    chosen = {
        name: np.stack([getattr(climb, name) for climb in climbs])[best, pools]
        for name in vars(climbs[0])
    }
    return _Found(Optimum(**chosen), values)


def _evaluate(problem: Problem, coordinates: Array) -> _Found:
    """Take the coordinates as they are: moments maximise nothing."""
    pools = np.arange(len(coordinates))
    value, gradient, hessian = problem.objective(coordinates, pools)
    active = np.where(
        problem.free, active_bounds(coordinates, 0.0 * gradient, *problem.family.bounds), 0
    ).astype(np.int8)
    used = problem.free & (active == 0)
    scale = problem.family.scale(problem.sketch)
    kept = np.where(used, gradient, 0.0)
    step = Curvature.of(hessian, gradient, scale, used).solve(kept)
    norm = np.sqrt(np.maximum(np.sum(step * kept, axis=1), 0.0))
    rounds = np.zeros(len(value), np.int64)
    arrived = np.ones(len(value), bool)
    optimum = Optimum(coordinates, value, gradient, hessian, active, norm, rounds, arrived)
    return _Found(optimum, value[None])


def _report(
    problem: Problem,
    found: _Found,
    first: Array,
    estimator: str,
    fixed: Mapping[str, Any],
    hyperprior: Any,
) -> PoolFits:
    family, best = problem.family, found.optimum
    pools = np.arange(len(first))
    curvature = _curvature(problem, best)
    at_bound = _bounds_reached(problem, best)
    status = _status(problem, best, at_bound, climbed=not estimator.startswith("moments"))
    identified = problem.identified & (status != "flat")
    return PoolFits(
        family=family.name,
        estimator=estimator,
        coordinates=best.coordinates,
        hyperparameters=family.from_coordinates(best.coordinates),
        log_marginal_likelihood=problem.log_likelihood(best.coordinates, pools)[0],
        start_log_marginal_likelihood=problem.log_likelihood(first, pools)[0],
        covariance=curvature.covariance(),
        gradient_norm=best.gradient_norm,
        eigenvalues=curvature.eigenvalues,
        iterations=best.rounds,
        converged=best.converged & identified,
        boundary=np.asarray(at_bound.any(axis=1)),
        at_bound=_names_at_bound(family, at_bound),
        status=tuple(status.tolist()),
        identified=identified,
        n_groups=problem.sketch.n_groups,
        start_values=found.start_values,
        starts_agree=found.agree,
        held=problem.held,
        fixed=dict(fixed),
        hyperprior=hyperprior,
        sketch=problem.sketch,
    )


def _curvature(problem: Problem, best: Optimum) -> Curvature:
    """Curvature at the optimum over the coordinates that are free and off their bounds."""
    used = problem.free & (best.active == 0)
    scale = problem.family.scale(problem.sketch)
    return Curvature.of(best.hessian, np.where(used, 0.0, best.gradient), scale, used)


def _names_at_bound(family: Family, at_bound: NDArray[np.bool_]) -> tuple[tuple[str, ...], ...]:
    names = [axis.hyperparameter for axis in family.coordinates]
    return tuple(tuple(name for name, on in zip(names, row, strict=True) if on) for row in at_bound)


def _bounds_reached(problem: Problem, best: Optimum) -> NDArray[np.bool_]:
    """Estimated coordinates on a bound, by the gradient or because the data put them there."""
    lower, upper = problem.family.bounds
    on_bound = (best.coordinates <= lower) | (best.coordinates >= upper)
    return np.asarray(np.isnan(problem.held) & on_bound)


def _status(
    problem: Problem, best: Optimum, at_bound: NDArray[np.bool_], *, climbed: bool
) -> NDArray[np.str_]:
    """One word per pool; the data's own word comes first."""
    spreads = list(problem.family.spreads)
    lowest = best.coordinates[:, spreads] <= problem.family.bounds[0][spreads]
    alike = np.all(at_bound[:, spreads] & lowest, axis=1) & bool(spreads)
    held_all = ~np.isnan(problem.held).any(axis=1)
    flat = ~best.converged & (best.gradient_norm <= _FLAT_NORM) & climbed
    words = np.select(
        [problem.status != "", held_all, flat, ~best.converged, alike, at_bound.any(axis=1)],
        [problem.status, "fixed", "flat", "not_converged", "no_spread", "at_bound"],
        "ok",
    )
    return np.asarray(words, dtype="U32")


def _not_identified(family: Family, fits: PoolFits) -> FitError:
    """Say why there is no estimate, and the way out."""
    status = fits.status[0]
    for case in family.degeneracies(fits.sketch):
        if case.status == status:
            return FitError(case.found, where={"family": family.name}, remedy=case.remedy)
    return FitError(
        "the likelihood is flat around its maximum, so the hyperparameters are not determined",
        where={"family": family.name, "estimator": fits.estimator},
        remedy="hold some of them with `fixed`, or give a proper hyperprior and estimator='map'",
    )
