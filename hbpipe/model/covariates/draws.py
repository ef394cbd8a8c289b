"""The posterior of counts with covariates: quadrature in the spread, draws of the coefficients.

Outer nodes are Gauss-Legendre nodes in the spread, as without covariates. At each of them the
coefficients have a posterior that is nearly normal around its mode: importance sampling with a
Student-t law there and a few dozen low-discrepancy points corrects for the rest (Geweke 1989;
Owen 1998). The outer nodes take consecutive parts of one sequence, so that together they are as
even as a sequence many times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

from hbpipe.errors import FitError
from hbpipe.model.covariates.nodes import CoefficientNodes, spread_follows
from hbpipe.model.covariates.target import RegressionTarget
from hbpipe.model.family import Array
from hbpipe.model.geometry import LOCATION, SPREAD
from hbpipe.model.integration.peak import conditional_at, laplace
from hbpipe.model.integration.quadrature import OUTER, OUTER_LIMIT, outer_roughness, outer_rule
from hbpipe.model.integration.window import Range
from hbpipe.model.numerics.jets import Jet
from hbpipe.model.numerics.pareto import LIMIT, pareto_k

#: Draws of the coefficients at each outer node, and the next number where they are not enough.
DRAWS = (64, 256, 1024)
#: Draws are enough when mean and sd of every variable from one half of them differ from those of
#: the other half by less than this share of the sd.
_ENOUGH = 0.05
#: An outer node matters when its weight is above this share of the largest.
_MATTERS = 0.01
#: Degrees of freedom of the law that is drawn from.
_FREEDOM = 8.0


@dataclass(frozen=True)
class Drawn:
    """Weighted draws of ``G`` pools.

    ``weight`` (G, K, L); ``points`` (G, K, L, V) in working variables; ``outer`` (G, K) the
    weights of the outer nodes by Laplace's method, which have no noise.
    """

    weight: Array
    points: Array
    outer: Array

    def select(self, pools: NDArray[np.int64]) -> Drawn:
        """Return the draws of some pools."""
        return Drawn(self.weight[pools], self.points[pools], self.outer[pools])

    def is_rough(self) -> NDArray[np.bool_]:
        """Whether the density along the spread is not resolved, (G,)."""
        return np.asarray(outer_roughness(self.outer[:, :, None]) > OUTER_LIMIT)

    def is_uneven(self) -> NDArray[np.bool_]:
        """Whether there are too few draws, (G,)."""
        half = self.weight.shape[2] // 2
        if half == 0:
            return np.zeros(len(self.weight), bool)
        mean, sd = _moments(self.weight[:, :, :half], self.points[:, :, :half])
        other_mean, other_sd = _moments(self.weight[:, :, half:], self.points[:, :, half:])
        off = np.maximum(np.abs(mean - other_mean), np.abs(sd - other_sd))
        uneven = np.any(off > _ENOUGH * np.maximum(sd, other_sd), axis=1)
        return np.asarray(uneven | (self.pareto_k() > LIMIT))

    def ess(self) -> Array:
        """How many draws of equal weight those at an outer node are worth, on average, (G,)."""
        total = np.sum(self.weight, axis=2)
        squares = np.maximum(np.sum(self.weight**2, axis=2), np.finfo(np.float64).tiny)
        return np.asarray(np.sum(total**3 / squares, axis=1))

    def pareto_k(self) -> Array:
        """Pareto k̂ of the weights within the outer nodes that matter, (G,)."""
        total = np.sum(self.weight, axis=2)
        kept = total > _MATTERS * np.max(total, axis=1, keepdims=True)
        shares = [w[k] / t[k, None] for w, t, k in zip(self.weight, total, kept, strict=True)]
        return np.array([pareto_k(share.ravel()) for share in shares])


def _moments(weight: Array, points: Array) -> tuple[Array, Array]:
    """Mean and sd of the working variables, (G, V)."""
    weight = weight / np.sum(weight, axis=(1, 2), keepdims=True)
    mean = np.einsum("gkl,gklv->gv", weight, points)
    square = np.einsum("gkl,gklv->gv", weight, (points - mean[:, None, None]) ** 2)
    return mean, np.sqrt(square)


def student_points(parts: int, count: int, dimension: int) -> Array:
    """Low-discrepancy points (K, L, d) of a multivariate Student-t law, always the same ones."""
    sobol = qmc.Sobol(dimension + 1, scramble=True, rng=np.random.default_rng(1))
    # A power of two of them is balanced.
    uniform = sobol.random(count * 2 ** int(np.ceil(np.log2(parts))))[: parts * count]
    uniform = np.clip(uniform, 1e-12, 1.0 - 1e-12)
    scale = 2.0 * special.gammaincinv(0.5 * _FREEDOM, uniform[:, -1]) / _FREEDOM
    points = special.ndtri(uniform[:, :-1]) / np.sqrt(scale)[:, None]
    return np.asarray(points.reshape(parts, count, dimension))


def log_student(points: Array) -> Array:
    """Log density of that law up to a constant, (..., d) -> (...)."""
    power = 0.5 * (_FREEDOM + points.shape[-1])
    return np.asarray(-power * np.log1p(np.sum(points**2, axis=-1) / _FREEDOM))


def draw(
    target: RegressionTarget, window: Range
) -> list[tuple[NDArray[np.int64], CoefficientNodes]]:
    """Draw the hyperparameters of each pool, refined until the law is resolved.

    Returns
    -------
    (pools, nodes) of disjoint sets of pools.
    """
    level = np.zeros((target.n_pools, 2), np.int64)
    unresolved = np.ones(target.n_pools, bool)
    parts = []
    while unresolved.any():
        for outer, inner in np.unique(level[unresolved], axis=0):
            pools = np.flatnonzero(unresolved & np.all(level == (outer, inner), axis=1))
            cut = target.select(pools)
            drawn = _tensor(cut, window.select(pools), OUTER[outer], DRAWS[inner])
            rough = np.stack([drawn.is_rough(), drawn.is_uneven()], axis=1)
            finer = rough & (level[pools] + 1 < (len(OUTER), len(DRAWS)))
            done = ~finer.any(axis=1)
            if done.any():
                kept = np.flatnonzero(done)
                parts.append((pools[done], as_nodes(cut.select(kept), drawn.select(kept))))
            unresolved[pools[done]] = False
            level[pools] += finer
    return parts


def _tensor(target: RegressionTarget, window: Range, outer: int, draws: int) -> Drawn:
    """Draw at ``outer`` nodes of the spread."""
    if SPREAD in target.free:
        x, log_outer = outer_rule(window, outer)
    else:
        x, log_outer = np.zeros((target.n_pools, 1)), np.zeros((target.n_pools, 1))
    modes, jet = conditional_at(target, window.guide, x)
    places = [place for place in target.free if place != SPREAD]
    standard = student_points(x.shape[1], draws if places else 1, len(places))
    factor, log_scale = _factor(jet, places)
    shape = (*x.shape, standard.shape[1])
    points = np.repeat(modes[:, None, :], shape[2], axis=1).reshape(*shape, -1)
    factor = factor.reshape(*x.shape, *factor.shape[1:])
    points[..., places] += np.einsum("gkij,klj->gkli", factor, standard)
    if SPREAD not in target.free:
        moved = points[..., LOCATION] - modes.reshape(*x.shape, 1, -1)[..., LOCATION]
        points[..., SPREAD] += spread_follows(target.geometry) * moved
    log_weight = _log_density(target, points) - log_student(standard)
    log_weight += (log_scale.reshape(x.shape) + log_outer)[:, :, None]
    _check_finite(target, log_weight)
    peaks = laplace(target, jet).reshape(x.shape) + log_outer
    return Drawn(_normalised(log_weight), points, _normalised(peaks))


def _check_finite(target: RegressionTarget, log_weight: Array) -> None:
    """Raise where no weight is a number: the posterior is not what the modes say it is."""
    lost = np.isnan(log_weight).any(axis=(1, 2)) | ~(np.max(log_weight, axis=(1, 2)) < np.inf)
    if lost.any():
        pool = int(np.flatnonzero(lost)[0])
        raise FitError(
            "the posterior of the hyperparameters has no end that integration can reach",
            where={"pool": pool, "stores": int(target.sketch.n_groups[pool])},
            expected="a density that falls off on all sides of its mode",
            remedy="give proper hyperpriors with lighter tails, pool more stores, or hold what is "
            "known with `fixed`",
        )


def _normalised(log_weight: Array) -> Array:
    """Weights (G, ...) that add to one for each pool."""
    axes = tuple(range(1, log_weight.ndim))
    weight = np.exp(log_weight - np.max(log_weight, axis=axes, keepdims=True))
    return np.asarray(weight / np.sum(weight, axis=axes, keepdims=True))


def _factor(jet: Jet, places: list[int]) -> tuple[Array, Array]:
    """Square root R of the inverse curvature, (N, d, d), and log |R|."""
    curvature = -jet.hessian[:, places][:, :, places]
    eigenvalues, vectors = np.linalg.eigh(curvature)
    largest = np.max(np.abs(eigenvalues), axis=1, initial=0.0)[:, None]
    eigenvalues = np.maximum(np.abs(eigenvalues), 1e-10 * largest + 1e-300)
    factor = vectors / np.sqrt(eigenvalues)[:, None, :]
    return factor, -0.5 * np.sum(np.log(eigenvalues), axis=1)


def _log_density(target: RegressionTarget, points: Array) -> Array:
    """Log posterior at points (G, K, L, V) -> (G, K, L), a few of each pool at a time."""
    pools, *inner, _ = points.shape
    flat = points.reshape(pools, -1, points.shape[-1])
    out = np.empty(flat.shape[:2])
    length = target.at_once(flat.shape[1])
    many = target.repeat(length)
    for begin in range(0, flat.shape[1], length):
        block = flat[:, begin : begin + length]
        if block.shape[1] < length:
            many = target.repeat(block.shape[1])
        value = many.log_density(block.reshape(-1, flat.shape[2]))
        out[:, begin : begin + length] = value.reshape(block.shape[:2])
    return out.reshape(pools, *inner)


def as_nodes(target: RegressionTarget, drawn: Drawn) -> CoefficientNodes:
    """Turn draws into what a worker needs."""
    coefficients, log_spread = in_user_units(target, drawn.points)
    pools, width = coefficients.shape[0], coefficients.shape[-1]
    inner = drawn.weight.shape[2]
    return CoefficientNodes(
        family=target.family.name,
        method=np.full(pools, "integrated", dtype="<U16"),
        weight=drawn.weight,
        spread=np.exp(log_spread),
        noise=np.ones_like(drawn.weight),
        coefficients=coefficients,
        remaining=np.zeros((pools, drawn.weight.shape[1], 1, width, width)),
        spread_variance=np.zeros(pools),
        spread_covariance=np.zeros((pools, width)),
        curvature=np.full(pools, np.nan),
        n_groups=np.asarray(target.sketch.n_groups),
        inner=np.full(pools, inner),
        ess=drawn.ess(),
        pareto_k=drawn.pareto_k(),
        drawn=inner > 1,
    )


def in_user_units(target: RegressionTarget, points: Array) -> tuple[Array, Array]:
    """Working points (G, ..., V) -> the user's coefficients (G, ..., P), log A at location 0."""
    own = target.geometry.n_working
    standard = np.concatenate([points[..., :1], points[..., own:]], axis=-1)
    coefficients = np.einsum("gpq,g...q->g...p", target.sketch.units.matrix, standard)
    return coefficients, points[..., SPREAD] - spread_follows(target.geometry) * points[
        ..., LOCATION
    ]
