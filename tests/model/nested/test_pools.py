"""Chains of counts around a common law: brute force, simulation, borrowing of small chains."""

import numpy as np
import pytest
from scipy import special, stats

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.estimation.delta import standard_deviations
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.nested.pools import log_marginal
from hbpipe.model.nesting import fit_nested, integrate_nested
from hbpipe.model.update.pools import update_pools

FAMILIES = ("beta_binomial", "gamma_poisson")
every_family = pytest.mark.parametrize("family", FAMILIES)
CENTRE = {"beta_binomial": [-2.0, -3.0], "gamma_poisson": [0.5, -2.0]}
SPREAD = [[0.25, 0.1], [0.1, 0.36]]


class Chains:
    """Stores of chains whose (location, log spread) is normal, and the truth."""

    def __init__(self, family, seed, sizes, covariance=SPREAD, largest=80):
        rng = np.random.default_rng(seed)
        self.family, self.sizes = get_family(family), np.asarray(sizes)
        self.n_chains = len(self.sizes)
        self.chain = np.repeat(np.arange(self.n_chains), self.sizes)
        eta = rng.multivariate_normal(CENTRE[family], covariance, self.n_chains)
        n = rng.integers(5, largest, len(self.chain))
        if family == "beta_binomial":
            self.mean = special.expit(eta[:, 0])
            a = (self.mean * np.exp(-eta[:, 1]))[self.chain]
            b = ((1 - self.mean) * np.exp(-eta[:, 1]))[self.chain]
            self.theta = rng.beta(a, b)
            y = rng.binomial(n, self.theta)
            self.statistics = {"successes": y, "trials": n}
            self.law = stats.beta(a + y, b + n - y)
        else:
            self.mean, rate = np.exp(eta[:, 0]), np.exp(-eta[:, 1])
            shape = (self.mean * rate)[self.chain]
            self.theta = rng.gamma(shape, 1.0 / rate[self.chain])
            y = rng.poisson(self.theta * n / 10.0)
            self.statistics = {"count": y, "exposure": n / 10.0}
            self.law = stats.gamma(shape + y, scale=1.0 / (rate[self.chain] + n / 10.0))

    @property
    def sketch(self):
        return self.family.compress(self.statistics, self.chain, self.n_chains)

    def fit(self, **options):
        parents = [np.zeros(self.n_chains, int)]
        return fit_nested(self.family, self.sketch, parents, ["chain"], **options)

    def log_likelihood(self, line, log_spread):
        """Log likelihood of each chain at points (...), (chains, ...): scipy's laws.

        They lose their digits at prior sizes beyond a million, where the likelihood is flat.
        """
        size = np.exp(-np.clip(log_spread, -13.0, 30.0))
        line = np.clip(line, -30.0, 30.0)
        total = np.zeros((self.n_chains, *line.shape))
        first, second = self.statistics.values()
        for chain, y, n in zip(self.chain, first, second, strict=True):
            if self.family.name == "beta_binomial":
                a, b = special.expit(line) * size, special.expit(-line) * size
                value = special.betaln(a + y, b + n - y) - special.betaln(a, b)
                value += -np.log(n + 1) - special.betaln(y + 1, n - y + 1)
            else:
                value = stats.nbinom.logpmf(y, np.exp(line) * size, size / (size + n))
            total[chain] += value
        return total

    def evidence(self, points, nodes=41, reach=7.0):
        """Log of each chain's likelihood integrated over N(m, S) at points (S, 5), (chains, S)."""
        u = np.linspace(-reach, reach, nodes)
        x, y = np.meshgrid(u, u, indexing="ij")
        rho = np.tanh(points[:, 4])[:, None, None]
        sd = np.exp(points[:, 2:4])[:, :, None, None]
        line = points[:, 0, None, None] + sd[:, 0] * x
        spread = points[:, 1, None, None] + sd[:, 1] * (rho * x + np.sqrt(1 - rho**2) * y)
        log_weight = -0.5 * (x**2 + y**2) - np.log(2 * np.pi) + 2 * np.log(u[1] - u[0])
        value = self.log_likelihood(line, spread) + log_weight
        self.nodes = line, spread, value
        return special.logsumexp(value, axis=(2, 3))


@every_family
def test_the_likelihood_is_that_of_a_fine_grid(family):
    chains = Chains(family, 1, [3, 5, 8, 2, 12, 6])
    fits = chains.fit()
    assert fits.converged[0]
    point = fits.coordinates[0]
    moves = [[0, 0, 0, 0, 0], [0.2, -0.2, 0.3, 0.3, 0.2], [0, 0.3, -0.4, -0.4, -0.3]]
    points = point + np.array(moves)
    found = np.array([log_marginal(fits.sketch, at[None])[0][0] for at in points])
    np.testing.assert_allclose(found, chains.evidence(points).sum(axis=0), atol=5e-3)
    np.testing.assert_allclose(found[0], fits.log_marginal_likelihood[0], rtol=1e-12)


@every_family
def test_gradient_and_hessian_are_those_of_the_value(family):
    fits = Chains(family, 2, [4, 9, 3]).fit()
    point = fits.coordinates[0] + [0.1, -0.1, 0.1, 0.05, 0.1]
    _, gradient, hessian = log_marginal(fits.sketch, point[None])
    above, below = (
        [log_marginal(fits.sketch, (point + side * step)[None]) for step in 1e-5 * np.eye(5)]
        for side in (1.0, -1.0)
    )
    slopes = np.array([(a[0][0] - b[0][0]) / 2e-5 for a, b in zip(above, below, strict=True)])
    curves = np.array([(a[1][0] - b[1][0]) / 2e-5 for a, b in zip(above, below, strict=True)])
    np.testing.assert_allclose(gradient[0], slopes, atol=1e-6)
    np.testing.assert_allclose(hessian[0], curves, atol=1e-6)


def log_hyperprior(family, points, size):
    """Log density of (m, S) in m, log s₁, log s₂, atanh ρ, with s half-normal, scale 0.4."""
    line, spread, a, b, z = points.T
    z0, total = size / 10.0, np.exp(-spread)
    # Of a typical chain: uniform shrinkage in its prior size, Beta(½, ½) or 1/m in its mean.
    prior = np.log(z0) - 2 * np.log(z0 + total) + np.log(total)
    if family == "beta_binomial":
        prior += 0.5 * np.log(special.expit(line)) + 0.5 * np.log(special.expit(-line))
    prior += a + b - 0.5 * (np.exp(2 * a) + np.exp(2 * b)) / 0.16
    return prior + 2 * np.log(1 - np.tanh(z) ** 2)


@pytest.mark.long
@every_family
def test_the_integrated_posterior_is_that_of_brute_force(family):
    chains = Chains(family, 3, [4, 6, 3, 2], largest=20)
    spec = {"tau_chain": "half_normal(0.4)", "tau_chain_spread": "half_normal(0.4)"}
    fits = chains.fit(hyperprior=spec)
    groups = integrate_nested(fits, uncertainty="integrated")
    assert groups.drawn.pareto_k < 0.7
    # Importance sampling of (m, S) from Student's law around the estimate; integrals on grids.
    rng = np.random.default_rng(4)
    draws = rng.normal(size=(2000, 5)) / np.sqrt(rng.chisquare(5, (2000, 1)) / 5)
    draws = draws[np.abs(draws).max(axis=1) < 4.0]
    points = fits.coordinates[0] + draws @ np.linalg.cholesky(1.7 * fits.covariance[0]).T
    log_proposal = -5.0 * np.log1p(np.sum(draws**2, axis=1) / 5)
    sizes = list(chains.statistics.values())[1]
    typical = lower_median([lower_median(sizes[chains.chain == c]) for c in range(4)])
    evidence = chains.evidence(points, nodes=25, reach=6.0)
    log_weight = evidence.sum(axis=0) - log_proposal
    log_weight += log_hyperprior(family, points, typical)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    line, spread, value = chains.nodes
    share = np.exp(value - evidence[:, :, None, None])
    nodes = groups.nodes
    for at, found in (
        (chains.family.geometry.mean(line), nodes.location),
        (spread, np.log(nodes.spread)),
    ):
        mean = np.einsum("s,csij,sij->c", weight, share, at)
        sd = np.sqrt(np.einsum("s,csij,sij->c", weight, share, at**2) - mean**2)
        centre = np.sum(nodes.weight * found, axis=(1, 2))[:4]
        np.testing.assert_allclose((centre - mean) / sd, 0.0, atol=0.1)
    alone = integrate_pools(fit_pools(chains.family, chains.sketch), uncertainty="integrated")
    assert (
        np.max(np.abs(np.sum(alone.weight * np.log(alone.spread), axis=(1, 2)) - mean) / sd) > 0.3
    )


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


@pytest.mark.long
@every_family
def test_small_chains_borrow_and_their_intervals_cover(family):
    rng = np.random.default_rng(5)
    sizes = np.round(np.exp(rng.uniform(np.log(5), np.log(100), 30))).astype(int)
    chains = Chains(family, 6, sizes)
    fits = chains.fit()
    groups = integrate_nested(fits)
    options = {"quantiles": (0.025, 0.975)}
    arguments = (chains.statistics, chains.chain)
    nested = update_pools(
        chains.family, groups.nodes, groups.hyperparameters, *arguments, **options
    )
    separate = fit_pools(chains.family, chains.sketch)
    nodes = integrate_pools(separate, uncertainty="integrated")
    alone = update_pools(chains.family, nodes, separate.hyperparameters, *arguments, **options)
    means = np.sum(groups.nodes.weight * groups.nodes.location, axis=(1, 2))[:30]
    lone = np.sum(nodes.weight * nodes.location, axis=(1, 2))
    assert np.mean((means - chains.mean) ** 2) < np.mean((lone - chains.mean) ** 2)
    small = sizes[chains.chain] <= 15
    error = np.mean((nested.mean - chains.theta)[small] ** 2)
    assert error < np.mean((alone.mean - chains.theta)[small] ** 2)
    # The exact probability of each interval under the law with the true hyperparameters.
    low, high = (chains.law.cdf(limit) for limit in nested.quantiles.T)
    assert np.mean((high - low)[small]) > 0.93
    assert 0.93 < np.mean(high - low) < 0.97


@pytest.mark.long
@every_family
def test_chains_that_are_alike_are_pooled(family):
    chains = Chains(family, 7, [8] * 12, covariance=np.zeros((2, 2)))
    groups = integrate_nested(chains.fit(), uncertainty="integrated")
    nodes = groups.groups("chain")
    means = np.sum(nodes.weight * nodes.location, axis=(1, 2))
    alone = integrate_pools(fit_pools(chains.family, chains.sketch), uncertainty="integrated")
    lone = np.sum(alone.weight * alone.location, axis=(1, 2))
    assert np.std(means) < 0.5 * np.std(lone)


@every_family
def test_a_chain_without_data_has_the_law_of_a_new_one(family):
    chains = Chains(family, 8, [6, 0, 9, 4])
    groups = integrate_nested(chains.fit())
    assert groups.first == (4, 5)
    for name in ("weight", "spread", "location"):
        values = getattr(groups.nodes, name)
        np.testing.assert_array_equal(values[1], values[4])
    silent = {item.name: np.full(5, item.absent, item.dtype) for item in chains.family.statistics}
    found = update_pools(
        chains.family,
        groups.nodes,
        groups.hyperparameters,
        silent,
        np.arange(5),
        quantiles=(0.1, 0.9),
    )
    width = np.diff(found.quantiles, axis=1)[:, 0]
    assert width[4] > np.median(width[[0, 2, 3]])


@pytest.mark.long
@every_family
def test_chains_with_nothing_but_zeros_and_single_stores_are_ordinary(family):
    chains = Chains(family, 9, [5, 6, 1, 4, 7])
    first = next(iter(chains.statistics))
    chains.statistics[first] = np.where(chains.chain == 3, 0, chains.statistics[first])
    fits = chains.fit()
    assert fits.status == ("ok",)
    assert fits.estimator == "map"
    nesting = {"chain": chains.chain}
    fit = hbpipe.fit(family, chains.statistics, nesting=nesting)
    found = hbpipe.posterior(fit, chains.statistics, nesting=nesting)
    for values in found.values():
        assert np.isfinite(values).all()
    assert np.all(found["sd"] > 0)
    level = found.levels["chain"]
    assert np.all(level["q0.025"] < level["mean"])
    assert np.all(level["mean"] < level["q0.975"])
    np.testing.assert_allclose(level.cdf(level["q0.025"]), 0.025, atol=1e-6)
    # Twenty zeros do not make a chain's rate zero when other chains have none like it.
    assert level["mean"][3] > 0


def test_a_fixed_spread_of_chains_is_kept():
    chains = Chains("beta_binomial", 10, [8, 12, 5, 9])
    wide, narrow = (
        integrate_nested(chains.fit(fixed={"tau_chain": sd, "tau_chain_spread": 0.3}))
        for sd in (1.0, 0.1)
    )
    means = [
        np.sum(groups.nodes.weight * groups.nodes.location, axis=(1, 2))[:4]
        for groups in (wide, narrow)
    ]
    assert np.std(means[1]) < np.std(means[0])
    fits = chains.fit(fixed={"mean": 0.2, "concentration": 30.0})
    np.testing.assert_allclose(fits.hyperparameters["mean"], 0.2)
    np.testing.assert_allclose(fits.hyperparameters["concentration"], 30.0)


@pytest.mark.long
def test_no_count_at_all_needs_a_hyperprior_of_the_mean():
    stores = {"count": np.zeros(8, int), "exposure": np.full(8, 2.0)}
    nesting = {"chain": np.arange(8) // 2}
    with pytest.raises(FitError, match=r"every count is 0.*give the mean a proper hyperprior"):
        hbpipe.fit("gamma_poisson", stores, nesting=nesting)
    spec = {"mean": "gamma(0.5, 0.5)"}
    fit = hbpipe.fit("gamma_poisson", stores, nesting=nesting, hyperprior=spec)
    found = hbpipe.posterior(fit, stores, nesting=nesting)
    assert np.all((found["mean"] > 0) & (found["mean"] < 0.1) & (found["q0.975"] < 0.5))
    silent = {"count": np.zeros(8, int), "exposure": np.zeros(8)}
    with pytest.raises(FitError, match="no group has data"):
        hbpipe.fit("gamma_poisson", silent, nesting=nesting)


@pytest.mark.long
def test_no_success_at_all_is_ordinary():
    stores = {"successes": np.zeros(8, int), "trials": np.full(8, 10)}
    nesting = {"chain": np.arange(8) // 2}
    fit = hbpipe.fit("beta_binomial", stores, nesting=nesting)
    found = hbpipe.posterior(fit, stores, nesting=nesting)
    assert np.all((found["mean"] > 0) & (found["mean"] < 0.02) & (found["q0.975"] < 0.1))


def test_standard_deviations_of_named_hyperparameters():
    chains = Chains("beta_binomial", 11, [20] * 10)
    fits = chains.fit()
    sd = standard_deviations(fits)
    spread = fits.hyperparameters["tau_chain"]
    np.testing.assert_allclose(
        sd["tau_chain"], spread * np.sqrt(fits.covariance[0, 2, 2]), rtol=1e-4
    )
    assert fits.n_groups[0] == 200
