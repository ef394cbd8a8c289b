"""Does θ depend on the size of a store? The score test against the fit with log n in it."""

import numpy as np
import pytest
from covariate_cases import DATA, FAMILIES_WITH_COVARIATES
from scipy import special, stats

from hbpipe.model.checks import precision_dependence, precision_dependence_pools
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.geometry import geometry_of

every_family = pytest.mark.parametrize("name", FAMILIES_WITH_COVARIATES)


def log_size(name, data):
    return np.log(geometry_of(name).sizes(data)[0])


@every_family
@pytest.mark.parametrize("width", [1, 3])
def test_the_score_test_is_the_likelihood_ratio_to_first_order(name, width):
    data, x = DATA[name](1, 400, 3)
    x = x[:, :width]
    with_size = np.column_stack([x, log_size(name, data)])
    covariates = None if width == 1 else x
    small = fit(name, data, covariates=covariates)
    large = fit(name, data, covariates=with_size)
    found = precision_dependence(small, data, covariates=covariates)
    gain = 2.0 * (large.log_marginal_likelihood - small.log_marginal_likelihood)
    np.testing.assert_allclose(found.z[0] ** 2, gain, rtol=0.25, atol=0.05)
    slope = large.hyperparameters["coefficients"][-1]
    error = np.sqrt(large.covariance[width, width])
    np.testing.assert_allclose(found.slope[0], slope, atol=0.3 * error)
    np.testing.assert_allclose(found.error[0], error, rtol=0.2)
    np.testing.assert_allclose(found.p[0], 2.0 * stats.norm.sf(abs(found.z[0])), rtol=1e-9)


def dependent(slope, seed=2, stores=300):
    rng = np.random.default_rng(seed)
    n = np.ceil(np.exp(rng.uniform(1, 6, stores))).astype(int)
    mean = special.expit(-2.0 + slope * (np.log(n) - 3.5))
    return {"successes": rng.binomial(n, rng.beta(30 * mean, 30 * (1 - mean))), "trials": n}


def test_the_advice_follows_the_data():
    for slope, word in ((0.0, "no covariate on size is needed"), (0.3, "add log n")):
        data = dependent(slope)
        found = precision_dependence(fit("beta_binomial", data), data)
        assert word in found.advice[0]
    data = dependent(0.3)
    x = np.column_stack([np.ones(300), np.log(data["trials"])])
    found = precision_dependence(fit("beta_binomial", data, covariates=x), data, covariates=x)
    assert "nothing can be said" in found.advice[0]
    assert (found.z[0], found.p[0]) == (0.0, 1.0)


def test_false_alarms_are_as_rare_as_they_should_be():
    rng = np.random.default_rng(3)
    pools, stores = 400, 80
    n = np.exp(rng.uniform(0, 5, (pools, stores)))
    theta = rng.gamma(4.0, 0.1, (pools, stores))
    data = {"count": rng.poisson(theta * n).ravel(), "exposure": n.ravel()}
    codes = np.repeat(np.arange(pools), stores)
    family = get_family("gamma_poisson")
    fits = fit_pools(family, family.compress(data, codes, pools))
    found = precision_dependence_pools(fits, data, codes)
    assert abs(np.mean(found.p < 0.05) - 0.05) < 0.035
    assert abs(np.std(found.z) - 1.0) < 0.12


def test_stores_of_equal_size_and_pools_without_spread_are_ordinary():
    data = {"successes": np.array([1, 2, 3, 2]), "trials": np.full(4, 10)}
    found = precision_dependence(fit("beta_binomial", data), data)
    assert "nothing can be said" in found.advice[0]
    data["trials"] = np.array([5, 10, 15, 10])
    found = precision_dependence(fit("beta_binomial", data), data)
    assert np.isfinite([found.slope[0], found.error[0], found.z[0]]).all()


def test_a_pool_alone_has_the_check_that_it_has_among_others():
    parts = [DATA["normal"](seed, stores, 1)[0] for seed, stores in ((4, 20), (5, 35))]
    data = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    codes = np.repeat([0, 1], [20, 35])
    family = get_family("normal")
    both = precision_dependence_pools(
        fit_pools(family, family.compress(data, codes, 2)), data, codes
    )
    for pool, part in enumerate(parts):
        alone = precision_dependence(fit("normal", part), part)
        np.testing.assert_allclose(both.z[pool], alone.z[0], rtol=1e-12)
