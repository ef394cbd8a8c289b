"""Reference answers beside those of stores: hyperparameters, and what other programs find."""

import numpy as np
import pytest
from golden_cases import (
    COEFFICIENTS,
    FULL_BAYES,
    HYPERPRIORS,
    NORMAL,
    batting,
    batting_averages,
    dyestuff,
    eight_schools,
    pumps,
    rats,
    truth,
)
from golden_cases import REGRESSION as FAMILY
from golden_cases import regression as stores

from hbpipe.model.fit import fit
from hbpipe.model.posterior import posterior


def moments(weight, values, variance=0.0):
    """Mean and sd of a hyperparameter over nodes."""
    mean = weight @ values
    return mean, np.sqrt(weight @ ((values - mean) ** 2 + variance))


def marginals(family, nodes):
    """Hyperparameters of the truth files, by their names there -> mean and sd."""
    fields = ("weight", "spread", "location", "location_variance", "noise")
    weight, spread, mean, variance, noise = (getattr(nodes, name)[0].ravel() for name in fields)
    if family == "beta_binomial":
        return {
            "mean": moments(weight, mean, variance),
            "log_concentration": moments(weight, -np.log(spread)),
        }
    if family == "gamma_poisson":
        return {
            "log_mean": moments(weight, np.log(mean)),
            "log_alpha": moments(weight, np.log(mean / spread)),
            "alpha": moments(weight, mean / spread),
            "beta": moments(weight, 1 / spread),
        }
    found = {"coef": moments(weight, mean, variance)}
    if family == NORMAL:
        return found | {"tau": moments(weight, np.sqrt(spread)), "tau2": moments(weight, spread)}
    return found | {
        "tau_theta": moments(weight, np.sqrt(spread * noise)),
        "sigma": moments(weight, np.sqrt(noise)),
    }


@pytest.mark.parametrize(("case", "family", "data", "entry", "hyperprior"), FULL_BAYES)
def test_the_posterior_of_the_hyperparameters_is_full_bayes(case, family, data, entry, hyperprior):
    found = posterior(fit(family, data(), hyperprior=hyperprior), data(), uncertainty="integrated")
    section = truth(case)["full_bayes"][entry]
    expected = dict(section["hyper"])
    if "coef" in section:
        expected["coef"] = {name: section["coef"][name][0] for name in ("mean", "sd")}
    for name, (mean, sd) in marginals(family, found.nodes).items():
        # τ² of few groups has a tail of which quadrature cuts the far end.
        tolerance = 0.02 if name == "tau2" else 0.002
        assert abs(mean - expected[name]["mean"]) < tolerance * expected[name]["sd"], name
        assert sd == pytest.approx(expected[name]["sd"], rel=tolerance), name


def test_the_proportions_of_the_batting_averages_have_the_hyperparameters_of_full_bayes():
    section = truth("efron_morris_1975")["beta_binomial_version"]["full_bayes"]
    data = batting_averages()
    found = posterior(fit("beta_binomial", data, hyperprior="bda3"), data, uncertainty="integrated")
    for name, (mean, sd) in marginals("beta_binomial", found.nodes).items():
        expected = section["hyper"][name]
        assert abs(mean - expected["mean"]) < 0.005 * expected["sd"], name
        # Beyond e^-14 of the density the tail of a very large concentration is cut off.
        tolerance = 0.01 if name == "log_concentration" else 0.002
        assert sd == pytest.approx(expected["sd"], rel=tolerance), name


def test_eight_schools_agree_with_the_draws_of_posteriordb():
    section = truth("eight_schools")["full_bayes"][0]["crosscheck_posteriordb"]
    data = eight_schools()
    hyperprior = {"mu": "normal(0, 5)", "tau": "half_cauchy(5)"}
    found = posterior(fit(NORMAL, data, hyperprior=hyperprior), data, uncertainty="integrated")
    hyper = marginals(NORMAL, found.nodes)
    means = [*found["mean"], hyper["coef"][0], hyper["tau"][0]]
    z = (means - np.array(section["mean"])) / section["mcse"]
    assert np.abs(z).max() < 4
    np.testing.assert_allclose(z, section["z"], atol=0.01)


@pytest.mark.parametrize("case", list(COEFFICIENTS))
def test_covariances_of_coefficients_are_full_bayes(case):
    fitted = fit(FAMILY, stores(case), hyperprior=HYPERPRIORS[case])
    nodes = posterior(fitted, stores(case), uncertainty="integrated").nodes.pools[0]
    loading, sigma = nodes.values["loading"], nodes.values["sigma"]
    covariance = loading @ loading.transpose(0, 2, 1) * sigma[:, None, None] ** 2
    tau = np.sqrt(np.einsum("skk->sk", covariance))
    correlation = covariance / tau[:, :, None] / tau[:, None, :]
    names = COEFFICIENTS[case]
    found = {"sigma": sigma} | {f"tau_{name}": tau[:, k] for k, name in enumerate(names)}
    for k, name in enumerate(names):
        for other in range(k + 1, len(names)):
            label = f"corr_{name}_{names[other]}" if len(names) > 2 else "rho"
            found[label] = correlation[:, k, other]
    expected = truth(case)["full_bayes"][0]["hyper"]
    assert found.keys() == expected.keys()
    for name, values in found.items():
        mean, sd = moments(nodes.weight, values)
        # Of the nodes those are kept that give the stores' limits.
        assert abs(mean - expected[name]["mean"]) < 0.03 * expected[name]["sd"], name
        assert sd == pytest.approx(expected[name]["sd"], rel=0.04), name


def widths(found):
    return found["q0.975"] - found["q0.025"]


#: Of each truth file, in posterior sd.
REGRESSION_TOLERANCES = {"sleepstudy": 0.01, "cheese": 0.03}
RATIOS = [
    ("efron_morris_1975", NORMAL, batting, {"tau": "uniform"}),
    ("rat_tumours", "beta_binomial", rats, "bda3"),
    ("pumps", "gamma_poisson", pumps, {"shape": "exponential(1)", "rate": "gamma(0.1, 1)"}),
    ("dyestuff", "normal", dyestuff, {"sigma": "half_normal(100)", "tau": "half_normal(100)"}),
    *((case, FAMILY, lambda case=case: stores(case), HYPERPRIORS[case]) for case in COEFFICIENTS),
]


@pytest.mark.parametrize(("case", "family", "data", "hyperprior"), RATIOS)
def test_full_bayes_is_wider_than_plug_in_by_the_ratio_of_the_truth(case, family, data, hyperprior):
    fitted = fit(family, data(), hyperprior=hyperprior)
    wide, narrow = (posterior(fitted, data(), uncertainty=u) for u in ("integrated", "plug_in"))
    ratio = (widths(wide) / widths(narrow)).reshape(len(wide["mean"]), -1)
    expected = truth(case)["width_ratio"]
    sections = [expected] if "mean" in expected else list(expected.values())
    tolerance = REGRESSION_TOLERANCES.get(case, 0.005)
    for column, section in zip(ratio.T, sections, strict=True):
        assert column.mean() == pytest.approx(section["mean"], rel=tolerance)
        assert column.min() == pytest.approx(section["min"], rel=tolerance)
        assert column.max() == pytest.approx(section["max"], rel=tolerance)


@pytest.mark.parametrize(
    ("case", "family", "data"),
    [("rat_tumours", "beta_binomial", rats), ("pumps", "gamma_poisson", pumps)],
)
def test_maximum_likelihood_is_that_of_other_programs(case, family, data):
    found = fit(family, data())
    names = ("alpha", "beta") if family == "beta_binomial" else ("shape", "rate")
    programs = {k: v for k, v in truth(case)["crosscheck_ml2"].items() if isinstance(v, dict)}
    assert len(programs) == 2
    for answer in programs.values():
        for mine, theirs in zip(names, ("alpha", "beta"), strict=True):
            assert found.hyperparameters[mine] == pytest.approx(answer[theirs], rel=1e-5)
        likelihood = answer["loglik_with_constants"]
        assert found.log_marginal_likelihood == pytest.approx(likelihood, abs=1e-6)


#: Estimators of metafor -> ours.
METAFOR = {
    "ML": "ml",
    "REML": "reml",
    "DL": "moments:dersimonian_laird",
    "HE": "moments:hedges",
    "PM": "moments:paule_mandel",
}


@pytest.mark.parametrize(("theirs", "ours"), METAFOR.items())
@pytest.mark.parametrize(
    ("case", "data"), [("eight_schools", eight_schools), ("efron_morris_1975", batting)]
)
def test_estimates_are_those_of_metafor(case, data, theirs, ours):
    answer = truth(case)["crosscheck_ml2"][theirs]
    found = fit(NORMAL, data(), estimator=ours)
    # Its Paule-Mandel search stops at 1e-5.
    assert found.hyperparameters["tau"] ** 2 == pytest.approx(answer["tau2"], abs=1e-5)
    if theirs != "HE":  # metafor takes the weighted mean there too
        assert found.hyperparameters["mu"] == pytest.approx(answer["beta"], rel=1e-6)
    if theirs in ("ML", "REML"):
        # metafor's restricted likelihood has ½ log|X'X| more.
        design = 0.5 * np.log(len(data()["estimate"])) if theirs == "REML" else 0.0
        assert found.log_marginal_likelihood + design == pytest.approx(answer["loglik"], abs=1e-6)


@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_dyestuff_is_that_of_lme4_and_nlme(estimator):
    found = fit("normal", dyestuff(), estimator=estimator)
    for program in ("lme4", "nlme"):
        answer = truth("dyestuff")["crosscheck_ml2"][f"{program}_{estimator}"]
        assert found.log_marginal_likelihood == pytest.approx(answer["loglik"], abs=1e-8)
        assert found.hyperparameters["sigma"] == pytest.approx(answer["sigma"], rel=1e-6)
        variance = np.ravel(answer["Sigma"])[0]
        assert found.hyperparameters["tau"] ** 2 == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("case", list(COEFFICIENTS))
@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_regressions_are_those_of_lme4_and_nlme(case, estimator):
    found = fit(FAMILY, stores(case), estimator=estimator)
    checks = truth(case)["crosscheck_ml2"]
    programs = [name for name in checks if name.endswith(f"_{estimator}")]
    assert f"lme4_{estimator}" in programs
    for program in programs:
        answer = checks[program]
        assert found.log_marginal_likelihood == pytest.approx(answer["loglik"], abs=1e-6)
        assert found.hyperparameters["sigma"] == pytest.approx(answer["sigma"], rel=1e-5)
        np.testing.assert_allclose(found.hyperparameters["Sigma"], answer["Sigma"], rtol=1e-3)
        if "coef" in answer:
            np.testing.assert_allclose(found.hyperparameters["mu"], answer["coef"], rtol=1e-5)


def test_a_variance_per_retailer_moves_means_by_less_than_an_sd():
    # bayesm's model has a residual variance for each retailer: the truth asks for a loose look.
    found = posterior(fit(FAMILY, stores("cheese")), stores("cheese"), uncertainty="plug_in")
    for k, name in enumerate(COEFFICIENTS["cheese"]):
        other = truth("cheese")["bayesm"]["groups"][name]
        near = np.abs(found["mean"][:, k] - other["mean"]) < np.array(other["sd"])
        assert near.mean() > 0.7, name
