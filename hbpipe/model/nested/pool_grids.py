"""The likelihood of each pool on a grid of its own over (location, log spread).

Hyperparameters of many pools that vary around a common law need each pool's exact likelihood
where that law and the data together put weight: a normal approximation fails for small pools,
whose spread is often at its bound. Nodes are trapezoidal in u along each direction, with
x = mode + s sinh u for the law's sd s: dense within a few s of the mode and sparse beyond, so
that one grid serves laws several times wider and several times narrower. The rule converges
exponentially for a density that falls off on both sides (Trefethen and Weideman 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.densities import Term
from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import LOCATION, SPREAD
from hbpipe.model.integration.peak import Peak, conditional, conditional_at, find_peak, laplace
from hbpipe.model.integration.target import Hyperprior, Target
from hbpipe.model.integration.window import DROP, reach
from hbpipe.model.numerics.jets import Jet, constants

#: Places, in sds of the law of the pools, where a second summit may be.
_SCAN = np.linspace(-6.0, 6.0, 13)


@dataclass(frozen=True)
class NormalLaw:
    """The law of (location, log spread) of pools: normal, each pool's own, (G, ...).

    It stands where a hyperprior does in :class:`hbpipe.model.integration.target.Target`.

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

    @property
    def terms(self) -> tuple[Term, ...]:
        """No factors of single parameters."""
        return ()

    @property
    def measure(self) -> tuple[str, ...]:
        """No named parameters: it is about the working variables."""
        return ()

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
    resolution
        (G, 2) distance of nodes near the mode along location and log spread: a law with a
        smaller sd may fall between nodes.
    """

    line: Array
    log_spread: Array
    log_weight: Array
    resolution: Array

    @property
    def flat(self) -> Array:
        """``log_weight`` with one axis of nodes, (G, K L)."""
        pools, outer, inner = self.log_weight.shape
        return self.log_weight.reshape(pools, outer * inner)

    def select(self, pools: Codes) -> PoolGrids:
        """Return the grids of some pools."""
        return PoolGrids(**{name: values[pools] for name, values in vars(self).items()})

    def log_density(self, law: Hyperprior) -> Array:
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
    target: Target, start: Array, scale: Array, outer: int = 29, inner: int = 21
) -> tuple[PoolGrids, Array]:
    """Place a grid for each pool where likelihood times ``target.prior`` has weight.

    Parameters
    ----------
    target
        Likelihood and law of ``G`` pools; both working variables are free.
    start
        (G, 2) a point to look for the mode from.
    scale
        (2,) the distances, along location and log spread, up to which nodes are evenly spaced.
    outer, inner
        Nodes along log spread, and along the location for each of them.

    Returns
    -------
    The grids, and the log density of the prior at their nodes, (G, K, L).
    """
    peak = find_peak(target, start)
    mode = peak.point[:, SPREAD]
    x, log_outer = _stretched(mode, *_range(target, peak), scale[SPREAD], outer)
    length = target.at_once(outer)
    blocks = [
        _along_location(target, peak.point, x[:, k : k + length], scale[LOCATION], inner)
        for k in range(0, outer, length)
    ]
    line, value = (np.concatenate(part, axis=1) for part in zip(*blocks, strict=True))
    pools, nearest = np.arange(len(x)), np.argmin(np.abs(x - mode[:, None]), axis=1)
    gaps = [np.min(np.diff(nodes, axis=1), axis=1) for nodes in (line[pools, nearest], x)]
    spread = np.broadcast_to(x[:, :, None], line.shape).copy()
    grids = PoolGrids(line, spread, value, np.stack(gaps, axis=1))
    log_prior = grids.log_density(target.prior)
    return replace(grids, log_weight=value + log_outer[:, :, None] - log_prior), log_prior


def _stretched(
    centre: Array, low: Array, high: Array, scale: float, nodes: int
) -> tuple[Array, Array]:
    """Nodes between ``low`` and ``high`` (G,), and the log lengths they stand for, (G, N) each."""
    begin, end = (np.arcsinh((at - centre) / scale)[:, None] for at in (low, high))
    step = (end - begin) / (nodes + 1)
    u = begin + step * np.arange(1, nodes + 1)
    return centre[:, None] + scale * np.sinh(u), np.log(scale * step * np.cosh(u))


def _along_location(
    target: Target, guide: Array, x: Array, scale: float, nodes: int
) -> tuple[Array, Array]:
    """Nodes over the location at some log spreads (G, T): places and log values, (G, T, N) each."""
    pools, times = x.shape
    many = target.repeat(times).given_spread(x.ravel())
    point, jet = conditional(many, np.repeat(guide, times, axis=0), x.ravel())
    mode = point[:, LOCATION]

    def value(at: Array, places: Codes) -> Array:
        moved = point[places]
        moved[:, LOCATION] = at
        # Far out a mean or its distance to the law may be beyond the range of floats.
        with np.errstate(over="ignore", invalid="ignore"):
            return many.select(places).log_density(moved)

    width = 5.0 / np.sqrt(np.maximum(-jet.hessian[:, LOCATION, LOCATION], 1e-6))
    low = mode - reach(lambda d, on: jet.value[on] - value(mode[on] - d, on), width, DROP)
    high = mode + reach(lambda d, on: jet.value[on] - value(mode[on] + d, on), width, DROP)
    line, log_length = _stretched(mode, low, high, scale, nodes)
    every = np.arange(len(mode))
    found = np.stack([value(at, every) for at in line.T], axis=1) + log_length
    return line.reshape(pools, times, nodes), found.reshape(pools, times, nodes)


def _range(target: Target, peak: Peak) -> tuple[Array, Array]:
    """Where the density of the log spread is above exp(−DROP) of its maximum, (G,) each."""
    mode = peak.point[:, SPREAD]

    def drop(x: Array, pools: Codes) -> Array:
        some = target.select(pools)
        _, jet = conditional(some, peak.point[pools], x)
        return np.asarray(top[pools] - laplace(some, jet))

    scale = np.sqrt(np.maximum(peak.covariance[:, SPREAD, SPREAD], 1e-12))
    scale = np.where(peak.regular, scale, 1.0)
    places = mode[:, None] + _SCAN * 3.0 * scale[:, None]
    _, jet = conditional_at(target, peak.point, places)
    scan = laplace(target, jet).reshape(places.shape)
    top = np.max(scan, axis=1)
    near = scan > (top - DROP)[:, None]
    width = 5.5 * scale
    low = mode - reach(lambda d, on: drop(mode[on] - d, on), width, DROP)
    high = mode + reach(lambda d, on: drop(mode[on] + d, on), width, DROP)
    low = np.minimum(low, np.min(np.where(near, places, np.inf), axis=1))
    return low, np.maximum(high, np.max(np.where(near, places, -np.inf), axis=1))
