"""What a fit gives: hyperparameters, and the story of how they were found, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.pooling import Pooling, compare
from hbpipe.model.story import tell


@dataclass(frozen=True, eq=False)
class Fit:
    """Estimated hyperparameters of one pool.

    Parameters
    ----------
    family, estimator
        Names.
    hyperparameters
        name -> value, a number or an array; every name of the family, finite also on a bound.
    log_marginal_likelihood
        At these values, all constants included; under ``reml`` the restricted one, in lme4's
        convention.
    coordinates
        The optimiser's coordinates, name -> value, in the order of ``covariance``.
    covariance
        (D, D) inverse of the negative Hessian of what was maximised; zero rows for coordinates
        that are held or on a bound.
    boundary, at_bound
        Whether a hyperparameter is at the edge of what is possible, and the names of those.
    converged
        Whether the gradient vanishes, inside the bounds, at a proper maximum.
    gradient_norm
        Distance to the maximum in standard errors.
    iterations
        Evaluations of the likelihood from the start that won.
    status
        One word: ``ok``, ``fixed``, ``no_spread``, ``at_bound``, ``not_converged``, or the
        family's name for the shape of the data.
    n_groups
        Stores with data.
    pools
        The same fit as a batch of one, with the sketch that posteriors need.
    """

    family: str
    estimator: str
    hyperparameters: dict[str, Any]
    log_marginal_likelihood: float
    coordinates: dict[str, float]
    covariance: Array
    boundary: bool
    at_bound: tuple[str, ...]
    converged: bool
    gradient_norm: float
    iterations: int
    status: str
    n_groups: int
    pools: PoolFits = field(repr=False)

    @property
    def sketch(self) -> Any:
        """What the likelihood depends on, lossless."""
        return self.pools.sketch

    @property
    def start_log_marginal_likelihood(self) -> float:
        """Log marginal likelihood at the moments start, or the given one."""
        return float(self.pools.start_log_marginal_likelihood[0])

    @property
    def start_values(self) -> Array:
        """What was maximised, where the climb from each start ended, (S,)."""
        return self.pools.start_values[:, 0]

    @property
    def starts_agree(self) -> bool:
        """Whether all climbs ended on the same summit."""
        return bool(self.pools.starts_agree[0])

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues of the negative Hessian, its diagonal scaled to 1, in ascending order.

        Of the coordinates that were estimated and are off their bounds; all positive at a proper
        maximum, and near 0 where the data hardly determine a direction.
        """
        return self.pools.curvature_of(0)

    @property
    def pooling(self) -> Pooling:
        """The likelihoods under complete, partial and no pooling, side by side.

        Partial pooling is one prior over all stores, also where the fit has nested levels.
        """
        return compare(self.pools.without_levels().single_law().pool(0))

    @property
    def story(self) -> str:
        """How these values were found, in words."""
        return tell(self)


@dataclass(frozen=True, eq=False)
class PoolFits:
    """Estimated hyperparameters of ``G`` pools; the fields of :class:`Fit` with a leading axis.

    Parameters
    ----------
    size, covariates, prior_form
        The family's number of coefficients or classes, and of covariates on the prior mean;
        None where θ is one number, and where the prior mean is the same for all stores. How θ
        varies over stores, as of :class:`hbpipe.model.family.Family`.
    coordinates
        (G, D).
    hyperparameters
        name -> (G,), or (G, P) and (G, P, P) where the hyperparameter is a vector or a matrix.
    identified
        (G,) False where the data do not determine the estimate: the numbers are then merely
        finite, must not be published, and ``status`` says why.
    start_log_marginal_likelihood
        (G,) at the moments start (or the given one).
    eigenvalues
        (G, D) of the negative Hessian with its diagonal scaled to 1; zero for coordinates held or
        on a bound.
    start_values
        (S, G) the maximised objective from each start; ``starts_agree`` (G,) whether all climbs
        ended on the same summit.
    held
        (G, D) fixed coordinates, NaN where estimated.
    fixed, hyperprior
        As given to the fit.
    """

    family: str
    estimator: str
    coordinates: Array
    hyperparameters: dict[str, Array]
    log_marginal_likelihood: Array
    start_log_marginal_likelihood: Array
    covariance: Array
    gradient_norm: Array
    eigenvalues: Array
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    boundary: NDArray[np.bool_]
    at_bound: tuple[tuple[str, ...], ...]
    status: tuple[str, ...]
    identified: NDArray[np.bool_]
    n_groups: NDArray[np.int64]
    start_values: Array
    starts_agree: NDArray[np.bool_]
    held: Array
    fixed: Mapping[str, Any]
    hyperprior: Any
    sketch: Any
    size: int | None = None
    covariates: int | None = None
    prior_form: str = "single"

    @property
    def model(self) -> Family:
        """The family."""
        return get_family(self.family, self.size, self.covariates, self.prior_form)

    def without_levels(self) -> PoolFits:
        """Return the fits of the same stores without nested levels, of which these have none."""
        return self

    def single_law(self) -> PoolFits:
        """Return the fits of the same stores with one conjugate law as the prior, as here."""
        return self

    @property
    def chosen(self) -> list[str]:
        """How θ varies over the stores of each pool, in a word."""
        return [self.prior_form] * len(self.status)

    @property
    def n_estimated(self) -> NDArray[np.int64]:
        """How many numbers are estimated, (G,): a held coordinate is not."""
        return np.asarray(np.isnan(self.held).sum(axis=1))

    def log_likelihood(self, coordinates: Array) -> Array:
        """Log marginal likelihood of each pool at any coordinates (G, D), (G,)."""
        return self.model.log_marginal(self.sketch, coordinates)[0]

    def curvature_of(self, number: int) -> Array:
        """Eigenvalues of one pool, ascending, without those of coordinates left out."""
        lower, upper = self.model.bounds
        at, word = self.coordinates[number], self.status[number]
        inside = np.isnan(self.held[number]) & (at > lower) & (at < upper)
        # What the data pinned inside the bounds has no variance either.
        used = inside & ((np.diag(self.covariance[number]) > 0) | (word == "flat"))
        found = self.eigenvalues[number]
        # The coordinates left out have eigenvalues of zero, the smallest in size.
        largest = np.argsort(np.abs(found), kind="stable")[len(found) - int(used.sum()) :]
        return np.sort(found[largest])

    def pool(self, number: int) -> Fit:
        """Return the fit of one pool."""
        g = number
        names = [axis.name for axis in self.model.coordinates]
        return Fit(
            family=self.family,
            estimator=self.estimator,
            hyperparameters={name: _plain(v[g]) for name, v in self.hyperparameters.items()},
            log_marginal_likelihood=float(self.log_marginal_likelihood[g]),
            coordinates=dict(zip(names, self.coordinates[g].tolist(), strict=True)),
            covariance=self.covariance[g],
            boundary=bool(self.boundary[g]),
            at_bound=self.at_bound[g],
            converged=bool(self.converged[g]),
            gradient_norm=float(self.gradient_norm[g]),
            iterations=int(self.iterations[g]),
            status=self.status[g],
            n_groups=int(self.n_groups[g]),
            pools=self if len(self.status) == 1 else self.select([g]),
        )

    def select(self, pools: Any) -> PoolFits:
        """Return the fits of some pools, in ascending order."""
        at = np.asarray(pools, np.int64)
        parts: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in ("status", "at_bound"):
                parts[name] = tuple(value[g] for g in at)
            elif name == "start_values":
                parts[name] = value[:, at]
            elif isinstance(value, np.ndarray):
                parts[name] = value[at]
            else:
                parts[name] = value
        parts["hyperparameters"] = {name: v[at] for name, v in self.hyperparameters.items()}
        parts["sketch"] = self.sketch.select(at)
        if hasattr(self.hyperprior, "select"):
            parts["hyperprior"] = self.hyperprior.select(at)
        parts["fixed"] = {
            name: np.asarray(v)[at] if np.ndim(v) else v for name, v in self.fixed.items()
        }
        return type(self)(**parts)


def _plain(value: Array) -> Any:
    """Return a number as a float, a vector or a matrix as it is."""
    return float(value) if np.ndim(value) == 0 else value
