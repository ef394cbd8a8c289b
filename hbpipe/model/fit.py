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
from hbpipe.model.covariates.restate import outside
from hbpipe.model.estimation.adjusted import POWERS
from hbpipe.model.estimation.climb import climb
from hbpipe.model.estimation.compiled import compile_any
from hbpipe.model.estimation.edge import closed
from hbpipe.model.estimation.problem import (
    ADJUSTABLE,
    Problem,
    cases,
    diagnose,
    hold,
    is_restricted,
    read_estimator,
)
from hbpipe.model.estimation.starts import first_start, inside, starts
from hbpipe.model.estimation.status import bounds_reached, names_at_bound, status
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.fits import Fit, PoolFits
from hbpipe.model.numerics.optimise import Curvature, Optimum, active_bounds
from hbpipe.model.statistics import admitted, check_covariates, check_link

__all__ = ["Fit", "PoolFits", "fit", "fit_pools"]

#: Two climbs found the same summit when their values differ by less, relative to 1 + |value|.
_SAME_SUMMIT = 1e-8
#: Rows of a sketch, or numbers of Hessians, that are copied for every start.
_ROWS = 2**19


def fit(
    family: str | Family,
    statistics: Mapping[str, Any],
    *,
    estimator: str = "ml",
    fixed: Mapping[str, Any] | None = None,
    hyperprior: Any = None,
    covariates: Any = None,
    link: str | None = None,
    prior: str = "single",
    start: Mapping[str, Any] | None = None,
    nesting: Mapping[str, Any] | None = None,
) -> Fit:
    """Estimate the hyperparameters of one pool of stores.

    Parameters
    ----------
    family
        Its name, or the family.
    statistics
        name -> (J, ...) array-like, one entry per store. A family of several sizes takes its own
        from the arrays.
    estimator
        ``ml`` (maximum marginal likelihood), ``reml`` (normal families; Patterson and Thompson
        1971), ``map`` (likelihood × hyperprior in the named parameters, no Jacobian) or
        ``moments``, with a variant as in ``moments:hedges``. ``ml:li_lahiri``, ``ml:chung`` and
        the same with ``reml`` keep the spread off zero (:mod:`hbpipe.model.estimation.adjusted`).
    fixed
        Hyperparameters that are known, name -> value; they are not estimated. NaN leaves an
        element of a vector free.
    hyperprior
        Specification of the hyperprior. It shapes ``map``, and posteriors remember it.
    covariates
        (J, P) array-like, the intercept column included: the prior mean is then linear in them on
        the line of the family's link, with ``coefficients`` in place of the location.
    link
        The family's link, ``identity``, ``logit`` or ``log``, for those who want to name it.
    prior
        How θ varies over stores: ``single``, the family's conjugate law, or ``mixture``, two such
        laws where the data ask for them (:mod:`hbpipe.model.mixtures`).
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
    model = family if isinstance(family, Family) else get_family(family)
    if prior != "single":
        model = get_family(model.name, model.size, model.covariates, prior)
    model, arrays = admitted(model, statistics)
    check_link(model, link)
    given: dict[str, Any] = {
        "estimator": estimator,
        "fixed": fixed,
        "hyperprior": hyperprior,
        "start": start,
    }
    if nesting is not None:
        from hbpipe.model.nested.posterior import fit_labelled  # it builds on this module

        fits: PoolFits = fit_labelled(model, arrays, nesting, covariates, **given)
    else:
        stores = len(arrays[model.statistics[0].name])
        if covariates is not None or model.covariates is not None:
            arrays["covariates"] = check_covariates(covariates, stores, model.covariates)
            width = arrays["covariates"].shape[1]
            model = get_family(model.name, model.size, width, model.prior_form)
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
    if model.estimate is not None:
        given = {"estimator": estimator, "fixed": fixed, "hyperprior": hyperprior, "start": start}
        return model.estimate(model, sketch, **given)
    given = sketch
    if model.standardise is not None:
        sketch = model.standardise(given, kind != "map")
    held = inside(sketch, hold(model, fixed or {}, sketch.n_pools))
    prior = compile_any(model, sketch, hyperprior, fixed or {}, held, needed=kind == "map")
    pinned, status, identified = diagnose(model, sketch, held, estimator=estimator)
    problem = Problem(
        model,
        sketch,
        held,
        pinned,
        status,
        identified,
        is_restricted(model, held, kind),
        prior if kind == "map" else None,
        _power(model, kind, variant, held, pinned),
        _shut(model, sketch, held, prior) if kind == "map" else None,
    )
    first = first_start(problem, start)
    if kind == "moments":
        found = _evaluate(problem, problem.settle(model.moments[variant](sketch, held)))
    else:
        found = _climb(problem, first)
    fits = _report(problem, found, first, estimator, fixed or {}, hyperprior)
    return fits if model.standardise is None else outside(fits, given)


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


def _power(family: Family, kind: str, variant: str, held: Array, pinned: Array) -> Array | None:
    """Power of the spread in an adjusted likelihood, (G,): 0 where the spread is not estimated."""
    if not variant or kind not in ADJUSTABLE:
        return None
    (axis,) = family.spreads
    return np.where(np.isnan(held[:, axis]) & np.isnan(pinned[:, axis]), POWERS[variant], 0.0)


def _shut(family: Family, sketch: Any, held: Array, prior: Any) -> NDArray[np.bool_]:
    """Bounds (G, D) on which the hyperprior's density is 0."""
    at = np.where(np.isnan(held), family.start(sketch, held), held)
    return closed(family, prior, at, family.scale(sketch))


def _climb(problem: Problem, first: Array) -> _Found:
    climbs = _climbs(problem, starts(problem, first))
    values = np.stack([found.value for found in climbs])
    # Among climbs that found the same summit the first that converged wins.
    near = values >= values.max(axis=0) - _same_summit(values.max(axis=0))
    converged = np.stack([found.converged for found in climbs])
    best = np.argmax(near * (1 + converged), axis=0)
    pools = np.arange(values.shape[1])
    chosen = {
        name: np.stack([getattr(found, name) for found in climbs])[best, pools]
        for name in vars(climbs[0])
    }
    return _Found(Optimum(**chosen), values)


def _climbs(problem: Problem, begun: list[Array]) -> list[Optimum]:
    """Climb from every start; together where the tables are small, because rounds cost calls.

    A hyperprior may be a function that knows nothing of pools, and sketches of families with a
    mirror may lie on workers.
    """
    count, pools = len(begun), len(problem.held)
    apart = problem.prior is not None or problem.family.mirror is not None
    if apart or count * max(problem.sketch.n_rows, pools * problem.held.shape[1] ** 2) > _ROWS:
        return [climb(problem, start) for start in begun]
    found = climb(problem.select(np.tile(np.arange(pools), count)), np.concatenate(begun))
    return [
        Optimum(**{name: part[k * pools : (k + 1) * pools] for name, part in vars(found).items()})
        for k in range(count)
    ]


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
    at_bound = bounds_reached(problem, best)
    words = status(problem, best, at_bound, climbed=not estimator.startswith("moments"))
    identified = problem.identified & (words != "flat")
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
        at_bound=names_at_bound(family, best.coordinates, at_bound),
        status=tuple(words.tolist()),
        identified=identified,
        n_groups=problem.sketch.n_groups,
        start_values=found.start_values,
        starts_agree=found.agree,
        held=problem.held,
        fixed=dict(fixed),
        hyperprior=hyperprior,
        sketch=problem.sketch,
        size=family.size,
        covariates=family.covariates,
    )


def _curvature(problem: Problem, best: Optimum) -> Curvature:
    """Curvature at the optimum over the coordinates that are free and off their bounds."""
    used = problem.free & (best.active == 0)
    scale = problem.family.scale(problem.sketch)
    return Curvature.of(best.hessian, np.where(used, 0.0, best.gradient), scale, used)


def _not_identified(family: Family, fits: PoolFits) -> FitError:
    """Say why there is no estimate, and the way out."""
    status = fits.status[0]
    for case in cases(family, fits.sketch, fits.estimator):
        if case.status == status:
            return FitError(case.found, where={"family": family.name}, remedy=case.remedy)
    return FitError(
        "the likelihood is flat around its maximum, so the hyperparameters are not determined",
        where={"family": family.name, "estimator": fits.estimator},
        remedy="hold some of them with `fixed`, or give a proper hyperprior and estimator='map'",
    )
