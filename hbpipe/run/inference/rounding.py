"""How far two sums of the same values may lie apart: rounding, and no more than that."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

#: Relative difference of a sum of floats that another order of summation explains.
FLOAT_TOLERANCE = 1e-9
_EPSILON = 2.0**-52
#: Centred squares and products: plain, of weighted values, or of one arm of an experiment.
_SQUARES = re.compile(r"(weighted_)?(m2|cross)(_control|_treatment)?")


def numbers(value: Any) -> list[Any]:
    """Return the numbers of a statistic: one, or those of its array, row by row."""
    return list(value) if isinstance(value, list) else [value]


def equal(found: Any, expected: float | int, rounding: float) -> bool:
    """Compare a number with the right one; counts must be equal."""
    if found is None or isinstance(expected, int):
        return bool(found == expected)
    allowed = max(1e-12, rounding)
    return math.isclose(found, expected, rel_tol=FLOAT_TOLERANCE, abs_tol=allowed)


def roundings(name: str, expected: Mapping[str, Any]) -> list[float]:
    """Return how far rounding may move each number of a statistic when parts are merged.

    Centred products are M = Σ (Mᵢ + nᵢ (aᵢ − a)(bᵢ − b)), so errors δ = ε|a| and ε|b| in each mean
    move them by at most δ_a √(n M_bb) + δ_b √(n M_aa) + n δ_a δ_b: much where the values are large
    beside their spread. Products of both signs may add up to little; their rounding is relative to
    √(M_aa M_bb).
    """
    values = numbers(expected[name])
    squares = _SQUARES.fullmatch(name)
    if squares is None:
        return [0.0] * len(values)
    weighted, kind, arm = squares.groups("")
    size = next(
        name for name in ("precision", f"{weighted}n{arm}", "successes") if name in expected
    )
    n = expected[size]  # every purchase has an amount: of a hurdle it is their number
    means = numbers(expected[weighted + ("mean" if kind == "m2" else "means") + arm])
    errors = [_EPSILON * abs(mean) for mean in means]
    sizes = [math.sqrt(max(values[k * (len(means) + 1)], 0.0)) for k in range(len(means))]
    return [
        math.sqrt(n) * (error * other_size + other_error * size)
        + n * error * other_error
        + FLOAT_TOLERANCE * size * other_size
        for error, size in zip(errors, sizes, strict=True)
        for other_error, other_size in zip(errors, sizes, strict=True)
    ]
