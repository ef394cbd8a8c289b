"""The posterior of the hyperparameters of one pool of regressions, at many points at once.

Working variables: log τ_k of the coefficients that vary, atanh of their canonical partial
correlations, log σ. μ is integrated analytically (``marginal/integrated.py``). The coefficients
are those that the hyperprior is about: at the mean predictors (``frame.py``) by default, where τ
and correlations have no more to do with each other than the data make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import factors_of
from hbpipe.model.marginal.integrated import Location
from hbpipe.model.numerics.small import product, rows_first
from hbpipe.model.regression import lkj
from hbpipe.model.regression.frame import inverse_of_frame, varying
from hbpipe.model.regression.proper import check_proper
from hbpipe.model.regression.relative import separated, split
from hbpipe.model.regression.separation import Separation, compile_separation, sampling_variances

#: τ_k of an estimate without spread, in sds of the median store: weights are then 1e-8.
_NEXT_TO_NONE = 1e-4
#: Logarithms beyond this are out of the range of floats when squared.
_FARTHEST = 300.0


@dataclass(frozen=True)
class RegressionTarget:
    """A :class:`hbpipe.model.integration.sampling.HyperTarget`.

    Parameters
    ----------
    sketch, prior
        Of the one pool.
    held
        (D,) coordinates that are known, NaN where free.
    estimate
        (D,) a point estimate, at the values of ``held`` where those are known.
    frame
        C (P, P): the variables are of C b.
    """

    sketch: RegressionSketch
    prior: Separation
    held: Array
    estimate: Array
    frame: Array

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""
        rows, columns = lkj.pairs(len(self._varying))
        at = self._varying
        return (
            *(f"log_tau[{k}]" for k in self._with_free_tau),
            *(
                f"atanh_partial[{at[i]},{at[j]}]"
                for i, j in zip(rows, columns, strict=True)
                if not self._is_known
            ),
            *(("log_sigma",) if np.isnan(self.held[-1]) else ()),
        )

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of the logarithms of τ."""
        return tuple(range(len(self._with_free_tau)))

    @cached_property
    def start(self) -> Array:
        """The point estimate; τ next to nothing, and correlations next to ±1, on a bound."""
        _, loading, log_sigma = split(self.estimate, self._size)
        relative, correlation = separated(self.frame @ loading)
        least = np.sqrt(sampling_variances(self.sketch, self.frame[None])[0]) * _NEXT_TO_NONE
        log_tau = (log_sigma + np.log(np.maximum(relative, least)))[list(self._with_free_tau)]
        partial = lkj.partial_of(correlation[np.ix_(self._varying, self._varying)])
        sigma = [self.estimate[-1]] if np.isnan(self.held[-1]) else []
        return np.concatenate([log_tau, [] if self._is_known else partial, sigma])

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""
        log_tau, partial, log_sigma = self._split(points)
        loading = self._loading(log_tau, partial, log_sigma)
        location = self._location(loading)
        among = () if self._is_known else self._varying
        prior = self.prior.log_density(among, log_tau, partial, log_sigma)
        near = np.all(np.abs(points) < _FARTHEST, axis=1)
        return np.where(near, location.log_likelihood(self.sketch, log_sigma) + prior, -np.inf)

    def nodes(self, points: Array) -> dict[str, Array]:
        """Λ, σ, and mean and covariance of μ at each point, (S, ...)."""
        log_tau, partial, log_sigma = self._split(points)
        loading = self._loading(log_tau, partial, log_sigma)
        step, covariance = self._location(loading).moments(log_sigma)
        return {
            "loading": rows_first(loading),
            "sigma": np.exp(log_sigma),
            "mu": self.estimate[: self._size] + step,
            "mu_covariance": covariance,
        }

    def _location(self, loading: Array) -> Location:
        return Location.given(self.sketch, self.estimate[: self._size], self._free, loading)

    @cached_property
    def _free(self) -> NDArray[np.bool_]:
        """Elements of μ to integrate over; where the data do not determine it, it stays put."""
        determined = not factors_of(self.sketch.together).collinear.any()
        return np.isnan(self.held[: self._size]) & determined

    @property
    def _size(self) -> int:
        return self.sketch.size

    @cached_property
    def _held_loading(self) -> Array:
        """Λ (P, P) where it is known, NaN elsewhere in its lower triangle."""
        return split(self.held, self._size)[1]

    @property
    def _is_known(self) -> bool:
        """Whether all of Λ is held."""
        return not np.isnan(self._held_loading).any()

    @cached_property
    def _varying(self) -> tuple[int, ...]:
        """Coefficients that are not held at no spread."""
        return varying(self._held_loading)

    @cached_property
    def _with_free_tau(self) -> tuple[int, ...]:
        """Coefficients whose τ is a working variable: not the first, where it is held."""
        diagonal = np.diag(self._held_loading)
        if self._is_known:
            return ()
        return tuple(k for k in self._varying if np.isnan(diagonal[k]))

    def _split(self, points: Array) -> tuple[Array, Array, Array]:
        """Points (S, V) → log τ (m, S) of what varies, atanh partial (·, S), log σ (S,)."""
        columns = np.ascontiguousarray(points.T)
        free = len(self._with_free_tau)
        is_free = np.isnan(self.held[-1])
        log_sigma = columns[-1] if is_free else np.full(len(points), self.held[-1])
        partial = columns[free : len(columns) - int(is_free)]
        if self._is_known or free == len(self._varying):
            return columns[:free], partial, log_sigma
        first = self._varying[0]
        known = np.full(len(points), np.log(self._held_loading[first, first])) + log_sigma
        return np.concatenate([known[None], columns[:free]]), partial, log_sigma

    def _loading(self, log_tau: Array, partial: Array, log_sigma: Array) -> Array:
        """Λ (P, P, S)."""
        size, points = self._size, len(log_sigma)
        if self._is_known:
            return np.repeat(self._held_loading[:, :, None], points, axis=2)
        loading = np.zeros((size, size, points))
        chosen = np.ix_(self._varying, self._varying)
        relative = np.exp(log_tau - log_sigma)
        loading[chosen] = relative[:, None] * lkj.factor_of(partial, len(self._varying))
        return product(inverse_of_frame(self.frame)[:, :, None], loading)


def regression_target(
    sketch: RegressionSketch, hyperprior: Any, held: Array, estimate: Array
) -> RegressionTarget:
    """Return the target of the only pool of a sketch.

    Raises
    ------
    FitError
        For a hyperprior that does not fit the family, or leaves the posterior improper.
    """
    prior = compile_separation(hyperprior, sketch, held)
    if hyperprior is not None:
        check_proper(sketch, prior, held, hyperprior)
    # The variables are of the coefficients that the hyperprior is about: others would be tied to
    # each other by it.
    frame = np.eye(sketch.size) if prior.frame is None else prior.frame[0]
    return RegressionTarget(sketch, prior, held, estimate, frame)
