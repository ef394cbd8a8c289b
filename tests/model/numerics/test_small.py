"""Linear algebra of many small matrices against numpy's, one by one."""

import numpy as np
import pytest

from hbpipe.model.numerics import small


def drawn(size, many=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, size, many))


def each(matrices):
    return np.moveaxis(matrices, -1, 0)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_factors_products_and_determinants(size):
    left, right = drawn(size), drawn(size, seed=1)
    both = small.product(left, right)
    np.testing.assert_allclose(each(both), each(left) @ each(right), rtol=1e-12, atol=1e-13)
    square = small.product(left, small.transposed(left))
    lower = small.cholesky(square)
    np.testing.assert_allclose(each(lower), np.linalg.cholesky(each(square)), rtol=1e-8)
    expected = np.linalg.slogdet(each(square))[1]
    np.testing.assert_allclose(small.log_det(lower), expected, rtol=1e-9, atol=1e-9)
    solved = small.forward(lower, right)
    np.testing.assert_allclose(small.product(lower, solved), right, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(small.diagonal(left), np.diagonal(each(left), axis1=1, axis2=2).T)
    np.testing.assert_array_equal(small.rows_first(small.rows_last(each(left))), each(left))


@pytest.mark.parametrize("columns", [1, 3, 4])
def test_root_of_the_identity_and_a_gram_matrix(columns):
    spread = np.random.default_rng(2).normal(size=(3, columns, 15))
    lower = small.root_of_shifted(spread)
    expected = np.eye(3) + each(spread) @ np.swapaxes(each(spread), 1, 2)
    np.testing.assert_allclose(each(lower), np.linalg.cholesky(expected), rtol=1e-11, atol=1e-14)


def test_the_root_keeps_small_columns_beside_huge_ones():
    # F F' has eigenvalues 1e24 and 1: formed, the small one would be lost.
    rng = np.random.default_rng(3)
    direction, other = rng.normal(size=(2, 2, 1))
    spread = np.stack([1e12 * direction, other], axis=1)
    lower = small.root_of_shifted(spread)
    # |I + F F'| = (1 + |f|²)(1 + |g|²) − (f'g)², with f'g taken out of g.
    f, g = spread[:, 0, 0], spread[:, 1, 0]
    across = g - f * (f @ g) / (f @ f)
    inside = (f @ g) ** 2 / (f @ f)
    determinant = (1 + f @ f) * (1 + across @ across) + inside
    assert small.log_det(lower)[0] == pytest.approx(np.log(determinant), rel=1e-12)


def test_semidefinite_factor_of_a_singular_matrix():
    root = np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.5, 0.0, 3.0]])
    matrix = (root @ root.T)[:, :, None]
    floor = 1e-14 * small.diagonal(matrix)
    lower = small.semidefinite(matrix, floor)
    np.testing.assert_allclose(lower[:, :, 0], root, atol=1e-12)


def test_the_bits_of_a_row_do_not_depend_on_its_place():
    spread = drawn(4, many=33, seed=5)
    whole = small.root_of_shifted(spread)
    for some in (slice(0, 1), slice(7, 20), slice(32, 33)):
        np.testing.assert_array_equal(small.root_of_shifted(spread[:, :, some]), whole[:, :, some])
