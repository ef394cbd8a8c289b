"""Full Bayes of one chain by NUTS, with numpyro, beside the integral over two hyperparameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import hbpipe
from tests.bench.stores import SEED, Statistics

Task = Callable[[], float]

#: Enough for a mean to a hundredth of its sd: the least that limits need.
WARMUP, DRAWS = 500, 2500


def by_nuts(stores: Statistics) -> Task:
    """Sample rates and hyperparameters; the sum of the posterior means."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS

    numpyro.enable_x64()
    y, n = np.asarray(stores["successes"]), np.asarray(stores["trials"])

    def model() -> None:
        # BDA3 (5.9): p(alpha, beta) ∝ (alpha + beta)^(-5/2).
        mean = numpyro.sample("mean", dist.Uniform(0, 1))
        root = numpyro.sample("root", dist.Uniform(0, 1))  # (alpha + beta)^(-1/2)
        size = root**-2
        with numpyro.plate("stores", len(y)):
            rate = numpyro.sample("rate", dist.Beta(mean * size, (1 - mean) * size))
            numpyro.sample("y", dist.Binomial(n, rate), obs=y)

    def run() -> float:
        chain = MCMC(NUTS(model), num_warmup=WARMUP, num_samples=DRAWS, progress_bar=False)
        chain.run(jax.random.PRNGKey(SEED))
        return float(np.sum(np.mean(chain.get_samples()["rate"], axis=0)))

    return run


def by_integral(stores: Statistics) -> Task:
    """Fit and integrate under the same hyperprior; the sum of the posterior means."""

    def run() -> float:
        fit = hbpipe.fit("beta_binomial", stores, hyperprior="bda3")
        return float(np.sum(hbpipe.posterior(fit, stores, uncertainty="integrated")["mean"]))

    return run
