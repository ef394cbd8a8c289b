"""The settings: one frozen object, and every fault of it reported at once.

``layers.py`` puts files, variables and overrides over each other, ``sections.py`` says what each
section may hold; this module joins them, and answers what others ask of the settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from hbpipe.audit_sections import Audits
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import Metric
from hbpipe.data.spelling import nearest
from hbpipe.data.survival import write_out_all
from hbpipe.errors import ConfigError
from hbpipe.layers import origin_of, origins_of, resolve_layers
from hbpipe.observe_sections import Notify, Observe
from hbpipe.retention_sections import ReleaseRetention, Retention
from hbpipe.sections import (
    Cluster,
    Events,
    Inference,
    LakeSettings,
    Section,
    Stores,
)
from hbpipe.setting_checks import (
    covariate_faults,
    dynamics_faults,
    estimator_faults,
    nest_faults,
    nested_metric_faults,
    pool_faults,
    retention_faults,
)
from hbpipe.typed import MetricName, MetricSetting

__all__ = [
    "Audits",
    "Cluster",
    "Events",
    "Inference",
    "LakeSettings",
    "Notify",
    "Observe",
    "ReleaseRetention",
    "Retention",
    "Settings",
    "Stores",
    "digest",
    "json_schema",
    "load_settings",
    "resolve_secrets",
    "resolved_view",
    "window_days",
]

#: Storage options that may be shown; any other may be a secret, or hold one.
_HARMLESS = re.compile(r"(aws_)?(default_)?(region|endpoint|endpoint_url|allow_http)|account_name")
_SECRET = re.compile(r"observe\.openlineage\.api_key|notify\.(webhook|smtp\.(user|password))")


class Settings(Section):
    """All settings of a pipeline, resolved."""

    pipeline: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="the name of the pipeline; a lake belongs to one",
    )
    environment: str = Field(
        "prod", pattern=r"^[a-z][a-z0-9_-]*$", description="whose readers follow the releases"
    )
    events: Events
    stores: Stores = Stores()
    metrics: dict[MetricName, MetricSetting] = Field(
        min_length=1, description="what is measured: the name of a metric to its keys, see below"
    )
    inference: Inference = Inference()
    lake: LakeSettings
    cluster: Cluster = Cluster()
    audits: Audits = Audits()
    retention: Retention = Retention()
    observe: Observe = Observe()
    notify: Notify = Notify()
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)
    _metrics: tuple[Metric, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _cross_checks(self) -> Settings:
        self._written = write_out_all(self.metrics)
        levels, inference = self.events.levels, self.inference
        parsed = (parse_metric(name, raw) for name, raw in self._written.items())
        self._metrics = tuple(metric.over(inference.window) for metric in parsed)
        faults = pool_faults(levels, inference.pool_by or ())
        faults += nest_faults(levels, inference.pool_by, inference.nest_by)
        faults += estimator_faults(inference.estimator, self._metrics)
        faults += nested_metric_faults(inference, self._metrics)
        faults += dynamics_faults(inference, self._metrics)
        faults += covariate_faults(self.stores.path, self._metrics)
        faults += retention_faults(self.retention.statistics, inference, self.stores, self._metrics)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def pool_by(self) -> tuple[str, ...]:
        """The levels that share a prior; by default all above the unit and above nested ones."""
        chosen, nested = self.inference.pool_by, self.inference.nest_by
        if chosen is not None:
            return chosen
        return self.events.levels[: self.events.levels.index((*nested, self.events.unit)[0])]

    def nest_by(self, metric: Metric) -> tuple[str, ...]:
        """Return the levels between pool and unit at which the priors of a metric vary."""
        return self.inference.nest_by if metric.nest is None else metric.nest

    @property
    def written_metrics(self) -> dict[str, Any]:
        """The metrics as they stand in the file, those by interval written out."""
        return self._written

    @property
    def parsed_metrics(self) -> tuple[Metric, ...]:
        """The metrics, parsed."""
        return self._metrics

    def origin(self, key: str) -> str:
        """Return which layer gave a dotted key its value."""
        return origin_of(self._origins, key) or "default"

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


# --- loading ------------------------------------------------------------------------------------


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
    layered = resolve_layers(Path(path), env, overrides)
    try:
        settings = Settings.model_validate(layered.values)
    except ValidationError as error:
        lines = _explain(error, layered.origins)
        told = _with_origins("", _pool_lines(layered.values), layered.origins)
        lines += [line for line in told if line not in lines]
        raise ConfigError(
            f"{len(lines)} fault(s) in the settings:\n" + "\n".join(f"  {line}" for line in lines),
            where={"file": path},
        ) from None
    settings._origins.update(layered.origins)
    return settings


def _pool_lines(values: Mapping[str, Any]) -> list[str]:
    """Check the pools even where another fault keeps the settings from being built."""
    sections = [values.get("events"), values.get("inference")]
    events, inference = ({} if not isinstance(s, Mapping) else s for s in sections)
    levels = _listed(events.get("levels"))
    pool_by, nest_by = _listed(inference.get("pool_by")), _listed(inference.get("nest_by"))
    if levels is None:
        return []
    return pool_faults(levels, pool_by or []) + nest_faults(levels, pool_by, nest_by or [])


def _listed(found: Any) -> list[str] | None:
    """Return names as they may be given, one or a list; None for anything else."""
    if isinstance(found, str):
        return [found]
    return [str(name) for name in found] if isinstance(found, list) else None


def _explain(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    """Write one line per fault; what each arm of a union says of one value is one fault."""
    told: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False, include_input=False):
        place = _place(fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"unknown key{nearest(str(fault['loc'][-1]), _keys_at(fault['loc'][:-1]))}"
        told.setdefault(place, []).append(message)
    lines = []
    for place, messages in told.items():
        lines += _with_origins(place, "\nor: ".join(messages).split("\n"), origins)
    return lines


def _with_origins(place: str, messages: Sequence[str], origins: Mapping[str, str]) -> list[str]:
    """Put the key before each message, unless it names its own, and the layers behind it."""
    lines = []
    for message in messages:
        layers = origins_of(origins, place or message.partition(": ")[0])
        suffix = f" [from {', '.join(layers)}]" if layers else ""
        lines.append(f"{place}: {message}{suffix}" if place else f"{message}{suffix}")
    return lines


def _place(location: Sequence[Any]) -> str:
    """Return the dotted key of a fault, without pydantic's names for the arms of a union."""
    model: Any = Settings
    kept: list[str] = []
    for part in location:
        fields = getattr(model, "model_fields", None)
        if fields is None and not isinstance(part, int):
            if kept in (["metrics"], ["lake", "storage_options"], ["events", "storage_options"]):
                kept.append(str(part))
            break
        kept.append(str(part))
        model = fields[part].annotation if fields and part in fields else None
    return ".".join(kept)


def _keys_at(location: Sequence[Any]) -> list[str]:
    model: Any = Settings
    for part in location:
        model = model.model_fields[part].annotation
    return [*model.model_fields, *(["extends"] if not location else [])]


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
    _, found, name = key.partition("storage_options.")
    secret = _SECRET.fullmatch(key) and value is not None
    if not (found or secret) or value.startswith(("env:", "file:")):
        return value
    return value if _HARMLESS.fullmatch(name.lower()) and "@" not in value else "****"


def resolve_secrets(options: Mapping[str, str]) -> dict[str, str]:
    """Replace ``env:NAME`` and ``file:PATH`` by what they refer to, at the moment of use.

    Raises
    ------
    ConfigError
        The variable is not set, or the file cannot be read.
    """
    return {key: _secret(key, value) for key, value in options.items()}


def _secret(key: str, value: str) -> str:
    kind, _, reference = value.partition(":")
    if kind == "env":
        if reference not in os.environ:
            raise ConfigError(f"{key} refers to the variable {reference}, which is not set")
        return os.environ[reference]
    if kind == "file":
        try:
            return Path(reference).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{key} refers to the file {reference}, which is not readable as text: "
                f"{type(error).__name__}"
            ) from None
    return value


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a settings file that stands alone, for editors."""
    schema = Settings.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "a file below this one"}
    return schema


def window_days(as_of: date, window: int | None, first: date) -> list[date]:
    """List the days of the window that ends with ``as_of``, both included."""
    start = first if window is None else as_of - timedelta(days=window - 1)
    return [start + timedelta(days=k) for k in range((as_of - start).days + 1)]
