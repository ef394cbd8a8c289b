"""The settings: YAML layers resolved into one frozen object that reports every fault at once.

Layers, each over the one before: the file that ``extends`` names, the file itself, the overlay
``env/NAME.yaml`` beside it, ``HBPIPE__SECTION__KEY`` variables, ``--set section.key=value``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from hbpipe.data.quantities import Metric, nearest, parse_conditions, parse_quantity
from hbpipe.data.quantities import parse_transform as _transform
from hbpipe.errors import ConfigError

_MAX_BYTES = 1 << 20
_PREFIX = "HBPIPE__"
_SECRET = re.compile(r"secret|password|token|key", re.IGNORECASE)


def _days(value: Any) -> int:
    match = re.fullmatch(r"(\d+)\s*d", str(value).strip())
    if not match or int(match[1]) < 1:
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


Days = Annotated[int, BeforeValidator(_days)]
Window = Annotated[int | None, BeforeValidator(_window)]
DayStart = Annotated[int, BeforeValidator(_minutes)]
Names = Annotated[tuple[str, ...], BeforeValidator(_strings)]


class Section(BaseModel):
    """A strict, frozen section: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Events(Section):
    """Where the events lie and how their columns are read."""

    path: str
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
    storage_options: dict[str, str] = {}

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {value!r}, for instance Europe/Paris") from error
        return value

    @model_validator(mode="after")
    def _one_time(self) -> Events:
        if (self.time is None) == (self.day is None):
            raise ValueError("give either time (timestamp or ISO text) or day (a date column)")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels must differ, found {list(self.levels)}")
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
    keep_silent: Window = None


class Inference(Section):
    """How hyperparameters and posteriors are computed."""

    pool_by: Names | None = None
    window: Window = 28
    estimator: str = "ml"
    uncertainty: Literal["auto", "plug_in", "first_order", "integrated"] = "auto"
    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)

    @field_validator("quantiles")
    @classmethod
    def _levels(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < level < 1 for level in value) or len(set(value)) < len(value):
            raise ValueError(f"quantiles are different numbers between 0 and 1, found {value}")
        return tuple(sorted(value))


class LakeSettings(Section):
    """Where the tables lie."""

    path: str
    storage_options: dict[str, str] = {}


class Cluster(Section):
    """Who does the work; never what comes out."""

    kind: Literal["local", "serial", "address"] = "local"
    workers: int | Literal["auto"] = "auto"
    processes: bool | Literal["auto"] = "auto"
    memory_limit_gib: float | Literal["auto"] = "auto"
    address: str | None = None
    no_workers_timeout_s: float = 300.0
    allowed_failures: int = 3

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


class Settings(Section):
    """All settings of a pipeline, resolved."""

    pipeline: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    environment: str = Field("prod", pattern=r"^[a-z][a-z0-9_-]*$")
    events: Events
    stores: Stores = Stores()
    metrics: dict[str, Any] = Field(min_length=1)
    inference: Inference = Inference()
    lake: LakeSettings
    cluster: Cluster = Cluster()
    audits: Audits = Audits()
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _metrics: tuple[Metric, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _cross_checks(self) -> Settings:
        parsed, faults = [], []
        for name, raw in self.metrics.items():
            try:
                parsed.append(_metric(name, raw))
            except ValueError as error:
                faults.append(f"metrics.{name}: {error}")
        unknown = set(self.pool_by) - set(self.events.levels)
        faults += [
            f"inference.pool_by: {name!r} is not a level{nearest(name, self.events.levels)}"
            for name in sorted(unknown)
        ]
        if self.events.unit in self.pool_by:
            faults.append("inference.pool_by: a pool needs many units; name coarser levels only")
        if faults:
            raise ValueError("\n".join(faults))
        self._metrics = tuple(parsed)
        return self

    @property
    def pool_by(self) -> tuple[str, ...]:
        """The levels that share a prior; by default every level above the unit."""
        return (
            self.inference.pool_by
            if self.inference.pool_by is not None
            else (self.events.levels[:-1])
        )

    @property
    def parsed_metrics(self) -> tuple[Metric, ...]:
        """The metrics, parsed."""
        return self._metrics

    def origin(self, key: str) -> str:
        """Return which layer gave a dotted key its value."""
        return self._origins.get(key, "default")

    def digest(self) -> str:
        """Hash what decides hyperparameters and posteriors beyond the statistics."""
        decisive = {
            "inference": self.inference.model_dump(mode="json"),
            "stores": self.stores.model_dump(mode="json"),
            "pool_by": self.pool_by,
            "unit_ids": self.events.unit_ids,
            "metrics": {metric.name: repr(metric) for metric in self.parsed_metrics},
        }
        return digest(decisive)


def digest(value: Any) -> str:
    """Hash a JSON-like value: 16 hexadecimal digits of SHA-256 over its canonical form."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_METRIC_KEYS = ("family", "where", "transform", "per", "target", "fixed", "hyperprior")


def _metric(name: str, raw: Any) -> Metric:
    """Parse one metric; raises ValueError with what is wrong."""
    from hbpipe.model.families import FAMILIES  # brings scipy: only when settings are read

    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("a metric's name has letters, digits and underscores")
    if not isinstance(raw, Mapping) or "family" not in raw:
        raise ValueError(f"needs a family, one of {', '.join(sorted(FAMILIES))}")
    if raw["family"] not in FAMILIES:
        raise ValueError(f"unknown family {raw['family']!r}{nearest(str(raw['family']), FAMILIES)}")
    family = FAMILIES[raw["family"]]
    roles = [role.name for role in family.roles]
    for key in raw:
        if key not in roles and key not in _METRIC_KEYS:
            raise ValueError(f"unknown key {key!r}{nearest(key, [*roles, *_METRIC_KEYS])}")
    missing = [role for role in roles if role not in raw]
    if missing:
        raise ValueError(f"family {family.name} needs {', '.join(missing)}")
    quantities = {role: parse_quantity(role, raw[role]) for role in roles}
    if (transform := _transform(raw.get("transform"))) is not None:
        if roles != ["value"] or quantities["value"].kind != "column":
            raise ValueError("transform goes with a value column")
        quantities["value"] = parse_quantity(
            "value", {"column": quantities["value"].column, "transform": transform}
        )
    return Metric(
        name=name,
        family=family.name,
        roles=quantities,
        where=parse_conditions(raw["where"]) if "where" in raw else (),
        per=_per(raw.get("per", 1), quantities),
        target=_number("target", raw.get("target")),
        fixed=_fixed(raw.get("fixed", {}), family.hyperparameters),
        hyperprior=raw.get("hyperprior"),
    )


def _per(raw: Any, quantities: Mapping[str, Any]) -> float:
    if "exposure" not in quantities:
        if raw != 1:
            raise ValueError("per goes with an exposure")
        return 1.0
    calendar = quantities["exposure"].kind in ("days", "active_days")
    value = _days(raw) if isinstance(raw, str) and calendar else raw
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"per must be a positive number, or days such as 7d, found {raw!r}")
    return float(value)


def _number(key: str, raw: Any) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError(f"{key} must be a number, found {raw!r}")
    return float(raw)


def _fixed(raw: Any, hyperparameters: Sequence[str]) -> dict[str, float]:
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


# --- layers -------------------------------------------------------------------------------------


def load_settings(
    path: str | Path, env: str | None = None, overrides: Sequence[str] = ()
) -> Settings:
    """Resolve all layers into settings.

    Parameters
    ----------
    path
        The YAML file.
    env
        Name of the overlay ``env/NAME.yaml`` beside the file.
    overrides
        ``section.key=value`` strings, the last layer; values are YAML.

    Raises
    ------
    ConfigError
        With every fault found, each with its key, its layer and the nearest right name.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in _layers(Path(path), env, overrides):
        _merge(merged, layer, origin, origins)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(
            f"{error.error_count()} fault(s) in the settings:\n" + _explain(error, origins),
            where={"file": path},
        ) from None
    settings._origins.update(origins)
    return settings


def _layers(
    path: Path, env: str | None, overrides: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from _file_layers(path, ())
    if env is not None:
        yield from _file_layers(path.parent / "env" / f"{env}.yaml", ())
    for name, value in sorted(os.environ.items()):
        if name.startswith(_PREFIX):
            keys = name.removeprefix(_PREFIX).lower().split("__")
            yield f"variable {name}", _nested(keys, yaml.safe_load(value))
    for override in overrides:
        key, found, value = override.partition("=")
        if not found:
            raise ConfigError(f"--set {override!r} has no value", expected="section.key=value")
        yield f"--set {key}", _nested(key.split("."), yaml.safe_load(value))


def _file_layers(path: Path, seen: tuple[Path, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    content = _read_yaml(path)
    parent = content.pop("extends", None)
    if parent is not None:
        base = path.parent / str(parent)
        if base.resolve() in seen:
            raise ConfigError(f"extends leads in a circle through {base}", where={"file": path})
        yield from _file_layers(base, (*seen, path.resolve()))
    yield str(path), content


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        beside = [str(found) for found in sorted(path.parent.glob("*.yaml"))]
        raise ConfigError(f"no settings file {path}{nearest(str(path), beside) if beside else ''}")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB", expected="a settings file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not readable as YAML: {error}", where={"file": path}) from None
    if not isinstance(content, dict):
        raise ConfigError("the file holds no settings", where={"file": path})
    return content


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


#: Values that are replaced whole: a half-merged metric or storage option means nothing.
_WHOLE = re.compile(r"metrics\.[^.]+\Z|.*\.storage_options\Z")


def _merge(
    into: dict[str, Any],
    layer: Mapping[str, Any],
    origin: str,
    origins: dict[str, str],
    at: str = "",
) -> None:
    for key, value in layer.items():
        place = f"{at}{key}"
        if isinstance(value, Mapping) and not _WHOLE.match(place):
            below = into.get(key)
            into[key] = dict(below) if isinstance(below, Mapping) else {}
            _merge(into[key], value, origin, origins, f"{place}.")
        else:
            into[key] = value
            origins[place] = origin


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines: list[str] = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"unknown key{nearest(str(fault['loc'][-1]), _keys_at(fault['loc'][:-1]))}"
        origin = f" [from {origins[place]}]" if place in origins else ""
        lines += [
            f"  {place + ': ' if place else ''}{part}{origin}" for part in message.split("\n")
        ]
    return "\n".join(lines)


def _keys_at(location: Sequence[Any]) -> list[str]:
    model: Any = Settings
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


# --- what others read ---------------------------------------------------------------------------


def resolved_view(settings: Settings) -> list[tuple[str, Any, str]]:
    """List (dotted key, value, origin) of every setting, secrets masked."""
    return [
        (key, _masked(key, value), settings.origin(key))
        for key, value in _flatten(settings.model_dump(mode="json"))
    ]


def _flatten(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, below in value.items():
        place = f"{at}{key}"
        if isinstance(below, Mapping) and below and not place.startswith("metrics."):
            yield from _flatten(below, f"{place}.")
        else:
            yield place, below


def _masked(key: str, value: Any) -> Any:
    reference = isinstance(value, str) and value.startswith(("env:", "file:"))
    hidden = "storage_options." in key and _SECRET.search(key) and not reference
    return "****" if hidden else value


def resolve_secrets(options: Mapping[str, str]) -> dict[str, str]:
    """Replace ``env:NAME`` and ``file:PATH`` by what they refer to, at the moment of use."""
    return {key: _secret(key, value) for key, value in options.items()}


def _secret(key: str, value: str) -> str:
    kind, _, reference = value.partition(":")
    if kind == "env":
        if reference not in os.environ:
            raise ConfigError(f"{key} refers to the variable {reference}, which is not set")
        return os.environ[reference]
    if kind == "file":
        path = Path(reference)
        if not path.is_file():
            raise ConfigError(f"{key} refers to the file {path}, which does not exist")
        return path.read_text(encoding="utf-8").strip()
    return value


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the settings file."""
    return Settings.model_json_schema()


def window_days(as_of: date, window: int | None, first: date) -> list[date]:
    """List the days of the window that ends with ``as_of``, both included."""
    start = first if window is None else as_of - timedelta(days=window - 1)
    return [start + timedelta(days=k) for k in range((as_of - start).days + 1)]
