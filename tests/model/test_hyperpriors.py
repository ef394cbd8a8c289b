"""Hyperpriors: densities, derivatives, the two measures, defaults, and what is refused."""

import pickle

import numpy as np
import pytest
from scipy import integrate, stats

from hbpipe.errors import FitError
from hbpipe.model.densities import DENSITIES, Term
from hbpipe.model.families import get_family
from hbpipe.model.geometry import geometry_of
from hbpipe.model.hyperpriors import WIDTH, compile_hyperprior
from hbpipe.model.numerics import jets

STATISTICS = {
    "beta_binomial": {"successes": np.array([3, 20, 11]), "trials": np.array([30, 200, 80])},
    "gamma_poisson": {"count": np.array([3, 20, 11]), "exposure": np.array([1.0, 2.0, 8.0])},
    "normal": {
        "n": np.array([4, 9, 16]),
        "mean": np.array([1.0, 2.0, 4.0]),
        "m2": np.array([3.0, 9.0, 14.0]),
    },
    "normal_known_variance": {
        "estimate": np.array([1.0, 2.0, 5.0]),
        "variance": np.array([0.5, 1.0, 2.0]),
    },
}
POINTS = {
    "beta_binomial": [-2.0, 0.03],
    "gamma_poisson": [0.7, 0.4],
    "normal": [1.3, 0.8, 0.2],
    "normal_known_variance": [1.3, 0.8],
}
SPECS = [
    ("beta_binomial", None),
    ("beta_binomial", "bda3"),
    ("beta_binomial", {"alpha": "exponential(1)", "beta": "gamma(2, 0.1)"}),
    ("beta_binomial", {"mean": "beta(2, 8)", "concentration": "half_cauchy(50)"}),
    ("gamma_poisson", None),
    ("gamma_poisson", "shape^-1.5 rate^-1"),
    ("gamma_poisson", {"shape": "exponential(1)", "rate": "gamma(0.1, 1)"}),
    ("gamma_poisson", {"shape": "half_normal(2)"}),
    ("normal", None),
    ("normal", {"tau": "half_normal(1)", "sigma": "half_cauchy(2)", "mu": "normal(0, 3)"}),
    ("normal", {"tau_squared": "gamma(2, 1)"}),
    ("normal_known_variance", None),
    ("normal_known_variance", {"tau": "half_cauchy(5)", "mu": "normal(1, 2)"}),
    ("normal_known_variance", {"tau": "uniform"}),
    ("normal_known_variance", "uniform_shrinkage(4)"),
]


def prior_of(name, spec, held=frozenset()):
    family = get_family(name)
    stores = STATISTICS[name]
    sketch = family.compress(stores, np.zeros(3, np.int64), 1)
    return compile_hyperprior(family, spec, sketch, held=held)


@pytest.mark.parametrize(("name", "spec"), SPECS)
def test_gradient_and_hessian_agree_with_differences(name, spec):
    prior = prior_of(name, spec)
    point = np.array([POINTS[name]])
    _, gradient, hessian = prior(point)
    for axis in range(point.shape[1]):
        step = np.zeros_like(point)
        step[0, axis] = 1e-5
        up, down = prior(point + step), prior(point - step)
        assert gradient[0, axis] == pytest.approx((up[0] - down[0])[0] / 2e-5, rel=1e-6, abs=1e-8)
        np.testing.assert_allclose(
            hessian[0, axis], (up[1] - down[1])[0] / 2e-5, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(("name", "spec"), SPECS)
def test_working_density_is_the_named_one_times_the_jacobian(name, spec):
    prior, geometry = prior_of(name, spec), geometry_of(name)
    working = np.array([[0.3, -1.1, 0.2][: geometry.n_working]])
    coordinates = geometry.coordinates(jets.variables(working))
    at = np.array([[jet.value[0] for jet in coordinates]])
    named = geometry.named(jets.variables(working))
    slopes = np.array([named[parameter].gradient[0] for parameter in prior.measure])
    expected = prior(at)[0][0] + np.log(abs(np.linalg.det(slopes)))
    assert prior.in_working(jets.variables(working)).value[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("half_cauchy", (5.0,), stats.halfcauchy(scale=5.0)),
        ("half_normal", (2.0,), stats.halfnorm(scale=2.0)),
        ("normal", (1.0, 2.0), stats.norm(1.0, 2.0)),
        ("exponential", (3.0,), stats.expon(scale=1 / 3.0)),
        ("gamma", (2.0, 4.0), stats.gamma(2.0, scale=0.25)),
        ("beta", (2.0, 4.0), stats.beta(2.0, 4.0)),
        ("uniform_shrinkage", (3.0,), stats.lomax(1.0, scale=3.0)),
    ],
)
def test_densities_are_the_textbooks(text, arguments, expected):
    point = np.array([[0.37], [0.81]])
    (u,) = jets.variables(point)
    found = Term("u", text, arguments).log_density({"u": u}).value
    np.testing.assert_allclose(found, expected.logpdf(point[:, 0]), rtol=1e-12)


def test_every_proper_density_is_tested_against_a_textbook():
    improper = {"uniform", "reciprocal", "power"}
    tested = {"half_cauchy", "half_normal", "normal", "exponential", "gamma", "beta"}
    assert set(DENSITIES) == improper | tested | {"uniform_shrinkage"}


@pytest.mark.parametrize("name", STATISTICS)
def test_default_makes_the_shrinkage_uniform_with_the_stated_width(name):
    # c/(c + A) uniform on (0, 1), c = 10 sampling variances of the median store, so the density
    # of log A integrates to one and has its median at c.
    prior, geometry = prior_of(name, None), geometry_of(name)
    family = get_family(name)
    sketch = family.compress(STATISTICS[name], np.zeros(3, np.int64), 1)
    width = WIDTH / geometry.median_size(sketch)[0]
    others = [0.2, 0.1]

    def density(x):
        point = np.array([[others[0], x, others[1]][: geometry.n_working]])
        return np.exp(prior.in_working(jets.variables(point)).value[0])

    total = integrate.quad(density, np.log(width) - 40, np.log(width) + 40, limit=200)[0]
    below = integrate.quad(density, np.log(width) - 40, np.log(width), limit=200)[0]
    quarter = integrate.quad(density, np.log(width) - 40, np.log(width / 3), limit=200)[0]
    assert below / total == pytest.approx(0.5, rel=1e-7)
    assert quarter / total == pytest.approx(0.25, rel=1e-7)


@pytest.mark.parametrize("spec", [{"tau": "half_cauchy(5)"}, {"tau": "half_normal(2)"}])
def test_even_densities_are_smooth_at_no_spread(spec):
    prior = prior_of("normal_known_variance", spec)
    value, gradient, hessian = prior(np.array([[0.0, 0.0]]))
    near, slope, _ = prior(np.array([[0.0, 1e-6]]))
    assert np.isfinite(hessian).all()
    assert near[0] - value[0] == pytest.approx(1e-6 * gradient[0, 1], rel=1e-5)
    assert slope[0, 1] == pytest.approx(gradient[0, 1], rel=1e-5)


def test_held_parameters_have_neither_factor_nor_jacobian():
    prior = prior_of("normal", None, held=frozenset({"tau"}))
    assert prior.measure == ("mu", "sigma")
    assert [term.parameter for term in prior.terms] == ["sigma"]
    shape_held = prior_of("gamma_poisson", None, held=frozenset({"shape"}))
    assert shape_held.measure == ("mean",)


def test_a_compiled_prior_pickles_and_selects_pools():
    family = get_family("beta_binomial")
    stores = STATISTICS["beta_binomial"]
    sketch = family.compress(stores, np.arange(3), 3)
    prior = compile_hyperprior(family, None, sketch)
    copy = pickle.loads(pickle.dumps(prior)).select(np.array([0, 2]))
    points = np.array([[-1.0, 0.1], [-2.0, 0.2], [-1.5, 0.05]])
    np.testing.assert_array_equal(copy(points[[0, 2]])[0], prior(points)[0][[0, 2]])


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("normal", {"tua": "uniform"}, "did you mean 'tau'"),
        ("normal", {"tau": "half_cuchy(5)"}, "did you mean 'half_cauchy'"),
        ("normal", {"tau": "half_cauchy"}, r"half_cauchy\(scale\)"),
        ("normal", {"tau": "half_cauchy(-1)"}, "positive"),
        ("normal", {"tau": "half_cauchy(x)"}, "finite numbers"),
        ("normal", {"mu": "half_cauchy(1)"}, "any sign"),
        ("normal", {"tau": 5}, "there is no hyperprior 5"),
        ("normal", "bda3", "no joint hyperprior"),
        ("beta_binomial", "bda", "did you mean 'bda3'"),
        ("beta_binomial", {"alpha": "exponential(1)"}, "says nothing of beta"),
        ("beta_binomial", {"alpha": "exponential(1)", "mean": "uniform"}, "one parametrisation"),
        ("gamma_poisson", 7, "mapping of parameter"),
    ],
)
def test_wrong_specifications_say_what_is_right(name, spec, words):
    with pytest.raises(FitError, match=words):
        prior_of(name, spec)
