"""Posteriors against the reference answers: full Bayes by exact quadrature, and plug-in."""

import numpy as np
import pytest
from golden_cases import (
    FULL_BAYES,
    NORMAL,
    batting,
    batting_averages,
    dyestuff,
    eight_schools,
    pumps,
    rats,
    truth,
)

from hbpipe.model.fit import fit
from hbpipe.model.posterior import posterior

#: Name of a column here -> in the truth files.
COLUMNS = {"mean": "mean", "sd": "sd", "q0.025": "q025", "q0.975": "q975"}


def errors_in_sd(found, groups):
    """Largest error of mean, sd and 95 % limits, in posterior sd."""
    sd = np.array(groups["sd"])
    return max(np.max(np.abs(found[a] - np.array(groups[b])) / sd) for a, b in COLUMNS.items())


@pytest.mark.parametrize(("case", "family", "data", "entry", "hyperprior"), FULL_BAYES)
def test_integrated_posterior_is_full_bayes(case, family, data, entry, hyperprior):
    # The truth files allow 0.2 % of the posterior sd or more (0.5 % of the interval's width for
    # counts, 1 % of the sd for dyestuff); the quadrature is asked for the tightest everywhere.
    stores = data()
    found = posterior(fit(family, stores, hyperprior=hyperprior), stores, uncertainty="integrated")
    expected = truth(case)["full_bayes"][entry]["groups"]
    assert found.method == "integrated"
    assert errors_in_sd(found, expected.get("theta", expected)) < 0.002


def test_beta_binomial_version_of_the_batting_averages_is_full_bayes():
    section = truth("efron_morris_1975")["beta_binomial_version"]
    stores = batting_averages()
    found = posterior(fit("beta_binomial", stores, hyperprior="bda3"), stores)
    entry = section["full_bayes"]
    entry = entry[0] if isinstance(entry, list) else entry
    assert errors_in_sd(found, entry["groups"]) < 0.01


@pytest.mark.parametrize("name", ["worked_3", "exercise_hard"])
def test_lesson_full_bayes_under_half_normal(name):
    item = next(item for item in truth("lesson")["items"] if item["id"] == name)
    inputs = item["inputs"]
    stores = {
        "estimate": np.array(inputs["ybar"], float),
        "variance": inputs["sigma2"] / np.array(inputs["n"], float),
    }
    fitted = fit(NORMAL, stores, hyperprior={"tau": "half_normal(1)"})
    found = posterior(fitted, stores, uncertainty="integrated")
    expected = item["expected"]["full_bayes_halfnormal_1"]["groups"]
    assert errors_in_sd(found, expected) < 0.002


PLUG_IN = [
    ("eight_schools", NORMAL, eight_schools, "ml", "eb_plugin", 1e-6),
    ("efron_morris_1975", NORMAL, batting, "ml", "eb_plugin", 1e-6),
    ("efron_morris_1975", NORMAL, batting, "reml", "eb_plugin_reml", 1e-6),
    ("rat_tumours", "beta_binomial", rats, "ml", "eb_plugin", 1e-6),
    ("pumps", "gamma_poisson", pumps, "ml", "eb_plugin", 1e-6),
    ("dyestuff", "normal", dyestuff, "ml", "eb_plugin", 1e-6),
    ("dyestuff", "normal", dyestuff, "reml", "eb_plugin_reml", 1e-6),
]


@pytest.mark.parametrize(("case", "family", "data", "estimator", "key", "tolerance"), PLUG_IN)
def test_plug_in_posterior(case, family, data, estimator, key, tolerance):
    stores = data()
    found = posterior(fit(family, stores, estimator=estimator), stores, uncertainty="plug_in")
    groups = truth(case)[key]["groups"]
    groups = groups.get("theta", groups)
    for mine, theirs in COLUMNS.items():
        np.testing.assert_allclose(found[mine], groups[theirs], rtol=tolerance, atol=1e-9)
    if "weight_on_data" in groups:
        np.testing.assert_allclose(
            found["weight"], groups["weight_on_data"], rtol=tolerance, atol=1e-9
        )
    np.testing.assert_array_equal(found["sd"], found["sd_plug_in"])


def test_integrated_location_adds_the_coefficients_uncertainty_of_reml():
    # With τ and σ held at REML, only μ is integrated: the reference's mixed-model prediction.
    stores, expected = dyestuff(), truth("dyestuff")
    reml = expected["reml"]
    fitted = fit("normal", stores, fixed={"tau": reml["tau"][0], "sigma": reml["sigma"]})
    found = posterior(fitted, stores, uncertainty="integrated")
    groups = expected["eb_plugin_reml_with_coefficient_uncertainty"]["groups"]["theta"]
    np.testing.assert_allclose(found["mean"], groups["mean"], rtol=1e-6)
    np.testing.assert_allclose(found["sd"], groups["sd"], rtol=1e-6)
    np.testing.assert_allclose(found["q0.025"], groups["q025"], rtol=1e-6)


def lesson_items(family):
    items = truth("lesson")["items"]
    return [item for item in items if item["family"] == family]


@pytest.mark.parametrize("item", lesson_items("beta_binomial"), ids=lambda item: item["id"])
def test_lesson_beta_binomial_arithmetic(item):
    inputs, expected = item["inputs"], item["expected"]
    successes, trials = np.atleast_1d(inputs["y"]), np.atleast_1d(inputs["n"])
    stores = {"successes": successes, "trials": trials}
    fitted = fit("beta_binomial", stores, fixed={"alpha": inputs["alpha"], "beta": inputs["beta"]})
    found = posterior(fitted, stores)
    groups = [expected] if "mean" in expected else list(expected.values())
    assert found.method == "plug_in"
    for place, group in enumerate(groups):
        for mine, theirs in (
            ("mean", "mean"),
            ("sd", "sd"),
            ("q0.025", "q025"),
            ("q0.975", "q975"),
        ):
            assert found[mine][place] == pytest.approx(group[theirs], abs=item["abs_tol"])
        assert found["weight"][place] == pytest.approx(group["weight_on_data"], abs=1e-12)


def lesson_groups():
    """Normal items with posteriors: id, inputs, μ, τ², groups."""
    for item in lesson_items("normal_normal"):
        inputs, expected = item["inputs"], item["expected"]
        if "kappa" in expected:
            yield item["id"], inputs, inputs["mu"], inputs["tau2"], [expected]
        elif item["id"] == "exercise_hard":
            for key, estimate in (
                ("eb_plugin_at_moments", expected["mom"]["hedges"]),
                ("eb_plugin_at_ml2", expected["ml2"]),
            ):
                yield f"{item['id']}-{key}", inputs, estimate["mu"], estimate["tau2"], expected[key]
        elif "groups" in expected:
            values = {**inputs, **expected}
            yield item["id"], inputs, values["mu"], values["tau2"], expected["groups"]


@pytest.mark.parametrize(
    ("inputs", "mu", "tau2", "groups"),
    [pytest.param(*case[1:], id=case[0]) for case in lesson_groups()],
)
def test_lesson_normal_arithmetic(inputs, mu, tau2, groups):
    estimate, n = np.atleast_1d(inputs["ybar"]).astype(float), np.atleast_1d(inputs["n"])
    stores = {"estimate": estimate, "variance": inputs["sigma2"] / n}
    found = posterior(fit(NORMAL, stores, fixed={"mu": mu, "tau": np.sqrt(tau2)}), stores)
    for mine, theirs in {"weight": "kappa", **COLUMNS}.items():
        np.testing.assert_allclose(found[mine], [g[theirs] for g in groups], atol=1e-6, rtol=0)
    np.testing.assert_allclose(found.covariance, [g["variance"] for g in groups], atol=1e-6)


def test_plug_in_away_from_the_bound():
    # The reference's plug-in at τ² = 100, because the maximum itself has none.
    stores, expected = eight_schools(), truth("eight_schools")["eb_plugin_at_tau2_100"]["groups"]
    found = posterior(fit(NORMAL, stores, fixed={"tau": 10.0}), stores, uncertainty="plug_in")
    for mine, theirs in {"weight": "weight_on_data", **COLUMNS}.items():
        np.testing.assert_allclose(found[mine], expected[theirs], rtol=1e-6)
