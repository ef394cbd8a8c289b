"""What a metric measures, as plain values: quantities, conditions and metrics.

Parsed from the configuration, shipped to workers, evaluated by ``measure.py``. No expression is
ever evaluated as code: a quantity is a column, a count of rows, or the rows that satisfy a list of
conditions.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any, Literal

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "is_null", "not_null")
TRANSFORMS = ("log", "log1p")
#: Exposures that are not measured row by row but counted in days.
CALENDAR = ("days", "active_days")

QuantityKind = Literal["column", "rows", "where", "days", "active_days"]


@dataclass(frozen=True)
class Condition:
    """One condition ``[column, operator, value]``; a comparison with null is false."""

    column: str
    operator: str
    value: Any = None


@dataclass(frozen=True)
class Quantity:
    """One number per event: a column, 1 (``rows``), or 1 where all conditions hold."""

    kind: QuantityKind
    column: str | None = None
    transform: str | None = None
    where: tuple[Condition, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The event columns that must be read."""
        if self.kind == "column" and self.column:
            return (self.column,)
        return tuple(condition.column for condition in self.where)


@dataclass(frozen=True)
class Metric:
    """One metric of the configuration: a family, what fills its roles, and which rows count."""

    name: str
    family: str
    roles: dict[str, Quantity]
    where: tuple[Condition, ...] = ()
    #: Exposure units per reported unit: 7 days for a weekly rate.
    per: float = 1.0
    target: float | None = None
    fixed: dict[str, float] = field(default_factory=dict)
    hyperprior: Any = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The event columns that must be read, in a fixed order."""
        conditions = tuple(condition.column for condition in self.where)
        measured = tuple(name for role in self.roles.values() for name in role.columns)
        return tuple(dict.fromkeys(measured + conditions))

    @property
    def calendar(self) -> str | None:
        """``days`` or ``active_days`` when the exposure is counted in days, else None."""
        exposure = self.roles.get("exposure")
        return exposure.kind if exposure and exposure.kind in CALENDAR else None

    def measured_by(self) -> dict[str, Any]:
        """Everything that decides the daily statistics, for the fingerprint of a day."""
        return {"family": self.family, "roles": repr(self.roles), "where": repr(self.where)}


def parse_conditions(raw: Any) -> tuple[Condition, ...]:
    """Parse a list of ``[column, operator, value]``; raises ValueError with what is wrong."""
    if not isinstance(raw, list | tuple) or not raw:
        raise ValueError(f"where must be a list of [column, operator, value], found {raw!r}")
    return tuple(_condition(item) for item in raw)


def _condition(raw: Any) -> Condition:
    if not isinstance(raw, list | tuple) or not 2 <= len(raw) <= 3 or not isinstance(raw[0], str):
        raise ValueError(f"a condition is [column, operator, value], found {raw!r}")
    column, operator = raw[0], str(raw[1])
    if operator not in OPERATORS:
        raise ValueError(f"unknown operator {operator!r}{nearest(operator, OPERATORS)}")
    if operator in ("is_null", "not_null"):
        if len(raw) == 3:
            raise ValueError(f"{operator} takes no value, found {raw[2]!r}")
        return Condition(column, operator)
    if len(raw) != 3:
        raise ValueError(f"{operator} needs a value: [{column}, {operator!r}, value]")
    return Condition(column, operator, _value(operator, raw[2]))


def _value(operator: str, raw: Any) -> Any:
    if operator == "in":
        if not isinstance(raw, list | tuple) or not raw:
            raise ValueError(f"in needs a list of values, found {raw!r}")
        return tuple(_value("==", item) for item in raw)
    if not isinstance(raw, str | int | float | bool):
        raise ValueError(f"{operator} compares with a string, number or boolean, found {raw!r}")
    return raw


def parse_quantity(role: str, raw: Any) -> Quantity:
    """Parse one quantity of the configuration; raises ValueError with what is wrong."""
    if isinstance(raw, str):
        if raw == "rows":
            return Quantity("rows")
        if role == "exposure" and raw in CALENDAR:
            return Quantity("days" if raw == "days" else "active_days")
        return Quantity("column", column=raw)
    if not isinstance(raw, dict):
        raise ValueError(f"{role} must be a column, rows, or a mapping, found {raw!r}")
    unknown = sorted(set(raw) - {"column", "transform", "where"})
    if unknown:
        known = ("column", "transform", "where")
        raise ValueError(f"unknown key {unknown[0]!r} in {role}{nearest(unknown[0], known)}")
    if "where" in raw:
        if len(raw) > 1:
            raise ValueError(f"{role}: where counts rows and stands alone")
        return Quantity("where", where=parse_conditions(raw["where"]))
    if not isinstance(raw.get("column"), str):
        raise ValueError(f"{role} needs a column, found {raw!r}")
    return Quantity("column", column=raw["column"], transform=parse_transform(raw.get("transform")))


def parse_transform(raw: Any) -> str | None:
    """Parse ``log``, ``log1p`` or nothing."""
    if raw is not None and raw not in TRANSFORMS:
        raise ValueError(f"unknown transform {raw!r}{nearest(str(raw), TRANSFORMS)}")
    return raw


def nearest(word: str, known: Any) -> str:
    """Return ``; did you mean 'x'?`` or the list of what is known."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
