"""Effects of stores and their sampling variances, against metafor, by symmetry and by coverage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import hbpipe
from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.experiment.arms import side_by_side
from hbpipe.model.experiment.effects import add_arms, effects, effects_by_arm, sum_arms
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.nested.levels import GroupMeans
from hbpipe.model.update.pools import update_pools

GOLDEN = Path(__file__).parents[2] / "golden" / "experiments"
TRUTH = json.loads((GOLDEN / "truth.json").read_text())
EFFECT = get_family("normal_known_variance")

Arm = dict[str, Any]


def golden(name: str) -> tuple[str, Arm, Arm]:
    """The family, control and treatment of a data set."""
    table = np.genfromtxt(GOLDEN / f"{name}.csv", delimiter=",", names=True)
    if name == "bcg":
        arms = [
            {"successes": table[f"{arm}pos"], "trials": table[f"{arm}pos"] + table[f"{arm}neg"]}
            for arm in "ct"
        ]
        return "beta_binomial", *arms
    arms = [
        {
            "n": table[f"n{arm}i"],
            "mean": table[f"m{arm}i"],
            "m2": (table[f"n{arm}i"] - 1) * table[f"sd{arm}i"] ** 2,
        }
        for arm in "21"
    ]
    return "normal", *arms


def rates(rng: np.random.Generator, stores: int, **options: Any) -> tuple[Arm, Arm, Any]:
    """Two arms of stores with rates from a Beta law, and their true effects."""
    p, c, mu, tau = (options[name] for name in ("p", "c", "mu", "tau"))
    base = rng.beta(p * c, (1 - p) * c, stores)
    treated = np.clip(base + rng.normal(mu, tau, stores), 0.0, 1.0)
    n = [rng.integers(0, 2 * options[arm] + 1, stores) for arm in ("control", "treatment")]
    arms = [
        {"successes": rng.binomial(size, rate), "trials": size}
        for size, rate in zip(n, (base, treated), strict=True)
    ]
    return *arms, treated - base


def money(rng: np.random.Generator, stores: int, **options: Any) -> tuple[Arm, Arm, Any]:
    """Two arms of stores with values whose variances differ; skewed ones are lognormal."""
    sigma = 10.0 * np.sqrt(options["d0"] / rng.chisquare(options["d0"], stores))
    base = rng.normal(50.0, 10.0, stores)
    theta, arms = rng.normal(options["mu"], options["tau"], stores), []
    for name, centre in (("control", base), ("treatment", base + theta)):
        own = np.repeat(np.arange(stores), rng.integers(0, 2 * options[name] + 1, stores))
        noise = rng.normal(size=len(own))
        if options.get("skewed"):
            noise = (np.exp(noise) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
        values = centre[own] + sigma[own] * noise
        arms.append(get_family("normal").summarise({"value": values}, own, stores))
    return *arms, theta


# --- against metafor ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bcg", "stay"])
def test_estimates_are_the_plain_differences(name: str) -> None:
    found = effects(*golden(name))
    np.testing.assert_allclose(found["estimate"], TRUTH[name]["estimate"], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("estimator", ["ml", "reml"])
@pytest.mark.parametrize("name", ["bcg", "stay"])
def test_given_effects_and_variances_the_fit_is_that_of_metafor(name: str, estimator: str) -> None:
    expected, given = TRUTH[name][estimator], TRUTH[name]
    statistics = {key: np.array(given[key]) for key in ("estimate", "variance")}
    fit = hbpipe.fit("normal_known_variance", statistics, estimator=estimator)
    tolerance, stores = TRUTH["tolerances"], len(given["estimate"])
    likelihood = fit.log_marginal_likelihood
    if estimator == "reml":
        likelihood += 0.5 * np.log(stores)  # metafor's convention
    assert fit.hyperparameters["mu"] == pytest.approx(expected["mu"], rel=tolerance["mu"])
    assert fit.hyperparameters["tau"] ** 2 == pytest.approx(
        expected["tau_squared"], rel=tolerance["tau_squared"]
    )
    assert likelihood == pytest.approx(expected["log_likelihood"], abs=tolerance["log_likelihood"])
    total = statistics["variance"] + fit.hyperparameters["tau"] ** 2
    assert np.sum(1 / total) ** -0.5 == pytest.approx(expected["se"], rel=tolerance["se"])


def test_variances_of_large_trials_are_nearly_those_of_metafor() -> None:
    """They differ by design: arms of a trial are taken to differ as those of all trials do.

    Trial 7 found the least relative risk of all, 0.2, in a small control arm.
    """
    ratio = effects(*golden("bcg"))["variance"] / TRUTH["bcg"]["variance"]
    assert 0.4 < ratio[6] < 0.6
    others = np.delete(ratio, 6)
    assert np.all((others > 0.85) & (others < 1.2))
    ratio = effects(*golden("stay"))["variance"] / TRUTH["stay"]["variance"]
    assert np.all((ratio > 0.3) & (ratio < 4.0))


# --- what variances do --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("draw", [rates, money])
def test_swapping_the_arms_changes_the_sign_and_nothing_else(draw: Any, seed: int) -> None:
    options = {"p": 0.03, "c": 50, "d0": 5, "mu": 0.01, "tau": 0.01, "control": 9, "treatment": 4}
    one, other, _ = draw(np.random.default_rng(seed), 40, **options)
    family = "normal" if draw is money else "beta_binomial"
    there, back = effects(family, one, other), effects(family, other, one)
    np.testing.assert_array_equal(there["estimate"], -back["estimate"])
    np.testing.assert_allclose(there["variance"], back["variance"], rtol=1e-13)


def test_an_arm_without_conversions_takes_its_variance_from_the_chain() -> None:
    control = {"successes": [0, 9, 4, 0, 7], "trials": [40, 200, 90, 10, 150]}
    treatment = {"successes": [0, 12, 3, 2, 9], "trials": [50, 210, 80, 12, 160]}
    found = effects("beta_binomial", control, treatment)
    assert found["estimate"][0] == 0.0
    rate = 46 / 1002
    plain = rate * (1 - rate) * (1 / 40 + 1 / 50)
    assert found["variance"][0] == pytest.approx(plain, rel=0.1)


def test_equal_stores_have_the_variance_of_the_chain() -> None:
    """Where stores are alike, each arm has the chain's rate: the textbook's pooled variance."""
    n = np.array([100, 300, 50])
    arm = {"successes": n // 10, "trials": n}
    other = {"successes": n // 5, "trials": n}
    found = effects("beta_binomial", arm, other)
    p, q = (45 + 0.5) / 451, (90 + 0.5) / 451
    np.testing.assert_allclose(found["variance"], (p * (1 - p) + q * (1 - q)) / n, rtol=2e-2)


@pytest.mark.parametrize("successes", [0, 1])
def test_a_chain_without_a_conversion_or_a_failure_has_variances(successes: int) -> None:
    n = np.array([20, 30, 5])
    arm = {"successes": successes * n, "trials": n}
    found = effects("beta_binomial", arm, arm)
    assert np.all(np.isfinite(found["variance"]) & (found["variance"] > 0))


def test_means_of_one_value_have_the_expected_variance_of_the_chain() -> None:
    rng = np.random.default_rng(4)
    control, treatment, _ = money(rng, 400, d0=6, mu=0, tau=0, control=4, treatment=4)
    found = effects("normal", control, treatment)["variance"]
    single = (control["n"] == 1) & (treatment["n"] == 1)
    assert single.sum() > 2
    expected = 100.0 * 6 / (6 - 2)  # E σ² under the law that drew it
    np.testing.assert_allclose(found[single], 2 * expected, rtol=0.35)


def test_shrunk_variances_are_the_posterior_mean_of_the_variance() -> None:
    rng = np.random.default_rng(5)
    control, treatment, _ = money(rng, 300, d0=8, mu=0, tau=0, control=6, treatment=6)
    sums = sum_arms("normal", side_by_side(control, treatment), np.zeros(300, np.int64), 1)
    scale: Any = sums.scale()
    d0, s0 = float(scale.d0[0]), float(scale.s0_squared[0])
    squares = control["m2"] + treatment["m2"]
    degrees = np.maximum(control["n"] - 1, 0) + np.maximum(treatment["n"] - 1, 0)
    some = degrees > 0
    e = np.log(squares[some] / degrees[some])
    e += np.log(degrees[some] / 2) - special.digamma(degrees[some] / 2)
    spread = e.var(ddof=1) - np.mean(special.polygamma(1, degrees[some] / 2))
    assert special.polygamma(1, d0 / 2) == pytest.approx(spread, rel=1e-9)
    log_s0 = e.mean() + special.digamma(d0 / 2) - np.log(d0 / 2)
    assert np.log(s0) == pytest.approx(log_s0, rel=1e-9)


def test_a_store_without_an_arm_and_values_that_are_all_alike_have_no_effect() -> None:
    control = {"successes": [3, 0], "trials": [10, 0]}
    found = effects("beta_binomial", control, {"successes": [2, 1], "trials": [9, 8]})
    assert found["estimate"][1] == 0.0
    assert np.isinf(found["variance"][1])
    alike = {"n": [3, 4], "mean": [0.1, 0.1], "m2": [1e-34, 0.0]}
    assert np.isinf(effects("normal", alike, alike)["variance"]).all()


@pytest.mark.parametrize("draw", [rates, money])
def test_pools_are_apart_and_shards_add_up(draw: Any) -> None:
    options = {"p": 0.1, "c": 20, "d0": 5, "mu": 0.01, "tau": 0.01, "control": 9, "treatment": 9}
    family = "normal" if draw is money else "beta_binomial"
    control, treatment, _ = draw(np.random.default_rng(7), 60, **options)
    pools = np.arange(60) % 3
    together = effects(family, control, treatment, pools=pools)
    for pool in range(3):
        mine = pools == pool
        own = ({k: v[mine] for k, v in arm.items()} for arm in (control, treatment))
        for key, values in effects(family, *own).items():
            np.testing.assert_allclose(together[key][mine], values, rtol=1e-9)
    both = side_by_side(control, treatment)
    parts = [
        sum_arms(family, {k: v[some] for k, v in both.items()}, pools[some], 3)
        for some in (slice(0, 25), slice(25, None))
    ]
    again = effects_by_arm(family, both, add_arms(family, parts).scale(), pools)
    np.testing.assert_allclose(again["variance"], together["variance"], rtol=1e-9)


def test_faults_are_told() -> None:
    arm = {"successes": [1], "trials": [2]}
    with pytest.raises(FitError, match="effects of 'gamma_poisson' are not defined"):
        effects("gamma_poisson", {"count": [1]}, {"count": [1]})
    with pytest.raises(StatisticsError, match="control has 1 stores, treatment 2"):
        effects("beta_binomial", arm, {"successes": [1, 1], "trials": [2, 2]})
    with pytest.raises(StatisticsError, match="pools is of type float64"):
        effects("beta_binomial", arm, arm, pools=[0.0])
    with pytest.raises(StatisticsError, match="more than trials"):
        effects("beta_binomial", arm, {"successes": [3], "trials": [2]})


# --- coverage -----------------------------------------------------------------------------------

#: Rates are rare, arms are unequal, and most stores have an arm without conversions.
CELLS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "rare": (rates, 100, {"p": 0.005, "c": 100, "mu": 0.002, "tau": 0.002, "n": (50, 50)}),
    "unequal": (rates, 100, {"p": 0.02, "c": 20, "mu": 0.0, "tau": 0.0, "n": (90, 10)}),
    "many stores": (rates, 500, {"p": 0.05, "c": 300, "mu": 0.02, "tau": 0.005, "n": (90, 10)}),
    "usual": (rates, 50, {"p": 0.3, "c": 10, "mu": 0.02, "tau": 0.05, "n": (200, 200)}),
    "few values": (money, 100, {"d0": 5, "mu": 0.0, "tau": 3.0, "n": (2, 2)}),
    "skewed": (money, 100, {"d0": 5, "mu": 1.0, "tau": 2.0, "n": (40, 4), "skewed": True}),
}


@pytest.mark.parametrize("cell", CELLS)
def test_intervals_cover(cell: str) -> None:
    """Nominal 95 % intervals of stores' effects and of μ cover in 0.92 and more of 100 chains."""
    draw, stores, options = CELLS[cell]
    chains, (n_control, n_treatment) = 100, options["n"]
    options = {**options, "control": n_control, "treatment": n_treatment}
    control, treatment, theta = draw(np.random.default_rng(11), stores * chains, **options)
    pools = np.repeat(np.arange(chains), stores)
    family = "normal" if draw is money else "beta_binomial"
    found = effects(family, control, treatment, pools=pools)
    fits = fit_pools(EFFECT, EFFECT.compress(found, pools, chains))
    nodes, levels = integrate_pools(fits), (0.025, 0.975)
    means = GroupMeans(nodes, levels)
    of_mean = (means["q0.025"] <= options["mu"]) & (options["mu"] <= means["q0.975"])
    stores_found = update_pools(
        EFFECT, nodes, fits.hyperparameters, found, pools, quantiles=levels
    ).quantiles
    inside = (stores_found[:, 0] <= theta) & (theta <= stores_found[:, 1])
    assert inside.mean() >= 0.92
    # 100 chains of 0.95 have 0.92 or less in one of ten tries; the seed is one of the others.
    assert of_mean.mean() >= 0.92
