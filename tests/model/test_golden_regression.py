"""Varying intercepts and slopes against lme4 and full Bayes: sleepstudy and cheese."""

import numpy as np
import pytest
from golden_cases import COEFFICIENTS, HYPERPRIORS, truth
from golden_cases import REGRESSION as FAMILY
from golden_cases import regression as stores

from hbpipe.model.fit import fit
from hbpipe.model.posterior import posterior

#: Name of a column here -> in the truth files.
COLUMNS = {"mean": "mean", "sd": "sd", "q0.025": "q025", "q0.975": "q975"}
#: Of each truth file: log likelihood, Σ relative, coefficients in standard errors, plug-in columns
#: and full Bayes in posterior sd.
TOLERANCES = {
    "sleepstudy": (1e-5, 1e-3, 1e-3, 1e-4, 0.01),
    "cheese": (1e-4, 2e-3, 1e-2, 1e-3, 0.03),
}
cases = pytest.mark.parametrize("case", list(COEFFICIENTS))
estimators = pytest.mark.parametrize(("estimator", "key"), [("ml", "ml2"), ("reml", "reml")])


@cases
@estimators
def test_hyperparameters_and_likelihood_are_those_of_lme4(case, estimator, key):
    likelihood, relative, share, _, _ = TOLERANCES[case]
    answer, found = truth(case)[key], fit(FAMILY, stores(case), estimator=estimator)
    named = found.hyperparameters
    assert found.status == "ok"
    assert found.converged
    assert abs(found.log_marginal_likelihood - answer["loglik"]) < likelihood
    np.testing.assert_allclose(named["Sigma"], answer["Sigma"], rtol=relative)
    np.testing.assert_allclose(named["tau"], answer["tau"], rtol=relative)
    np.testing.assert_allclose(named["sigma"], answer["sigma"], rtol=relative)
    error = np.abs(named["mu"] - answer["coef"]) / answer["se_coef"]
    assert error.max() < share
    # Theirs take Σ and σ as known: the inverse of the information on μ alone.
    location = slice(len(answer["coef"]))
    model, at = found.pools.model, found.pools.coordinates
    _, _, hessian = model.log_marginal(found.sketch, at)
    standard_errors = np.sqrt(np.diag(np.linalg.inv(-hessian[0, location, location])))
    np.testing.assert_allclose(standard_errors, answer["se_coef"], rtol=relative)


def test_the_likelihood_is_lme4s_to_ten_digits():
    for estimator in ("ml", "reml"):
        answer = truth("sleepstudy")["crosscheck_ml2"][f"lme4_{estimator}"]
        found = fit(FAMILY, stores("sleepstudy"), estimator=estimator)
        assert found.log_marginal_likelihood == pytest.approx(answer["loglik"], abs=1e-9)


@cases
@pytest.mark.parametrize(("estimator", "key"), [("ml", "eb_plugin"), ("reml", "eb_plugin_reml")])
def test_plug_in_posteriors(case, estimator, key):
    tolerance = TOLERANCES[case][3]
    fitted = fit(FAMILY, stores(case), estimator=estimator)
    found = posterior(fitted, stores(case), uncertainty="plug_in")
    for k, name in enumerate(COEFFICIENTS[case]):
        groups = truth(case)[key]["groups"][name]
        for mine, theirs in COLUMNS.items():
            error = np.abs(found[mine][:, k] - groups[theirs]) / groups["sd"]
            assert error.max() < tolerance


@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_varying_intercepts_alone_are_a_slope_without_spread(estimator):
    answer = truth("sleepstudy")["varying_intercept_only"][estimator]
    fitted = fit(FAMILY, stores("sleepstudy"), estimator=estimator, fixed={"tau": [np.nan, 0.0]})
    named = fitted.hyperparameters
    assert fitted.log_marginal_likelihood == pytest.approx(answer["loglik"], abs=1e-8)
    assert named["sigma"] == pytest.approx(answer["sigma"], rel=1e-3)
    assert named["Sigma"][0, 0] == pytest.approx(answer["Sigma"][0][0], rel=1e-3)
    np.testing.assert_array_equal(named["Sigma"][1], [0.0, 0.0])
    np.testing.assert_allclose(named["mu"], list(answer["fixef"].values()), rtol=1e-6)
    found = posterior(fitted, stores("sleepstudy"), uncertainty="plug_in")
    ranef = found["mean"][:, 0] - named["mu"][0]
    np.testing.assert_allclose(ranef, np.ravel(answer["ranef"]), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["sd"][:, 0] ** 2, answer["condvar"], rtol=1e-4)
    np.testing.assert_array_equal(found["sd"][:, 1], 0.0)


@cases
def test_integrated_posteriors_are_full_bayes(case):
    tolerance = TOLERANCES[case][4]
    fitted = fit(FAMILY, stores(case), hyperprior=HYPERPRIORS[case])
    found = posterior(fitted, stores(case), uncertainty="integrated")
    answer = truth(case)["full_bayes"][0]
    assert found.method == "integrated"
    for k, name in enumerate(COEFFICIENTS[case]):
        groups = answer["groups"][name]
        for mine, theirs in COLUMNS.items():
            error = np.abs(found[mine][:, k] - groups[theirs]) / groups["sd"]
            assert error.max() < tolerance
    nodes = found.nodes.pools[0]
    mean = nodes.weight @ nodes.values["mu"]
    within = np.einsum("skk->sk", nodes.values["mu_covariance"])
    sd = np.sqrt(nodes.weight @ (within + (nodes.values["mu"] - mean) ** 2))
    np.testing.assert_array_less(
        np.abs(mean - answer["coef"]["mean"]) / answer["coef"]["sd"], tolerance
    )
    np.testing.assert_allclose(sd, answer["coef"]["sd"], rtol=tolerance)


def test_the_covariance_of_coefficients_known_but_for_mu_is_lme4s():
    # Λ and σ held at REML, only μ is integrated: the reference's mixed-model prediction.
    case = truth("sleepstudy")
    fixed = {"Sigma": case["reml"]["Sigma"], "sigma": case["reml"]["sigma"]}
    fitted = fit(FAMILY, stores("sleepstudy"), fixed=fixed)
    found = posterior(fitted, stores("sleepstudy"), uncertainty="integrated")
    groups = case["eb_plugin_reml_with_coefficient_uncertainty"]["groups"]
    for k, name in enumerate(COEFFICIENTS["sleepstudy"]):
        for mine, theirs in COLUMNS.items():
            np.testing.assert_allclose(found[mine][:, k], groups[name][theirs], rtol=1e-6)
