"""One business day explained: its files, its runs, its releases, and why it is due or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from hbpipe.data.clock import to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.errors import LateError
from hbpipe.run.as_of import choose_as_of, window_of
from hbpipe.run.due import due_days
from hbpipe.run.history import Release, read_history
from hbpipe.run.ledger import FileEntry, input_fingerprint
from hbpipe.run.stale import affected, stale_releases
from hbpipe.run.stock import Stock

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Explanation:
    """What is known of one business day.

    Attributes
    ----------
    day
        The day.
    state
        As in ``days``: complete, empty, held, gone or begun; ``missing`` where no run did it.
    due
        Whether the next night or a backfill has to do it.
    reason
        Why it is due, or why not.
    fingerprints
        Of input, kernel and settings: what the day was made from, and what it would be made from
        now; the first is None of a missing day.
    files
        Files that feed it: path, state, and where their rows of the day went.
    runs
        Runs whose work on it is still named, oldest first, with the releases that show it.
    releases
        Releases of the environment that rest on it, with what makes them stale.
    """

    day: date
    state: str
    due: bool
    reason: str
    fingerprints: Records
    files: Records
    runs: Records
    releases: Records

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON-like object."""
        return dict(vars(self))


def explain_day(stock: Stock, lake: Lake, day: date) -> Explanation:
    """Explain one business day from stock that was taken; writes nothing.

    Raises
    ------
    LateError
        When no day of events is over yet, so that no night could be planned.
    """
    number, environment = to_number(day), stock.settings.environment
    every = read_history(lake).of(environment)
    touched = set(affected(every, stock.settings, [number]))
    resting = [row for row in every if row["as_of"] in touched]
    feeds = [
        entry
        for entry in stock.files.values()
        if entry.state != "duplicate" and number in entry.days
    ]
    before = stock.ledger.get(number)
    due, reason = _why(stock, number, feeds)
    return Explanation(
        day=day,
        state="missing" if before is None else before.state,
        due=due,
        reason=reason,
        fingerprints=_fingerprints(stock, number, feeds),
        files=[_file(entry, number) for entry in feeds],
        runs=_runs(lake, day, resting),
        releases=_releases(stock, lake, resting),
    )


def _why(stock: Stock, day: int, feeds: list[FileEntry]) -> tuple[bool, str]:
    """Say whether a day is due, for whom, and why."""
    settings = stock.settings
    if not feeds and day not in stock.ledger:
        return False, "no file has rows of it"
    try:
        choose_as_of(stock, to_date(day))
    except LateError as error:
        return False, error.found
    as_of = choose_as_of(stock, None)
    found, notes = due_days(stock, [day], None)
    if notes:
        return False, notes[0]
    if not found:
        return False, "done: neither its input, nor code, nor settings changed"
    if day not in window_of(settings, stock.files, as_of):
        return True, f"{found[0].reason}; a night of {to_date(as_of)} does not reach it: backfill"
    night, _ = due_days(stock, [day], as_of - settings.events.horizon)
    far = "" if night else "; beyond events.horizon: a night needs --full-scan"
    return True, f"{found[0].reason}{far}"


def _fingerprints(stock: Stock, day: int, feeds: Iterable[FileEntry]) -> Records:
    """Put what a day was made from beside what it would be made from now."""
    entry, (found, _) = stock.ledger.get(day), due_days(stock, [day], None)
    was = (None, None, None) if entry is None else entry.fingerprint
    # A day that is not due would be made by the same code and settings again.
    _, kernel, settings = found[0].entry.fingerprint if found else was
    now = (input_fingerprint(day, feeds), kernel, settings)
    return [
        {"of": name, "made_from": old, "now": new, "same": old == new}
        for name, old, new in zip(("input", "kernel", "settings"), was, now, strict=True)
    ]


def _file(entry: FileEntry, day: int) -> dict[str, Any]:
    found = entry.days[day]
    account = found.account
    return {
        "path": entry.path,
        "state": entry.state,
        "rows": found.rows,
        "accepted": 0 if account is None else account.accepted,
        "rejected": 0 if account is None else account.rejected,
        "repeated": 0 if account is None else account.repeated,
        "pending": found.rows if account is None else 0,
    }


def _runs(lake: Lake, day: date, resting: Iterable[Release]) -> Records:
    """List the runs behind the day's row, as it is now and as each release shows it."""
    runs: dict[str, dict[str, Any]] = {}
    shown = [(row["release"], dict(row["versions"])["days"]) for row in resting]
    for release, version in [*shown, (None, lake.version("days"))]:
        if version is None:
            continue
        columns = ["run_id", "processed_at", "state"]
        rows = lake.read("days", version=version, columns=columns, filters=[("day", "==", day)])
        for row in rows.to_pylist():
            run = runs.setdefault(row["run_id"], {**row, "releases": []})
            run["releases"] += [] if release is None else [release]
    return sorted(runs.values(), key=lambda run: (run["processed_at"], run["run_id"]))


def _releases(stock: Stock, lake: Lake, resting: Iterable[Release]) -> Records:
    rows = list(resting)
    days = {row["as_of"] for row in rows}
    stale = stale_releases(lake, stock.settings, stock.ledger, as_of=days)
    reasons = {one.release: one.reason for one in stale}
    return [
        {
            "release": row["release"],
            "as_of": row["as_of"],
            "run_id": row["run_id"],
            "stale": reasons.get(row["release"]),
        }
        for row in rows
    ]
