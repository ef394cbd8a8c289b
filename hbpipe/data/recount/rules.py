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
    "normal_weighted": ("value", "precision"),
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
    roles = _roles(metric)
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
    quantities = _by_row(metric)
    if _lacks(metric, quantities, row):
        return "skipped", {}
    values: dict[str, Any] = {role: [] for role, _ in quantities if role in _SEVERAL}
    for role, quantity in quantities:
        if role != "weight":  # the faults of a row's other measures come first
            number = _number(role, quantity, _read(metric, role, quantity, row))
            values[role] = [*values[role], number] if role in _SEVERAL else number
    columns = {role: _column(role, quantity) for role, quantity in quantities}
    _check_signs(metric.family, values, columns)
    if metric.weights is not None:
        values["weight"] = _weight(columns["weight"], row[columns["weight"]], metric.weights)
    _check_together(metric.family, values, columns)
    for role, quantity in quantities:
        if "duration" in quantity:
            values[role] = _within(quantity, values[role], row)
    if metric.experiment is not None:
        values["arm"] = _arm(metric.experiment, row)
    return "counted", values


def _by_row(metric: RecountMetric) -> list[tuple[str, dict[str, Any]]]:
    """Give what is read of each row, by role; days are not."""
    return [
        (role, quantity)
        for role in _roles(metric)
        if metric.roles[role] not in CALENDAR
        for quantity in _quantities(metric, role)
    ]


def _lacks(
    metric: RecountMetric, quantities: list[tuple[str, dict[str, Any]]], row: Mapping[str, Any]
) -> bool:
    """Tell whether a row has no arm, or nothing in a column that is measured."""
    if metric.experiment is not None and _arm(metric.experiment, row) is None:
        return True
    return any(_read(metric, role, quantity, row) is None for role, quantity in quantities)


def _read(
    metric: RecountMetric, role: str, quantity: Mapping[str, Any], row: Mapping[str, Any]
) -> Any:
    """Return what a row has; a visit without a purchase is worth 0."""
    value = _raw(quantity, row)
    return 0.0 if value is None and role == "value" and metric.family in _HURDLES else value


def _number(role: str, quantity: Mapping[str, Any], value: Any) -> int | float:
    number = _usable(role, _column(role, quantity), value, quantity.get("transform"))
    if role == "count" and "duration" in quantity and number > 1:
        raise RefusedError(quantity["column"], "more than one event")
    return number


def _check_signs(family: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    for role in ("exposure", "precision"):
        if values.get(role, 0) < 0:
            raise RefusedError(columns[role], "negative")
    if family == "normal_known_variance" and values["variance"] <= 0:
        raise RefusedError(columns["variance"], "variance not above zero")
    if family in _HURDLES and values["value"] < 0:
        raise RefusedError(columns["value"], "negative")


def _roles(metric: RecountMetric) -> tuple[str, ...]:
    return (*_ROLES[metric.family], *(() if metric.weights is None else ("weight",)))


def _weight(column: str, value: Any, meaning: str) -> int | float:
    """Refuse a weight below zero or, of rows that stand for several, one that is not whole."""
    number = _usable("weight", column, value, None)
    if meaning == "frequency":
        return _whole(column, number)
    if number < 0:
        raise RefusedError(column, "negative")
    return number


def _column(role: str, quantity: Mapping[str, Any]) -> str:
    """Name the column that a quantity reads, or the role where it reads none."""
    return str(quantity.get("column", quantity.get("duration", role)))


def _within(quantity: Mapping[str, Any], value: int | float, row: Mapping[str, Any]) -> int | float:
    """Give what of a spell falls into its interval: its event, or without one its time."""
    duration, (lower, end) = float(row[quantity["duration"]]), quantity["interval"]
    upper = math.inf if end is None else float(end)
    if "column" in quantity:
        begun = duration > lower or duration == lower == 0
        return value if begun and duration <= upper else 0
    return max(min(duration, upper) - float(lower), 0.0)


def _arm(experiment: Mapping[str, Any], row: Mapping[str, Any]) -> str | None:
    """Return which arm a row belongs to; None for one without arm, or of another one."""
    value, treatment = row[experiment["arm"]], experiment.get("treatment")
    if value is None or value == experiment["control"]:
        return None if value is None else "control"
    return "treatment" if treatment is None or value == treatment else None


def _check_together(family: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """Refuse values that are possible by themselves."""
    if family == "beta_binomial" and values["successes"] > values["trials"]:
        raise RefusedError(columns["successes"], "successes exceed trials")
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
    if "duration" in quantity and row[quantity["duration"]] is None:
        return None
    column = quantity.get("column", quantity.get("duration"))
    return 1 if column is None else row[column]


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
