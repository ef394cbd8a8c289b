"""Posteriors of units as rows of a table: one for each unit and term, unit by unit.

The terms of a unit are the coefficients of a regression, or θ alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import quantile_name
from hbpipe.data.window import Folded
from hbpipe.model.update.pools import PosteriorColumns
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.inference.updated import Columns

Array = NDArray[np.float64]

#: Methods of units that have no posterior: of their pool nobody knows the prior; their covariates
#: are unknown; or these are of a kind of which no unit of their pool has data.
NO_COVARIATES, NOT_ESTIMABLE = "no_covariates", "not_estimable"
_NO_POSTERIOR = ("unidentified", NO_COVARIATES, NOT_ESTIMABLE)

#: Means are weighed to so many digits.
_ROUNDING = 1e-9

#: What describes a unit and term beside its quantiles.
_NUMBERS = ("mean", "sd", "sd_plug_in", "weight", "prior_mean")


def over_terms(column: pa.Array | pa.ChunkedArray, terms: int) -> pa.Array | pa.ChunkedArray:
    """Repeat what is said of each unit, (U,), for each of its terms, (U T,)."""
    if terms == 1:
        return column
    return column.take(pa.array(np.repeat(np.arange(len(column)), terms)))


def has_posterior(posterior: PosteriorColumns) -> NDArray[np.bool_]:
    """Tell which units have a posterior that may be published, (U,)."""
    return ~np.isin(posterior.method, _NO_POSTERIOR)


def term_columns(
    metric: Metric, posterior: PosteriorColumns, quantiles: Sequence[float]
) -> dict[str, pa.Array]:
    """Return the columns of posteriors, which differ by term; null where there is none."""
    terms = metric.term_names
    known = np.repeat(has_posterior(posterior), len(terms))
    names = pa.array(list(terms), pa.string())
    return {
        "term": names.take(pa.array(np.tile(np.arange(len(terms)), len(posterior.method)))),
        **{name: _shown(getattr(posterior, name), known) for name in _NUMBERS},
        **{
            quantile_name(level): _shown(posterior.quantiles[..., k], known)
            for k, level in enumerate(quantiles)
        },
    }


def released(columns: Columns, terms: int) -> dict[str, pa.Array]:
    """Return other columns as rows: what is said of a unit, (U,), stands in each of its terms."""
    rows = {}
    for name, values in columns.items():
        each = np.repeat(values, terms) if values.ndim == 1 else np.ravel(values)
        rows[name] = _shown(each, np.ones(len(each), np.bool_))
    return rows


def _shown(values: NDArray[Any], known: NDArray[np.bool_]) -> pa.Array:
    """Publish nothing of a pool whose data determine no prior, and no NaN or infinity at all."""
    numbers = np.ravel(values)
    return pa.array(numbers, mask=~(np.isfinite(numbers) & known))


def tally_posteriors(
    metric: Metric,
    folded: Folded,
    posterior: PosteriorColumns,
    raw: Array,
    priors: tuple[Array, Array] | None,
) -> PosteriorTally:
    """Count what is wrong with the posteriors of one shard and metric, by unit and term.

    Parameters
    ----------
    raw : (U,) or (U, T), the units' own estimates, not finite where there is none.
    priors : (U,) each, the least and the greatest prior mean; None with several terms, of which
        nothing is true one by one.
    """
    known = np.repeat(has_posterior(posterior), len(metric.term_names))
    limits = posterior.quantiles.reshape(len(known), -1)[known]
    numbers = np.column_stack([np.ravel(getattr(posterior, name))[known] for name in _NUMBERS])
    width, sd = limits[:, -1] - limits[:, 0], numbers[:, _NUMBERS.index("sd")]
    several = limits.shape[1] > 1
    # A mean that does not exist is ∞ and is not published; what is not a number is a fault.
    sound = ~np.isnan(numbers) if metric.model.heavy_tails else np.isfinite(numbers)
    finite = sound.all(axis=1) & np.isfinite(limits).all(axis=1)
    return PosteriorTally(
        metric=metric.name,
        units=folded.n,
        posteriors=len(known),
        n_events=int(folded.n_events.sum()),
        not_finite=int((~finite).sum()),
        unidentified=int((posterior.method == "unidentified").sum()),
        zero_width=int(((sd <= 0) | ((width <= 0) & several)).sum()),
        disordered=int((np.diff(limits, axis=1) < 0).any(axis=1).sum()),
        unusable=folded.unusable[metric.name],
        no_covariates=int((posterior.method == NO_COVARIATES).sum()),
        not_estimable=int((posterior.method == NOT_ESTIMABLE).sum()),
        outside=0 if priors is None else _outside(posterior, np.ravel(raw), *priors),
    )


def _outside(posterior: PosteriorColumns, raw: Array, least: Array, greatest: Array) -> int:
    """Count the means that do not lie between data and prior, whatever the method.

    A unit without an estimate of its own lies between its prior means (``model.update.prior_range``
    says why, and that only rounding is allowed).
    """
    low, high = np.fmin(raw, least), np.fmax(raw, greatest)
    rounding = _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    beyond = np.maximum(low - posterior.mean, posterior.mean - high)
    return int((has_posterior(posterior) & (beyond > rounding)).sum())
