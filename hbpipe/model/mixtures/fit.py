"""Fits of one law or two, pool by pool.

The single law is fitted as ever. Then the likelihood of two laws is climbed from several starts.
Schwarz's criterion, log L − ½ d log J with d hyperparameters and J stores, finds the number of
components of a mixture as J grows (Keribin 2000, *Sankhyā* 62), where likelihood-ratio tests have
no χ² law. The pool takes two laws where they are ahead by 3, a Bayes factor of 20: strong evidence
in the words of Kass and Raftery (1995, *JASA* 90). Nothing is then lost where one law is right, and
the choice does not waver from night to night where both describe the stores equally well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.estimation.problem import hold
from hbpipe.model.family import Array, Codes, Derivatives, Family
from hbpipe.model.fits import PoolFits
from hbpipe.model.mixtures.coordinates import COMPONENTS, WEIGHT, as_two, larger_first
from hbpipe.model.mixtures.fits import MixtureFits
from hbpipe.model.mixtures.sketch import MixtureSketch
from hbpipe.model.mixtures.starts import starts
from hbpipe.model.numerics.optimise import Curvature, Optimum, maximise

#: Two climbs found the same summit when their values differ by less, relative to 1 + |value|.
_SAME_SUMMIT = 1e-7
#: How far ahead two laws must be.
STRONG = 3.0
#: Rows of a sketch that are copied for every start.
_ROWS = 2**15
#: Fewer stores with data do not tell two laws from one.
LEAST_STORES = 20


def estimate(
    base: Family,
    family: Family,
    sketch: MixtureSketch,
    *,
    estimator: str = "ml",
    fixed: Mapping[str, Any] | None = None,
    hyperprior: Any = None,
    start: Mapping[str, Any] | None = None,
) -> MixtureFits:
    """Fit one law or two to each of ``G`` pools; see :func:`hbpipe.model.fit.fit_pools`.

    With anything ``fixed`` the prior is two laws, whatever the data say: it was asked for.

    Raises
    ------
    FitError
        For another estimator than ``ml``, or wrong arguments.
    """
    from hbpipe.model.fit import fit_pools  # it asks for the fit of a mixture here

    if estimator != "ml":
        raise FitError(
            f"a mixture of priors has no estimator {estimator!r}",
            where={"family": base.name},
            expected="ml",
            remedy="use estimator='ml', or a single prior",
        )
    single = fit_pools(base, sketch.whole, estimator=estimator)
    held = hold(family, fixed or {}, sketch.n_pools)
    begun = _begun(base, family, sketch, single.coordinates, held, start)
    summit, values = _climb(family, sketch, begun, held)
    report = _Report(family, sketch, held, summit, values, single)
    fits = report.fits(fixed or {}, hyperprior)
    if fixed:
        return fits
    enough = single.identified & (sketch.n_groups >= LEAST_STORES)
    return _choose(fits, np.asarray(enough & (fits.bic_mixture > fits.bic_single + STRONG)))


def _begun(
    base: Family,
    family: Family,
    sketch: MixtureSketch,
    single: Array,
    held: Array,
    start: Mapping[str, Any] | None,
) -> list[Array]:
    """Where climbs begin, held coordinates at their values."""
    begun = starts(base, sketch, single)
    if start:
        given = hold(family, start, len(single))
        begun.append(np.where(np.isnan(given), begun[0], given))
    return [np.where(np.isnan(held), point, held) for point in begun]


def _climb(
    family: Family, sketch: MixtureSketch, begun: list[Array], held: Array
) -> tuple[Optimum, Array]:
    """Climb from every start; give the best summit, its larger component first, and all values."""
    free, pools = np.isnan(held), np.arange(sketch.n_pools)
    climbs = _climbs(family, sketch, begun, free)
    values = np.stack([found.value for found in climbs])
    best = np.argmax(values, axis=0)
    top = np.stack([found.coordinates for found in climbs])[best, pools]
    swappable = np.all(free, axis=1, keepdims=True)
    again = _maximise(family, sketch, np.where(swappable, larger_first(top), top), free)
    rounds = np.stack([found.rounds for found in climbs])[best, pools]
    return replace(again, rounds=again.rounds + rounds), values


def _climbs(
    family: Family, sketch: MixtureSketch, begun: list[Array], free: NDArray[np.bool_]
) -> list[Optimum]:
    """Climb from every start; together where the tables are small, because rounds cost calls."""
    count, pools = len(begun), sketch.n_pools
    if count * sketch.n_rows > _ROWS:
        return [_maximise(family, sketch, point, free) for point in begun]
    every = np.tile(np.arange(pools), count)
    found = _maximise(family, sketch.select(every), np.concatenate(begun), free[every])
    return [
        Optimum(**{name: part[k * pools : (k + 1) * pools] for name, part in vars(found).items()})
        for k in range(count)
    ]


def _maximise(
    family: Family, sketch: MixtureSketch, start: Array, free: NDArray[np.bool_]
) -> Optimum:
    def objective(coordinates: Array, pools: Codes) -> Derivatives:
        some = sketch if len(pools) == sketch.n_pools else sketch.select(pools)
        return family.log_marginal(some, coordinates)

    return maximise(objective, start, *family.bounds, family.scale(sketch), free)


@dataclass(frozen=True)
class _Report:
    """The best summit of two laws, and the single law beside it."""

    family: Family
    sketch: MixtureSketch
    held: Array
    summit: Optimum
    start_values: Array
    single: PoolFits

    def fits(self, fixed: Mapping[str, Any], hyperprior: Any) -> MixtureFits:
        """Tell of two laws in every pool."""
        best, free = self.summit, np.isnan(self.held)
        scale = self.family.scale(self.sketch)
        used = free & (best.active == 0)
        curvature = Curvature.of(best.hessian, np.where(used, 0.0, best.gradient), scale, used)
        at_bound = self._at_bound()
        converged = best.converged | ~free.any(axis=1)
        stores = np.asarray(self.sketch.n_groups)
        top = self.start_values.max(axis=0)
        near = self.start_values >= top - _SAME_SUMMIT * (1.0 + np.abs(top))
        return MixtureFits(
            family=self.family.name,
            estimator="ml",
            coordinates=best.coordinates,
            hyperparameters=self.family.from_coordinates(best.coordinates),
            log_marginal_likelihood=best.value,
            start_log_marginal_likelihood=self.single.start_log_marginal_likelihood,
            covariance=curvature.covariance(),
            gradient_norm=best.gradient_norm,
            eigenvalues=curvature.eigenvalues,
            iterations=best.rounds,
            converged=converged,
            boundary=np.asarray(at_bound.any(axis=1)),
            at_bound=self._names(at_bound),
            status=tuple(self._words(converged, at_bound).tolist()),
            identified=converged & ((stores > 0) | ~free.any(axis=1)),
            n_groups=stores,
            start_values=self.start_values,
            # Two laws have many summits; the one kept should have been found more than once.
            starts_agree=near.sum(axis=0) > 1,
            held=self.held,
            fixed=dict(fixed),
            hyperprior=hyperprior,
            sketch=self.sketch,
            prior_form=self.family.prior_form,
            single=self.single,
            several=np.ones(len(stores), np.bool_),
            bic_single=_criterion(self.single, self.single.held, stores),
            bic_mixture=_schwarz(best.value, free.sum(axis=1), stores),
        )

    def _at_bound(self) -> NDArray[np.bool_]:
        lower, upper = self.family.bounds
        at = self.summit.coordinates
        return np.asarray(np.isnan(self.held) & ((at <= lower) | (at >= upper)))

    def _names(self, at_bound: NDArray[np.bool_]) -> tuple[tuple[str, ...], ...]:
        """Name what is on a bound, with the component that it is of."""
        axes = self.family.coordinates
        width = (len(axes) + WEIGHT) // COMPONENTS
        names = [f"{axis.hyperparameter}[{i // width}]" for i, axis in enumerate(axes[:WEIGHT])]
        names.append(axes[WEIGHT].hyperparameter)
        return tuple(
            tuple(name for name, on in zip(names, row, strict=True) if on) for row in at_bound
        )

    def _words(self, converged: NDArray[np.bool_], at_bound: NDArray[np.bool_]) -> NDArray[np.str_]:
        known = ~np.isnan(self.held).any(axis=1)
        cases = [known, ~converged, at_bound.any(axis=1)]
        return np.select(cases, ["fixed", "not_converged", "at_bound"], "ok").astype("U32")


def _criterion(fits: PoolFits, held: Array, stores: NDArray[np.int64]) -> Array:
    return _schwarz(fits.log_marginal_likelihood, np.isnan(held).sum(axis=1), stores)


def _schwarz(log_likelihood: Array, parameters: Array, stores: NDArray[np.int64]) -> Array:
    """Log L − ½ d log J, (G,): half of Schwarz's criterion with its sign turned."""
    return np.asarray(log_likelihood - 0.5 * parameters * np.log(np.maximum(stores, 1)))


def _choose(fits: MixtureFits, several: NDArray[np.bool_]) -> MixtureFits:
    """Put the single law in place of two where it was chosen."""
    one, width = fits.single, fits.single.coordinates.shape[1]
    alone = ~several
    coordinates = np.where(several[:, None], fits.coordinates, as_two(one.coordinates))
    covariance = np.where(several[:, None, None], fits.covariance, 0.0)
    covariance[alone, :width, :width] = one.covariance[alone]
    eigenvalues = np.where(several[:, None], fits.eigenvalues, 0.0)
    eigenvalues[alone, :width] = one.eigenvalues[alone]
    plain: dict[str, Any] = {
        name: np.where(several, getattr(fits, name), getattr(one, name))
        for name in (
            *("log_marginal_likelihood", "gradient_norm", "iterations", "converged"),
            *("boundary", "identified", "starts_agree"),
        )
    }
    words: dict[str, Any] = {
        name: tuple(
            two if many else single
            for many, two, single in zip(
                several, getattr(fits, name), getattr(one, name), strict=True
            )
        )
        for name in ("status", "at_bound")
    }
    return replace(
        fits,
        coordinates=coordinates,
        hyperparameters=fits.model.from_coordinates(coordinates),
        covariance=covariance,
        eigenvalues=eigenvalues,
        several=several,
        **plain,
        **words,
    )
