"""Posteriors of stores: the library's ``posterior``, and the doors that the pipeline uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.arguments import (
    checked_exposure,
    checked_levels,
    one_per_store,
    quantile_names,
)
from hbpipe.model.cross_checks.closed_forms import (
    CLOSED_FORMS,
    ClosedForm,
    closed_form,
    is_closed_form,
)
from hbpipe.model.family import Array, Codes, Description, Family, Statistics
from hbpipe.model.fits import Fit, PoolFits
from hbpipe.model.integrate import UNCERTAINTIES, integrate_pools
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.names import unknown
from hbpipe.model.numerics.chains import disagreement
from hbpipe.model.pooling import CompletePooling, complete_pooling, no_pooling
from hbpipe.model.ranking import no_law, rank_pools
from hbpipe.model.remembered import remembered
from hbpipe.model.statistics import admitted, check_covariates
from hbpipe.model.update.pools import PosteriorColumns, cdf_pools, update_pools
from hbpipe.model.update.prediction import predict_pool
from hbpipe.model.update.sampled_update import covariance_sampled

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
    nesting: Mapping[str, Any] | None = None,
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
        curvature of the posterior in log τ is at least 80. For estimates with known variances
        there are closed forms as cross-checks, ``prasad_rao``, ``morris`` and ``ebci``, also
        with a kurtosis as ``ebci(4)`` (:mod:`hbpipe.model.cross_checks.closed_forms`).
    quantiles
        Level, or levels, of the columns ``q...``, strictly between 0 and 1. A column's name has
        six digits of its level.
    covariates
        (J, P) array-like, coded as those of the fit, where it has any.
    nesting
        For a fit with nested levels, which has no ``first_order``: name of a level -> (J,) label
        of each store's group. A group that the fit does not know is a new one of its parent.

    Returns
    -------
    Posterior
        With nesting a :class:`hbpipe.model.nested.posterior.NestedPosterior`, whose ``levels``
        has the posteriors of the groups' means.

    Raises
    ------
    StatisticsError
        If the statistics are impossible.
    FitError
        If the method or a level is wrong, two levels share a column's name, or the hyperprior
        gives an improper posterior.
    """
    from hbpipe.model.nested.posterior import LabelledFits, nested_posterior  # it builds on this

    model, arrays = _admitted(fit, statistics, covariates)
    if nesting is not None or isinstance(fit.pools, LabelledFits):
        return nested_posterior(fit.pools, arrays, nesting, uncertainty, quantiles)
    complete = complete_pooling(fit.pools)
    if is_closed_form(uncertainty):
        closed = closed_form(fit, arrays, uncertainty)
        return Posterior(model, fit.pools, closed.nodes, arrays, quantiles, complete, closed=closed)
    if uncertainty not in UNCERTAINTIES:
        raise unknown("uncertainty", uncertainty, (*UNCERTAINTIES, *CLOSED_FORMS))
    nodes = remembered(fit.pools, uncertainty, _integrate)
    return Posterior(model, fit.pools, nodes, arrays, quantiles, complete)


def _admitted(
    fit: Fit, statistics: Mapping[str, Any], covariates: Any
) -> tuple[Family, dict[str, NDArray[Any]]]:
    """Check statistics of the family of a fit, and that they are of the fit's size."""
    family = fit.pools.model
    model, arrays = admitted(family, statistics)
    if model.size != fit.pools.size:
        raise StatisticsError(
            f"the statistics are those of {model.size} coefficients or classes",
            where={"family": model.name},
            expected=f"{fit.pools.size}, as the fit has",
            remedy="pass the statistics that the fit was made from, or of the same columns",
        )
    if family.covariates is not None:
        stores = len(arrays[model.statistics[0].name])
        arrays["covariates"] = check_covariates(covariates, stores, family.covariates)
    elif covariates is not None:
        raise FitError(
            "there are covariates, and the fit has none",
            expected="covariates of the fit and of its posteriors, or of neither",
            remedy="fit with `covariates` too, or leave them out",
        )
    return model, arrays


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


class PointEstimates(Protocol):
    """Point estimates of the hyperparameters of pools."""

    @property
    def hyperparameters(self) -> dict[str, Array]:
        """Name -> (G,)."""


class Posterior(Mapping[str, Array]):
    """Posteriors of ``J`` stores.

    A mapping of columns, float64 (J,), or (J, T) for stores with T > 1 terms: ``mean``, ``sd``,
    ``sd_plug_in`` (hyperparameters taken as known), ``q0.025`` and so on, ``weight`` (share of the
    store's own data) and ``prior_mean`` (what it is shrunk to). Beside them the two extremes
    (:mod:`hbpipe.model.pooling`): ``no_pooling``, the raw estimate, and ``complete_pooling``,
    the estimate of all stores of the fit as one, each with its sampling sd in
    ``no_pooling_sd`` and ``complete_pooling_sd``. A store whose data give no raw estimate has NaN,
    with an sd of ∞.

    Attributes
    ----------
    method
        ``plug_in``, ``first_order``, ``integrated``, ``unidentified`` or a closed form.
    nodes
        The posterior of the hyperparameters.
    closed
        The closed form, where the method is one: ``closed.normal_non_coverage()`` of an ``ebci``.
    """

    def __init__(
        self,
        family: Family,
        point: PointEstimates,
        nodes: AnyNodes,
        statistics: Statistics,
        quantiles: float | tuple[float, ...],
        complete: CompletePooling,
        *,
        closed: ClosedForm | None = None,
        codes: Codes | None = None,
    ) -> None:
        self.nodes = nodes
        self.closed = closed
        self.method = str(nodes.method[0])
        self._family = family
        self._point = point.hyperparameters
        self._statistics = statistics
        stores = len(next(iter(statistics.values())))
        self._codes = np.zeros(stores, np.int64) if codes is None else np.asarray(codes)
        names = quantile_names(checked_levels(quantiles))
        columns = self._update(quantiles)
        self._columns: dict[str, Array] = {
            name: getattr(columns, name)
            for name in ("mean", "sd", "sd_plug_in", "weight", "prior_mean")
        }
        for number, name in enumerate(names):
            self._columns[name] = columns.quantiles[..., number]
        self._columns |= self._side_by_side(complete)

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
        return covariance_sampled(
            self._family, self.nodes, self._point, self._statistics, self._codes
        )

    def cdf(self, x: Array | float) -> Array:
        """Posterior probability that θ is at most ``x``, a number or (J,), for each store.

        With ``T`` > 1 terms ``x`` is a number, (T,) or (J, T), and the result (J, T).
        """
        if self.closed is not None:
            return self.closed.law().cdf(one_per_store(x, len(self._codes), "points"))
        return cdf_pools(self._family, self.nodes, self._point, self._statistics, self._codes, x)

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
            known variances the sampling variance of the next estimate; for a regression the
            predictors of the next event, (P,) or (J, P).
        quantiles
            Level or levels; for counts the smallest count whose cdf reaches the level.

        Raises
        ------
        StatisticsError
            If an exposure is impossible, or there is not one for each store.
        FitError
            If a level is not strictly between 0 and 1.
        """
        amount = checked_exposure(exposure, len(self._codes), self._family)
        levels = checked_levels(quantiles)
        if self.closed is not None:
            return self.closed.law(amount, levels)
        return predict_pool(
            self._family, self.nodes, self._of_stores(), self._statistics, amount, levels
        )

    def rank(self) -> dict[str, Array]:
        """Rank the stores in their pool: columns of :class:`hbpipe.model.ranking.RankColumns`."""
        if self.closed is not None:
            raise no_law(self.method)
        return dict(vars(rank_pools(self._family, self.nodes, self._statistics, self._codes)))

    def _of_stores(self) -> dict[str, Array]:
        """Point estimates of each store's pool, name -> (J, ...)."""
        return {name: values[self._codes] for name, values in self._point.items()}

    def _side_by_side(self, complete: CompletePooling) -> dict[str, Array]:
        """Each store by itself, and all stores of the fit as one."""
        raw, sd = no_pooling(self._family, self._statistics, self._of_stores())
        every = np.zeros(len(self._codes), np.int64)
        alike = complete.of_stores(self._family, self._statistics, every)
        return {
            "no_pooling": raw,
            "no_pooling_sd": sd,
            "complete_pooling": alike[0],
            "complete_pooling_sd": alike[1],
        }

    def _update(self, quantiles: float | tuple[float, ...]) -> PosteriorColumns:
        if self.closed is not None:
            return self.closed.columns(checked_levels(quantiles))
        known = (self._family, self.nodes, self._point, self._statistics, self._codes)
        return update_pools(*known, quantiles=quantiles)


def _integrate(fits: PoolFits, *, uncertainty: str) -> AnyNodes:
    """Integrate one pool; FitError where its Markov chains disagree."""
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    if isinstance(nodes, SampledNodes) and not nodes.converged[0]:
        raise disagreement(
            float(nodes.r_hat[0]),
            "give proper hyperpriors with lighter tails, pool more stores, or use "
            "uncertainty='first_order'",
            stores=int(nodes.n_groups[0]),
        )
    return nodes
