"""The sections of the settings: what each key may hold, and what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from hbpipe.data.quantities import RESERVED, parse_metric

_LONGEST_WINDOW = 36_500


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


def _metric(raw: Any) -> Any:
    parse_metric("metric", raw)  # its own name is checked as the key
    return raw


_DAYS_SCHEMA = {"type": "string", "pattern": r"^\d+\s*d$", "examples": ["28d"]}
_NAMES_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_METRIC_SCHEMA = {
    "type": "object",
    "required": ["family"],
    "properties": {"family": {"type": "string"}},
    "description": "a family, what fills its roles, and optionally where, transform, per, target, "
    "fixed and hyperprior",
}

Days = Annotated[int, BeforeValidator(_days), WithJsonSchema(_DAYS_SCHEMA)]
Window = Annotated[
    int | None,
    BeforeValidator(_window),
    WithJsonSchema({"anyOf": [_DAYS_SCHEMA, {"const": "all"}, {"type": "null"}]}),
]
DayStart = Annotated[
    int,
    BeforeValidator(_minutes),
    WithJsonSchema({"type": "string", "pattern": r"^([01]?\d|2[0-3]):[0-5]\d$"}),
]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_strings), WithJsonSchema(_NAMES_SCHEMA)]
Options = Annotated[dict[str, str], BeforeValidator(_texts)]
#: Starts like an identifier, and is short enough for the log's statistics of the metric column.
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
MetricSetting = Annotated[Any, AfterValidator(_metric), WithJsonSchema(_METRIC_SCHEMA)]


class Section(BaseModel):
    """A strict, frozen section: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Events(Section):
    """Where the events lie and how their columns are read."""

    path: Name
    time: str | None = None
    day: str | None = None
    timezone: str = "UTC"
    day_start: DayStart = 0
    levels: Names = Field(min_length=1)
    #: Whether the last level identifies a unit by itself, or only within its parent.
    unit_ids: Literal["auto", "unique", "within_parent"] = "auto"
    event_id: Names = ()
    horizon: Days = 7
    earliest: date = date(2000, 1, 1)
    latest: date = date(2099, 12, 31)
    storage_options: Options = Field({}, repr=False)

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {value!r}, for instance Europe/Paris") from error
        return value

    @field_validator("levels")
    @classmethod
    def _names_are_free(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({name.lower() for name in value}) < len(value):
            raise ValueError(f"levels must differ, not only in case, found {list(value)}")
        taken = [name for name in value if name.lower() in RESERVED]
        if taken:
            raise ValueError(
                f"{taken[0]!r} is a column of the tables that are written; rename it in the events"
            )
        return value

    @model_validator(mode="after")
    def _one_time(self) -> Events:
        faults = []
        if (self.time is None) == (self.day is None):
            faults.append("give either time (timestamp or ISO text) or day (a date column)")
        if self.earliest > self.latest:
            faults.append(f"earliest {self.earliest} is after latest {self.latest}")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def unit(self) -> str:
        """The finest level."""
        return self.levels[-1]


class Stores(Section):
    """The universe of stores beyond those with events in the window."""

    #: A Parquet table with one row per store and the level columns.
    path: str | None = None
    #: Stores stay listed this long after their last event; by default as long as the window.
    keep_silent: Days | None = None


class Inference(Section):
    """How hyperparameters and posteriors are computed."""

    pool_by: Names | None = None
    window: Window = 28
    estimator: str = Field("ml", pattern=r"^(ml|reml|map|moments(:[a-z_]+)?)$")
    uncertainty: Literal["auto", "plug_in", "first_order", "integrated"] = "auto"
    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)

    @field_validator("quantiles")
    @classmethod
    def _levels(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < level < 1 for level in value) or len(set(value)) < len(value):
            raise ValueError(f"quantiles are different numbers between 0 and 1, found {value}")
        if len({f"{level:g}" for level in value}) < len(value):
            raise ValueError(f"quantiles name columns by six digits, which these share: {value}")
        return tuple(sorted(value))


class LakeSettings(Section):
    """Where the tables lie."""

    path: Name
    storage_options: Options = Field({}, repr=False)


class Cluster(Section):
    """Who does the work; never what comes out."""

    kind: Literal["local", "serial", "address"] = "local"
    workers: Annotated[int, Field(ge=1, strict=True)] | Literal["auto"] = "auto"
    processes: bool | Literal["auto"] = "auto"
    memory_limit_gib: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    address: str | None = None
    no_workers_timeout_s: float = Field(300.0, gt=0)
    allowed_failures: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _address(self) -> Cluster:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("address goes with kind: address, and kind: address needs one")
        return self


class Audits(Section):
    """The thresholds of both gates; a share is of the rows of a day or the pools of a metric."""

    max_rejected_share: float = Field(0.05, ge=0, le=1)
    max_repeated_share: float = Field(0.25, ge=0, le=1)
    max_unconverged_share: float = Field(0.0, ge=0, le=1)
