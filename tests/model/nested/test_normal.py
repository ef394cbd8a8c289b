"""Nested levels of normal families: dense brute force, exact identities, edges."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.nested.normal import NestedSketch, nested_family
from hbpipe.model.nested.tree import Forest
from hbpipe.model.nesting import fit_nested, integrate_nested
from hbpipe.model.numerics.jets import constants
from hbpipe.model.update.pools import update_pools

GOLDEN = Path(__file__).parents[2] / "golden"
LEVELS = ("chain", "region")
QUANTILES = (0.025, 0.5, 0.975)


class Stores:
    """Stores of regions of chains, some regions and one chain without data; and the dense model."""

    def __init__(self, family, seed, chains=5, regions=3, largest=6):
        rng = np.random.default_rng(seed)
        self.family = get_family(family)
        self.chain_of_region = np.sort(rng.integers(0, chains - 1, chains * regions))
        self.n_regions = len(self.chain_of_region)
        count = rng.integers(0, largest, self.n_regions)
        count[:2] = largest
        self.region = np.repeat(np.arange(self.n_regions), count)
        self.chain = self.chain_of_region[self.region]
        self.n_chains = chains
        means = rng.normal(10.0, 2.0, chains)
        regional = rng.normal(means[self.chain_of_region], 1.0)
        theta = rng.normal(regional[self.region], 0.7)
        if family == "normal":
            n = rng.integers(1, 8, len(theta))
            self.noise = np.asarray(n, float)
            self.mean = rng.normal(theta, 1.5 / np.sqrt(n))
            m2 = 2.25 * rng.chisquare(np.maximum(n - 1, 1)) * (n > 1)
            self.statistics = {"n": n, "mean": self.mean, "m2": m2}
        else:
            variance = np.exp(rng.uniform(-1.5, 1.0, len(theta)))
            self.noise = variance
            self.mean = rng.normal(theta, np.sqrt(variance))
            self.statistics = {"estimate": self.mean, "variance": variance}

    @property
    def nesting(self):
        return {"chain": self.chain, "region": self.region}

    @property
    def sketch(self):
        pools = self.family.compress(self.statistics, self.region, self.n_regions)
        parents = [np.zeros(self.n_chains, int), self.chain_of_region]
        return NestedSketch.of(pools, Forest.of(parents))

    def sampling(self, point):
        """Sampling variance of each store's mean."""
        return np.exp(2 * point[2]) / self.noise if len(point) == 5 else self.noise

    def covariance(self, point):
        """Covariance of the store means; the coordinates end with τ² of chain and region."""
        same_chain = self.chain[:, None] == self.chain
        same_region = self.region[:, None] == self.region
        return (
            np.diag(self.sampling(point) + point[1])
            + point[-2] * same_chain
            + point[-1] * same_region
        )

    def log_likelihood(self, point, restricted=False):
        ones, v = np.ones(len(self.mean)), self.covariance(point)
        total = stats.multivariate_normal(point[0] * ones, v).logpdf(self.mean)
        if restricted:
            total += 0.5 * np.log(2 * np.pi) - 0.5 * np.log(ones @ np.linalg.solve(v, ones))
        if len(point) == 5:
            n, m2, variance = self.noise, self.statistics["m2"], np.exp(2 * point[2])
            total += np.sum(-0.5 * (n - 1) * np.log(2 * np.pi * variance) - 0.5 * m2 / variance)
            total -= 0.5 * np.sum(np.log(n))
        return total


FAMILIES = ("normal", "normal_known_variance")
every_family = pytest.mark.parametrize("family", FAMILIES)
POINTS = {
    "normal": [[9.0, 0.4, 0.3, 2.0, 0.8], [9.5, 0.0, 0.2, 0.0, 0.0], [8.0, 0.3, 0.5, 0.0, 1.0]],
    "normal_known_variance": [[9.0, 0.4, 2.0, 0.8], [9.5, 0.0, 0.0, 0.0], [8.0, 0.3, 3.0, 0.0]],
}


@every_family
def test_a_message_is_the_likelihood_as_a_function_of_the_mean(family):
    stores = Stores(family, 18)
    pools = stores.family.compress(stores.statistics, stores.region, stores.n_regions)
    coordinates = np.tile(POINTS[family][0][:-2], (stores.n_regions, 1))
    message = stores.family.location_message(pools, coordinates, derivatives=True)
    values = stores.family.location_message(pools, coordinates, derivatives=False)
    for part in ("precision", "mean", "peak"):
        np.testing.assert_array_equal(getattr(values, part).value, getattr(message, part).value)
    for location in (8.0, 11.5):
        coordinates[:, 0] = location
        value, gradient, hessian = stores.family.log_marginal(pools, coordinates)
        jet = message.at(constants(coordinates[:, 0], coordinates.shape[1]))
        close = {"rtol": 1e-9, "atol": 1e-9}
        np.testing.assert_allclose(jet.value, value, **close)
        np.testing.assert_allclose(jet.gradient[:, 1:], gradient[:, 1:], **close)
        np.testing.assert_allclose(jet.hessian[:, 1:, 1:], hessian[:, 1:, 1:], **close)
        np.testing.assert_allclose(-message.precision.value, hessian[:, 0, 0], **close)


@every_family
@pytest.mark.parametrize("restricted", [False, True])
def test_the_likelihood_is_that_of_the_dense_normal_law(family, restricted):
    stores = Stores(family, 1)
    model = nested_family(stores.family, LEVELS)
    for point in np.array(POINTS[family]):
        found = model.log_marginal(stores.sketch, point[None])[0][0]
        if restricted:
            found += model.log_restriction(stores.sketch, point[None])[0][0]
        expected = stores.log_likelihood(point, restricted)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@every_family
@pytest.mark.parametrize("slot", ["log_marginal", "log_restriction"])
def test_gradient_and_hessian_are_those_of_the_value(family, slot):
    stores = Stores(family, 2)
    function = getattr(nested_family(stores.family, LEVELS), slot)
    point = np.array(POINTS[family][0])
    _, gradient, hessian = function(stores.sketch, point[None])
    above, below = (
        [function(stores.sketch, (point + side * step)[None]) for step in 1e-5 * np.eye(len(point))]
        for side in (1.0, -1.0)
    )
    slopes = np.array([(a[0][0] - b[0][0]) / 2e-5 for a, b in zip(above, below, strict=True)])
    curves = np.array([(a[1][0] - b[1][0]) / 2e-5 for a, b in zip(above, below, strict=True)])
    np.testing.assert_allclose(gradient[0], slopes, atol=1e-6 * np.abs(slopes).max() + 1e-6)
    np.testing.assert_allclose(hessian[0], curves, atol=1e-6 * np.abs(curves).max() + 1e-6)


@every_family
@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_same_maximum_as_an_optimiser_over_the_dense_form(family, estimator):
    stores = Stores(family, 3, chains=6, largest=8)
    found = hbpipe.fit(family, stores.statistics, nesting=stores.nesting, estimator=estimator)

    def loss(free):
        point = free.copy()
        point[1], point[-2:] = np.exp(free[1]), np.exp(free[-2:])
        return -stores.log_likelihood(point, estimator == "reml")

    start = np.array([9.5, 0.0, 0.3, 0.0, 0.0] if family == "normal" else [9.5, 0.0, 0.0, 0.0])
    other = optimize.minimize(loss, start, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    assert found.status == "ok"
    assert found.converged
    assert found.log_marginal_likelihood >= -other.fun - 1e-8
    np.testing.assert_allclose(found.log_marginal_likelihood, -other.fun, rtol=0, atol=1e-6)
    for name, place in (("tau", 1), ("tau_chain", -2), ("tau_region", -1)):
        np.testing.assert_allclose(
            found.hyperparameters[name], np.exp(0.5 * other.x[place]), rtol=2e-3
        )
    assert all(found.pools.starts_agree)


def test_no_spread_at_any_level_is_an_ordinary_point():
    rng = np.random.default_rng(4)
    region = np.repeat(np.arange(12), 4)
    # Store means nearer to each other than their noise allows: no level has a spread.
    estimate = 3.0 + 0.2 * rng.normal(size=48)
    stores = {"estimate": estimate, "variance": np.ones(48)}
    fit = hbpipe.fit(
        "normal_known_variance", stores, nesting={"chain": region // 3, "region": region}
    )
    assert fit.status == "no_spread"
    assert fit.at_bound == ("tau", "tau_chain", "tau_region")
    assert fit.boundary
    assert fit.converged
    np.testing.assert_allclose(fit.hyperparameters["mu"], np.mean(estimate))
    found = hbpipe.posterior(fit, stores, nesting={"chain": region // 3, "region": region})
    assert np.all(found["sd"] > 0)
    assert found.groups.drawn.pareto_k < 0.7


def conditional(stores, point, wanted):
    """Posterior mean and sd of unknowns under a flat mean, from the dense joint normal law.

    ``wanted`` lists (chain, region, own): the numbers of an unknown's chain and region, −1 for none
    or new ones, and its variance around the finest of them.
    """
    v, y = stores.covariance(point), stores.mean
    cross = np.array(
        [point[-2] * (stores.chain == c) + point[-1] * (stores.region == r) for c, r, _ in wanted]
    )
    own = np.array([variance for *_, variance in wanted])
    inverse = np.linalg.inv(v)
    ones = np.ones(len(y))
    precision = ones @ inverse @ ones
    mu = ones @ inverse @ y / precision
    mean = mu + cross @ inverse @ (y - mu)
    left = 1.0 - cross @ inverse @ ones
    variance = own - np.einsum("ui,ij,uj->u", cross, inverse, cross) + left**2 / precision
    return mean, np.sqrt(variance)


@every_family
def test_given_the_hyperparameters_groups_and_stores_have_the_dense_posterior(family):
    stores = Stores(family, 5)
    point = np.array(POINTS[family][0])
    tau, chain, region = point[1], point[-2], point[-1]
    fixed = {"tau": np.sqrt(tau), "tau_chain": np.sqrt(chain), "tau_region": np.sqrt(region)}
    if family == "normal":
        fixed["sigma"] = np.exp(point[2])
    fit = hbpipe.fit(family, stores.statistics, nesting=stores.nesting, fixed=fixed)
    found = hbpipe.posterior(fit, stores.statistics, nesting=stores.nesting)
    labels = found.levels["chain"].labels
    mean, sd = conditional(stores, point, [(c, -1, chain) for c in labels])
    np.testing.assert_allclose(found.levels["chain"]["mean"], mean, rtol=1e-10)
    np.testing.assert_allclose(found.levels["chain"]["sd"], sd, rtol=1e-8)
    np.testing.assert_allclose(
        found.levels["chain"]["q0.975"], mean + stats.norm.ppf(0.975) * sd, rtol=1e-8
    )
    regions = [(stores.chain_of_region[r], r) for r in found.levels["region"].labels]
    mean, sd = conditional(stores, point, [(c, r, chain + region) for c, r in regions])
    np.testing.assert_allclose(found.levels["region"]["mean"], mean, rtol=1e-10)
    np.testing.assert_allclose(found.levels["region"]["sd"], sd, rtol=1e-8)
    # A store's own θ: its mean's covariance with itself lacks the sampling noise only.
    v, inverse = stores.covariance(point), np.linalg.inv(stores.covariance(point))
    signal = v - np.diag(stores.sampling(point))
    ones = np.ones(len(v))
    mu = ones @ inverse @ stores.mean / (ones @ inverse @ ones)
    np.testing.assert_allclose(found["mean"], mu + signal @ inverse @ (stores.mean - mu), rtol=1e-9)
    left = 1.0 - signal @ inverse @ ones
    variance = np.diag(signal - signal @ inverse @ signal) + left**2 / (ones @ inverse @ ones)
    np.testing.assert_allclose(found["sd"], np.sqrt(variance), rtol=1e-8)


@every_family
def test_new_stores_regions_and_chains_have_the_right_variance(family):
    stores = Stores(family, 6)
    point = np.array(POINTS[family][0])
    tau, chain, region = point[1], point[-2], point[-1]
    fixed = {"tau": np.sqrt(tau), "tau_chain": np.sqrt(chain), "tau_region": np.sqrt(region)}
    if family == "normal":
        fixed["sigma"] = np.exp(point[2])
    fit = hbpipe.fit(family, stores.statistics, nesting=stores.nesting, fixed=fixed)
    known = int(stores.region[0])
    silent = {item.name: [item.absent] * 3 for item in stores.family.statistics}
    found = hbpipe.posterior(
        fit,
        silent,
        nesting={"chain": [int(stores.chain[0])] * 2 + [99], "region": [known, 77, known]},
    )
    mean, sd = conditional(
        stores,
        point,
        [
            (stores.chain[0], known, chain + region + tau),
            (stores.chain[0], -1, chain + region + tau),
            (-1, -1, chain + region + tau),
        ],
    )
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-9)
    np.testing.assert_allclose(found["sd"], sd, rtol=1e-9)
    assert sd[0] < sd[1] < sd[2]
    np.testing.assert_array_equal(found["weight"], 0.0)


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


def test_the_integrated_posterior_is_that_of_a_fine_grid():
    rng = np.random.default_rng(7)
    chain = np.repeat(np.arange(4), [5, 3, 2, 1])
    variance = np.exp(rng.uniform(-1.0, 1.0, len(chain)))
    estimate = rng.normal(rng.normal(0.0, 1.0, 4)[chain], np.sqrt(0.4 + variance))
    stores = {"estimate": estimate, "variance": variance}
    # The default: wide uniform shrinkage of both spreads, that of the chains given the stores'.
    log_tau, log_chain = np.meshgrid(
        np.linspace(-6.5, 4.0, 130), np.linspace(-6.5, 5.5, 150), indexing="ij"
    )
    t, s = np.exp(2 * log_tau.ravel()), np.exp(2 * log_chain.ravel())
    sampling = 1.0 / lower_median(1.0 / variance)
    c = 10.0 * sampling
    log_weight = np.log(c) - 2 * np.log(c + t) + np.log(t)
    c = 10.0 * (t + sampling) / lower_median(np.bincount(chain))
    log_weight += np.log(c) - 2 * np.log(c + s) + np.log(s)
    v = t[:, None, None] * np.eye(len(chain)) + np.diag(variance)
    v = v + s[:, None, None] * (chain[:, None] == chain)
    inverse = np.linalg.inv(v)
    precision = inverse.sum(axis=(1, 2))
    mu = np.einsum("sij,j->s", inverse, estimate) / precision
    away = estimate - mu[:, None]
    pulled = np.einsum("sij,sj->si", inverse, away)
    log_weight -= 0.5 * (np.linalg.slogdet(v)[1] + np.log(precision))
    log_weight -= 0.5 * np.sum(away * pulled, axis=1)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    fit = hbpipe.fit("normal_known_variance", stores, nesting={"chain": chain})
    found = hbpipe.posterior(fit, stores, nesting={"chain": chain})
    assert found.method == "integrated"
    for store in (0, 6, 10):
        mean = mu + np.einsum("si,si->s", v[:, store] - variance * (np.arange(11) == store), pulled)
        signal = v[:, store] - variance * (np.arange(11) == store)
        left = 1.0 - np.einsum("si,sij->s", signal, inverse)
        own = t + s - np.einsum("si,sij,sj->s", signal, inverse, signal) + left**2 / precision
        compare(found, store, weight, mean, np.sqrt(own))
    for group in range(4):
        signal = s[:, None] * (chain == group)
        mean = mu + np.sum(signal * pulled, axis=1)
        left = 1.0 - np.einsum("si,sij->s", signal, inverse)
        own = s - np.einsum("si,sij,sj->s", signal, inverse, signal) + left**2 / precision
        compare(found.levels["chain"], group, weight, mean, np.sqrt(own))


def compare(found, row, weight, means, sds):
    """Mean, sd and limits against a mixture over a grid, to 0.015 sd."""
    mean = np.sum(weight * means)
    sd = np.sqrt(np.sum(weight * (sds**2 + (means - mean) ** 2)))
    assert abs(found["mean"][row] - mean) < 0.01 * sd
    assert abs(found["sd"][row] - sd) < 0.015 * sd
    for level in QUANTILES:
        at = found[f"q{level:g}"][row]
        distance = np.sum(weight * stats.norm.cdf(at, means, sds)) - level
        density = np.sum(weight * stats.norm.pdf(at, means, sds))
        assert abs(distance / density) < 0.015 * sd


def dyestuff():
    with (GOLDEN / "dyestuff" / "data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    batch = np.array([row["batch"] for row in rows])
    values = np.array([float(row["yield"]) for row in rows])
    groups = [values[batch == name] for name in np.unique(batch)]
    return {
        "n": np.array([len(group) for group in groups]),
        "mean": np.array([group.mean() for group in groups]),
        "m2": np.array([np.sum((group - group.mean()) ** 2) for group in groups]),
    }


def same_posteriors(found, expected, tolerance):
    """Mean, sd and limits agree, in posterior sds."""
    for name in ("mean", "sd", "q0.025", "q0.5", "q0.975"):
        np.testing.assert_allclose(
            (found[name] - expected[name]) / expected["sd"], 0.0, atol=tolerance
        )


@pytest.mark.parametrize("estimator", ["ml", "reml"])
@pytest.mark.parametrize("groups", ["all_in_one", "one_each"])
def test_a_level_that_says_nothing_changes_nothing(estimator, groups):
    stores = dyestuff()
    names = np.zeros(6, int) if groups == "all_in_one" else np.arange(6)
    plain = hbpipe.fit("normal", stores, estimator=estimator)
    nested = hbpipe.fit("normal", stores, estimator=estimator, nesting={"plant": names})
    assert nested.status == "lone_groups"
    assert nested.at_bound == ("tau_plant",)
    np.testing.assert_allclose(
        nested.log_marginal_likelihood, plain.log_marginal_likelihood, rtol=1e-12
    )
    for name, value in plain.hyperparameters.items():
        np.testing.assert_allclose(nested.hyperparameters[name], value, rtol=1e-7)
    assert nested.hyperparameters["tau_plant"] == 0.0
    known = {"uncertainty": "plug_in"}
    if groups == "all_in_one":
        # With a single plant its mean is the only one, whatever it varies around.
        expected = hbpipe.posterior(plain, stores, uncertainty="integrated")
        found = hbpipe.posterior(nested, stores, nesting={"plant": names})
        same_posteriors(found, expected, 0.015)
    found = hbpipe.posterior(nested, stores, nesting={"plant": names}, **known)
    same_posteriors(found, hbpipe.posterior(plain, stores, **known), 1e-6)


def test_a_level_without_spread_is_no_level():
    stores = Stores("normal", 8)
    both = hbpipe.fit(
        "normal", stores.statistics, nesting=stores.nesting, fixed={"tau_region": 0.0}
    )
    chains = {"chain": stores.chain}
    one = hbpipe.fit("normal", stores.statistics, nesting=chains)
    np.testing.assert_allclose(
        both.log_marginal_likelihood, one.log_marginal_likelihood, rtol=1e-12
    )
    np.testing.assert_allclose(
        both.hyperparameters["tau_chain"], one.hyperparameters["tau_chain"], rtol=1e-6
    )
    # The default for the chains' spread counts children: regions in one fit, stores in the other.
    spec = {"tau_chain": "half_cauchy(2)"}
    both, one = (
        hbpipe.fit("normal", stores.statistics, nesting=nesting, hyperprior=spec, fixed=fixed)
        for nesting, fixed in ((stores.nesting, {"tau_region": 0.0}), (chains, None))
    )
    found = hbpipe.posterior(both, stores.statistics, nesting=stores.nesting)
    expected = hbpipe.posterior(one, stores.statistics, nesting=chains)
    same_posteriors(found, expected, 0.01)


def test_no_spread_of_chains_is_a_single_pool_and_a_huge_one_separate_pools():
    stores = Stores("normal_known_variance", 9)
    fixed = {"tau": 0.8, "tau_chain": 0.0}
    nesting = {"chain": stores.chain}
    name, data = "normal_known_variance", stores.statistics
    nested = hbpipe.fit(name, data, nesting=nesting, fixed=fixed)
    plain = hbpipe.fit(name, data, fixed={"tau": 0.8})
    np.testing.assert_allclose(
        nested.log_marginal_likelihood, plain.log_marginal_likelihood, rtol=1e-12
    )
    same_posteriors(
        hbpipe.posterior(nested, data, nesting=nesting, uncertainty="integrated"),
        hbpipe.posterior(plain, data, uncertainty="integrated"),
        1e-9,
    )
    apart = hbpipe.fit(name, data, nesting=nesting, fixed={"tau": 0.8, "tau_chain": 1e6})
    found = hbpipe.posterior(apart, data, nesting=nesting)
    for chain in np.unique(stores.chain):
        mine = stores.chain == chain
        alone = {key: values[mine] for key, values in data.items()}
        expected = hbpipe.posterior(
            hbpipe.fit(name, alone, fixed={"tau": 0.8}), alone, uncertainty="integrated"
        )
        same_posteriors({key: found[key][mine] for key in found}, expected, 1e-6)


@settings(max_examples=6)
@given(st.integers(0, 10_000), st.integers(1, 2))
def test_the_order_of_groups_and_stores_does_not_matter(seed, levels):
    rng = np.random.default_rng(seed)
    stores = Stores("normal", seed)
    names = dict(list(stores.nesting.items())[:levels])
    order = rng.permutation(len(stores.mean))
    relabel = rng.permutation(1000)
    plain = hbpipe.fit("normal", stores.statistics, nesting=names)
    shuffled = hbpipe.fit(
        "normal",
        {name: values[order] for name, values in stores.statistics.items()},
        nesting={name: relabel[codes][order] for name, codes in names.items()},
    )
    np.testing.assert_allclose(
        shuffled.log_marginal_likelihood, plain.log_marginal_likelihood, rtol=1e-10
    )


def test_an_offset_of_the_data_costs_no_digits():
    stores = Stores("normal", 10)
    far = {**stores.statistics, "mean": stores.mean + 1e7}
    plain = hbpipe.fit("normal", stores.statistics, nesting=stores.nesting)
    moved = hbpipe.fit("normal", far, nesting=stores.nesting)
    for name in ("tau", "sigma", "tau_chain", "tau_region"):
        np.testing.assert_allclose(
            moved.hyperparameters[name], plain.hyperparameters[name], rtol=1e-5
        )
    found = hbpipe.posterior(moved, far, nesting=stores.nesting)
    expected = hbpipe.posterior(plain, stores.statistics, nesting=stores.nesting)
    np.testing.assert_allclose(found["mean"] - 1e7, expected["mean"], atol=0.01)
    np.testing.assert_allclose(found["sd"], expected["sd"], rtol=0.01)


def test_map_maximises_likelihood_times_hyperprior():
    stores = Stores("normal_known_variance", 11)
    spec = {"tau": "half_cauchy(1)", "tau_chain": "half_normal(2)", "tau_region": "exponential(1)"}
    fit = hbpipe.fit(
        "normal_known_variance",
        stores.statistics,
        nesting=stores.nesting,
        estimator="map",
        hyperprior=spec,
    )

    def loss(point):
        tau, chain, region = point[1:]
        prior = -np.log1p(tau**2) - 0.5 * (chain / 2.0) ** 2 - region
        return -stores.log_likelihood(np.append(point[0], point[1:] ** 2)) - prior

    at = [fit.hyperparameters[name] for name in ("mu", "tau", "tau_chain", "tau_region")]
    other = optimize.minimize(
        loss, at, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-11}
    )
    assert loss(np.array(at)) <= other.fun + 1e-9


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tau_chain": "reciprocal"}, "small values of tau_chain"),
        ({"tau_chain": "uniform"}, "large values of tau_chain"),
        ({"tau_chain": "power(-0.5)", "tau": "power(20)"}, "large values of tau"),
    ],
)
def test_improper_posteriors_are_refused(spec, message):
    rng = np.random.default_rng(12)
    stores = {"estimate": rng.normal(size=12), "variance": np.ones(12)}
    nesting = {"chain": np.arange(12) // 6}
    fit = hbpipe.fit("normal_known_variance", stores, nesting=nesting, hyperprior=spec)
    with pytest.raises(FitError, match=message):
        hbpipe.posterior(fit, stores, nesting=nesting)


def test_uniform_sds_of_enough_chains_are_proper():
    stores = Stores("normal_known_variance", 13, chains=8)
    spec = {"tau": "uniform", "tau_chain": "uniform"}
    nesting = {"chain": stores.chain}
    name = "normal_known_variance"
    fit = hbpipe.fit(name, stores.statistics, nesting=nesting, hyperprior=spec)
    found = hbpipe.posterior(fit, stores.statistics, nesting=nesting)
    assert np.all(np.isfinite(found["sd"]) & (found["sd"] > 0))


def test_what_is_held_may_make_a_lone_level_count():
    rng = np.random.default_rng(14)
    stores = {"estimate": rng.normal(size=12, scale=2.0), "variance": np.full(12, 0.5)}
    nesting = {"region": np.arange(12)}
    fit = hbpipe.fit("normal_known_variance", stores, nesting=nesting, fixed={"tau": 1.0})
    assert fit.status == "ok"
    plain = hbpipe.fit("normal_known_variance", stores)
    total = fit.hyperparameters["tau_region"] ** 2 + 1.0
    np.testing.assert_allclose(total, plain.hyperparameters["tau"] ** 2, rtol=1e-6)


def test_data_that_no_level_can_save():
    stores = {"n": [1, 1, 1, 1], "mean": [1.0, 2.0, 3.0, 5.0], "m2": [0.0] * 4}
    with pytest.raises(FitError, match="no store has two values"):
        hbpipe.fit("normal", stores, nesting={"chain": [0, 0, 1, 1]})
    silent = {"n": [0, 0], "mean": [0.0, 0.0], "m2": [0.0, 0.0]}
    with pytest.raises(FitError, match="no store has a value"):
        hbpipe.fit("normal", silent, nesting={"chain": [0, 1]})


def test_shards_have_the_bits_of_the_whole_and_fits_survive_pickling():
    stores = Stores("normal", 15)
    family = stores.family
    pools = family.compress(stores.statistics, stores.region, stores.n_regions)
    parents = [np.zeros(stores.n_chains, int), stores.chain_of_region]
    fits = pickle.loads(pickle.dumps(fit_nested(family, pools, parents, LEVELS)))
    groups = pickle.loads(pickle.dumps(integrate_nested(fits)))
    options = {"quantiles": QUANTILES, "exposure": 3.0}

    def update(rows):
        some = {name: values[rows] for name, values in stores.statistics.items()}
        return update_pools(
            family, groups.nodes, groups.hyperparameters, some, stores.region[rows], **options
        )

    whole = update(np.arange(len(stores.mean)))
    for rows in np.array_split(np.arange(len(stores.mean)), 3):
        part = update(rows)
        for name, values in vars(part).items():
            np.testing.assert_array_equal(values, getattr(whole, name)[rows])


def test_roots_fitted_together_have_the_bits_of_each_alone():
    first, second = Stores("normal", 16), Stores("normal", 17)
    family = first.family
    model = nested_family(family, ("region",))
    parts = [
        NestedSketch.of(
            family.compress(stores.statistics, stores.region, stores.n_regions),
            Forest.of([np.zeros(stores.n_regions, int)]),
        )
        for stores in (first, second)
    ]
    both = {
        name: np.concatenate([first.statistics[name], second.statistics[name]])
        for name in first.statistics
    }
    region = np.concatenate([first.region, second.region + first.n_regions])
    count = (first.n_regions, second.n_regions)
    together = NestedSketch.of(
        family.compress(both, region, sum(count)), Forest.of([np.repeat([0, 1], count)], 2)
    )
    fits = fit_pools(model, together)
    for root, sketch in enumerate(parts):
        alone = fit_pools(model, sketch)
        np.testing.assert_array_equal(fits.coordinates[root], alone.coordinates[0])
        assert fits.log_marginal_likelihood[root] == alone.log_marginal_likelihood[0]
