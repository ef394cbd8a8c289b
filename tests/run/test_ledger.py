"""The ledger: every row of a file is accepted, rejected, repeated or pending."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hbpipe.data.aggregate import Account
from hbpipe.data.events import FileState
from hbpipe.data.lake import Lake
from hbpipe.data.rejections import Example, Rejection
from hbpipe.data.schemas import DAYS, FILES
from hbpipe.data.survey import RowGroup, Survey
from hbpipe.run.ledger import (
    DayEntry,
    FileEntry,
    Making,
    from_survey,
    input_fingerprint,
    read_days,
    read_files,
    write_days,
    write_files,
)

MADE = {"conversion": Making("s", "beta_binomial/1")}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.create("files", FILES.schema)
    lake.create("days", DAYS.schema)
    return lake


def undated(rows: int) -> Rejection:
    example = Example(0, 3, "yesterday")
    return Rejection("a.parquet", None, "", "ts", "unreadable time", rows, (example,))


def entry(path: str = "a.parquet", sha256: str = "aa") -> FileEntry:
    """A file of two days, 10 and 5 rows, and two rows without a day."""
    survey = Survey(
        file=FileState(path, 1000, 123_456_789_012),
        sha256=sha256,
        rows=17,
        row_groups=(RowGroup(0, 0, 17, 900, 20454, 20455),),
        days={20454: 10, 20455: 5},
        undated=(undated(2),),
        level_types=("string", "int64"),
        columns={"ts": "timestamp[us]", "store_id": "string"},
    )
    return from_survey(survey, "form")


def bad_amount(rows: int) -> Rejection:
    return Rejection("a.parquet", 20454, "basket", "amount", "negative", rows, ())


def test_a_surveyed_file_is_pending() -> None:
    assert entry().totals() == {"accepted": 0, "rejected": 2, "repeated": 0, "pending": 15}


def test_a_processed_day_is_accounted_for() -> None:
    done = entry().with_day(20454, Account(7, 2, 1, 1), [bad_amount(2)])
    assert done.totals() == {"accepted": 7, "rejected": 4, "repeated": 1, "pending": 5}
    assert done.rejections[20454, "basket", "amount", "negative"] == 2
    assert done.undated == 2


def test_a_day_processed_again_replaces_what_it_said() -> None:
    first = entry().with_day(20454, Account(7, 2, 1), [bad_amount(2)])
    again = first.with_day(20454, Account(10, 0, 0), [])
    assert again.totals() == {"accepted": 10, "rejected": 2, "repeated": 0, "pending": 5}
    assert set(again.rejections) == {(None, "", "ts", "unreadable time")}


def test_rejections_of_one_kind_add_up() -> None:
    done = entry().with_day(20454, Account(7, 3), [bad_amount(1), bad_amount(2)])
    assert done.rejections[20454, "basket", "amount", "negative"] == 3


def test_a_second_copy_repeats_every_row() -> None:
    copy = replace(entry(), state="duplicate", duplicate_of="b.parquet")
    assert copy.totals() == {"accepted": 0, "rejected": 0, "repeated": 17, "pending": 0}


def test_a_renamed_file_leaves_an_empty_row() -> None:
    gone = entry().with_day(20454, Account(10), []).emptied("b.parquet")
    assert (gone.state, gone.duplicate_of, gone.rows) == ("gone", "b.parquet", 0)
    assert sum(gone.totals().values()) == 0


def test_the_fingerprint_is_of_contents_and_counts_not_of_names() -> None:
    one, other = entry("a", "aa"), entry("b", "bb")
    day = 20454
    assert input_fingerprint(day, [one, other]) == input_fingerprint(day, [other, one])
    assert input_fingerprint(day, [one]) == input_fingerprint(day, [entry("renamed", "aa")])
    assert input_fingerprint(day, [one]) != input_fingerprint(day, [other])
    assert input_fingerprint(day, [one]) != input_fingerprint(day, [one, other])
    assert input_fingerprint(day, [one]) != input_fingerprint(day + 1, [one])
    assert input_fingerprint(day + 9, [one]) == input_fingerprint(day, [])


def test_a_lake_without_tables_knows_nothing(tmp_path: Path) -> None:
    empty = Lake(str(tmp_path / "none"))
    assert (read_files(empty), read_days(empty)) == ({}, {})


def test_files_come_back_as_they_were_written(lake: Lake) -> None:
    pending = entry("a.parquet")
    done = entry("b.parquet", "bb").with_day(20454, Account(7, 2, 1, 1), [bad_amount(2)])
    copy = replace(entry("c.parquet"), state="duplicate", duplicate_of="a.parquet")
    write_files(lake, [pending, done, copy], "run-1")
    assert read_files(lake) == {one.path: one for one in (pending, done, copy)}


def test_days_come_back_as_they_were_written(lake: Lake) -> None:
    split = {"used": 5, "skipped": 1, "excluded": 1, "rejected": 0}
    full = DayEntry(
        day=20454,
        state="complete",
        reason="missing",
        input="i",
        makings=MADE,
        files=2,
        account=Account(7, 2, 1, 1, {"conversion": split}),
        units=3,
        shared_ids=1,
        shards=2,
        statistics_version=4,
    )
    empty = DayEntry(20455, "empty", "missing", "i", MADE)
    write_days(lake, [full, empty], "run-1")
    assert read_days(lake) == {20454: full, 20455: empty}


def test_a_row_is_replaced_and_the_others_kept(lake: Lake) -> None:
    write_files(lake, [entry("a"), entry("b")], "run-1")
    done = entry("b").with_day(20454, Account(10), [])
    write_files(lake, [done], "run-2")
    assert read_files(lake) == {"a": entry("a"), "b": done}
    table = lake.read("files")
    assert dict(zip(table["path"].to_pylist(), table["run_id"].to_pylist(), strict=True)) == {
        "a": "run-1",
        "b": "run-2",
    }


def test_an_older_version_of_the_days_can_be_read(lake: Lake) -> None:
    write_days(lake, [DayEntry(20454, "held", "x", "i", MADE)], "run-1")
    version = lake.version("days")
    write_days(lake, [DayEntry(20454, "complete", "x", "i", MADE)], "run-2")
    assert read_days(lake, version)[20454].state == "held"
    assert read_days(lake)[20454].state == "complete"


def test_nothing_to_write_makes_no_version(lake: Lake) -> None:
    before = (lake.version("files"), lake.version("days"))
    write_files(lake, [], "run-1")
    write_days(lake, [], "run-1")
    assert (lake.version("files"), lake.version("days")) == before
