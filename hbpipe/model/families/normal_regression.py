"""Varying intercepts and slopes: y_ij ~ N(x_ij' b_j, σ²), b_j ~ N(μ, Σ), Σ unstructured.

``size`` is P, the number of predictors, the constant column included by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Family,
    Hyperparameters,
    Mirror,
    Role,
    Statistic,
)
from hbpipe.model.integration.sampling import Sampling
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.regression import log_marginal
from hbpipe.model.marginal.restricted import log_restriction
from hbpipe.model.numerics.cross import cross_moments_of, fold_cross_moments
from hbpipe.model.numerics.small import diagonal, rows_last
from hbpipe.model.regression.coefficients import (
    describe_coefficients,
    log_base_measure,
    log_normaliser_coefficients,
    predict_response,
    prior_of,
    update_coefficients,
)
from hbpipe.model.regression.least_squares import least_squares, least_squares_sd
from hbpipe.model.regression.limits import degeneracies, integrable
from hbpipe.model.regression.products import (
    GENEROUS,
    centred,
    check_possible,
    is_raw,
    number_of_predictors,
)
from hbpipe.model.regression.relative import coordinates_of, folded, lost_ranks, named, triangle
from hbpipe.model.regression.separation import compile_separation
from hbpipe.model.regression.stores import conditional, deviation, predict, representatives, terms
from hbpipe.model.regression.swamy import LOG_SIGMA_BOUND, scale, swamy
from hbpipe.model.regression.target import regression_target
from hbpipe.model.statistics import check_statistics


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int, *, size: int
) -> dict[str, NDArray[Any]]:
    """Count, means and centred cross-products of the predictors and, last, the response."""
    predictors = np.asarray(events["predictors"], np.float64).reshape(len(codes), size)
    response = np.asarray(events["response"], np.float64)
    return cross_moments_of(np.column_stack([predictors, response]), codes, n_stores)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` events per store: a constant, and standard normal predictors."""
    mu = np.asarray(hyperparameters["mu"], np.float64)
    values, vectors = np.linalg.eigh(np.asarray(hyperparameters["Sigma"], np.float64))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    theta = mu + rng.standard_normal((n_stores, len(mu))) @ root.T
    codes = np.repeat(np.arange(n_stores), size)
    predictors = rng.standard_normal((len(codes), len(mu)))
    predictors[:, 0] = 1.0
    mean = np.sum(predictors * theta[codes], axis=1)
    response = rng.normal(mean, hyperparameters["sigma"])
    return {"response": response, "predictors": predictors}, codes, theta


def axes(size: int) -> tuple[Coordinate, ...]:
    """μ, the lower triangle of Λ column by column with its diagonal ≥ 0, and log σ."""
    rows, columns = triangle(size)
    return (
        *(Coordinate(f"mu[{k}]", -np.inf, np.inf, "mu") for k in range(size)),
        *(
            Coordinate(f"theta[{i},{k}]", 0.0 if i == k else -np.inf, np.inf, "Sigma", spread=True)
            for i, k in zip(rows.tolist(), columns.tolist(), strict=True)
        ),
        Coordinate("log_sigma", -LOG_SIGMA_BOUND, LOG_SIGMA_BOUND, "sigma"),
    )


def admit(statistics: Mapping[str, Any]) -> tuple[Family, dict[str, NDArray[Any]]]:
    """Take ``n``, ``xtx``, ``xty``, ``yty``, or ``n``, ``means``, ``cross``, of any P."""
    size = number_of_predictors(statistics)
    family = FAMILY if size is None else sized(size)
    if is_raw(statistics):
        return family, centred(family.name, statistics, size or 1)
    arrays = check_statistics(family, statistics)
    cross = rows_last(arrays["cross"])
    check_possible(family.name, arrays["n"], cross, GENEROUS * diagonal(cross))
    return family, arrays


SAMPLING = Sampling(
    target=regression_target,
    conditional=conditional,
    deviation=deviation,
    predict=predict,
    terms=terms,
    integrable=integrable,
    representatives=representatives,
)


@lru_cache
def sized(size: int) -> Family:
    """Return the family with ``size`` coefficients.

    Raises
    ------
    FitError
        If that is not a positive whole number.
    """
    if size < 1:
        raise FitError(f"a regression has {size} coefficients", expected="one or more")
    columns = size + 1
    return Family(
        name="normal_regression",
        kernel_version=1,
        roles=(Role("response"), Role("predictors", several=True)),
        statistics=(
            Statistic("n", "int64", "moments", lowest=0.0),
            Statistic("means", "float64", "moments", (columns,)),
            Statistic("cross", "float64", "moments", (columns, columns)),
        ),
        hyperparameters=("mu", "Sigma", "sigma", "tau", "correlation"),
        coordinates=axes(size),
        summarise=partial(summarise, size=size),
        fold=fold_cross_moments,
        compress=RegressionSketch.of,
        merge_sketches=RegressionSketch.merged,
        moments={"swamy": swamy},
        scale=scale,
        degeneracies=degeneracies,
        log_marginal=log_marginal,
        log_restriction=log_restriction,
        from_coordinates=partial(named, size=size),
        to_coordinates=partial(coordinates_of, size=size),
        admit=admit,
        mirror=Mirror(partial(folded, size=size), partial(lost_ranks, size=size)),
        update=update_coefficients,
        prior=prior_of,
        log_normaliser=log_normaliser_coefficients,
        log_base_measure=log_base_measure,
        describe=describe_coefficients,
        predict=predict_response,
        simulate=simulate,
        sample_size="n",
        compresses=False,
        raw=least_squares,
        raw_sd=least_squares_sd,
        sampling=SAMPLING,
        hyperprior=compile_separation,
        size=size,
        sized=sized,
    )


FAMILY = sized(2)
