"""The data gate: new files, and each day before its statistics are committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hbpipe.config import Audits
from hbpipe.data.aggregate import Account, add_accounts
from hbpipe.data.clock import to_date
from hbpipe.data.daily import DayResult
from hbpipe.data.rejections import FORGOTTEN, Rejection
from hbpipe.run.audits.checks import Check, at_most
from hbpipe.run.audits.trailing import check_count, check_rise, comparable
from hbpipe.run.ledger import DayEntry, FileEntry

#: The subject of checks of all files that a run meets for the first time.
NEW_FILES = "new files"


def check_undated(files: Iterable[FileEntry], limits: Audits) -> Check:
    """Check the share of rows without a business day in the files that are new."""
    entries = list(files)
    rows = sum(entry.rows for entry in entries)
    undated = sum(entry.undated for entry in entries)
    share = undated / rows if rows else 0.0
    return at_most(
        "data",
        "undated_share",
        NEW_FILES,
        share,
        limits.max_rejected_share,
        f"{undated} of {rows} rows of new files have no valid business day",
        "fail",
    )


def check_columns(
    files: Iterable[FileEntry], known: Iterable[FileEntry], needed: Iterable[str]
) -> Check:
    """Check that new files have the columns of the file before them, of the same types.

    A column that a metric needs and that is missing, or cannot be what the metric takes it for,
    is an error before this check.
    """
    last = max((e for e in known if e.columns), key=lambda e: (_last_day(e), e.path), default=None)
    before, wanted = ({} if last is None else last.columns), set(needed)
    new, lost, retyped = set[str](), set[str](), dict[str, str]()
    for entry in files if last is not None else ():
        new |= entry.columns.keys() - before.keys()
        lost |= before.keys() - entry.columns.keys()
        for name in before.keys() & entry.columns.keys() & wanted:
            if before[name] != entry.columns[name]:
                retyped[name] = f"{name} is {entry.columns[name]}, and was {before[name]}"
    parts = [
        *retyped.values(),
        *([f"new: {', '.join(sorted(new))}"] if new else []),
        *([f"lost: {', '.join(sorted(lost))}"] if lost else []),
    ]
    told = "no file before them to compare with" if last is None else "columns are as before"
    return at_most(
        "data", "columns_retyped", NEW_FILES, len(retyped), 0, "; ".join(parts) or told, "warn"
    )


def _last_day(entry: FileEntry) -> int:
    return max(entry.days, default=0)


def check_day(
    result: DayResult, account: Account, expected_rows: int, limits: Audits
) -> list[Check]:
    """Check one day by itself before its statistics are committed."""
    subject = to_date(result.day).isoformat()
    found = [
        *_conserved(result, account, expected_rows),
        *_shares(_without(account, _forgotten(result.rejections)), limits),
    ]
    return [
        at_most("data", name, subject, value, limit, message, "fail")
        for name, value, limit, message in found
    ]


def _forgotten(rejections: Iterable[Rejection]) -> int:
    return sum(one.rows for one in rejections if one.reason == FORGOTTEN)


def _without(account: Account, forgotten: int) -> Account:
    """Return an account in which rows of forgotten units are not held against the day."""
    return replace(account, rejected=account.rejected - min(forgotten, account.rejected))


def _conserved(
    result: DayResult, account: Account, expected_rows: int
) -> list[tuple[str, float, float, str]]:
    """Compare what must be equal: files, account, statistics, metrics."""
    unsplit = [
        name for name, split in account.metrics.items() if sum(split.values()) != account.accepted
    ]
    impossible = {name: units for name, units in result.impossible.items() if units}
    return [
        (
            "rows_conserved",
            abs(account.rows - expected_rows),
            0,
            f"{account.rows} rows accounted for, {expected_rows} in the files",
        ),
        (
            "statistics_conserved",
            abs(result.n_events - account.accepted),
            0,
            f"statistics hold {result.n_events} events, {account.accepted} were accepted",
        ),
        (
            "metrics_conserved",
            len(unsplit),
            0,
            f"accepted rows do not split for {unsplit}" if unsplit else "every metric adds up",
        ),
        (
            "statistics_identities",
            sum(impossible.values()),
            0,
            f"units with statistics that no events have: {impossible}"
            if impossible
            else "all statistics are possible",
        ),
        (
            "statistics_keys",
            result.repeated_units,
            0,
            f"{result.repeated_units} of {result.units} units stand twice",
        ),
    ]


def _shares(account: Account, limits: Audits) -> list[tuple[str, float, float, str]]:
    """Compare the shares of rejected and repeated rows with what is allowed."""
    return [
        (
            "rejected_share",
            _refused(account) / max(account.rows, 1),
            limits.max_rejected_share,
            f"{_refused(account)} of {account.rows} rows rejected, by row or for one metric",
        ),
        (
            "repeated_share",
            account.repeated / max(account.rows, 1),
            limits.max_repeated_share,
            f"{account.repeated} of {account.rows} rows repeat an event, "
            f"{account.conflicting} of them with other content",
        ),
    ]


def _refused(account: Account) -> int:
    """Count the rows that are rejected, by row or for the metric that rejects most."""
    return max([account.rejected, *(split["rejected"] for split in account.metrics.values())])


def _repeated(account: Account) -> int:
    return account.repeated


def total_account(result: DayResult) -> Account:
    """Add up the accounts of all files of a day."""
    total: Account | None = None
    for account in result.accounts.values():
        total = add_accounts(total, account)
    return total or Account()


# --- against the days before --------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """What is known of other days: rows in the files, units and accounts of those measured.

    Rows are those of the files, whether or not their days are measured: whichever day of a
    history is measured first, it is compared with the same days. Units and accounts are without
    the units that were forgotten, on every day: to forget one makes no day look odd.
    """

    rows: Mapping[int, int]
    units: Mapping[int, int]
    accounts: Mapping[int, Account]

    @classmethod
    def of(
        cls,
        files: Iterable[FileEntry],
        ledger: Mapping[int, DayEntry],
        results: Mapping[int, DayResult],
    ) -> Past:
        """Collect files, days of the ledger, and days that this run has measured."""
        rows, forgotten = Counter[int](), Counter[int]()
        for entry in files:
            if entry.state != "duplicate":
                rows.update({day: found.rows for day, found in entry.days.items()})
                for (day, *_, reason), count in entry.rejections.items():
                    if day is not None and reason == FORGOTTEN:
                        forgotten[day] += count
        for day in range(min(rows, default=0), max(rows, default=0)):
            rows.setdefault(day, 0)  # a day without a file, or on which all are closed
        done = {day: e for day, e in ledger.items() if e.state in ("complete", "gone")}
        units = {day: entry.units for day, entry in done.items()}
        accounts = {day: _without(entry.account, forgotten[day]) for day, entry in done.items()}
        for day, result in results.items():
            units[day] = result.units
            accounts[day] = _without(total_account(result), _forgotten(result.rejections))
        return cls(rows, units, accounts)


def check_rows(day: int, rows: int, past: Past, limits: Audits) -> list[Check]:
    """Compare the rows of a day with those of comparable days.

    A day without rows has nothing that could be held: it is worth a warning where its weekday
    is usually not empty.
    """
    subject, found = to_date(day).isoformat(), comparable(past.rows, day, limits.history)
    bounds = limits.row_count_warn, limits.row_count_fail
    if not rows:
        found = found if found is not None and found.weekday else None
        bounds = (limits.row_count_warn, None)
    return check_count("row_count", subject, rows, found, bounds, "rows")


def check_measured(day: int, past: Past, limits: Audits) -> list[Check]:
    """Compare units, rejected and repeated rows of a measured day with those of days before."""
    subject, account = to_date(day).isoformat(), past.accounts[day]
    units = comparable(past.units, day, limits.history)
    checks = check_count(
        "unit_count",
        subject,
        past.units[day],
        units,
        (limits.unit_count_warn, limits.unit_count_fail),
        "units",
    )
    for name, count, bounds, what in (
        (
            "rejected_rise",
            _refused,
            (limits.rejected_rise_warn, limits.rejected_rise_fail),
            "of its rows are rejected",
        ),
        (
            "repeated_rise",
            _repeated,
            (limits.repeated_rise_warn, limits.repeated_rise_fail),
            "of its rows repeat an event",
        ),
    ):
        shares = {d: count(one) / max(one.rows, 1) for d, one in past.accounts.items()}
        found = comparable(shares, day, limits.history)
        part, whole = count(account), account.rows
        checks += check_rise("data", name, subject, part, whole, found, bounds, what)
    return checks
