"""Posteriors of stores' revenue per visit, θ = p exp(m + ½ σ²), at nodes of the hyperparameters.

Given the hyperparameters p and m are independent, and given the data so are the hyperparameters of
p and those of (m, σ). So the posterior of θ is the law of a product of two independent numbers: p,
a mixture of Beta laws over the nodes of the conversion, and eʷ with w = m + ½ σ², a mixture of
normal laws over those of the basket (``distributions/product.py``). A node of the pool is a pair of
nodes; its own law serves moments, and what needs the hyperparameters of both parts at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.beta_lognormal import BETA_LOGNORMAL
from hbpipe.model.distributions.laws import BETA, NORMAL, Pair
from hbpipe.model.distributions.mixture import Mixture, few
from hbpipe.model.distributions.product import FINE, QUICK, Products
from hbpipe.model.family import Array, Family, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.hurdle.parts import basket, conversion
from hbpipe.model.integration.sampling import Conditional, NodeValues
from hbpipe.model.marginal.hurdle_lognormal import basket_statistics
from hbpipe.model.update.deviation import deviation
from hbpipe.model.update.shrink import NodeMoments, NodeRows, node_moments

#: Fields of a part's nodes, beside their weights.
FIELDS = ("spread", "location", "location_variance", "noise", "spread_variance", "covariance")
#: Laws that stand for log p in comparisons.
_GROUPS = 8


@dataclass(frozen=True)
class _Part:
    """One part of ``J`` stores at its own ``K`` nodes.

    ``place`` (S,) is which of them each node of the pool has.
    """

    family: Family
    place: NDArray[np.int64]
    rows: NodeRows
    size: Array
    raw: Array

    @staticmethod
    def of(name: str, family: Family, statistics: Statistics, nodes: NodeValues) -> _Part:
        size, raw = geometry_of(family).sizes(statistics)
        _, first, place = np.unique(nodes[name], return_index=True, return_inverse=True)
        fields = {field: nodes[f"{name}_{field}"][first][None] for field in FIELDS}
        return _Part(family, place, NodeRows(np.ones((1, len(first))), **fields), size, raw)

    @cached_property
    def moments(self) -> NodeMoments:
        """Mean and variance of p, or of m, and the weight of the store's own data, (J, K)."""
        return node_moments(geometry_of(self.family), self.rows, self.size, self.raw)

    def weights(self, weight: Array) -> Array:
        """Weights (J, K) of its nodes, given those of the pool's (S,)."""
        own = np.bincount(self.place, weight, self.rows.spread.shape[1])
        return np.broadcast_to(own, (len(self.size), len(own)))


@dataclass(frozen=True)
class _Stores:
    """``J`` stores: who bought at ``K`` nodes, what they paid at ``L``.

    ``shift_variance`` (1, L) is the variance of ½ σ² that is left within a node.
    """

    bought: _Part
    paid: _Part
    shift_variance: Array

    @staticmethod
    def of(statistics: Statistics, nodes: NodeValues) -> _Stores:
        first = np.unique(nodes["basket"], return_index=True)[1]
        return _Stores(
            _Part.of("conversion", conversion(), statistics, nodes),
            _Part.of("basket", basket(), basket_statistics(statistics), nodes),
            nodes["shift_variance"][first][None],
        )

    @property
    def shapes(self) -> Pair:
        """Parameters of the Beta laws of p, (J, K) each."""
        shapes = BETA.from_moments(self.bought.moments.mean, self.bought.moments.variance)
        return shapes[0], shapes[1]

    @property
    def normal(self) -> Pair:
        """Mean and sd of w = m + ½ σ², (J, L) each."""
        at = self.paid.moments
        variance = np.maximum(at.variance + self.shift_variance, 0.0)
        return at.mean + 0.5 * self.paid.rows.noise, np.sqrt(variance)

    @property
    def prior_variances(self) -> Pair:
        """Variance between stores of log p, by the delta method, (1, K), and of m, (1, L)."""
        rows = self.bought.rows
        relative = rows.spread * (1.0 - rows.location) / (rows.location * (1.0 + rows.spread))
        return relative, self.paid.rows.spread * self.paid.rows.noise

    @property
    def prior_means(self) -> Pair:
        """E p (1, K), and E exp(m + ½ σ²) (1, L), of a store without data."""
        rows = self.paid.rows
        variance = rows.spread * rows.noise + rows.location_variance + self.shift_variance
        with np.errstate(over="ignore"):
            value = np.exp(rows.location + 0.5 * (rows.noise + variance))
        return self.bought.rows.location, value


def conditional(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Posteriors of ``J`` stores at ``S`` nodes, (J, S, 1)."""
    stores = _Stores.of(statistics, nodes)
    first, second = stores.bought.place, stores.paid.place
    law = (*(v[:, first] for v in stores.shapes), *(v[:, second] for v in stores.normal))
    mean, sd = BETA_LOGNORMAL.mean_sd(*law)
    of_p, of_w = stores.prior_means
    prior = of_p[:, first] * of_w[:, second]
    sigma, tau = (bool(np.all(nodes[name])) for name in ("sigma_known", "tau_known"))
    purchases = np.asarray(statistics["successes"])
    with np.errstate(over="ignore"):
        variance = np.square(sd)
    return Conditional(
        law=BETA_LOGNORMAL,
        parameters=tuple(values[..., None] for values in law),
        mean=mean[..., None],
        variance=variance[..., None],
        weight=_own_share(stores)[..., None],
        prior_mean=np.broadcast_to(prior[..., None], (*mean.shape, 1)),
        mixture=lambda weight: RevenueMixture(stores, weight),
        has_mean=np.asarray(sigma & (tau | (purchases > 0))),
        has_prior_mean=np.full(len(purchases), sigma & tau),
    )


def _own_share(stores: _Stores) -> Array:
    """Share of the store's own data, (J, S): those of both parts, by their parts of the spread.

    The spread is the prior variance of log θ; without any it is the average of both.
    """
    first, second = stores.bought.place, stores.paid.place
    of_p, of_m = stores.prior_variances
    parts = of_p[:, first], of_m[:, second]
    own = stores.bought.moments.weight[:, first], stores.paid.moments.weight[:, second]
    total = np.broadcast_to(parts[0] + parts[1], own[0].shape)
    part = np.divide(parts[0], total, out=np.full(own[0].shape, 0.5), where=total > 0)
    return np.asarray(part * own[0] + (1.0 - part) * own[1])


@dataclass(frozen=True)
class RevenueMixture:
    """Posteriors of ``J`` stores over all nodes; see ``sampling.StoreMixture``.

    ``weight`` (S,) are those of the nodes: pairs, whose weights are products.
    """

    stores: _Stores
    weight: Array

    def quantiles(self, levels: Array) -> Array:
        """Quantiles, (J, Q)."""
        return self._products(FINE).quantiles(levels)

    def cdf(self, points: Array) -> Array:
        """Posterior probability that θ is at most the store's point (J,), (J,)."""
        return self._products(FINE).cdf(points)

    def below_prior_mean(self) -> Array:
        """Probability that θ is at most the prior mean of its node, (J,).

        With m − μ of the law that ``update.deviation`` gives, p exp(m − μ − ½ τ²) ≤ E p. The nodes
        of the basket are put together, those of the conversion are looked at one by one.
        """
        (shapes, means), ((offset, sd), _) = (
            deviation(geometry_of(part.family), part.rows, part.size, part.raw)
            for part in (self.stores.bought, self.stores.paid)
        )
        offset = offset - 0.5 * self.stores.prior_variances[1]
        share = self.stores.paid.weights(self.weight)
        paid = few(Mixture(NORMAL, share, (offset, np.broadcast_to(sd, offset.shape))))
        nodes = shapes[0].shape[1]
        a, b = (values.reshape(-1, 1) for values in shapes)
        weight, centre, scale = (
            np.repeat(values, nodes, axis=0) for values in (paid.weight, *paid.parameters)
        )
        laws = Products(np.ones_like(a), a, b, weight, centre, scale, QUICK)
        below = laws.cdf(means.ravel()).reshape(-1, nodes)
        own = self.stores.bought.weights(self.weight)
        return np.asarray(np.sum(own * below, axis=1))

    def few(self) -> Mixture:
        """Return normal laws of log θ: log p in groups of equal mass, the basket's nodes by sd."""
        products = self._products(QUICK)
        mean, variance = np.empty((2, len(products.a), _GROUPS))
        for rows, log_p, mass, _ in products.grids():
            mean[rows], variance[rows] = _in_groups(log_p, mass)
        paid = few(Mixture(NORMAL, products.weight, (products.location, products.scale)))
        centre = mean[:, :, None] + paid.parameters[0][:, None, :]
        spread = np.sqrt(variance[:, :, None] + np.square(paid.parameters[1])[:, None, :])
        share = np.broadcast_to(paid.weight[:, None, :] / _GROUPS, centre.shape)
        flat = [values.reshape(len(centre), -1) for values in (share, centre, spread)]
        return Mixture(NORMAL, flat[0], (flat[1], flat[2]))

    def _products(self, step: float) -> Products:
        stores = self.stores
        share, weight = (part.weights(self.weight) for part in (stores.bought, stores.paid))
        return Products(share, *stores.shapes, weight, *stores.normal, step=step)


def _in_groups(values: Array, mass: Array) -> Pair:
    """Mean and variance of ``_GROUPS`` parts of equal mass of laws on points (R, N) in order."""
    reached = np.cumsum(mass, axis=1)
    ends = reached[:, -1:] * np.arange(_GROUPS + 1) / _GROUPS
    held = np.diff(np.clip(ends[:, :, None], (reached - mass)[:, None], reached[:, None]), axis=1)
    share = held * (_GROUPS / reached[:, -1:, None])
    mean = np.sum(share * values[:, None, :], axis=2)
    return mean, np.sum(share * np.square(values[:, None, :] - mean[:, :, None]), axis=2)
