"""Fits of the common law of chains: far from the estimate, without counts, and not settled."""

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.nested import pooled_fit
from hbpipe.model.nested.weights import group_weights
from hbpipe.model.nesting import fit_nested, integrate_nested
from tests.model.nested.test_pools import Chains, every_family

#: Distances in (m, log s, atanh ρ) from the estimate: narrower, wider, far away, much correlated.
AWAY = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.4, -0.3, -0.8, -0.6, 0.2],
        [-1.5, 1.0, 1.0, 1.2, -0.5],
        [3.0, 2.0, 0.3, 0.2, 0.0],
        [0.2, 0.1, 0.2, 0.1, 1.2],
    ]
)
LAW = {"mean": 0.01, "tau_chain": 0.3, "tau_chain_spread": 0.3, "correlation_chain": 0.1}
ZEROS = {"count": np.zeros(8, int), "exposure": np.full(8, 2.0)}
FAILURES = {"successes": np.zeros(8, int), "trials": np.full(8, 5)}
SUCCESSES = {"successes": np.full(8, 5), "trials": np.full(8, 5)}


def fitted(family, statistics, **options):
    sketch = get_family(family).compress(statistics, np.arange(8) // 2, 4)
    return fit_nested(family, sketch, [np.zeros(4, int)], ["chain"], **options)


@every_family
def test_the_likelihood_of_any_law_is_that_of_a_fine_grid(family):
    chains = Chains(family, 12, [5, 3, 1])
    fits = chains.fit()
    laws = fits.coordinates + AWAY
    expected = np.sum(chains.evidence(laws, nodes=151), axis=0)
    found = [fits.log_likelihood(law[None])[0] for law in laws]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found[0], fits.log_marginal_likelihood[0], atol=1e-5)


@pytest.mark.parametrize("uncertainty", ["auto", "plug_in"])
@pytest.mark.parametrize(
    ("family", "statistics", "options", "word"),
    [
        ("gamma_poisson", ZEROS, {}, "no_counts"),
        ("gamma_poisson", ZEROS, {"fixed": {"mean": 0.01}}, "no_counts"),
        ("beta_binomial", FAILURES, {"hyperprior": {"mean": "uniform"}}, "no_successes"),
        ("beta_binomial", SUCCESSES, {"hyperprior": "bda3"}, "no_failures"),
        ("beta_binomial", {name: 0 * v for name, v in FAILURES.items()}, {}, "no_data"),
    ],
)
def test_without_counts_nothing_is_identified(family, statistics, options, word, uncertainty):
    fits = fitted(family, statistics, **options)
    assert fits.status == (word,)
    assert not fits.identified[0]
    assert not fits.converged[0]
    assert fits.n_groups[0] == (0 if word == "no_data" else 8)
    assert all(np.isfinite(values).all() for values in fits.hyperparameters.values())
    for name, value in options.get("fixed", {}).items():
        assert fits.hyperparameters[name][0] == pytest.approx(value)
    groups = integrate_nested(fits, uncertainty=uncertainty)
    assert set(groups.nodes.method) == {"unidentified"}
    for name in ("weight", "spread", "location", "location_variance", "noise"):
        assert np.isfinite(getattr(groups.nodes, name)).all(), name
    assert groups.drawn.converged
    (weight,) = group_weights(fits, groups.drawn)
    np.testing.assert_array_equal(weight, np.zeros(4))


def test_a_law_that_is_held_needs_no_counts():
    held = LAW | {"shape": 2.0}
    fits = fitted("gamma_poisson", ZEROS, fixed=held)
    assert fits.status == ("fixed",)
    assert fits.identified[0]
    groups = integrate_nested(fits)
    assert set(groups.nodes.method) == {"integrated"}
    silent = fitted("gamma_poisson", {name: 0 * v for name, v in ZEROS.items()}, fixed=held)
    assert silent.status == ("fixed",)
    assert set(integrate_nested(silent).nodes.method) == {"unidentified"}


@every_family
def test_grids_that_do_not_settle_are_no_convergence(family, monkeypatch):
    chains = Chains(family, 13, [8, 5, 6, 9])
    assert chains.fit().status == ("ok",)
    monkeypatch.setattr(pooled_fit, "_PLACINGS", 1)
    fits = chains.fit()
    assert fits.status == ("not_converged",)
    assert not fits.converged[0]
    assert fits.identified[0]
