"""The likelihood of each pool on a grid of its own over (location, log spread).

Hyperparameters of many pools that vary around a common law need each pool's exact likelihood
where that law and the data together put weight: a normal approximation fails for small pools,
whose spread is often at its bound. Both directions have trapezoidal nodes, which converge
exponentially for a density that falls off on both sides (Trefethen and Weideman 2014); the grid
serves any law of the pools that is not much narrower than the one it was placed for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import LOCATION, SPREAD
from hbpipe.model.hyperpriors import LogPrior
from hbpipe.model.jets import Jet, constants
from hbpipe.model.peak import Peak, conditional, conditional_at, find_peak, laplace
from hbpipe.model.quadrature import inner_rule
from hbpipe.model.target import Target
from hbpipe.model.window import DROP, reach

#: Places, in sds of the law of the pools, where a second summit may be.
_SCAN = np.linspace(-6.0, 6.0, 13)


@dataclass(frozen=True)
class NormalLaw:
    """The law of (location, log spread) of pools: normal, each pool's own, (G, ...).

    It stands where a hyperprior does in :class:`hbpipe.model.target.Target`.

    Parameters
    ----------
    mean
        (G, 2).
    sd
        (G, 2).
    correlation
        (G,).
    """

    mean: Array
    sd: Array
    correlation: Array

    def in_working(self, working: list[Jet]) -> Jet:
        """Log density with respect to the working variables."""
        a, b = ((working[i] - self.mean[:, i]) * (1.0 / self.sd[:, i]) for i in (LOCATION, SPREAD))
        rest = 1.0 - self.correlation**2
        square = a * a + b * b - a * b * (2.0 * self.correlation)
        constant = np.log(2.0 * np.pi) + np.sum(np.log(self.sd), axis=1) + 0.5 * np.log(rest)
        log_density: Jet = square * (-0.5 / rest) - constant
        return log_density

    def select(self, pools: Codes) -> NormalLaw:
        """Return the law of some pools."""
        return NormalLaw(self.mean[pools], self.sd[pools], self.correlation[pools])


@dataclass(frozen=True)
class PoolGrids:
    """Likelihoods of ``G`` pools on ``K`` × ``L`` nodes each.

    Parameters
    ----------
    line, log_spread
        (G, K, L) where the nodes are.
    log_weight
        (G, K, L) log likelihood plus log of the area that a node stands for.
    """

    line: Array
    log_spread: Array
    log_weight: Array

    @property
    def flat(self) -> Array:
        """``log_weight`` with one axis of nodes, (G, K L)."""
        return self.log_weight.reshape(len(self.log_weight), -1)

    def select(self, pools: Codes) -> PoolGrids:
        """Return the grids of some pools."""
        return PoolGrids(self.line[pools], self.log_spread[pools], self.log_weight[pools])

    def log_density(self, law: LogPrior | NormalLaw) -> Array:
        """Log density of a law of each pool at its nodes, (G, K, L)."""
        every = law.select(np.repeat(np.arange(len(self.line)), self.line[0].size))
        working = [constants(at.ravel(), 0) for at in (self.line, self.log_spread)]
        return every.in_working(working).value.reshape(self.line.shape)

    def weights(self, log_density: Array) -> Array:
        """Posterior weights under a law with this log density at the nodes, (G, K, L) both."""
        value = self.log_weight + log_density
        weight = np.exp(value - np.max(value, axis=(1, 2), keepdims=True))
        return np.asarray(weight / np.sum(weight, axis=(1, 2), keepdims=True))

    def centre(self, weight: Array) -> Array:
        """Mean of (location, log spread) under weights of the nodes, (G, 2)."""
        return np.stack([np.sum(weight * at, axis=(1, 2)) for at in self._axes], axis=1)

    def variance(self, weight: Array) -> Array:
        """Variance of (location, log spread) under weights of the nodes, (G, 2)."""
        centre = self.centre(weight)
        away = [at - middle[:, None, None] for at, middle in zip(self._axes, centre.T, strict=True)]
        return np.stack([np.sum(weight * x**2, axis=(1, 2)) for x in away], axis=1)

    @property
    def _axes(self) -> tuple[Array, Array]:
        return self.line, self.log_spread


def place_grids(
    target: Target, start: Array, outer: int = 25, inner: int = 15
) -> tuple[PoolGrids, Array]:
    """Place a grid for each pool where likelihood times ``target.prior`` has weight.

    Parameters
    ----------
    target
        Likelihood and law of ``G`` pools; both working variables are free.
    start
        (G, 2) a point to look for the mode from.
    outer, inner
        Nodes along log spread, and along the location for each of them.

    Returns
    -------
    The grids, and the log density of the prior at their nodes, (G, K, L).
    """
    peak = find_peak(target, start)
    low, high = _range(target, peak)
    step = (high - low) / (outer + 1)
    x = low[:, None] + step[:, None] * np.arange(1, outer + 1)
    log_outer = np.broadcast_to(np.log(step)[:, None], x.shape)
    length = target.at_once(outer)
    blocks = [
        inner_rule(target, peak.point, x[:, k : k + length], log_outer[:, k : k + length], inner)
        for k in range(0, outer, length)
    ]
    value, spread, location = (
        np.concatenate([block[part] for block in blocks], axis=1) for part in range(3)
    )
    line = np.asarray(target.geometry.law.to_line(location))
    grids = PoolGrids(line, np.log(spread), value)
    log_prior = grids.log_density(target.prior)
    return replace(grids, log_weight=value - log_prior), log_prior


def _range(target: Target, peak: Peak) -> tuple[Array, Array]:
    """Where the density of the log spread is above exp(−DROP) of its maximum, (G,) each."""
    mode = peak.point[:, SPREAD]

    def density(x: Array) -> Array:
        _, jet = conditional(target, peak.point, x)
        return laplace(target, jet)

    scale = np.sqrt(np.maximum(peak.covariance[:, SPREAD, SPREAD], 1e-12))
    scale = np.where(peak.regular, scale, 1.0)
    places = mode[:, None] + _SCAN * 3.0 * scale[:, None]
    _, jet = conditional_at(target, peak.point, places)
    scan = laplace(target, jet).reshape(places.shape)
    top = np.max(scan, axis=1)
    near = scan > (top - DROP)[:, None]
    width = 5.5 * scale
    low = mode - reach(lambda d: top - density(mode - d), width, DROP)
    high = mode + reach(lambda d: top - density(mode + d), width, DROP)
    low = np.minimum(low, np.min(np.where(near, places, np.inf), axis=1))
    return low, np.maximum(high, np.max(np.where(near, places, -np.inf), axis=1))
