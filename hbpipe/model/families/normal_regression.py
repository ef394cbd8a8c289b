"""Varying intercepts and slopes: y_ij ~ N(x_ij' b_j, σ²), b_j ~ N(μ, Σ), Σ unstructured.

``size`` is P, the number of predictors, the constant column included by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.cross import cross_moments_of, fold_cross_moments
from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Role, Statistic


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


def _to_come(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("the likelihood follows")


@lru_cache
def sized(size: int) -> Family:
    """Return the family with ``size`` coefficients."""
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
        coordinates=(),
        summarise=partial(summarise, size=size),
        fold=fold_cross_moments,
        compress=_to_come,
        merge_sketches=_to_come,
        moments={},
        scale=_to_come,
        degeneracies=_to_come,
        log_marginal=_to_come,
        from_coordinates=_to_come,
        to_coordinates=_to_come,
        update=_to_come,
        prior=_to_come,
        log_normaliser=_to_come,
        log_base_measure=_to_come,
        describe=_to_come,
        predict=_to_come,
        simulate=simulate,
        sample_size="n",
        size=size,
        sized=sized,
    )


FAMILY = sized(2)
