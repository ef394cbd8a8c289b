"""What REML adds for regressions: μ integrated over a flat prior.

The information on μ is T/σ² with T = Σ A over the stores of a pool (see
:mod:`hbpipe.model.marginal.regression`), so the restricted likelihood has (Patterson and Thompson
1971; the constant of Bates et al. 2015, eq. 41, without ½ log|X'X|) in addition

    ½ P log 2π + P log σ − ½ log|T|.

The logarithm is not a sum over stores, but it needs no more than three that are:
:func:`information` gives Σ A, Σ A ⊗ A and Σ A ⊗ A ⊗ A, all in one basis and added up over shards
where the stores lie in some, and :func:`from_information` takes the total.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations_with_replacement, permutations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Derivatives
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.regression import (
    BLOCK,
    Whitened,
    along_second,
    curvature,
    directions,
    packed,
    places,
)
from hbpipe.model.numerics.grouped import Rows, sum_in_blocks
from hbpipe.model.numerics.parts import total
from hbpipe.model.numerics.small import product, rows_last
from hbpipe.model.regression.relative import split, triangle

#: Numbers of one array of tensors: with P coefficients a pool needs P⁶.
_TENSORS = 2**22


def log_restriction(sketch: RegressionSketch, coordinates: Array) -> Derivatives:
    """Turn the likelihood into the restricted one; zero for a pool without stores."""
    return from_information(information(sketch, coordinates), coordinates, sketch.basis[0])


def information(sketch: RegressionSketch, coordinates: Array) -> Array:
    """Return sums over the stores of each pool, (G, N), wherever they are.

    The elements of A's lower triangle, then their products of two, then of three, each product
    once.
    """
    basis, turn = sketch.basis
    _, loading, _ = split(coordinates, sketch.size)
    return total(sketch.rows.each(_informed, basis @ loading, turn))


def _informed(rows: Rows, loading: Array, turn: Array) -> Array:
    """Sum over some rows, with the basis' Λ and B⁻¹."""
    at_pools, turn = rows_last(loading), rows_last(turn)

    def terms(block: slice) -> Iterator[Array]:
        pool = rows.pool[block]
        factor = product(rows_last(rows["factor"][block]), turn[:, :, pool])
        count = rows["n"][block].astype(np.float64)
        precision = Whitened.of(factor, at_pools[:, :, pool]).precision
        elements = list(packed(precision))
        for powers in (1, 2, 3):
            for chosen in combinations_with_replacement(elements, powers):
                total = count
                for element in chosen:
                    total = total * element
                yield total

    return np.stack(sum_in_blocks(rows, terms, BLOCK), axis=-1)


def from_information(information: Array, coordinates: Array, basis: Array) -> Derivatives:
    """Value (G,), gradient (G, D) and Hessian (G, D, D) from the sums of all shards.

    ``basis`` is B (G, P, P).
    """
    length = max(1, _TENSORS // basis.shape[1] ** 6)
    blocks = [slice(begin, begin + length) for begin in range(0, len(coordinates), length)]
    parts = [
        _from_information(information[some], coordinates[some], basis[some]) for some in blocks
    ]
    value, gradient, hessian = (np.concatenate(part) for part in zip(*parts, strict=True))
    return value, gradient, hessian


def _from_information(sums: Array, coordinates: Array, basis: Array) -> Derivatives:
    size = basis.shape[1]
    _, loading, log_sigma = split(coordinates, size)
    loading = basis @ loading
    first, second, third = _tensors(sums, size)
    pools, square = len(sums), size * size
    # Without any store there is nothing to integrate: the identity makes every term vanish.
    some = np.any(first != 0, axis=(1, 2))
    total = np.where(some[:, None, None], first, np.eye(size))
    inverse = np.linalg.inv(total)
    determinant = np.linalg.slogdet(total)[1] + 2.0 * np.linalg.slogdet(basis)[1]
    value = 0.5 * size * LOG_2PI + size * log_sigma - 0.5 * determinant
    rows, columns = triangle(size)
    theta = slice(size, size + len(rows))
    along, back = directions(basis, loading), np.swapaxes(basis, 1, 2)
    # K = Σ A T⁻¹ A, because −½ log|T| grows by ½ tr(K dS).
    flat = inverse.reshape(pools, square, 1)
    slope = (second @ flat).reshape(pools, size, size)
    # T⁻¹ Σ A dS A along each θ; a product of two of them has the trace wanted.
    moved = np.moveaxis((second @ along).reshape(pools, size, size, -1), 3, 1)
    relative = inverse[:, None] @ moved
    turned = np.swapaxes(relative, 2, 3).reshape(pools, -1, square)
    products = relative.reshape(pools, -1, square) @ np.swapaxes(turned, 1, 2)
    bent = (third @ flat[:, None]).reshape(pools, square, square)
    gradient = np.zeros_like(coordinates)
    gradient[:, theta] = (back @ slope @ loading)[:, rows, columns]
    gradient[:, -1] = size
    hessian = np.zeros((pools, gradient.shape[1], gradient.shape[1]))
    second_order = 0.5 * products - curvature(bent, along)
    hessian[:, theta, theta] = second_order + along_second(slope, basis)
    return (
        np.where(some, value, 0.0),
        np.where(some[:, None], gradient, 0.0),
        np.where(some[:, None, None], 0.5 * (hessian + np.swapaxes(hessian, 1, 2)), 0.0),
    )


def _tensors(sums: Array, size: int) -> tuple[Array, Array, Array]:
    """Arrange Σ A (G, P, P), Σ A ⊗ A and Σ A ⊗ A ⊗ A for products with T⁻¹ and dS.

    ``second[cf, ab]`` = Σ A_ca A_bf and ``third[lm, ik, ab]`` = Σ A_ia A_bl A_mk.
    """
    place, pairs = places(size), size * (size + 1) // 2
    ends = np.cumsum([pairs, pairs * (pairs + 1) // 2])
    first, second, third = np.split(sums, ends, axis=1)
    left, right, a, b = np.ix_(*[np.arange(size)] * 4)
    # `take` gives arrays in row order: with others the bits of a pool's matrix products would
    # depend on how many pools there are.
    by_two = np.take(second, places(pairs)[place[left, a], place[b, right]], axis=1)
    left, m, i, k, a, b = np.ix_(*[np.arange(size)] * 6)
    by_three = np.take(third, _triples(pairs)[place[i, a], place[b, left], place[m, k]], axis=1)
    square = size * size
    return (
        np.take(first, place, axis=1),
        by_two.reshape(len(sums), square, square),
        by_three.reshape(len(sums), square, square, square),
    )


@lru_cache
def _triples(pairs: int) -> NDArray[np.int64]:
    """(N, N, N): where the product of three elements is, in whatever order they come."""
    place = np.empty((pairs, pairs, pairs), np.int64)
    for number, chosen in enumerate(combinations_with_replacement(range(pairs), 3)):
        for order in permutations(chosen):
            place[order] = number
    return place
