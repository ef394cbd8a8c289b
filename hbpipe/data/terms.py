"""One number per event: a column, a count of rows, or the rows that satisfy conditions.

A role that takes several of them, such as the predictors of a regression, has one *term* for each.
No expression is ever evaluated as code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hbpipe.data.spelling import nearest

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "is_null", "not_null")
TRANSFORMS = ("log", "log1p")
#: Exposures that are not measured row by row but counted in days.
CALENDAR = ("days", "active_days")
#: The term of the number 1.
INTERCEPT = "intercept"
#: Hyperparameters are named by terms: ``Sigma[intercept,log_price]``.
_NAME = re.compile(r"[^\s,\[\]]([^,\[\]]{0,62}[^\s,\[\]])?")

QuantityKind = Literal[
    "column", "rows", "where", "days", "active_days", "class", "arm", "time", "ended"
]


@dataclass(frozen=True)
class Condition:
    """One condition ``[column, operator, value]``; a comparison with null is false."""

    column: str
    operator: str
    value: Any = None


@dataclass(frozen=True)
class Quantity:
    """One number per event: a column, 1 (``rows``), or 1 where all conditions hold.

    A ``class`` is the number of the class that a column names, an ``arm`` that of its arm.
    """

    kind: QuantityKind
    column: str | None = None
    transform: str | None = None
    where: tuple[Condition, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The event columns that must be read."""
        if self.kind in ("column", "class", "arm") and self.column:
            return (self.column,)
        return tuple(condition.column for condition in self.where)


@dataclass(frozen=True)
class Spell(Quantity):
    """What a spell of some length gives to one interval of it, ``lower`` to ``upper``.

    ``time`` is the time that it spends there, min(duration, upper) − lower or 0; ``column`` is the
    duration. ``ended`` is the event in ``column`` where the spell ends there, else 0. An interval
    contains its upper end and not its lower one, but for the duration 0, which is in the first.
    """

    duration: str = ""
    lower: float = 0.0
    upper: float = math.inf

    @property
    def columns(self) -> tuple[str, ...]:
        """The event columns that must be read."""
        return tuple(dict.fromkeys((str(self.column), self.duration)))


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
    if isinstance(raw, float) and not math.isfinite(raw):
        raise ValueError(f"{operator} compares with a finite number, found {raw!r}")
    if isinstance(raw, int) and not -(2**63) <= raw < 2**64:
        raise ValueError(f"{operator} compares with numbers of 64 bits, found {raw!r}")
    return raw


def parse_quantity(role: str, raw: Any) -> Quantity:
    """Parse one quantity of the configuration; raises ValueError with what is wrong."""
    if isinstance(raw, str):
        if raw == "rows":
            return Quantity("rows")
        if role == "exposure" and raw in CALENDAR:
            return Quantity("days" if raw == "days" else "active_days")
        return Quantity("column", column=raw)
    if not isinstance(raw, Mapping):
        raise ValueError(f"{role} must be a column, rows, or a mapping, found {raw!r}")
    known = ("column", "transform", "where", "duration", "interval")
    for key in raw:
        if key not in known:
            raise ValueError(f"unknown key {key!r} in {role}{nearest(str(key), known)}")
    return _spell(role, raw) if "duration" in raw or "interval" in raw else _one(role, raw)


def _one(role: str, raw: Mapping[str, Any]) -> Quantity:
    """Parse the rows that satisfy conditions, or a column with its transform."""
    if "where" in raw:
        if len(raw) > 1:
            raise ValueError(f"{role}: where counts rows and stands alone")
        return Quantity("where", where=parse_conditions(raw["where"]))
    if not isinstance(raw.get("column"), str):
        raise ValueError(f"{role} needs a column, found {raw!r}")
    return Quantity("column", column=raw["column"], transform=parse_transform(raw.get("transform")))


def _spell(role: str, raw: Mapping[str, Any]) -> Spell:
    """Parse the time of a spell within an interval, an exposure, or its event there, a count."""
    if role not in ("exposure", "count"):
        raise ValueError(f"{role}: duration and interval go with a count and its exposure")
    column, wanted = ("column: event, ", "column duration") if role == "count" else ("", "duration")
    columns = {key: value for key, value in raw.items() if key != "interval"}
    texts = all(isinstance(value, str) for value in columns.values())
    if columns.keys() != set(wanted.split()) or not texts or "interval" not in raw:
        shown = f"{{{column}duration: days, interval: [0, 7]}}"
        raise ValueError(f"{role} of a spell is {shown}, found {dict(raw)!r}")
    lower, upper = _interval(role, raw["interval"])
    duration = raw["duration"]
    if role == "count":
        return Spell("ended", raw["column"], duration=duration, lower=lower, upper=upper)
    return Spell("time", duration, duration=duration, lower=lower, upper=upper)


def _interval(role: str, raw: Any) -> tuple[float, float]:
    ends = [*raw] if isinstance(raw, list | tuple) else []
    if len(ends) == 2 and ends[1] is None:
        ends[1] = math.inf
    numbers = [one for one in ends if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(ends) != 2 or len(numbers) != 2 or not 0 <= ends[0] < ends[1] or ends[0] == math.inf:
        raise ValueError(
            f"{role}: interval is [from, to] with 0 <= from < to, such as [7, 30], or [90, null] "
            f"from there on, found {raw!r}"
        )
    return float(ends[0]), float(ends[1])


def parse_transform(raw: Any) -> str | None:
    """Parse ``log``, ``log1p`` or nothing."""
    if raw is not None and raw not in TRANSFORMS:
        raise ValueError(f"unknown transform {raw!r}{nearest(str(raw), TRANSFORMS)}")
    return None if raw is None else str(raw)


def parse_terms(role: str, raw: Any) -> dict[str, Quantity]:
    """Parse what fills a role that takes several quantities: the name of each term, in order.

    Either a mapping of names to quantities, or a list. An item of it is the number 1, the constant,
    or a quantity, as a mapping with an optional ``name``. Without one a column gives its own name
    (``log_price`` where it is transformed), and conditions their text.

    Raises
    ------
    ValueError
        For no item, an item twice, two of one name, or an item that is no quantity.
    """
    if isinstance(raw, Mapping) and raw:
        return {_checked_name(role, name): _quantity(role, one) for name, one in raw.items()}
    if not isinstance(raw, list | tuple) or not raw:
        raise ValueError(
            f"{role} must be a list such as [1, display, {{column: price, transform: log}}], "
            f"found {raw!r}"
        )
    terms: dict[str, Quantity] = {}
    for item in raw:
        name, quantity = _term(role, item)
        if quantity in terms.values():
            what = "the constant 1" if quantity.kind == "rows" else repr(item)
            raise ValueError(f"{role}: {what} is there twice, and nothing could tell them apart")
        if name in terms:
            raise ValueError(f"{role}: two terms are called {name!r}; give one a name of its own")
        terms[name] = quantity
    return terms


def _term(role: str, raw: Any) -> tuple[str, Quantity]:
    given, rest = None, raw
    if isinstance(raw, Mapping):
        given, rest = raw.get("name"), {k: v for k, v in raw.items() if k != "name"}
    quantity = _quantity(role, rest)
    return _checked_name(role, _term_name(quantity) if given is None else given), quantity


def _quantity(role: str, raw: Any) -> Quantity:
    """Parse a quantity, or the number 1."""
    if raw == 1 and not isinstance(raw, bool):
        return Quantity("rows")
    return parse_quantity(role, raw)


def _checked_name(role: str, name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{role}: {name!r} cannot name a term; give a name of up to 64 letters without commas "
            "and brackets, as in {column: price, name: price}"
        )
    return name


def _term_name(quantity: Quantity) -> str:
    if quantity.kind == "rows":
        return INTERCEPT
    if quantity.kind == "where":
        return " and ".join(_text(condition) for condition in quantity.where)
    return f"{quantity.transform}_{quantity.column}" if quantity.transform else str(quantity.column)


def _text(condition: Condition) -> str:
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    told = "" if condition.value is None else " " + "|".join(str(value) for value in values)
    return f"{condition.column} {condition.operator}{told}"
