"""Counts with covariates by importance sampling: the change of variables, and chains."""

import numpy as np
import pytest
from covariate_cases import DATA
from scipy import integrate

from hbpipe.model.covariates.draws import OnRidge
from hbpipe.model.covariates.posterior import _target
from hbpipe.model.covariates.ridge import find_ridges
from hbpipe.model.covariates.separation import standardise
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit
from hbpipe.model.integrate import start_point
from hbpipe.model.integration import drawing
from hbpipe.model.integration.peak import find_peak
from hbpipe.model.numerics import chains
from hbpipe.model.posterior import posterior

counts = pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])


def on_ridge(name, data, x, fixed=None):
    """The posterior density of the only pool along its ridge, and its peak."""
    fits = fit(name, data, covariates=x, fixed=fixed).pools
    sketch = standardise(get_family(name), fits.sketch, apart=False)
    target = _target(fits.model, get_family(name), sketch, fits.held, None)
    peak = find_peak(target, start_point(target, np.zeros((1, target.held.shape[1]))))
    return OnRidge(target, find_ridges(target, peak)[0]), peak


@counts
def test_the_change_of_variables_has_its_jacobian(name):
    ridge = on_ridge(name, *DATA[name](3, 20, 3))[0].ridge
    at = np.array([[-3.0, 0.4, -1.0, 2.0], [0.3, 0.0, 0.0, 0.0], [30.0, 1.0, 1.0, -3.0]])
    _, stretch = ridge.points(at)
    for point, found in zip(at, stretch, strict=True):
        steps = 1e-6 * np.eye(4)
        moved = ridge.points(point + steps)[0] - ridge.points(point - steps)[0]
        jacobian = np.linalg.slogdet(moved / 2e-6)[1]
        assert found == pytest.approx(jacobian, abs=1e-6)


@counts
def test_mass_is_the_same_along_the_ridge_as_in_the_working_variables(name):
    data, x = DATA[name](5, 8, 1)
    target, peak = on_ridge(name, data, x)
    log_spread = np.linspace(-16.0, 14.0, 201)
    z = np.linspace(-8.0, 8.0, 65)
    along = np.stack(np.meshgrid(log_spread, z, indexing="ij"), axis=-1).reshape(-1, 2)
    top = float(target.log_density(along).max())
    density = np.exp(target.log_density(along) - top).reshape(201, 65)
    mass = integrate.trapezoid(integrate.trapezoid(density, z, axis=1), log_spread)
    location = peak.point[0, 0] + np.linspace(-12.0, 12.0, 301)
    working = np.stack(np.meshgrid(location, log_spread, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(target.target.repeat(len(working)).log_density(working) - top)
    plain = integrate.trapezoid(density.reshape(301, 201), log_spread, axis=1)
    assert mass == pytest.approx(integrate.trapezoid(plain, location), rel=2e-3)


@counts
def test_given_the_spread_the_coefficients_are_about_standard(name):
    target, peak = on_ridge(name, *DATA[name](6, 60, 3))
    for log_spread in peak.point[0, 1] + np.array([-6.0, 0.0, 2.0]):
        axes = 0.5 * np.eye(3)
        z = np.concatenate([np.zeros((1, 3)), axes, -axes])
        points = np.column_stack([np.full(len(z), log_spread), z])
        value = target.log_density(points)
        curvature = (value[1:4] + value[4:] - 2.0 * value[0]) / 0.25
        np.testing.assert_allclose(curvature, -1.0, atol=0.15)
        np.testing.assert_allclose(value[1:4] - value[4:], 0.0, atol=0.3)


@counts
def test_what_is_held_is_no_variable(name):
    data, x = DATA[name](10, 30, 2)
    family = get_family(name, covariates=2)
    spread = family.hyperparameters[1]
    free = on_ridge(name, data, x)[0]
    assert free.names == ("log_spread", "z0", "z2")
    assert on_ridge(name, data, x, {spread: 9.0})[0].names == ("z0", "z2")
    known = on_ridge(name, data, x, {"coefficients": np.array([-2.0, 0.1])})[0]
    assert known.names == ("log_spread",)
    values = known.nodes(np.array([[-1.0], [2.0]]))
    np.testing.assert_allclose(values["coefficients"], [[-2.0, 0.1]] * 2, rtol=1e-9)


@counts
def test_few_stores_of_rare_events_take_more_points(name):
    """Some of the points are beyond the range of floats, and none of them counts."""
    data, x = DATA[name](20, 9, 3)
    nodes = posterior(fit(name, data, covariates=x), data, covariates=x).nodes
    assert nodes.sampler.tolist() == ["sobol"]
    assert nodes.pareto_k[0] < 0.7
    assert nodes.ess[0] > 5000.0
    assert nodes.moved[0] < 0.02


@counts
def test_chains_take_over_where_weights_are_not_to_be_trusted(name, monkeypatch):
    data, x = DATA[name](12, 25, 2)
    found = fit(name, data, covariates=x)
    expected = posterior(found, data, uncertainty="integrated", covariates=x)
    monkeypatch.setattr(drawing, "LIMIT", -10.0)
    for setting, value in (("_WINDOWS", (50,)), ("_LENGTH", 150), ("ENOUGH", 300.0)):
        monkeypatch.setattr(chains, setting, value)
    again = fit(name, data, covariates=x)
    law = posterior(again, data, uncertainty="integrated", covariates=x)
    assert expected.nodes.sampler.tolist() == ["sobol"]
    assert law.nodes.sampler.tolist() == ["nuts"]
    assert law.nodes.method.tolist() == ["integrated"]
    assert law.nodes.r_hat[0] <= 1.01
    for column in ("mean", "q0.025", "q0.975"):
        np.testing.assert_allclose((law[column] - expected[column]) / expected["sd"], 0, atol=0.15)
