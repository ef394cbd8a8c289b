"""Values whose store level drifts from day to day, a local level model with one signal ratio.

    x_ijd ~ N(θ_jd, σ²),   θ_jd = θ_j,d−1 + N(0, q σ²),   θ_j0 ~ N(μ, τ²)

``size`` is D, the days of the window; θ_j is the level of the last one. Coordinates
(μ, τ², q, log σ), so that no drift, q = 0, is an ordinary point: there it is the family ``normal``.
The filter is in ``local_level/filtering.py``, the likelihood in ``marginal/local_level.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.estimation.moments import dersimonian_laird, hedges, paule_mandel
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Family,
    Hyperparameters,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.local_level.algebra import (
    LOG_SIGMA_BOUND,
    NAMES,
    RATIO_BOUND,
    describe,
    from_coordinates,
    log_base_measure,
    log_normaliser,
    predict,
    prior,
    to_coordinates,
    update,
)
from hbpipe.model.local_level.hyperpriors import space
from hbpipe.model.local_level.moments import degeneracies, scale, successive_differences
from hbpipe.model.local_level.stores import drifting_sampling
from hbpipe.model.marginal.local_level import DailySketch, log_marginal, log_restriction
from hbpipe.model.numerics.grouped import fold_moments, moments_of
from hbpipe.model.statistics import check_statistics


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int, *, size: int
) -> dict[str, NDArray[Any]]:
    """Count, mean and centred sum of squares of each store and day, in two passes."""
    cells = np.asarray(codes, np.int64) * size + np.asarray(events["day"], np.int64)
    found = moments_of(np.asarray(events["value"], np.float64), cells, n_stores * size)
    return {name: values.reshape(n_stores, size) for name, values in found.items()}


def fold(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge rows of one store day by day."""
    days = np.shape(statistics["n"])[1]
    cells = (np.asarray(codes, np.int64)[:, None] * days + np.arange(days)).ravel()
    parts = {name: np.asarray(statistics[name]).ravel() for name in ("n", "mean", "m2")}
    merged = fold_moments(parts, cells, n_stores * days)
    return {name: values.reshape(n_stores, days) for name, values in merged.items()}


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
    *,
    days: int,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` values per store in the order of their days, the last one on the last day."""
    mu, tau, ratio, sigma = (hyperparameters[name] for name in NAMES)
    steps = rng.normal(0.0, np.sqrt(ratio) * sigma, (n_stores, days))
    steps[:, 0] = rng.normal(mu, tau, n_stores)
    path = np.cumsum(steps, axis=1)
    codes = np.repeat(np.arange(n_stores), size)
    day = rng.integers(0, days, len(codes))
    day[np.flatnonzero(np.diff(codes, append=n_stores))] = days - 1
    day = day[np.lexsort((day, codes))]
    return {"value": rng.normal(path[codes, day], sigma), "day": day}, codes, path[:, -1]


def raw(statistics: Statistics) -> Array:
    """Mean of a store's own values, of all days alike; NaN without any."""
    n = np.asarray(statistics["n"], np.float64)
    total = n.sum(axis=1)
    mean = np.sum(n * statistics["mean"], axis=1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)


def raw_sd(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """σ/√n; ∞ without values."""
    total = np.asarray(statistics["n"], np.float64).sum(axis=1)
    sd = np.asarray(hyperparameters["sigma"] / np.sqrt(np.where(total > 0, total, 1.0)))
    return np.where(total > 0, sd, np.inf)


def admit(statistics: Mapping[str, Any]) -> tuple[Family, dict[str, NDArray[Any]]]:
    """Take ``n``, ``mean`` and ``m2`` (J, D) of any number of days D."""
    if "n" not in statistics:
        return FAMILY, check_statistics(FAMILY, statistics)
    shape = np.shape(statistics["n"])
    if len(shape) != 2:
        raise StatisticsError(
            f"the numbers of values have the shape {shape}",
            where={"family": "local_level"},
            expected="n of shape (J, D), one row for each store, one column for each day",
            remedy="pass a table of days; for statistics of all days together use the family "
            "normal",
        )
    family = sized(shape[1])
    return family, check_statistics(family, statistics)


_COORDINATES = (
    Coordinate("mu", -np.inf, np.inf, "mu"),
    Coordinate("tau_squared", 0.0, np.inf, "tau", spread=True),
    Coordinate("signal_ratio", 0.0, RATIO_BOUND, "signal_ratio", spread=True),
    Coordinate("log_sigma", -LOG_SIGMA_BOUND, LOG_SIGMA_BOUND, "sigma"),
)
_MOMENTS = {
    "paule_mandel": partial(successive_differences, paule_mandel),
    "hedges": partial(successive_differences, hedges),
    "dersimonian_laird": partial(successive_differences, dersimonian_laird),
}


def _require_days(size: int) -> None:
    if size < 2:
        raise FitError(
            f"there {'is 1 day' if size == 1 else f'are {size} days'}",
            where={"family": "local_level"},
            expected="two days or more: a level of one day does not drift",
            remedy="widen the window, or use the family normal",
        )


@lru_cache
def sized(size: int) -> Family:
    """Return the family of windows of ``size`` days.

    Raises
    ------
    FitError
        If there are not at least two.
    """
    _require_days(size)
    return Family(
        name="local_level",
        kernel_version=1,
        roles=(Role("value"), Role("day", whole=True, lowest=0.0, below=size)),
        statistics=(
            Statistic("n", "int64", "moments", (size,), lowest=0.0),
            Statistic("mean", "float64", "moments", (size,)),
            Statistic("m2", "float64", "moments", (size,), 0.0, needs="n", needs_above=1.0),
        ),
        hyperparameters=NAMES,
        coordinates=_COORDINATES,
        summarise=partial(summarise, size=size),
        fold=fold,
        compress=DailySketch.of,
        merge_sketches=DailySketch.merged,
        moments=_MOMENTS,
        scale=scale,
        degeneracies=degeneracies,
        log_marginal=log_marginal,
        log_restriction=log_restriction,
        from_coordinates=from_coordinates,
        to_coordinates=to_coordinates,
        admit=admit,
        update=update,
        prior=partial(prior, size=size),
        log_normaliser=log_normaliser,
        log_base_measure=log_base_measure,
        describe=describe,
        predict=predict,
        simulate=partial(simulate, days=size),
        sample_size="n",
        empty_exposure=False,
        raw=raw,
        raw_sd=raw_sd,
        sampling=drifting_sampling("local_level"),
        named=space(size),
        size=size,
        sized=sized,
        least_size=2,
    )


FAMILY = sized(7)
