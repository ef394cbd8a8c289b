"""What a metric measures, as plain values: quantities, conditions and metrics.

Parsed from the configuration, shipped to workers, evaluated by ``measure.py``. No expression is
ever evaluated as code: a quantity is a column, a count of rows, or the rows that satisfy a list of
conditions.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "is_null", "not_null")
TRANSFORMS = ("log", "log1p")
#: Exposures that are not measured row by row but counted in days.
CALENDAR = ("days", "active_days")

_METRIC_KEYS = ("family", "where", "transform", "per", "target", "fixed", "hyperprior")
#: Columns that the lake's tables have of their own, so no level may be called so.
_RESERVED = """
as_of at_bound boundary complete_pooling complete_pooling_sd converged count day drift estimate
estimator exposure family gradient_norm iterations largest_eigenvalue level
log_likelihood_complete_pooling log_likelihood_no_pooling log_marginal_likelihood m2 mean method
metric n n_effective n_events n_groups p_below_target parameter pool predictive_mean predictive_sd
prior_mean raw raw_sd run_id sd sd_plug_in shard silent smallest_eigenvalue
start_log_marginal_likelihood start_values starts starts_agree status successes term trials value
variance weight
"""
RESERVED = frozenset(_RESERVED.split())

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
    known = ("column", "transform", "where")
    for key in raw:
        if key not in known:
            raise ValueError(f"unknown key {key!r} in {role}{nearest(str(key), known)}")
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
    return None if raw is None else str(raw)


def parse_metric(name: str, raw: Any) -> Metric:
    """Parse one metric of the configuration.

    Raises
    ------
    ValueError
        With every fault of the metric, one a line.
    """
    from hbpipe.model.families import FAMILIES  # brings scipy: only when settings are read

    if not isinstance(raw, Mapping) or "family" not in raw:
        raise ValueError(f"needs a family, one of {', '.join(sorted(FAMILIES))}")
    if raw["family"] not in sorted(FAMILIES):  # a list: the value may be of any type
        raise ValueError(f"unknown family {raw['family']!r}{nearest(str(raw['family']), FAMILIES)}")
    family = FAMILIES[raw["family"]]
    faults = _Faults()
    roles = [role.name for role in family.roles]
    for key in raw:
        if key not in (*roles, *_METRIC_KEYS):
            faults.add(f"unknown key {key!r}{nearest(str(key), [*roles, *_METRIC_KEYS])}")
    if missing := [role for role in roles if role not in raw]:
        faults.add(f"family {family.name} needs {', '.join(missing)}")
    quantities = {
        role.name: faults.collect(_role, role.name, raw, role.lowest is None)
        for role in family.roles
        if role.name in raw
    }
    if raw.get("transform") is not None and "value" not in roles:
        faults.add("transform goes with a value column")
    metric = Metric(
        name=name,
        family=family.name,
        roles=quantities,
        where=faults.collect(parse_conditions, raw["where"]) if "where" in raw else (),
        per=faults.collect(_per, raw.get("per", 1), quantities.get("exposure")),
        target=faults.collect(_number, "target", raw.get("target")),
        fixed=faults.collect(_fixed, raw.get("fixed", {}), family.hyperparameters),
        hyperprior=raw.get("hyperprior"),
    )
    faults.throw()
    return metric


class _Faults:
    """What was found wrong so far, so that it can be told all at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, fault: str) -> None:
        self.found.append(fault)

    def collect(self, parse: Any, *arguments: Any) -> Any:
        """Return what ``parse`` returns; None when it finds a fault, which is kept."""
        try:
            return parse(*arguments)
        except ValueError as error:
            self.found.append(str(error))

    def throw(self) -> None:
        if self.found:
            raise ValueError("\n".join(self.found))


def _role(role: str, raw: Mapping[str, Any], any_sign: bool) -> Quantity:
    """Parse what fills a role, with the metric's own transform where the role is the value."""
    quantity = parse_quantity(role, raw[role])
    transform = parse_transform(raw.get("transform")) if role == "value" else None
    if transform is not None:
        if quantity.kind != "column" or quantity.transform not in (None, transform):
            raise ValueError("transform goes with a value column, and is given once")
        quantity = Quantity("column", column=quantity.column, transform=transform)
    if quantity.transform is not None and not any_sign:
        raise ValueError(f"{role}: a logarithm may be negative, and {role} may not")
    return quantity


def _per(raw: Any, exposure: Quantity | None) -> float:
    if exposure is None:
        if raw != 1:
            raise ValueError("per goes with an exposure")
        return 1.0
    calendar = exposure.kind in CALENDAR
    days = re.fullmatch(r"([1-9]\d{0,4})\s*d", raw.strip()) if isinstance(raw, str) else None
    value = int(days[1]) if days and calendar else raw
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"per must be a positive number, or days such as 7d, found {raw!r}")
    return float(value)


def _number(key: str, raw: Any) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise ValueError(f"{key} must be a finite number, found {raw!r}")
    return float(raw)


def _fixed(raw: Any, hyperparameters: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(raw, Mapping):
        raise ValueError(f"fixed maps hyperparameters to numbers, found {raw!r}")
    values: dict[str, float] = {}
    for key, value in raw.items():
        if key not in hyperparameters:
            raise ValueError(f"fixed: unknown {key!r}{nearest(str(key), hyperparameters)}")
        number = _number(f"fixed.{key}", value)
        if number is not None:
            values[key] = number
    return values


def nearest(word: str, known: Iterable[Any]) -> str:
    """Return ``; did you mean 'x'?`` or the list of what is known."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
