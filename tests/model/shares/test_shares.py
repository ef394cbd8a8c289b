"""Fits and posteriors of shares: against the Beta-Binomial, VGAM and brute force."""

import numpy as np
import pytest
from golden_cases import rats, truth
from scipy import special, stats

import hbpipe
from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.posterior import integrate_pools, update_pools
from hbpipe.model.update.signs import false_sign_rates

NAME = "dirichlet_multinomial"


def counts_of(size, stores, concentration, most=40, seed=1):
    rng = np.random.default_rng(seed)
    theta = rng.dirichlet(concentration * rng.dirichlet(np.full(size, 2.0)), stores)
    return rng.multinomial(rng.integers(1, most, stores), theta)


def as_rates(counts):
    return {"successes": counts[:, 0], "trials": counts.sum(axis=1)}


# --- two classes --------------------------------------------------------------------------------


def test_two_classes_are_fitted_as_vgam_fits_them():
    """R package VGAM, ``betabinomialff``, on the tumours of rats."""
    arrays, answer = rats(), truth("rat_tumours")
    y, n = arrays["successes"], arrays["trials"]
    found = hbpipe.fit(NAME, {"counts": np.column_stack([y, n - y])})
    vgam = answer["crosscheck_ml2"]["VGAM_betabinomialff"]
    np.testing.assert_allclose(
        found.hyperparameters["alpha"], [vgam["alpha"], vgam["beta"]], rtol=1e-4
    )
    assert found.log_marginal_likelihood == pytest.approx(answer["ml2"]["loglik"], abs=1e-6)


@pytest.mark.parametrize(
    ("uncertainty", "slack"),
    [("plug_in", 1e-6), ("first_order", 0.06), ("integrated", 0.04), ("auto", 0.04)],
)
@pytest.mark.parametrize(("stores", "concentration"), [(10, 20.0), (8, 1e9), (100, 10.0)])
def test_two_classes_have_the_posteriors_of_the_beta_binomial(
    uncertainty, slack, stores, concentration
):
    """There the mean is integrated exactly, here by Laplace's method, and moments are matched."""
    counts = counts_of(2, stores, concentration)
    left = hbpipe.posterior(
        hbpipe.fit(NAME, {"counts": counts}), {"counts": counts}, uncertainty=uncertainty
    )
    rates = as_rates(counts)
    right = hbpipe.posterior(hbpipe.fit("beta_binomial", rates), rates, uncertainty=uncertainty)
    assert left.method == right.method
    unit = np.maximum(right["sd"], 1e-12)
    for name in ("mean", "sd", "q0.025", "q0.5", "q0.975"):
        assert np.max(np.abs(left[name][:, 0] - right[name]) / unit) < slack, name
    np.testing.assert_allclose(left["mean"].sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(left["sd"][:, 0], left["sd"][:, 1], rtol=1e-6)
    for name in ("no_pooling", "no_pooling_sd", "complete_pooling", "complete_pooling_sd"):
        np.testing.assert_allclose(left[name][:, 0], right[name], rtol=1e-5)


def test_predictions_are_those_of_the_beta_binomial():
    counts = counts_of(2, 30, 20.0)
    rates, ahead = as_rates(counts), np.arange(30.0)
    left = hbpipe.posterior(hbpipe.fit(NAME, {"counts": counts}), {"counts": counts})
    right = hbpipe.posterior(hbpipe.fit("beta_binomial", rates), rates)
    found, expected = left.predict(ahead), right.predict(ahead)
    assert found.quantiles.shape == (30, 2, 3)
    np.testing.assert_allclose(found.mean[:, 0], expected.mean, rtol=5e-3, atol=1e-12)
    np.testing.assert_allclose(found.sd[:, 0], expected.sd, rtol=5e-3, atol=1e-12)
    assert np.mean(found.quantiles[:, 0] == expected.quantiles) > 0.95


@pytest.mark.parametrize("uncertainty", ["first_order", "integrated"])
def test_signs_and_ranks_are_those_of_the_beta_binomial(uncertainty):
    counts = counts_of(2, 30, 20.0)
    pools = np.zeros(30, int)
    rates = as_rates(counts)
    found = []
    for name, arrays in ((NAME, {"counts": counts}), ("beta_binomial", rates)):
        fit = hbpipe.fit(name, arrays)
        nodes = integrate_pools(fit.pools, uncertainty=uncertainty)
        signs = false_sign_rates(fit.pools.model, nodes, arrays, pools)
        rank = hbpipe.posterior(fit, arrays, uncertainty=uncertainty).rank()
        found.append((signs, rank["expected_percentile"], rank["p_top_10"]))
    for left, right in zip(*found, strict=True):
        np.testing.assert_allclose(left[:, 0], right, atol=0.01)


# --- three classes and more ---------------------------------------------------------------------


def brute_force(counts, draws=2**15):
    """Posterior means and sds of the stores' shares, by importance sampling of (mean, M) alone.

    The density is written down anew: Γ functions, Dirichlet(½), (1/s)/(1/s + M)².
    """
    n = counts.sum(axis=1)
    fit = hbpipe.fit(NAME, {"counts": counts})
    known = fit.hyperparameters["concentration"]
    # Shares around the pooled ones, as exact as so many independent events; a wide law of log M.
    shape = 0.5 + counts.sum(axis=0) / (1.0 + n.mean() / known)
    mean = np.random.default_rng(5).dirichlet(shape, draws)
    line = stats.t(4.0, np.log(known), 0.8)
    log_m = line.ppf((np.random.default_rng(6).permutation(draws) + 0.5) / draws)
    alpha = mean * np.exp(log_m)[:, None]
    whole = np.exp(log_m)
    log = np.zeros(draws)
    for row, total in zip(counts, n, strict=True):
        log += special.gammaln(whole) - special.gammaln(whole + total)
        log += np.sum(special.gammaln(alpha + row) - special.gammaln(alpha), axis=1)
    scale = np.sort(n)[(len(n) - 1) // 2] / 10.0
    log += -0.5 * np.sum(np.log(mean), axis=1) - 2.0 * np.log(scale + whole) + log_m
    log -= stats.dirichlet.logpdf(mean.T, shape) + line.logpdf(log_m)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    assert 1.0 / np.sum(weight**2) > 2000.0
    at = alpha[:, None, :] + counts
    share = at / at.sum(axis=2, keepdims=True)
    centre = np.einsum("s,sjk->jk", weight, share)
    within = share * (1 - share) / (at.sum(axis=2, keepdims=True) + 1.0)
    second = np.einsum("s,sjk->jk", weight, within + (share - centre) ** 2)
    first, second_share = share[:, :, 0], share[:, :, 1]
    product = first * second_share * (1.0 - 1.0 / (at.sum(axis=2) + 1.0))
    between = np.einsum("s,sj->j", weight, product) - centre[:, 0] * centre[:, 1]
    return centre, np.sqrt(second), between


@pytest.mark.parametrize(("size", "stores"), [(3, 12), (5, 25)])
def test_posteriors_are_those_of_brute_force(size, stores):
    counts = counts_of(size, stores, 15.0, seed=4)
    found = hbpipe.posterior(
        hbpipe.fit(NAME, {"counts": counts}), {"counts": counts}, uncertainty="integrated"
    )
    mean, sd, covariance = brute_force(counts)
    assert np.max(np.abs(found["mean"] - mean) / sd) < 0.05
    np.testing.assert_allclose(found["sd"], sd, rtol=0.03)
    matrix = found.covariance
    scale = sd[:, 0] * sd[:, 1]
    assert np.max(np.abs(matrix[:, 0, 1] - covariance) / scale) < 0.04
    # Shares add up to one, so each row of a covariance adds up to next to nothing.
    assert np.max(np.abs(matrix.sum(axis=2)) / np.square(sd)) < 0.1


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "stores", "concentration", "plug_in"), [(4, 10, 20.0, 0.9), (6, 25, 300.0, 0.9)]
)
def test_intervals_cover(size, stores, concentration, plug_in):
    """Nominal 95 % intervals, over simulated pools; those of known hyperparameters do not."""
    rng = np.random.default_rng(8)
    inside = {"plug_in": [], "auto": []}
    for _ in range(12):
        theta = rng.dirichlet(concentration * rng.dirichlet(np.full(size, 2.0)), stores)
        counts = rng.multinomial(rng.integers(5, 50, stores), theta)
        fit = hbpipe.fit(NAME, {"counts": counts})
        for method, covered in inside.items():
            found = hbpipe.posterior(fit, {"counts": counts}, uncertainty=method)
            covered.append(np.mean((found["q0.025"] <= theta) & (theta <= found["q0.975"])))
    assert np.mean(inside["auto"]) >= 0.92
    assert np.mean(inside["plug_in"]) < plug_in


def test_hundreds_of_classes_are_fitted_and_updated():
    counts = counts_of(200, 150, 80.0, most=900)
    fit = hbpipe.fit(NAME, {"counts": counts})
    assert fit.converged
    assert fit.hyperparameters["concentration"] == pytest.approx(80.0, rel=0.1)
    found = hbpipe.posterior(fit, {"counts": counts})
    np.testing.assert_allclose(found["mean"].sum(axis=1), 1.0, rtol=1e-9)
    assert np.all(found["sd"] > 0.0)


# --- what data cannot tell ----------------------------------------------------------------------


def test_no_spread_is_an_ordinary_point():
    counts = np.tile([6, 3, 1], (20, 1))
    fit = hbpipe.fit(NAME, {"counts": counts})
    assert (fit.status, fit.boundary) == ("no_spread", True)
    assert fit.at_bound == ("concentration",)
    np.testing.assert_allclose(fit.hyperparameters["mean"], [0.6, 0.3, 0.1], rtol=1e-8)
    assert np.isfinite(fit.hyperparameters["alpha"]).all()
    found = hbpipe.posterior(fit, {"counts": counts})
    assert found.method == "integrated"
    assert np.all(found["q0.975"] - found["q0.025"] > 0.01)


@pytest.mark.parametrize("empty", [0, 2])
def test_a_class_that_was_never_seen_changes_nothing_for_the_others(empty):
    counts = counts_of(3, 25, 12.0)
    with_it = np.insert(counts, empty if empty == 0 else 3, 0, axis=1)
    others = [k for k in range(4) if k != (empty if empty == 0 else 3)]
    fit, expected = (hbpipe.fit(NAME, {"counts": table}) for table in (with_it, counts))
    assert fit.status == "empty_classes"
    np.testing.assert_allclose(
        fit.hyperparameters["alpha"][others], expected.hyperparameters["alpha"], rtol=1e-5
    )
    assert fit.log_marginal_likelihood == pytest.approx(expected.log_marginal_likelihood, abs=1e-6)
    found = hbpipe.posterior(fit, {"counts": with_it})
    never = next(k for k in range(4) if k not in others)
    # Not seen in some hundreds of events: a small share, and an interval that says how small.
    assert np.all(found["mean"][:, never] > 1e-4)
    assert np.all(found["q0.975"][:, never] < 0.1)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ([[3, 0, 0], [5, 0, 0]], "one_class"),
        ([[3, 2, 1], [0, 0, 0]], "one_store"),
        ([[3, 2, 0], [4, 1, 0], [1, 6, 0]], "empty_classes"),
    ],
)
def test_thin_data_have_a_word_and_a_posterior(counts, status):
    fit = hbpipe.fit(NAME, {"counts": counts})
    assert fit.status == status
    found = hbpipe.posterior(fit, {"counts": counts})
    assert found.method == "integrated"
    assert np.all(found["q0.025"] < found["q0.975"])


def test_one_event_per_store_says_nothing_of_the_spread():
    counts = np.eye(3, dtype=int)[[0, 1, 1, 2]]
    with pytest.raises(FitError, match="no store has more than one event"):
        hbpipe.fit(NAME, {"counts": counts})
    held = hbpipe.fit(NAME, {"counts": counts}, fixed={"concentration": 10.0})
    np.testing.assert_allclose(held.hyperparameters["mean"], [0.25, 0.5, 0.25], rtol=1e-8)
    prior = {"concentration": "gamma(2, 0.1)"}
    mapped = hbpipe.fit(NAME, {"counts": counts}, estimator="map", hyperprior=prior)
    assert 1.0 < mapped.hyperparameters["concentration"] < 1e6


def test_held_values_stay():
    counts = counts_of(3, 20, 12.0)
    mean = [0.5, 0.3, 0.2]
    fit = hbpipe.fit(NAME, {"counts": counts}, fixed={"mean": mean})
    np.testing.assert_allclose(fit.hyperparameters["mean"], mean)
    found = hbpipe.posterior(fit, {"counts": counts}, uncertainty="integrated")
    np.testing.assert_allclose(found["prior_mean"], np.tile(mean, (20, 1)))
    known = hbpipe.fit(NAME, {"counts": counts}, fixed={"alpha": [5.0, 3.0, 2.0]})
    assert known.status == "fixed"
    at = counts + np.array([5.0, 3.0, 2.0])
    exact = stats.beta(at[:, 0], at[:, 1:].sum(axis=1))
    posterior = hbpipe.posterior(known, {"counts": counts})
    np.testing.assert_allclose(posterior["q0.025"][:, 0], exact.ppf(0.025), rtol=1e-8)


# --- hyperpriors, and what is refused -----------------------------------------------------------


def test_map_is_the_mode_of_likelihood_times_density():
    counts = counts_of(3, 15, 12.0)
    spec = {"mean": "dirichlet(2)", "concentration": "gamma(3, 0.2)"}
    fit = hbpipe.fit(NAME, {"counts": counts}, estimator="map", hyperprior=spec)

    def objective(at):
        family = get_family(NAME, 3)
        sketch = family.compress({"counts": counts}, np.zeros(15, int), 1)
        named = family.from_coordinates(at)
        prior = stats.dirichlet.logpdf(named["mean"], [2.0, 2.0, 2.0])
        prior += stats.gamma.logpdf(named["concentration"], 3.0, scale=5.0)
        return family.log_marginal(sketch, at[None])[0][0] + prior

    best = objective(fit.pools.coordinates[0])
    for axis in range(3):
        for step in (-1e-3, 1e-3):
            moved = fit.pools.coordinates[0].copy()
            moved[axis] += step
            assert objective(moved) < best


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"means": "uniform"}, "did you mean 'mean'"),
        ({"mean": "beta(1, 1)"}, "dirichlet"),
        ({"concentration": "gama(1, 1)"}, "did you mean 'gamma'"),
        ({"concentration": "uniform"}, "improper"),
        ("bda3", "uniform_shrinkage"),
    ],
)
def test_hyperpriors_that_do_not_fit_are_refused(spec, message):
    counts = counts_of(3, 15, 12.0)

    def integrated():
        fit = hbpipe.fit(NAME, {"counts": counts}, hyperprior=spec)
        return hbpipe.posterior(fit, {"counts": counts}, uncertainty="integrated")

    with pytest.raises(FitError, match=message):
        integrated()


def test_a_stated_hyperprior_moves_the_posterior():
    counts = counts_of(4, 10, 12.0)
    tight = {"mean": "dirichlet(500)", "concentration": "gamma(400, 1)"}
    found = hbpipe.posterior(
        hbpipe.fit(NAME, {"counts": counts}, hyperprior=tight), {"counts": counts}
    )
    assert np.max(np.abs(found["prior_mean"] - 0.25)) < 0.05
    assert np.all(found["weight"] < 0.2)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"counts": [3, 4]}, "shape"),
        ({"count": [[3, 4]]}, "did you mean 'counts'"),
        ({"counts": [[3, -1]]}, "impossible"),
        ({"counts": [[3.5, 1.0]]}, "not whole"),
    ],
)
def test_impossible_counts_are_refused(statistics, message):
    with pytest.raises(StatisticsError, match=message):
        hbpipe.fit(NAME, statistics)


def test_one_class_is_no_mix():
    with pytest.raises(FitError, match="the share of a single one is 1"):
        hbpipe.fit(NAME, {"counts": [[3], [4]]})


# --- many pools ---------------------------------------------------------------------------------


def test_blocks_and_other_pools_leave_every_bit_alone(monkeypatch):
    from hbpipe.model.update import sampled_update

    family, counts = get_family(NAME, 4), counts_of(4, 60, 10.0)
    codes = np.arange(60) % 3
    fits = fit_pools(family, family.compress({"counts": counts}, codes, 3))
    nodes = integrate_pools(fits, uncertainty="integrated")

    def update(rows):
        part = {"counts": counts[rows]}
        return update_pools(
            family, nodes, fits.hyperparameters, part, codes[rows], quantiles=(0.05, 0.95)
        )

    whole = update(np.arange(60))
    monkeypatch.setattr(sampled_update, "_BLOCK", 300)
    cut = [update(rows) for rows in np.array_split(np.arange(60), 7)]
    for column in ("mean", "sd", "sd_plug_in", "quantiles", "weight"):
        together = np.concatenate([getattr(part, column) for part in cut])
        np.testing.assert_array_equal(getattr(whole, column), together)
