"""The doors of nested levels: arguments, new groups, predictions, what posteriors carry."""

import numpy as np
import pytest
from scipy import stats

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.integration import drawing
from hbpipe.model.nesting import integrate_nested
from hbpipe.model.numerics import chains


def normal_stores(seed=1, stores=60):
    rng = np.random.default_rng(seed)
    chain = np.sort(rng.integers(0, 5, stores))
    theta = rng.normal(rng.normal(0.0, 1.0, 5)[chain], 0.5)
    n = rng.integers(2, 9, stores)
    mean = rng.normal(theta, 1.0 / np.sqrt(n))
    return {"n": n, "mean": mean, "m2": rng.chisquare(n - 1)}, chain


def counted_stores(seed=2, stores=40):
    rng = np.random.default_rng(seed)
    chain = np.sort(rng.integers(0, 5, stores))
    n = rng.integers(5, 60, stores)
    y = rng.binomial(n, rng.beta(3.0, 12.0 + 3.0 * chain))
    return {"successes": y, "trials": n}, chain


def test_predictions_are_those_of_each_group():
    stores, chain = normal_stores()
    nesting = {"chain": chain}
    fit = hbpipe.fit("normal", stores, nesting=nesting)
    found = hbpipe.posterior(fit, stores, nesting=nesting)
    future = found.predict(4, quantiles=(0.05, 0.95))
    sigma = fit.hyperparameters["sigma"]
    assert np.all(future.sd > found["sd"])
    np.testing.assert_allclose(future.mean, found["mean"], atol=1e-6)
    np.testing.assert_allclose(future.sd**2 - found["sd"] ** 2, sigma**2 / 4, rtol=0.1)
    np.testing.assert_allclose(future.cdf(future.quantiles[:, 1]), 0.95, atol=1e-6)
    # The same for a single store.
    one = {name: values[7:8] for name, values in stores.items()}
    alone = hbpipe.posterior(fit, one, nesting={"chain": chain[7:8]})
    np.testing.assert_array_equal(
        alone.predict(4, quantiles=(0.05, 0.95)).quantiles[0], future.quantiles[7]
    )
    np.testing.assert_array_equal(alone["q0.025"], found["q0.025"][7:8])


def test_counts_are_predicted_by_group():
    stores, chain = counted_stores()
    fit = hbpipe.fit("beta_binomial", stores, nesting={"chain": chain})
    found = hbpipe.posterior(fit, stores, nesting={"chain": chain})
    future = found.predict(20, quantiles=0.9)
    np.testing.assert_allclose(future.mean, 20 * found["mean"], rtol=1e-6)
    at = future.quantiles[:, 0]
    assert np.all(future.cdf(at) >= 0.9)
    assert np.all(future.cdf(at - 1) < 0.9)


def test_columns_agree_with_cdf_and_quantile():
    stores, chain = normal_stores(3)
    nesting = {"chain": chain}
    fit = hbpipe.fit("normal", stores, nesting=nesting)
    found = hbpipe.posterior(fit, stores, nesting=nesting, quantiles=(0.1, 0.9))
    np.testing.assert_allclose(found.cdf(found["q0.1"]), 0.1, atol=1e-6)
    np.testing.assert_allclose(found.quantile(0.9), found["q0.9"], atol=1e-9)
    level = found.levels["chain"]
    assert list(level) == ["mean", "sd", "q0.1", "q0.9"]
    np.testing.assert_array_equal(level.labels, np.unique(chain))
    np.testing.assert_allclose(level.cdf(level["q0.1"]), 0.1, atol=1e-6)
    np.testing.assert_allclose(level.quantile((0.1, 0.9))[:, 1], level["q0.9"])
    assert len(level) == 4


def test_plug_in_keeps_the_uncertainty_of_groups():
    stores, chain = normal_stores(4)
    nesting = {"chain": chain}
    fit = hbpipe.fit("normal", stores, nesting=nesting)
    known = hbpipe.posterior(fit, stores, nesting=nesting, uncertainty="plug_in")
    assert known.method == "plug_in"
    assert np.all(known["sd"] > known["sd_plug_in"])
    full = hbpipe.posterior(fit, stores, nesting=nesting)
    assert full.method == "integrated"
    assert np.mean(full["sd"]) > np.mean(known["sd"])
    # Limits of a normal law with these moments: nothing else is uncertain.
    expected = known["mean"] + stats.norm.ppf(0.975) * known["sd"]
    np.testing.assert_allclose(known["q0.975"], expected)
    counts, chain = counted_stores()
    fit = hbpipe.fit("beta_binomial", counts, nesting={"chain": chain})
    known = hbpipe.posterior(fit, counts, nesting={"chain": chain}, uncertainty="plug_in")
    np.testing.assert_allclose(known["sd"], known["sd_plug_in"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "moments"}, "no moment estimators"),
        ({"estimator": "mle"}, "no estimator"),
        ({"fixed": {"tau_chian": 1.0}}, "did you mean 'tau_chain'"),
        ({"hyperprior": {"tau_chian": "half_cauchy(1)"}}, "did you mean 'tau_chain'"),
        ({"hyperprior": {"tau_chain": "half_cauchy"}}, "half_cauchy"),
        ({"fixed": {"tau_chain": -1.0}}, "cannot be held"),
        ({"start": {"tau_chian": 1.0}}, "did you mean 'tau_chain'"),
    ],
)
@pytest.mark.parametrize("family", ["normal", "beta_binomial"])
def test_wrong_arguments_say_what_would_be_right(family, options, message):
    stores, chain = normal_stores() if family == "normal" else counted_stores()
    with pytest.raises(FitError, match=message):
        hbpipe.fit(family, stores, nesting={"chain": chain}, **options)


def test_nesting_belongs_to_fit_and_posterior_alike():
    stores, chain = normal_stores()
    nested, plain = (
        hbpipe.fit("normal", stores, nesting={"chain": chain}),
        hbpipe.fit("normal", stores),
    )
    with pytest.raises(FitError, match="the fit has no nested levels"):
        hbpipe.posterior(plain, stores, nesting={"chain": chain})
    with pytest.raises(FitError, match="nesting with chain"):
        hbpipe.posterior(nested, stores)
    with pytest.raises(FitError, match="first_order"):
        hbpipe.posterior(nested, stores, nesting={"chain": chain}, uncertainty="first_order")


def test_counts_take_one_level():
    stores, chain = counted_stores()
    with pytest.raises(FitError, match="one level with families of counts"):
        hbpipe.fit("beta_binomial", stores, nesting={"chain": chain, "region": chain})


def test_where_importance_sampling_fails_chains_take_over(monkeypatch):
    rng = np.random.default_rng(5)
    chain = np.repeat(np.arange(6), 4)
    estimate = rng.normal(rng.normal(0.0, 1.0, 6)[chain], 1.0)
    stores, nesting = {"estimate": estimate, "variance": np.full(24, 0.75)}, {"chain": chain}

    def posterior():
        known = {"nesting": nesting, "fixed": {"tau": 0.5}}
        fit = hbpipe.fit("normal_known_variance", stores, **known)
        return hbpipe.posterior(fit, stores, nesting=nesting)

    expected = posterior()
    monkeypatch.setattr(drawing, "LIMIT", -10.0)
    for name, value in (("_FIRST", 30), ("_WINDOWS", (40,)), ("_LENGTH", 120), ("ENOUGH", 100.0)):
        monkeypatch.setattr(chains, name, value)
    for module in (chains, drawing):
        monkeypatch.setattr(module, "R_HAT_LIMIT", 1.1)
    found = posterior()
    assert expected.groups.drawn.sampler == "sobol"
    assert found.groups.drawn.sampler == "nuts"
    for name in ("mean", "sd", "q0.025", "q0.975"):
        np.testing.assert_allclose((found[name] - expected[name]) / expected["sd"], 0.0, atol=0.2)
    for module in (chains, drawing):
        monkeypatch.setattr(module, "R_HAT_LIMIT", 0.5)
    monkeypatch.setattr(chains, "_TIMES", 1)
    with pytest.raises(FitError, match="Markov chains disagree"):
        posterior()
    # A batch goes on, and says so.
    fit = hbpipe.fit("normal_known_variance", stores, nesting=nesting, fixed={"tau": 0.5})
    drawn = integrate_nested(fit.pools).drawn
    assert not drawn.converged
    assert 0.5 < drawn.r_hat < 1.5


def test_a_chain_of_successes_mirrors_one_of_failures():
    chain = np.repeat([0, 1, 2], 8)
    sold = np.array([12] * 8 + [0] * 8 + [3, 5, 2, 8, 6, 4, 7, 3])
    trials = np.full(24, 12)
    nesting = {"chain": chain}

    def chains(successes):
        stores = {"successes": successes, "trials": trials}
        fit = hbpipe.fit("beta_binomial", stores, nesting=nesting)
        return hbpipe.posterior(fit, stores, nesting=nesting).levels["chain"]

    found, mirrored = chains(sold), chains(trials - sold)
    np.testing.assert_allclose(found["q0.025"], 1.0 - mirrored["q0.975"], atol=1e-2)
    np.testing.assert_allclose(found["mean"], 1.0 - mirrored["mean"], atol=1e-2)
    assert found["q0.025"][0] > 0.05
