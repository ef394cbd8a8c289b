"""Pools that lack a category are fitted without it, as if they were alone with what they have."""

import numpy as np
import pytest

import hbpipe
from hbpipe.model.covariates.ranks import Span, fit_by_rank
from hbpipe.model.families import get_family
from hbpipe.model.update.pools import update_pools

#: Pool 0 has all three categories, pool 1 lacks the second, pool 2 lacks it too and has no data of
#: the third, pool 3 has no data at all, pool 4 is like pool 0.
PRESENT = ([0, 1, 2], [0, 2], [0], [], [0, 1, 2])


def cases(name, seed=1):
    rng = np.random.default_rng(seed)
    pool, kind = [], []
    for g, kinds in enumerate(PRESENT):
        pool += [g] * (14 * len(kinds))
        kind += list(np.repeat(kinds, 14))
    pool, kind = np.array(pool), np.array(kind, int)
    x = np.column_stack([np.ones(len(kind)), kind == 1, kind == 2, rng.normal(size=len(kind))])
    line = x @ [-1.0, 0.7, -0.5, 0.2]
    n = rng.integers(5, 60, len(kind))
    if name == "beta_binomial":
        mean = 1 / (1 + np.exp(-line))
        theta = rng.beta(40 * mean, 40 * (1 - mean))
        statistics = {"successes": rng.binomial(n, theta), "trials": n}
    else:
        theta = rng.normal(line, 0.4)
        statistics = {
            "n": n,
            "mean": rng.normal(theta, 1 / np.sqrt(n)),
            "m2": rng.chisquare(n - 1),
        }
    return pool, x, statistics


@pytest.fixture(scope="module", params=["beta_binomial", "normal"])
def fitted(request):
    pool, x, statistics = cases(request.param)
    family = get_family(request.param, None, 4)
    sketch = family.compress({**statistics, "covariates": x}, pool, 5)
    span = Span.of(sketch)
    options = {"estimator": "ml", "fixed": None, "hyperprior": None, "uncertainty": "auto"}
    return family, pool, x, statistics, span, fit_by_rank(family, sketch, span, **options)


def test_columns_that_a_pool_does_not_determine_are_found(fitted):
    span = fitted[4]
    assert span.determined.tolist() == [
        [True] * 4,
        [True, False, True, True],
        [True, False, False, True],
        [True] * 4,
        [True] * 4,
    ]
    x = np.array([[1.0, 0, 0, 5.0], [1.0, 1.0, 0, 0.3], [1.0, 0, 1.0, -2.0]])
    for pool, reached in ((0, [1, 1, 1]), (1, [1, 0, 1]), (2, [1, 0, 0])):
        assert span.reaches(x, np.full(3, pool)).tolist() == reached


def test_a_constant_column_leaves_the_intercept_alone_with_it():
    """All stores of the pool are malls: the intercept stands for the mall."""
    family = get_family("normal", None, 2)
    statistics = {"n": np.full(6, 9), "mean": np.arange(6.0), "m2": np.full(6, 8.0)}
    sketch = family.compress({**statistics, "covariates": np.ones((6, 2))}, np.zeros(6, int), 1)
    span = Span.of(sketch)
    assert span.determined.tolist() == [[True, False]]
    at = np.array([[1.0, 1.0], [1.0, 0.0]])
    assert span.reaches(at, np.zeros(2, np.int64)).tolist() == [True, False]


@pytest.mark.parametrize("g", [0, 1, 2, 4])
def test_a_pool_is_fitted_as_if_it_were_alone_with_its_columns(fitted, g):
    family, pool, x, statistics, span, ranked = fitted
    mine, kept = pool == g, span.determined[g]
    own = {name: values[mine] for name, values in statistics.items()}
    alone = hbpipe.fit(family.name, own, covariates=x[mine][:, kept])
    expected = hbpipe.posterior(alone, own, covariates=x[mine][:, kept], quantiles=(0.1, 0.9))
    fits = ranked.fits
    assert np.isclose(fits.log_marginal_likelihood[g], alone.log_marginal_likelihood)
    assert (fits.status[g], fits.n_groups[g]) == (alone.status, alone.n_groups)
    coefficients = fits.hyperparameters["coefficients"][g]
    assert np.allclose(coefficients[kept], alone.hyperparameters["coefficients"])
    assert np.all(coefficients[~kept] == 0)
    used = np.concatenate([kept, np.ones(len(fits.covariance[g]) - 4, bool)])
    assert np.allclose(fits.covariance[g][np.ix_(used, used)], alone.covariance)
    assert np.allclose(fits.curvature_of(g), alone.eigenvalues)
    columns = update_pools(
        family,
        ranked.nodes,
        fits.hyperparameters,
        {**own, "covariates": x[mine]},
        np.full(mine.sum(), g),
        quantiles=(0.1, 0.9),
    )
    for name in ("mean", "sd", "sd_plug_in", "prior_mean"):
        assert np.allclose(getattr(columns, name), expected[name], rtol=1e-9, atol=1e-12), name
    assert np.allclose(columns.quantiles[:, 1], expected["q0.9"], rtol=1e-9)
    alike, sd = ranked.complete.of_stores(
        family, {**own, "covariates": x[mine]}, np.full(mine.sum(), g)
    )
    assert np.allclose(alike, expected["complete_pooling"])
    assert np.allclose(sd, expected["complete_pooling_sd"])


def test_a_pool_without_data_is_not_identified(fitted):
    ranked = fitted[-1]
    assert ranked.fits.status[3] == "no_data"
    assert not ranked.fits.identified[3]
    assert ranked.nodes.method[3] == "unidentified"
    assert np.isnan(ranked.complete.estimate[3]).all()
