"""Events of several classes: y_j ~ Multinomial(n_j, θ_j), θ_j ~ Dirichlet(α).

``size`` is K, the number of classes. Coordinates: the log ratios of the mean shares μ = α/Σ α to
that of the last class, and φ = 1/(1 + Σ α), the correlation of two events of one store; φ = 0, the
multinomial limit, is an ordinary point. Two classes are ``beta_binomial``. The likelihood is in
``marginal/dirichlet_multinomial.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.distributions.discrete import describe_beta_binomial
from hbpipe.model.distributions.laws import BETA
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Description,
    Family,
    Hyperparameters,
    Prior,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.integration.sampling import Sampling
from hbpipe.model.marginal.dirichlet_multinomial import (
    ShareSketch,
    log_coefficient,
    log_marginal,
    log_no_pooling,
    shares,
)
from hbpipe.model.numerics.grouped import fold_sums, integer_sums
from hbpipe.model.shares.degeneracies import LOG_RATIO_BOUND, contrasts, degeneracies
from hbpipe.model.shares.hyperprior import compile_shares
from hbpipe.model.shares.stores import conditional, deviation, terms
from hbpipe.model.shares.stores import predict as predict_at_nodes
from hbpipe.model.shares.target import share_target
from hbpipe.model.statistics import check_statistics

_PHI_BOUND = 1.0 - 1e-6
#: Σ α reported in place of infinity where φ = 0.
MAX_CONCENTRATION = 1e15


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int, *, size: int
) -> dict[str, NDArray[Any]]:
    """Add up the counts of each store and class, exactly.

    Events (E, K) are counts; (E,) are the numbers of their classes, one event of that class each.
    """
    counts = np.asarray(events["counts"])
    if counts.ndim == 1 and len(counts):
        cell = np.asarray(codes, np.int64) * size + counts
        return {"counts": np.bincount(cell, minlength=n_stores * size).reshape(n_stores, size)}
    columns = counts.reshape(len(codes), size).T
    sums = [integer_sums(np.ascontiguousarray(column), codes, n_stores) for column in columns]
    return {"counts": np.stack(sums, axis=1)}


def fold(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge rows of one store by adding their counts."""
    columns = np.asarray(statistics["counts"]).T
    parts = [fold_sums({"counts": column}, codes, n_stores)["counts"] for column in columns]
    return {"counts": np.stack(parts, axis=1)}


def prior(hyperparameters: Hyperparameters) -> Prior:
    """Dirichlet(alpha), from this or from mean and concentration."""
    given = hyperparameters
    if "alpha" in given:
        return {"alpha": np.asarray(given["alpha"], np.float64)}
    concentration = np.asarray(given["concentration"], np.float64)[..., None]
    return {"alpha": np.asarray(given["mean"], np.float64) * concentration}


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior Dirichlet(alpha + y) of each store."""
    return {"alpha": prior(hyperparameters)["alpha"] + np.asarray(statistics["counts"])}


def log_normaliser(prior: Prior) -> Array:
    """Log of the multivariate Beta function: Σ log Γ(alpha_k) − log Γ(Σ alpha)."""
    alpha = prior["alpha"]
    return np.asarray(special.gammaln(alpha).sum(axis=-1) - special.gammaln(alpha.sum(axis=-1)))


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Log multinomial coefficient, log n!/Π y_k!."""
    return log_coefficient(np.asarray(statistics["counts"]))


def _marginals(posterior: Prior) -> tuple[Array, Array]:
    """Parameters of the Beta law of each share."""
    alpha = posterior["alpha"]
    return alpha, alpha.sum(axis=-1, keepdims=True) - alpha


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of each share: Beta."""
    alpha, rest = _marginals(posterior)
    found = BETA.describe(alpha, rest, quantiles)
    return replace(found, covariance=lambda: _covariance(alpha))


def _covariance(alpha: Array) -> Array:
    """Covariance of the shares, (..., K, K)."""
    whole = alpha.sum(axis=-1)[..., None, None]
    mean = alpha[..., None] / whole
    diagonal = np.eye(alpha.shape[-1]) * mean
    return np.asarray((diagonal - mean * np.swapaxes(mean, -1, -2)) / (whole + 1.0))


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the count of each class among ``exposure`` further events: Beta-Binomial."""
    trials = np.asarray(exposure, np.float64)[..., None]
    return describe_beta_binomial(trials, *_marginals(posterior), quantiles)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
    trials: int = 1,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` events per store, each a multinomial count of the given number of trials."""
    theta = rng.dirichlet(prior(hyperparameters)["alpha"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    return {"counts": rng.multinomial(trials, theta[codes])}, codes, theta


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(Log ratios, φ) → alpha, mean, concentration; finite where φ = 0."""
    phi = coordinates[..., -1]
    floor = 1.0 / (1.0 + MAX_CONCENTRATION)
    concentration = np.minimum((1.0 - phi) / np.maximum(phi, floor), MAX_CONCENTRATION)
    mean = shares(coordinates[..., :-1])
    alpha = mean * concentration[..., None]
    return {"alpha": alpha, "mean": mean, "concentration": concentration}


def to_coordinates(hyperparameters: Hyperparameters, *, size: int) -> Array:
    """Alpha, or mean and concentration or one of them → (log ratios, φ)."""
    given = hyperparameters
    if "alpha" in given:
        mean = np.asarray(given["alpha"], np.float64)
        concentration = np.asarray(mean.sum(axis=-1))
    else:
        mean = np.asarray(given.get("mean", np.full(size, np.nan)), np.float64)
        concentration = np.asarray(given.get("concentration", np.nan), np.float64)
    if mean.ndim == 0 or mean.shape[-1] != size:
        raise FitError(
            f"a hyperparameter has the shape {mean.shape}, and there are {size} classes",
            expected=f"one number for each class, ({size},)",
            remedy="give alpha or mean for every class, in the order of the counts",
        )
    line, phi = contrasts(mean), 1.0 / (1.0 + concentration)
    shape = np.broadcast_shapes(line.shape[:-1], phi.shape)
    wide = np.broadcast_to(line, (*shape, size - 1))
    return np.concatenate([wide, np.broadcast_to(phi, shape)[..., None]], axis=-1)


def pooled(sketch: ShareSketch, held: Array) -> Array:
    """Pooled shares, and φ by Σ n_j Σ_k (y_jk/n_j − p_k)², weights n_j (Kleinman 1973).

    With V = 1 − Σ p² its expectation is V [(J − 1) + φ (Σ n_j(1 − n_j/N) − (J − 1))].
    """
    rates = sketch.rates
    share = ratio(sketch.class_totals, sketch.class_totals.sum(axis=1, keepdims=True))
    squares = sketch.by_class(rates.weighted_m2).sum(axis=1)
    size, squared = (sketch.by_class(v)[:, 0] for v in (rates.size, rates.size_squared))
    noise, spare = np.sum(share * (1.0 - share), axis=1), np.maximum(sketch.n_groups - 1.0, 0.0)
    effective = size - ratio(squared, size)
    phi = ratio(squares - noise * spare, noise * (effective - spare))
    return np.concatenate([contrasts(share), phi[:, None]], axis=1)


def scale(sketch: ShareSketch) -> Array:
    """One unit of a log ratio, half the range of φ."""
    return np.tile([*np.ones(sketch.size - 1), 0.5], (sketch.n_pools, 1))


def raw(statistics: Statistics) -> Array:
    """Shares of each store by itself, (J, K); NaN without events."""
    counts = np.asarray(statistics["counts"], np.float64)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), np.nan)


def raw_sd(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """√(p(1 − p)/n), with p half an event inside (0, 1) on its edges; ∞ without events."""
    counts = np.asarray(statistics["counts"], np.float64)
    total = counts.sum(axis=1, keepdims=True)
    safe = np.where(total > 0, total, 1.0)
    half = np.minimum(0.5 / safe, 0.5)
    inside = np.clip(counts / safe, half, 1.0 - half)
    return np.where(total > 0, np.sqrt(inside * (1.0 - inside) / safe), np.inf)


def admit(statistics: Mapping[str, Any]) -> tuple[Family, dict[str, NDArray[Any]]]:
    """Take ``counts`` (J, K) of any K."""
    if "counts" not in statistics:
        return FAMILY, check_statistics(FAMILY, statistics)
    shape = np.shape(statistics["counts"])
    if len(shape) != 2:
        raise StatisticsError(
            f"the counts have the shape {shape}",
            where={"family": "dirichlet_multinomial"},
            expected="counts of shape (J, K), one row for each store, one column for each class",
            remedy="pass a table of counts",
        )
    family = sized(shape[1])
    return family, check_statistics(family, statistics)


SAMPLING = Sampling(
    target=share_target,
    conditional=conditional,
    predict=predict_at_nodes,
    terms=terms,
    deviation=deviation,
    many_terms=True,
    on_a_line=True,
)


def axes(size: int) -> tuple[Coordinate, ...]:
    """Log ratios to the last class, and φ."""
    bound = LOG_RATIO_BOUND
    return (
        *(Coordinate(f"log_ratio[{k}]", -bound, bound, "mean") for k in range(size - 1)),
        Coordinate("phi", 0.0, _PHI_BOUND, "concentration", spread=True),
    )


@lru_cache
def sized(size: int) -> Family:
    """Return the family with ``size`` classes.

    Raises
    ------
    FitError
        If there are not at least two.
    """
    if size < 2:
        raise FitError(
            f"there {'is 1 class' if size == 1 else f'are {size} classes'}",
            where={"family": "dirichlet_multinomial"},
            expected="two classes or more: the share of a single one is 1",
            remedy="declare the other classes, or one for all others",
        )
    return Family(
        name="dirichlet_multinomial",
        kernel_version=1,
        roles=(Role("counts", whole=True, lowest=0.0, several=True),),
        statistics=(Statistic("counts", "int64", "sum", (size,), lowest=0.0),),
        hyperparameters=("alpha", "mean", "concentration"),
        coordinates=axes(size),
        summarise=partial(summarise, size=size),
        fold=fold,
        compress=ShareSketch.of,
        merge_sketches=ShareSketch.merged,
        moments={"kleinman": pooled},
        scale=scale,
        degeneracies=degeneracies,
        log_marginal=log_marginal,
        from_coordinates=from_coordinates,
        to_coordinates=partial(to_coordinates, size=size),
        admit=admit,
        update=update,
        prior=prior,
        log_normaliser=log_normaliser,
        log_base_measure=log_base_measure,
        describe=describe,
        predict=predict,
        simulate=simulate,
        log_no_pooling=log_no_pooling,
        sample_size="counts",
        raw=raw,
        raw_sd=raw_sd,
        sampling=SAMPLING,
        hyperprior=compile_shares,
        size=size,
        sized=sized,
        least_size=2,
    )


FAMILY = sized(2)
