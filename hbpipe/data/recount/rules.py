"""Conditions, measures and their statistics, by the rules alone; see ``recount.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from hbpipe.data.recount.spec import CALENDAR, RecountMetric, RefusedError, as_mapping
from hbpipe.errors import ConfigError, EventsError

_LARGEST_WHOLE_FLOAT = 2.0**53  # above, neighbouring floats are more than one apart

#: What a family measures in each row, and which of it are counts.
_ROLES: dict[str, tuple[str, ...]] = {
    "beta_binomial": ("successes", "trials"),
    "gamma_poisson": ("count", "exposure"),
    "normal": ("value",),
    "normal_known_variance": ("estimate", "variance"),
}
_COUNTS = ("successes", "trials", "count")

Outcome = Literal["counted", "skipped", "excluded"]


# --- conditions and measures --------------------------------------------------------------------

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda value, other: bool(value == other),
    "!=": lambda value, other: bool(value != other),
    "<": lambda value, other: bool(value < other),
    "<=": lambda value, other: bool(value <= other),
    ">": lambda value, other: bool(value > other),
    ">=": lambda value, other: bool(value >= other),
    "in": lambda value, others: value in others,
}


def check_metric(metric: RecountMetric) -> None:
    """Refuse a metric that the recount does not know how to count; raises ConfigError."""
    where = {"metric": metric.name}
    if metric.family not in _ROLES:
        known = ", ".join(_ROLES)
        raise ConfigError(f"No recount for {metric.family!r}", where=where, expected=known)
    roles = _ROLES[metric.family]
    if set(metric.roles) != set(roles):
        found = ", ".join(metric.roles)
        raise ConfigError(f"Roles are {found}", where=where, expected=", ".join(roles))
    for role in roles:
        if role in _COUNTS and _quantity(metric, role).get("transform"):
            raise ConfigError(f"{role} is a count and is transformed", where=where)


def measure(metric: RecountMetric, row: Mapping[str, Any]) -> tuple[Outcome, dict[str, Any]]:
    """Return what a row is for a metric, and its values by role when it counts.

    Raises
    ------
    RefusedError
        A measure is impossible; the first fault in the order of the family's roles.
    """
    if not _holds(metric.where, row):
        return "excluded", {}
    quantities = {
        role: _quantity(metric, role)
        for role in _ROLES[metric.family]
        if metric.roles[role] not in CALENDAR
    }
    raw = {role: _raw(quantity, row) for role, quantity in quantities.items()}
    if any(value is None for value in raw.values()):
        return "skipped", {}
    columns = {role: quantity.get("column", role) for role, quantity in quantities.items()}
    values = {
        role: _usable(role, columns[role], value, quantities[role].get("transform"))
        for role, value in raw.items()
    }
    if metric.family == "beta_binomial" and values["successes"] > values["trials"]:
        raise RefusedError(columns["successes"], "successes exceed trials")
    if metric.family == "gamma_poisson" and values.get("exposure", 0) < 0:
        raise RefusedError(columns["exposure"], "negative")
    if metric.family == "normal_known_variance" and values["variance"] <= 0:
        raise RefusedError(columns["variance"], "variance not above zero")
    return "counted", values


def _quantity(metric: RecountMetric, role: str) -> dict[str, Any]:
    quantity = as_mapping(metric.roles[role])
    if role == "value" and metric.transform is not None:
        quantity["transform"] = metric.transform
    return quantity


def _raw(quantity: Mapping[str, Any], row: Mapping[str, Any]) -> Any:
    if "where" in quantity:
        return _holds(quantity["where"], row)
    return row[quantity["column"]] if "column" in quantity else 1


def _holds(conditions: Sequence[Sequence[Any]], row: Mapping[str, Any]) -> bool:
    return all(_condition_holds(condition, row[condition[0]]) for condition in conditions)


def _condition_holds(condition: Sequence[Any], value: Any) -> bool:
    column, operator = condition[0], condition[1]
    if operator == "is_null":
        return value is None
    if value is None:
        return False
    if operator == "not_null":
        return True
    try:
        return _COMPARISONS[operator](value, condition[2])
    except TypeError as error:
        raise EventsError(
            f"Column {column!r} holds {value!r}, which is not comparable with {condition[2]!r}",
            remedy="compare with a value of the column's type",
        ) from error


def _usable(role: str, column: str, value: Any, transform: str | None) -> int | float:
    """Return the number that a value stands for, transformed; refuse an impossible one."""
    if not isinstance(value, bool | int | float | Decimal):
        raise EventsError(
            f"Column {column!r} holds {value!r}, and {role} needs a number or boolean",
            remedy="name a numeric column",
        )
    number = float(value) if isinstance(value, Decimal) else value
    if isinstance(number, float):
        if math.isnan(number):
            raise RefusedError(column, "not a number")
        if math.isinf(number):
            raise RefusedError(column, "infinite")
    if role in _COUNTS:
        return _whole(column, number)
    if transform is None:
        return number
    if number <= (0 if transform == "log" else -1):
        raise RefusedError(column, "logarithm of a value not above zero")
    return math.log(number) if transform == "log" else math.log1p(number)


def _whole(column: str, number: int | float) -> int:
    if number < 0:
        raise RefusedError(column, "negative")
    if isinstance(number, float) and (number != int(number) or number > _LARGEST_WHOLE_FLOAT):
        raise RefusedError(column, "not whole")
    return int(number)


# --- statistics ---------------------------------------------------------------------------------


def reduce_values(
    metric: RecountMetric, rows: Sequence[Mapping[str, Any]]
) -> dict[str, int | float]:
    """Return the family's statistics of the rows of one unit and day, at least one.

    Counts are exact. Other sums are correctly rounded (``math.fsum``); moments take two passes.
    """
    columns = {role: [row[role] for row in rows] for role in rows[0]}
    if metric.family == "normal":
        return _moments(columns["value"])
    if metric.family == "normal_known_variance":
        return _precision_weighted(columns["estimate"], columns["variance"])
    return {role: _total(values) for role, values in columns.items()}


def size_and_total(metric: RecountMetric, rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return size and total of the rows of one cluster: an exposure in days has no size."""
    found = reduce_values(metric, rows)
    if metric.family == "normal":
        return float(found["n"]), math.fsum(row["value"] for row in rows)
    if metric.family == "normal_known_variance":
        return 1 / found["variance"], found["estimate"] / found["variance"]
    size, total = {"beta_binomial": ("trials", "successes")}.get(
        metric.family, ("exposure", "count")
    )
    return float(found.get(size, 0.0)), float(found[total])


def is_known(value: Any) -> bool:
    """Tell whether a value names a cluster: it is neither null nor NaN."""
    return value is not None and value == value


def _total(values: Sequence[int | float]) -> int | float:
    whole = all(isinstance(value, int) for value in values)
    return sum(values) if whole else math.fsum(values)


def _moments(values: Sequence[float]) -> dict[str, int | float]:
    mean = math.fsum(values) / len(values)
    return {"n": len(values), "mean": mean, "m2": math.fsum((x - mean) ** 2 for x in values)}


def _precision_weighted(
    estimates: Sequence[float], variances: Sequence[float]
) -> dict[str, int | float]:
    """Merge independent estimates of one value: weights are the inverse variances."""
    precision = math.fsum(1 / variance for variance in variances)
    weighted = math.fsum(y / v for y, v in zip(estimates, variances, strict=True))
    return {"estimate": weighted / precision, "variance": 1 / precision}
