"""Mixtures: cdf and quantiles against root finding, exactness of single laws, safe finishing."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from hbpipe.model.distributions import mixture
from hbpipe.model.distributions.laws import BETA, GAMMA, NORMAL, STUDENT_T
from hbpipe.model.distributions.mixture import Mixture, matched_quantiles

LEVELS = np.array([1e-4, 0.025, 0.5, 0.975, 0.9999])
LAWS = {"normal": NORMAL, "beta": BETA, "gamma": GAMMA, "student_t": STUDENT_T}


def frozen(law, *parameters):
    if law is GAMMA:
        return stats.gamma(parameters[0], scale=1.0 / parameters[1])
    return {NORMAL: stats.norm, BETA: stats.beta, STUDENT_T: stats.t}[law](*parameters)


def random_mixtures(law, seed, rows=25, components=7):
    rng = np.random.default_rng(seed)
    weight = rng.dirichlet(np.full(components, 0.7), rows)
    if law in (NORMAL, STUDENT_T):
        centre = rng.normal(3.0, 2.0, (rows, components))
        parameters = centre, np.exp(rng.normal(-1.0, 1.0, centre.shape))
        if law is STUDENT_T:
            parameters = np.exp(rng.uniform(0.8, 6.0, centre.shape)), *parameters
        return Mixture(law, weight, parameters)
    mean = rng.beta(2, 20, (rows, components))
    size = np.exp(rng.uniform(0.0, 8.0, mean.shape))
    second = (1.0 - mean) * size if law is BETA else size
    return Mixture(law, weight, (mean * size, second))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_quantiles_agree_with_root_finding(name, seed):
    law = LAWS[name]
    mixtures = random_mixtures(law, seed)
    found = mixtures.quantiles(LEVELS)
    sd = np.sqrt(mixtures.moments()[1])
    for row in range(len(found)):
        parts = frozen(law, *(values[row] for values in mixtures.parameters))
        weight = mixtures.weight[row]
        for column, level in enumerate(LEVELS):
            ends = parts.ppf(level)
            root = optimize.brentq(
                lambda x, w=weight, p=parts, q=level: np.sum(w * p.cdf(x)) - q,
                ends.min() - 1e-12,
                ends.max() + 1e-12,
                xtol=1e-14,
                rtol=1e-13,
            )
            assert found[row, column] == pytest.approx(root, abs=1e-8 * sd[row])


@pytest.mark.parametrize("name", LAWS)
def test_moments_and_cdf(name):
    law = LAWS[name]
    mixtures = random_mixtures(law, 4)
    mean, variance = mixtures.moments()
    parts = frozen(law, *mixtures.parameters)
    second = np.sum(mixtures.weight * (parts.var() + parts.mean() ** 2), axis=1)
    np.testing.assert_allclose(mean, np.sum(mixtures.weight * parts.mean(), axis=1), rtol=1e-12)
    np.testing.assert_allclose(variance, second - mean**2, rtol=1e-9)
    expected = np.sum(mixtures.weight * parts.cdf(mean[:, None]), axis=1)
    np.testing.assert_allclose(mixtures.cdf(mean), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_one_component_gives_the_laws_own_quantiles(name):
    law = LAWS[name]
    mixtures = random_mixtures(law, 5, components=1)
    expected = frozen(law, *mixtures.parameters).ppf(LEVELS)
    np.testing.assert_allclose(mixtures.quantiles(LEVELS), expected, rtol=1e-9)
    if law is not STUDENT_T:  # two moments do not tell its three parameters
        matched = matched_quantiles(law, *mixtures.moments(), LEVELS)
        np.testing.assert_allclose(matched, expected, rtol=1e-7)


def test_components_far_apart_are_finished_between_brackets():
    # Two spikes with a gap of many sd between them: the cdf is flat where Newton starts.
    mixtures = Mixture(
        NORMAL, np.array([[0.6, 0.4]]), (np.array([[0.0, 1000.0]]), np.array([[1e-3, 1e-3]]))
    )
    found = mixtures.quantiles(np.array([0.3, 0.599, 0.601, 0.8]))[0]
    assert found[0] == pytest.approx(0.0, abs=1e-12)
    assert found[3] == pytest.approx(1000.0, abs=1e-9)
    assert found[1] < 0.01
    assert found[2] > 999.99


def test_brackets_alone_give_the_same_answer(monkeypatch):
    mixtures = random_mixtures(BETA, 6)
    quick = mixtures.quantiles(LEVELS)
    monkeypatch.setattr(mixture, "_QUICK_STEPS", 1)
    np.testing.assert_allclose(mixtures.quantiles(LEVELS), quick, rtol=1e-7, atol=1e-14)


def test_a_rows_bits_do_not_depend_on_other_rows():
    mixtures = random_mixtures(GAMMA, 7)
    together = mixtures.quantiles(LEVELS)
    alone = [mixtures.take(np.array([row])).quantiles(LEVELS)[0] for row in range(len(together))]
    np.testing.assert_array_equal(together, alone)


def test_a_single_beta_component_is_right_where_scipys_inverse_is_not():
    # So many failures make θ times their number a Gamma, up to 1e-6.
    one = Mixture(BETA, np.ones((1, 1)), (np.array([[1000.0]]), np.array([[1e9]])))
    expected = GAMMA.ppf(np.array(1000.0), np.array(1e9), LEVELS)
    np.testing.assert_allclose(one.quantiles(LEVELS)[0], expected, rtol=3e-6)
    described = BETA.describe(1000.0, 1e9, LEVELS)
    np.testing.assert_allclose(described.quantiles, expected, rtol=3e-6)


@pytest.mark.parametrize("law", [BETA, GAMMA])
def test_quantiles_hundreds_of_powers_of_ten_apart_keep_their_order(law):
    # The smallest shapes put most of a component next to 0, where Newton's method gives up.
    first = np.array([[1e-3, 0.02, 0.5, 30.0], [1e-4, 1e-3, 2e-3, 5e-3]])
    mixtures = Mixture(law, np.full(first.shape, 0.25), (first, np.full(first.shape, 40.0)))
    levels = np.linspace(0.01, 0.99, 50)
    found = mixtures.quantiles(levels)
    alone = np.concatenate([mixtures.quantiles(levels[[i]]) for i in range(50)], axis=1)
    np.testing.assert_array_equal(found, alone)
    assert np.all(np.diff(found, axis=1) >= 0)
    assert found.min() < 1e-299
    reached = np.stack([mixtures.cdf(column) for column in found.T], axis=1)
    held = found > 1e-290
    assert held.sum(axis=1).min() > 5
    assert np.sum(held & (found < 1e-70)) > 5
    np.testing.assert_allclose(reached[held], np.broadcast_to(levels, found.shape)[held], atol=1e-6)


def test_students_t_is_the_normal_law_at_infinite_degrees_of_freedom():
    x = np.array([-12.0, -6.0, -1.96, 0.3, 5.0])
    for freedom in (1e15, np.inf):
        at = np.full(5, freedom), np.full(5, 1.0), np.full(5, 2.0)
        for name, rtol in (("cdf", 1e-10), ("density", 1e-11)):
            expected = getattr(NORMAL, name)(*at[1:], x)
            np.testing.assert_allclose(getattr(STUDENT_T, name)(*at, x), expected, rtol=rtol)
        found = STUDENT_T.describe(freedom, 1.0, 2.0, LEVELS)
        np.testing.assert_allclose(found.quantiles, NORMAL.ppf(1.0, 2.0, LEVELS), rtol=1e-12)
        np.testing.assert_allclose((found.mean, found.sd), (1.0, 2.0), rtol=1e-14)


def test_mixtures_with_components_that_have_no_sd_still_have_quantiles():
    freedom = np.array([[0.7, 1.5, 30.0], [2.0, 5.0, 1e9]])
    centre = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    mixtures = Mixture(STUDENT_T, np.full((2, 3), 1.0 / 3.0), (freedom, centre, centre + 1.0))
    mean, variance = mixtures.moments()
    np.testing.assert_allclose(mean, 1.0)
    assert np.isposinf(variance).all()
    found = mixtures.quantiles(LEVELS)
    for row in range(2):
        parts = stats.t(freedom[row], centre[row], centre[row] + 1.0)
        np.testing.assert_allclose([parts.cdf(x).mean() for x in found[row]], LEVELS, rtol=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_a_score_is_nearly_the_normal_one(name):
    law = LAWS[name]
    mixtures = random_mixtures(law, 9)
    parameters = tuple(np.maximum(values, 1.0) for values in mixtures.parameters)
    for level in LEVELS:
        x = law.ppf(*parameters, level)
        np.testing.assert_allclose(special.ndtr(law.score(*parameters, x)), level, atol=0.02)
