"""Quantiles of large mixtures by way of small ones, against the large ones solved exactly."""

import numpy as np
import pytest
from scipy import special

from hbpipe.model.distributions.condense import condensed, mixture_quantiles, with_moments
from hbpipe.model.distributions.laws import BETA, GAMMA, NORMAL, STUDENT_T
from hbpipe.model.distributions.mixture import Mixture

LEVELS = np.array([0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975])
NODES, ROWS = 1024, 25
RNG = np.random.default_rng(50)
WEIGHT = RNG.dirichlet(np.full(NODES, 2.0))


def normal_rows(log_tau, location, *, left_tail=False):
    """Stores of unlike sampling errors under uncertain τ and μ; μ is a node's own."""
    error = np.exp(RNG.normal(0.0, 0.5, (ROWS, 1)))
    raw = RNG.normal(0.0, 1.5, (ROWS, 1))
    tau = np.exp(RNG.normal(*log_tau, NODES))
    if left_tail:
        tau = np.exp(log_tau[0]) * RNG.exponential(1.0, NODES)
    own = tau**2 / (tau**2 + error**2)
    mean = own * raw + (1.0 - own) * RNG.normal(0.0, location, NODES)
    return mean, error**2 * own


def beta_rows(location, log_size):
    trials = np.floor(np.exp(RNG.uniform(0.0, 6.0, (ROWS, 1))))
    successes = RNG.binomial(trials.astype(int), 0.1)
    centre = special.expit(RNG.normal(*location, NODES))
    size = np.exp(RNG.normal(*log_size, NODES))
    return centre * size + successes, (1.0 - centre) * size + trials - successes


def sparse_rows():
    """Shapes from next to nothing to a few, and stores where all or none succeed."""
    size = np.exp(RNG.normal(0.0, 1.0, NODES))
    centre = special.expit(RNG.normal(-3.0, 0.5, NODES))
    trials = RNG.integers(0, 12, (ROWS, 1))
    successes = trials * (np.arange(ROWS)[:, None] % 2)
    return centre * size + successes, (1.0 - centre) * size + trials - successes


def gamma_rows(log_rate):
    exposure = np.exp(RNG.uniform(0.0, 5.0, (ROWS, 1)))
    counts = RNG.poisson(0.2 * exposure)
    rate = np.exp(RNG.normal(*log_rate, NODES))
    return 0.2 * rate * np.exp(RNG.normal(0.0, 0.3, NODES)) + counts, rate + exposure


def student_rows(log_freedom):
    mean, variance = normal_rows((0.0, 0.4), 0.2)
    freedom = np.exp(RNG.normal(*log_freedom, NODES)) + RNG.integers(0, 30, (ROWS, 1))
    return freedom, mean, np.sqrt(variance)


def laws_of(mean, variance):
    return mean, np.sqrt(variance)


CASES = {
    "normal, well known": (NORMAL, laws_of(*normal_rows((0.0, 0.1), 0.05))),
    "normal, eight stores": (NORMAL, laws_of(*normal_rows((0.0, 0.5), 0.3))),
    "normal, next to no spread": (NORMAL, laws_of(*normal_rows((-1.5, 0.8), 0.2))),
    "normal, down to no spread": (NORMAL, laws_of(*normal_rows((0.0, 0.0), 0.3, left_tail=True))),
    "beta, well known": (BETA, beta_rows((-2.2, 0.05), (4.0, 0.2))),
    "beta, few stores": (BETA, beta_rows((-2.2, 0.3), (3.0, 0.7))),
    "beta, next to no spread": (BETA, beta_rows((-2.2, 0.3), (4.0, 1.5))),
    "beta, all or none": (BETA, sparse_rows()),
    "gamma": (GAMMA, gamma_rows((3.0, 0.8))),
    "student": (STUDENT_T, student_rows((2.0, 0.4))),
    "student, heavy tails": (STUDENT_T, student_rows((1.0, 0.4))),
}


@pytest.mark.parametrize("name", CASES)
def test_limits_are_those_of_the_whole_mixture(name):
    law, parameters = CASES[name]
    whole = Mixture(law, np.broadcast_to(WEIGHT, parameters[0].shape), parameters)
    exact = whole.quantiles(LEVELS)
    # Student's laws may have no sd: a 95 % interval of a normal law has 3.92.
    sd = (exact[:, -1] - exact[:, 0]) / 3.92
    found = mixture_quantiles(law, WEIGHT, parameters, LEVELS)
    assert np.max(np.abs(found - exact) / sd[:, None]) < 0.005


@pytest.mark.parametrize("name", CASES)
def test_a_rows_bits_do_not_depend_on_other_rows_and_quantiles_ascend(name):
    law, parameters = CASES[name]
    levels = np.array([0.975, 0.5, 0.500001, 0.025])
    found = mixture_quantiles(law, WEIGHT, parameters, levels)
    for rows in ([3], [7, 3, 20]):
        some = tuple(values[rows] for values in parameters)
        np.testing.assert_array_equal(mixture_quantiles(law, WEIGHT, some, levels), found[rows])
    assert (np.diff(found[:, [3, 1, 2, 0]], axis=1) >= 0).all()


#: Student's laws may have no moments; shapes next to nothing have variances next to the largest
#: possible, which a cell of unlike laws cannot have.
WITH_MOMENTS = [name for name in CASES if "student" not in name and "all or none" not in name]


@pytest.mark.parametrize("name", WITH_MOMENTS)
def test_a_small_mixture_has_the_moments_of_the_large_one(name):
    law, parameters = CASES[name]
    whole = Mixture(law, np.broadcast_to(WEIGHT, parameters[0].shape), parameters)
    small = condensed(law, WEIGHT, parameters)
    assert small.weight.shape == (ROWS, 32)
    np.testing.assert_allclose(np.sum(small.weight, axis=1), 1.0, rtol=1e-12)
    for found, expected in zip(small.moments(), whole.moments(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


def test_few_nodes_and_no_levels_need_no_detour():
    parameters = tuple(values[:, :30] for values in CASES["normal, eight stores"][1])
    weight = WEIGHT[:30] / WEIGHT[:30].sum()
    whole = Mixture(NORMAL, np.broadcast_to(weight, (ROWS, 30)), parameters)
    np.testing.assert_array_equal(
        mixture_quantiles(NORMAL, weight, parameters, LEVELS), whole.quantiles(LEVELS)
    )
    law, all_parameters = CASES["normal, eight stores"]
    assert mixture_quantiles(law, WEIGHT, all_parameters, np.empty(0)).shape == (ROWS, 0)


def test_nodes_that_agree_give_one_law():
    mean, sd = np.full((2, NODES), 3.0), np.full((2, NODES), 2.0)
    found = mixture_quantiles(NORMAL, WEIGHT, (mean, sd), LEVELS)
    np.testing.assert_allclose(found, np.tile(3.0 + 2.0 * special.ndtri(LEVELS), (2, 1)), rtol=1e-6)


def test_a_variance_too_large_for_a_law_on_the_unit_interval_is_cut_down():
    a, b = with_moments(BETA, np.array([0.1]), np.array([0.5]))
    assert a[0] > 0
    assert a[0] / (a[0] + b[0]) == pytest.approx(0.1)
