"""The likelihood of stores whose θ are from one of two conjugate laws, in many pools.

A store's log marginal is m = log Σ_k w_k f_k with f_k its likelihood under component k alone. With
g_k and H_k the derivatives of log f_k in the component's own coordinates, the responsibilities
r_k = w_k f_k/e^m and d = (f_2 − f_1)/e^m,

    ∂m/∂η_k = r_k g_k,   ∂m/∂w = d,   ∂²m/∂w² = −d²,
    ∂²m/∂η_k∂η_l = δ_kl r_k (H_k + g_k g_k') − r_k r_l g_k g_l',
    ∂²m/∂w∂η_k = ±f_k g_k/e^m − d r_k g_k,

with + for the second component. w = 0 is an ordinary point of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.model.family import Array, Derivatives, Family
from hbpipe.model.mixtures.coordinates import COMPONENTS, WEIGHT, TwoComponents
from hbpipe.model.mixtures.sketch import MixtureSketch

#: A component of no weight explains a store better than all others by this, as a logarithm, at
#: most: its square is still a number.
_LARGEST = 300.0


@dataclass(frozen=True)
class _Mixed:
    """Distinct stores under a mixture.

    Parameters
    ----------
    log_marginal
        m, (R,).
    ratio
        f_k/e^m, (R, 2).
    responsibility
        r_k, (R, 2).
    slope, curvature
        g_k (R, 2, D) and H_k (R, 2, D, D).
    """

    log_marginal: Array
    ratio: Array
    responsibility: Array
    slope: Array
    curvature: Array


def log_marginal(base: Family, sketch: MixtureSketch, coordinates: Array) -> Derivatives:
    """Log marginal likelihood of each pool, all constants included.

    Returns
    -------
    Value (G,), gradient (G, 2 D + 1), Hessian (G, 2 D + 1, 2 D + 1).
    """
    mixed = _mix(base, sketch, coordinates)
    rows, stores = sketch.rows, sketch.rows["stores"]
    gradient, hessian = _derivatives(mixed)
    width = gradient.shape[1]
    value = rows.sum(stores * mixed.log_marginal)
    slopes = [rows.sum(stores * gradient[:, i]) for i in range(width)]
    both = np.empty((sketch.n_pools, width, width))
    for i in range(width):
        for j in range(i + 1):
            both[:, i, j] = both[:, j, i] = rows.sum(stores * hessian[:, i, j])
    return value, np.stack(slopes, axis=1), both


def _mix(base: Family, sketch: MixtureSketch, coordinates: Array) -> _Mixed:
    own = TwoComponents(base).of_components(coordinates)[sketch.rows.pool]
    found = [base.log_marginal(sketch.parts, own[:, k]) for k in range(COMPONENTS)]
    value, slope, curvature = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
    second = coordinates[sketch.rows.pool, WEIGHT]
    proportion = np.stack([1.0 - second, second], axis=1)
    mixed, ratio = mix(value, proportion)
    return _Mixed(mixed, ratio, proportion * ratio, slope, curvature)


def mix(log_each: Array, proportion: Array) -> tuple[Array, Array]:
    """Mix likelihoods log f_k: m = log Σ w_k f_k (...), and f_k/e^m (..., K)."""
    with np.errstate(divide="ignore"):
        weighted = log_each + np.log(proportion)
    largest = np.max(weighted, axis=-1, keepdims=True)
    total = np.sum(np.exp(weighted - largest), axis=-1, keepdims=True)
    found = largest + np.log(total)
    return found[..., 0], np.exp(np.minimum(log_each - found, _LARGEST))


def _derivatives(mixed: _Mixed) -> tuple[Array, Array]:
    """Gradient (R, 2 D + 1) and Hessian (R, 2 D + 1, 2 D + 1) of each store's m."""
    rows, components, width = mixed.slope.shape
    own = components * width
    each = mixed.responsibility[:, :, None] * mixed.slope
    change = mixed.ratio[:, 1] - mixed.ratio[:, 0]
    gradient = np.concatenate([each.reshape(rows, own), change[:, None]], axis=1)
    hessian = -gradient[:, :, None] * gradient[:, None, :]
    sign = np.array([-1.0, 1.0])[:, None]
    by_weight = sign * mixed.ratio[:, :, None] * mixed.slope
    hessian[:, :own, own] += by_weight.reshape(rows, own)
    hessian[:, own, :own] += by_weight.reshape(rows, own)
    outer = mixed.slope[:, :, :, None] * mixed.slope[:, :, None, :]
    inner = mixed.responsibility[:, :, None, None] * (mixed.curvature + outer)
    for k in range(components):
        place = slice(k * width, (k + 1) * width)
        hessian[:, place, place] += inner[:, k]
    return gradient, hessian
