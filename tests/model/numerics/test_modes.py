"""Modes by differences: scales, far starts, plains, and densities without a regular mode."""

import numpy as np
import pytest

from hbpipe.model.numerics.modes import find_mode, marginal_mode, root_of

RNG = np.random.default_rng(20)
ROOT = RNG.normal(size=(5, 5)) + 2.0 * np.eye(5)
COVARIANCE = ROOT @ ROOT.T
CENTRE = 3.0 * RNG.normal(size=5)
UNITS = np.array([1e-4, 1.0, 1e3, 1e6, 1.0])


def gaussian(points):
    offset = points / UNITS - CENTRE
    return -0.5 * np.einsum("si,ij,sj->s", offset, np.linalg.inv(COVARIANCE), offset)


@pytest.mark.parametrize("far", [0.0, 5.0, 400.0])
def test_a_normal_density_in_any_units_from_any_start(far):
    mode = find_mode(gaussian, UNITS * far, (1, 4))
    sd = np.sqrt(np.diag(COVARIANCE))
    assert mode.regular
    np.testing.assert_allclose(mode.point / UNITS, CENTRE, atol=1e-4 * sd.max())
    np.testing.assert_allclose(
        mode.covariance / np.outer(UNITS, UNITS), COVARIANCE, rtol=0, atol=1e-4 * sd.max() ** 2
    )


@pytest.mark.parametrize("start", [-200.0, -30.0, 0.0, 9.0])
def test_the_mode_is_found_from_the_plain_of_a_log_sd(start):
    # The logarithms of two Gamma variables: to the left the slope is 2 and there is no curvature.
    def density(points):
        return np.sum(2.0 * points - np.exp(np.minimum(points, 600.0)), axis=1)

    mode = find_mode(density, np.array([start, 0.0]), (0,))
    assert mode.regular
    np.testing.assert_allclose(mode.point, np.log(2.0), atol=1e-3)
    np.testing.assert_allclose(mode.covariance, np.eye(2) / 2.0, atol=2e-3)


def test_a_scan_leaves_a_lesser_summit():
    def density(points):
        x = points[:, 0]
        return np.logaddexp(-0.5 * (x / 0.3) ** 2, 6.0 - 0.5 * ((x - 5.0) / 0.3) ** 2)

    assert find_mode(density, np.zeros(1)).point[0] == pytest.approx(0.0, abs=0.01)
    assert find_mode(density, np.zeros(1), (0,)).point[0] == pytest.approx(5.0, abs=0.01)


def test_a_direction_without_curvature_is_not_regular_and_has_a_finite_covariance():
    mode = find_mode(lambda points: -0.5 * np.sum(points[:, :2], axis=1) ** 2, np.ones(3))
    assert not mode.regular
    assert np.isfinite(mode.covariance).all()
    assert np.linalg.eigvalsh(mode.covariance)[0] > 0


def test_next_to_where_the_density_ends_differences_are_taken_inside():
    def density(points):
        x = points[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(x > 0, 0.2 * np.log(x) - x, -np.inf)

    mode = find_mode(density, np.array([1e-3]))
    assert mode.point[0] == pytest.approx(0.2, rel=1e-3)
    assert mode.covariance[0, 0] == pytest.approx(0.2, rel=1e-2)


def test_the_root_keeps_an_uncorrelated_variable_on_its_own_axis():
    covariance = COVARIANCE.copy()
    covariance[2, [0, 1, 3, 4]] = covariance[[0, 1, 3, 4], 2] = 0.0
    root = root_of(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-10 * covariance.max())
    np.testing.assert_allclose(root[2], np.sqrt(covariance[2, 2]) * np.eye(5)[2], atol=1e-12)


@pytest.mark.parametrize("n", [10, 40, 200])
def test_marginal_mode_of_a_log_variance(n):
    # Mean and log variance of n normal values: maximum likelihood divides by n, the marginal
    # likelihood of the variance by n − 1.
    def density(points):
        mean, log_variance = points.T
        return -0.5 * n * (log_variance + (1.0 + mean**2) / np.exp(log_variance))

    mode = find_mode(density, np.array([0.3, 1.0]), (1,))
    moved = marginal_mode(density, mode, (1,))
    assert mode.point[1] == pytest.approx(0.0, abs=1e-3)
    assert moved[1] == pytest.approx(-np.log1p(-1.0 / n), abs=1.5 / n**2)
    assert moved[0] == pytest.approx(0.0, abs=1e-4)
