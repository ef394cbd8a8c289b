"""The statistics of weighted rows, by the rules alone; see ``recount.py``.

A row of frequency w counts as w rows like it; of precision w its variance is divided by w; a
sampling weight multiplies it, beside the rows' own size and Σ w² times it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hbpipe.data.recount.sums import Number, Values, moments, precision_weighted, total


def reduce_weighted(
    family: str, meaning: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Values]:
    """Return the statistics of at least one row; raises OverflowError as ``reduce_values``."""
    columns = {role: [row[role] for row in rows] for role in rows[0]}
    weights = columns.pop("weight")
    found = _weighted(family, columns, weights)
    if meaning != "sampling":
        return found
    sizes = _sizes(family, columns, len(rows))
    squares = math.fsum(w * w * size for w, size in zip(weights, sizes, strict=True))
    named = {f"weighted_{name}": _as_floats(values) for name, values in found.items()}
    return {**named, "sampled_size": math.fsum(sizes), "squared_weights": squares}


def _weighted(
    family: str, columns: Mapping[str, Sequence[Any]], weights: Sequence[Number]
) -> dict[str, Values]:
    if family in ("normal", "normal_inverse_gamma"):
        n, (mean,), (m2,) = moments([[value] for value in columns["value"]], weights)
        return {"n": n, "mean": mean, "m2": m2}
    if family == "normal_known_variance":
        rows = zip(columns["estimate"], columns["variance"], weights, strict=True)
        known = [(estimate, variance / w) for estimate, variance, w in rows if w > 0]
        if not known:
            return {"estimate": 0.0, "variance": math.inf}
        return precision_weighted(*zip(*known, strict=True))
    if family == "normal_regression":
        pairs = zip(columns["predictors"], columns["response"], strict=True)
        n, means, cross = moments([[*p, response] for p, response in pairs], weights)
        return {"n": n, "means": means, "cross": cross}
    if family == "hurdle_lognormal":
        bought = [(v, w) for v, w in zip(columns["value"], weights, strict=True) if v > 0]
        amounts = [[math.log(value)] for value, _ in bought] or [[0.0]]
        n, (mean,), (m2,) = moments(amounts, [w for _, w in bought] or [0])
        visits = _product(columns["trials"], weights)
        return {"successes": n, "trials": visits, "mean": mean, "m2": m2}
    if family == "dirichlet_multinomial":
        by_class = zip(*columns["counts"], strict=True)
        return {"counts": [_product(column, weights) for column in by_class]}
    return {role: _product(values, weights) for role, values in columns.items()}


def _sizes(family: str, columns: Mapping[str, Sequence[Any]], rows: int) -> list[float]:
    """Return how many trials, values, or units of exposure or precision each row brings."""
    if family == "dirichlet_multinomial":
        return [float(sum(counts)) for counts in columns["counts"]]
    if family == "normal_known_variance":
        return [1.0 / variance for variance in columns["variance"]]
    name = {"beta_binomial": "trials", "gamma_poisson": "exposure"}.get(family)
    return [1.0] * rows if name is None else [float(size) for size in columns[name]]


def _product(values: Sequence[Number], weights: Sequence[Number]) -> Number:
    return total([value * w for value, w in zip(values, weights, strict=True)])


def _as_floats(values: Values) -> Values:
    return [float(one) for one in values] if isinstance(values, list) else float(values)
