"""Values with a common within-store sd: x_ij ~ N(θ_j, σ²), θ_j ~ N(μ, τ²), σ unknown.

Coordinates and estimators are in ``common_sd.py``, the likelihood in ``marginal/normal.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model import common_sd
from hbpipe.model.dispersion import VALUES
from hbpipe.model.family import (
    Array,
    Codes,
    Family,
    Hyperparameters,
    Prior,
    Regression,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.gaussian import log_normaliser_normal, normal_prior, update_normal
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.normal import (
    NormalSketch,
    location_message,
    log_marginal,
    log_no_pooling,
    log_restriction,
    pearson,
)
from hbpipe.model.numerics.grouped import fold_moments, moments_of


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Count, mean and centred sum of squares of each store, in two passes."""
    return moments_of(np.asarray(events["value"], np.float64), codes, n_stores)


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior N(mu, tau²) of each store: precision weighting (BDA3, eq. 5.17)."""
    return update_normal(
        np.asarray(statistics["mean"], np.float64),
        np.asarray(statistics["n"], np.float64) / np.square(hyperparameters["sigma"]),
        hyperparameters["mu"],
        hyperparameters["tau"],
    )


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Σ log N(x; 0, σ²) of the values of a store, which is 0 for an absent one."""
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    n = np.asarray(statistics["n"], np.float64)
    squares = statistics["m2"] + n * np.square(statistics["mean"])
    return -n * (0.5 * LOG_2PI + np.log(sigma)) - 0.5 * squares / np.square(sigma)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` values per store."""
    theta = rng.normal(hyperparameters["mu"], hyperparameters["tau"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    return {"value": rng.normal(theta[codes], hyperparameters["sigma"])}, codes, theta


def sizes(statistics: Statistics) -> tuple[Array, Array]:
    """Values and mean of each store."""
    n = np.asarray(statistics["n"], np.float64)
    return n, np.where(n > 0, statistics["mean"], 0.0)


FAMILY = Family(
    name="normal",
    kernel_version=1,
    roles=(Role("value"),),
    statistics=(
        Statistic("n", "int64", "moments", lowest=0.0),
        Statistic("mean", "float64", "moments"),
        Statistic("m2", "float64", "moments", lowest=0.0, needs="n", needs_above=1.0),
    ),
    hyperparameters=("mu", "tau", "sigma"),
    coordinates=common_sd.COORDINATES,
    summarise=summarise,
    fold=fold_moments,
    compress=NormalSketch.of,
    merge_sketches=NormalSketch.merged,
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
    dispersion=VALUES,
    regression=Regression("identity", pearson),
    geometry=common_sd.geometry(sizes),
)
