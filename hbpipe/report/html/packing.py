"""Columns of numbers packed for a page: rounded, sorted into byte planes, compressed, as text.

A page of 150,000 rows has to stay below 5 MB, and float64 as text would take that for one column.
Rounded to four significant digits a number is a mantissa of two bytes and an exponent; like bytes
of neighbours lie together, so that gzip finds what repeats. ``js/data.js`` reads it back.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The mantissa of a missing number.
MISSING = -(2**15)


class Pack:
    """Columns one after another; each is told of by a small JSON-like record."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def decimal(self, values: NDArray[np.float64], digits: int) -> dict[str, Any]:
        """Add numbers rounded to so many significant digits, at most 4; what is not finite is null.

        Parameters
        ----------
        values
            Shape (R,).
        digits
            How many digits are kept.
        """
        mantissa, exponent = split_decimal(values, digits)
        return self._add("decimal", len(values), mantissa.astype("<i2"), exponent)

    def whole(self, values: NDArray[Any]) -> dict[str, Any]:
        """Add whole numbers of less than 2^53, shape (R,); small ones take less."""
        values = np.asarray(values)
        small = not len(values) or np.abs(values).max() < 2**31
        kind = "<i4" if small else "<f8"
        return self._add("whole" if small else "float", len(values), values.astype(kind))

    def steps(self, values: NDArray[Any]) -> dict[str, Any]:
        """Add whole numbers that mostly rise by one, such as places in a list, shape (R,)."""
        return self._add("steps", len(values), np.diff(values, prepend=0).astype("<i4"))

    def flags(self, values: NDArray[np.uint8]) -> dict[str, Any]:
        """Add one byte for each row, shape (R,)."""
        return self._add("flags", len(values), values.astype(np.uint8))

    def text(self) -> str:
        """Return all of it as ``deflated`` text."""
        return deflated(b"".join(self._parts))

    def _add(self, kind: str, count: int, *arrays: NDArray[Any]) -> dict[str, Any]:
        record = {"kind": kind, "at": self._size, "count": count}
        for array in arrays:
            part = _planes(array)
            self._parts.append(part)
            self._size += len(part)
        return record


def deflated(content: bytes) -> str:
    """Compress bytes and write them in base64: letters that mean nothing to HTML."""
    # Without a time: the same release gives the same page.
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def split_decimal(
    values: NDArray[np.float64], digits: int
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Round numbers to ``digits`` significant digits, as mantissa times a power of ten.

    Returns
    -------
    tuple
        Mantissas, ``MISSING`` where a number is not finite, and exponents; both (R,).
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    size = np.abs(np.where(finite, values, 0.0))
    # Below this a number is zero to every reader of a page.
    size = np.where(size < 1e-100, 0.0, size)
    exponent = np.floor(np.log10(np.where(size > 0, size, 1.0))).astype(np.int64) - digits + 1
    # 10^-e is exact where 10^e is not, and a quotient then rounds as text does.
    scaled = np.where(exponent < 0, size * 10.0**-exponent, size / 10.0**exponent)
    mantissa = np.rint(scaled).astype(np.int64)
    over = mantissa >= 10**digits
    mantissa, exponent = np.where(over, 10 ** (digits - 1), mantissa), exponent + over
    mantissa = np.where(finite, np.sign(np.where(finite, values, 0.0)) * mantissa, MISSING)
    exponent = np.where(size > 0, exponent, 0)
    return mantissa.astype(np.int64), exponent.astype(np.int8)


def _planes(array: NDArray[Any]) -> bytes:
    """Return the first bytes of all values, then their second ones, and so on."""
    size = array.dtype.itemsize
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1, size).T.tobytes()
