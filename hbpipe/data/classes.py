"""A mix of classes given by one column, written as what it stands for.

``{class: department, classes: [GROCERY, PRODUCE], other: other}`` counts the rows of each class. It
is short for a count with a condition for each of them. The classes are declared, because the
statistics of all days must have the same columns. The rows of other classes count under the name
``other``; without one they do not count, nor do those without a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The keys of the short form.
CLASS_KEYS = ("class", "classes", "other")


@dataclass(frozen=True)
class Classes:
    """The column that names a row's class, those declared, and whether all others are one more."""

    column: str
    values: tuple[str | int | bool, ...]
    others: bool


def read_classes(role: str, raw: Mapping[str, Any]) -> tuple[dict[str, Any], Classes | None]:
    """Write out the short form, where a metric has it.

    Parameters
    ----------
    role : the role that the classes fill.
    raw : the metric as it stands in the configuration.

    Returns
    -------
    The metric with the role filled and its ``where`` completed, and what it was made of.

    Raises
    ------
    ValueError
        For a role that is given both ways, and classes that are missing, doubled or unusable.
    """
    written = {key: value for key, value in raw.items() if key not in CLASS_KEYS}
    if not any(key in raw for key in CLASS_KEYS):
        return written, None
    if role in raw:
        raise ValueError(f"give either {role}, or class with classes")
    column, values, other = raw.get("class"), raw.get("classes"), raw.get("other")
    if not isinstance(column, str):
        raise ValueError(f"class must be the column that names a row's class, found {column!r}")
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"classes must list the values of {column} that count, found {values!r}")
    if wrong := [v for v in values if isinstance(v, bool) or not isinstance(v, str | int)]:
        raise ValueError(f"classes are texts or whole numbers, found {wrong[0]!r}")
    names = [*map(str, values), *([] if other is None else [other])]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"classes: {doubled[0]!r} is there twice")
    known = [[column, "in", list(values)]] if other is None else [[column, "not_null"]]
    written[role] = _counts(column, values, other)
    written["where"] = [*raw.get("where", ()), *known]
    return written, Classes(column, tuple(values), other is not None)


def _counts(column: str, values: Any, other: Any) -> dict[str, Any]:
    """Give each class its condition."""
    counts = {str(value): {"where": [[column, "==", value]]} for value in values}
    if other is not None:
        rest = [[column, "!=", value] for value in values]
        counts[other] = {"where": [[column, "not_null"], *rest]}
    return counts
