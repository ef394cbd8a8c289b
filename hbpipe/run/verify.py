"""Verification: do ledger, statistics and posteriors of the current release add up?

Quick checks read the lake. ``full`` reads the raw files again, row by row, with code that shares
nothing with the kernel (``data.recount``), and compares every statistic of every unit and day.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow.compute as pc
import yaml

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.events import full_path
from hbpipe.data.lake import Lake
from hbpipe.data.recount import Recount, RecountMetric, RecountSpec, recount
from hbpipe.errors import LakeError
from hbpipe.run.ledger import DayEntry, FileEntry, read_days, read_files
from hbpipe.run.releases import current_release, read

#: Largest relative difference of a float sum: two orders of summation, nothing more.
_FLOAT_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether it held, and what was compared."""

    name: str
    fine: bool
    message: str


def verify(
    settings: Settings,
    lake: Lake,
    *,
    full: bool = False,
    days: tuple[date, date] | None = None,
    sample: int | None = None,
) -> list[Finding]:
    """Check conservation from raw files to posteriors.

    Parameters
    ----------
    full
        Recount the raw files.
    days
        First and last business day to check; by default all that are done.
    sample
        Recount this many days, evenly spread, instead of all.

    Raises
    ------
    LakeError
        When there is no release, or a table is damaged.
    """
    release = current_release(lake, settings.environment)
    if release is None:
        raise LakeError(
            f"no release in environment {settings.environment!r}",
            where={"lake": lake.uri},
            remedy="publish one with `hbpipe run`",
        )
    files, ledger = read_files(lake), read_days(lake)
    done = {
        day: entry
        for day, entry in ledger.items()
        if entry.state in ("complete", "gone", "empty")
        and (days is None or days[0] <= to_date(day) <= days[1])
    }
    findings = [
        _rows_of_files(files.values()),
        _days_against_files(done, files.values()),
        *_statistics_against_days(settings, lake, release, done),
    ]
    if days is None:
        findings += _posteriors_against_statistics(settings, lake, release, ledger)
    if full:
        findings += _recount(settings, lake, release, done, files.values(), sample)
    return findings


def _finding(name: str, faults: list[str], compared: str) -> Finding:
    if not faults:
        return Finding(name, True, compared)
    more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Finding(name, False, "; ".join(faults[:3]) + more)


def _rows_of_files(files: Iterable[FileEntry]) -> Finding:
    faults, rows = [], 0
    for entry in files:
        totals = entry.totals()
        rows += entry.rows
        if sum(totals.values()) != entry.rows:
            faults.append(f"{entry.path}: {entry.rows} rows, but {totals}")
    return _finding(
        "files", faults, f"{rows:,} rows = accepted + rejected + repeated + pending in every file"
    )


def _days_against_files(days: dict[int, DayEntry], files: Iterable[FileEntry]) -> Finding:
    counted: Counter[tuple[int, str]] = Counter()
    for entry in files:
        for day, found in entry.days.items():
            if found.account is not None:
                for name in ("accepted", "rejected", "repeated"):
                    counted[day, name] += getattr(found.account, name)
    faults = [
        f"{to_date(day)}: {getattr(entry.account, name)} {name}, files say {counted[day, name]}"
        for day, entry in sorted(days.items())
        for name in ("accepted", "rejected", "repeated")
        if getattr(entry.account, name) != counted[day, name]
    ]
    return _finding("days", faults, f"{len(days)} day(s) equal the sum of their files")


def _statistics_against_days(
    settings: Settings, lake: Lake, release: dict[str, Any], days: dict[int, DayEntry]
) -> Iterator[Finding]:
    table = read(
        lake,
        "statistics",
        environment=settings.environment,
        release=release["release"],
        columns=["day", "metric", *settings.events.levels, "n_events"],
    )
    sums = table.group_by(["day", "metric"], use_threads=False).aggregate([("n_events", "sum")])
    found = {(row["day"], row["metric"]): row["n_events_sum"] for row in sums.to_pylist()}
    names = [metric.name for metric in settings.parsed_metrics]
    faults = [
        f"{to_date(day)} {name}: {found.get((to_date(day), name), 0)} events, "
        f"{entry.account.accepted} accepted"
        for day, entry in sorted(days.items())
        for name in names
        if found.get((to_date(day), name), 0) != entry.account.accepted
    ]
    yield _finding("statistics", faults, f"{table.num_rows:,} rows hold the accepted events")
    keys = table.group_by(["day", "metric", *settings.events.levels], use_threads=False)
    distinct = keys.aggregate([]).num_rows
    yield Finding(
        "statistics_keys",
        distinct == table.num_rows,
        f"{distinct:,} different keys in {table.num_rows:,} rows",
    )


def _posteriors_against_statistics(
    settings: Settings, lake: Lake, release: dict[str, Any], ledger: dict[int, DayEntry]
) -> Iterator[Finding]:
    table = read(lake, "posteriors", environment=settings.environment, release=release["release"])
    last = release["as_of"]
    first = min(to_date(day) for day in ledger)
    if settings.inference.window is not None:
        first = date.fromordinal(last.toordinal() - settings.inference.window + 1)
    accepted = sum(
        entry.account.accepted
        for day, entry in ledger.items()
        if first <= to_date(day) <= last and entry.state != "held"
    )
    for metric in settings.parsed_metrics:
        rows = table.filter(pc.equal(table["metric"], metric.name))
        events = pc.sum(rows["n_events"]).as_py() or 0
        yield Finding(
            f"posteriors_{metric.name}",
            events == accepted,
            f"{rows.num_rows:,} posteriors rest on {events:,} events, the window holds "
            f"{accepted:,}",
        )
        keys = rows.group_by([*settings.events.levels, "term"], use_threads=False)
        yield Finding(
            f"posteriors_{metric.name}_keys",
            keys.aggregate([]).num_rows == rows.num_rows,
            f"{rows.num_rows:,} rows, every unit once",
        )


# --- the recount --------------------------------------------------------------------------------


def _recount(
    settings: Settings,
    lake: Lake,
    release: dict[str, Any],
    days: dict[int, DayEntry],
    files: Iterable[FileEntry],
    sample: int | None,
) -> Iterator[Finding]:
    chosen = _spread(sorted(day for day, entry in days.items() if entry.state != "gone"), sample)
    wanted = {to_date(day) for day in chosen}
    feeding = [
        full_path(settings.events.path, entry.path)
        for entry in files
        if entry.state == "read" and not entry.days.keys().isdisjoint(chosen)
    ]
    counted = recount(feeding, recount_spec(settings))
    table = read(lake, "statistics", environment=settings.environment, release=release["release"])
    rows = [row for row in table.to_pylist() if row["day"] in wanted]
    accepted = {
        (row["day"], *(row[name] for name in settings.events.levels)): row["n_events"]
        for row in rows
    }
    expected = {key: n for key, n in counted.accepted.items() if key[0] in wanted}
    faults = [
        f"{_shown(key)}: {accepted.get(key, 0)} events, {expected.get(key, 0)} in the raw files"
        for key in sorted(expected.keys() | accepted.keys(), key=str)
        if accepted.get(key, 0) != expected.get(key, 0)
    ]
    yield _finding(
        "recount_events", faults, f"{sum(expected.values()):,} events of {len(wanted)} day(s)"
    )
    for metric in settings.parsed_metrics:
        mine = [row for row in rows if row["metric"] == metric.name]
        yield _compare_metric(metric, settings.events.levels, mine, counted)


def _spread(days: list[int], sample: int | None) -> list[int]:
    if sample is None or sample >= len(days):
        return days
    return [days[k * len(days) // max(sample, 1)] for k in range(sample)]


def _compare_metric(
    metric: Any, levels: tuple[str, ...], rows: list[dict[str, Any]], counted: Recount
) -> Finding:
    faults, compared = [], 0
    expected = counted.statistics[metric.name]
    for row in rows:
        key = (row["day"], *(row[name] for name in levels))
        for name, value in expected.get(key, {}).items():
            if name == "exposure" and metric.calendar is not None:
                continue  # counted in days when the window is folded
            compared += 1
            if not _equal(row[name], value):
                faults.append(f"{_shown(key)}: {name} {row[name]}, {value} in the raw files")
    return _finding(f"recount_{metric.name}", faults, f"{compared:,} statistics are equal")


def _equal(found: float | int | None, expected: float | int) -> bool:
    if found is None or isinstance(expected, int):
        return found == expected
    return math.isclose(found, expected, rel_tol=_FLOAT_TOLERANCE, abs_tol=_FLOAT_TOLERANCE)


def _shown(key: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in key)


def recount_spec(settings: Settings) -> RecountSpec:
    """Describe the settings to the recount, in the words of the YAML."""
    events = settings.events
    return RecountSpec(
        time=str(events.time or events.day),
        time_kind="timestamp" if events.time else "day",
        timezone=events.timezone,
        day_start_minutes=events.day_start,
        levels=events.levels,
        event_id=events.event_id,
        earliest=events.earliest,
        latest=events.latest,
        metrics=tuple(_recount_metric(name, raw) for name, raw in settings.metrics.items()),
    )


def _recount_metric(name: str, raw: dict[str, Any]) -> RecountMetric:
    from hbpipe.model.families import get_family

    roles = {role.name: raw[role.name] for role in get_family(raw["family"]).roles}
    plain = yaml.safe_load(yaml.safe_dump(roles))
    return RecountMetric(name, raw["family"], plain, raw.get("where", ()), raw.get("transform"))
