"""The columns of some events as numbers, and where conditions on them hold."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.classes import Classes
from hbpipe.data.experiment import Experiment
from hbpipe.data.terms import Condition

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


class Batch:
    """The decoded columns of some events, each converted at most once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.n = table.num_rows
        #: Marks every row.
        self.everything: Mask = np.ones(self.n, np.bool_)
        self._numbers: dict[str, tuple[NDArray[Any], Mask | None]] = {}
        self._conditions: dict[Condition, Mask] = {}

    def numbers(self, column: str) -> tuple[NDArray[Any], Mask | None]:
        """Return the values of a column, and where they are null (None: nowhere).

        What stands where a value is null means nothing.
        """
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

    def class_numbers(self, classes: Classes) -> NDArray[np.int64]:
        """Return the number of each row's class, in the order declared.

        Others have the next number, or −1 where they have none.
        """
        column, rest = self.table.column(classes.column), len(classes.values)
        if pa.types.is_dictionary(column.type):
            found = pa.chunked_array(
                [
                    pc.take(_numbered(chunk.dictionary, classes), chunk.indices)
                    for chunk in column.chunks
                ],
                pa.int32(),
            )
        else:
            found = _numbered(column, classes)
        numbers = pc.fill_null(found, rest if classes.others else -1).to_numpy()
        return np.asarray(numbers, np.int64)

    def arms(self, experiment: Experiment) -> tuple[NDArray[np.int64], Mask | None]:
        """Return each row's arm, 0 for control and 1 for treatment, and where it is neither.

        Rows without an arm are in none, nor are those of an arm that is not compared.
        """
        others = experiment.treatment is None
        numbers = self.class_numbers(Classes(experiment.column, experiment.values, others))
        neither = (numbers < 0) | self.table.column(experiment.column).is_null().to_numpy()
        return numbers, neither if neither.any() else None

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
    """Read the buffers of a column as they are: what stands where it is null means nothing."""
    kind = column.type
    if pa.types.is_boolean(kind):
        target = kind
    elif pa.types.is_integer(kind):
        target = kind if kind == pa.uint64() else pa.int64()
    else:
        target = pa.float64()
    if kind != target:
        column = column.cast(target)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not len(array):
        return np.empty(0, target.to_pandas_dtype()), None
    valid, data = array.buffers()
    null = ~_bits(valid, array) if array.null_count else None
    if pa.types.is_boolean(target):
        return _bits(data, array), null
    values = np.frombuffer(data, target.to_pandas_dtype())
    return values[array.offset : array.offset + len(array)], null


def _bits(buffer: pa.Buffer, array: pa.Array) -> Mask:
    """Return the bits of a buffer, one for each value of an array."""
    end = array.offset + len(array)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=end, bitorder="little")
    return bits[array.offset :].view(np.bool_)


def _numbered(values: Any, classes: Classes) -> Any:
    """Find values among the classes; null where they are none of them."""
    return pc.index_in(values, pa.array(classes.values, values.type))


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
