"""The coding of covariates: decided from all stores, applied to the units of a shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.attributes import is_categorical, to_values
from hbpipe.data.covariates import SIZE
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.errors import EventsError, FitError
from hbpipe.model.covariates.design import (
    Categories,
    Curve,
    Design,
    Number,
    Term,
    check_independent,
    is_known,
)
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.numerics.grouped import Rows, count_values

#: The name of a unit's covariates among its statistics.
COVARIATES = "covariates"


def store_sizes(metric: Metric, statistics: Statistics) -> Array:
    """Return the size of each unit, (U,): trials, exposure, values, or 1/variance."""
    return geometry_of(metric.model).sizes(statistics)[0]


def count_sizes(metric: Metric, folded: Folded, codes: Codes, n_pools: int) -> Rows:
    """Count equal sizes of units with data, by pool: ``value`` and ``count``."""
    sizes = store_sizes(metric, folded.whole(metric.name))
    seen = sizes > 0
    return count_values(codes[seen], sizes[seen].astype(np.float64), n_pools)


def values_of(metric: Metric, listed: pa.Table | None, sizes: Array) -> dict[str, NDArray[Any]]:
    """Return what is coded, name -> (U,): columns of ``listed`` (U rows), and ``sizes`` (U,).

    Raises
    ------
    EventsError
        When a column holds neither text nor numbers.
    """
    found: dict[str, NDArray[Any]] = {}
    for covariate in metric.covariates:
        if covariate.is_spline or listed is None:
            found[SIZE] = sizes
            continue
        column = listed.column(covariate.column)
        categorical = is_categorical(covariate, column.type)
        if categorical is None:
            raise EventsError(
                f"the covariate {covariate.column!r} of the table of stores is {column.type}",
                where={"metric": metric.name},
                expected="numbers, text or truth values; with categorical: true whole numbers, "
                "text or truth values",
                remedy="leave it out, or give the table a column of such a type",
            )
        found[covariate.column] = to_values(column, categorical)
    return found


def design_of(metric: Metric, listed: pa.Table | None, sizes: Rows) -> Design:
    """Decide how the covariates of a metric are coded, from all stores.

    Parameters
    ----------
    listed
        The table of stores, with the columns that the metric needs.
    sizes
        The sizes of all units with data, as :func:`count_sizes` gives them.

    Raises
    ------
    EventsError
        When a column cannot be used.
    FitError
        When a covariate is constant, has too many levels, or follows from others.
    """
    rows = 0 if listed is None else listed.num_rows
    values = values_of(metric, listed, np.ones(rows))
    try:
        terms = tuple(_term(metric, k, values, sizes) for k in range(len(metric.covariates)))
        design = Design(terms)
        if rows:
            x = design.matrix(values)
            curved = {label for curve in design.curves for label in curve.labels}
            fixed = [p for p, label in enumerate(design.labels) if label not in curved]
            known = x[is_known(x)][:, fixed]
            check_independent(known, [design.labels[p] for p in fixed])
    except FitError as error:
        raise error.at(metric=metric.name) from None
    return design


def _term(metric: Metric, k: int, values: Mapping[str, NDArray[Any]], sizes: Rows) -> Term:
    covariate = metric.covariates[k]
    if covariate.is_spline:
        return Curve.of(SIZE, sizes["value"], sizes["count"], covariate.columns)
    own = values[covariate.column]
    if own.dtype == object:
        return Categories.of(covariate.column, own)
    return Number.of(covariate.column, own, covariate.transform)


def cover(
    folded: Folded,
    metrics: tuple[Metric, ...],
    designs: Mapping[str, Design],
    kept: tuple[str, ...] = (),
) -> Folded:
    """Put the covariates (U, P) of each unit among its statistics; rows of NaN where unknown.

    Of its attributes those that are ``kept`` stay.
    """
    statistics, for_fit = dict(folded.statistics), dict(folded.for_fit)
    for metric in metrics:
        if metric.name in designs:
            own = store_sizes(metric, folded.whole(metric.name))
            x = designs[metric.name].matrix(values_of(metric, folded.attributes, own))
            for some in (statistics, for_fit):
                if metric.name in some:
                    some[metric.name] = {**some[metric.name], COVARIATES: x}
    stay = None
    if folded.attributes is not None and kept:
        stay = folded.attributes.select(list(kept))
    return replace(folded, statistics=statistics, for_fit=for_fit, attributes=stay)


def known_units(statistics: Statistics) -> NDArray[np.bool_] | None:
    """Tell which units have covariates, (U,); None where a metric has none."""
    if COVARIATES not in statistics:
        return None
    return is_known(np.asarray(statistics[COVARIATES]))
