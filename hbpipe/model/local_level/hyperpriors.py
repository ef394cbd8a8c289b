"""Hyperpriors of (μ, τ, q, σ): names, defaults, and whether the posterior is proper.

Working variables: μ, u = log(τ/σ), v = ½ log q, log σ; see ``target.py``.
"""

from __future__ import annotations

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.densities import Term
from hbpipe.model.family import Array
from hbpipe.model.geometry import Named, Point, inside, lower_median
from hbpipe.model.hyperpriors import LogPrior, Spec
from hbpipe.model.inverse_gamma.hyperpriors import end_powers
from hbpipe.model.marginal.local_level import (
    LOG_SIGMA,
    MU,
    RATIO,
    TAU_SQUARED,
    DailySketch,
)
from hbpipe.model.named import NamedSpace
from hbpipe.model.numerics.jets import exp, log


def _named(w: Point) -> Named:
    return {
        "mu": w[MU],
        "tau": exp(w[TAU_SQUARED] + w[LOG_SIGMA]),
        "tau_squared": exp(2.0 * (w[TAU_SQUARED] + w[LOG_SIGMA])),
        "signal_ratio": exp(2.0 * w[RATIO]),
        "sigma": exp(w[LOG_SIGMA]),
        "odds": exp(2.0 * w[TAU_SQUARED]),
    }


def _named_at(coordinates: Point) -> Named:
    variance = inside(coordinates[TAU_SQUARED])
    return {
        "mu": coordinates[MU],
        "tau": exp(0.5 * log(variance)),
        "tau_squared": coordinates[TAU_SQUARED],
        "signal_ratio": coordinates[RATIO],
        "sigma": exp(coordinates[LOG_SIGMA]),
        "odds": coordinates[TAU_SQUARED] * exp(-2.0 * coordinates[LOG_SIGMA]),
    }


def _median_size(sketch: DailySketch) -> Array:
    return lower_median(sketch.rows, "size", "stores")


def _odds(c: Array) -> tuple[Term, ...]:
    """Uniform shrinkage of A = τ²/σ², as of the family ``normal``; τ/σ² makes it one of τ."""
    return (
        Term("odds", "uniform_shrinkage", (c,)),
        Term("tau", "power", (1.0,)),
        Term("sigma", "power", (-2.0,)),
    )


def space(days: int) -> NamedSpace:
    """Return the hyperpriors of windows of so many days.

    That of q is uniform shrinkage too, of (D − 1) q, the variance of the drift over the window.
    """
    return NamedSpace(
        median_size=_median_size,
        named=_named,
        named_at=_named_at,
        log_jacobian={
            "mu": lambda w: w[MU] * 0.0,
            "tau": lambda w: w[TAU_SQUARED] + w[LOG_SIGMA],
            "tau_squared": lambda w: 2.0 * (w[TAU_SQUARED] + w[LOG_SIGMA]) + np.log(2.0),
            "signal_ratio": lambda w: 2.0 * w[RATIO] + np.log(2.0),
            "sigma": lambda w: w[LOG_SIGMA],
        },
        parametrisations=(
            ("mu", "tau", "signal_ratio", "sigma"),
            ("mu", "tau_squared", "signal_ratio", "sigma"),
        ),
        defaults={
            "mu": lambda c: (),
            "tau": _odds,
            "signal_ratio": lambda c: (
                Term("signal_ratio", "uniform_shrinkage", (c / (days - 1),)),
            ),
            "sigma": lambda c: (Term("sigma", "reciprocal"),),
        },
        location_has_any_sign=True,
    )


def check_proper(sketch: DailySketch, prior: LogPrior, held: Array, spec: Spec) -> None:
    """Raise unless the posterior of one pool is integrable at both ends of τ, q and σ.

    At 0 of τ and q the likelihood is a constant, so their densities must be integrable there. With
    μ integrated over a flat prior it falls as τ^(1−J) for J stores, as q^(−K/2) for K days beyond
    the first of each store, and as σ^(1−N) for N values; a proper prior of μ leaves τ^−J and σ^−N.
    Squares within days, or between the days of one value each, keep σ off 0.

    Raises
    ------
    FitError
        Naming the hyperparameter and the end at which weight does not fall off.
    """
    free = np.isnan(held)
    flat = float(free[MU] and prior.term("mu") is None)
    stores, values, days = (float(x[0]) for x in (sketch.n_groups, sketch.n_values, sketch.n_days))
    falls = {
        TAU_SQUARED: ("tau", stores - flat),
        RATIO: ("signal_ratio", 0.5 * (days - stores)),
        LOG_SIGMA: ("sigma", values - flat),
    }
    for place, (name, fall) in falls.items():
        at_zero, at_infinity = _powers(prior, name)
        small, large = 1.0 + at_zero > 0 or name == "sigma", fall - 1.0 - at_infinity > 0
        if free[place] and not (small and large):
            raise FitError(
                f"the hyperprior {spec!r} gives an improper posterior: arbitrarily "
                f"{'large' if small else 'small'} {name} keep their weight",
                where={"stores": int(stores), "values": int(values)},
                expected="a posterior that integrates to one",
                remedy="leave the hyperprior out (the default is proper), give proper densities "
                "such as half_normal or half_cauchy, or pool more stores",
            )


def _powers(prior: LogPrior, name: str) -> tuple[float, float]:
    """Powers of the hyperprior in one parameter at 0 and at infinity."""
    if name == "tau" and prior.term("odds") is not None:
        return 1.0, -3.0
    if name == "tau" and (squared := prior.term("tau_squared")) is not None:
        at_zero, at_infinity = end_powers(squared)
        return 2.0 * at_zero + 1.0, 2.0 * at_infinity + 1.0
    found = prior.term(name)
    return (0.0, 0.0) if found is None else end_powers(found)
