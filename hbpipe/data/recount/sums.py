"""The statistics of the rows of one unit and day, by the rules alone; see ``recount.py``.

Counts are exact. Other sums are correctly rounded (``math.fsum``); moments take two passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    if metric.experiment is not None:
        return _by_arm(metric, rows)
    columns = {role: [row[role] for row in rows] for role in rows[0]}
    if metric.family == "normal_weighted":
        return _with_precisions(columns["value"], columns["precision"])
    if metric.family in ("normal", "normal_inverse_gamma"):
        n, (mean,), (m2,) = moments([[value] for value in columns["value"]])
        return {"n": n, "mean": mean, "m2": m2}
    if metric.family == "normal_known_variance":
        return precision_weighted(columns["estimate"], columns["variance"])
    if metric.family == "normal_regression":
        pairs = zip(columns["predictors"], columns["response"], strict=True)
        n, means, cross = moments([[*predictors, response] for predictors, response in pairs])
        return {"n": n, "means": means, "cross": cross}
    if metric.family == "hurdle_lognormal":
        bought = [[math.log(value)] for value in columns["value"] if value > 0]
        n, (mean,), (m2,) = moments(bought) if bought else (0, [0.0], [0.0])
        return {"successes": n, "trials": total(columns["trials"]), "mean": mean, "m2": m2}
    if metric.family == "dirichlet_multinomial":
        return {"counts": [total(column) for column in zip(*columns["counts"], strict=True)]}
    return {role: total(values) for role, values in columns.items()}


def _by_arm(metric: RecountMetric, rows: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    """Reduce each arm by itself; of an arm without rows every statistic is 0."""
    own = {arm: [row for row in rows if row["arm"] == arm] for arm in ("control", "treatment")}
    alone = replace(metric, experiment=None)
    found = {
        arm: reduce_values(alone, [{k: v for k, v in row.items() if k != "arm"} for row in some])
        for arm, some in own.items()
        if some
    }
    names = next(iter(found.values()))
    return {f"{name}_{arm}": found.get(arm, {}).get(name, 0) for arm in own for name in names}


def size_and_total(metric: RecountMetric, rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return size and total of the rows of one cluster: an exposure in days has no size."""
    columns = {role: [row[role] for row in rows] for role in rows[0]}
    weights = columns.get("weight", [1] * len(rows))
    if metric.family == "normal":
        return float(total(weights)), _sum(weights, columns["value"])
    if metric.family == "normal_known_variance":
        precision = [w / v for w, v in zip(weights, columns["variance"], strict=True)]
        return math.fsum(precision), _sum(precision, columns["estimate"])
    size, outcome = ("trials", "successes") if "trials" in columns else ("exposure", "count")
    sizes = columns.get(size, [0.0] * len(rows))
    return _sum(weights, sizes), _sum(weights, columns[outcome])


def total(values: Sequence[Number]) -> Number:
    """Add up numbers, exactly where they are whole."""
    whole = all(isinstance(value, int) for value in values)
    return sum(values) if whole else math.fsum(values)


def moments(
    rows: Sequence[Sequence[Number]], weights: Sequence[Number] | None = None
) -> tuple[Number, list[float], list[float]]:
    """Count, mean of each column, and centred sum of products of each pair, row by row.

    With weights a row counts as so many rows; zeros where none is left.
    """
    weights = [1] * len(rows) if weights is None else weights
    n = total(weights)
    whole = list(zip(*rows, strict=True))
    means = [_sum(weights, column) / n if n else 0.0 for column in whole]
    centred = [[x - mean for x in column] for column, mean in zip(whole, means, strict=True)]
    return n, means, [_product(weights, left, right) for left in centred for right in centred]


def _sum(weights: Sequence[Number], values: Sequence[Number]) -> float:
    return math.fsum(w * value for w, value in zip(weights, values, strict=True))


def _product(weights: Sequence[Number], left: Sequence[float], right: Sequence[float]) -> float:
    products = [w * x * y for w, x, y in zip(weights, left, right, strict=True)]
    if not all(map(math.isfinite, products)):
        raise OverflowError  # as a power of floats does, and a product does not
    return math.fsum(products)


def _with_precisions(values: Sequence[Number], precisions: Sequence[Number]) -> dict[str, Values]:
    """Count what has a precision above 0; mean and squares are weighted by it."""
    known = [w for w in precisions if w > 0]
    n, (mean,), (m2,) = moments([[value] for value in values], precisions)
    logs = math.fsum(math.log(w) for w in known)
    return {"n": len(known), "precision": float(n), "log_precision": logs, "mean": mean, "m2": m2}


def precision_weighted(estimates: Sequence[float], variances: Sequence[float]) -> dict[str, Values]:
    """Merge independent estimates of one value: weights are the inverse variances."""
    precision = math.fsum(1 / variance for variance in variances)
    weighted = math.fsum(y / v for y, v in zip(estimates, variances, strict=True))
    return {"estimate": weighted / precision, "variance": 1 / precision}
