"""Values of known relative precision: x_ij ~ N(θ_j, σ²/w_ij), θ_j ~ N(μ, τ²), σ unknown.

A value may be a mean of w others, or be measured w times as exactly. σ is the sd of a value of
precision 1. Values of precision 0 say nothing. Coordinates and estimators are in ``common_sd.py``,
the likelihood in ``marginal/normal_weighted.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model import common_sd
from hbpipe.model.family import (
    Array,
    Codes,
    Family,
    Hyperparameters,
    Prior,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.gaussian import log_normaliser_normal, normal_prior, update_normal
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.normal import (
    location_message,
    log_marginal,
    log_no_pooling,
    log_restriction,
)
from hbpipe.model.marginal.normal_weighted import WeightedSketch
from hbpipe.model.numerics.grouped import float_sums, fold_moments, integer_sums


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Count, weights, weighted mean and centred squares of each store's values."""
    precision = np.asarray(events["precision"], np.float64)
    known = precision > 0
    value = np.asarray(events["value"], np.float64)
    rows = {
        "n": known.astype(np.int64),
        "precision": precision,
        "log_precision": np.log(np.where(known, precision, 1.0)),
        "mean": np.where(known, value, 0.0),
        "m2": np.zeros(len(value)),
    }
    return fold(rows, codes, n_stores)


def fold(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge rows of one store, their means weighted by precision."""
    sizes = {"n": statistics["precision"], "mean": statistics["mean"], "m2": statistics["m2"]}
    folded = fold_moments(sizes, codes, n_stores)
    return {
        "n": integer_sums(statistics["n"], codes, n_stores),
        "precision": folded["n"],
        "log_precision": float_sums(statistics["log_precision"], codes, n_stores),
        "mean": folded["mean"],
        "m2": folded["m2"],
    }


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior N(mu, tau²) of each store: precision weighting (BDA3, eq. 5.17)."""
    return update_normal(
        np.asarray(statistics["mean"], np.float64),
        np.asarray(statistics["precision"], np.float64) / np.square(hyperparameters["sigma"]),
        hyperparameters["mu"],
        hyperparameters["tau"],
    )


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Σ log N(x; 0, σ²/w) of the values of a store, which is 0 for an absent one."""
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    n = np.asarray(statistics["n"], np.float64)
    squares = statistics["m2"] + statistics["precision"] * np.square(statistics["mean"])
    constant = 0.5 * np.asarray(statistics["log_precision"]) - n * (0.5 * LOG_2PI + np.log(sigma))
    return np.asarray(constant - 0.5 * squares / np.square(sigma))


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` values per store, of precisions from 1/4 to 4."""
    theta = rng.normal(hyperparameters["mu"], hyperparameters["tau"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    precision = np.exp2(rng.uniform(-2.0, 2.0, len(codes)))
    value = rng.normal(theta[codes], hyperparameters["sigma"] / np.sqrt(precision))
    return {"value": value, "precision": precision}, codes, theta


def sizes(statistics: Statistics) -> tuple[Array, Array]:
    """Precision in units of 1/σ², and mean, of each store."""
    precision = np.asarray(statistics["precision"], np.float64)
    return precision, np.where(precision > 0, statistics["mean"], 0.0)


FAMILY = Family(
    name="normal_weighted",
    kernel_version=1,
    roles=(Role("value"), Role("precision", lowest=0.0)),
    statistics=(
        Statistic("n", "int64", "moments", lowest=0.0),
        Statistic("precision", "float64", "moments", lowest=0.0, needs="n"),
        Statistic("log_precision", "float64", "sum"),
        Statistic("mean", "float64", "moments"),
        Statistic("m2", "float64", "moments", lowest=0.0, needs="n", needs_above=1.0),
    ),
    hyperparameters=("mu", "tau", "sigma"),
    coordinates=common_sd.COORDINATES,
    summarise=summarise,
    fold=fold,
    compress=WeightedSketch.of,
    merge_sketches=WeightedSketch.merged,
    moments=common_sd.MOMENTS,
    scale=common_sd.scale,
    degeneracies=common_sd.degeneracies,
    log_marginal=log_marginal,
    from_coordinates=common_sd.from_coordinates,
    to_coordinates=common_sd.to_coordinates,
    update=update,
    prior=normal_prior,
    log_normaliser=log_normaliser_normal,
    log_base_measure=log_base_measure,
    describe=common_sd.describe,
    predict=common_sd.predict,
    simulate=simulate,
    log_restriction=log_restriction,
    log_no_pooling=log_no_pooling,
    location_message=location_message,
    sample_size="n",
    empty_exposure=False,
    geometry=common_sd.geometry(sizes),
)
