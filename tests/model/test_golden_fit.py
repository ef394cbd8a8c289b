"""Data sets with known answers: moments, ML-II, REML, likelihoods and plug-in arithmetic."""

import csv
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit

#: `make test-reference` runs the same comparisons on the folder that the copies came from.
GOLDEN = Path(os.environ.get("REFERENCE") or Path(__file__).parents[1] / "golden")
NORMAL_MOMENTS = ("lesson", "hedges", "dersimonian_laird", "paule_mandel")


@cache
def truth(case):
    return json.loads((GOLDEN / case / "truth.json").read_text())


@cache
def columns(case):
    with (GOLDEN / case / "data.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def number(case, name):
    return np.array(columns(case)[name], dtype=float)


def items():
    return {item["id"]: item for item in truth("lesson")["items"]}


def rat_tumours():
    return {"successes": number("rat_tumours", "y"), "trials": number("rat_tumours", "n")}


def pumps():
    return {"count": number("pumps", "x"), "exposure": number("pumps", "t")}


def eight_schools():
    sigma = number("eight_schools", "sigma")
    return {"estimate": number("eight_schools", "y"), "variance": sigma**2}


def efron_morris():
    x = truth("efron_morris_1975")["x"]
    hits, ab = (number("efron_morris_1975", name) for name in ("hits", "ab"))
    np.testing.assert_allclose(np.sqrt(45) * np.arcsin(2 * hits / ab - 1), x, rtol=1e-12)
    return {"estimate": np.array(x), "variance": np.ones(18)}


def dyestuff():
    batch = np.array(columns("dyestuff")["batch"])
    names, codes = np.unique(batch, return_inverse=True)
    events = {"value": number("dyestuff", "yield")}
    return get_family("normal").summarise(events, codes, len(names))


def lesson_normal(inputs):
    n = np.array(inputs["n"], dtype=float)
    return {"estimate": np.array(inputs["ybar"], float), "variance": inputs["sigma2"] / n}


def assert_posterior(family, statistics, hyperparameters, expected, rtol):
    """Mean, sd and 95 % limits of stores against a truth's columns."""
    model = get_family(family)
    arrays = {name: np.atleast_1d(values) for name, values in statistics.items()}
    posterior = model.update(arrays, hyperparameters)
    described = model.describe(posterior, [0.025, 0.975])
    for name, found in (
        ("mean", described.mean),
        ("sd", described.sd),
        ("q025", described.quantiles[:, 0]),
        ("q975", described.quantiles[:, 1]),
    ):
        np.testing.assert_allclose(found, np.atleast_1d(expected[name]), rtol=rtol, atol=1e-9)
    return posterior, described


def assert_normal_moments(statistics, expected, rtol=1e-9):
    """Every normal moment estimator, before and after truncation at 0."""
    model = get_family("normal_known_variance")
    arrays = {name: np.asarray(v) for name, v in statistics.items()}
    stores = len(arrays["estimate"])
    sketch = model.compress(arrays, np.zeros(stores, int), 1)
    for name in NORMAL_MOMENTS:
        answer = expected[name]
        untruncated = model.moments[name](sketch, np.full((1, 2), np.nan))[0]
        found = fit("normal_known_variance", statistics, estimator=f"moments:{name}")
        np.testing.assert_allclose(
            found.hyperparameters["tau"] ** 2, answer["tau2"], rtol=rtol, atol=1e-12
        )
        if "tau2_untruncated" in answer:
            np.testing.assert_allclose(
                untruncated[1], answer["tau2_untruncated"], rtol=rtol, atol=1e-12
            )
        if "mu" in answer:
            np.testing.assert_allclose(found.hyperparameters["mu"], answer["mu"], rtol=rtol)


def assert_normal_fit(statistics, answer, estimator, loglik, mu):
    """ML-II or REML with tolerance abs 1e-6 (1 + τ²) on τ² and 1e-6 on the likelihood."""
    found = fit("normal_known_variance", statistics, estimator=estimator)
    tau_squared = found.hyperparameters["tau"] ** 2
    assert abs(tau_squared - answer["tau2"]) <= 1e-6 * (1 + answer["tau2"])
    assert abs(found.log_marginal_likelihood - answer[loglik]) <= 1e-6
    np.testing.assert_allclose(found.hyperparameters["mu"], mu, rtol=1e-7)
    assert found.boundary == answer["boundary"]
    assert found.at_bound == (("tau",) if answer["boundary"] else ())
    assert found.converged
    return found


# The lesson


@pytest.mark.parametrize("case", ["bb_intro", "worked_1"])
def test_lesson_one_store(case):
    item = items()[case]
    given, expected = item["inputs"], item["expected"]
    statistics = {"successes": given["y"], "trials": given["n"]}
    posterior, described = assert_posterior(
        "beta_binomial", statistics, {k: given[k] for k in ("alpha", "beta")}, expected, 1e-9
    )
    assert posterior["alpha"][0] == expected["posterior"]["alpha"]
    assert posterior["beta"][0] == expected["posterior"]["beta"]
    prior_mean = given["alpha"] / (given["alpha"] + given["beta"])
    weight = (described.mean[0] - prior_mean) / (expected["raw_rate"] - prior_mean)
    np.testing.assert_allclose(weight, expected["weight_on_data"], rtol=1e-9)


@pytest.mark.parametrize(
    ("case", "names"),
    [("bb_two_stores", ("store_A", "store_B")), ("exercise_easy", ("store_1", "store_2"))],
)
def test_lesson_two_stores(case, names):
    item = items()[case]
    given = item["inputs"]
    statistics = {"successes": np.array(given["y"]), "trials": np.array(given["n"])}
    expected = {
        column: [item["expected"][name][column] for name in names]
        for column in ("mean", "sd", "q025", "q975")
    }
    posterior, _ = assert_posterior(
        "beta_binomial", statistics, {k: given[k] for k in ("alpha", "beta")}, expected, 1e-9
    )
    for j, name in enumerate(names):
        assert posterior["alpha"][j] == item["expected"][name]["posterior"]["alpha"]
        assert posterior["beta"][j] == item["expected"][name]["posterior"]["beta"]


@pytest.mark.parametrize("case", ["nn_intro", "exercise_medium"])
def test_lesson_normal_update(case):
    item = items()[case]
    given = item["inputs"]
    hyperparameters = {"mu": given["mu"], "tau": np.sqrt(given["tau2"])}
    groups = item["expected"].get("groups", [item["expected"]])
    expected = {c: [g[c] for g in groups] for c in ("mean", "sd", "q025", "q975", "kappa")}
    _, described = assert_posterior(
        "normal_known_variance", lesson_normal(given), hyperparameters, expected, 1e-9
    )
    np.testing.assert_allclose(described.sd**2, [g["variance"] for g in groups], rtol=1e-9)
    kappa = (described.mean - given["mu"]) / (np.array(given["ybar"]) - given["mu"])
    np.testing.assert_allclose(kappa, expected["kappa"], rtol=1e-9)


def test_lesson_weight_is_one_of_three_equal_forms_and_not_the_printed_one():
    item = items()["nn_weight_identity"]
    n, sigma2, tau2 = (item["inputs"][name] for name in ("n", "sigma2", "tau2"))
    posterior = get_family("normal").update(
        {"n": np.array([n]), "mean": np.array([1.0]), "m2": np.zeros(1)},
        {"mu": 0.0, "tau": np.sqrt(tau2), "sigma": np.sqrt(sigma2)},
    )
    for form in item["expected"].values():
        np.testing.assert_allclose(posterior["mu"][0], form, rtol=1e-12)
    printed = tau2 / (tau2 + sigma2 / n) ** -1
    assert not 0 < printed < 1


@pytest.mark.parametrize("case", ["nn_mom_three", "exercise_hard", "worked_3"])
def test_lesson_normal_estimates(case):
    item = items()[case]
    expected = item["expected"].get("also", item["expected"])
    statistics = lesson_normal(item["inputs"])
    assert_normal_moments(statistics, expected["mom"])
    for estimator, loglik in (("ml", "loglik"), ("reml", "restricted_loglik")):
        answer = expected["ml2" if estimator == "ml" else "reml"]
        assert_normal_fit(statistics, answer, estimator, loglik, answer["mu"])


def test_lesson_marginal_likelihood_pools_where_moments_do_not():
    statistics = lesson_normal(items()["nn_mom_three"]["inputs"])
    assert fit("normal_known_variance", statistics).status == "no_spread"
    assert fit("normal_known_variance", statistics, estimator="moments").status == "ok"


@pytest.mark.parametrize(
    ("case", "at", "groups"),
    [
        ("worked_2", "moments:lesson", "groups"),
        ("worked_3", "moments:lesson", "groups"),
        ("exercise_hard", "moments:lesson", "eb_plugin_at_moments"),
        ("exercise_hard", "ml", "eb_plugin_at_ml2"),
    ],
)
def test_lesson_plug_in_posteriors(case, at, groups):
    item = items()[case]
    statistics = lesson_normal(item["inputs"])
    found = fit("normal_known_variance", statistics, estimator=at)
    if "mu" in item["expected"]:
        np.testing.assert_allclose(found.hyperparameters["mu"], item["expected"]["mu"], rtol=1e-9)
        np.testing.assert_allclose(
            found.hyperparameters["tau"] ** 2, item["expected"]["tau2"], rtol=1e-9
        )
    rows = item["expected"][groups]
    expected = {c: [row[c] for row in rows] for c in ("mean", "sd", "q025", "q975")}
    rtol = 1e-9 if at != "ml" else 1e-6
    assert_posterior("normal_known_variance", statistics, found.hyperparameters, expected, rtol)


def test_lesson_spread_is_a_variance_not_a_sd():
    expected = items()["worked_3"]["expected"]
    statistics = lesson_normal(items()["worked_3"]["inputs"])
    found = fit("normal_known_variance", statistics, estimator="moments:lesson")
    np.testing.assert_allclose(found.hyperparameters["tau"], expected["tau"], rtol=1e-9)
    np.testing.assert_allclose(np.var(statistics["estimate"], ddof=1), expected["S2"], rtol=1e-9)


def test_lesson_moment_formula_is_biased_for_unequal_sizes():
    # Its expectation is bilinear in the two estimates, so products of their signs give it exactly.
    item = items()["nn_mom_unequal_bias"]
    n = np.array(item["inputs"]["n"], float)
    variance = item["inputs"]["sigma2"] / n
    model = get_family("normal_known_variance")
    free = np.full((1, 2), np.nan)
    means = {}
    for name in ("lesson", "hedges", "dersimonian_laird"):
        values = []
        for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            statistics = {"estimate": np.array(signs) * np.sqrt(variance), "variance": variance}
            sketch = model.compress(statistics, np.zeros(2, int), 1)
            values.append(model.moments[name](sketch, free)[0, 1])
        means[name] = np.mean(values)
    expected = item["expected"]["expected_value_of_lesson_tau2_before_truncation"]
    np.testing.assert_allclose(means["lesson"], expected, rtol=1e-9)
    np.testing.assert_allclose([means["hedges"], means["dersimonian_laird"]], 0.0, atol=1e-12)


def test_every_lesson_item_is_accounted_for():
    advice = {"advice_parametrisation"}
    tested = {
        "bb_intro",
        "bb_two_stores",
        "exercise_easy",
        "exercise_hard",
        "exercise_medium",
        "nn_intro",
        "nn_mom_three",
        "nn_mom_unequal_bias",
        "nn_weight_identity",
        "worked_1",
        "worked_2",
        "worked_3",
    }
    assert set(items()) == tested | advice


# Published data sets


def assert_shapes(found, answer, names, rtol):
    for name, key in names.items():
        np.testing.assert_allclose(found.hyperparameters[name], answer[key], rtol=rtol)


BETA_NAMES = {"alpha": "alpha", "beta": "beta"}
GAMMA_NAMES = {"shape": "alpha", "rate": "beta"}
BETA_MOMENTS = {
    "raw_rates": "raw_rates",
    "noise_corrected": "noise_corrected_unweighted",
    "kleinman": "kleinman_weights_n",
}
GAMMA_MOMENTS = {
    "raw_rates": "raw_rates",
    "noise_corrected": "noise_corrected_unweighted",
    "exposure_weighted": "weighted_by_exposure",
}


@pytest.mark.parametrize(("name", "key"), BETA_MOMENTS.items())
def test_rat_tumours_moments(name, key):
    found = fit("beta_binomial", rat_tumours(), estimator=f"moments:{name}")
    assert_shapes(found, truth("rat_tumours")["mom"][key], BETA_NAMES, 1e-9)


def test_rat_tumours_moments_of_the_history():
    history = {name: values[:70] for name, values in rat_tumours().items()}
    found = fit("beta_binomial", history, estimator="moments:raw_rates")
    assert_shapes(found, truth("rat_tumours")["historical_70_moments"], BETA_NAMES, 1e-9)


def test_rat_tumours_maximum_likelihood():
    answer = truth("rat_tumours")["ml2"]
    found = fit("beta_binomial", rat_tumours())
    names = {**BETA_NAMES, "mean": "mean", "concentration": "concentration"}
    assert_shapes(found, answer, names, 1e-4)
    assert abs(found.log_marginal_likelihood - answer["loglik"]) <= 1e-6
    np.testing.assert_allclose(found.coordinates["phi"], answer["rho"], rtol=1e-4)
    np.testing.assert_allclose(
        found.sketch.log_choose[0], answer["sum_log_binomial_coefficients"], rtol=1e-12
    )


def test_rat_tumours_plug_in():
    at = truth("rat_tumours")["ml2"]
    expected = truth("rat_tumours")["eb_plugin"]["groups"]
    assert_posterior("beta_binomial", rat_tumours(), at, expected, 1e-6)
    found = fit("beta_binomial", rat_tumours())
    assert_posterior("beta_binomial", rat_tumours(), found.hyperparameters, expected, 1e-4)


@pytest.mark.parametrize(("name", "key"), GAMMA_MOMENTS.items())
def test_pumps_moments(name, key):
    found = fit("gamma_poisson", pumps(), estimator=f"moments:{name}")
    assert_shapes(found, truth("pumps")["mom"][key], GAMMA_NAMES, 1e-9)


def test_pumps_maximum_likelihood():
    answer = truth("pumps")["ml2"]
    found = fit("gamma_poisson", pumps())
    assert_shapes(found, answer, {**GAMMA_NAMES, "mean": "mean"}, 1e-4)
    assert abs(found.log_marginal_likelihood - answer["loglik"]) <= 1e-6


def test_pumps_plug_in():
    at = {name: truth("pumps")["ml2"][key] for name, key in GAMMA_NAMES.items()}
    expected = truth("pumps")["eb_plugin"]["groups"]
    assert_posterior("gamma_poisson", pumps(), at, expected, 1e-6)
    weight = pumps()["exposure"] / (at["rate"] + pumps()["exposure"])
    np.testing.assert_allclose(weight, expected["weight_on_data"], rtol=1e-6)


@pytest.mark.parametrize("case", ["eight_schools", "efron_morris_1975"])
def test_normal_moments(case):
    statistics = eight_schools() if case == "eight_schools" else efron_morris()
    assert_normal_moments(statistics, truth(case)["mom"])


@pytest.mark.parametrize("estimator", ["ml", "reml"])
@pytest.mark.parametrize("case", ["eight_schools", "efron_morris_1975"])
def test_normal_fits(case, estimator):
    statistics = eight_schools() if case == "eight_schools" else efron_morris()
    answer = truth(case)["ml2" if estimator == "ml" else "reml"]
    found = assert_normal_fit(statistics, answer, estimator, "loglik", answer["beta"][0])
    # The standard error of μ at this τ², from the generalised least-squares information.
    weight = 1 / (found.hyperparameters["tau"] ** 2 + statistics["variance"])
    np.testing.assert_allclose(1 / np.sqrt(weight.sum()), answer["se_beta"][0], rtol=1e-6)


def test_eight_schools_pools_completely():
    found = fit("normal_known_variance", eight_schools())
    assert found.status == "no_spread"
    expected = truth("eight_schools")["eb_plugin"]["groups"]
    assert_posterior(
        "normal_known_variance", eight_schools(), found.hyperparameters, expected, 1e-6
    )


def test_eight_schools_plug_in_away_from_the_bound():
    expected = truth("eight_schools")["eb_plugin_at_tau2_100"]["groups"]
    found = fit("normal_known_variance", eight_schools(), fixed={"tau": 10.0})
    assert_posterior(
        "normal_known_variance", eight_schools(), found.hyperparameters, expected, 1e-6
    )


@pytest.mark.parametrize(("estimator", "key"), [("ml", "eb_plugin"), ("reml", "eb_plugin_reml")])
def test_efron_morris_plug_in(estimator, key):
    case = truth("efron_morris_1975")
    answer = case["ml2" if estimator == "ml" else "reml"]
    at = {"mu": answer["beta"][0], "tau": answer["tau"]}
    assert_posterior("normal_known_variance", efron_morris(), at, case[key]["groups"], 1e-6)


def batting_averages():
    hits, ab = (number("efron_morris_1975", name) for name in ("hits", "ab"))
    return {"successes": hits, "trials": ab}


def test_efron_morris_as_proportions():
    answer = truth("efron_morris_1975")["beta_binomial_version"]
    found = fit("beta_binomial", batting_averages())
    assert_shapes(found, answer["ml2"], BETA_NAMES, 1e-4)
    assert abs(found.log_marginal_likelihood - answer["ml2"]["loglik"]) <= 1e-6
    assert_posterior("beta_binomial", batting_averages(), answer["ml2"], answer["eb_plugin"], 1e-6)


@pytest.mark.parametrize(("name", "key"), BETA_MOMENTS.items())
def test_efron_morris_proportion_moments(name, key):
    found = fit("beta_binomial", batting_averages(), estimator=f"moments:{name}")
    answer = truth("efron_morris_1975")["beta_binomial_version"]["mom"][key]
    assert_shapes(found, answer, BETA_NAMES, 1e-8)


def test_dyestuff_moments():
    answer = truth("dyestuff")["mom"]["anova"]
    found = fit("normal", dyestuff(), estimator="moments:anova")
    np.testing.assert_allclose(found.hyperparameters["sigma"] ** 2, answer["sigma2"], rtol=1e-12)
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, answer["tau2"], rtol=1e-12)
    np.testing.assert_allclose(found.hyperparameters["mu"], answer["mu_grand"], rtol=1e-12)


@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_dyestuff_fits(estimator):
    answer = truth("dyestuff")["ml2" if estimator == "ml" else "reml"]
    found = fit("normal", dyestuff(), estimator=estimator)
    assert abs(found.log_marginal_likelihood - answer["loglik"]) <= 1e-5
    np.testing.assert_allclose(found.hyperparameters["sigma"] ** 2, answer["sigma"] ** 2, rtol=1e-3)
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, answer["Sigma"][0][0], rtol=1e-3)
    assert abs(found.hyperparameters["mu"] - answer["coef"][0]) <= 1e-3 * answer["se_coef"][0]
    np.testing.assert_allclose(np.sqrt(found.covariance[0, 0]), answer["se_coef"][0], rtol=1e-3)
    published = truth("dyestuff")["published"][estimator.upper()]
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, published["tau2"], atol=0.01)


@pytest.mark.parametrize(("estimator", "key"), [("ml", "eb_plugin"), ("reml", "eb_plugin_reml")])
def test_dyestuff_plug_in(estimator, key):
    found = fit("normal", dyestuff(), estimator=estimator)
    expected = truth("dyestuff")[key]["groups"]["theta"]
    assert_posterior("normal", dyestuff(), found.hyperparameters, expected, 1e-4)
