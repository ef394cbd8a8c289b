"""The ledger: what is known of every input file, and which days are done from which input.

The tables ``files`` and ``days`` are small; a run reads them whole, changes entries in memory and
upserts the changed ones. Every row of a file is accepted, rejected, repeated, or pending (its day
has not been processed), and the four always add up to the file's rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from hbpipe.config import digest
from hbpipe.data.aggregate import Account
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.events import FileState
from hbpipe.data.lake import Lake
from hbpipe.data.rejections import Rejection
from hbpipe.data.schemas import DAYS, FILES
from hbpipe.data.survey import RowGroup, Survey

#: Day (None for rows without a business day), metric, column, reason.
RejectionKey = tuple[int | None, str, str, str]


@dataclass(frozen=True)
class FileDay:
    """One file's rows on one day; ``account`` is None while the day is pending."""

    rows: int
    account: Account | None = None


@dataclass(frozen=True)
class FileEntry:
    """What the ledger knows of one file."""

    file: FileState
    sha256: str
    format: str
    level_types: tuple[str, ...]
    rows: int
    row_groups: tuple[RowGroup, ...]
    days: dict[int, FileDay]
    rejections: dict[RejectionKey, int]
    state: str = "read"
    duplicate_of: str | None = None
    #: Every column of the file, with its type.
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The path relative to ``events.path``."""
        return self.file.path

    @property
    def undated(self) -> int:
        """Rows without a business day."""
        return sum(rows for (day, *_), rows in self.rejections.items() if day is None)

    def totals(self) -> dict[str, int]:
        """Split the rows of the file."""
        if self.state == "duplicate":
            return {"accepted": 0, "rejected": 0, "repeated": self.rows, "pending": 0}
        done = [day.account for day in self.days.values() if day.account is not None]
        return {
            "accepted": sum(account.accepted for account in done),
            "rejected": sum(account.rejected for account in done) + self.undated,
            "repeated": sum(account.repeated for account in done),
            "pending": sum(day.rows for day in self.days.values() if day.account is None),
        }

    def emptied(self, heir: str | None) -> FileEntry:
        """Return the entry of a file whose rows ``heir`` has now, or nobody any more."""
        return replace(
            self,
            state="gone",
            duplicate_of=heir,
            rows=0,
            row_groups=(),
            days={},
            rejections={},
        )

    def with_day(
        self,
        day: int,
        account: Account,
        rejections: Iterable[Rejection],
        keeps: Collection[str] = (),
    ) -> FileEntry:
        """Return the entry after ``day`` was processed, but for the metrics that it ``keeps``."""
        old = self.rejections.items()
        kept = {key: rows for key, rows in old if key[0] != day or key[1] in keeps}
        kept |= _count(rejections)
        days = {**self.days, day: FileDay(self.days[day].rows, account)}
        return replace(self, days=days, rejections=kept)


class Making(NamedTuple):
    """What a metric's daily statistics were made with: settings as a digest, code by version."""

    settings: str
    kernel: str


@dataclass(frozen=True)
class DayEntry:
    """What the ledger knows of one business day; ``makings`` by metric."""

    day: int
    state: str
    reason: str
    input: str
    makings: Mapping[str, Making]
    files: int = 0
    account: Account = field(default_factory=Account)
    units: int = 0
    shared_ids: int = 0
    shards: int = 1
    statistics_version: int | None = None

    @property
    def kernel(self) -> str:
        """Digest of the code that made the statistics."""
        return digest(sorted({made.kernel for made in self.makings.values()}))

    @property
    def settings(self) -> str:
        """Digest of the settings that decided the statistics."""
        return digest({name: made.settings for name, made in self.makings.items()})

    @property
    def fingerprint(self) -> tuple[str, str, str]:
        """What the day was made from: input, code, settings."""
        return self.input, self.kernel, self.settings


def from_survey(survey: Survey, form_digest: str) -> FileEntry:
    """Enter a file that has just been surveyed; all its days are pending."""
    return FileEntry(
        file=survey.file,
        sha256=survey.sha256,
        format=form_digest,
        level_types=survey.level_types,
        rows=survey.rows,
        row_groups=survey.row_groups,
        days={day: FileDay(rows) for day, rows in survey.days.items()},
        rejections=_count(survey.undated),
        columns=survey.columns,
    )


def _count(rejections: Iterable[Rejection]) -> dict[RejectionKey, int]:
    """Add up the rows of rejections of the same kind."""
    total: dict[RejectionKey, int] = {}
    for found in rejections:
        key = (found.day, found.metric, found.column, found.reason)
        total[key] = total.get(key, 0) + found.rows
    return total


def input_fingerprint(day: int, files: Iterable[FileEntry]) -> str:
    """Hash what feeds a day: the content of each file, and its rows on that day."""
    feeds = [(entry.sha256, entry.days[day].rows) for entry in files if day in entry.days]
    return digest(sorted(feeds))


# --- to and from the tables ---------------------------------------------------------------------


def read_files(lake: Lake, version: int | None = None) -> dict[str, FileEntry]:
    """Read the table ``files``, the newest version by default; empty when there is none yet."""
    found = lake.find("files") if version is None else lake.snapshot("files", version)
    rows = [] if found is None else found.read().to_pylist()
    return {row["path"]: _file_entry(row) for row in rows}


def read_days(lake: Lake, version: int | None = None) -> dict[int, DayEntry]:
    """Read the table ``days``, the newest version by default; empty when there is none yet."""
    found = lake.find("days") if version is None else lake.snapshot("days", version)
    rows = [] if found is None else found.read().to_pylist()
    return {to_number(row["day"]): _day_entry(row) for row in rows}


def write_files(lake: Lake, entries: Iterable[FileEntry], run_id: str) -> int | None:
    """Upsert entries of ``files``; return the version that has them, None without any."""
    rows = [_file_row(entry) | {"run_id": run_id} for entry in entries]
    if not rows:
        return None
    table = pa.Table.from_pylist(rows, schema=FILES.schema)
    return lake.upsert("files", table, FILES.key, run_id=run_id)


def write_days(lake: Lake, entries: Iterable[DayEntry], run_id: str) -> int | None:
    """Upsert entries of ``days``; return the version that has them, None without any."""
    now = datetime.now(UTC)
    rows = [_day_row(entry) | {"run_id": run_id, "processed_at": now} for entry in entries]
    if not rows:
        return None
    table = pa.Table.from_pylist(rows, schema=DAYS.schema)
    return lake.upsert("days", table, DAYS.key, run_id=run_id)


def _file_row(entry: FileEntry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "state": entry.state,
        "duplicate_of": entry.duplicate_of,
        "size": entry.file.size,
        "modified_ns": entry.file.modified_ns,
        "sha256": entry.sha256,
        "format": entry.format,
        "level_types": list(entry.level_types),
        "columns": [{"name": name, "type": kind} for name, kind in entry.columns.items()],
        "rows": entry.rows,
        **entry.totals(),
        "days": [_file_day_row(day, entry.days[day]) for day in sorted(entry.days)],
        "row_groups": [vars(group) for group in entry.row_groups],
        "rejections": [
            {
                "day": None if day is None else to_date(day),
                "metric": metric,
                "column": column,
                "reason": reason,
                "rows": rows,
            }
            for (day, metric, column, reason), rows in sorted(
                entry.rejections.items(), key=lambda item: (item[0][0] or 0, *item[0][1:])
            )
        ],
    }


_COUNTS = ("accepted", "rejected", "repeated", "conflicting")


def _file_day_row(day: int, found: FileDay) -> dict[str, Any]:
    counts = {name: getattr(found.account, name, None) for name in _COUNTS}
    return {"day": to_date(day), "rows": found.rows, **counts}


def _file_entry(row: Mapping[str, Any]) -> FileEntry:
    days = {}
    for found in row["days"]:
        done = found["accepted"] is not None
        account = Account(*(found[name] for name in _COUNTS)) if done else None
        days[to_number(found["day"])] = FileDay(found["rows"], account)
    return FileEntry(
        file=FileState(row["path"], row["size"], row["modified_ns"]),
        sha256=row["sha256"],
        format=row["format"],
        level_types=tuple(row["level_types"]),
        rows=row["rows"],
        row_groups=tuple(RowGroup(**group) for group in row["row_groups"]),
        days=days,
        rejections={
            (
                None if r["day"] is None else to_number(r["day"]),
                r["metric"],
                r["column"],
                r["reason"],
            ): r["rows"]
            for r in row["rejections"]
        },
        state=row["state"],
        duplicate_of=row["duplicate_of"],
        # A ledger of an older version has none.
        columns={column["name"]: column["type"] for column in row["columns"] or ()},
    )


def _day_row(entry: DayEntry) -> dict[str, Any]:
    return {
        "day": to_date(entry.day),
        "state": entry.state,
        "reason": entry.reason,
        "input": entry.input,
        "kernel": entry.kernel,
        "settings": entry.settings,
        "files": entry.files,
        "rows": entry.account.rows,
        **{name: getattr(entry.account, name) for name in _COUNTS},
        "units": entry.units,
        "shared_ids": entry.shared_ids,
        "shards": entry.shards,
        "metrics": [
            {"metric": name, **split} for name, split in sorted(entry.account.metrics.items())
        ],
        "arms": [
            {"metric": name, "arm": arm, "rows": rows}
            for name, split in sorted(entry.account.arms.items())
            for arm, rows in sorted(split.items())
        ],
        "makings": [
            {"metric": name, **made._asdict()} for name, made in sorted(entry.makings.items())
        ],
        "statistics_version": entry.statistics_version,
    }


def _day_entry(row: Mapping[str, Any]) -> DayEntry:
    metrics = {
        split["metric"]: {key: split[key] for key in ("used", "skipped", "excluded", "rejected")}
        for split in row["metrics"]
    }
    arms: dict[str, dict[str, int]] = {}
    for split in row.get("arms") or ():  # a ledger of an older version has none
        arms.setdefault(split["metric"], {})[split["arm"]] = split["rows"]
    return DayEntry(
        day=to_number(row["day"]),
        state=row["state"],
        reason=row["reason"],
        input=row["input"],
        makings={
            made["metric"]: Making(made["settings"], made["kernel"])
            for made in row["makings"] or ()  # a ledger of an older version has none
        },
        files=row["files"],
        account=Account(**{name: row[name] for name in _COUNTS}, metrics=metrics, arms=arms),
        units=row["units"],
        shared_ids=row["shared_ids"],
        shards=row["shards"],
        statistics_version=row["statistics_version"],
    )
