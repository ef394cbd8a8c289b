"""Hyperpriors of a regression: of the base family at the mean row, and of the coefficients.

The default keeps that of the base family for a store whose covariates are the mean row: its mean
or μ, and its spread. Beside that, the coefficients of normal families are flat. Those of counts
are independent normals around a mean that all stores share, with sd 2.5 for the difference
between the two values of a column that has two, and for one standard deviation of any other
(Gelman, Jakulin, Pittau and Su 2008, *Annals of Applied Statistics* 2, with normal tails). They do
not depend on the units of a column and keep separated categories finite.

``{"coefficients": "normal(0, 1)"}``, or a list with one density for each, is of the coefficients
as the user sees them, in place of all this but the spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.covariates.sketch import StandardSketch
from hbpipe.model.covariates.units import Units
from hbpipe.model.densities import Term, read_arguments, read_call
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Codes, Derivatives, Family
from hbpipe.model.geometry import LOCATION, geometry_of
from hbpipe.model.hyperpriors import LogPrior, compile_hyperprior
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.jets import Jet, variables

COEFFICIENTS = "coefficients"
#: Sd of a coefficient of counts, on the logit or the logarithm, per unit of its column's size.
_SD = 2.5
#: A mean of e^±150, or on the base family's bound, is as good as none.
_FARTHEST = 150.0


@dataclass(frozen=True)
class CoefficientPrior:
    """A compiled hyperprior for ``G`` pools with covariates in standard units.

    Parameters
    ----------
    base
        That of the base family at the mean row; it has no factor for the location where the
        coefficients have densities of their own.
    centre, precision
        (G, P) and (G, P, P): the factor exp(−½ (γ − c)' Q (γ − c)) of the standard coefficients.
    """

    base: LogPrior
    centre: Array
    precision: Array

    @property
    def terms(self) -> tuple[Term, ...]:
        """Factors of the base family's hyperprior."""
        return self.base.terms

    @property
    def measure(self) -> tuple[str, ...]:
        """Named parameters of the base family whose density it is."""
        return self.base.measure

    def __call__(self, coordinates: Array) -> Derivatives:
        """Log density up to a constant, and derivatives in the coordinates (G, D).

        With respect to the coefficients and the other named parameters of the base family's
        hyperprior: what that says of the mean at the mean row is told for its line.
        """
        width = self.centre.shape[1]
        own = [LOCATION, *range(width, coordinates.shape[1])]
        value, slope, curvature = self._at_the_mean(coordinates[:, own])
        distance = coordinates[:, :width] - self.centre
        pull = np.einsum("gpq,gq->gp", self.precision, distance)
        gradient = np.zeros_like(coordinates)
        hessian = np.zeros((*coordinates.shape, coordinates.shape[1]))
        gradient[:, own] = slope
        hessian[np.ix_(range(len(hessian)), own, own)] = curvature
        gradient[:, :width] -= pull
        hessian[:, :width, :width] -= self.precision
        return value - 0.5 * np.sum(pull * distance, axis=1), gradient, hessian

    def _at_the_mean(self, coordinates: Array) -> Derivatives:
        """Log density of the base family's coordinates, the location on its line."""
        geometry = geometry_of(self.base.family)
        location, at = geometry.parametrisations[0][LOCATION], coordinates
        if not geometry.location_is_analytic:
            # No maximum is out there, and numbers end soon after.
            end = min(get_family(self.base.family).coordinates[0].upper, _FARTHEST)
            at = coordinates.copy()
            at[:, LOCATION] = np.clip(at[:, LOCATION], -end, end)
        value, slope, curvature = self.base(at)
        if location in self.base.measure:
            stretch = geometry.log_jacobian[location](variables(at))
            value, slope = value + stretch.value, slope + stretch.gradient
            curvature = curvature + stretch.hessian
        within = at[:, LOCATION] == coordinates[:, LOCATION]
        slope[:, LOCATION] *= within
        curvature[:, LOCATION] *= within[:, None]
        curvature[:, :, LOCATION] *= within[:, None]
        return value, slope, curvature

    def in_working(self, working: list[Jet]) -> Jet:
        """Log density with respect to the working variables, Jacobian included.

        They are those of the base family, the location at the mean row, and then the other
        standard coefficients.
        """
        own = geometry_of(self.base.family).n_working
        total = self.base.in_working(working[:own])
        distance = [
            jet - self.centre[:, p] for p, jet in enumerate([working[LOCATION], *working[own:]])
        ]
        for p, left in enumerate(distance):
            for q, right in enumerate(distance):
                total = total + left * right * (-0.5 * self.precision[:, p, q])
        return total

    def select(self, pools: Codes) -> CoefficientPrior:
        """Return the hyperprior of some pools."""
        return CoefficientPrior(self.base.select(pools), self.centre[pools], self.precision[pools])


def compile_prior(
    family: Family, spec: Any, sketch: StandardSketch, *, held: frozenset[str] = frozenset()
) -> CoefficientPrior:
    """Turn a specification into a log density for the pools of a sketch in standard units.

    Parameters
    ----------
    family
        A family with covariates.
    spec
        As :func:`hbpipe.model.hyperpriors.compile_hyperprior`, for a store at the mean row of the
        covariates; ``coefficients`` may have ``normal(m, s)`` or ``uniform``, or one for each.
    sketch
        The sketch.
    held
        Names of hyperparameters that are fixed.

    Raises
    ------
    FitError
        As there; also where both the coefficients and the location have a density.
    """
    base, units = get_family(family.name, family.size), sketch.units
    location = geometry_of(base).parametrisations[0][LOCATION]
    known = frozenset(location if name == COEFFICIENTS else name for name in held)
    centre, precision = np.zeros(units.matrix.shape[:2]), np.zeros_like(units.matrix)
    if isinstance(spec, Mapping) and COEFFICIENTS in spec:
        centre, precision = _given(spec[COEFFICIENTS], units)
        spec = {name: text for name, text in spec.items() if name != COEFFICIENTS}
        known |= {location}
        if location in spec:
            raise FitError(
                f"both the coefficients and {location} have a hyperprior",
                where={"family": base.name},
                expected=f"one of them: the coefficients determine {location}",
                remedy=f"leave {location} out",
            )
    elif COEFFICIENTS not in held and not geometry_of(base).location_is_analytic:
        precision = _default(sketch.rows, units)
    return CoefficientPrior(
        compile_hyperprior(base, spec, sketch.whole, held=known), centre, precision
    )


def _given(spec: Any, units: Units) -> tuple[Array, Array]:
    """Centre and precision of the standard coefficients from densities of the user's."""
    pools, width, _ = units.matrix.shape
    texts = [spec] * width if isinstance(spec, str) else list(spec)
    if len(texts) != width:
        raise FitError(
            f"{len(texts)} hyperpriors are given for the coefficients",
            expected=f"one for all, or {width}, one for each covariate",
            remedy="name one for each column of the covariates, the intercept included",
        )
    mean, weight = np.zeros(width), np.zeros(width)
    for p, text in enumerate(texts):
        call = read_call(text) if isinstance(text, str) else None
        if call is None or call[0] not in ("normal", "uniform"):
            raise FitError(
                f"the hyperprior of a coefficient is {text!r}",
                where={"column": p},
                expected="normal(m, s) or uniform",
                remedy="give one of these; the spread may have any density",
            )
        arguments = read_arguments(*call)
        if arguments:
            mean[p], weight[p] = arguments[0], arguments[1] ** -2.0
    precision = np.einsum("gpi,p,gpj->gij", units.matrix, weight, units.matrix)
    centre = np.linalg.solve(units.matrix, np.broadcast_to(mean[:, None], (pools, width, 1)))
    return np.asarray(centre[..., 0]), np.asarray(precision)


def _default(rows: Rows, units: Units) -> Array:
    """Precision (G, P, P) of the standard coefficients that move stores apart."""
    size = _sizes(rows) / _SD
    apart = units.matrix.copy()
    apart[:, :, 0] = 0.0
    return np.asarray(np.einsum("gpi,gp,gpj->gij", apart, size**2, apart))


def _sizes(rows: Rows) -> Array:
    """Size of each column by pool, (G, P): the range of two values, else the sd; 0 if constant."""
    x, pool = rows["given"], rows.pool
    size = np.zeros((rows.n_pools, x.shape[1]))
    present, first = np.unique(pool, return_index=True)
    if not len(present):
        return size
    low, high = np.zeros_like(size), np.zeros_like(size)
    low[present], high[present] = (
        function.reduceat(x, first, axis=0) for function in (np.minimum, np.maximum)
    )
    stores = rows.sum(rows["stores"])
    for p, column in enumerate(x.T):
        between = (column > low[pool, p]) & (column < high[pool, p])
        centre = ratio(rows.sum(rows["stores"] * (column - low[pool, p])), stores)
        away = column - low[pool, p] - centre[pool]
        sd = np.sqrt(ratio(rows.sum(rows["stores"] * away**2), stores))
        size[:, p] = np.where(rows.sum(between) > 0, sd, high[:, p] - low[:, p])
    return size
