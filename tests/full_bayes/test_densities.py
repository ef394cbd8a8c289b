"""Densities and axes of full Bayes against those of the model, which they do not share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from hbpipe.full_bayes.axes import Axis
from hbpipe.full_bayes.densities import log_density
from hbpipe.full_bayes.library import SCIPY, jax_library
from hbpipe.model.densities import DENSITIES, Term
from hbpipe.model.numerics.jets import variables

ARGUMENTS = {
    "half_cauchy": (5.0,),
    "half_normal": (0.7,),
    "normal": (0.3, 0.2),
    "exponential": (2.0,),
    "gamma": (0.1, 1.5),
    "beta": (0.5, 2.5),
    "uniform": (),
    "reciprocal": (),
    "power": (-2.5,),
    "uniform_shrinkage": (0.2,),
}
POINTS = np.array([0.05, 0.3, 0.8])


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_is_the_model_s_up_to_a_constant(name: str) -> None:
    term = Term("u", name, ARGUMENTS[name])
    (jet,) = variables(POINTS[:, None])
    expected = term.log_density({"u": jet}).value
    for library in (SCIPY, jax_library()):
        found = np.asarray(log_density(library, [term], {"u": POINTS}))
        np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "axis",
    [
        Axis("u", "real", 3.0, 2.0),
        Axis("u", "positive", 0.4),
        Axis("u", "unit", 0.2),
        Axis("u", "above", 4.2, least=2.1),
    ],
    ids=lambda axis: axis.support,
)
def test_an_axis_knows_its_jacobian(axis: Axis) -> None:
    at = np.array([-1.3, 0.4])
    value, jacobian = axis.at(SCIPY, at)
    slope = [axis.at(SCIPY, x + 1e-6)[0]["u"] - axis.at(SCIPY, x - 1e-6)[0]["u"] for x in at]
    assert np.diff(np.log(slope)) == pytest.approx(np.diff(jacobian), abs=1e-8)
    assert axis.at(SCIPY, 0.0)[0]["u"] == pytest.approx(axis.guess)
    assert np.all(np.diff(value["u"]) > 0)


def test_a_share_next_to_one_keeps_its_complement() -> None:
    value, _ = Axis("u", "unit", 0.5).at(SCIPY, 60.0)
    assert value["u_complement"] == pytest.approx(np.exp(-60.0))
    found = log_density(SCIPY, [Term("u", "beta", (0.5, 0.5))], value)
    assert found == pytest.approx(30.0)


def test_a_density_of_a_share_is_one_of_the_line() -> None:
    axis, terms = Axis("u", "unit", 0.2), [Term("u", "beta", (2.0, 3.0))]

    def density(x: float) -> float:
        value, jacobian = axis.at(SCIPY, x)
        return float(np.exp(log_density(SCIPY, terms, value) + jacobian))

    beta = quad(lambda u: u * (1.0 - u) ** 2, 0.0, 1.0)[0]
    assert quad(density, -40.0, 40.0)[0] == pytest.approx(beta)
