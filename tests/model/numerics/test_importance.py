"""Quasi-random importance sampling against densities with known integrals and moments."""

import numpy as np
import pytest
from scipy import special, stats

from hbpipe.model.numerics import importance
from hbpipe.model.numerics.importance import MOST, Proposal, adapted, proposal_at, sample
from hbpipe.model.numerics.modes import find_mode
from hbpipe.model.numerics.pareto import LIMIT

RNG = np.random.default_rng(30)
ROOT = RNG.normal(size=(7, 7)) + np.eye(7)
COVARIANCE, CENTRE = ROOT @ ROOT.T, 3.0 * RNG.normal(size=7)
SHAPES = np.array([0.6, 1.0, 2.0, 5.0, 10.0, 1.0, 20.0])


def gaussian(points):
    return np.atleast_1d(stats.multivariate_normal(CENTRE, COVARIANCE).logpdf(points))


def log_gamma(points):
    """Logarithms of Gamma variables: they fall off like an exponential to the left."""
    points = np.minimum(points, 600.0)
    return np.sum(SHAPES * points - np.exp(points) - special.gammaln(SHAPES), axis=1)


def limits(points, weight):
    mean = weight @ points
    sd = np.sqrt(weight @ (points - mean) ** 2)
    return np.concatenate([mean - 2 * sd, mean + 2 * sd]), np.tile(sd, 2)


def integrate(density, start, spreads=()):
    return sample(density, find_mode(density, start, spreads), limits)


def check_moments(found, mean, sd, tolerance):
    at = found.weight @ found.points
    np.testing.assert_allclose(at, mean, atol=tolerance * np.max(sd))
    np.testing.assert_allclose(
        np.sqrt(found.weight @ (found.points - at) ** 2), sd, rtol=2.0 * tolerance
    )
    # Densities that integrate to one: so does the average of their ratio to the proposal.
    assert np.mean(np.exp(found.log_ratio)) == pytest.approx(1.0, abs=2.0 * tolerance)


def test_seven_correlated_normal_variables():
    found = integrate(gaussian, np.zeros(7))
    check_moments(found, CENTRE, np.sqrt(np.diag(COVARIANCE)), 0.005)
    assert found.pareto_k < 0.2
    assert found.ess > 0.7 * len(found.points)


def test_seven_skewed_variables_with_exponential_tails():
    found = integrate(log_gamma, np.zeros(7), (0, 1))
    sd = np.sqrt(special.polygamma(1, SHAPES))
    check_moments(found, special.digamma(SHAPES), sd, 0.01)
    assert found.pareto_k < 0.5


def test_a_log_sd_at_no_spread():
    # Half-normal in τ: the density of log τ falls like exp(x) to the left.
    def density(points):
        x = points[:, 0]
        return 0.5 * np.log(2.0 / np.pi) + x - 0.5 * np.exp(np.minimum(2.0 * x, 600.0))

    found = integrate(density, np.array([-25.0]), (0,))
    tau = np.exp(found.points[:, 0])
    for level in (0.025, 0.5, 0.975):
        below = np.sum(found.weight * (tau <= stats.halfnorm.ppf(level)))
        assert below == pytest.approx(level, abs=0.005)
    assert found.moved < 0.005


@pytest.mark.parametrize("sides", [(1.0, 1.0), (0.3, 4.0)])
def test_the_proposal_is_a_density_and_its_points_follow_it(sides):
    below, above = np.array([sides[0], 1.0]), np.array([sides[1], 2.0])
    proposal = Proposal(np.array([1.0, -2.0]), np.array([[2.0, 0.0], [1.0, 0.5]]), below, above)
    points, log_density = proposal.draw(np.random.default_rng(1).uniform(size=(200000, 3)))
    # E[1/q] over a box is its area: no formula of the code's own is used.
    inside = (np.abs(points - proposal.centre) < [1.5, 1.0]).all(axis=1)
    area = np.mean(np.where(inside, np.exp(-log_density), 0.0))
    assert area == pytest.approx(3.0 * 2.0, rel=0.02)
    share = np.mean(np.linalg.solve(proposal.root, (points - proposal.centre).T)[0] < 0)
    assert share == pytest.approx(sides[0] / sum(sides), abs=0.005)


def test_the_log_density_of_the_proposal_is_continuous_at_its_centre():
    proposal = Proposal(np.zeros(1), np.eye(1), np.array([0.2]), np.array([3.0]))
    side = 0.2 / 3.2
    radial = np.full(2, 0.5)
    _, log_density = proposal.draw(np.column_stack([radial, [side - 1e-9, side + 1e-9]]))
    assert log_density[0] == pytest.approx(log_density[1], abs=1e-6)


def test_twice_as_many_points_contain_the_first_half_and_bits_repeat(monkeypatch):
    few = integrate(gaussian, np.zeros(7))
    monkeypatch.setattr(importance, "TOLERANCE", 0.0)
    monkeypatch.setattr(importance, "MOST", 2 * len(few.points))
    many = integrate(gaussian, np.zeros(7))
    assert len(many.points) == 2 * len(few.points)
    np.testing.assert_array_equal(many.points[: len(few.points)], few.points)
    np.testing.assert_array_equal(many.log_ratio[: len(few.points)], few.log_ratio)


def test_uneven_weights_move_the_proposal():
    # A bent density: the mode's curvature knows nothing of the bend.
    def density(points):
        x, y = points.T
        return -0.5 * x**2 - 2.0 * (y - 0.4 * x**2) ** 2

    first = proposal_at(density, find_mode(density, np.array([1.0, 1.0])))
    narrow = Proposal(first.centre + 1.5, 0.4 * first.root, first.below, first.above)
    before = importance._evaluate(density, narrow, 0, 1024)
    _, after = adapted(density, narrow)
    assert after.ess > 3.0 * before.ess
    assert after.pareto_k < before.pareto_k


def test_a_density_that_no_split_law_follows_is_noticed():
    def density(points):  # a funnel
        v, rest = points[:, 0], points[:, 1:]
        scale = np.exp(np.clip(-v, -600.0, 600.0))
        return -v * v / 18.0 - 0.5 * np.sum(rest**2, axis=1) * scale - 1.5 * v

    found = integrate(density, np.zeros(4), (0,))
    assert found.pareto_k > LIMIT
    assert len(found.points) == MOST
