"""Posteriors with covariates: brute-force integrals, shards, new stores, hyperpriors."""

import pickle
from functools import cache

import numpy as np
import pytest
from covariate_cases import DATA, FAMILIES_WITH_COVARIATES
from scipy import special, stats

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.posterior import posterior
from hbpipe.model.update import sampled_update
from hbpipe.model.update.pools import update_pools

every_family = pytest.mark.parametrize("name", FAMILIES_WITH_COVARIATES)
LEVELS = (0.025, 0.5, 0.975)
COLUMNS = ("mean", "sd", "q0.025", "q0.5", "q0.975", "prior_mean")


def distance(found, expected, sd):
    """Largest difference in posterior sds."""
    return float(np.max(np.abs(found - expected) / sd))


@every_family
@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
@pytest.mark.parametrize("stores", [12, 250])
def test_an_intercept_alone_is_the_posterior_without_covariates(name, uncertainty, stores):
    data, _ = DATA[name](1, stores)
    ones = np.ones((stores, 1))
    plain = posterior(fit(name, data), data, uncertainty=uncertainty)
    found = posterior(
        fit(name, data, covariates=ones), data, uncertainty=uncertainty, covariates=ones
    )
    assert found.method == plain.method
    close = 1e-6 if uncertainty != "integrated" else 0.01
    for column in COLUMNS:
        # A prior mean's own uncertainty is that of the whole pool's mean.
        far = 3.0 if column == "prior_mean" else 1.0
        assert distance(found[column], plain[column], plain["sd"]) < close * far
    np.testing.assert_allclose(found["weight"], plain["weight"], atol=0.1 * close)
    np.testing.assert_allclose(found["sd_plug_in"], plain["sd_plug_in"], rtol=1e-6)


def lower_median(values):
    return np.sort(values)[(len(values) - 1) // 2]


class Grid:
    """Posterior of two coefficients and the spread on a dense grid, by the default hyperprior."""

    def __init__(self, name, data, x, size, centre, width):
        axes = [np.linspace(c - w, c + w, n) for c, w, n in zip(centre, width, size, strict=True)]
        first, second, log_spread = (part.ravel() for part in np.meshgrid(*axes, indexing="ij"))
        self.line = first[:, None] * x[:, 0] + second[:, None] * x[:, 1]
        at_the_mean = first * x[:, 0].mean() + second * x[:, 1].mean()
        self.log_weight = -0.5 * (second / 2.5) ** 2
        self.name, self.data, self.spread, self.size = name, data, np.exp(log_spread), size
        scale = 10.0 / lower_median(data["trials" if name == "beta_binomial" else "exposure"])
        # Uniform shrinkage: c/(c + A)² dA, and dA = A d log A.
        odds = self.spread if name == "beta_binomial" else self.spread * np.exp(at_the_mean)
        self.log_weight += np.log(odds) - 2.0 * np.log(scale + odds)
        if name == "beta_binomial":
            # Beta(½, ½) of the mean, as a density of its logit.
            self.log_weight += 0.5 * special.log_expit(at_the_mean)
            self.log_weight += 0.5 * special.log_expit(-at_the_mean)
        else:
            self.log_weight += 0.5 * at_the_mean

    def laws(self):
        """Parameters of each store's posterior at every point, and log likelihoods."""
        if self.name == "beta_binomial":
            y, n = self.data["successes"], self.data["trials"]
            size = 1.0 / self.spread[:, None]
            a, b = special.expit(self.line) * size, special.expit(-self.line) * size
            value = special.betaln(a + y, b + n - y) - special.betaln(a, b)
            return (a + y, b + n - y), value
        y, exposure = self.data["count"], self.data["exposure"]
        shape = 1.0 / self.spread[:, None] + 0.0 * self.line
        rate = shape * np.exp(-self.line)
        value = special.gammaln(shape + y) - special.gammaln(shape) + shape * np.log(rate)
        value -= (shape + y) * np.log(rate + exposure)
        return (shape + y, rate + exposure), value

    def describe(self, limits):
        """Mean, sd and the cdf at limits (J, Q) of each store."""
        (first, second), value = self.laws()
        log_weight = self.log_weight + value.sum(axis=1)
        weight = np.exp(log_weight - log_weight.max())
        edges = [np.delete(weight.reshape(self.size), slice(1, -1), axis) for axis in range(3)]
        assert max(edge.max() for edge in edges) < 1e-3, "the grid is too small"
        weight /= weight.sum()
        if self.name == "beta_binomial":
            law = stats.beta(first, second)
            cdf = special.betainc
        else:
            law = stats.gamma(first, scale=1.0 / second)
            cdf = lambda a, b, x: special.gammainc(a, b * x)  # noqa: E731
        mean = weight @ law.mean()
        sd = np.sqrt(weight @ (law.var() + (law.mean() - mean) ** 2))
        levels = np.stack([weight @ cdf(first, second, q) for q in limits.T], axis=1)
        return mean, sd, levels


def small_counts(name):
    """Few stores of few events, so that nothing about the pool is nearly normal."""
    rng = np.random.default_rng(4)
    stores = 9
    x = np.column_stack([np.ones(stores), np.arange(stores) % 3 == 0]).astype(float)
    n = np.floor(np.exp(rng.uniform(2, 5, stores)))
    if name == "beta_binomial":
        theta = rng.beta(2.0, 18.0, stores)
        return {"successes": rng.binomial(n.astype(int), theta), "trials": n.astype(int)}, x
    return {"count": rng.poisson(rng.gamma(2.0, 0.05, stores) * n), "exposure": n}, x


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])
def test_integrated_counts_agree_with_a_dense_grid(name):
    data, x = small_counts(name)
    found = posterior(fit(name, data, covariates=x), data, uncertainty="integrated", covariates=x)
    centre = {"beta_binomial": (-2.0, 0.0, -3.5), "gamma_poisson": (-2.0, 0.0, -1.5)}[name]
    size = (45, 45, 61)
    grid = Grid(name, data, x, size, centre, (3.0, 4.0, 10.0))
    limits = np.stack([found[f"q{level:g}"] for level in LEVELS], axis=1)
    mean, sd, levels = grid.describe(limits)
    assert found.nodes.pareto_k[0] < 0.7
    assert found.nodes.sampler[0] == "sobol"
    assert found.nodes.ess[0] > 500.0
    assert found.nodes.moved[0] < 0.005
    np.testing.assert_allclose(found["sd"], sd, rtol=0.01)
    assert distance(found["mean"], mean, sd) < 0.005
    # 0.01 sd of a normal law is 0.0006 of probability at its 2.5 % limit. Next to 0, where a
    # store without events has its lower limit, much probability lies in a small fraction of it.
    np.testing.assert_allclose(levels[:, 2], 0.975, atol=0.0006)
    np.testing.assert_allclose(levels[:, 1], 0.5, atol=0.003)
    np.testing.assert_allclose(levels[:, 0], 0.025, atol=0.005)


@pytest.mark.parametrize("name", ["normal", "normal_known_variance"])
def test_integrated_normal_families_agree_with_dense_matrices(name):
    """A grid over τ (and σ) with generalised least squares at every point of it."""
    data, x = DATA[name](3, 9, 2)
    found = posterior(fit(name, data, covariates=x), data, uncertainty="integrated", covariates=x)
    if name == "normal":
        y, n, within = data["mean"], data["n"], data["m2"].sum()
        log_sigma = np.log(np.sqrt(within / (n.sum() - 9))) + np.linspace(-1.5, 1.5, 61)
        median = 1.0 / lower_median(n)
    else:
        y, n = data["estimate"], 1.0 / data["variance"]
        log_sigma = np.zeros(1)
        median = lower_median(data["variance"])
    share = (np.arange(400) + 0.5) / 400
    odds = median * (share / (1.0 - share)) ** 2
    weights, means, variances = [], [], []
    for s in log_sigma:
        sigma_squared = np.exp(2.0 * s)
        for v, a in zip(share, odds, strict=True):
            total = sigma_squared * (a + 1.0 / n)
            information = (x.T / total) @ x
            covariance = np.linalg.inv(information)
            coefficients = covariance @ (x.T @ (y / total))
            residual = y - x @ coefficients
            value = -0.5 * (np.log(total).sum() + (residual**2 / total).sum())
            value += 0.5 * np.linalg.slogdet(covariance)[1]
            if name == "normal":
                value -= (n.sum() - 9) * s + 0.5 * within / sigma_squared
            # p(A) = c/(c + A)² with c = 10 median, and A = median (v/(1 − v))².
            value += -2.0 * np.log(10.0 * median + a) + np.log(2.0 * a / (v * (1.0 - v)))
            shrink = (1.0 / n) / (a + 1.0 / n)
            means.append(y + shrink * (x @ coefficients - y))
            left = np.einsum("jp,pq,jq->j", x, covariance, x)
            variances.append(sigma_squared * a * shrink + shrink**2 * left)
            weights.append(value)
    weight = np.exp(np.array(weights) - max(weights))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    variance = weight @ (np.array(variances) + (np.array(means) - mean) ** 2)
    assert distance(found["mean"], mean, np.sqrt(variance)) < 0.002
    np.testing.assert_allclose(found["sd"], np.sqrt(variance), rtol=0.002)
    sds = np.sqrt(np.array(variances))
    for level in LEVELS:
        reached = weight @ special.ndtr((found[f"q{level:g}"] - np.array(means)) / sds)
        np.testing.assert_allclose(reached, level, atol=0.001)


@every_family
def test_first_order_is_the_integral_where_the_spread_is_known(name):
    data, x = DATA[name](5, 500)
    found = fit(name, data, covariates=x)
    quick = posterior(found, data, covariates=x)
    assert quick.method == "first_order"
    assert quick.nodes.curvature[0] >= 80.0
    slow = posterior(found, data, uncertainty="integrated", covariates=x)
    # 0.08 sd, and the 0.005 to which an integral settles.
    for column in ("mean", "q0.025", "q0.5", "q0.975"):
        assert distance(quick[column], slow[column], slow["sd"]) < 0.085
    np.testing.assert_allclose(quick["sd"], slow["sd"], rtol=0.025)


@cache
def pooled(name, width=3):
    """Three pools of unequal size, with a store without data in each; fitted and integrated."""
    parts, pools = [], []
    for pool, stores in enumerate((9, 20, 14)):
        data, x = DATA[name](pool + 20, stores, width)
        family = get_family(name, covariates=width)
        for item in family.statistics:
            data[item.name] = np.asarray(data[item.name]).copy()
            data[item.name][0] = item.absent
        parts.append({**data, "covariates": x})
        pools.append(np.full(stores, pool))
    together = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    family, pools = get_family(name, covariates=width), np.concatenate(pools)
    fits = fit_pools(family, family.compress(together, pools, 3))
    return family, together, pools, fits, integrate_pools(fits, uncertainty="integrated")


def columns_of(found):
    return {key: values for key, values in vars(found).items() if key != "method"}


@every_family
def test_any_cut_into_shards_or_blocks_gives_the_same_bits(name, monkeypatch):
    family, statistics, pools, fits, nodes = pooled(name)
    nodes = pickle.loads(pickle.dumps(nodes))
    assert set(nodes.method) == {"integrated"}

    def update(rows):
        part = {key: values[rows] for key, values in statistics.items()}
        return columns_of(
            update_pools(
                family,
                nodes,
                fits.hyperparameters,
                part,
                pools[rows],
                quantiles=LEVELS,
                exposure=2.0,
            )
        )

    whole = update(slice(None))
    assert all(np.isfinite(values).all() for values in whole.values())
    assert np.all(np.diff(whole["quantiles"], axis=1) > 0)
    order = np.random.default_rng(0).permutation(len(pools))
    monkeypatch.setattr(sampled_update, "_BLOCK", 1)
    cut = update(order)
    for key, values in whole.items():
        np.testing.assert_array_equal(cut[key], values[order])


@pytest.mark.long
@every_family
def test_a_pool_alone_has_the_posterior_that_it_has_among_others(name):
    family, statistics, pools, fits, together = pooled(name)
    for pool in range(3):
        part = {key: values[pools == pool] for key, values in statistics.items()}
        zeros = np.zeros(int(np.sum(pools == pool)), np.int64)
        alone = fit_pools(family, family.compress(part, zeros, 1))
        one = integrate_pools(alone, uncertainty="integrated")
        results = [
            update_pools(family, n, f.hyperparameters, part, zeros, quantiles=LEVELS)
            for n, f in ((one, alone), (together.select(np.array([pool])), fits.select([pool])))
        ]
        for key, values in columns_of(results[0]).items():
            if values is not None:
                np.testing.assert_array_equal(columns_of(results[1])[key], values, err_msg=key)


@every_family
def test_a_new_store_has_the_law_of_its_covariates(name):
    data, x = DATA[name](6, 40, 2)
    found = fit(name, data, covariates=x)
    family = found.pools.model
    absent = {item.name: np.full(2, item.absent, item.dtype) for item in family.statistics}
    new = np.array([[1.0, 0.0], [1.0, 1.0]])
    law = posterior(found, absent, uncertainty="integrated", covariates=new)
    np.testing.assert_array_equal(law["weight"], 0.0)
    np.testing.assert_allclose(law["mean"], law["prior_mean"], rtol=1e-12)
    line = new @ found.hyperparameters["coefficients"]
    link = {"beta_binomial": special.expit, "gamma_poisson": np.exp}.get(name, np.asarray)
    sd = float(np.max(law["sd"]))
    assert np.all(np.abs(law["q0.5"] - link(line)) < sd)
    assert np.all(law["sd"] > law["sd_plug_in"])


@every_family
@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_cdf_quantiles_and_predictions_belong_together(name, uncertainty):
    data, x = DATA[name](8, 40, 2)
    found = posterior(fit(name, data, covariates=x), data, uncertainty=uncertainty, covariates=x)
    # Limits of many laws go by way of a few, to 0.005 sd; the cdf is that of all of them.
    close = 1e-4 if uncertainty == "integrated" else 1e-8
    np.testing.assert_allclose(found.cdf(found["q0.975"]), 0.975, atol=close)
    np.testing.assert_allclose(found.quantile(0.5), found["q0.5"], rtol=1e-9)
    exposure = 1.0 if name == "normal_known_variance" else 20.0
    future = found.predict(exposure)
    expected = found["mean"] * (20.0 if name in ("beta_binomial", "gamma_poisson") else 1.0)
    np.testing.assert_allclose(future.mean, expected, rtol=0.02)
    assert np.all(future.quantiles[:, 0] <= future.quantiles[:, 2])
    assert np.all(future.sd > 0)
    assert found.covariance.shape == (40,)


@pytest.mark.long
@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])
def test_a_separated_category_has_finite_posteriors_near_the_end(name):
    data, _ = DATA[name](8, 80)
    category = np.arange(80) % 4
    count = "successes" if name == "beta_binomial" else "count"
    data[count] = np.where(category == 0, 0, data[count])
    x = np.column_stack([np.ones(80), *(category == k for k in (1, 2, 3))]).astype(float)
    found = fit(name, data, covariates=x)
    assert found.status == "separated"
    for uncertainty in ("integrated", "first_order"):
        law = posterior(found, data, uncertainty=uncertainty, covariates=x)
        assert all(np.isfinite(values).all() for values in law.values())
        assert np.all(law["sd"] > 0)
        assert np.max(law["mean"][category == 0]) < 0.2 * np.median(law["mean"][category > 0])
    with pytest.raises(FitError, match="grow for ever"):
        posterior(
            fit(name, data, covariates=x, hyperprior={"coefficients": "uniform"}),
            data,
            uncertainty="integrated",
            covariates=x,
        )
    narrow = fit(name, data, covariates=x, hyperprior={"coefficients": "normal(0, 3)"})
    posterior(narrow, data, uncertainty="integrated", covariates=x)


@pytest.mark.long
@every_family
def test_hyperpriors_of_coefficients_pull(name):
    data, x = DATA[name](9, 24, 2)
    plain = posterior(fit(name, data, covariates=x), data, uncertainty="integrated", covariates=x)
    flat = fit(name, data, covariates=x, hyperprior={"coefficients": "uniform"})
    wide = fit(name, data, covariates=x, hyperprior={"coefficients": "normal(0, 1e4)"})
    left, right = (posterior(f, data, uncertainty="integrated", covariates=x) for f in (flat, wide))
    assert distance(left["mean"], right["mean"], left["sd"]) < 0.01
    spec = {"coefficients": ["uniform", "normal(9, 1e-3)"]}
    pulled = posterior(
        fit(name, data, covariates=x, hyperprior=spec),
        data,
        uncertainty="integrated",
        covariates=x,
    )
    slopes = pulled.nodes.pools[0].values["coefficients"][:, 1]
    np.testing.assert_allclose(slopes, 9.0, atol=0.05)
    assert distance(pulled["prior_mean"], plain["prior_mean"], plain["sd"]) > 0.1


@every_family
def test_held_coefficients_leave_the_spread_to_integrate(name):
    data, x = DATA[name](10, 30, 2)
    free = fit(name, data, covariates=x)
    coefficients = free.hyperparameters["coefficients"]
    held = fit(name, data, covariates=x, fixed={"coefficients": coefficients})
    law = posterior(held, data, uncertainty="integrated", covariates=x)
    line = x @ coefficients
    link = {"beta_binomial": special.expit, "gamma_poisson": np.exp}.get(name, np.asarray)
    np.testing.assert_allclose(law["prior_mean"], link(line), rtol=1e-9)
    wider = posterior(free, data, uncertainty="integrated", covariates=x)
    assert np.mean(wider["sd"]) > np.mean(law["sd"])
    spread = free.pools.model.hyperparameters[1]
    known = fit(name, data, covariates=x, fixed={spread: free.hyperparameters[spread]})
    law = posterior(known, data, uncertainty="integrated", covariates=x)
    values = law.nodes.pools[0].values
    np.testing.assert_allclose(np.ptp(np.log(values["spread"] * values["noise"])), 0.0, atol=1e-9)
    everything = {"coefficients": coefficients} | {
        n: free.hyperparameters[n] for n in free.pools.model.hyperparameters[1:]
    }
    fixed = fit(name, data, covariates=x, fixed=everything)
    assert posterior(fixed, data, covariates=x).method == "plug_in"


def test_pools_that_say_nothing_are_unidentified():
    family = get_family("normal_known_variance", covariates=2)
    x = np.column_stack([np.ones(6), [0.0, 1.0, 2.0, 5.0, 5.0, 5.0]])
    statistics = {
        "estimate": np.arange(6.0),
        "variance": np.full(6, 1.0),
        "covariates": x,
    }
    fits = fit_pools(family, family.compress(statistics, np.repeat([0, 1], 3), 2))
    assert fits.status == ("ok", "collinear") or fits.status == ("no_spread", "collinear")
    nodes = integrate_pools(fits)
    assert nodes.method.tolist() == ["integrated", "unidentified"]
    spec = {"coefficients": "normal(0, 10)"}
    fits = fit_pools(family, fits.sketch, hyperprior=spec)
    assert integrate_pools(fits).method.tolist() == ["integrated", "integrated"]


def test_improper_spreads_are_refused_with_covariates_too():
    data, x = DATA["normal_known_variance"](11, 4, 3)
    found = fit("normal_known_variance", data, covariates=x, hyperprior={"tau": "uniform"})
    with pytest.raises(FitError, match="improper posterior"):
        posterior(found, data, uncertainty="integrated", covariates=x)
    data, x = DATA["normal_known_variance"](11, 9, 3)
    found = fit("normal_known_variance", data, covariates=x, hyperprior={"tau": "uniform"})
    posterior(found, data, uncertainty="integrated", covariates=x)


def test_covariates_of_posteriors_are_checked_at_the_door():
    data, x = DATA["normal"](12, 20, 2)
    plain, found = fit("normal", data), fit("normal", data, covariates=x)
    with pytest.raises(FitError, match="the fit has none"):
        posterior(plain, data, covariates=x)
    with pytest.raises(StatisticsError, match="there are no covariates"):
        posterior(found, data)
    with pytest.raises(StatisticsError, match="shape"):
        posterior(found, data, covariates=x[:, :1])
    with pytest.raises(FitError, match="no uncertainty 'bayes'"):
        posterior(found, data, covariates=x, uncertainty="bayes")
