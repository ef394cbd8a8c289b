"""A family with covariates, made of a scalar family.

Its prior mean is g⁻¹(x'β). The coordinates are the P coefficients and then those of the base
family after its location: (β, φ), (β, κ), (β, τ²) or (β, τ², log σ). A store's covariates travel
beside its statistics as ``covariates`` (J, P); they are attributes of the store, so ``fold`` does
not see them, and a store without data has a prior mean all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.covariates import likelihood, moments
from hbpipe.model.covariates.separation import standardise
from hbpipe.model.covariates.sketch import CovariateSketch, compress, merge
from hbpipe.model.covariates.stores import store_update
from hbpipe.model.covariates.units import Units, columns_dot
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import (
    Array,
    Coordinate,
    Degeneracy,
    Family,
    Hyperparameters,
    Prior,
    Statistics,
)

COEFFICIENTS = "coefficients"
COVARIATES = "covariates"


def with_covariates(base: Family, covariates: int) -> Family:
    """Return the family whose prior mean is linear in covariates on the base family's line.

    Parameters
    ----------
    base
        A family with a ``regression``: its coordinate 0 is a location on a line of its own.
    covariates
        P, the intercept included.

    Raises
    ------
    FitError
        If the family takes no covariates, or there is none.
    """
    if base.regression is None or base.geometry is None:
        raise FitError(
            f"{base.name} takes no covariates",
            expected="a family whose prior mean is one number",
            remedy="leave the covariates out, or use normal, normal_known_variance, "
            "beta_binomial or gamma_poisson",
        )
    if covariates < 1:
        raise FitError(
            "there is no covariate",
            expected="at least the intercept, a column of ones",
            remedy="add it, or leave the covariates out",
        )
    located = _Located(base, covariates)
    restriction = base.log_restriction and partial(likelihood.log_restriction, base)
    return replace(
        base,
        hyperparameters=(COEFFICIENTS, *located.others),
        coordinates=(*_coefficients(covariates), *base.coordinates[1:]),
        compress=partial(compress, base),
        merge_sketches=partial(merge, base),
        moments=moments.moments_of(base),
        scale=partial(moments.scale, base),
        degeneracies=partial(degeneracies, base),
        log_marginal=partial(likelihood.log_marginal, base),
        log_restriction=restriction,
        log_no_pooling=base.log_no_pooling and partial(likelihood.log_no_pooling, base),
        from_coordinates=located.from_coordinates,
        to_coordinates=located.to_coordinates,
        update=located.update,
        prior=located.prior,
        simulate=located.simulate,
        covariates=covariates,
        standardise=partial(standardise, base),
        sampling=store_update(base),
    )


def _coefficients(width: int) -> tuple[Coordinate, ...]:
    return tuple(
        Coordinate(f"coefficient_{p}", -np.inf, np.inf, COEFFICIENTS) for p in range(width)
    )


@dataclass(frozen=True)
class _Located:
    """Hyperparameters with coefficients, and the base family's own for each store."""

    base: Family
    width: int

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the hyperparameters beside the coefficients."""
        return tuple(axis.hyperparameter for axis in self.base.coordinates[1:])

    def from_coordinates(self, coordinates: Array) -> dict[str, Array]:
        """(β, spread, ...) → coefficients (..., P) and the others (...)."""
        of_base = self.base.from_coordinates(self._at_zero(coordinates))
        named = {name: of_base[name] for name in self.others}
        return {COEFFICIENTS: coordinates[..., : self.width], **named}

    def _at_zero(self, coordinates: Array) -> Array:
        zero = np.zeros((*coordinates.shape[:-1], 1))
        return np.concatenate([zero, coordinates[..., self.width :]], axis=-1)

    def to_coordinates(self, hyperparameters: Hyperparameters) -> Array:
        """Coefficients (..., P) and the others (...) → coordinates; NaN for what is missing."""
        given = {name: hyperparameters[name] for name in self.others if name in hyperparameters}
        others = self.base.to_coordinates(given)[..., 1:] if given else np.full(1, np.nan)
        nothing = np.full(self.width, np.nan)
        coefficients = np.asarray(hyperparameters.get(COEFFICIENTS, nothing), np.float64)
        if coefficients.ndim == 0 or coefficients.shape[-1] != self.width:
            raise FitError(
                f"the coefficients have the shape {coefficients.shape}",
                where={"family": self.base.name},
                expected=f"{self.width} numbers, one for each covariate",
                remedy="name one for each column of the covariates, the intercept included",
            )
        rest = len(self.base.coordinates) - 1
        shape = np.broadcast_shapes(coefficients.shape[:-1], others.shape[:-1])
        parts = [
            np.broadcast_to(part, (*shape, width))
            for part, width in ((coefficients, self.width), (others, rest))
        ]
        return np.concatenate(parts, axis=-1)

    def of_stores(
        self, hyperparameters: Hyperparameters, statistics: Statistics
    ) -> Mapping[str, Any]:
        """Hyperparameters of the base family for each store, (J,).

        Covariates are among the statistics or, for a prior, the hyperparameters. What is a prior
        of the base family already, because it is the posterior of earlier data, stays as it is.
        """
        if self._prior_names <= hyperparameters.keys():
            return hyperparameters
        x = statistics[COVARIATES] if COVARIATES in statistics else hyperparameters[COVARIATES]
        x = np.asarray(x, np.float64)
        at = self.to_coordinates(hyperparameters)
        lower, upper = self.base.bounds
        coefficients = np.broadcast_to(at[..., : self.width], x.shape)
        at_store = np.empty((len(x), len(lower)))
        at_store[:, 0] = np.clip(columns_dot(x, coefficients), lower[0], upper[0])
        at_store[:, 1:] = at[..., self.width :]
        return self.base.from_coordinates(at_store)

    @property
    def _prior_names(self) -> frozenset[str]:
        inner = np.full(len(self.base.coordinates), 0.1)
        return frozenset(self.base.prior(self.base.from_coordinates(inner)))

    def update(self, statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
        """Posterior of each store: the base family's, from the prior at its covariates."""
        return self.base.update(statistics, self.of_stores(hyperparameters, statistics))

    def prior(self, hyperparameters: Hyperparameters) -> Prior:
        """Prior of each store, with ``covariates`` (J, P) beside the hyperparameters."""
        return self.base.prior(self.of_stores(hyperparameters, {}))

    def simulate(
        self,
        rng: np.random.Generator,
        hyperparameters: Hyperparameters,
        n_stores: int,
        size: int | NDArray[Any],
        **options: Any,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
        """Draw events of stores with ``covariates`` (n_stores, P) beside the hyperparameters."""
        shared = {name: hyperparameters[name] for name in self.others}
        prior = {**self.of_stores(hyperparameters, {}), **shared}
        return self.base.simulate(rng, prior, n_stores, size, **options)


def degeneracies(base: Family, sketch: CovariateSketch) -> tuple[Degeneracy, ...]:
    """Cases of the base family, collinear covariates, separated stores, no store to spare.

    Limits are in standard units, in which a fit walks.
    """
    standard = standardise(base, sketch)
    units, width = standard.units, standard.x.shape[1]
    of_base = [_restated(base, standard, case) for case in base.degeneracies(sketch.whole)]
    missing = [case for case in of_base if case.status == "no_data"]
    others = [case for case in of_base if case.status != "no_data"]
    others.append(_separated(base, units))
    if width > 1:
        # One store is then too few for the coefficients, and that is said by name.
        others = [case for case in others if case.status != "one_store"]
        others.append(_saturated(base, standard))
    return (*missing, *_collinear(base, standard, units), *others)


def _restated(base: Family, sketch: CovariateSketch, case: Degeneracy) -> Degeneracy:
    """Turn a limit of the location into the coefficients of a mean that all stores share."""
    name = base.coordinates[0].hyperparameter
    constant = _constant(sketch)
    limit = np.concatenate([case.limit[:, :1] * constant, case.limit[:, 1:]], axis=1)
    return replace(
        case,
        limit=limit,
        remedy=re.sub(rf"\b{name}\b", COEFFICIENTS, case.remedy),
        unless=tuple(COEFFICIENTS if other == name else other for other in case.unless),
    )


def _constant(sketch: CovariateSketch) -> Array:
    """Coefficients (G, P) nearest to a predictor of 1, covariates being uncorrelated."""
    rows, weight = sketch.rows, sketch.rows["stores"]
    columns = sketch.x.T
    found = [ratio(rows.sum(weight * x), rows.sum(weight * x**2)) for x in columns]
    return np.stack(found, axis=1)


def _pinned(base: Family, sketch: CovariateSketch, coefficients: Array) -> Array:
    """Coordinates with these coefficients and the base family's moments beyond them."""
    return np.concatenate([coefficients, base.start(sketch.whole)[:, 1:]], axis=1)


def _collinear(base: Family, sketch: CovariateSketch, units: Units) -> list[Degeneracy]:
    limit = _pinned(base, sketch, np.zeros((sketch.n_pools, sketch.x.shape[1])))
    return [
        Degeneracy(
            "collinear",
            np.asarray(units.collinear == column),
            limit=limit,
            identified=False,
            found=f"column {column} of the covariates is a combination of the columns before it "
            "over the stores with data, so its coefficient is not determined",
            remedy=f"leave column {column} out, merge rare categories, pool more stores, or hold "
            "the coefficients",
            unless=(COEFFICIENTS,),
        )
        for column in np.unique(units.collinear[units.collinear >= 0]).tolist()
    ]


def _separated(base: Family, units: Units) -> Degeneracy:
    beyond = np.full((len(units.runaway), len(base.coordinates) - 1), np.nan)
    return Degeneracy(
        "separated",
        np.asarray(np.isfinite(units.runaway).any(axis=1)),
        limit=np.concatenate([units.runaway, beyond], axis=1),
        identified=True,
        found="the covariates tell stores without a single success, failure or count from the "
        "others, so a coefficient is estimated as infinite",
        remedy="merge categories, pool more stores, or give a proper hyperprior for the "
        "coefficients and estimator='map'",
        unless=(COEFFICIENTS,),
    )


def _saturated(base: Family, sketch: CovariateSketch) -> Degeneracy:
    """As many coefficients as stores: each store has a mean of its own and none differs from it."""
    width = sketch.x.shape[1]
    limit = np.full((sketch.n_pools, width + len(base.coordinates) - 1), np.nan)
    limit[:, width] = base.bounds[0][1]
    spread = base.coordinates[1].hyperparameter
    return Degeneracy(
        "saturated",
        np.asarray(sketch.n_groups == width),
        limit=limit,
        identified=True,
        found="there are as many coefficients as stores with data, so the spread between stores "
        "of equal covariates is unknown",
        remedy=f"use fewer covariates, pool more stores, fix {spread}, or give a proper "
        f"hyperprior for {spread} and estimator='map'",
        unless=(COEFFICIENTS,),
    )
