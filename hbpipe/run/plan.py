"""The plan: which days are missing or stale and why, and what would be published.

The clock is read once, here; from then on the as-of day is a value. Planning writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from hbpipe.config import Settings, resolve_secrets
from hbpipe.data.clock import Calendar, to_date
from hbpipe.data.events import EventFormat
from hbpipe.data.lake import Lake
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection
from hbpipe.errors import ConfigError
from hbpipe.run.as_of import choose_as_of, window_of
from hbpipe.run.engine import Engine
from hbpipe.run.fingerprints import (
    kernel_digest,
    release_input,
    release_kernel_digest,
    statistics_digest,
)
from hbpipe.run.inventory import take_inventory
from hbpipe.run.ledger import DayEntry, FileEntry, input_fingerprint, read_days, read_files
from hbpipe.run.releases import current_release


@dataclass(frozen=True)
class DayPlan:
    """One day to process: why, and from what. ``entry`` is its ledger row before the work."""

    day: int
    reason: str
    files: tuple[str, ...]
    rows: int
    entry: DayEntry

    def to_dict(self) -> dict[str, Any]:
        """Describe the day for ``plan --json``."""
        return {
            "day": to_date(self.day).isoformat(),
            "reason": self.reason,
            "files": list(self.files),
            "rows": self.rows,
        }


@dataclass(frozen=True)
class Plan:
    """What a run would do, as values."""

    form: EventFormat
    as_of: int
    window: tuple[int, ...]
    days: tuple[DayPlan, ...]
    #: Every file known, as the ledger will have it.
    files: dict[str, FileEntry]
    #: Paths whose ledger row changes even if no day does.
    changed_files: tuple[str, ...]
    #: Paths of the files that were read for this plan.
    surveyed: tuple[str, ...]
    undated: tuple[Rejection, ...]
    ledger: dict[int, DayEntry]
    level_types: tuple[str, ...]
    #: Why a release is due, or why none is.
    release_reason: str
    release_due: bool
    notes: tuple[str, ...]
    settings_digest: str
    kernel_digest: str

    @property
    def work(self) -> bool:
        """Tell whether a run would publish anything."""
        return bool(self.days) or self.release_due

    def to_dict(self) -> dict[str, Any]:
        """Describe the plan for ``plan --json``."""
        return {
            "as_of": to_date(self.as_of).isoformat(),
            "window": [to_date(self.window[0]).isoformat(), to_date(self.window[-1]).isoformat()],
            "days": [day.to_dict() for day in self.days],
            "rows": sum(day.rows for day in self.days),
            "release": {"due": self.release_due, "reason": self.release_reason},
            "notes": list(self.notes),
        }


def event_format(settings: Settings) -> EventFormat:
    """Collect how events are read, for the workers."""
    events = settings.events
    return EventFormat(
        root=events.path,
        time=str(events.time or events.day),
        calendar=Calendar(
            timezone=events.timezone,
            day_start=events.day_start,
            earliest=events.earliest,
            latest=events.latest,
            whole_days=events.day is not None,
        ),
        levels=events.levels,
        event_id=events.event_id,
        options=resolve_secrets(events.storage_options),
    )


def make_plan(
    settings: Settings,
    lake: Lake,
    engine: Engine,
    *,
    as_of: date | None = None,
    now: datetime | None = None,
    full_scan: bool = False,
    accept_missing: bool = False,
) -> Plan:
    """Compare the events with the ledger.

    Parameters
    ----------
    as_of
        The last business day included; by default the latest day of events that is over.
    now
        The moment of planning, aware; by default the present.
    full_scan
        Look for changed input beyond ``events.horizon`` too.
    accept_missing
        Take the rows of vanished files out, where their days are in the window.

    Raises
    ------
    ConfigError
        When the lake belongs to another pipeline.
    EventsError
        When there are no events, or a file cannot be used.
    LateError
        When the as-of day is not over, or has no events yet.
    """
    form, metrics = event_format(settings), settings.parsed_metrics
    _check_lineage(settings, lake)
    known, ledger = read_files(lake), read_days(lake)
    inventory = take_inventory(form, metrics, known, engine)
    form, files = inventory.form, inventory.files
    if accept_missing:
        files = {p: e.emptied(None) if e.state == "gone" else e for p, e in files.items()}
    as_of_day = choose_as_of(form.calendar, files, as_of, now or datetime.now(UTC))
    window = window_of(settings, files, as_of_day)
    horizon = None if full_scan else as_of_day - settings.events.horizon
    due, left = _due_days(form, metrics, files, ledger, window, horizon)
    kernel = release_kernel_digest(metrics)
    release_due, reason = _release(settings, lake, as_of_day, window, due, ledger, kernel)
    if left and not release_due:
        reason = f"nothing can be done for the {len(left)} day(s) that the notes name"
    return Plan(
        form=form,
        as_of=as_of_day,
        window=window,
        days=tuple(due),
        files=files,
        changed_files=tuple(path for path, entry in files.items() if known.get(path) != entry),
        surveyed=inventory.surveyed,
        undated=inventory.undated,
        ledger=ledger,
        level_types=inventory.level_types,
        release_reason=reason,
        release_due=release_due,
        notes=(*left, *_vanished(files), *_unseen_history(metrics, files, ledger, window)),
        settings_digest=settings.digest(),
        kernel_digest=kernel,
    )


def _check_lineage(settings: Settings, lake: Lake) -> None:
    """Refuse a lake of another pipeline: days of both would become one release."""
    current = current_release(lake, settings.environment)
    if current is not None and current["pipeline"] != settings.pipeline:
        raise ConfigError(
            f"the lake belongs to the pipeline {current['pipeline']!r}, not {settings.pipeline!r}",
            where={"lake": lake.uri},
            expected="one lake for one pipeline",
            remedy="choose another lake.path, or keep the pipeline's name",
        )


def _unseen_history(
    metrics: tuple[Metric, ...],
    files: Mapping[str, FileEntry],
    ledger: Mapping[int, DayEntry],
    window: tuple[int, ...],
) -> list[str]:
    """Say where an exposure in days starts too late, because older days were never processed."""
    counting = [metric.name for metric in metrics if metric.calendar == "days"]
    older = {day for entry in files.values() for day in entry.days if day < window[0]}
    unseen = older - ledger.keys()
    if not counting or not unseen:
        return []
    return [
        f"{len(unseen)} day(s) of events before the window were never processed: for "
        f"{', '.join(counting)} a store counts from its first event in the window on"
    ]


def _vanished(files: Mapping[str, FileEntry]) -> list[str]:
    gone = sorted(path for path, entry in files.items() if entry.state == "gone" and entry.days)
    if not gone:
        return []
    return [
        f"{len(gone)} file(s) vanished and keep their statistics, e.g. {gone[0]}; "
        "--accept-missing takes their rows out"
    ]


def _due_days(
    form: EventFormat,
    metrics: tuple[Metric, ...],
    files: Mapping[str, FileEntry],
    ledger: Mapping[int, DayEntry],
    window: tuple[int, ...],
    horizon: int | None,
) -> tuple[list[DayPlan], list[str]]:
    """List the days of the window that are missing or stale."""
    feeding: dict[int, list[FileEntry]] = {day: [] for day in window}
    for entry in files.values():
        if entry.state != "duplicate":
            for day in entry.days.keys() & feeding.keys():
                feeding[day].append(entry)
    kernel, settings = kernel_digest(metrics), statistics_digest(form, metrics)
    due: list[DayPlan] = []
    notes: list[str] = []
    for day in window:
        feeds = feeding[day]
        fresh = DayEntry(day, "complete", "", input_fingerprint(day, feeds), kernel, settings)
        reason = _reason(ledger.get(day), fresh, feeds)
        if reason is None:
            continue
        if any(entry.state == "gone" for entry in feeds):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but input has vanished: left alone; "
                "--accept-missing takes its rows out"
            )
        elif _beyond(horizon, day, reason, ledger.get(day)):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but beyond events.horizon: use --full-scan"
            )
        else:
            rows = sum(entry.days[day].rows for entry in feeds)
            paths = tuple(entry.path for entry in feeds)
            # The ledger keeps the kind alone: which files were new, a run cut off can no more tell.
            before = replace(fresh, reason=reason.partition(":")[0])
            due.append(DayPlan(day, reason, paths, rows, before))
    return due, notes


def _beyond(horizon: int | None, day: int, reason: str, before: DayEntry | None) -> bool:
    """Tell whether a changed day is too old to be looked at; one that a run began is not."""
    begun = before is not None and before.state == "begun"
    changed = reason.startswith("input changed")
    return horizon is not None and day <= horizon and changed and not begun


def _reason(before: DayEntry | None, now: DayEntry, feeds: list[FileEntry]) -> str | None:
    """Say why a day must be processed, or None when it is done."""
    if before is None:
        return "missing"
    if before.state == "held":
        return f"held: {before.reason}"
    if before.input != now.input:
        new = [entry.path for entry in feeds if entry.days[now.day].account is None]
        if not new:
            return "input changed: rows left the day, or its last run was cut off"
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        return f"input changed: {', '.join(new[:3])}{more}"
    if before.settings != now.settings:
        return "settings changed"  # asked first: other metrics may bring other code
    if before.kernel != now.kernel:
        return "code changed"
    return "input changed: its last run was cut off" if before.state == "begun" else None


def _release(
    settings: Settings,
    lake: Lake,
    as_of: int,
    window: tuple[int, ...],
    due: list[DayPlan],
    ledger: Mapping[int, DayEntry],
    kernel: str,
) -> tuple[bool, str]:
    current = current_release(lake, settings.environment, as_of=to_date(as_of))
    if current is None:
        return True, f"no release of {to_date(as_of)} in {settings.environment} yet"
    if due:
        return True, f"{len(due)} day(s) of its window change"
    if current["input"] != release_input(as_of, ledger, settings):
        return True, "statistics changed since its release"
    if current["kernel"] != kernel:
        return True, "code changed since its release"
    if current["settings"] != settings.digest():
        return True, "inference settings changed since its release"
    return False, (
        f"release {current['release']} of {to_date(as_of)} is up to date: all "
        f"{len(window)} days of its window are done, and neither input, code nor settings changed"
    )
