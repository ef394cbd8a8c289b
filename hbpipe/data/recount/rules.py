"""Conditions and measures, by the rules alone; see ``recount.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from hbpipe.data.recount.spec import CALENDAR, RecountMetric, RefusedError, as_mappings
from hbpipe.errors import ConfigError, EventsError

_LARGEST_WHOLE_FLOAT = 2.0**53  # above, neighbouring floats are more than one apart

#: What a family measures in each row, and which of it are counts.
_ROLES: dict[str, tuple[str, ...]] = {
    "beta_binomial": ("successes", "trials"),
    "gamma_poisson": ("count", "exposure"),
    "normal": ("value",),
    "normal_known_variance": ("estimate", "variance"),
    "normal_inverse_gamma": ("value",),
    "normal_regression": ("response", "predictors"),
    "dirichlet_multinomial": ("counts",),
    "hurdle_lognormal": ("value", "trials"),
}
#: Roles of a list of quantities.
_SEVERAL = ("predictors", "counts")
_COUNTS = ("successes", "trials", "count", "counts")
#: Families of which a row without a value is a visit without a purchase.
_HURDLES = ("hurdle_lognormal",)

Outcome = Literal["counted", "skipped", "excluded"]


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
        transformed = any(quantity.get("transform") for quantity in _quantities(metric, role))
        if role in _COUNTS and transformed:
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
    quantities = [
        (role, quantity)
        for role in _ROLES[metric.family]
        if metric.roles[role] not in CALENDAR
        for quantity in _quantities(metric, role)
    ]
    raw = [_raw(quantity, row) for _, quantity in quantities]
    if metric.family in _HURDLES:
        raw[0] = 0.0 if raw[0] is None else raw[0]
    if any(value is None for value in raw):
        return "skipped", {}
    columns = {role: quantity.get("column", role) for role, quantity in quantities}
    values: dict[str, Any] = {role: [] for role in _SEVERAL if role in columns}
    for (role, quantity), value in zip(quantities, raw, strict=True):
        column = quantity.get("column", role)
        number = _usable(role, column, value, quantity.get("transform"))
        if metric.family in _HURDLES and number < 0:
            raise RefusedError(column, "negative")
        values[role] = [*values[role], number] if role in _SEVERAL else number
    _check_together(metric.family, values, columns)
    return "counted", values


def _check_together(family: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """Refuse values that are possible by themselves."""
    if family == "beta_binomial" and values["successes"] > values["trials"]:
        raise RefusedError(columns["successes"], "successes exceed trials")
    if family == "gamma_poisson" and values.get("exposure", 0) < 0:
        raise RefusedError(columns["exposure"], "negative")
    if family == "normal_known_variance" and values["variance"] <= 0:
        raise RefusedError(columns["variance"], "variance not above zero")
    if family in _HURDLES and values["value"] > 0 and values["trials"] == 0:
        raise RefusedError(columns["value"], "value without trials")


def _quantities(metric: RecountMetric, role: str) -> list[dict[str, Any]]:
    quantities = as_mappings(metric.roles[role])
    if role == "value" and metric.transform is not None:
        return [{**quantity, "transform": metric.transform} for quantity in quantities]
    return quantities


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


def is_known(value: Any) -> bool:
    """Tell whether a value names a cluster: it is neither null nor NaN."""
    return value is not None and value == value
