"""Fits with covariates: independent optimisers, dense matrices, boundaries, arguments."""

import csv

import numpy as np
import pytest
from covariate_cases import DATA, FAMILIES_WITH_COVARIATES, log_likelihood
from scipy import optimize

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.estimation.delta import standard_deviations
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools

every_family = pytest.mark.parametrize("name", FAMILIES_WITH_COVARIATES)
OTHERS = {
    "beta_binomial": ("concentration",),
    "gamma_poisson": ("shape",),
    "normal": ("tau", "sigma"),
    "normal_known_variance": ("tau",),
}


def centred(x):
    return np.column_stack([x[:, 0], x[:, 1:] - x[:, 1:].mean(axis=0)])


def by_optimiser(name, data, x, penalty=lambda coefficients, others: 0.0):
    """Maximise the likelihood of scipy's laws over centred covariates: value, line, others."""
    z = centred(x) / np.array([1.0, *x[:, 1:].std(axis=0)])
    back = np.linalg.lstsq(x, z, rcond=None)[0]

    def loss(point):
        coefficients, others = point[: x.shape[1]], np.exp(point[x.shape[1] :])
        value = log_likelihood(name, data, z @ coefficients, *others)
        return -value - penalty(back @ coefficients, others)

    start = fit(name, data).hyperparameters
    location = {"beta_binomial": -2.0, "gamma_poisson": 0.0}.get(name, start.get("mu"))
    others = np.log([max(start[other], 0.1) for other in OTHERS[name]])
    begin = [location, *np.zeros(x.shape[1] - 1), *others]
    rough = optimize.minimize(loss, begin, method="BFGS", options={"gtol": 1e-7})
    fine = optimize.minimize(
        loss,
        rough.x,
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000},
    )
    best = fine.x
    return -fine.fun, z @ best[: x.shape[1]], np.exp(best[x.shape[1] :])


@every_family
@pytest.mark.parametrize("seed", [1, 2])
def test_same_maximum_as_an_optimiser_over_all_stores(name, seed):
    """Beta-binomial and NB2 regression, Fay-Herriot, and one-way analysis with covariates."""
    data, x = DATA[name](seed)
    found = fit(name, data, covariates=x)
    value, line, others = by_optimiser(name, data, x)
    assert found.status == "ok"
    assert found.converged
    np.testing.assert_allclose(found.log_marginal_likelihood, value, rtol=0, atol=1e-8)
    np.testing.assert_allclose(x @ found.hyperparameters["coefficients"], line, atol=2e-4)
    for other, expected in zip(OTHERS[name], others, strict=True):
        np.testing.assert_allclose(found.hyperparameters[other], expected, rtol=1e-3)


@every_family
@pytest.mark.parametrize("estimator", ["ml", "reml", "moments"])
def test_an_intercept_alone_is_the_fit_without_covariates(name, estimator):
    data, _ = DATA[name](4)
    if estimator == "reml" and get_family(name).log_restriction is None:
        with pytest.raises(FitError, match="no restricted likelihood"):
            fit(name, data, estimator=estimator, covariates=np.ones((60, 1)))
        return
    if estimator == "moments" and name == "normal":
        estimator = "moments:paule_mandel"
    plain = fit(name, data, estimator=estimator)
    found = fit(name, data, estimator=estimator, covariates=np.ones((60, 1)))
    np.testing.assert_allclose(
        found.log_marginal_likelihood, plain.log_marginal_likelihood, rtol=1e-12
    )
    left, right = list(found.coordinates.values()), list(plain.coordinates.values())
    np.testing.assert_allclose(left, right, rtol=1e-7)
    np.testing.assert_allclose(found.covariance, plain.covariance, rtol=1e-6, atol=1e-12)
    assert (found.status, found.n_groups) == (plain.status, plain.n_groups)


def milk(root):
    """Areas' estimates with known variances, and indicators of their major area."""
    with (root / "tests/golden/milk/data.csv").open() as lines:
        table = list(csv.DictReader(lines))
    data = {
        "estimate": np.array([float(row["yi"]) for row in table]),
        "variance": np.array([float(row["sd"]) ** 2 for row in table]),
    }
    area = np.array([int(row["major_area"]) for row in table])
    return data, np.column_stack([np.ones(len(area)), area == 2, area == 3, area == 4]).astype(
        float
    )


@pytest.mark.parametrize("estimator", ["ml", "reml"])
def test_fay_herriot_against_dense_matrices(root, estimator):
    data, x = milk(root)
    y, v, (stores, width) = data["estimate"], data["variance"], x.shape

    def generalised_least_squares(tau_squared):
        precision = np.diag(1.0 / (v + tau_squared))
        information = x.T @ precision @ x
        coefficients = np.linalg.solve(information, x.T @ precision @ y)
        residual = y - x @ coefficients
        value = np.linalg.slogdet(precision)[1] - residual @ precision @ residual
        value -= stores * np.log(2 * np.pi)
        if estimator == "reml":
            value += width * np.log(2 * np.pi) - np.linalg.slogdet(information)[1]
        return 0.5 * value, coefficients, np.linalg.inv(information)

    best = optimize.minimize_scalar(
        lambda t: -generalised_least_squares(t)[0],
        bounds=(0.0, 1.0),
        method="bounded",
        options={"xatol": 1e-12},
    )
    value, coefficients, covariance = generalised_least_squares(best.x)
    found = fit("normal_known_variance", data, covariates=x, estimator=estimator)
    np.testing.assert_allclose(found.log_marginal_likelihood, value, rtol=1e-12)
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, best.x, rtol=1e-6)
    np.testing.assert_allclose(found.hyperparameters["coefficients"], coefficients, rtol=1e-6)
    if estimator == "reml":
        # The restricted likelihood's own curvature in the coefficients is that of GLS.
        np.testing.assert_allclose(found.covariance[:width, :width], covariance, rtol=0.02)


def test_moments_solve_their_equations():
    """Paule-Mandel's equation and DerSimonian-Laird's formula with dense matrices."""
    data, x = DATA["normal_known_variance"](5)
    y, v, (stores, width) = data["estimate"], data["variance"], x.shape

    def quadratic(tau_squared):
        w = np.diag(1.0 / (v + tau_squared))
        hat = x @ np.linalg.solve(x.T @ w @ x, x.T @ w)
        residual = y - hat @ y
        return residual @ w @ residual, w, hat

    found = fit("normal_known_variance", data, covariates=x, estimator="moments:paule_mandel")
    tau_squared = found.hyperparameters["tau"] ** 2
    np.testing.assert_allclose(quadratic(tau_squared)[0], stores - width, rtol=1e-9)
    np.testing.assert_allclose(
        x @ found.hyperparameters["coefficients"], quadratic(tau_squared)[2] @ y, rtol=1e-8
    )
    square, w, hat = quadratic(0.0)
    expected = (square - (stores - width)) / np.trace(w @ (np.eye(stores) - hat))
    found = fit("normal_known_variance", data, covariates=x, estimator="moments:dersimonian_laird")
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, expected, rtol=1e-8)


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])
def test_moments_of_counts_are_consistent(name):
    data, x = DATA[name](6, 5000, 3)
    found = fit(name, data, covariates=x, estimator="moments")
    assert found.estimator == "moments"
    spread = found.hyperparameters[OTHERS[name][0]]
    truth = {"beta_binomial": 20.0, "gamma_poisson": 2.0}[name]
    np.testing.assert_allclose(spread, truth, rtol=0.15)
    slopes = found.hyperparameters["coefficients"][1:]
    np.testing.assert_allclose(slopes, [0.6, 0.02], atol=0.08)


@every_family
@pytest.mark.parametrize("offset", [0.0, 2015.0, 1e6])
def test_units_of_covariates_do_not_matter(name, offset):
    data, x = DATA[name](7)
    plain = fit(name, data, covariates=centred(x))
    moved = x.copy()
    moved[:, 2] = 1000.0 * centred(x)[:, 2] + offset
    moved[:, 1] = centred(x)[:, 1]
    found = fit(name, data, covariates=moved)
    np.testing.assert_allclose(
        found.log_marginal_likelihood, plain.log_marginal_likelihood, rtol=1e-10
    )
    slope, expected = (f.hyperparameters["coefficients"][2] for f in (found, plain))
    np.testing.assert_allclose(1000.0 * slope, expected, rtol=1e-4)
    errors = np.sqrt(np.diagonal(found.covariance))
    np.testing.assert_allclose(1000.0 * errors[2], np.sqrt(plain.covariance[2, 2]), rtol=1e-4)
    assert found.iterations <= plain.iterations + 2


def levels(category, base):
    """Treatment coding of a category with the levels 0 to 3."""
    others = [level for level in range(4) if level != base]
    return np.column_stack([np.ones(len(category)), *(category == k for k in others)]).astype(float)


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])
@pytest.mark.parametrize("base", [0, 1])
def test_a_category_without_events_is_named_and_the_rest_is_estimated(name, base):
    data, _ = DATA[name](8, 80)
    category = np.arange(80) % 4
    count = "successes" if name == "beta_binomial" else "count"
    data[count] = np.where(category == 0, 0, data[count])
    found = fit(name, data, covariates=levels(category, base))
    assert found.status == "separated"
    assert found.boundary
    assert found.at_bound == ("coefficients",)
    assert found.converged
    coefficients = found.hyperparameters["coefficients"]
    assert np.isfinite(coefficients).all()
    line = levels(category, base) @ coefficients
    assert np.all(line[category == 0] < -50.0)
    kept = category > 0
    rest = fit(
        name,
        {key: values[kept] for key, values in data.items()},
        covariates=levels(category, 1)[kept][:, [0, 2, 3]],
    )
    np.testing.assert_allclose(
        found.log_marginal_likelihood, rest.log_marginal_likelihood, atol=1e-7
    )
    np.testing.assert_allclose(
        line[kept],
        (levels(category, 1)[kept][:, [0, 2, 3]] @ rest.hyperparameters["coefficients"]),
        atol=1e-6,
    )


def test_separation_along_a_line_is_found():
    """Every store is all or nothing, in the order of a covariate: logistic regression diverges."""
    size = np.linspace(-1.0, 1.0, 20)
    trials = np.full(20, 7)
    x = np.column_stack([np.ones(20), size])
    data = {"successes": np.where(size > 0.1, 7, 0), "trials": trials}
    assert fit("beta_binomial", data, covariates=x).status == "separated"
    data["successes"][3] = 7  # out of order
    assert fit("beta_binomial", data, covariates=x).status != "separated"


def test_no_events_at_all_have_the_family_s_word():
    x = np.column_stack([np.ones(6), np.arange(6.0)])
    data = {"count": np.zeros(6, int), "exposure": np.ones(6)}
    found = fit("gamma_poisson", data, covariates=x)
    assert found.status == "no_counts"
    assert np.isfinite(found.hyperparameters["coefficients"]).all()
    with pytest.raises(FitError, match="no store has an exposure"):
        fit("gamma_poisson", {"count": [0], "exposure": [0.0]}, covariates=[[1.0]])


@every_family
def test_collinear_covariates_are_named_with_their_column(name):
    data, x = DATA[name](9)
    x = np.column_stack([x, 2.0 * x[:, 2] - x[:, 0]])
    with pytest.raises(FitError, match="column 3 of the covariates is a combination"):
        fit(name, data, covariates=x)
    family = get_family(name, covariates=4)
    both = {key: np.concatenate([values, values]) for key, values in data.items()}
    good = np.column_stack([x[:, :3], np.random.default_rng(0).normal(size=60)])
    both["covariates"] = np.concatenate([x, good])
    fits = fit_pools(family, family.compress(both, np.repeat([0, 1], 60), 2))
    assert fits.status[0] == "collinear"
    assert fits.identified.tolist() == [False, True]
    assert np.isfinite(fits.coordinates).all()
    assert fits.status[1] == "ok"


@every_family
def test_fewer_stores_than_coefficients(name):
    data, x = DATA[name](10)
    two = {key: values[:2] for key, values in data.items()}
    with pytest.raises(FitError, match="combination of the columns before it"):
        fit(name, two, covariates=x[:2])
    three = {key: values[:3] for key, values in data.items()}
    x = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    if name in ("beta_binomial", "gamma_poisson"):
        count, size = three
        three = {count: np.array([1, 1, 2]), size: three[size] + 4}
    saturated = fit(name, {k: v[:2] for k, v in three.items()}, covariates=x[:2])
    assert saturated.status == "saturated"
    assert saturated.boundary
    if get_family(name).log_restriction is not None:
        with pytest.raises(FitError, match="as many coefficients as stores"):
            fit(name, {k: v[:2] for k, v in three.items()}, covariates=x[:2], estimator="reml")


@every_family
def test_no_spread_is_an_ordinary_bound(name):
    data, x = DATA[name](11)
    line = x @ fit(name, data, covariates=x).hyperparameters["coefficients"]
    if name == "beta_binomial":
        data["successes"] = np.round(data["trials"] / (1.0 + np.exp(-line))).astype(int)
    elif name == "gamma_poisson":
        data["count"] = np.round(data["exposure"] * np.exp(line)).astype(int)
    else:
        data["mean" if name == "normal" else "estimate"] = line
    found = fit(name, data, covariates=x)
    assert found.status == "no_spread"
    assert found.at_bound == (OTHERS[name][0],)
    assert found.converged


@every_family
def test_held_hyperparameters_stay_and_the_others_are_estimated(name):
    data, x = DATA[name](12)
    free = fit(name, data, covariates=x)
    first = OTHERS[name][0]
    held = fit(name, data, covariates=x, fixed={first: free.hyperparameters[first]})
    np.testing.assert_allclose(
        held.hyperparameters["coefficients"], free.hyperparameters["coefficients"], rtol=1e-6
    )
    coefficients = free.hyperparameters["coefficients"]
    held = fit(name, data, covariates=x, fixed={"coefficients": coefficients})
    np.testing.assert_allclose(held.hyperparameters["coefficients"], coefficients, rtol=1e-12)
    np.testing.assert_allclose(
        held.log_marginal_likelihood, free.log_marginal_likelihood, rtol=1e-12
    )
    assert np.all(held.covariance[:3] == 0)
    everything = {"coefficients": coefficients} | {
        other: free.hyperparameters[other] for other in OTHERS[name]
    }
    assert fit(name, data, covariates=x, fixed=everything).status == "fixed"
    with pytest.raises(FitError, match="one for each covariate"):
        fit(name, data, covariates=x, fixed={"coefficients": [1.0, 2.0]})


@every_family
def test_maximum_a_posteriori_with_normal_coefficients(name):
    data, x = DATA[name](13)
    x = centred(x)
    spread = {"beta_binomial": "exponential(0.02)", "gamma_poisson": "exponential(0.1)"}
    spec = {"coefficients": "normal(0.5, 0.3)"}
    spec[OTHERS[name][0]] = spread.get(name, "half_normal(1)")
    rate = {"beta_binomial": 0.02, "gamma_poisson": 0.1}

    def penalty(coefficients, others):
        total = -0.5 * np.sum(((coefficients - 0.5) / 0.3) ** 2)
        if name in rate:
            return total - rate[name] * others[0]
        return total - 0.5 * others[0] ** 2 - (np.log(others[1]) if name == "normal" else 0.0)

    found = fit(name, data, covariates=x, estimator="map", hyperprior=spec)
    _, line, others = by_optimiser(name, data, x, penalty)
    assert found.converged
    np.testing.assert_allclose(x @ found.hyperparameters["coefficients"], line, atol=5e-4)
    for other, expected in zip(OTHERS[name], others, strict=True):
        np.testing.assert_allclose(found.hyperparameters[other], expected, rtol=2e-3)


def test_hyperpriors_that_cannot_be():
    data, x = DATA["beta_binomial"](14)
    for spec, message in (
        ({"coefficients": "half_normal(1)"}, "hyperprior of a coefficient"),
        ({"coefficients": ["normal(0, 1)"] * 2}, "2 hyperpriors are given"),
        ({"coefficients": "uniform", "mean": "beta(1, 1)"}, "both the coefficients and mean"),
        ({"coefficients": "uniform", "alpha": "uniform"}, "one parametrisation"),
    ):
        with pytest.raises(FitError, match=message):
            fit("beta_binomial", data, covariates=x, hyperprior=spec)


def test_a_hyperprior_keeps_a_separated_category_finite():
    data, _ = DATA["beta_binomial"](8, 80)
    category = np.arange(80) % 4
    data["successes"] = np.where(category == 0, 0, data["successes"])
    found = fit("beta_binomial", data, covariates=levels(category, 0), estimator="map")
    assert found.status == "ok"
    assert np.all(np.abs(found.hyperparameters["coefficients"]) < 12.0)


@every_family
def test_standard_deviations_of_coefficients_are_those_of_the_covariance(name):
    data, x = DATA[name](15)
    found = fit(name, data, covariates=x)
    deviations = standard_deviations(found.pools)["coefficients"][0]
    np.testing.assert_allclose(deviations, np.sqrt(np.diagonal(found.covariance))[:3], rtol=1e-4)


def test_a_start_may_be_given():
    data, x = DATA["normal"](16)
    plain = fit("normal", data, covariates=x)
    again = fit("normal", data, covariates=x, start=plain.hyperparameters)
    np.testing.assert_allclose(
        again.log_marginal_likelihood, plain.log_marginal_likelihood, rtol=1e-12
    )
    assert again.iterations <= 2


def test_covariates_and_links_are_checked_at_the_door():
    data, x = DATA["beta_binomial"](17)
    assert fit("beta_binomial", data, covariates=x, link="logit").status == "ok"
    for wrong, message in (
        ({"link": "probit", "covariates": x}, "no link 'probit'"),
        ({"link": "log"}, "no link 'log'"),
    ):
        with pytest.raises(FitError, match=message):
            fit("beta_binomial", data, **wrong)
    broken = x.copy()
    broken[4, 2] = np.nan
    for covariates, message in (
        (x[:-1], "shape"),
        (x[:, 0], "shape"),
        (x.astype(str), "type"),
        (np.empty((60, 0)), "shape"),
        (broken, "a covariate is nan"),
    ):
        with pytest.raises(StatisticsError, match=message):
            fit("beta_binomial", data, covariates=covariates)
    with pytest.raises(StatisticsError, match="there are no covariates"):
        fit(get_family("beta_binomial", covariates=3), data)
