"""Whether a hyperprior leaves a proper posterior."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD
from hbpipe.model.integration.peak import conditional, conditional_at, laplace
from hbpipe.model.integration.target import Target

#: Distances from the middle at which the tails are looked at. On the line of the mean x they are
#: large, so that 1/x, which a flat mean leaves when all counts are 0 and which is not integrable,
#: and 1/x², which is, lie on either side of the slope below.
_DISTANCES = {LOCATION: (60.0, 66.0), SPREAD: (24.0, 28.0), NOISE: (24.0, 28.0)}
#: The log density must fall by more than this for a unit of distance.
_LEAST_SLOPE = 0.02
#: log A from the typical one, over which the tails of the other variables are integrated: wide
#: enough for a τ that stays where it is while σ goes to its end.
_SPREADS = np.linspace(-90.0, 90.0, 121)
#: Densities that do not integrate to one by themselves.
IMPROPER = frozenset({"uniform", "reciprocal", "power"})
_WORDS = {LOCATION: "means", SPREAD: "spreads between stores", NOISE: "sds within stores"}


def check_proper(target: Target, start: Array, spec: Any) -> None:
    """Raise unless the posterior falls off at both ends of every variable, in every pool.

    The marginal density of a working variable must rise from its lower end and fall towards its
    upper one; a power law that does not is not integrable. For the spread the other variables
    are integrated by Laplace's method, for location and noise the spread by the trapezoidal
    rule. Variables whose own factor of the hyperprior is a proper density are not looked at: the
    likelihood of data that pass ``Geometry.integrable`` is bounded along them. This finds, for
    example, uniform τ with fewer than three stores, uniform τ² with fewer than four,
    ``reciprocal`` τ always, ``bda3`` without a store that has both successes and failures, a
    ``reciprocal`` mean without a success, and a ``uniform`` σ with one store of two values.

    Raises
    ------
    FitError
        With the number of the first pool concerned.
    """
    for place in _doubtful(target):
        centre = start[:, place]
        if place == SPREAD:
            centre = -np.log(target.geometry.median_size(target.sketch))
        for side, end in ((-1.0, "small"), (1.0, "large")):
            near, far = _DISTANCES[place]
            first, second = (
                _log_marginal(target, start, place, centre + side * distance)
                for distance in (near, far)
            )
            improper = ~((second - first) / (far - near) < -_LEAST_SLOPE)
            if improper.any():
                pool = int(np.flatnonzero(improper)[0])
                raise _improper(target, pool, spec, f"{end} {_WORDS[place]}")


def _doubtful(target: Target) -> list[int]:
    """Free variables that the hyperprior alone does not keep from running away."""
    prior, geometry = target.prior, target.geometry
    proper = {term.parameter for term in prior.terms if term.density not in IMPROPER}
    # Given σ, the default is a density of the odds A, whatever name it has in the measure.
    known = [SPREAD] if "odds" in proper else []
    names = next(p for p in geometry.parametrisations if set(prior.measure) <= set(p))
    if names[LOCATION] == geometry.parametrisations[0][LOCATION]:
        known += [place for place, name in enumerate(names) if name in proper]
    elif proper >= set(prior.measure):
        # Each of α and β, or of shape and rate, says something of location and spread.
        known += [LOCATION, SPREAD]
    if geometry.location_is_analytic:
        known.append(LOCATION)
    # What lies beyond these three, coefficients of covariates, has a check of its own.
    return [place for place in target.free if place in _DISTANCES and place not in known]


def _log_marginal(target: Target, start: Array, place: int, at: Array) -> Array:
    """Log marginal density of one working variable at given values, (G,)."""
    if place == SPREAD:
        _, jet = conditional(target, start, at, precise=True)
        return laplace(target, jet)
    held = target.held.copy()
    held[:, place] = at
    given = replace(target, held=held)
    if SPREAD not in given.free:
        _, jet = conditional(given, start, start[:, SPREAD], precise=True)
        return laplace(given, jet)
    typical = -np.log(target.geometry.median_size(target.sketch))
    spreads = typical[:, None] + _SPREADS[None, :]
    _, jet = conditional_at(given, start, spreads)
    values = laplace(given, jet).reshape(spreads.shape)
    return np.asarray(special.logsumexp(values, axis=1))


def _improper(target: Target, pool: int, spec: Any, what: str) -> FitError:
    return FitError(
        f"the hyperprior {spec!r} gives an improper posterior: arbitrarily {what} keep all "
        "their weight",
        where={"pool": pool, "stores": int(target.sketch.n_groups[pool])},
        expected="a posterior that integrates to one",
        remedy="leave the hyperprior out (the default is proper), give proper densities such as "
        "half_normal, half_cauchy, gamma or beta, or pool more stores",
    )
