"""The likelihood of varying intercepts and slopes, from triangular factors of the stores.

With Σ = σ² S, S = Λ Λ', and (R, z, RSS) of :mod:`hbpipe.model.marginal.factors`, a store of n rows
has (Bates et al. 2015, *JSS* 67(1), section 3, for one store)

    log L = −½ [n log 2π + 2 n log σ + log|M| + (RSS + u' M⁻¹ u)/σ²],
    M = I + R S R',   u = z − R μ.

With A = R' M⁻¹ R, r = R' M⁻¹ u and Q = A − r r'/σ², its derivatives along dμ and dS are

    ∂/∂μ = r/σ²,   d log L = −½ tr(Q dS),   dA = −A dS A,   dr = −A (dS r + dμ).

So those of a pool are linear in the sums over its stores of A, r, r r', A ⊗ A, A ⊗ r r' and A ⊗ r,
and value, gradient and Hessian of disjoint shards add up. The sums are taken in the basis B of the
sketch, where predictors are orthogonal: R B⁻¹, B μ and B Λ in place of R, μ and Λ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Derivatives
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.numerics.grouped import Rows, sum_in_blocks
from hbpipe.model.numerics.parts import Table, total
from hbpipe.model.numerics.small import (
    forward,
    log_det,
    product,
    root_of_shifted,
    rows_last,
    transposed,
)
from hbpipe.model.regression.relative import split, triangle

#: Rows of a block: its matrices stay in the processor's cache.
BLOCK = 2**12


@dataclass(frozen=True)
class Whitened:
    """Rows of a block at given Λ: ``half`` (P, P, B) is L⁻¹ R with M = L L'."""

    lower: Array
    half: Array

    @classmethod
    def of(cls, factor: Array, loading: Array) -> Whitened:
        """Whiten rows with R (P, P, B) at Λ (P, P, B)."""
        lower = root_of_shifted(product(factor, loading))
        return cls(lower, forward(lower, factor))

    @property
    def precision(self) -> Array:
        """A = R' M⁻¹ R, (P, P, B): σ² times the information of a store on μ."""
        return product(transposed(self.half), self.half)


def packed(matrix: Array) -> Iterator[Array]:
    """Yield the lower triangle of symmetric matrices (P, P, ...), column by column."""
    for i, k in zip(*triangle(len(matrix)), strict=True):
        yield matrix[i, k]


def places(size: int) -> NDArray[np.int64]:
    """(P, P): where an element of a symmetric matrix is in its packed triangle."""
    rows, columns = triangle(size)
    place = np.empty((size, size), np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place


def log_marginal(sketch: RegressionSketch, coordinates: Array) -> Derivatives:
    """Log density of all responses in (μ, θ, log σ), all constants included.

    Plain sums over stores: the results for sketches of disjoint stores may be added.

    Returns
    -------
    Value (G,), gradient (G, D), Hessian (G, D, D).
    """
    mu, loading, log_sigma = split(coordinates, sketch.size)
    basis, inverse_basis = sketch.basis
    loading = basis @ loading
    sums = _Sums.over(sketch.rows, inverse_basis, (basis @ mu[:, :, None])[:, :, 0], loading)
    inverse = np.exp(-2.0 * log_sigma)
    scaled = (sketch.within + sums.distance) * inverse
    value = -0.5 * (sketch.n_values * (LOG_2PI + 2.0 * log_sigma) + sums.log_det + scaled)
    return _derivatives(sums, basis, loading, inverse, scaled, value, sketch.n_values)


@dataclass(frozen=True)
class _Sums:
    """Sums over the stores of each pool, pools first; the symbols of the module's text.

    ``log_det`` and ``distance`` (G,) are Σ log|M| and Σ u'M⁻¹u; ``score`` (G, P) is Σ r;
    ``precision`` and ``squares`` (G, P, P) are Σ A and Σ r r'. The others are Kronecker products
    arranged for quadratic forms in vec(dS): ``bent[lm, ik]`` = Σ A_il A_mk,
    ``bent_squares[lm, ik]`` = Σ (r r')_il A_mk, ``bent_score[m, ki]`` = Σ A_mk r_i.
    """

    log_det: Array
    distance: Array
    score: Array
    precision: Array
    squares: Array
    bent: Array
    bent_squares: Array
    bent_score: Array

    @classmethod
    def over(cls, rows: Table, turn: Array, mu: Array, loading: Array) -> _Sums:
        """Sum over all rows, wherever they are, with R B⁻¹ for R: ``turn`` is B⁻¹."""
        size = mu.shape[1]
        found = total(rows.each(_summed, turn, mu, loading))
        place, pairs = places(size), size * (size + 1) // 2
        ends = np.cumsum([2, size, pairs, pairs, pairs * (pairs + 1) // 2, pairs**2])
        head, score, precision, squares, bent, bent_squares, bent_score = np.split(
            found, ends, axis=-1
        )
        pools = len(found)
        square = (pools, size * size, size * size)
        outer = places(pairs)
        # Axes l, m, i, k; `take` gives arrays in row order, or the bits of a pool's matrix products
        # would depend on how many pools there are.
        il = place[:, None, :, None]
        mk = place[None, :, None, :]
        by_score = bent_score.reshape(pools, pairs, size)
        return cls(
            log_det=head[:, 0],
            distance=head[:, 1],
            score=score,
            precision=np.take(precision, place, axis=1),
            squares=np.take(squares, place, axis=1),
            bent=np.take(bent, outer[il, mk], axis=1).reshape(square),
            bent_squares=np.take(bent_squares, mk * pairs + il, axis=1).reshape(square),
            bent_score=np.take(by_score, place, axis=1).reshape(pools, size, size * size),
        )


def _summed(rows: Rows, turn: Array, mu: Array, loading: Array) -> Array:
    """Sum over some rows, block by block, (G, N): the sums of :class:`_Sums` side by side."""
    turn, mu, loading = rows_last(turn), rows_last(mu), rows_last(loading)

    def terms(block: slice) -> Iterator[Array]:
        pool = rows.pool[block]
        factor = product(rows_last(rows["factor"][block]), turn[:, :, pool])
        return _terms(rows, block, factor, mu[:, pool], loading[:, :, pool])

    return np.stack(sum_in_blocks(rows, terms, BLOCK), axis=-1)


def _terms(rows: Rows, block: slice, factor: Array, mu: Array, loading: Array) -> Iterator[Array]:
    """Yield what a block adds to each sum, (B,) each, in the order of :class:`_Sums`."""
    cross = rows_last(rows["cross"][block])
    count = rows["n"][block].astype(np.float64)
    whitened = Whitened.of(factor, loading)
    deviation = rows_last(rows["means"][block])[:, None] - product(factor, mu[:, None])
    residual = forward(whitened.lower, deviation)
    # Z whitened from both sides: the stores of a row differ in z alone.
    about = forward(whitened.lower, transposed(forward(whitened.lower, cross)))
    about = about + count * residual * transposed(residual)
    back = transposed(whitened.half)
    precision = whitened.precision
    score = count * product(back, residual)[:, 0]
    squares = product(product(back, about), whitened.half)
    yield count * log_det(whitened.lower)
    yield np.einsum("kk...->...", about)
    yield from score
    weighted = [count * element for element in packed(precision)]
    yield from weighted
    triangle_of_squares = list(packed(squares))
    yield from triangle_of_squares
    elements = list(packed(precision))
    for k, column in enumerate(elements):
        for element in weighted[k:]:
            yield element * column
    for element in elements:
        yield from (element * other for other in triangle_of_squares)
    for element in elements:
        yield from (element * other for other in score)


def directions(basis: Array, loading: Array) -> Array:
    """vec(dS) along each θ_ab, (G, P², q), in the basis: dS = β_a λ_b' + λ_b β_a'.

    β_a is a column of B and λ_b one of B Λ (``loading``).
    """
    pools, size, _ = loading.shape
    rows, columns = triangle(size)
    half = basis[:, :, None, rows] * loading[:, None, :, columns]
    along = half + np.swapaxes(half, 1, 2)
    return along.reshape(pools, size * size, len(rows))


def curvature(form: Array, along: Array) -> Array:
    """Quadratic form (G, P², P²) of vec(dS) along every pair of θ, (G, q, q)."""
    return np.asarray(np.swapaxes(along, 1, 2) @ form @ along)


def along_second(slope: Array, basis: Array) -> Array:
    """tr(slope d²S)/2 along pairs of θ, (G, q, q): (B' slope B)_ac where the columns agree."""
    rows, columns = triangle(slope.shape[1])
    same = columns[:, None] == columns[None, :]
    outer = np.swapaxes(basis, 1, 2) @ slope @ basis
    return np.asarray(np.where(same, outer[:, rows[:, None], rows[None, :]], 0.0))


def _derivatives(
    sums: _Sums,
    basis: Array,
    loading: Array,
    inverse: Array,
    scaled: Array,
    value: Array,
    n: Array,
) -> Derivatives:
    """Chain the derivatives in (B μ, B S B', log σ) to the coordinates; ``inverse`` is 1/σ²."""
    pools, size, _ = loading.shape
    rows, columns = triangle(size)
    location, theta = slice(size), slice(size, size + len(rows))
    by_matrix = inverse[:, None, None]
    slope = sums.precision - by_matrix * sums.squares
    along, back = directions(basis, loading), np.swapaxes(basis, 1, 2)
    gradient = np.empty((pools, size + len(rows) + 1))
    gradient[:, location] = inverse[:, None] * (back @ sums.score[:, :, None])[:, :, 0]
    gradient[:, theta] = -(back @ slope @ loading)[:, rows, columns]
    gradient[:, -1] = scaled - n
    hessian = np.zeros((pools, gradient.shape[1], gradient.shape[1]))
    # The upper triangle of blocks, the diagonal ones halved; its transpose completes it.
    hessian[:, location, location] = -0.5 * by_matrix * (back @ sums.precision @ basis)
    hessian[:, location, theta] = -by_matrix * (back @ sums.bent_score @ along)
    hessian[:, location, -1] = -2.0 * gradient[:, location]
    hessian[:, theta, theta] = 0.5 * (
        0.5 * curvature(sums.bent, along)
        - by_matrix * curvature(sums.bent_squares, along)
        - along_second(slope, basis)
    )
    turned = -2.0 * by_matrix * (back @ sums.squares @ loading)
    hessian[:, theta, -1] = turned[:, rows, columns]
    hessian[:, -1, -1] = -scaled
    return value, gradient, hessian + np.swapaxes(hessian, 1, 2)
