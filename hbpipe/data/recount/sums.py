"""The statistics of the rows of one unit and day, by the rules alone; see ``recount.py``.

Counts are exact. Other sums are correctly rounded (``math.fsum``); moments take two passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hbpipe.data.recount.spec import RecountMetric

#: A statistic: one number, or the numbers of an array, row by row.
Number: TypeAlias = int | float
Values: TypeAlias = Number | list[float]


def reduce_values(metric: RecountMetric, rows: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    """Return the family's statistics of at least one row.

    Raises
    ------
    OverflowError
        When a sum is no number.
    """
    columns = {role: [row[role] for row in rows] for role in rows[0]}
    if metric.family in ("normal", "normal_inverse_gamma"):
        n, (mean,), (m2,) = _moments([[value] for value in columns["value"]])
        return {"n": n, "mean": mean, "m2": m2}
    if metric.family == "normal_known_variance":
        return _precision_weighted(columns["estimate"], columns["variance"])
    if metric.family == "normal_regression":
        pairs = zip(columns["predictors"], columns["response"], strict=True)
        n, means, cross = _moments([[*predictors, response] for predictors, response in pairs])
        return {"n": n, "means": means, "cross": cross}
    if metric.family == "hurdle_lognormal":
        bought = [[math.log(value)] for value in columns["value"] if value > 0]
        n, (mean,), (m2,) = _moments(bought) if bought else (0, [0.0], [0.0])
        return {"successes": n, "trials": _total(columns["trials"]), "mean": mean, "m2": m2}
    if metric.family == "dirichlet_multinomial":
        return {"counts": [_total(column) for column in zip(*columns["counts"], strict=True)]}
    return {role: _total(values) for role, values in columns.items()}


def size_and_total(metric: RecountMetric, rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return size and total of the rows of one cluster: an exposure in days has no size."""
    columns = {role: [row[role] for row in rows] for role in rows[0]}
    if metric.family == "normal":
        return float(len(rows)), math.fsum(columns["value"])
    if metric.family == "normal_known_variance":
        precision = [1 / variance for variance in columns["variance"]]
        pairs = zip(columns["estimate"], precision, strict=True)
        return math.fsum(precision), math.fsum(y * p for y, p in pairs)
    size, total = ("trials", "successes") if "trials" in columns else ("exposure", "count")
    return float(_total(columns.get(size, [0.0]))), float(_total(columns[total]))


def _total(values: Sequence[Number]) -> Number:
    whole = all(isinstance(value, int) for value in values)
    return sum(values) if whole else math.fsum(values)


def _moments(rows: Sequence[Sequence[Number]]) -> tuple[int, list[float], list[float]]:
    """Count, mean of each column, and centred sum of products of each pair, row by row."""
    means = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    centred = [[x - mean for x, mean in zip(row, means, strict=True)] for row in rows]
    columns = list(zip(*centred, strict=True))
    return len(rows), means, [_product(left, right) for left in columns for right in columns]


def _product(left: Sequence[float], right: Sequence[float]) -> float:
    products = [x * y for x, y in zip(left, right, strict=True)]
    if not all(map(math.isfinite, products)):
        raise OverflowError  # as a power of floats does, and a product does not
    return math.fsum(products)


def _precision_weighted(
    estimates: Sequence[float], variances: Sequence[float]
) -> dict[str, Values]:
    """Merge independent estimates of one value: weights are the inverse variances."""
    precision = math.fsum(1 / variance for variance in variances)
    weighted = math.fsum(y / v for y, v in zip(estimates, variances, strict=True))
    return {"estimate": weighted / precision, "variance": 1 / precision}
