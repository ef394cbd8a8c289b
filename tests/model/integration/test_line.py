"""The trapezoidal rule for one hyperparameter, on densities with known moments."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.integration.line import line_nodes


def mode_of(point, variance):
    return SimpleNamespace(point=np.array([point]), covariance=np.array([[variance]]))


@pytest.mark.parametrize(
    ("law", "mode", "variance"),
    [
        (stats.norm(3.0, 0.2), 3.0, 0.04),
        (stats.loggamma(0.5), np.log(0.5), 2.0),  # a long tail to the left
        (stats.loggamma(40.0), np.log(40.0), 1 / 40.0),
        (stats.norm(3.0, 0.2), 3.0, 1.0),  # a curvature far from the width
    ],
)
def test_moments_are_exact(law, mode, variance):
    points, weight = line_nodes(lambda x: law.logpdf(x[:, 0]), mode_of(mode, variance))
    mean = np.sum(weight * points[:, 0])
    assert np.sum(weight) == pytest.approx(1.0)
    assert mean == pytest.approx(law.mean(), abs=1e-3 * law.std())
    sd = np.sqrt(np.sum(weight * (points[:, 0] - mean) ** 2))
    assert sd == pytest.approx(law.std(), rel=2e-3)
    assert len(weight) < 120


def test_a_second_summit_is_reached_over_a_shallow_saddle():
    parts = [stats.norm(0.0, 0.3), stats.norm(1.5, 0.3)]

    def density(x):
        return np.log(sum(0.5 * part.pdf(x[:, 0]) for part in parts))

    points, weight = line_nodes(density, mode_of(0.0, 0.09))
    assert np.sum(weight * points[:, 0]) == pytest.approx(0.75, abs=1e-3)
