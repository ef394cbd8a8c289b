"""Posteriors of stores' coefficients at many nodes of the hyperparameters.

At a node (Λ, σ) with μ ~ N(m, C), and B_j = I − Λ M⁻¹ F'R, the shrinkage of store j towards μ
(see ``coefficients.py`` for F and M), its coefficients are normal with

    mean = m + Λ M⁻¹ F'(z − R m),      covariance = σ² Λ M⁻¹ Λ' + B_j C B_j'

(Kass and Steffey 1989 write the second term for one coefficient). B_j = (I + S X'X)⁻¹, and the
weight of the store's own data in coefficient k is 1 − (B_j)_kk; with strongly correlated
coefficients it may leave the range from 0 to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.condense import mixture_quantiles
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Description, Statistics
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import factors_of
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.small import (
    diagonal,
    forward,
    product,
    root_of_shifted,
    rows_last,
    transposed,
)


def conditional(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Posteriors of the coefficients of ``J`` stores at ``S`` nodes."""
    mean, within, own, uncertainty = _updated(statistics, nodes)
    shrink = _identity_less(own)
    covariance = within + product(product(shrink, uncertainty), transposed(shrink))
    at, variance = _terms_last(mean[:, 0]), _variances(covariance)
    return Conditional(
        law=NORMAL,
        parameters=(at, np.sqrt(variance)),
        mean=at,
        variance=variance,
        weight=_terms_last(1.0 - diagonal(shrink)),
        prior_mean=np.broadcast_to(nodes["mu"], at.shape),
        covariance=_terms_last(covariance),
    )


def deviation(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Return the same of coefficients less μ: I − B_j takes the place of B_j."""
    mean, within, own, uncertainty = _updated(statistics, nodes)
    variance = _variances(within + product(product(own, uncertainty), transposed(own)))
    offset = _terms_last(mean[:, 0]) - nodes["mu"]
    return Conditional(
        law=NORMAL,
        parameters=(offset, np.sqrt(np.maximum(variance, 1e-300))),
        mean=offset,
        variance=variance,
        weight=_terms_last(diagonal(own)),
        prior_mean=np.zeros_like(offset),
    )


def _updated(statistics: Statistics, nodes: NodeValues) -> tuple[Array, Array, Array, Array]:
    """Return the mean, the covariance with μ known, I − B_j, and C; rows last."""
    factors = factors_of(statistics)
    factor, response = factors.factor[:, :, :, None], factors.response[:, None, :, None]
    loading, uncertainty = (
        rows_last(nodes[name])[:, :, None] for name in ("loading", "mu_covariance")
    )
    centre = rows_last(nodes["mu"])[:, None, None]
    spread = product(factor, loading)
    lower = root_of_shifted(transposed(spread))
    root = transposed(forward(lower, transposed(loading)))
    pull = product(root, forward(lower, transposed(spread)))
    mean = centre + product(pull, response - product(factor, centre))
    within = np.square(nodes["sigma"]) * product(root, transposed(root))
    return mean, within, product(pull, factor), uncertainty


def _identity_less(matrix: Array) -> Array:
    out = -matrix
    for k in range(len(out)):
        out[k, k] += 1.0
    return out


def _variances(covariance: Array) -> Array:
    return _terms_last(np.maximum(diagonal(covariance), 0.0))


def _terms_last(values: Array) -> Array:
    """(P, ..., J, S) → (J, S, P, ...)."""
    return np.ascontiguousarray(np.moveaxis(values, (-2, -1), (0, 1)))


def terms(statistics: Statistics) -> tuple[str, ...]:
    """Name the coefficients: b[0] and so on, in the order of the predictors."""
    return tuple(f"b[{k}]" for k in range(np.shape(statistics["means"])[1] - 1))


def representatives(sketch: RegressionSketch) -> dict[str, NDArray[Any]]:
    """Return a few stores of a pool: those that say least and most, one between, one without rows.

    Made of rows of the sketch, with their mean response. What they say is measured by tr(X'X)
    in the basis of the sketch.
    """
    parts = sketch.rows.each(_extremes, sketch.basis[1][0])
    said, cross = (np.concatenate(column) for column in zip(*parts, strict=True))
    chosen = np.argsort(said, kind="stable")[[0, len(said) // 2, -1]]
    cross = np.concatenate([cross[chosen], np.zeros_like(cross[:1])])
    n = np.array([cross.shape[1], cross.shape[1], cross.shape[1], 0])
    return {"n": n, "means": np.zeros(cross.shape[:2]), "cross": cross}


def _extremes(rows: Rows, turn: Array) -> tuple[Array, Array]:
    """Find the least, the middle and the most telling row: what they say, and raw products."""
    said = np.sum(np.square(rows["factor"] @ turn), axis=(1, 2))
    order = np.argsort(said, kind="stable")
    chosen = order[[0, len(said) // 2, -1]] if len(said) else order
    factor = np.concatenate([rows["factor"], rows["means"][:, :, None]], axis=2)[chosen]
    return said[chosen], np.swapaxes(factor, 1, 2) @ factor


def predict(posterior: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Response of the next event of each store at its predictors, ``exposure`` (J, P).

    At each node it is N(x'b, x'Cov(b)x + σ²).
    """
    assert isinstance(posterior.covariance, np.ndarray)
    stores = len(exposure)
    across = exposure[:, None, :]
    mean = np.sum(across * posterior.mean, axis=2)
    half = np.sum(across[:, :, None] * posterior.covariance, axis=3)
    spread = np.sum(across * half, axis=2)
    variance = np.maximum(spread, 0.0) + np.square(nodes["sigma"])

    def mixed(weight: Array, levels: Array) -> Description:
        parameters = (mean, np.sqrt(variance))
        mixture = Mixture(NORMAL, np.broadcast_to(weight, mean.shape), parameters)
        centre, total = mixture.moments()
        quantiles = mixture_quantiles(NORMAL, weight, parameters, levels)
        return Description(
            centre, np.sqrt(total), quantiles, lambda y: mixture.cdf(np.broadcast_to(y, stores))
        )

    return Predictive(mean, variance, mixed)
