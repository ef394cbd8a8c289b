"""The stock that plans are made from: files and days as they are, and as the ledger knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hbpipe.config import Settings, resolve_secrets
from hbpipe.data.clock import Calendar
from hbpipe.data.events import EventFormat
from hbpipe.data.forgotten import read_forgotten
from hbpipe.data.lake import Lake
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection
from hbpipe.errors import ConfigError
from hbpipe.run.engine import Engine
from hbpipe.run.history import read_releases
from hbpipe.run.inventory import Delivery, take_inventory
from hbpipe.run.ledger import DayEntry, FileEntry, read_days, read_files


@dataclass(frozen=True)
class Stock:
    """Everything that was looked at; plans of any as-of day follow from it without looking again.

    ``files`` are as the ledger will have them, ``known`` as it has them, ``surveyed`` the paths
    that were read just now and ``undated`` their rows without a business day. ``now`` is the one
    reading of the clock; ``accept_missing`` tells that the rows of vanished files are taken out.
    """

    settings: Settings
    form: EventFormat
    files: Mapping[str, FileEntry]
    known: Mapping[str, FileEntry]
    surveyed: tuple[str, ...]
    undated: tuple[Rejection, ...]
    level_types: tuple[str, ...]
    ledger: Mapping[int, DayEntry]
    now: datetime
    accept_missing: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, parsed."""
        return self.settings.parsed_metrics

    @property
    def changed_files(self) -> tuple[str, ...]:
        """Paths whose ledger row changes even if no day does."""
        return tuple(path for path, entry in self.files.items() if self.known.get(path) != entry)


def take_stock(
    settings: Settings,
    lake: Lake,
    engine: Engine,
    *,
    now: datetime | None = None,
    accept_missing: bool = False,
    delivery: Delivery | None = None,
) -> Stock:
    """Compare the files that are there with the ledger; writes nothing.

    Parameters
    ----------
    now
        The moment of planning, aware; by default the present.
    accept_missing
        Take the rows of vanished files out.
    delivery
        Look at these files only; all others are as the ledger knows them.

    Raises
    ------
    ConfigError
        When the lake belongs to another pipeline.
    EventsError
        When there are no events, or a file cannot be used or is not as the delivery says.
    """
    _check_lineage(settings, lake)
    known = read_files(lake)
    inventory = take_inventory(
        event_format(settings), settings.parsed_metrics, known, engine, delivery
    )
    files = inventory.files
    if accept_missing:
        files = {p: e.emptied(None) if e.state == "gone" else e for p, e in files.items()}
    return Stock(
        settings=settings,
        form=replace(inventory.form, forgotten=read_forgotten(lake)),
        files=files,
        known=known,
        surveyed=inventory.surveyed,
        undated=inventory.undated,
        level_types=inventory.level_types,
        ledger=read_days(lake),
        now=now or datetime.now(UTC),
        accept_missing=accept_missing,
    )


def event_format(settings: Settings) -> EventFormat:
    """Collect how events are read, for the workers."""
    events = settings.events
    return EventFormat(
        root=events.path,
        time=str(events.time or events.day),
        calendar=calendar_of(settings),
        levels=events.levels,
        event_id=events.event_id,
        options=resolve_secrets(events.storage_options),
    )


def calendar_of(settings: Settings) -> Calendar:
    """Return how times become business days; needs neither events nor secrets."""
    events = settings.events
    return Calendar(
        timezone=events.timezone,
        day_start=events.day_start,
        earliest=events.earliest,
        latest=events.latest,
        whole_days=events.day is not None,
    )


def _check_lineage(settings: Settings, lake: Lake) -> None:
    """Refuse a lake of another pipeline: days of both would become one release."""
    found = [row["pipeline"] for row in read_releases(lake)]
    if found and found[-1] != settings.pipeline:
        raise ConfigError(
            f"the lake belongs to the pipeline {found[-1]!r}, not {settings.pipeline!r}",
            where={"lake": lake.uri},
            expected="one lake for one pipeline",
            remedy="choose another lake.path, or keep the pipeline's name",
        )
