"""What the recount is told: columns, calendar and metrics, as they stand in the YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

CALENDAR = ("days", "active_days")  # exposures that no row carries


@dataclass(frozen=True)
class RecountMetric:
    """One metric, its quantities and conditions exactly as in the YAML.

    ``roles`` maps a role to a column name, ``rows``, ``days``, ``active_days``,
    ``{"column": ..., "transform": ...}`` or ``{"where": [...]}``, what of a spell falls into an
    interval (``{"duration": ..., "interval": [...]}``, a count with ``column``), or to a list of
    them, in which the number 1 is the constant; ``transform`` is the metric's own and applies to
    the role ``value``; ``clusters`` are the columns that name a cluster;
    ``experiment`` has ``arm``, ``control`` and perhaps ``treatment``;
    ``weights`` says what the role ``weight`` means.
    """

    name: str
    family: str
    roles: Mapping[str, Any]
    where: Sequence[Sequence[Any]] = ()
    transform: str | None = None
    clusters: Sequence[str] = ()
    experiment: Mapping[str, Any] | None = None
    weights: str | None = None


@dataclass(frozen=True)
class RecountSpec:
    """Columns, calendar and metrics; ``day_start_minutes`` after midnight, bounds included."""

    time: str
    time_kind: Literal["timestamp", "day"]
    timezone: str
    day_start_minutes: int
    levels: tuple[str, ...]
    event_id: tuple[str, ...]
    earliest: date
    latest: date
    metrics: tuple[RecountMetric, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        names = [self.time, *self.levels, *self.event_id]
        for metric in self.metrics:
            names += [condition[0] for condition in metric.where]
            names += metric.clusters
            names += [] if metric.experiment is None else [metric.experiment["arm"]]
            for quantity in [one for raw in metric.roles.values() for one in as_mappings(raw)]:
                names += [condition[0] for condition in quantity.get("where", ())]
                names += [quantity[key] for key in ("column", "duration") if key in quantity]
        return tuple(dict.fromkeys(names))


class RefusedError(Exception):
    """A row, or its measure for one metric, cannot be used."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(column, reason)
        self.column = column
        self.reason = reason


def as_mappings(raw: Any) -> list[dict[str, Any]]:
    """Return what fills a role as mappings: one, or each of a list; empty without a column."""
    return [_as_mapping(one) for one in (raw if isinstance(raw, list | tuple) else [raw])]


def _as_mapping(quantity: Any) -> dict[str, Any]:
    if isinstance(quantity, Mapping):
        return dict(quantity)
    return {} if quantity in ("rows", 1, *CALENDAR) else {"column": quantity}
