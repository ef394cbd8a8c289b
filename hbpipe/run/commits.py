"""What a night writes to the lake, in the order in which it becomes true.

Statistics first, then the ledger rows that say what they were made from: a day whose ledger row
does not match its input is done again, so a crash between the two costs time and nothing else.
The release row comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hbpipe import __version__
from hbpipe.data.aggregate import Account
from hbpipe.data.audit_tables import AUDITS
from hbpipe.data.clock import to_date
from hbpipe.data.definition import prepare_table
from hbpipe.data.partitioned import upsert_partition
from hbpipe.data.parts import Receipt
from hbpipe.errors import LeaseError
from hbpipe.run import audits
from hbpipe.run.due import DayPlan
from hbpipe.run.fingerprints import release_input
from hbpipe.run.ledger import DayEntry, FileEntry, read_days, write_days, write_files
from hbpipe.run.night import Night
from hbpipe.run.quarantine import examples
from hbpipe.run.releases import BY_AS_OF, RELEASED, publish_release
from hbpipe.run.tables import tables
from hbpipe.run.totals import TotalsTables


def prepare_lake(night: Night) -> None:
    """Create missing tables and add missing columns, before anything is computed.

    All at once: each waits for its disk or its store.
    """
    found = tables(night)

    def prepare(name: str) -> int:
        table = found[name]
        return prepare_table(night.lake.storage, name, table.schema, table.partition_by)

    with ThreadPoolExecutor(len(found)) as threads:
        for name, version in zip(found, threads.map(prepare, found), strict=True):
            _made(night, name, version)


def _made(night: Night, name: str, version: int | None) -> None:
    """Remember the version of a table that this run found, or made: a release names no other.

    What somebody else commits meanwhile is not part of it.
    """
    if version is not None:
        night.versions[name] = version


# --- days ---------------------------------------------------------------------------------------


def commit_days(night: Night, held: set[int]) -> None:
    """Commit the statistics of the days that passed, and what the ledger knows now.

    A day that is done again is first marked as begun: should the run be cut off before the ledger
    tells what the new statistics were made from, the next run knows, however old the day is.
    """
    redone = [night.stock.ledger[d.day] for d in night.plan.days if d.day in night.stock.ledger]
    begun = [replace(entry, state="begun") for entry in redone if entry.day not in held]
    _made(night, "days", write_days(night.lake, begun, night.run_id))
    version = _commit_statistics(night, held)
    night.days = dict(night.stock.ledger)
    files = dict(night.stock.files)
    for day in night.plan.days:
        night.days[day.day] = _day_entry(night, day, day.day in held, version)
        result = night.results.get(day.day)
        if result is None or day.day in held:
            continue
        for path, account in result.accounts.items():
            refused = [r for r in result.rejections if r.file == path]
            files[path] = files[path].with_day(day.day, account, refused, day.keeps)
    commit_quarantine(night, night.plan.days)
    _commit_ledger(night, files)
    night.files = files


def commit_files(night: Night) -> None:
    """Record files that are new, changed or gone, when no day needs work."""
    night.days = dict(night.stock.ledger)
    commit_quarantine(night, ())
    _commit_ledger(night, night.stock.files)
    night.files = dict(night.stock.files)


def _commit_ledger(night: Night, files: Mapping[str, FileEntry]) -> None:
    """Write the rows of files and days that are not as they were, files first."""
    night.days |= _show_gone(night.days, files.values())
    changed = {path for path in files if files[path] != night.stock.files[path]}
    changed |= set(night.stock.changed_files)
    entries = [files[path] for path in sorted(changed)]
    _made(night, "files", write_files(night.lake, entries, night.run_id))
    altered = [entry for day, entry in night.days.items() if night.stock.ledger.get(day) != entry]
    _made(night, "days", write_days(night.lake, altered, night.run_id))


def _commit_statistics(night: Night, held: set[int]) -> int:
    done = [day for day in night.plan.days if day.day not in held]
    if not done:
        return night.versions["statistics"]
    receipts = [r for d in done if d.day in night.results for r in night.results[d.day].receipts]
    dates = [to_date(day.day).isoformat() for day in done]
    version = night.lake.publish(
        "statistics",
        receipts,
        app_id=f"statistics/{min(dates)}..{max(dates)}",
        replaces=[{"day": date} for date in dates],
        guard=lambda _: _as_planned(night, done),
        metadata={"run_id": night.run_id, "days": len(done)},
    )
    _made(night, "statistics", version)
    return version


def _as_planned(night: Night, days: Iterable[DayPlan]) -> bool:
    """Make sure that the ledger says of days what it said when planned, or what this run says.

    Runs are kept apart by their fences; this holds off whoever writes without one.

    Raises
    ------
    LeaseError
        A day was done by somebody else meanwhile, maybe from other input.
    """
    ledger = read_days(night.lake)
    for day in days:
        before, now = night.stock.ledger.get(day.day), ledger.get(day.day)
        expected = (before and before.fingerprint, day.entry.fingerprint)
        if (now and now.fingerprint) not in expected:
            raise LeaseError(
                f"{to_date(day.day)} was done by somebody else since it was planned",
                where={"lake": night.lake.uri, "run_id": night.run_id},
                expected="one run on a lake at a time",
                remedy="run again: what is still due is planned anew",
            )
    return True


def _day_entry(night: Night, day: DayPlan, held: bool, version: int | None) -> DayEntry:
    entry = day.entry
    result = night.results.get(entry.day)
    if result is None:
        return replace(entry, state="empty", statistics_version=version)
    account = audits.total_account(result)
    failed = [
        check.name
        for check in audits.failures(night.checks)
        if check.subject == to_date(entry.day).isoformat()
    ]
    return replace(
        entry,
        state="held" if held else "complete",
        reason=", ".join(failed) if held else entry.reason,
        files=len(result.accounts),
        account=_with_kept(account, night.stock.ledger.get(day.entry.day), day.keeps),
        units=result.units,
        shared_ids=result.shared_ids,
        shards=result.shards,
        statistics_version=None if held else version,
    )


def _with_kept(account: Account, before: DayEntry | None, keeps: Iterable[str]) -> Account:
    """Add how the rows split for the metrics that were not measured again."""
    if before is None:
        return account
    old = before.account
    metrics = {name: old.metrics[name] for name in keeps if name in old.metrics}
    arms = {name: old.arms[name] for name in keeps if name in old.arms}
    return replace(account, metrics=metrics | account.metrics, arms=arms | account.arms)


def _show_gone(days: Mapping[int, DayEntry], files: Iterable[FileEntry]) -> dict[int, DayEntry]:
    """Return the done days whose input has vanished, or is back; their statistics stay."""
    vanished = {day for entry in files if entry.state == "gone" for day in entry.days}
    states = {"complete": "gone", "gone": "complete"}
    return {
        day: replace(entry, state=states[entry.state])
        for day, entry in days.items()
        if (entry.state == "complete" and day in vanished)
        or (entry.state == "gone" and day not in vanished)
    }


def commit_quarantine(night: Night, days: Iterable[DayPlan]) -> None:
    """Replace the examples of what was read again by what was met now; keep all others.

    ``days`` are those that were processed; rows without a day are replaced file by file.
    """
    table = examples(night, night.lake.read("quarantine"), days)
    if table is None:
        return
    version = night.lake.replace("quarantine", table, run_id=night.run_id)
    _made(night, "quarantine", version)


def commit_months(night: Night, receipts: Iterable[Receipt], labels: Iterable[str]) -> None:
    """Replace the roll-ups of some months, each named by its first day."""
    months = sorted(labels)
    version = night.lake.publish(
        "months",
        receipts,
        app_id=f"months/{months[0]}..{months[-1]}",
        replaces=[{"month": month} for month in months],
        metadata={"run_id": night.run_id, "months": len(months)},
    )
    _made(night, "months", version)


# --- results ------------------------------------------------------------------------------------


def commit_checks(night: Night) -> None:
    """Record every check of this run so far, in the partition of its as-of day."""
    if night.checks:
        table = audits.to_table(night.checks, night.plan.as_of, night.run_id)
        version = upsert_partition(
            night.lake,
            "audits",
            table.drop_columns(list(AUDITS.partition_by)),
            AUDITS.key,
            partition={"as_of": to_date(night.plan.as_of).isoformat()},
            run_id=night.run_id,
        )
        _made(night, "audits", version)


def commit_results(night: Night) -> None:
    """Commit hyperparameters, fits, diagnostics, posteriors and new stores of the as-of day."""
    label = to_date(night.plan.as_of).isoformat()
    for name in BY_AS_OF:
        version = night.lake.publish(
            name,
            night.staged[name],
            app_id=f"{name}/{label}",
            replaces=[{"as_of": label}],
            metadata={"run_id": night.run_id},
        )
        _made(night, name, version)


def commit_release(night: Night) -> dict[str, Any]:
    """Append the row of ``releases`` that names the version of every table."""
    plan, as_of = night.plan, to_date(night.plan.as_of)
    window = night.rests_on
    totals = {
        name: sum(getattr(day.account, name) for day in window)
        for name in ("rows", "accepted", "rejected", "repeated")
    }
    row = {
        "environment": night.settings.environment,
        "as_of": as_of,
        "run_id": night.run_id,
        "released_at": datetime.now(UTC),
        "pipeline": night.settings.pipeline,
        "hbpipe": __version__,
        "versions": [(name, night.versions[name]) for name in RELEASED],
        "input": release_input(plan.as_of, night.days, night.settings),
        "settings": plan.settings_digest,
        "kernel": plan.kernel_digest,
        "stores": TotalsTables(night.settings).digest(plan.as_of),
        "days": len(plan.window),
        **totals,
        "units": sum(t.units for t in night.tallies if t.metric == night.metrics[0].name),
        "pools": len(next(iter(night.fits.values())).pools),
    }
    return publish_release(night.lake, row)
