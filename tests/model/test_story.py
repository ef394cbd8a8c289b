"""A fit tells how it was found: as numbers, and in words."""

from dataclasses import replace

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools

EIGHT_SCHOOLS = {
    "estimate": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
    "variance": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]) ** 2,
}
RATES = {"successes": [3, 20, 11, 0, 7], "trials": [30, 200, 80, 9, 7]}


def scaled_curvature(found, used):
    """−H with its diagonal scaled to 1, from finite differences of the likelihood."""
    family, at = get_family(found.family), found.pools.coordinates[0]
    _, gradient, _ = family.log_marginal(found.sketch, at[None])
    hessian = np.zeros((len(at), len(at)))
    for axis in range(len(at)):
        step = np.zeros(len(at))
        step[axis] = 1e-6 * (1 + abs(at[axis]))
        up, down = (
            family.log_marginal(found.sketch, (at + sign * step)[None])[1] for sign in (1, -1)
        )
        hessian[axis] = (up - down)[0] / (2 * step[axis])
    negative = -hessian[np.ix_(used, used)]
    unit = 1 / np.sqrt(np.diag(negative))
    assert np.abs(gradient[0][used]).max() < 1e-4
    return negative * np.outer(unit, unit)


def test_eigenvalues_are_those_of_the_scaled_curvature():
    found = fit("beta_binomial", RATES)
    expected = np.linalg.eigvalsh(scaled_curvature(found, [0, 1]))
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-5)
    # On the bound the spread is left out, and one coordinate has nothing to be scaled against.
    np.testing.assert_allclose(
        fit("normal_known_variance", EIGHT_SCHOOLS).eigenvalues, [1.0], rtol=1e-12
    )
    held = fit("beta_binomial", RATES, fixed={"alpha": 1.0, "beta": 9.0})
    assert held.eigenvalues.shape == (0,)
    free = fit("normal", {"n": [4, 9, 5], "mean": [1.0, 2.5, 4.0], "m2": [3.0, 9.0, 4.0]})
    assert free.eigenvalues.shape == (3,)
    assert np.all(np.diff(free.eigenvalues) >= 0)
    assert np.all(free.eigenvalues > 0)


def test_the_fit_repeats_what_its_batch_says():
    found = fit("beta_binomial", RATES)
    assert found.start_values.shape == (3,)
    np.testing.assert_array_equal(found.start_values, found.pools.start_values[:, 0])
    assert found.starts_agree is True
    assert found.start_log_marginal_likelihood <= found.log_marginal_likelihood
    both = fit_pools(
        get_family("beta_binomial"),
        get_family("beta_binomial").compress(
            {name: np.tile(values, 2) for name, values in RATES.items()}, np.repeat([0, 1], 5), 2
        ),
    )
    np.testing.assert_array_equal(both.pool(1).eigenvalues, found.eigenvalues)
    assert both.pool(1).story == found.story


def test_a_story_names_what_happened():
    story = fit("beta_binomial", RATES).story
    assert "beta_binomial of 5 stores with data, by ml" in story
    assert "3 climbs ended on the same summit" in story
    assert "proper maximum inside the bounds" in story
    story = fit("normal_known_variance", EIGHT_SCHOOLS, estimator="reml").story
    assert "no spread" in story
    assert story.endswith("On a bound: tau.")


@pytest.mark.parametrize(
    ("name", "data", "arguments", "words"),
    [
        ("beta_binomial", RATES, {"estimator": "moments"}, "by moments: nothing was maximised"),
        ("beta_binomial", RATES, {"fixed": {"alpha": 1.0, "beta": 9.0}}, "was held"),
        ("beta_binomial", {"successes": [0, 0], "trials": [5, 9]}, {}, "There is no success in"),
        ("gamma_poisson", {"count": [6], "exposure": [3.0]}, {}, "of 1 store with data"),
        ("beta_binomial", {"successes": [0, 9], "trials": [9, 9]}, {}, "at the edge of what is"),
        ("normal_known_variance", EIGHT_SCHOOLS, {"estimator": "ml:chung"}, "by ml:chung"),
    ],
)
def test_every_ending_has_its_words(name, data, arguments, words):
    assert words in fit(name, data, **arguments).story


def test_a_bad_ending_is_told():
    found = fit("beta_binomial", RATES)
    apart = replace(found, pools=replace(found.pools, starts_agree=np.array([False])))
    assert "3 climbs found several summits; the one kept" in apart.story
    stopped = replace(found, status="not_converged", converged=False)
    assert stopped.story.endswith("do not use these values.")
