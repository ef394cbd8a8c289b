"""Moment estimators of a regression with a spread between stores.

The coefficients are those of the generalised linear model without spread; then Pearson's X² gives
the spread: E X² = (J − P) + s Σ c (1 − h) with the leverage h of each store and c from
:class:`hbpipe.model.family.Pearson`. That is DerSimonian and Laird's estimator with covariates
(Raudenbush 2009), Kleinman's for the Beta-Binomial (Williams 1982) and Breslow's (1984) for the
Gamma-Poisson; without covariates they are the base family's own.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from hbpipe.model.covariates.likelihood import locations, log_marginal
from hbpipe.model.covariates.sketch import CovariateSketch, StandardSketch
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Array, Codes, Derivatives, Family
from hbpipe.model.numerics.optimise import Curvature, maximise

_PAULE_MANDEL_STEPS = 100
#: No start for counts is farther than this from 0 along a standard coefficient.
_FARTHEST = 40.0


def scale(base: Family, sketch: CovariateSketch) -> Array:
    """Step sizes of the base family; those of a coefficient over the size of its covariate."""
    of_base = base.scale(sketch.whole)
    rows, stores = sketch.rows, sketch.rows.sum(sketch.rows["stores"])
    squares = [rows.sum(rows["stores"] * column**2) for column in sketch.x.T]
    size = np.sqrt(np.stack([ratio(square, stores) for square in squares], axis=1))
    steps = of_base[:, :1] / np.where(size > 0, size, 1.0)
    return np.concatenate([steps, of_base[:, 1:]], axis=1)


def without_spread(base: Family, sketch: CovariateSketch, held: Array) -> Array:
    """Coordinates (G, D) of the generalised linear model: no spread, the likeliest coefficients.

    What is beyond the spread is the base family's moment estimate, as if without covariates.
    """
    width = sketch.x.shape[1]
    own = np.concatenate([np.full((len(held), 1), np.nan), held[:, width:]], axis=1)
    start = base.start(sketch.whole, own)
    at = np.concatenate([np.zeros((len(held), width)), start[:, 1:]], axis=1)
    at[:, 0] = start[:, 0]
    at[:, width] = np.where(np.isnan(held[:, width]), base.bounds[0][1], held[:, width])
    at[:, :width] = np.where(np.isnan(held[:, :width]), at[:, :width], held[:, :width])
    free = np.isnan(held)
    free[:, width:] = False
    if isinstance(sketch, StandardSketch):
        # What runs away is not sought: it would take a step for every e-fold.
        runaway = free[:, :width] & np.isfinite(sketch.units.runaway)
        at[:, :width] = np.where(runaway, sketch.units.runaway, at[:, :width])
        free[:, :width] &= ~runaway
    far = np.inf if _is_normal(base) else _FARTHEST
    lower, upper = (np.full(at.shape[1], side) for side in (-np.inf, np.inf))
    lower[:width], upper[:width] = -far, far

    def objective(coordinates: Array, pools: Codes) -> Derivatives:
        cut = sketch if len(pools) == sketch.n_pools else sketch.select(pools)
        return log_marginal(base, cut, coordinates)

    begin = np.where(free, np.clip(at, lower, upper), at)
    return maximise(objective, begin, lower, upper, scale(base, sketch), free).coordinates


def pearson(base: Family, sketch: CovariateSketch, held: Array) -> Array:
    """Estimate the spread from X² about the model without spread; negative where X² is small."""
    width = sketch.x.shape[1]
    at = without_spread(base, sketch, held)
    square, slope = _residual(base, sketch, at)
    found = np.where(_freedom(sketch) > 0, ratio(square - _freedom(sketch), slope), 0.0)
    at[:, width] = np.where(np.isnan(held[:, width]), found, held[:, width])
    if _is_normal(base):
        inside = at.copy()
        inside[:, width] = np.maximum(found, 0.0)
        at[:, :width] = _least_squares(base, sketch, inside, held)
    return at


def paule_mandel(base: Family, sketch: CovariateSketch, held: Array) -> Array:
    """Solve X²(τ²) = J − P for τ² ≥ 0 (Paule and Mandel 1982).

    X² is that of generalised least squares. It falls and is convex, so Newton's method
    from τ² = 0 climbs to the root and never passes it.
    """
    width = sketch.x.shape[1]
    at = without_spread(base, sketch, held)
    freedom = _freedom(sketch)
    moving = np.isnan(held[:, width]) & (freedom > 0)
    for _ in range(_PAULE_MANDEL_STEPS):
        found = _least_squares(base, sketch, at, held)
        at[:, :width] = np.where(moving[:, None], found, at[:, :width])
        square, growth, _ = _sums(base, sketch, at)
        # The score in τ² is ½ (Σ w² r² − Σ w), and Σ w² r² is the slope of X².
        slope = 2.0 * log_marginal(base, sketch, at)[1][:, width] + growth
        step = np.where(moving, np.maximum(ratio(square - freedom, slope), 0.0), 0.0)
        at[:, width] += step
        # A pool that has arrived no longer moves, so its bits do not depend on the others.
        moving &= step > 1e-15 * at[:, width]
        if not moving.any():
            break
    at[:, :width] = _least_squares(base, sketch, at, held)
    return at


def _is_normal(base: Family) -> bool:
    return base.geometry is not None and base.geometry.location_is_analytic


def _freedom(sketch: CovariateSketch) -> Array:
    return np.asarray(sketch.n_groups - sketch.x.shape[1], np.float64)


def _least_squares(base: Family, sketch: CovariateSketch, at: Array, held: Array) -> Array:
    """Coefficients that maximise a likelihood which is quadratic in them: one Newton step."""
    width = sketch.x.shape[1]
    _, gradient, hessian = log_marginal(base, sketch, at)
    free = np.isnan(held[:, :width])
    slope = np.where(free, gradient[:, :width], 0.0)
    curved = hessian[:, :width, :width]
    step = Curvature.of(curved, slope, scale(base, sketch)[:, :width], free).solve(slope)
    return np.asarray(at[:, :width] + step)


def _sums(base: Family, sketch: CovariateSketch, at: Array) -> tuple[Array, Array, Array]:
    """Pearson's X² and its growth by pool, (G,); the growth times information by sub-pool, (U,)."""
    assert base.regression is not None
    places, _ = locations(base, sketch, at)
    found = base.regression.pearson(sketch.parts, places)
    square, growth = (sketch.rows.sum(part[:-1]) for part in (found.square, found.growth))
    return square, growth, found.leverage[:-1]


def _residual(base: Family, sketch: CovariateSketch, at: Array) -> tuple[Array, Array]:
    """X² and Σ c (1 − h) by pool, (G,), with the leverage h of the model without spread."""
    width, rows, x = sketch.x.shape[1], sketch.rows, sketch.x
    square, growth, leverage = _sums(base, sketch, at)
    _, _, hessian = log_marginal(base, sketch, at)
    curved = hessian[:, :width, :width]
    none, steps = np.zeros(curved.shape[:2]), scale(base, sketch)[:, :width]
    covariance = Curvature.of(curved, none, steps, np.ones(none.shape, bool)).covariance()
    spread = np.einsum("up,upq,uq->u", x, covariance[rows.pool], x)
    return square, growth - rows.sum(leverage * spread)


def moments_of(base: Family) -> dict[str, partial[Array]]:
    """Moment estimators by name, the default first.

    They have the names of the base family's estimators that they generalise.
    """
    if _is_normal(base):
        return {
            "paule_mandel": partial(paule_mandel, base),
            "dersimonian_laird": partial(pearson, base),
        }
    return {next(iter(base.moments)): partial(pearson, base)}
