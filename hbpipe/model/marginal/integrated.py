"""The likelihood of one pool of regressions with μ integrated out, at many points (Λ, σ) at once.

Given these the likelihood is Gaussian in μ. With T and t the sums of A and r at some μ₀ (see
:mod:`hbpipe.model.marginal.regression`) and a flat prior on μ,

    μ | data ~ N(μ₀ + T⁻¹ t, σ² T⁻¹),     ∫ L dμ = L(μ₀) exp(t'T⁻¹t / 2σ²) |2π σ² T⁻¹|^½.

T has eigenvalues as small as 1/τ², far below rounding where a τ is huge. So the sums are taken of
K'A K and K'r, where K K' = I + n̄ Λ Λ' is nearly the inverse of A, n̄ the rows of a store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.regression import Whitened, packed, places
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.parts import total
from hbpipe.model.numerics.small import (
    cholesky,
    forward,
    log_det,
    product,
    root_of_shifted,
    rows_first,
    rows_last,
    transposed,
)

#: Rows of a block, and numbers of one element of its matrices.
_ROWS, _NUMBERS = 256, 2**14


@dataclass(frozen=True)
class Location:
    """What the data of a pool say of μ at ``S`` points.

    Parameters
    ----------
    log_det, distance
        Σ log|M| and Σ u'M⁻¹u at μ₀, (S,).
    score, precision
        t (F, S) and T (F, F, S) along F directions in which μ is free.
    directions
        These directions as steps of μ, (P, F, S).
    log_volume
        What log|T| along the free elements of μ has beside that of ``precision``, (S,).
    """

    log_det: Array
    distance: Array
    score: Array
    precision: Array
    directions: Array
    log_volume: Array

    @classmethod
    def given(
        cls, sketch: RegressionSketch, mu: Array, free: NDArray[np.bool_], loading: Array
    ) -> Location:
        """Sum over the stores of the only pool at every Λ (P, P, S).

        ``mu`` (P,) is μ₀, at the known values where μ is not ``free``.
        """
        basis, turn = (matrix[0] for matrix in sketch.basis)
        moved = product(basis[:, :, None], loading)
        each = float(sketch.n_values[0]) / max(float(sketch.n_groups[0]), 1.0)
        reach = root_of_shifted(np.sqrt(each) * moved)
        sums = total(sketch.rows.each(_summed, turn, basis @ mu, moved, reach))
        size = len(mu)
        score, precision = sums[2 : 2 + size], sums[2 + size :][places(size)]
        if not free.any():
            points = len(sums[0])
            nothing = np.empty((0, points)), np.empty((0, 0, points)), np.empty((size, 0, points))
            return cls(sums[0], sums[1], *nothing, log_volume=np.zeros(points))
        along, log_volume = _free_directions(reach, basis, free)
        return cls(
            log_det=sums[0],
            distance=sums[1],
            score=product(transposed(along), score[:, None])[:, 0],
            precision=product(transposed(along), product(precision, along)),
            directions=product(turn[:, :, None], product(reach, along)),
            log_volume=log_volume,
        )

    def log_likelihood(self, sketch: RegressionSketch, log_sigma: Array) -> Array:
        """Log likelihood with μ integrated out, (S,)."""
        distance, log_determinants = self.distance, self.log_det
        if len(self.score):
            lower = cholesky(self.precision)
            pulled = forward(lower, self.score[:, None])[:, 0]
            distance = distance - np.sum(np.square(pulled), axis=0)
            log_determinants = log_determinants + log_det(lower) + self.log_volume
        n, within = float(sketch.n_values[0]), float(sketch.within[0])
        scaled = (within + distance) * np.exp(-2.0 * log_sigma)
        constants = (n - len(self.score)) * (LOG_2PI + 2.0 * log_sigma)
        return np.asarray(-0.5 * (constants + log_determinants + scaled))

    def moments(self, log_sigma: Array) -> tuple[Array, Array]:
        """Posterior mean of μ − μ₀, (S, P), and its covariance, (S, P, P)."""
        if not len(self.score):
            size, _, points = self.directions.shape
            return np.zeros((points, size)), np.zeros((points, size, size))
        lower = cholesky(self.precision)
        root = forward(lower, transposed(self.directions))
        step = product(transposed(root), forward(lower, self.score[:, None]))[:, 0]
        covariance = np.exp(2.0 * log_sigma) * product(transposed(root), root)
        return rows_first(step), rows_first(covariance)


def _free_directions(reach: Array, basis: Array, free: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Orthonormal directions (P, F, S) of K⁻¹ B μ for free elements of μ, and their log volume."""
    size, _, points = reach.shape
    if free.all():
        whole = np.broadcast_to(np.eye(size)[:, :, None], reach.shape)
        log_basis = 2.0 * np.sum(np.log(np.abs(np.diag(basis))))
        return whole, log_basis - log_det(reach)
    chosen = basis[:, free, None]
    inside = forward(reach, np.broadcast_to(chosen, (*chosen.shape[:2], points)))
    directions, upper = np.linalg.qr(rows_first(inside))
    lengths = np.abs(np.einsum("skk->sk", upper))
    return rows_last(directions), 2.0 * np.sum(np.log(lengths), axis=1)


def _summed(rows: Rows, turn: Array, centre: Array, loading: Array, reach: Array) -> Array:
    """Sum over some rows at every point, (N, S): Σ log|M|, Σ u'M⁻¹u, Σ K'r and Σ K'A K."""
    size, points = len(centre), loading.shape[2]
    found = np.zeros((2 + size + size * (size + 1) // 2, points))
    for begin in range(0, len(rows), _ROWS):
        block = slice(begin, begin + _ROWS)
        factor = product(rows_last(rows["factor"][block]), turn[:, :, None])
        expected = product(factor, centre[:, None, None])
        deviation = rows_last(rows["means"][block])[:, None] - expected
        cross = rows_last(rows["cross"][block])
        count = rows["n"][block].astype(np.float64)
        length = max(1, _NUMBERS // len(count))
        for first in range(0, points, length):
            some = (slice(None), slice(None), slice(first, first + length), None)
            terms = _terms(factor, deviation, cross, count, loading[some], reach[some])
            found[:, some[2]] += np.stack([np.sum(values, axis=-1) for values in terms])
    return found


def _terms(
    factor: Array, deviation: Array, cross: Array, count: Array, loading: Array, reach: Array
) -> list[Array]:
    """Return what each row adds at each point, (S, B) each."""
    whitened = Whitened.of(factor[:, :, None], loading)
    residual = forward(whitened.lower, deviation[:, :, None])
    distance = count * np.sum(np.square(residual[:, 0]), axis=0)
    if np.any(cross):
        about = forward(whitened.lower, cross[:, :, None])
        about = forward(whitened.lower, transposed(about))
        distance = distance + np.einsum("kk...->...", about)
    half = product(whitened.half, reach)
    score = product(transposed(half), residual)[:, 0]
    elements = packed(product(transposed(half), half))
    return [
        count * log_det(whitened.lower),
        distance,
        *(count * value for value in score),
        *(count * value for value in elements),
    ]
