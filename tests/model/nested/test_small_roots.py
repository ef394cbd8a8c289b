"""Roots of few and small chains of counts: they end by importance sampling, with the right law."""

import numpy as np
import pytest
from scipy import special, stats

import hbpipe
from hbpipe.errors import FitError

pytestmark = pytest.mark.long

FAMILIES = ("beta_binomial", "gamma_poisson")
every_family = pytest.mark.parametrize("family", FAMILIES)
SPREADS = {"tau_chain": "half_cauchy(0.5)", "tau_chain_spread": "half_normal(0.7)"}
COUNT, EXPOSURE = np.array([0, 3, 9, 4]), np.array([1.0, 2.5, 4.0, 3.0])
SUCCESSES, TRIALS = np.array([1, 3, 9, 4]), np.array([8, 10, 15, 12])
PAIR = np.array(list("aabb"))


def stores(family, some=slice(None)):
    columns = (SUCCESSES, TRIALS) if family == "beta_binomial" else (COUNT, EXPOSURE)
    names = ("successes", "trials") if family == "beta_binomial" else ("count", "exposure")
    return {name: column[some] for name, column in zip(names, columns, strict=True)}


def integrated(family, statistics, labels, **options):
    nesting = {"chain": labels}
    fit = hbpipe.fit(family, statistics, nesting=nesting, **options)
    return hbpipe.posterior(fit, statistics, nesting=nesting, uncertainty="integrated")


def assert_sobol(found):
    drawn = found.groups.drawn
    assert drawn.sampler == "sobol"
    assert drawn.pareto_k < 0.6
    assert drawn.ess > 1000
    for values in found.values():
        assert np.isfinite(values).all()


def test_twenty_four_stores_in_three_chains():
    rng = np.random.default_rng(5)
    odd, _ = np.arange(24) % 2, rng.normal(size=24)
    size = rng.integers(1, 60, 24)
    rng.binomial(size, 0.2 + 0.2 * odd)
    counts = rng.poisson(np.exp(0.3 + 0.4 * odd) * size / 10)
    statistics = {"count": counts, "exposure": size / 10}
    assert_sobol(integrated("gamma_poisson", statistics, np.repeat(list("abc"), 8)))


@every_family
@pytest.mark.parametrize("some", [[3], [1, 3], [0, 1, 2]], ids=["lone", "two lone", "two and one"])
def test_a_few_stores(family, some):
    assert_sobol(integrated(family, stores(family, some), PAIR[some]))


@every_family
def test_two_chains_of_three(family):
    rng = np.random.default_rng(8)
    first = rng.poisson(4.0, 6)
    second = first + rng.integers(1, 20, 6)
    names = list(stores(family))
    found = integrated(family, dict(zip(names, (first, second), strict=True)), np.repeat([0, 1], 3))
    assert_sobol(found)


@pytest.mark.parametrize("repeats", [1, 3])
def test_chains_without_and_with_nothing_but_successes(repeats):
    successes = np.repeat([0, 10**7], repeats)
    statistics = {"successes": successes, "trials": np.full(2 * repeats, 10**7)}
    found = integrated("beta_binomial", statistics, np.repeat(["none", "all"], repeats))
    assert_sobol(found)
    # Labels are in alphabetical order: all, none.
    mean = found.levels["chain"]["mean"]
    assert mean[0] > 0.99
    assert mean[1] < 0.01


def common(values, prior, of_sd):
    """∫∫ N(x; m, s²) N(y; m, s²) p(m) p(s) dm ds for all pairs of evenly spaced values."""
    step, places = values[1] - values[0], np.arange(len(values))
    apart = np.abs(values[:, None] - values)
    middle = values[0] + 0.5 * step * np.arange(2 * len(values) - 1)
    nodes, weights = special.roots_hermitenorm(31)
    total = np.zeros_like(apart)
    for sd in np.exp(np.linspace(-9.0, 9.0, 145)):
        smooth = prior(middle[:, None] + sd / np.sqrt(2.0) * nodes) @ weights
        # The mean over a cell: laws of m's may be narrower than one.
        ends = stats.norm.cdf((apart[..., None] + [-0.5 * step, 0.5 * step]) / (sd * np.sqrt(2.0)))
        total += sd * of_sd(sd) * (ends[..., 1] - ends[..., 0]) * smooth[places[:, None] + places]
    return total


def log_likelihood(family, statistics, line, spread):
    """Of one chain's stores, (locations, log spreads)."""
    first, second = (column[:, None, None] for column in statistics.values())
    size = np.exp(-np.clip(spread, -13.0, 30.0))
    if family == "beta_binomial":
        a, b = (special.expit(at)[:, None] * size for at in (line, -line))
        value = special.betaln(a + first, b + second - first) - special.betaln(a, b)
    else:
        shape = np.exp(line)[:, None] * size
        value = stats.nbinom.logpmf(first, shape, size / (size + second))
    return np.sum(value, axis=0)


@every_family
def test_two_chains_are_those_of_a_dense_grid(family):
    statistics = stores(family)
    line, spread = np.linspace(-18.0, 18.0, 217), np.linspace(-40.0, 40.0, 201)
    # The lower median of the chains' lower medians of sizes.
    z0 = np.min(list(statistics.values())[1]) / 10.0

    def of_location(m):
        return np.sqrt(special.expit(m) * special.expit(-m)) if family == "beta_binomial" else m**0

    def of_spread(x):
        return special.expit(-x - np.log(z0)) * special.expit(x + np.log(z0))

    between = common(line, of_location, stats.halfcauchy(scale=0.5).pdf)
    within = common(spread, of_spread, stats.halfnorm(scale=0.7).pdf)
    parts = [
        {name: column[some] for name, column in statistics.items()} for some in ([0, 1], [2, 3])
    ]
    first, second = (log_likelihood(family, part, line, spread) for part in parts)
    first, second = np.exp(first - first.max()), np.exp(second - second.max())
    posterior = first * (between @ second @ within.T)
    posterior /= np.sum(posterior)
    options = {"hyperprior": SPREADS, "fixed": {"correlation_chain": 0.0}}
    found = integrated(family, statistics, PAIR, **options)
    assert_sobol(found)
    nodes = found.groups.nodes
    to_line = special.logit if family == "beta_binomial" else np.log
    # Of a log spread that falls without end only what it means for a store of ten counts.
    own = special.expit(spread + np.log(10.0))
    for values, weight, at in (
        (line, posterior.sum(axis=1), to_line(nodes.location[0])),
        (own, posterior.sum(axis=0), 1.0 / (1.0 + 0.1 / nodes.spread[0])),
    ):
        mean = np.sum(weight * values)
        sd = np.sqrt(np.sum(weight * (values - mean) ** 2))
        centre = np.sum(nodes.weight[0] * at)
        assert centre == pytest.approx(mean, abs=0.02 * sd)
        assert np.sqrt(np.sum(nodes.weight[0] * (at - centre) ** 2)) == pytest.approx(sd, rel=0.03)


def test_hyperpriors_that_grow_along_the_groups_are_refused():
    statistics = stores("gamma_poisson")
    with pytest.raises(FitError, match="improper posterior: it grows without end along the loc"):
        integrated("gamma_poisson", statistics, PAIR, hyperprior={"mean": "uniform"})
    with pytest.raises(FitError, match="along the log spreads"):
        integrated("beta_binomial", stores("beta_binomial"), PAIR, hyperprior="bda3")
    narrow = {"mean": "uniform", "tau_chain": "half_normal(0.3)"}
    found = integrated("gamma_poisson", statistics, PAIR, hyperprior=narrow)
    assert found.groups.drawn.sampler == "sobol"
    for held in ({"tau_chain": 0.5}, {"mean": 1.0}):
        options = {"hyperprior": {"mean": "uniform"} if "mean" not in held else None, "fixed": held}
        assert_sobol(integrated("gamma_poisson", statistics, PAIR, **options))


def test_the_default_of_a_rate_is_the_same_in_any_unit():
    statistics = stores("gamma_poisson")
    scaled = statistics | {"exposure": 365.0 * EXPOSURE}
    daily, yearly = (integrated("gamma_poisson", some, PAIR) for some in (statistics, scaled))
    np.testing.assert_allclose(daily["q0.5"], 365.0 * yearly["q0.5"], rtol=0.005)
