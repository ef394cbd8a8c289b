"""NUTS on densities with known moments, and the diagnostics of chains against their formulas."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.numerics import chains
from hbpipe.model.numerics.chains import R_HAT_LIMIT, draw_chains, effective_size, split_r_hat

RNG = np.random.default_rng(40)
ROOT = RNG.normal(size=(4, 4)) + np.eye(4)
COVARIANCE, CENTRE = ROOT @ ROOT.T, 3.0 * RNG.normal(size=4)


def gaussian(points):
    offset = points - CENTRE
    return -0.5 * np.einsum("si,ij,sj->s", offset, np.linalg.inv(COVARIANCE), offset)


@pytest.mark.long
def test_a_correlated_normal_law_from_a_poor_metric():
    sd = np.sqrt(np.diag(COVARIANCE))
    found = draw_chains(gaussian, CENTRE + 3.0 * RNG.normal(size=(4, 4)), np.eye(4))
    assert found.agree
    assert found.ess > chains.ENOUGH
    draws = found.draws.reshape(-1, 4)
    error = 4.0 / np.sqrt(found.ess)
    np.testing.assert_allclose(np.mean(draws, axis=0), CENTRE, atol=error * sd.max())
    np.testing.assert_allclose(np.std(draws, axis=0), sd, rtol=error)
    correlation = COVARIANCE / np.outer(sd, sd)
    np.testing.assert_allclose(np.corrcoef(draws.T), correlation, atol=error)
    # The whole law, not its moments alone, on draws that are nearly independent.
    standard = (draws[::4] - CENTRE) / sd
    for column in standard.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3


@pytest.mark.long
def test_a_funnel():
    def density(points):
        v, rest = points[:, 0], points[:, 1:]
        scale = np.exp(np.clip(-v, -600.0, 600.0))
        return -0.5 * v * v - 0.5 * np.sum(rest**2, axis=1) * scale - v

    found = draw_chains(density, np.random.default_rng(1).normal(size=(4, 3)), np.eye(3))
    assert found.agree
    v, x = found.draws[:, :, 0].ravel(), found.draws[:, :, 1].ravel()
    error = 4.0 / np.sqrt(found.ess)
    assert np.mean(v) == pytest.approx(0.0, abs=error)
    assert np.std(v) == pytest.approx(1.0, abs=error)
    z = np.random.default_rng(2).normal(size=(2, 400000))
    known = np.mean(np.abs(z[0] * np.exp(0.5 * z[1])) < 1.0)
    assert np.mean(np.abs(x) < 1.0) == pytest.approx(known, abs=0.5 * error)


def test_bits_do_not_depend_on_the_run(monkeypatch):
    for name, value in (("_FIRST", 20), ("_WINDOWS", (20,)), ("_LENGTH", 20), ("_TIMES", 1)):
        monkeypatch.setattr(chains, name, value)
    starts = CENTRE + np.arange(16.0).reshape(4, 4) / 8.0
    first = draw_chains(gaussian, starts, np.eye(4))
    second = draw_chains(gaussian, starts, np.eye(4))
    np.testing.assert_array_equal(first.draws, second.draws)


def test_chains_on_two_islands_do_not_agree(monkeypatch):
    monkeypatch.setattr(chains, "_TIMES", 1)

    def density(points):
        return np.logaddexp(-0.5 * (points[:, 0] + 12.0) ** 2, -0.5 * (points[:, 0] - 12.0) ** 2)

    found = draw_chains(density, np.array([[-12.0], [12.0], [-12.0], [12.0]]), np.eye(1))
    assert not found.agree
    assert found.r_hat > 2.0


def test_where_the_density_ends_no_chain_goes(monkeypatch):
    monkeypatch.setattr(chains, "_TIMES", 1)

    def density(points):  # an exponential law
        return np.where(points[:, 0] > 0, -points[:, 0], -np.inf)

    found = draw_chains(density, np.array([[0.5], [1.0], [2.0], [3.0]]), np.eye(1))
    assert (found.draws > 0).all()
    assert np.mean(found.draws) == pytest.approx(1.0, abs=0.1)


def test_r_hat_against_its_formula():
    draws = np.random.default_rng(5).normal(size=(3, 40, 2)) + np.arange(3.0)[:, None, None]
    halves = [draws[c, part, 1] for c in range(3) for part in (slice(0, 20), slice(20, 40))]
    within = np.mean([np.var(half, ddof=1) for half in halves])
    between = 20.0 * np.var([np.mean(half) for half in halves], ddof=1)
    expected = np.sqrt((19.0 / 20.0 * within + between / 20.0) / within)
    assert split_r_hat(draws)[1] == pytest.approx(expected, rel=1e-12)
    assert split_r_hat(draws)[1] > R_HAT_LIMIT


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_effective_size_of_an_autoregression(correlation):
    rng = np.random.default_rng(6)
    draws = np.empty((4, 5000, 1))
    draws[:, 0] = rng.normal(size=(4, 1))
    for i in range(1, 5000):
        noise = np.sqrt(1.0 - correlation**2) * rng.normal(size=(4, 1))
        draws[:, i] = correlation * draws[:, i - 1] + noise
    expected = 20000.0 * (1.0 - correlation) / (1.0 + correlation)
    assert effective_size(draws)[0] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("budget", "draws"), [(0, 1), (9000, 75), (11000, 150)], ids=["none", "first", "second"]
)
def test_chains_end_when_the_budget_is_spent(budget, draws, monkeypatch):
    monkeypatch.setattr(chains, "_WINDOWS", (150,))
    monkeypatch.setattr(chains, "_BUDGET", budget)
    asked = []

    def density(points):
        asked.append(len(points))
        return gaussian(points)

    found = draw_chains(density, CENTRE + np.arange(16.0).reshape(4, 4) / 8.0, np.eye(4))
    assert sum(asked) <= budget * 9
    assert found.draws.shape == (4, draws, 4)
    assert found.r_hat == np.inf
    assert not found.agree
