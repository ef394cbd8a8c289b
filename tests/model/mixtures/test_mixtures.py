"""Priors of two laws: what is chosen, what a single law gives, and what they are good for."""

from functools import cache

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.model.update.pools import update_pools
from hbpipe.model.update.prior_range import prior_range

NAMES = ("beta_binomial", "gamma_poisson", "normal_known_variance")
#: Log of a middling size: a store's own data are worth about as much as its prior.
LOG_SIZE = {"beta_binomial": 4.0, "gamma_poisson": 1.5, "normal_known_variance": 1.5}
every = pytest.mark.parametrize("name", NAMES)


def effects(rng, name, stores, share):
    """θ of stores, a share of which are flagships, and which these are."""
    far = rng.random(stores) < share
    laws = {
        "beta_binomial": lambda: (rng.beta(20, 380, stores), rng.beta(60, 140, stores)),
        "gamma_poisson": lambda: (rng.gamma(8, 0.25, stores), rng.gamma(20, 1.0, stores)),
        "normal_known_variance": lambda: (rng.normal(1, 0.5, stores), rng.normal(6, 1, stores)),
    }
    near, away = laws[name]()
    return np.where(far, away, near), far


def observed(rng, name, theta, size):
    if name == "beta_binomial":
        return {"successes": rng.binomial(size, theta), "trials": size}
    if name == "gamma_poisson":
        return {"count": rng.poisson(size * theta), "exposure": size.astype(float)}
    variance = 4.0 / size
    return {"estimate": rng.normal(theta, np.sqrt(variance)), "variance": variance}


def chain(seed, name, stores=120, share=0.0):
    rng = np.random.default_rng([seed, NAMES.index(name)])
    theta, far = effects(rng, name, stores, share)
    size = np.maximum(2, rng.lognormal(LOG_SIZE[name], 1.0, stores)).astype(int)
    new = observed(rng, name, theta, np.maximum(1, size // 2))
    return observed(rng, name, theta, size), new, theta, far


@cache
def of_two_laws(name):
    """A chain of two laws, and its fit; the fit remembers what it was integrated to."""
    statistics, _, _, far = chain(30, name, stores=200, share=0.15)
    return statistics, far, hbpipe.fit(name, statistics, prior="mixture")


def log_scores(fit, statistics, new):
    """Log predictive density of new data at the point estimates, (J,), and posterior means."""
    family, stores = fit.pools.model, len(next(iter(new.values())))
    at = {
        key: np.broadcast_to(value, (stores, *np.shape(value)))
        for key, value in fit.hyperparameters.items()
    }
    before = family.update(statistics, at)
    if family.prior_form == "single":
        gain = log_evidence(family, new, before)
    else:
        gain = family.log_normaliser(family.update(new, before)) - family.log_normaliser(before)
    return gain + family.log_base_measure(new, at), family.describe(before, [0.5]).mean


@every
def test_contaminated_chains_are_predicted_better_and_flagships_are_not_dragged(name):
    gains, errors, chosen = [], np.zeros(2), 0
    for seed in range(4):
        statistics, new, theta, far = chain(seed, name, share=0.06)
        single = log_scores(hbpipe.fit(name, statistics), statistics, new)
        fit = hbpipe.fit(name, statistics, prior="mixture")
        chosen += fit.pools.chosen == ["mixture"]
        mixed = log_scores(fit, statistics, new)
        gains.append(np.mean(mixed[0]) - np.mean(single[0]))
        errors += [np.sum((found[1] - theta)[far] ** 2) for found in (single, mixed)]
    assert chosen >= 3
    assert np.mean(gains) > 0.005
    assert errors[1] < 0.85 * errors[0]


@every
def test_clean_chains_lose_next_to_nothing(name):
    lost, total = 0.0, 0.0
    for seed in range(10, 16):
        statistics, new, _, _ = chain(seed, name, stores=60)
        single, _ = log_scores(hbpipe.fit(name, statistics), statistics, new)
        mixed, _ = log_scores(hbpipe.fit(name, statistics, prior="mixture"), statistics, new)
        lost += np.mean(single) - np.mean(mixed)
        total += abs(np.mean(single))
    assert lost <= 0.001 * total


@every
@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_a_chain_of_one_law_has_the_numbers_of_a_single_prior(name, uncertainty):
    statistics, *_ = chain(20, name, stores=60)
    fit = hbpipe.fit(name, statistics, prior="mixture")
    alone = hbpipe.fit(name, statistics)
    assert fit.pools.chosen == ["single"]
    assert (fit.status, fit.boundary, fit.at_bound) == (alone.status, alone.boundary, ())
    assert fit.log_marginal_likelihood == pytest.approx(alone.log_marginal_likelihood, rel=1e-12)
    assert fit.pools.bic_mixture[0] < fit.pools.bic_single[0] + 3.0
    for key, value in alone.hyperparameters.items():
        np.testing.assert_allclose(fit.hyperparameters[key], [value, value], rtol=1e-9)
    np.testing.assert_array_equal(fit.hyperparameters["proportion"], [1.0, 0.0])
    found = hbpipe.posterior(fit, statistics, uncertainty=uncertainty)
    expected = hbpipe.posterior(alone, statistics, uncertainty=uncertainty)
    assert found.method == expected.method == uncertainty
    for column, values in expected.items():
        unit = expected["sd"] if column.startswith("q") else np.abs(values) + 1e-12
        if column.endswith("pooling_sd"):
            continue
        assert np.all(np.abs(found[column] - values) <= 2e-3 * unit), column
    ranks, wanted = (one.rank()["expected_percentile"] for one in (found, expected))
    np.testing.assert_allclose(ranks, wanted, atol=0.01)


@every
def test_posteriors_of_two_laws_agree_with_themselves(name):
    statistics, far, fit = of_two_laws(name)
    assert fit.pools.chosen == ["mixture"]
    found = hbpipe.posterior(fit, statistics, uncertainty="integrated")
    plain = hbpipe.posterior(fit, statistics, uncertainty="plug_in")
    assert found.nodes.converged[0]
    assert np.mean(found["sd"] / plain["sd"]) > 1.0
    np.testing.assert_allclose(found["mean"], plain["mean"], atol=0.5 * np.max(plain["sd"]))
    for level in (0.025, 0.5, 0.975):
        np.testing.assert_allclose(found.cdf(found[f"q{level:g}"]), level, atol=2e-3)
    assert np.all((found["weight"] > 0) & (found["weight"] < 1))
    # A mean lies between the store's own estimate and the prior means of the components.
    low, high = prior_range(found.nodes, statistics, np.zeros(len(far), int))
    raw = fit.pools.model.raw_estimates(statistics)
    assert np.all(found["mean"] >= np.minimum(low, raw) - 1e-9)
    assert np.all(found["mean"] <= np.maximum(high, raw) + 1e-9)
    # A store of little size that is far out is told from the others by its responsibility.
    assert np.mean(found["mean"][far]) > np.mean(found["mean"][~far])
    ranks, ahead = found.rank(), found.predict(5, 0.5)
    assert np.isfinite(ranks["expected_percentile"]).all()
    assert np.isfinite(ahead.mean).all()


@every
def test_a_store_without_data_has_the_mixture_as_its_prediction(name):
    statistics, _, fit = of_two_laws(name)
    absent = {item.name: np.array([item.absent], item.dtype) for item in fit.pools.model.statistics}
    found = hbpipe.posterior(fit, absent, uncertainty="integrated")
    np.testing.assert_array_equal(found["weight"], [0.0])
    np.testing.assert_allclose(found["mean"], found["prior_mean"], rtol=1e-12)
    alone = hbpipe.posterior(hbpipe.fit(name, statistics), absent, uncertainty="integrated")
    # Most new stores are like most stores: the middle of the law moves towards them.
    assert found["q0.5"][0] < alone["q0.5"][0]


@every
def test_a_pool_does_not_depend_on_the_others(name):
    data = [chain(seed, name, stores=40, share=share)[0] for seed, share in ((1, 0.2), (2, 0.0))]
    family, pools = get_family(name, prior="mixture"), np.repeat([0, 1], 40)
    both = {key: np.concatenate([one[key] for one in data]) for key in data[0]}
    fits = fit_pools(family, family.compress(both, pools, 2))
    nodes = integrate_pools(fits, uncertainty="first_order")
    together = update_pools(family, nodes, fits.hyperparameters, both, pools, quantiles=(0.1, 0.9))
    for number, own in enumerate(data):
        every_store = np.zeros(40, int)
        alone = fit_pools(family, family.compress(own, every_store, 1))
        np.testing.assert_array_equal(alone.coordinates[0], fits.coordinates[number])
        found = update_pools(
            family,
            integrate_pools(alone, uncertainty="first_order"),
            alone.hyperparameters,
            own,
            every_store,
            quantiles=(0.1, 0.9),
        )
        for column in ("mean", "sd", "weight", "quantiles"):
            np.testing.assert_array_equal(
                getattr(found, column), getattr(together, column)[pools == number]
            )


def test_hyperparameters_can_be_held():
    statistics, *_ = chain(40, "beta_binomial", share=0.1)
    at = {"proportion": [0.9, 0.1], "mean": [0.05, 0.3], "concentration": [400.0, 200.0]}
    fit = hbpipe.fit("beta_binomial", statistics, prior="mixture", fixed=at)
    assert fit.status == "fixed"
    np.testing.assert_allclose(fit.hyperparameters["alpha"], [20.0, 60.0], rtol=1e-9)
    part = hbpipe.fit("beta_binomial", statistics, prior="mixture", fixed={"mean": [0.05, 0.3]})
    np.testing.assert_allclose(part.hyperparameters["mean"], [0.05, 0.3], rtol=1e-9)
    found = hbpipe.posterior(part, statistics, uncertainty="first_order")
    assert np.isfinite(found["mean"]).all()


def test_few_stores_have_one_law():
    statistics, *_ = chain(50, "beta_binomial", stores=12, share=0.2)
    assert hbpipe.fit("beta_binomial", statistics, prior="mixture").pools.chosen == ["single"]


@pytest.mark.parametrize(
    ("family", "options", "match"),
    [
        ("normal", {}, "takes no mixture"),
        ("beta_binomial", {"estimator": "map"}, "no estimator 'map'"),
        ("beta_binomial", {"fixed": {"mean": 0.1}}, "two numbers"),
        ("beta_binomial", {"prior": "mixtur"}, "did you mean 'mixture'"),
        ("beta_binomial", {"covariates": np.ones((40, 1))}, "does not go with covariates"),
    ],
)
def test_what_there_is_not_is_refused(family, options, match):
    statistics, *_ = chain(60, "beta_binomial", stores=40)
    with pytest.raises(FitError, match=match):
        hbpipe.fit(family, statistics, **{"prior": "mixture", **options})


def test_a_hyperprior_is_refused_when_it_is_needed():
    statistics, *_ = chain(60, "beta_binomial", share=0.1)
    fit = hbpipe.fit("beta_binomial", statistics, prior="mixture", hyperprior="bda3")
    with pytest.raises(FitError, match="takes no hyperprior"):
        hbpipe.posterior(fit, statistics, uncertainty="integrated")


def test_a_component_without_spread_is_a_point():
    family = get_family("normal_known_variance", prior="mixture")
    at = {"proportion": [0.7, 0.3], "mu": [1.0, 5.0], "tau": [0.0, 1.0]}
    statistics = {"estimate": np.array([1.2, 5.5, 0.0]), "variance": np.array([0.5, 0.5, np.inf])}
    described = family.describe(family.update(statistics, at), [0.025, 0.5, 0.975])
    assert np.isfinite(described.quantiles).all()
    np.testing.assert_allclose(described.quantiles[[0, 2], 1], 1.0, atol=1e-6)
    np.testing.assert_allclose(described.mean[2], 0.7 * 1.0 + 0.3 * 5.0)
    np.testing.assert_allclose(described.cdf(np.full(3, 0.99))[2], 0.0, atol=1e-4)
