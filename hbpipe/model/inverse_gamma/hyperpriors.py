"""Hyperpriors of (μ, κ, d₀, s₀²): names, defaults, and whether the posterior is proper.

Working variables: μ, u = ½ log φ, v = ½ logit(x/x_max), log s₀; see ``inverse_gamma_sampling``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.densities import Term
from hbpipe.model.family import Array
from hbpipe.model.geometry import Named, Point, inside, lower_median
from hbpipe.model.hyperpriors import LogPrior, Spec
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES, NAMES
from hbpipe.model.inverse_gamma.variances import powers_at_no_variance
from hbpipe.model.marginal.normal_inverse_gamma import LOG_S0, MU, PHI, VarianceSketch, X
from hbpipe.model.named import NamedSpace
from hbpipe.model.numerics.jets import exp, log

#: Powers of a density at 0 and at infinity; −∞ where it falls faster than any.
_POWERS = {
    "half_cauchy": (0.0, -2.0),
    "uniform_shrinkage": (0.0, -2.0),
    "uniform": (0.0, 0.0),
    "reciprocal": (-1.0, -1.0),
}


def _named(w: Point) -> Named:
    s0 = exp(w[LOG_S0])
    return {
        "mu": w[MU],
        "kappa": exp(-2.0 * w[PHI]),
        "d0": FEWEST_DEGREES * (1.0 + exp(-2.0 * w[X])),
        "s0_squared": s0 * s0,
        "s0": s0,
    }


def _named_at(coordinates: Point) -> Named:
    s0 = exp(coordinates[LOG_S0])
    return {
        "mu": coordinates[MU],
        "kappa": exp(-log(inside(coordinates[PHI]))),
        "d0": exp(-log(inside(coordinates[X]))),
        "s0_squared": s0 * s0,
        "s0": s0,
    }


def _median_size(sketch: VarianceSketch) -> Array:
    return lower_median(sketch.rows, "n", "stores")


#: Wide uniform shrinkage twice: of the means, c/(c + A) with A = 1/κ, and of the variances, with
#: A = 1/d₀; in both one store of n values has the weight nA/(1 + nA). As a density of κ and of d₀
#: it is (1/c)/(1/c + κ)², proper at both ends.
SPACE = NamedSpace(
    median_size=_median_size,
    named=_named,
    named_at=_named_at,
    log_jacobian={
        "mu": lambda w: w[MU] * 0.0,
        "kappa": lambda w: -2.0 * w[PHI] + np.log(2.0),
        "d0": lambda w: -2.0 * w[X] + np.log(2.0 * FEWEST_DEGREES),
        "s0_squared": lambda w: 2.0 * w[LOG_S0] + np.log(2.0),
        "s0": lambda w: w[LOG_S0],
    },
    parametrisations=(NAMES, ("mu", "kappa", "d0", "s0")),
    defaults={
        "mu": lambda c: (),
        "kappa": lambda c: (Term("kappa", "uniform_shrinkage", (1.0 / c,)),),
        "d0": lambda c: (Term("d0", "uniform_shrinkage", (1.0 / c,)),),
        "s0_squared": lambda c: (Term("s0_squared", "reciprocal"),),
        "s0": lambda c: (Term("s0", "reciprocal"),),
    },
    location_has_any_sign=True,
)


def integrable(sketch: VarianceSketch) -> NDArray[np.bool_]:
    """Whether the posterior under the default hyperprior is proper, (G,).

    It is if equal values do not pull s₀ to 0; see :func:`check_proper`.
    """
    fixed, moving = powers_at_no_variance(sketch.rows)
    return np.asarray((fixed > -1.0) & (moving > -2.0) & (sketch.n_groups > 0))


def check_proper(sketch: VarianceSketch, prior: LogPrior, held: Array, spec: Spec) -> None:
    """Raise unless the posterior of one pool is integrable at both ends of κ, d₀ and s₀².

    The likelihood of J stores with N values is constant as κ or d₀ grows. Elsewhere it is a
    power: with μ integrated over a flat prior κ^((J−1)/2) as κ → 0, s₀^(1−N) as s₀ grows, and as
    s₀ → 0 those of :func:`powers_at_no_variance`, the first raised by one. A proper prior of μ
    leaves J/2, −N and the first as it is.

    Raises
    ------
    FitError
        Naming the hyperparameters and the end at which weight does not fall off.
    """
    free = np.isnan(held)
    if not free.any():
        return
    flat = float(free[MU] and prior.term("mu") is None)
    degrees = FEWEST_DEGREES if free[X] else 1.0 / float(held[X])
    fixed, moving = (float(p[0]) for p in powers_at_no_variance(sketch.rows, degrees))
    stores, values = float(sketch.n_groups[0]), float(sketch.n_values[0])
    at_zero, at_infinity = _powers(prior)
    # Each must be positive, or weight that does not end is left at that end.
    margins = {
        (PHI, "large kappa"): -1.0 - at_infinity["kappa"],
        (PHI, "small kappa"): 1.0 + at_zero["kappa"] + 0.5 * (stores - flat),
        (X, "large d0"): -1.0 - at_infinity["d0"],
        (LOG_S0, "small s0_squared"): 1.0 + at_zero["s0_squared"] + 0.5 * (fixed + flat),
        (LOG_S0, "large s0_squared"): 0.5 * (values - flat) - 1.0 - at_infinity["s0_squared"],
    }
    if free[PHI]:
        both = 2.0 + at_zero["kappa"] + at_zero["s0_squared"] + 0.5 * moving
        margins[LOG_S0, "small s0_squared and kappa"] = both
    for (coordinate, what), margin in margins.items():
        if free[coordinate] and not margin > 0:
            raise FitError(
                f"the hyperprior {spec!r} gives an improper posterior: arbitrarily {what} keep "
                "their weight",
                where={"stores": int(stores), "values": int(values)},
                expected="a posterior that integrates to one",
                remedy="leave the hyperprior out (the default is proper), give proper densities "
                "such as gamma or half_cauchy, or pool more stores",
            )


def _powers(prior: LogPrior) -> tuple[dict[str, float], dict[str, float]]:
    """Powers of the hyperprior in κ, d₀ and s₀² at 0 and at infinity; 0 for those that are held."""
    ends: tuple[dict[str, float], ...] = tuple(dict.fromkeys(NAMES, 0.0) for _ in range(2))
    for term in prior.terms:
        for end, powers in enumerate(ends):
            power = end_powers(term)[end]
            if term.parameter == "s0":
                powers["s0_squared"] += 0.5 * (power - 1.0)
            else:
                powers[term.parameter] += power
    return ends[0], ends[1]


def end_powers(term: Term) -> tuple[float, float]:
    """Powers of a density at 0 and at infinity; −∞ where it falls faster than any."""
    if term.density == "power":
        return float(term.arguments[0]), float(term.arguments[0])
    at_zero = float(term.arguments[0]) - 1.0 if term.density in ("gamma", "beta") else 0.0
    return _POWERS.get(term.density, (at_zero, -np.inf))
