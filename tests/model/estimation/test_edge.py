"""MAP where the hyperprior's density vanishes at no spread."""

import numpy as np
import pytest
from scipy import optimize, stats

from hbpipe.model.estimation.edge import closed
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit
from hbpipe.model.hyperpriors import compile_hyperprior


def estimates(stores, seed=3):
    """Estimates that differ less than their variances say."""
    rng = np.random.default_rng(seed)
    return {"estimate": rng.normal(size=stores), "variance": rng.uniform(0.1, 5.0, stores)}


@pytest.mark.parametrize("stores", [20, 200, 2000])
@pytest.mark.parametrize(
    ("hyperprior", "log_density"),
    [
        (None, lambda tau, c: np.log(tau) - 2 * np.log(c + tau**2)),
        ({"tau": "gamma(2, 0.1)"}, lambda tau, c: np.log(tau) - 0.1 * tau),
    ],
    ids=["default", "gamma"],
)
def test_the_mode_of_many_alike_stores_is_off_the_bound(stores, hyperprior, log_density):
    data = estimates(stores)
    found = fit("normal_known_variance", data, hyperprior=hyperprior, estimator="map")
    c = 10 * np.sort(data["variance"])[(stores - 1) // 2]

    def loss(log_tau):
        tau = np.exp(log_tau)
        variance = data["variance"] + tau**2
        mu = np.average(data["estimate"], weights=1 / variance)
        fitted = stats.norm.logpdf(data["estimate"], mu, np.sqrt(variance)).sum()
        return -(fitted + log_density(tau, c))

    best = optimize.minimize_scalar(loss, bounds=(-8, 3), options={"xatol": 1e-10})
    assert found.status == "ok"
    assert found.converged
    assert found.hyperparameters["tau"] == pytest.approx(np.exp(best.x), rel=1e-5)


@pytest.mark.parametrize(
    ("family", "hyperprior", "shut"),
    [
        ("normal_known_variance", None, True),
        ("normal_known_variance", {"tau": "half_cauchy(1)"}, False),
        ("normal_known_variance", {"tau": "exponential(1)"}, False),
        ("normal_known_variance", {"tau_squared": "uniform_shrinkage(1)"}, False),
        ("beta_binomial", None, True),
        ("beta_binomial", {"concentration": "gamma(2, 0.1)"}, True),
        ("beta_binomial", {"concentration": "uniform"}, False),
        ("gamma_poisson", {"shape": "exponential(1)"}, True),
    ],
)
def test_bounds_are_closed_where_the_density_vanishes(family, hyperprior, shut):
    data = {
        "normal_known_variance": {"estimate": [1.0, 2.0, 4.0], "variance": [1.0, 1.0, 2.0]},
        "beta_binomial": {"successes": [1, 3, 8], "trials": [10, 10, 12]},
        "gamma_poisson": {"count": [1, 3, 8], "exposure": [1.0, 1.0, 1.0]},
    }[family]
    model = get_family(family)
    sketch = model.compress({k: np.array(v) for k, v in data.items()}, np.zeros(3, int), 1)
    prior = compile_hyperprior(model, hyperprior, sketch)
    found = closed(model, prior, model.start(sketch), model.scale(sketch))
    assert found[0, model.spreads[0]] == shut
    assert found.sum() == shut


def test_a_held_spread_stays_on_a_closed_bound():
    found = fit("normal_known_variance", estimates(50), fixed={"tau": 0.0}, estimator="map")
    assert found.hyperparameters["tau"] == 0.0
    assert np.isfinite(found.log_marginal_likelihood)
