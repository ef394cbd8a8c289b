"""Hyperparameters that a metric holds at given values, and the numbers of its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hbpipe.data.spelling import nearest

if TYPE_CHECKING:
    from hbpipe.model.family import Family

#: What the names of hyperparameters of nested levels begin with; the settings know the levels.
_OF_LEVELS = ("tau_", "correlation_")


def parse_number(key: str, raw: Any) -> float | None:
    """Parse a finite number, or none."""
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise ValueError(f"{key} must be a finite number, found {raw!r}")
    return float(raw)


def holdable(family: Family, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hyperparameters that may be held: with covariates not those of the location."""
    if "covariates" not in raw:
        return family.hyperparameters
    return tuple(axis.hyperparameter for axis in family.coordinates[1:])


def parse_fixed(
    raw: Any, hyperparameters: tuple[str, ...], terms: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Parse the hyperparameters that are held; ``terms`` are None where they cannot be read."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"fixed maps hyperparameters to numbers, found {raw!r}")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in hyperparameters and str(key).startswith(_OF_LEVELS):
            values[key] = parse_number(f"fixed.{key}", value)
        elif key not in hyperparameters:
            raise ValueError(f"fixed: unknown {key!r}{nearest(str(key), hyperparameters)}")
        elif terms is not None:
            values[key] = _held(f"fixed.{key}", value, len(terms))
    return {key: value for key, value in values.items() if value is not None}


def _held(key: str, raw: Any, size: int, axes: int = 2) -> Any:
    """Parse a number, or a list with one for each term; of a matrix, a list of such lists.

    A null in a list leaves that number open: NaN, as the model knows it.
    """
    if not isinstance(raw, list | tuple):
        return parse_number(key, raw)
    found = [_held(key, one, size, axes - 1) for one in raw] if axes and len(raw) == size else []
    if len({isinstance(one, list) for one in found}) != 1:
        raise ValueError(f"{key} must be a number, or one for each of {size} terms, found {raw!r}")
    return [math.nan if one is None else one for one in found]
