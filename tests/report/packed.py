"""Reads what ``packing`` writes, as a page's scripts do."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

_TYPES = {"whole": "<i4", "float": "<f8", "steps": "<i4", "flags": "<u1"}


def unpack(text: str, column: dict[str, Any]) -> np.ndarray:
    """Read one column of a pack; NaN where there is no number."""
    content = gzip.decompress(base64.b64decode(text))
    at, count = column["at"], column["count"]
    if column["kind"] == "decimal":
        mantissa = _joined(content, at, count, "<i2").astype(np.float64)
        exponent = _joined(content, at + 2 * count, count, "<i1").astype(np.float64)
        found = np.where(exponent < 0, mantissa / 10.0**-exponent, mantissa * 10.0**exponent)
        return np.where(mantissa == -(2**15), np.nan, found)
    values = _joined(content, at, count, _TYPES[column["kind"]])
    return np.cumsum(values) if column["kind"] == "steps" else values


def _joined(content: bytes, at: int, count: int, kind: str) -> np.ndarray:
    size = np.dtype(kind).itemsize
    planes = np.frombuffer(content, np.uint8, count * size, at).reshape(size, count)
    return np.ascontiguousarray(planes.T).view(kind).ravel()
