"""Quantities of a metric evaluated on a batch of events, and the rows that cannot be measured.

A null measure is skipped, a row that the metric's ``where`` leaves out is excluded, an impossible
measure is rejected for this metric only: three different things, counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.quantities import Condition, Metric, Quantity
from hbpipe.model.family import Family, Role

Mask = NDArray[np.bool_]
_COMPARE = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


@dataclass(frozen=True)
class Refusal:
    """Rows whose ``column`` is impossible for a metric, and why."""

    column: str
    reason: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """One metric on one batch.

    ``rows`` (U,) index the batch; ``values`` hold one array (U,) per role that is measured row by
    row. ``skipped`` and ``excluded`` (E,) mark what was left out and why.
    """

    rows: NDArray[np.int64]
    values: dict[str, NDArray[Any]]
    excluded: Mask
    skipped: Mask
    refusals: tuple[Refusal, ...]


class Batch:
    """The decoded columns of some events, each converted at most once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.n = table.num_rows
        self._numbers: dict[str, tuple[NDArray[Any], Mask | None]] = {}
        self._conditions: dict[Condition, Mask] = {}

    def numbers(self, column: str) -> tuple[NDArray[Any], Mask | None]:
        """Return the values of a column, and where they are null (None: nowhere)."""
        if column not in self._numbers:
            self._numbers[column] = _numbers(self.table.column(column))
        return self._numbers[column]

    def holds(self, conditions: tuple[Condition, ...]) -> Mask:
        """Return where all conditions hold; a comparison with null does not."""
        mask = np.ones(self.n, np.bool_)
        for condition in conditions:
            if condition not in self._conditions:
                self._conditions[condition] = _holds(self.table, condition)
            mask &= self._conditions[condition]
        return mask


def _numbers(column: pa.ChunkedArray) -> tuple[NDArray[Any], Mask | None]:
    null = column.is_null().to_numpy() if column.null_count else None
    kind = column.type
    if pa.types.is_boolean(kind):
        target, zero = pa.bool_(), False
    elif pa.types.is_integer(kind):
        target, zero = pa.int64(), 0
    else:
        target, zero = pa.float64(), 0.0
    values = column.cast(target)
    if null is not None:
        values = values.fill_null(zero)
    return values.to_numpy(), null


def _holds(table: pa.Table, condition: Condition) -> Mask:
    column = table.column(condition.column)
    if condition.operator == "is_null":
        return np.asarray(column.is_null().to_numpy())
    if condition.operator == "not_null":
        return ~np.asarray(column.is_null().to_numpy())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if condition.operator == "in":
        result = pc.is_in(column, pa.array(condition.value).cast(column.type))
    else:
        result = _COMPARE[condition.operator](column, condition.value)
    return np.asarray(pc.fill_null(result, False).to_numpy())


def measure(batch: Batch, metric: Metric, family: Family, accepted: Mask) -> Measured:
    """Evaluate one metric on the accepted rows of a batch."""
    kept = batch.holds(metric.where) if metric.where else None
    usable = accepted if kept is None else accepted & kept
    excluded = np.zeros_like(accepted) if kept is None else accepted & ~kept
    roles = [role for role in family.roles if not _calendar(metric, role)]
    values, null = {}, np.zeros(batch.n, np.bool_)
    for role in roles:
        values[role.name], missing = _evaluate(batch, metric.roles[role.name])
        if missing is not None:
            null |= missing
    skipped = usable & null
    rows = np.flatnonzero(usable & ~null) if not _all(usable, null) else np.arange(batch.n)
    measured = {
        name: array if len(rows) == batch.n else array[rows] for name, array in values.items()
    }
    fine, measured, refused = _validate(metric, roles, measured)
    refusals = tuple(Refusal(column, reason, rows[at]) for column, reason, at in refused)
    if refusals:
        rows = rows[fine]
        measured = {name: array[fine] for name, array in measured.items()}
    return Measured(rows, measured, excluded, skipped, refusals)


def _all(usable: Mask, null: Mask) -> bool:
    return bool(usable.all()) and not null.any()


def _calendar(metric: Metric, role: Role) -> bool:
    return role.name == "exposure" and metric.calendar is not None


def _evaluate(batch: Batch, quantity: Quantity) -> tuple[NDArray[Any], Mask | None]:
    if quantity.kind == "rows":
        return np.ones(batch.n, np.bool_), None
    if quantity.kind == "where":
        return batch.holds(quantity.where), None
    assert quantity.column is not None
    return batch.numbers(quantity.column)


def _validate(
    metric: Metric, roles: list[Role], values: dict[str, NDArray[Any]]
) -> tuple[Mask, dict[str, NDArray[Any]], list[tuple[str, str, NDArray[np.int64]]]]:
    """Find impossible values, the first fault of a row counting, and apply transforms."""
    size = len(next(iter(values.values()))) if values else 0
    fine = np.ones(size, np.bool_)
    refused: list[tuple[str, str, NDArray[np.int64]]] = []

    def refuse(role: Role, reason: str, fault: Mask) -> None:
        at = np.flatnonzero(fault & fine)
        if len(at):
            refused.append((metric.roles[role.name].column or role.name, reason, at))
            fine[at] = False

    clean = dict(values)
    for role in roles:
        transform = metric.roles[role.name].transform
        array = values[role.name]
        if array.dtype == np.bool_:
            continue
        for reason, fault in _faults(role, transform, array):
            refuse(role, reason, fault)
        clean[role.name] = _transformed(array, transform, role.whole, fine)
    for role in roles:
        if role.at_most is not None:
            above = _above(clean[role.name], clean[role.at_most])
            if above is not None:
                refuse(role, f"{role.name} exceed {role.at_most}", above)
    return fine, clean, refused


def _faults(role: Role, transform: str | None, array: NDArray[Any]) -> list[tuple[str, Mask]]:
    faults: list[tuple[str, Mask]] = []
    if array.dtype == np.float64 and not np.isfinite(array).all():
        faults += [("not a number", np.isnan(array)), ("infinite", np.isinf(array))]
    if transform is not None:
        limit = 0.0 if transform == "log" else -1.0
        faults.append(("logarithm of a value not above zero", array <= limit))
    elif role.lowest is not None:
        if role.exclusive:
            faults.append((f"{role.name} not above zero", array <= role.lowest))
        else:
            faults.append(("negative", array < role.lowest))
    if role.whole and array.dtype == np.float64:
        with np.errstate(invalid="ignore"):
            faults.append(("not whole", (array != np.rint(array)) | (np.abs(array) > 2.0**53)))
    return faults


def _transformed(
    array: NDArray[Any], transform: str | None, whole: bool, fine: Mask
) -> NDArray[Any]:
    if whole and array.dtype == np.float64:
        return np.where(fine, array, 0.0).astype(np.int64)
    if transform is None:
        return array
    function = np.log if transform == "log" else np.log1p
    return np.asarray(function(np.where(fine, array, 1.0).astype(np.float64)))


def _above(part: NDArray[Any], whole: NDArray[Any]) -> Mask | None:
    """Return where a part exceeds its whole; None where it cannot."""
    if part.dtype == np.bool_ and whole.dtype == np.bool_:
        above = part & ~whole
        return above if above.any() else None
    return np.asarray(part.astype(np.int64) > whole.astype(np.int64))
