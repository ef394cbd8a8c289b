"""Verification: files, ledger, statistics and posteriors are whole, and they add up.

Quick checks read the lake; ``full`` reads the raw files again (``verify_raw``). The ledger is
checked as it stands now, the posteriors as the current release shows them: its own window and
metrics count, not those of settings that no run has used yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.config import Settings
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.data.quantities import RESERVED
from hbpipe.errors import LakeError
from hbpipe.run.fingerprints import makings
from hbpipe.run.ledger import DayEntry, FileEntry, read_days, read_files
from hbpipe.run.releases import current_release, read_of
from hbpipe.run.stock import event_format
from hbpipe.run.verification.findings import Finding, finding
from hbpipe.run.verification.months import check_months
from hbpipe.run.verification.raw import recount_days, spread


def verify(
    settings: Settings,
    lake: Lake,
    *,
    full: bool = False,
    days: tuple[date, date] | None = None,
    sample: int | None = None,
) -> list[Finding]:
    """Check the files of the current release, and conservation from raw files to posteriors.

    Parameters
    ----------
    full
        Recount the raw files.
    days
        First and last business day to check; by default all that are done. When none of them is
        done the finding ``days`` fails, as nothing was checked.
    sample
        Recount this many days, evenly spread, instead of all.

    Raises
    ------
    LakeError
        When there is no release.
    """
    release = current_release(lake, settings.environment)
    if release is None:
        raise LakeError(
            f"no release in environment {settings.environment!r}",
            where={"lake": lake.uri},
            remedy="publish one with `hbpipe run`",
        )
    intact = _hashes(lake, dict(release["versions"]))
    if not intact.fine:
        return [intact]  # whatever else there is to say would rest on damaged files
    files, ledger = read_files(lake), read_days(lake)
    waiting = _waiting(files.values())
    done = {
        day: entry
        for day, entry in ledger.items()
        if entry.state in ("complete", "gone", "empty")
        and day not in waiting
        and (days is None or days[0] <= to_date(day) <= days[1])
    }
    findings = [
        intact,
        _rows_of_files(files.values()),
        _days_against_files(done, files.values(), len(waiting & ledger.keys()), days),
        *_statistics_against_days(lake, done),
    ]
    findings += check_months(settings, lake, ledger, days, refold=full or days is not None)
    if days is None:
        findings += _posteriors_against_days(lake, release)
    if full:
        findings += _recount(settings, lake, done, files.values(), sample)
    return findings


def _hashes(lake: Lake, versions: dict[str, int]) -> Finding:
    """Read every byte of the release's files: none may be missing, cut off or changed."""
    snapshots = [lake.snapshot(name, version) for name, version in sorted(versions.items())]
    faults = [str(fault) for snapshot in snapshots for fault in snapshot.verify()]
    count = sum(len(snapshot.files) for snapshot in snapshots)
    return finding("hashes", faults, f"{count} file(s) of the release are as they were written")


def _waiting(files: Iterable[FileEntry]) -> set[int]:
    """Return the days for which input is known that no run has processed yet."""
    return {
        day
        for entry in files
        if entry.state != "duplicate"
        for day, found in entry.days.items()
        if found.account is None
    }


def _rows_of_files(files: Iterable[FileEntry]) -> Finding:
    faults, rows = [], 0
    for entry in files:
        totals = entry.totals()
        rows += entry.rows
        if sum(totals.values()) != entry.rows:
            faults.append(f"{entry.path}: {entry.rows} rows, but {totals}")
    return finding(
        "files", faults, f"{rows:,} rows = accepted + rejected + repeated + pending in every file"
    )


def _days_against_files(
    days: dict[int, DayEntry],
    files: Iterable[FileEntry],
    waiting: int,
    asked: tuple[date, date] | None,
) -> Finding:
    late = f"; {waiting} day(s) wait for input that no run has processed" if waiting else ""
    if asked and not days:
        first, last = asked
        return Finding(
            "days", False, f"nothing was checked: no day from {first} to {last} is done{late}"
        )
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
    return finding("days", faults, f"{len(days)} day(s) equal the sum of their files{late}")


def _statistics_against_days(lake: Lake, days: dict[int, DayEntry]) -> Iterator[Finding]:
    levels = _levels(lake.snapshot("statistics").schema)
    table = lake.read("statistics", columns=["day", "metric", *levels, "n_events"])
    sums = table.group_by(["day", "metric"], use_threads=False).aggregate([("n_events", "sum")])
    found = {(row["day"], row["metric"]): row["n_events_sum"] for row in sums.to_pylist()}
    faults = [
        f"{to_date(day)} {name}: {found.get((to_date(day), name), 0)} events, "
        f"{entry.account.accepted} accepted"
        for day, entry in sorted(days.items())
        for name in sorted(entry.account.metrics)  # those of the day's own settings
        if found.get((to_date(day), name), 0) != entry.account.accepted
    ]
    yield finding("statistics", faults, f"{table.num_rows:,} rows hold the accepted events")
    keys = table.group_by(["day", "metric", *levels], use_threads=False)
    distinct = keys.aggregate([]).num_rows
    yield Finding(
        "statistics_keys",
        distinct == table.num_rows,
        f"{distinct:,} different keys in {table.num_rows:,} rows",
    )


def _levels(statistics: pa.Schema) -> list[str]:
    """Return the levels of a lake: what its statistics have beside the columns of the house."""
    return [name for name in statistics.names if name not in RESERVED]


def _posteriors_against_days(lake: Lake, release: dict[str, Any]) -> Iterator[Finding]:
    """Compare the release's posteriors with its own days, whatever has happened to them since."""
    table, fits = read_of(lake, release, "posteriors"), read_of(lake, release, "fits")
    versions = dict(release["versions"])
    levels = _levels(lake.snapshot("statistics", versions["statistics"]).schema)
    window = _window_of(release, read_days(lake, versions["days"]))
    for metric in sorted({*table["metric"].to_pylist(), *fits["metric"].to_pylist()}):
        rows = table.filter(pc.equal(table["metric"], metric))
        # Nested groups have rows of their own, with the events of their units.
        events = _events_by_term(rows.filter(pc.equal(rows["level"], levels[-1])))
        measured = [entry.account for entry in window if metric in entry.account.metrics]
        accepted = sum(account.accepted for account in measured)
        yield Finding(
            f"posteriors[{metric}]",
            all(count == accepted for count in events.values()),
            f"{rows.num_rows:,} posteriors rest on {_told(events)} events, the window holds "
            f"{accepted:,}",
        )
        keys = rows.group_by([*levels, "term"], use_threads=False)
        yield Finding(
            f"posteriors_keys[{metric}]",
            keys.aggregate([]).num_rows == rows.num_rows,
            f"{rows.num_rows:,} rows, every unit, or group, and term once",
        )


def _events_by_term(posteriors: pa.Table) -> dict[str, int]:
    """Add up the events of all units, for each term: every one rests on all of them."""
    sums = posteriors.group_by("term", use_threads=False).aggregate([("n_events", "sum")])
    return {row["term"]: row["n_events_sum"] for row in sums.to_pylist()} or {"": 0}


def _told(events: dict[str, int]) -> str:
    """Write a number of events, or those of each term where they differ."""
    if len(set(events.values())) == 1:
        return f"{next(iter(events.values())):,}"
    return ", ".join(f"{count:,} ({term})" for term, count in events.items())


def _window_of(release: dict[str, Any], ledger: dict[int, DayEntry]) -> list[DayEntry]:
    """Return the days that a release rests on: those of its window that were not held then."""
    last = to_number(release["as_of"])
    window = [entry for day, entry in ledger.items() if last - release["days"] < day <= last]
    return [entry for entry in window if entry.state != "held"]


def _recount(
    settings: Settings,
    lake: Lake,
    days: dict[int, DayEntry],
    files: Iterable[FileEntry],
    sample: int | None,
) -> Iterator[Finding]:
    """Recount the days whose raw files are there and whose statistics these settings made."""
    current = makings(event_format(settings), settings.parsed_metrics)
    able = [
        day
        for day, entry in days.items()
        if entry.state != "gone"
        and all(
            name in entry.makings and entry.makings[name].settings == made.settings
            for name, made in current.items()
        )
    ]
    chosen = spread(able, sample)
    if not chosen:
        yield Finding(
            "recount_rows",
            False,
            f"nothing was recounted: of {len(days)} done day(s), {len(able)} have their raw files "
            "and come from these settings; verify with the settings of the last run, or run first",
        )
        return
    yield from recount_days(settings, lake, chosen, files)
