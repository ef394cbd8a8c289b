"""Hyperpriors of a covariance: LKJ against its definition, both measures, words."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit
from hbpipe.model.posterior import posterior
from hbpipe.model.regression import lkj
from hbpipe.model.regression.separation import compile_separation, sampling_variances

FAMILY = "normal_regression"


def drawn(size=2, stores=30, seed=0, most=12):
    rng = np.random.default_rng(seed)
    family = get_family(FAMILY, size)
    named = {"mu": np.ones(size), "Sigma": 0.5 * np.eye(size), "sigma": 1.0}
    columns, codes, _ = family.simulate(rng, named, stores, rng.integers(0, most, stores))
    return family, columns, codes, family.summarise(columns, codes, stores)


def sketch_of(family, statistics):
    return family.compress(statistics, np.zeros(len(statistics["n"]), int), 1)


def correlation(partial, size):
    lower = lkj.factor_of(np.asarray(partial), size)
    return np.einsum("ik...,jk...->ij...", lower, lower)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_partial_correlations_are_the_matrix(size):
    rng = np.random.default_rng(size)
    partial = 1.5 * rng.normal(size=(size * (size - 1) // 2, 4))
    matrices = correlation(partial, size)
    for s in range(4):
        matrix = matrices[:, :, s]
        np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-12)
        assert np.linalg.eigvalsh(matrix)[0] > 0
        np.testing.assert_allclose(lkj.partial_of(matrix), partial[:, s], rtol=1e-6, atol=1e-8)
    singular = np.ones((size, size))
    assert np.isfinite(lkj.partial_of(singular)).all()


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_density_is_the_determinants_power_times_the_jacobian(size, eta):
    # log |∂ R/∂ y| by differences of the elements below the diagonal.
    rng = np.random.default_rng(size)
    count = size * (size - 1) // 2
    points = rng.normal(size=(5, count))
    places = np.tril_indices(size, -1)
    found, expected = [], []
    for y in points:
        steps = 1e-5 * np.eye(count)
        columns = [
            (correlation(y + h, size)[places] - correlation(y - h, size)[places]) / 2e-5
            for h in steps
        ]
        jacobian = np.linalg.slogdet(np.array(columns))[1]
        determinant = np.linalg.slogdet(correlation(y, size))[1]
        expected.append((eta - 1) * determinant + jacobian)
        found.append(lkj.log_density(y[:, None], size, eta)[0])
    constant = np.array(found) - expected
    np.testing.assert_allclose(constant, constant[0], atol=1e-7)


@pytest.mark.parametrize("eta", [1.0, 2.0])
def test_density_integrates_to_one_and_every_correlation_is_beta(eta):
    one = lambda y: np.exp(lkj.log_density(np.array([[y]]), 2, eta)[0])  # noqa: E731
    assert integrate.quad(one, -30, 30)[0] == pytest.approx(1.0, rel=1e-9)
    # Lewandowski et al.: (ρ + 1)/2 ~ Beta(b, b), b = η + (P − 2)/2, for every pair. Independent
    # partial correlations by importance sampling on a grid of quasi-random points.
    points = stats.qmc.Sobol(3, seed=1).random_base2(13)
    y = np.arctanh(2 * np.clip(points, 1e-9, 1 - 1e-9) - 1).T
    weight = np.exp(lkj.log_density(y, 3, eta)) / (0.5 / np.cosh(y) ** 2).prod(axis=0)
    weight /= weight.sum()
    matrices = correlation(y, 3)
    b = eta + 0.5
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert weight @ matrices[i, j] ** 2 == pytest.approx(1 / (2 * b + 1), rel=0.01)


SPECS = [
    None,
    {"tau": "half_normal(3)", "sigma": "half_cauchy(2)", "correlation": "lkj(2)"},
    {"tau": ["half_cauchy(1)", None], "correlation": "lkj(1)"},
    {"tau": ["gamma(2, 1)", "exponential(1)"], "correlation": "lkj(0.5)"},
    "uniform_shrinkage(3)",
]


@pytest.mark.parametrize("spec", SPECS)
def test_derivatives_and_both_measures_agree(spec):
    family, _, _, statistics = drawn()
    prior = compile_separation(spec, sketch_of(family, statistics))
    at = np.array([[1.0, 2.0, 0.8, 0.3, 0.5, 0.2]])
    value, gradient, hessian = prior(at)
    for axis in range(6):
        step = 1e-5 * np.eye(6)[axis]
        (va, ga, _), (vb, gb, _) = prior(at - step), prior(at + step)
        np.testing.assert_allclose(gradient[0, axis], (vb - va)[0] / 2e-5, atol=1e-6)
        np.testing.assert_allclose(hessian[0, axis], (gb - ga)[0] / 2e-5, atol=1e-6)
    named = family.from_coordinates(at[0])
    # The default is about the coefficients at the mean predictors.
    frame = np.eye(2) if prior.frame is None else prior.frame[0]
    covariance = frame @ named["Sigma"] @ frame.T
    log_tau, log_sigma = 0.5 * np.log(np.diag(covariance)), np.log(named["sigma"])
    rho = covariance[1, 0] / np.exp(log_tau.sum())
    working = prior.log_density(
        (0, 1), log_tau[:, None], np.array([[np.arctanh(rho)]]), np.array([log_sigma])
    )[0]
    # |∂(τ, ρ, σ)/∂(log τ, atanh ρ, log σ)|, and the constant of LKJ that a density of R omits.
    jacobian = log_tau.sum() + np.log(1 - rho**2) + log_sigma
    constant = integrate.quad(lambda r: (1 - r**2) ** (prior.eta - 1), -1, 1)[0]
    assert working == pytest.approx(value[0] + jacobian - np.log(constant), rel=1e-10)


def test_the_default_is_uniform_shrinkage_at_ten_sampling_variances():
    family, columns, codes, statistics = drawn(3, seed=2)
    sketch = sketch_of(family, statistics)
    variances, centred = [], []
    for store in range(30):
        x = columns["predictors"][codes == store]
        if np.linalg.matrix_rank(x) == 3:
            variances.append(np.diag(np.linalg.inv(x.T @ x)))
            # The same of the coefficients of centred predictors.
            x = np.column_stack([x[:, 0], x[:, 1:] - columns["predictors"][:, 1:].mean(axis=0)])
            centred.append(np.diag(np.linalg.inv(x.T @ x)))
    lower = (len(variances) - 1) // 2
    median = np.sort(variances, axis=0)[lower]
    np.testing.assert_allclose(sampling_variances(sketch)[0], median, rtol=1e-9)
    prior = compile_separation(None, sketch)
    median = np.sort(centred, axis=0)[lower]
    scale = 10 * median
    for k in range(3):
        # p(τ | σ) = c/(c + τ²/σ²)² 2τ/σ², up to the factor 2.
        tau, sigma = np.array([0.3, 1.7]), np.array([0.9, 0.9])
        odds = (tau / sigma) ** 2
        density = scale[k] / (scale[k] + odds) ** 2 * tau / sigma**2
        found = prior.log_density((k,), np.log(tau)[None], np.empty((0, 2)), np.log(sigma))
        np.testing.assert_allclose(np.diff(found), np.diff(np.log(density * tau)), rtol=1e-9)


def test_stores_without_full_rank_share_the_pools_rows():
    family, columns, codes, statistics = drawn(2, most=2)
    found = sampling_variances(sketch_of(family, statistics))[0]
    x = columns["predictors"]
    stores = np.sum(statistics["n"] > 0)
    np.testing.assert_allclose(found, stores * np.diag(np.linalg.inv(x.T @ x)), rtol=1e-9)
    del codes


def test_one_coefficient_has_the_hyperprior_of_the_normal_family():
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(12), rng.integers(2, 8, 12))
    y = rng.normal(size=len(codes)) + 0.5 * rng.normal(size=12)[codes]
    values = get_family("normal").summarise({"value": y}, codes, 12)
    ones = {"response": y, "predictors": np.ones((len(y), 1))}
    rows = get_family(FAMILY, 1).summarise(ones, codes, 12)
    for spec in (None, {"tau": "half_normal(1)", "sigma": "half_normal(2)"}):
        fits = [fit("normal", values, hyperprior=spec), fit(FAMILY, rows, hyperprior=spec)]
        expected = posterior(fits[0], values, uncertainty="integrated")
        found = posterior(fits[1], rows, uncertainty="integrated")
        for name in ("mean", "q0.025", "q0.975"):
            error = np.abs(found[name][:, 0] - expected[name]) / expected["sd"]
            assert error.max() < 0.01
        np.testing.assert_allclose(found["weight"][:, 0], expected["weight"], atol=0.01)


def test_map_maximises_likelihood_times_hyperprior_in_named_parameters():
    family, _, _, statistics = drawn(seed=4)
    spec = {"tau": "half_normal(0.3)", "sigma": "half_normal(1)", "correlation": "lkj(3)"}
    found = fit(family, statistics, estimator="map", hyperprior=spec)
    at = found.pools.coordinates
    sketch = sketch_of(family, statistics)
    prior = compile_separation(spec, sketch)
    best = family.log_marginal(sketch, at)[0] + prior(at)[0]
    rng = np.random.default_rng(5)
    near = at + 0.02 * rng.normal(size=(200, at.shape[1]))
    many = sketch.select(np.zeros(200, int))
    assert found.converged
    assert np.all(family.log_marginal(many, near)[0] + prior(near)[0] < best)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"tau": ["half_normal(1)"]}, "a list of 2"),
        ({"taus": "half_normal(1)"}, "did you mean 'tau'"),
        ({"tau": "half_norml(1)"}, "did you mean 'half_normal'"),
        ({"tau": "half_normal(-1)"}, "positive"),
        ({"correlation": "lkj(0)"}, "positive eta"),
        ({"correlation": "wishart(3)"}, "lkj"),
        ({"mu": "normal(0, 1)"}, "flat prior"),
        ("bda3", "no joint hyperprior"),
        (3, "no joint hyperprior"),
    ],
)
def test_what_is_no_hyperprior_is_named(spec, words):
    family, _, _, statistics = drawn()
    with pytest.raises(FitError, match=words):
        fit(family, statistics, hyperprior=spec)


@pytest.mark.parametrize(
    ("stores", "spec", "end"),
    [
        (30, {"tau": "reciprocal"}, r"small tau\[0\]"),
        (30, {"tau": ["half_normal(1)", "power(-1.5)"]}, r"small tau\[1\]"),
        (2, {"tau": "uniform"}, r"large tau\[0\]"),
        (3, {"tau": ["half_normal(1)", "power(1)"]}, r"large tau\[1\]"),
        (30, {"sigma": "power(1000)"}, "large sigma"),
        (30, {"tau": "half_normal(1)", "sigma": "uniform"}, None),
        (4, {"tau": "uniform"}, None),
    ],
)
def test_improper_posteriors_are_refused(stores, spec, end):
    family, _, _, statistics = drawn(stores=40, most=8, seed=6)
    full = np.flatnonzero(statistics["n"] > 3)[:stores]
    kept = {name: values[full] for name, values in statistics.items()}
    fitted = fit(family, kept, hyperprior=spec)
    if end is None:
        assert np.isfinite(posterior(fitted, kept, uncertainty="first_order")["sd"]).all()
    else:
        with pytest.raises(FitError, match=end):
            posterior(fitted, kept)


@pytest.mark.long
@pytest.mark.parametrize(
    "spec",
    [
        {"tau": "half_normal(1)", "correlation": "lkj(2)", "sigma": "half_normal(1)"},
        {"tau": "half_normal(0.01)", "correlation": "lkj(2)", "sigma": "half_normal(1)"},
    ],
)
def test_map_on_a_bound_is_the_summit_of_an_independent_search(spec):
    # No spread in the data: τ at 0 is where LKJ, unlike the likelihood, has no say.
    rng = np.random.default_rng(3)
    family = get_family(FAMILY, 2)
    named = {"mu": np.ones(2), "Sigma": np.zeros((2, 2)), "sigma": 1.0}
    columns, codes, _ = family.simulate(rng, named, 20, rng.integers(4, 8, 20))
    statistics = family.summarise(columns, codes, 20)
    found = fit(family, statistics, estimator="map", hyperprior=spec)
    assert found.boundary
    assert found.converged
    sketch = sketch_of(family, statistics)
    prior = compile_separation(spec, sketch)
    scale = prior.tau[0][0].arguments[0]

    def objective(v):
        tau, rho, sigma = np.abs(v[2:4]), np.tanh(v[4]), np.exp(v[5])
        r = np.array([[1.0, rho], [rho, 1.0]])
        at = family.to_coordinates({"mu": v[:2], "Sigma": np.outer(tau, tau) * r, "sigma": sigma})
        log_prior = stats.halfnorm(scale=scale).logpdf(tau).sum()
        log_prior += stats.halfnorm(scale=1.0).logpdf(sigma) + np.log(1 - rho**2)
        return -(family.log_marginal(sketch, at[None])[0][0] + log_prior)

    options = {"maxiter": 1000, "xatol": 1e-6, "fatol": 1e-8}
    start = [1.0, 1.0, 0.1, 0.1, 0.3, 0.0]
    best = -optimize.minimize(objective, start, method="Nelder-Mead", options=options).fun
    at = found.pools.coordinates
    mine = family.log_marginal(sketch, at)[0][0] + prior(at)[0][0]
    assert mine > best - 1e-6
