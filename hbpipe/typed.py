"""How values of the settings are typed in YAML, and shown again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from hbpipe.data.parsing import parse_metric
from hbpipe.data.survival import write_out

_LONGEST_WINDOW = 36_500
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def _days(value: Any) -> int:
    match = re.fullmatch(r"(\d{1,9})\s*d", str(value).strip())
    if not match or not 1 <= int(match[1]) <= _LONGEST_WINDOW:
        raise ValueError(f"expected a number of days such as 28d, found {value!r}")
    return int(match[1])


def _window(value: Any) -> int | None:
    return None if value == "all" or value is None else _days(value)


def _minutes(value: Any) -> int:
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(value))
    if not match:
        raise ValueError(f"expected a time of day such as '02:00' (quoted), found {value!r}")
    return int(match[1]) * 60 + int(match[2])


def parse_duration(value: Any) -> timedelta:
    """Understand a duration such as ``36h``, ``90m`` or ``2d``.

    Raises
    ------
    ValueError
        It is none.
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d{1,6})\s*([dhm])", str(value).strip())
    if not match:
        raise ValueError(f"expected a duration such as 6h, 90m or 1d, found {value!r}")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _as_duration(value: timedelta) -> str:
    """Write a duration as it is typed, to the minute."""
    minutes = round(value.total_seconds() / 60)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def _as_days(days: int) -> str:
    return f"{days}d"


def _as_window(days: int | None) -> str:
    return "all" if days is None else _as_days(days)


def _as_time(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _strings(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _texts(value: Any) -> Any:
    """Give storage options as the text that object stores expect: ``true`` and ``443`` too."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: json.dumps(one) if isinstance(one, bool | int | float) else one
        for key, one in value.items()
    }


def _limit(value: Any) -> Any:
    return None if value is False or value == "off" else value  # YAML reads a bare off as false


def _as_limit(limit: float | None) -> float | str:
    return "off" if limit is None else limit


def _metric(raw: Any) -> Any:
    for name, one in write_out("metric", raw).items():  # its own name is checked as the key
        parse_metric(name, one)
    return raw


_DAYS_SCHEMA = {"type": "string", "pattern": r"^\d+\s*d$", "examples": ["28d"]}
_TIME_SCHEMA = {
    "type": "string",
    "pattern": r"^([01]?\d|2[0-3]):[0-5]\d$",
    "examples": ["02:00"],
}
_DURATION_SCHEMA = {"type": "string", "pattern": r"^\d+\s*[dhm]$", "examples": ["6h"]}
_NAMES_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_METRIC_SCHEMA = {
    "type": "object",
    "required": ["family"],
    "properties": {"family": {"type": "string"}},
    "description": "a family, what fills its roles, and optionally where, transform, per, target, "
    "fixed, hyperprior, overdispersion, covariates, nest, decay, experiment and survival",
}

# Shown as they are typed, so that what is printed can be set again.
Days = Annotated[
    int, BeforeValidator(_days), PlainSerializer(_as_days), WithJsonSchema(_DAYS_SCHEMA)
]
Window = Annotated[
    int | None,
    BeforeValidator(_window),
    PlainSerializer(_as_window),
    WithJsonSchema({"anyOf": [_DAYS_SCHEMA, {"const": "all"}, {"type": "null"}]}),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(_as_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
DayStart = Annotated[
    int,
    BeforeValidator(_minutes),
    PlainSerializer(_as_time),
    WithJsonSchema(_TIME_SCHEMA),
]
_OR_OFF = {"anyOf": [{"type": "number"}, {"const": "off"}]}
#: A limit that may be ``off``: times as much, at least 1.
Factor = Annotated[
    Annotated[float, Field(ge=1)] | None,
    BeforeValidator(_limit),
    PlainSerializer(_as_limit),
    WithJsonSchema(_OR_OFF),
]
#: A limit that may be ``off``: a share or a probability.
Share = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    BeforeValidator(_limit),
    PlainSerializer(_as_limit),
    WithJsonSchema(_OR_OFF),
]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_strings), WithJsonSchema(_NAMES_SCHEMA)]
Options = Annotated[dict[str, str], BeforeValidator(_texts)]
#: Starts like an identifier, and is short enough for the log's statistics of the metric column.
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
MetricSetting = Annotated[Any, AfterValidator(_metric), WithJsonSchema(_METRIC_SCHEMA)]
