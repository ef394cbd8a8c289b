"""Values of Python, Arrow and numpy as JSON."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from typing import Any


def to_json(value: Any) -> str:
    """Write values of Python, Arrow and numpy as JSON on one line; NaN and infinity as null."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    if isinstance(value, date | datetime):
        return value.isoformat()
    if hasattr(value, "item"):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
