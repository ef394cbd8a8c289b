"""Quantities of a metric evaluated on a batch of events, and the rows that cannot be measured.

A null measure is skipped, a row that the metric's ``where`` leaves out is excluded, an impossible
measure is rejected for this metric only: three different things, counted apart.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.quantities import Condition, Metric, Quantity
from hbpipe.errors import StatisticsError
from hbpipe.model.family import Family, Role

Mask = NDArray[np.bool_]
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARE_TEXT = {
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
                self._conditions[condition] = self._holds(condition)
            mask &= self._conditions[condition]
        return mask

    def _holds(self, condition: Condition) -> Mask:
        column = self.table.column(condition.column)
        if condition.operator in ("is_null", "not_null"):
            absent: Mask = column.is_null().to_numpy()
            return absent if condition.operator == "is_null" else ~absent
        if _is_text(column.type):
            return _text_holds(column, condition)
        values, null = self.numbers(condition.column)
        holds = _numbers_hold(values, condition.operator, condition.value)
        return holds if null is None else holds & ~null


def _numbers(column: pa.ChunkedArray) -> tuple[NDArray[Any], Mask | None]:
    null = np.asarray(column.is_null().to_numpy()) if column.null_count else None
    kind = column.type
    if pa.types.is_boolean(kind):
        target = kind
    elif pa.types.is_integer(kind):
        target = kind if kind == pa.uint64() else pa.int64()
    else:
        target = pa.float64()
    values = column.cast(target)
    if null is not None:
        values = values.fill_null(pa.scalar(0).cast(target))
    return values.to_numpy(), null


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )


def _text_holds(column: pa.ChunkedArray, condition: Condition) -> Mask:
    """Compare text; of a dictionary, its few values instead of its many rows."""
    if pa.types.is_dictionary(column.type):
        chunks = [
            pc.take(_compare_text(chunk.dictionary, condition), chunk.indices)
            for chunk in column.chunks
        ]
        result = pa.chunked_array(chunks, pa.bool_())
    else:
        result = _compare_text(column, condition)
    return np.asarray(pc.fill_null(result, False).to_numpy())


def _compare_text(values: Any, condition: Condition) -> Any:
    if condition.operator == "in":
        return pc.is_in(values, pa.array(condition.value, values.type))
    return _COMPARE_TEXT[condition.operator](values, pa.scalar(condition.value, values.type))


def _numbers_hold(values: NDArray[Any], sign: str, value: Any) -> Mask:
    if sign == "in":
        each = [_numbers_hold(values, "==", one) for one in value]
        return np.asarray(np.logical_or.reduce(each))
    if values.dtype.kind in "iu" and isinstance(value, float):
        # Whole numbers are compared with whole numbers, or large ones would be rounded.
        if not value.is_integer():
            if sign in ("==", "!="):
                return np.full(len(values), sign == "!=")
            value = math.ceil(value) if sign in ("<", ">=") else math.floor(value)
        value = int(value)
    return np.asarray(_COMPARE[sign](values, value))


def measure(batch: Batch, metric: Metric, family: Family, accepted: Mask) -> Measured:
    """Evaluate one metric on the accepted rows of a batch.

    Raises
    ------
    StatisticsError
        When a count is too large for the statistics.
    """
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
    checked = _validate(metric, roles, measured)
    refusals = tuple(Refusal(column, reason, rows[at]) for column, reason, at in checked.refused)
    if refusals:
        rows = rows[checked.fine]
        checked.values = {name: array[checked.fine] for name, array in checked.values.items()}
    return Measured(rows, checked.values, excluded, skipped, refusals)


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


@dataclass
class _Checked:
    """The values of the candidate rows (U,) while they are checked; ``fine`` marks the sound."""

    metric: Metric
    values: dict[str, NDArray[Any]]
    fine: Mask
    refused: list[tuple[str, str, NDArray[np.int64]]]

    def refuse(self, role: Role, reason: str, fault: Mask) -> None:
        """Refuse rows; the first fault of a row counts."""
        at = np.flatnonzero(fault & self.fine)
        if len(at):
            column = self.metric.roles[role.name].column or role.name
            self.refused.append((column, reason, at))
            self.fine[at] = False


def _validate(metric: Metric, roles: list[Role], values: dict[str, NDArray[Any]]) -> _Checked:
    """Find impossible values, role by role, and apply transforms."""
    size = len(next(iter(values.values()))) if values else 0
    checked = _Checked(metric, dict(values), np.ones(size, np.bool_), [])
    for role in roles:
        _check_role(checked, role)
    for role in roles:
        if role.at_most is not None:
            above = _above(checked.values[role.name], checked.values[role.at_most])
            if above is not None:
                checked.refuse(role, f"{role.name} exceed {role.at_most}", above)
    return checked


def _check_role(checked: _Checked, role: Role) -> None:
    transform = checked.metric.roles[role.name].transform
    array = checked.values[role.name]
    if array.dtype == np.bool_:
        if transform is None and not role.exclusive:
            return  # a truth value is a sound 0 or 1
        array = array.astype(np.float64)
    if role.whole and array.dtype == np.uint64:
        array = _signed(checked.metric, role, array)
    for reason, fault in _faults(role, transform, array):
        checked.refuse(role, reason, fault)
    checked.values[role.name] = _transformed(array, transform, role.whole, checked.fine)


def _signed(metric: Metric, role: Role, array: NDArray[Any]) -> NDArray[np.int64]:
    if len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise StatisticsError(
            f"the count {array.max()} does not fit 64 bits with a sign",
            where={"metric": metric.name, "column": metric.roles[role.name].column},
            expected="counts below 9.2e18",
            remedy="leave such rows out with a where condition",
        )
    return array.astype(np.int64)


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
