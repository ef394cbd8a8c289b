"""Whether the next day is predicted better than without pooling, and than with one θ for all.

The logarithmic score (Good 1952; Gneiting and Raftery 2007) of a day's own total, or mean, given a
store's data before it: log p(day | before) under the store's posterior, under its data alone, and
under one θ for the whole pool. Its data alone are a posterior under Jeffreys' prior, Beta(½, ½) or
Gamma(½, 0) for counts, so that a store without a success yet does not exclude one.

The hyperparameters are those of this night, which have seen the day: of J stores and T days the
day moves them by a T-th of what they are uncertain by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.diagnostics.predictive import LEAST_SPREAD, node_table, point_nodes
from hbpipe.model.diagnostics.tails import log_beta_binomial
from hbpipe.model.distributions.laws import BETA, NORMAL
from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Statistics
from hbpipe.model.geometry import Geometry, geometry_of
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import AnyNodes
from hbpipe.model.numerics.grouped import float_sums
from hbpipe.model.pooling import CompletePooling
from hbpipe.model.update.shrink import NodeRows, node_moments

#: Numbers that one array of a block may hold: half a megabyte, which a core's cache does.
_BLOCK = 2**16


@dataclass(frozen=True)
class LogScores:
    """Log predictive densities of a day's total, (J,) each."""

    partial: Array
    none: Array
    complete: Array


@dataclass(frozen=True)
class DayScores:
    """Sums over the stores of G pools, (G,) each: scores, and how far others are above ``partial``.

    ``none_ahead`` and ``complete_ahead`` are sums of differences, ``..._squares`` of their squares.
    """

    stores: Array
    partial: Array
    none: Array
    complete: Array
    none_squares: Array
    complete_squares: Array

    @classmethod
    def of(cls, scores: LogScores, pools: Codes, n_pools: int) -> DayScores:
        """Add up the scores of stores in pools (J,)."""

        def add(values: Array) -> Array:
            return float_sums(values, pools, n_pools)

        return cls(
            add(np.ones(len(pools))),
            add(scores.partial),
            add(scores.none),
            add(scores.complete),
            add((scores.none - scores.partial) ** 2),
            add((scores.complete - scores.partial) ** 2),
        )

    @classmethod
    def added(cls, parts: Sequence[DayScores]) -> DayScores:
        """Add up the sums of disjoint stores, in their order."""
        names = [item.name for item in fields(cls)]
        return cls(**{name: sum(getattr(part, name) for part in parts) for name in names})

    def together(self, pools: NDArray[np.bool_]) -> DayScores:
        """Return some pools as one."""
        return type(self)(
            *(np.sum(getattr(self, f.name)[pools], keepdims=True) for f in fields(self))
        )

    @cached_property
    def means(self) -> Array:
        """Mean scores by pool, (G, 3): partial, no and complete pooling."""
        total = np.stack([self.partial, self.none, self.complete], axis=1)
        return total / np.maximum(self.stores, 1.0)[:, None]

    @cached_property
    def z(self) -> Array:
        """How far no and complete pooling are ahead, in standard errors, (G, 2)."""
        ahead = np.stack([self.none - self.partial, self.complete - self.partial], axis=1)
        squares = np.stack([self.none_squares, self.complete_squares], axis=1)
        return np.divide(ahead, np.sqrt(squares), out=np.zeros_like(ahead), where=squares > 0)


def critical_z(probability: float, pools: int) -> float:
    """How far chance puts one of the two ahead in any of some pools, with a probability."""
    return float(special.ndtri(1.0 - 0.5 * probability / max(pools, 1)))


def can_score(family: Family) -> bool:
    """Whether a family's next day has a density in closed form here."""
    return family.geometry is not None and family.size is None


def score_day(
    family: Family,
    nodes: AnyNodes,
    hyperparameters: Hyperparameters,
    complete: CompletePooling,
    before: Statistics,
    day: Statistics,
    pools: Codes,
) -> LogScores:
    """Score the day of stores that have data before it and on it.

    Parameters
    ----------
    family, nodes, hyperparameters
        As :func:`hbpipe.model.update.pools.update_pools` takes them.
    complete
        All stores of each pool as one.
    before, day
        Statistics of the window without its last day, and of that day alone, name -> (J, ...).
    pools
        (J,).
    """
    geometry, pools = geometry_of(family), np.asarray(pools)
    size, raw = geometry.sizes(before)
    new_size, new_raw = geometry.sizes(day)
    at = {name: np.asarray(values)[pools] for name, values in hyperparameters.items()}
    noise = np.square(at["sigma"]) if geometry.has_noise else np.ones(len(pools))
    alone = _alone(geometry, size, raw, noise)
    alike, sd = complete.of_stores(family, before, pools)
    pooled = alike, _possible(geometry, alike, np.square(sd))

    def score(law: tuple[Array, Array]) -> Array:
        return _log_density(geometry, *law, noise, new_size, new_raw)

    partial = np.empty(len(pools))
    for rows, part in _parts(family, geometry, nodes, before, at, pools):
        moments = node_moments(geometry, part, size[rows], raw[rows])
        one = _log_density(
            geometry,
            moments.mean,
            moments.variance,
            part.noise,
            new_size[rows, None],
            new_raw[rows, None],
        )
        with np.errstate(divide="ignore"):
            partial[rows] = special.logsumexp(one + np.log(part.weight), axis=1)
    return LogScores(partial, score(alone), score(pooled))


def _parts(
    family: Family,
    geometry: Geometry,
    nodes: AnyNodes,
    statistics: Statistics,
    at: Hyperparameters,
    pools: Codes,
) -> list[tuple[NDArray[np.int64], NodeRows]]:
    if isinstance(nodes, Nodes):
        return list(node_table(nodes, geometry).blocks(pools, _BLOCK))
    return [(np.arange(len(pools)), point_nodes(family, geometry, statistics, at))]


def _alone(geometry: Geometry, size: Array, raw: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and variance of θ by a store's own data under Jeffreys' prior."""
    if geometry.law is NORMAL:
        return raw, noise / size
    if geometry.law is BETA:
        mean = (raw * size + 0.5) / (size + 1.0)
        return mean, mean * (1.0 - mean) / (size + 2.0)
    mean = (raw * size + 0.5) / size
    return mean, mean / size


def _possible(geometry: Geometry, mean: Array, variance: Array) -> Array:
    """Keep the variance of a mean that is hardly known to what its law allows."""
    if geometry.law is NORMAL:
        return variance
    most = mean * (1.0 - mean) if geometry.law is BETA else mean**2
    return np.clip(variance, 1e-12 * most, 0.98 * most)


def _log_density(
    geometry: Geometry, mean: Array, variance: Array, noise: Array, size: Array, raw: Array
) -> Array:
    """Log predictive density of new data where θ has the family's law with these moments."""
    if geometry.law is NORMAL:
        total = variance + noise / size
        return np.asarray(-0.5 * (np.log(2.0 * np.pi * total) + (raw - mean) ** 2 / total))
    _, v1, v2 = geometry.variance
    # A variance below a millionth of the day's own counts as that: no digit is lost.
    least = LEAST_SPREAD * (v1 * mean + v2 * mean**2) / size
    a, b = geometry.law.from_moments(mean, np.maximum(variance, least))
    y = raw * size
    if geometry.law is BETA:
        return log_beta_binomial(y, size, a, b)
    share = size / (b + size)
    # Γ(a + y)/Γ(a) y! as a Beta function: no large logarithms cancel.
    log_count = -np.log(a + y) - special.betaln(a, y + 1.0)
    return np.asarray(log_count + a * np.log1p(-share) + y * np.log(share))
