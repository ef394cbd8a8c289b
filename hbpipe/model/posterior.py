"""Posteriors of stores: the library's ``posterior``, and the doors that the pipeline uses."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.chains import R_HAT_LIMIT
from hbpipe.model.covariates.nodes import CoefficientNodes, covariate_mixtures
from hbpipe.model.family import Array, Description, Family, Statistics
from hbpipe.model.fits import Fit, PoolFits
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.mixture import Mixture
from hbpipe.model.nodes import Nodes
from hbpipe.model.pools import (
    PosteriorColumns,
    cdf_pools,
    checked_exposure,
    checked_levels,
    update_pools,
)
from hbpipe.model.predictive import mix_predictive
from hbpipe.model.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.sampled_update import PLAIN, covariance_sampled, predict_sampled
from hbpipe.model.shrink import pool_posterior
from hbpipe.model.statistics import check_covariates, check_statistics

__all__ = [
    "Posterior",
    "PosteriorColumns",
    "cdf_pools",
    "integrate_pools",
    "posterior",
    "posterior_pools",
    "update_pools",
]


def posterior(
    fit: Fit,
    statistics: Mapping[str, Any],
    *,
    uncertainty: str = "auto",
    quantiles: float | tuple[float, ...] = (0.025, 0.5, 0.975),
    covariates: Any = None,
) -> Posterior:
    """Update stores with what a fit learnt of their pool.

    Parameters
    ----------
    fit
        From :func:`hbpipe.fit`. The uncertainty of its hyperparameters comes from the stores it
        was fitted to, whether or not they are among those updated here.
    statistics
        name -> (J,) array-like: the stores to update. A store without data gets the predictive
        for a new store.
    uncertainty
        ``plug_in`` takes the hyperparameters as known; ``first_order`` adds their uncertainty by
        the delta method (Kass and Steffey 1989); ``integrated`` averages over their posterior
        under the fit's hyperprior; ``auto`` chooses one of the last two: first order where the
        curvature of the posterior in log τ is at least 80.
    quantiles
        Level, or levels, of the columns ``q...``, strictly between 0 and 1. A column's name has
        six digits of its level.
    covariates
        (J, P) array-like, coded as those of the fit, where it has any.

    Returns
    -------
    Posterior

    Raises
    ------
    StatisticsError
        If the statistics are impossible.
    FitError
        If the method or a level is wrong, two levels share a column's name, or the hyperprior
        gives an improper posterior.
    """
    model = fit.pools.model
    arrays = check_statistics(model, statistics)
    if model.covariates is not None:
        stores = len(next(iter(arrays.values())))
        arrays["covariates"] = check_covariates(covariates, stores, model.covariates)
    elif covariates is not None:
        raise FitError(
            "there are covariates, and the fit has none",
            expected="covariates of the fit and of its posteriors, or of neither",
            remedy="fit with `covariates` too, or leave them out",
        )
    return Posterior(model, fit.pools, _nodes_of(fit.pools, uncertainty), arrays, quantiles)


#: Nodes by (identity of the fit, uncertainty), for as long as the fit lives: an analyst who
#: updates several sets of stores with one fit integrates once.
_NODES: dict[tuple[int, str], AnyNodes] = {}


def _nodes_of(fits: PoolFits, uncertainty: str) -> AnyNodes:
    key = (id(fits), uncertainty)
    if key not in _NODES:
        nodes = integrate_pools(fits, uncertainty=uncertainty)
        if isinstance(nodes, SampledNodes) and not nodes.converged[0]:
            raise _chains_disagree(nodes)
        _NODES[key] = nodes
        weakref.finalize(fits, _NODES.pop, key, None)
    return _NODES[key]


def posterior_pools(
    fits: PoolFits,
    statistics: Statistics,
    pools: NDArray[np.integer[Any]],
    *,
    uncertainty: str = "auto",
    quantiles: float | tuple[float, ...] = (0.025, 0.5, 0.975),
    exposure: Array | float | None = None,
) -> PosteriorColumns:
    """Update the stores of many pools, (J,) with pool numbers (J,).

    A pipeline that updates shards calls :func:`integrate_pools` once and
    :func:`update_pools` for each shard; this does both. See there for the parameters.
    """
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    return update_pools(
        fits.model,
        nodes,
        fits.hyperparameters,
        statistics,
        pools,
        quantiles=quantiles,
        exposure=exposure,
    )


class Posterior(Mapping[str, Array]):
    """Posteriors of ``J`` stores.

    A mapping of columns, float64 (J,), or (J, T) for stores with T > 1 terms: ``mean``, ``sd``,
    ``sd_plug_in`` (hyperparameters taken as known), ``q0.025`` and so on, ``weight`` (share of the
    store's own data) and ``prior_mean`` (what it is shrunk to).

    Attributes
    ----------
    method
        ``plug_in``, ``first_order``, ``integrated`` or ``unidentified``.
    nodes
        The posterior of the hyperparameters.
    """

    def __init__(
        self,
        family: Family,
        fits: PoolFits,
        nodes: AnyNodes,
        statistics: Statistics,
        quantiles: float | tuple[float, ...],
    ) -> None:
        self.nodes = nodes
        self.method = str(nodes.method[0])
        self._family = family
        self._fits = fits
        self._statistics = statistics
        self._codes = np.zeros(len(next(iter(statistics.values()))), dtype=np.int64)
        names = _quantile_names(checked_levels(quantiles))
        columns = self._update(quantiles)
        self._columns: dict[str, Array] = {
            name: getattr(columns, name)
            for name in ("mean", "sd", "sd_plug_in", "weight", "prior_mean")
        }
        for number, name in enumerate(names):
            self._columns[name] = columns.quantiles[..., number]

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        stores, names = len(self._codes), ", ".join(self._columns)
        return f"<Posterior of {stores} stores, {self._family.name}, {self.method}: {names}>"

    @property
    def covariance(self) -> Array:
        """Posterior variance of each store's θ, (J,); with ``T`` > 1 terms a matrix, (J, T, T)."""
        if not isinstance(self.nodes, SampledNodes) or self["sd"].ndim == 1:
            return np.asarray(np.square(self["sd"]))
        fits = self._fits
        return covariance_sampled(
            self._family, self.nodes, fits.hyperparameters, self._statistics, self._codes
        )

    def cdf(self, x: Array | float) -> Array:
        """Posterior probability that θ is at most ``x``, a number or (J,), for each store.

        With ``T`` > 1 terms ``x`` is a number, (T,) or (J, T), and the result (J, T).
        """
        fits = self._fits
        return cdf_pools(
            self._family, self.nodes, fits.hyperparameters, self._statistics, self._codes, x
        )

    def quantile(self, q: float | tuple[float, ...]) -> Array:
        """Quantiles at one level, (J,), or at several, (J, Q); with terms (J, T) or (J, T, Q)."""
        found = self._update(q).quantiles
        return np.asarray(found[..., 0]) if np.ndim(q) == 0 else found

    def predict(
        self, exposure: Array | float, quantiles: float | tuple[float, ...] = (0.025, 0.5, 0.975)
    ) -> Description:
        """Predict each store's next observation.

        Parameters
        ----------
        exposure
            A number or (J,): trials, exposure, or number of values whose mean is predicted; for
            known variances the sampling variance of the next estimate.
        quantiles
            Level or levels; for counts the smallest count whose cdf reaches the level.

        Raises
        ------
        StatisticsError
            If an exposure is impossible, or there is not one for each store.
        FitError
            If a level is not strictly between 0 and 1.
        """
        amount = checked_exposure(exposure, len(self._codes))
        at = {name: v[self._codes] for name, v in self._fits.hyperparameters.items()}
        levels = checked_levels(quantiles)
        law = self._family.update(self._statistics, at)
        if self.method in PLAIN:
            return self._family.predict(law, amount, at, levels)
        if isinstance(self.nodes, SampledNodes):
            return predict_sampled(self._family, self.nodes, self._statistics, amount, levels)
        mixture, noise = self._mixture(self.nodes)
        parts = dict(zip(law, mixture.parameters, strict=True))
        known = {"sigma": np.sqrt(noise)}
        return mix_predictive(self._family, parts, mixture.weight, amount, known, levels)

    def _mixture(self, nodes: Nodes | CoefficientNodes) -> tuple[Mixture, Array]:
        """Posteriors as mixtures over nodes, and noise variances (1, K) or (J, K)."""
        size, raw = geometry_of(self._family).sizes(self._statistics)
        if isinstance(nodes, CoefficientNodes):
            return covariate_mixtures(nodes, self._statistics["covariates"], size, raw)
        return pool_posterior(nodes, size, raw)

    def _update(self, quantiles: float | tuple[float, ...]) -> PosteriorColumns:
        return update_pools(
            self._family,
            self.nodes,
            self._fits.hyperparameters,
            self._statistics,
            self._codes,
            quantiles=quantiles,
        )


def _chains_disagree(nodes: SampledNodes) -> FitError:
    return FitError(
        "the posterior of the hyperparameters could not be integrated: its Markov chains disagree",
        where={"r_hat": round(float(nodes.r_hat[0]), 3), "stores": int(nodes.n_groups[0])},
        expected=f"a split R-hat of at most {R_HAT_LIMIT}",
        remedy="give proper hyperpriors with lighter tails, pool more stores, or use "
        "uncertainty='first_order'",
    )


def _quantile_names(levels: Array) -> list[str]:
    """Name the columns of the levels, and refuse levels that differ too little to have two."""
    names = [f"q{level:g}" for level in levels.tolist()]
    for name in names:
        shared = [
            level for level, other in zip(levels.tolist(), names, strict=True) if other == name
        ]
        if len(shared) > 1:
            raise FitError(
                f"the quantile levels {shared} share the column {name}",
                expected="levels that differ in their first six digits",
                remedy="leave one out, or ask for it by quantile()",
            )
    return names
