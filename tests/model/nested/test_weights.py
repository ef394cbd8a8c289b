"""Weights of nested groups against the algebra of one level, and dense posteriors of counts."""

import numpy as np
import pytest
from scipy import integrate, stats

import hbpipe
from hbpipe.model.nested.weights import group_weights
from hbpipe.model.nesting import integrate_nested

LABELS = np.repeat(["a", "b", "c", "d"], [2, 5, 5, 8])


def estimates(seed=2):
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.1, 0.4, len(LABELS))
    centre = dict(zip("abcd", rng.normal(0, 1.0, 4), strict=True))
    mean = np.array([centre[label] for label in LABELS])
    return {"estimate": rng.normal(mean, np.sqrt(0.2 + variance)), "variance": variance}


def weights_of(fit, uncertainty):
    found = integrate_nested(fit.pools, uncertainty=uncertainty)
    return group_weights(fit.pools, found.drawn)


def test_weights_of_means_are_shares_of_precision():
    """With τ's known: τ²/(τ² + V), V = 1/Σ 1/(τ_store² + v)."""
    stores = estimates()
    fixed = {"tau": 0.5, "tau_chain": 0.9}
    fit = hbpipe.fit(
        "normal_known_variance", stores, nesting={"chain": LABELS}, fixed=fixed, estimator="ml"
    )
    (found,) = weights_of(fit, "auto")
    for number, label in enumerate("abcd"):
        precision = np.sum(1.0 / (0.25 + stores["variance"][label == LABELS]))
        assert found[number] == pytest.approx(0.81 / (0.81 + 1.0 / precision), rel=1e-9)


def test_weights_are_averaged_over_the_hyperparameters():
    """A posterior of τ_chain with one free parameter, by quadrature of the exact likelihood."""
    stores = estimates()
    fixed = {"mu": 0.0, "tau": 0.5}
    fit = hbpipe.fit(
        "normal_known_variance",
        stores,
        nesting={"chain": LABELS},
        fixed=fixed,
        hyperprior={"tau_chain": "half_normal(1)"},
    )
    (found,) = weights_of(fit, "integrated")
    parts = [label == LABELS for label in "abcd"]
    precision = np.array([np.sum(1.0 / (0.25 + stores["variance"][p])) for p in parts])
    mean = np.array(
        [
            np.average(stores["estimate"][p], weights=1.0 / (0.25 + stores["variance"][p]))
            for p in parts
        ]
    )

    def density(tau):
        likelihood = np.prod(stats.norm.pdf(mean, 0.0, np.sqrt(tau**2 + 1.0 / precision)))
        return likelihood * np.exp(-0.5 * tau**2)

    total, _ = integrate.quad(density, 0, 12)
    for number, p in enumerate(precision):
        top, _ = integrate.quad(lambda t, p=p: density(t) * t**2 / (t**2 + 1 / p), 0, 12)
        assert found[number] == pytest.approx(top / total, abs=0.004)


def test_weights_of_counts_grow_with_the_stores():
    rng = np.random.default_rng(5)
    trials = rng.integers(20, 60, len(LABELS))
    successes = rng.binomial(trials, rng.beta(4, 20, len(LABELS)))
    stores = {"successes": successes, "trials": trials}
    fit = hbpipe.fit("beta_binomial", stores, nesting={"chain": LABELS})
    (found,) = weights_of(fit, "plug_in")
    assert np.all((found > 0) & (found < 1))
    assert found[0] == found.min(), "two stores"


def test_a_group_without_data_has_no_weight():
    trials = np.r_[np.full(12, 30), 0, 0]
    labels = np.r_[np.repeat(["a", "b", "c"], 4), ["z", "z"]]
    rng = np.random.default_rng(1)
    stores = {"successes": rng.binomial(trials, 0.3), "trials": trials}
    fit = hbpipe.fit("beta_binomial", stores, nesting={"chain": labels})
    (found,) = weights_of(fit, "plug_in")
    assert found[3] == 0.0
