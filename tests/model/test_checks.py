"""The check of size dependence against weighted least squares, and its error rate."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.checks import SizeSums, precision_dependence, size_sums
from hbpipe.model.families import get_family

AT = {
    "beta_binomial": {"alpha": 12.0, "beta": 28.0},
    "gamma_poisson": {"shape": 6.0, "rate": 2.0},
    "normal": {"mu": 3.0, "tau": 0.4, "sigma": 1.5},
    "normal_known_variance": {"mu": 3.0, "tau": 0.4},
}


def drawn(name, stores, seed, slope=0.0, spread=1.0):
    """Statistics of stores whose prior mean moves with log n, sizes from 2 to 400."""
    rng = np.random.default_rng(seed)
    log_n = rng.uniform(np.log(2.0), np.log(400.0), stores)
    n = np.exp(log_n).astype(int)
    moved = slope * (np.log(n) - 3.3)
    at = AT[name]
    if name == "beta_binomial":
        mean, total = at["alpha"] / 40.0, 40.0
        mean = 1.0 / (1.0 + np.exp(-(np.log(mean / (1.0 - mean)) + moved)))
        theta = rng.beta(total * mean, total * (1.0 - mean))
        return {"successes": rng.binomial(n, theta), "trials": n}
    if name == "gamma_poisson":
        theta = rng.gamma(at["shape"], np.exp(moved) / at["rate"])
        return {"count": rng.poisson(theta * n), "exposure": n.astype(float)}
    theta = rng.normal(at["mu"] + moved, at["tau"])
    if name == "normal":
        mean = rng.normal(theta, at["sigma"] / np.sqrt(n))
        return {"n": n, "mean": mean, "m2": at["sigma"] ** 2 * rng.chisquare(n - 1)}
    return {"estimate": rng.normal(theta, 1.0 / np.sqrt(n)), "variance": 1.0 / n}


def by_hand(name, statistics):
    """Size, raw value, prior mean, slope of the link and variance of the raw value."""
    at = AT[name]
    if name == "beta_binomial":
        n = statistics["trials"]
        law = stats.beta(at["alpha"], at["beta"])
        mean, variance = law.mean(), law.var()
        within = mean - (mean**2 + variance)
        return n, statistics["successes"] / n, mean, mean * (1 - mean), variance + within / n
    if name == "gamma_poisson":
        n = statistics["exposure"]
        law = stats.gamma(at["shape"], scale=1 / at["rate"])
        return n, statistics["count"] / n, law.mean(), law.mean(), law.var() + law.mean() / n
    n = statistics["n"] if name == "normal" else 1 / statistics["variance"]
    raw = statistics["mean" if name == "normal" else "estimate"]
    return n, raw, at["mu"], 1.0, at["tau"] ** 2 + at.get("sigma", 1.0) ** 2 / n


@pytest.mark.parametrize("name", AT)
def test_the_slope_is_that_of_weighted_least_squares(name):
    statistics = drawn(name, 300, seed=1, slope=0.1)
    n, raw, mean, link, variance = by_hand(name, statistics)
    w = np.broadcast_to(link**2 / variance, n.shape)
    x = np.column_stack([np.ones(len(n)), np.log(n)])
    normal = np.linalg.inv(x.T @ (w[:, None] * x))
    slope = (normal @ (x.T @ (w * (raw - mean) / link)))[1]
    at = {key: np.array([value]) for key, value in AT[name].items()}
    sums = size_sums(get_family(name), statistics, at, np.zeros(300, np.int64), 1)
    found = precision_dependence(sums)
    assert np.isclose(found.slope[0], slope, rtol=1e-9)
    assert np.isclose(found.z[0], slope / np.sqrt(normal[1, 1]), rtol=1e-9)
    # A tenth per e-fold, about 1.5 of which is one sd of log n.
    assert found.effect[0] > 0.1


@pytest.mark.parametrize("name", AT)
def test_z_is_standard_normal_where_size_says_nothing(name):
    pools, stores = 400, 60
    statistics = drawn(name, pools * stores, seed=2)
    codes = np.repeat(np.arange(pools), stores)
    at = {key: np.full(pools, value) for key, value in AT[name].items()}
    found = precision_dependence(size_sums(get_family(name), statistics, at, codes, pools))
    assert abs(found.z.mean()) < 4 / np.sqrt(pools)
    assert abs(found.z.std() - 1) < 0.15
    assert not found.matters.any()


def test_sums_of_shards_add_up_and_stores_without_data_say_nothing():
    family, at = get_family("normal"), {k: np.full(3, v) for k, v in AT["normal"].items()}
    statistics, codes = drawn("normal", 90, seed=3, slope=0.3), np.arange(90) % 3
    statistics["n"][5] = 0
    whole = size_sums(family, statistics, at, codes, 3)
    shards = [
        size_sums(family, {k: v[part] for k, v in statistics.items()}, at, codes[part], 3)
        for part in (slice(0, 40), slice(40, None))
    ]
    added = SizeSums.added(shards)
    for name, values in vars(whole).items():
        assert np.allclose(values, getattr(added, name), rtol=1e-12)


def test_what_covariates_explain_is_no_dependence():
    """Small stores are kiosks; with formats as a covariate, size says nothing more."""
    rng = np.random.default_rng(5)
    kiosk = rng.random(400) < 0.5
    n = np.where(kiosk, rng.integers(2, 30, 400), rng.integers(100, 900, 400))
    line = 1.0 - 0.8 * kiosk
    mean = rng.normal(rng.normal(line, 0.3), 1.0 / np.sqrt(n))
    statistics = {"n": n, "mean": mean, "m2": rng.chisquare(np.maximum(n - 1, 1)) * (n > 1)}
    codes, at = np.zeros(400, np.int64), {"tau": np.array([0.3]), "sigma": np.array([1.0])}
    plain = {**at, "mu": np.array([0.6])}
    assert precision_dependence(
        size_sums(get_family("normal"), statistics, plain, codes, 1)
    ).matters.all()
    family = get_family("normal", None, 2)
    covered = {**statistics, "covariates": np.column_stack([np.ones(400), kiosk])}
    located = {**at, "coefficients": np.array([[1.0, -0.8]])}
    found = precision_dependence(size_sums(family, covered, located, codes, 1))
    assert abs(found.z[0]) < 3
    assert not found.matters.any()


def test_equal_sizes_have_no_slope():
    statistics = {"successes": np.array([1, 5, 3]), "trials": np.full(3, 10)}
    at = {"alpha": np.array([3.0]), "beta": np.array([7.0])}
    sums = size_sums(get_family("beta_binomial"), statistics, at, np.zeros(3, np.int64), 1)
    found = precision_dependence(sums)
    assert (found.slope[0], found.z[0], found.effect[0]) == (0.0, 0.0, 0.0)


def test_a_slope_too_small_to_matter_is_not_worth_a_word():
    statistics = drawn("normal", 200_000, seed=6, slope=0.02)
    at = {key: np.array([value]) for key, value in AT["normal"].items()}
    sums = size_sums(get_family("normal"), statistics, at, np.zeros(200_000, np.int64), 1)
    found = precision_dependence(sums)
    assert abs(found.z[0]) > found.critical
    assert not found.matters[0]
