"""Verification: files, ledger, statistics and posteriors are whole, and they add up.

Quick checks read the lake; ``full`` reads the raw files again (``verify_raw``). The ledger is
checked as it stands now, the posteriors as the current release shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import pyarrow.compute as pc

from hbpipe.config import Settings
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.run.findings import Finding, finding
from hbpipe.run.fingerprints import statistics_digest
from hbpipe.run.ledger import DayEntry, FileEntry, read_days, read_files
from hbpipe.run.plan import event_format
from hbpipe.run.releases import current_release, read
from hbpipe.run.verify_raw import recount_days, spread


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
        First and last business day to check; by default all that are done.
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
        _days_against_files(done, files.values(), len(waiting & ledger.keys())),
        *_statistics_against_days(settings, lake, done),
    ]
    if days is None:
        findings += _posteriors_against_days(settings, lake, release)
    if full:
        current = statistics_digest(event_format(settings), settings.parsed_metrics)
        raw = [d for d, e in done.items() if e.state != "gone" and e.settings == current]
        chosen = spread(raw, sample)
        findings += recount_days(settings, lake.read("statistics"), chosen, files.values())
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
    days: dict[int, DayEntry], files: Iterable[FileEntry], waiting: int
) -> Finding:
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
    late = f"; {waiting} day(s) wait for input that no run has processed" if waiting else ""
    return finding("days", faults, f"{len(days)} day(s) equal the sum of their files{late}")


def _statistics_against_days(
    settings: Settings, lake: Lake, days: dict[int, DayEntry]
) -> Iterator[Finding]:
    columns = ["day", "metric", *settings.events.levels, "n_events"]
    table = lake.read("statistics", columns=columns)
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
    keys = table.group_by(["day", "metric", *settings.events.levels], use_threads=False)
    distinct = keys.aggregate([]).num_rows
    yield Finding(
        "statistics_keys",
        distinct == table.num_rows,
        f"{distinct:,} different keys in {table.num_rows:,} rows",
    )


def _posteriors_against_days(
    settings: Settings, lake: Lake, release: dict[str, Any]
) -> Iterator[Finding]:
    """Compare the release's posteriors with its own days, whatever has happened to them since."""
    table = read(lake, "posteriors", environment=settings.environment, release=release["release"])
    ledger = read_days(lake, dict(release["versions"])["days"])
    last, window = to_number(release["as_of"]), settings.inference.window
    accepted = sum(
        entry.account.accepted
        for day, entry in ledger.items()
        if day <= last and (window is None or day > last - window)
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
