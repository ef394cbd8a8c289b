"""The plan: which days are missing or stale and why, and what would be published.

The clock is read once, here; from then on the as-of day is a value. Planning surveys new and
changed files (footers, and time columns where footers do not tell) and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from hbpipe.config import Settings, digest, resolve_secrets, window_days
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.data.events import EventFormat, FileState, find_files, full_path
from hbpipe.data.lake import Lake
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection
from hbpipe.data.survey import Survey, survey_file
from hbpipe.errors import EventsError, LateError
from hbpipe.model.families import get_family
from hbpipe.run.engine import Engine
from hbpipe.run.ledger import (
    DayEntry,
    FileEntry,
    from_survey,
    input_fingerprint,
    read_days,
    read_files,
)
from hbpipe.run.releases import current_release
from hbpipe.run.universe import stores_digest

#: Bumped by hand when hyperparameters or posteriors would come out otherwise.
MODEL_VERSION = 1


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

    as_of: int
    window: tuple[int, ...]
    days: tuple[DayPlan, ...]
    #: Every file known, as the ledger will have it.
    files: dict[str, FileEntry]
    #: Paths whose ledger row changes even if no day does.
    changed_files: tuple[str, ...]
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


def format_digest(form: EventFormat) -> str:
    """Hash what decides how rows fall into days and units."""
    return digest([form.time, repr(form.calendar), form.levels, form.event_id])


def statistics_digest(form: EventFormat, metrics: Iterable[Metric]) -> str:
    """Hash every setting that decides the daily statistics."""
    measured = {metric.name: metric.measured_by() for metric in metrics}
    return digest([format_digest(form), measured])


def kernel_digest(metrics: Iterable[Metric]) -> str:
    """Hash the versions of the code that makes the daily statistics."""
    return digest({m.family: get_family(m.family).kernel_version for m in metrics})


def make_plan(
    settings: Settings,
    lake: Lake,
    engine: Engine,
    *,
    as_of: date | None = None,
    now: datetime | None = None,
    full_scan: bool = False,
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

    Raises
    ------
    EventsError
        When there are no events, or a file cannot be used.
    LateError
        When the as-of day is not over, or has no events yet.
    """
    now = now or datetime.now(UTC)
    form, metrics = event_format(settings), settings.parsed_metrics
    known = read_files(lake)
    files, fresh = _survey(form, metrics, known, engine)
    files = _mark_duplicates(files, known)
    _check_level_types(form, files.values())
    ledger = read_days(lake)
    day = _choose_as_of(form.calendar, files, as_of, now)
    first = min(min(found for e in files.values() for found in e.days), day)
    dates = window_days(to_date(day), settings.inference.window, to_date(first))
    window = tuple(to_number(one) for one in dates)
    horizon = None if full_scan else day - settings.events.horizon
    due, notes = _due_days(form, metrics, files, ledger, window, horizon)
    kernel = digest([kernel_digest(metrics), MODEL_VERSION])
    release_due, reason = _release(settings, lake, day, window, due, ledger, kernel)
    gone = sorted(path for path, entry in files.items() if entry.state == "gone")
    if gone:
        notes.append(f"{len(gone)} file(s) vanished and keep their statistics, e.g. {gone[0]}")
    return Plan(
        as_of=day,
        window=window,
        days=tuple(due),
        files=files,
        changed_files=tuple(p for p, e in files.items() if known.get(p) != e),
        surveyed=tuple(survey.file.path for survey in fresh),
        undated=tuple(r for survey in fresh for r in survey.undated),
        ledger=ledger,
        level_types=_level_types(files.values()),
        release_reason=reason,
        release_due=release_due,
        notes=tuple(notes),
        settings_digest=settings.digest(),
        kernel_digest=kernel,
    )


def _survey(
    form: EventFormat, metrics: tuple[Metric, ...], known: Mapping[str, FileEntry], engine: Engine
) -> tuple[dict[str, FileEntry], list[Survey]]:
    """Bring the entries of all files up to date, touching only new and changed ones."""
    present = {file.path: file for file in find_files(form)}
    reading = format_digest(form)
    touched = [file for file in present.values() if not _unchanged(known, file, reading)]
    tasks = [
        engine.submit(survey_file, form, file, metrics, label=f"survey of {file.path or form.root}")
        for file in touched
    ]
    surveys = engine.gather(tasks)
    entries = {path: entry for path, entry in known.items() if path in present}
    for survey in surveys:
        before, entry = known.get(survey.file.path), from_survey(survey, reading)
        if before is not None and (before.sha256, before.format) == (entry.sha256, reading):
            entry = replace(before, file=survey.file)  # only touched, not changed
        entries[survey.file.path] = replace(entry, state="read", duplicate_of=None)
    gone = {p: replace(e, state="gone") for p, e in known.items() if p not in present}
    return dict(sorted({**entries, **gone}.items())), surveys


def _unchanged(known: Mapping[str, FileEntry], file: FileState, reading: str) -> bool:
    entry = known.get(file.path)
    return entry is not None and entry.file == file and entry.format == reading


def _mark_duplicates(
    files: Mapping[str, FileEntry], known: Mapping[str, FileEntry]
) -> dict[str, FileEntry]:
    """Let one file of equal content count: the one that counted before, else the first by path.

    A vanished file whose bytes are still there under another name was only renamed: its heir
    takes over what is known of its rows, and no day changes.
    """
    counted = [path for path, entry in known.items() if entry.state == "read"]
    owner: dict[str, str] = {}
    for path in [*counted, *files]:
        if files[path].state != "gone":
            owner.setdefault(files[path].sha256, path)
    result = dict(files)
    for path, entry in files.items():
        first = owner.get(entry.sha256, path)
        if first == path:
            continue
        if entry.state == "gone":
            if entry.days:
                result[first] = replace(entry, file=files[first].file, state="read")
            result[path] = entry.emptied(first)
        else:
            result[path] = replace(entry, state="duplicate", duplicate_of=first)
    return result


def _check_level_types(form: EventFormat, entries: Iterable[FileEntry]) -> None:
    first: FileEntry | None = None
    for entry in entries:
        first = first or entry
        if entry.level_types != first.level_types:
            raise EventsError(
                f"levels {list(form.levels)} are {list(entry.level_types)}",
                where={"file": full_path(form.root, entry.path)},
                expected=f"{list(first.level_types)} as in {full_path(form.root, first.path)}",
                remedy="write ids with one type everywhere: '007' and 7 are different stores",
            )


def _level_types(entries: Iterable[FileEntry]) -> tuple[str, ...]:
    return next(iter(entries)).level_types


def _choose_as_of(
    calendar: Calendar, files: Mapping[str, FileEntry], asked: date | None, now: datetime
) -> int:
    days = sorted({day for entry in files.values() for day in entry.days})
    over = [day for day in days if calendar.end_of(day) <= now]
    if asked is None:
        if not over:
            found = f"its first day is {to_date(days[0])}" if days else "no row has a valid time"
            raise LateError(f"no day of events is over: {found}", remedy="wait, or check the times")
        return over[-1]
    day = to_number(asked)
    if calendar.end_of(day) > now:
        end = calendar.end_of(day).isoformat()
        raise LateError(f"the day {asked} is not over", expected=f"a run after {end}")
    if not days or days[-1] < day:
        last = to_date(days[-1]) if days else "none"
        raise LateError(
            f"no events of {asked} or later have arrived",
            expected=f"events up to {asked}; the last day found is {last}",
            remedy="wait for the delivery, or choose an earlier --as-of",
        )
    return day


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
            notes.append(f"{to_date(day)} is stale ({reason}) but input has vanished: left alone")
        elif horizon is not None and day <= horizon and reason.startswith("input changed"):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but beyond events.horizon: use --full-scan"
            )
        else:
            rows = sum(entry.days[day].rows for entry in feeds)
            paths = tuple(entry.path for entry in feeds)
            due.append(DayPlan(day, reason, paths, rows, replace(fresh, reason=reason)))
    return due, notes


def _reason(before: DayEntry | None, now: DayEntry, feeds: list[FileEntry]) -> str | None:
    """Say why a day must be processed, or None when it is done."""
    if before is None:
        return "missing"
    if before.state == "held":
        return f"held: {before.reason}"
    if before.input != now.input:
        names = [entry.path for entry in feeds if entry.days[now.day].account is None]
        return f"input changed: {', '.join(names[:3]) or 'rows or files left the day'}"
    if before.kernel != now.kernel:
        return "code changed"
    if before.settings != now.settings:
        return "settings changed"
    return None


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


def release_input(as_of: int, ledger: Mapping[int, DayEntry], settings: Settings) -> str:
    """Hash all statistics that a release may read: every done day up to its as-of day."""
    first = None if settings.inference.window is None else as_of - settings.inference.window + 1
    history = needs_history(settings)
    days = [
        (day, *entry.fingerprint)
        for day, entry in sorted(ledger.items())
        if day <= as_of and (history or first is None or day >= first)
    ]
    return digest([days, stores_digest(settings.stores)])


def needs_history(settings: Settings) -> bool:
    """Tell whether days before the window matter: for first days, or for silent stores."""
    window, silent = settings.inference.window, settings.stores.keep_silent
    since_first_seen = any(metric.calendar == "days" for metric in settings.parsed_metrics)
    return window is not None and (since_first_seen or (silent or 0) > window)
