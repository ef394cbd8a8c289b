"""Quantities of a metric evaluated on a batch of events, and the rows that cannot be measured.

A null measure is skipped, a row that the metric's ``where`` leaves out is excluded, an impossible
measure is rejected for this metric only: three different things, counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.batch import Batch, Mask
from hbpipe.data.quantities import Metric
from hbpipe.data.terms import Quantity, Spell
from hbpipe.errors import StatisticsError
from hbpipe.model.family import Family, Role


@dataclass(frozen=True)
class Refusal:
    """Rows whose ``column`` is impossible for a metric, and why."""

    column: str
    reason: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """One metric on one batch.

    ``rows`` (U,) index the batch of ``size`` rows, ``chosen`` too, or is None where all rows
    count; ``values`` hold one array (U,) per role that is measured row by row, (U, P) where a role
    takes several quantities; where these are the classes of one column, the number of each row's
    class (U,). ``excluded`` and ``skipped`` are the rows that were left out and why,
    marked (E,), or by number.
    """

    size: int
    chosen: NDArray[np.int64] | None
    values: dict[str, NDArray[Any]]
    excluded: Mask | NDArray[np.int64]
    skipped: Mask | NDArray[np.int64]
    refusals: tuple[Refusal, ...]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows that count."""
        return np.arange(self.size) if self.chosen is None else self.chosen

    @property
    def used(self) -> Mask | NDArray[np.int64]:
        """The rows that count, by number or, where it is all, marked."""
        if self.chosen is None:
            return np.ones(self.size, np.bool_)
        return self.chosen


def measure(batch: Batch, metric: Metric, family: Family, accepted: Mask) -> Measured:
    """Evaluate one metric on the accepted rows of a batch.

    Raises
    ------
    StatisticsError
        When a count does not fit 64 bits.
    """
    usable = accepted & batch.holds(metric.where) if metric.where else accepted
    used, parts = usable, _parts(metric, family)
    values = []
    for part in parts:
        array, null = _evaluate(batch, metric, part.quantity)
        if null is not None and part.role.zero_if_null:
            array, null = np.where(null, 0, array), None
        values.append(array)
        if null is not None:
            used = used & ~null
    chosen = None if used.all() else np.flatnonzero(used)
    measured = values if chosen is None else [array[chosen] for array in values]
    checked = _validate(metric, parts, measured, batch.n if chosen is None else len(chosen))
    refusals: tuple[Refusal, ...] = ()
    if checked.refused:
        rows = np.arange(batch.n) if chosen is None else chosen
        refusals = tuple(Refusal(column, why, rows[at]) for column, why, at in checked.refused)
        chosen = rows[checked.fine]
        checked.values = [array[checked.fine] for array in checked.values]
    excluded, skipped = _left_out(accepted, usable), _left_out(usable, used)
    found = _by_role(parts, _within_intervals(batch, parts, checked.values, chosen))
    return Measured(batch.n, chosen, found, excluded, skipped, refusals)


def _left_out(before: Mask, after: Mask) -> Mask | NDArray[np.int64]:
    """Return the rows that no longer stand; none where no condition was asked."""
    return np.empty(0, np.int64) if after is before else before & ~after


@dataclass(frozen=True)
class _Part:
    """A quantity that is measured row by row: a whole role, or one term of it."""

    role: Role
    quantity: Quantity

    @property
    def column(self) -> str:
        """What a refusal names: a column, or the role where no column is read."""
        return self.quantity.column or self.role.name


def _parts(metric: Metric, family: Family) -> list[_Part]:
    return [
        _Part(role, quantity)
        for role in family.roles
        if not (role.name == "exposure" and metric.calendar is not None)
        for quantity in metric.quantities(role)
    ]


def _evaluate(batch: Batch, metric: Metric, quantity: Quantity) -> tuple[NDArray[Any], Mask | None]:
    if quantity.kind == "rows":
        return batch.everything, None
    if quantity.kind == "where":
        return batch.holds(quantity.where), None
    assert quantity.column is not None
    if quantity.kind == "class":
        assert metric.classes is not None
        return batch.class_numbers(metric.classes), None
    if quantity.kind == "arm":
        assert metric.experiment is not None
        return batch.arms(metric.experiment)
    array, null = batch.numbers(quantity.column)
    if isinstance(quantity, Spell):  # an event whose duration is null happened nobody knows when
        absent = [one for one in (null, batch.numbers(quantity.duration)[1]) if one is not None]
        null = np.logical_or.reduce(absent) if absent else None
    return array, null


def _within_intervals(
    batch: Batch,
    parts: Sequence[_Part],
    values: Sequence[NDArray[Any]],
    chosen: NDArray[np.int64] | None,
) -> list[NDArray[Any]]:
    """Give what of sound durations and events falls into the interval of their quantity."""
    found = list(values)
    for place, part in enumerate(parts):
        if isinstance(part.quantity, Spell):
            durations, _ = batch.numbers(part.quantity.duration)
            durations = durations if chosen is None else durations[chosen]
            found[place] = _within(part.quantity, found[place], durations.astype(np.float64))
    return found


def _within(spell: Spell, values: NDArray[Any], durations: NDArray[np.float64]) -> NDArray[Any]:
    if spell.kind == "time":
        return np.asarray(np.maximum(np.minimum(durations, spell.upper) - spell.lower, 0.0))
    begun = durations > spell.lower if spell.lower > 0 else durations >= 0.0
    return np.asarray(values * (begun & (durations <= spell.upper)))


def _by_role(parts: Sequence[_Part], values: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Give each role its values (U,), or its terms' beside each other (U, P).

    Of classes that a column names it is the number of each row's.
    """
    found: dict[str, NDArray[Any]] = {}
    for role in dict.fromkeys(part.role for part in parts):
        own = [array for part, array in zip(parts, values, strict=True) if part.role is role]
        kind = np.int64 if role.whole else np.float64
        numbered = any(part.role is role and part.quantity.kind == "class" for part in parts)
        several = role.several and not numbered
        found[role.name] = np.column_stack(own).astype(kind, copy=False) if several else own[0]
    return found


@dataclass
class _Checked:
    """The values of the candidate rows, (U,) by part, while they are checked.

    ``fine`` marks the sound rows.
    """

    metric: Metric
    values: list[NDArray[Any]]
    fine: Mask
    refused: list[tuple[str, str, NDArray[np.int64]]]

    def refuse(self, part: _Part, reason: str, fault: Mask) -> None:
        """Refuse rows; the first fault of a row counts."""
        if fault.any():
            at = np.flatnonzero(fault & self.fine)
            if len(at):
                self.refused.append((part.column, reason, at))
                self.fine[at] = False


def _validate(
    metric: Metric, parts: Sequence[_Part], values: Sequence[NDArray[Any]], size: int
) -> _Checked:
    """Find impossible values, part by part, and apply transforms."""
    checked = _Checked(metric, list(values), np.ones(size, np.bool_), [])
    for place, part in enumerate(parts):
        _check_part(checked, place, part)
    places = {part.role.name: place for place, part in enumerate(parts)}
    for place, part in enumerate(parts):
        role = part.role
        if role.at_most is not None:
            above = _above(checked.values[place], checked.values[places[role.at_most]])
            if above is not None:
                checked.refuse(part, f"{role.name} exceed {role.at_most}", above)
        if role.needs is not None:
            alone = (checked.values[place] != 0) & (checked.values[places[role.needs]] == 0)
            checked.refuse(part, f"{role.name} without {role.needs}", alone)
    return checked


def _check_part(checked: _Checked, place: int, part: _Part) -> None:
    role, transform, array = part.role, part.quantity.transform, checked.values[place]
    if array.dtype == np.bool_:
        if transform is None and not role.exclusive:
            return  # a truth value is a sound 0 or 1
        array = array.astype(np.float64)
    if role.whole and array.dtype == np.uint64:
        array = _signed(checked.metric, part, array)
    for reason, fault in _faults(role, transform, array):
        checked.refuse(part, reason, fault)
    if part.quantity.kind == "ended":
        checked.refuse(part, "more than one event", array > 1)
    checked.values[place] = _transformed(array, transform, role.whole, checked.fine)


def _signed(metric: Metric, part: _Part, array: NDArray[Any]) -> NDArray[np.int64]:
    if len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise StatisticsError(
            f"the count {array.max()} does not fit 64 bits with a sign",
            where={"metric": metric.name, "column": part.quantity.column},
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
    sound = array if fine.all() else np.where(fine, array, 1.0)
    return np.asarray(function(sound.astype(np.float64, copy=False)))


def _above(part: NDArray[Any], whole: NDArray[Any]) -> Mask | None:
    """Return where a part exceeds its whole; None where it cannot."""
    if part.dtype == np.bool_ and whole.dtype == np.bool_:
        above = part & ~whole
        return above if above.any() else None
    return np.asarray(part.astype(np.int64) > whole.astype(np.int64))
