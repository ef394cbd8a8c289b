"""The survey of a file: its days, its undated rows, and how it is cut into pieces."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kernel import DAY, NOON, event_format, parse, write

from hbpipe.data import survey
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.data.events import FileState, find_files
from hbpipe.data.rejections import MAX_EXAMPLES
from hbpipe.data.survey import RowGroup, Survey, cut_pieces, survey_file

METRICS = parse({"value": {"family": "normal", "value": "x"}})
FIRST = to_number(DAY)
#: A time for every type: the same instants, two on one day and one on the next.
TIMES = [datetime(2026, 3, 2, 0), datetime(2026, 3, 2, 23, 59), datetime(2026, 3, 3)]


def survey_only(root: Path, **changes) -> Survey:
    form = event_format(root, **changes)
    (file,) = find_files(form)
    return survey_file(form, file, METRICS)


def rows_of(times: list) -> list[dict]:
    return [{"ts": time, "x": 1.0} for time in times]


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """Return the row groups whose times are read."""
    seen: list[int] = []
    real = survey._count_days

    def count(form, piece):
        seen.extend(piece.row_groups)
        return real(form, piece)

    monkeypatch.setattr(survey, "_count_days", count)
    return seen


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")]
    + [pa.date32(), pa.date64(), pa.string()],
    ids=str,
)
def test_the_footer_tells_the_day_where_it_can(tmp_path, reads, kind):
    times = [time.isoformat() for time in TIMES] if kind == pa.string() else TIMES
    if pa.types.is_date(kind):
        times = [time.date() for time in TIMES]
    write(tmp_path / "a.parquet", rows_of([*times[:2], *times[1:], times[2]]), 2, ts=kind)
    found = survey_only(tmp_path)
    assert found.days == {FIRST: 3, FIRST + 1: 2}
    assert [(g.first_day, g.last_day) for g in found.row_groups] == [
        (FIRST, FIRST),
        (FIRST, FIRST + 1),
        (FIRST + 1, FIRST + 1),
    ]
    assert reads == ([0, 1, 2] if kind == pa.string() else [1])
    assert (found.rows, found.undated) == (5, ())


def test_nanoseconds_in_the_footer(tmp_path, reads):
    day = FIRST * 86_400 * 10**9
    times = [day + 1, day + 86_400 * 10**9 - 1]
    write(tmp_path / "a.parquet", rows_of(times), ts=pa.timestamp("ns"))
    assert survey_only(tmp_path).days == {FIRST: 2}
    assert reads == []


def test_the_footer_knows_zone_and_closing_time(tmp_path, reads):
    instants = [datetime(2026, 3, 2, 4, 30), datetime(2026, 3, 3, 4, 29)]
    write(tmp_path / "a.parquet", rows_of(instants), ts=pa.timestamp("ms", "UTC"))
    calendar = Calendar(timezone="America/New_York", day_start=-30 % 1440)
    assert survey_only(tmp_path, calendar=calendar).days == {FIRST - 1: 2}
    assert reads == []


@pytest.mark.parametrize("times", [[None, NOON], [None, None]])
def test_nulls_are_read_and_rejected(tmp_path, reads, times):
    write(tmp_path / "a.parquet", rows_of(times), ts=pa.timestamp("us"))
    found = survey_only(tmp_path)
    (rejection,) = found.undated
    assert (rejection.reason, rejection.rows) == ("missing time", times.count(None))
    assert rejection.examples[0].value == "null"
    assert reads == [0]
    assert sum(found.days.values()) + rejection.rows == found.rows == 2


def test_times_that_python_cannot_tell_are_examples_too(tmp_path):
    far = [2**62, FIRST * 86_400 * 10**6, -(2**62)]
    write(tmp_path / "a.parquet", rows_of(far), 2, ts=pa.timestamp("us"))
    found = survey_only(tmp_path)
    (rejection,) = found.undated
    assert (rejection.reason, rejection.rows, rejection.day) == ("day out of range", 2, None)
    assert [(e.row_group, e.row) for e in rejection.examples] == [(0, 0), (1, 2)]
    assert all(str(value) in e.value for e, value in zip(rejection.examples, far[::2], strict=True))
    assert (found.row_groups[1].first_day, found.row_groups[1].last_day) == (0, -1)
    write(tmp_path / "a.parquet", rows_of([1, 2]), ts=pa.timestamp("ns", "UTC"))
    assert "1970-01-01" in survey_only(tmp_path).undated[0].examples[0].value


def test_unreadable_text_is_shown_safely(tmp_path):
    texts = ["2026-03-02", "soon\n", "x" * 300, None]
    write(tmp_path / "a.parquet", rows_of(texts), 1)
    by_reason = {one.reason: one for one in survey_only(tmp_path).undated}
    assert by_reason.keys() == {"unreadable time", "missing time"}
    shown = [example.value for example in by_reason["unreadable time"].examples]
    assert shown == ["soon\\x0a", "x" * 199 + "…"]
    raw = pa.array([b"\xff2026"])
    column = pa.Array.from_buffers(pa.string(), 1, raw.buffers())
    table = pa.table({"ts": column, "chain": ["A"], "store": ["A1"], "x": [1.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert survey_only(tmp_path).undated[0].examples[0].value == "\\xff2026"


def test_examples_are_a_thousand_per_file_not_per_row_group(tmp_path):
    write(tmp_path / "a.parquet", rows_of([None] * 2500), 100, ts=pa.timestamp("us"))
    (rejection,) = survey_only(tmp_path).undated
    assert (rejection.rows, len(rejection.examples)) == (2500, MAX_EXAMPLES)
    assert [e.row for e in rejection.examples] == list(range(MAX_EXAMPLES))


@pytest.mark.parametrize("statistics", [False, ["x"]])
def test_row_groups_without_statistics_are_read(tmp_path, reads, statistics):
    path = write(tmp_path / "a.parquet", rows_of(TIMES))
    pq.write_table(pq.read_table(path), path, write_statistics=statistics, row_group_size=1)
    assert survey_only(tmp_path).days == {FIRST: 2, FIRST + 1: 1}
    assert reads == [0, 1, 2]


def test_timestamps_of_96_bits(tmp_path):
    path = write(tmp_path / "a.parquet", rows_of(TIMES))
    pq.write_table(pq.read_table(path), path, use_deprecated_int96_timestamps=True)
    assert survey_only(tmp_path).days == {FIRST: 2, FIRST + 1: 1}


@pytest.mark.parametrize("groups", [0, 1])
def test_files_without_rows(tmp_path, groups):
    path = write(tmp_path / "a.parquet", rows_of([NOON]))
    empty = pq.read_table(path).slice(0, 0)
    with pq.ParquetWriter(path, empty.schema) as writer:
        for _ in range(groups):
            writer.write_table(empty)
    found = survey_only(tmp_path)
    assert (found.rows, found.days, found.undated) == (0, {}, ())
    assert cut_pieces(found.file, found.row_groups, [FIRST]) == []


def test_the_day_from_the_path(tmp_path):
    for folder in ("ts=2026-03-02", "ts=2026-13-02", "ts=__HIVE_DEFAULT_PARTITION__"):
        path = write(tmp_path / folder / "a.parquet", rows_of([NOON, NOON]))
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["ts"]), path)
    form = event_format(tmp_path)
    found = [survey_file(form, file, METRICS) for file in find_files(form)]
    assert [one.days for one in found] == [{FIRST: 2}, {}, {}]
    assert [one.undated[0].reason for one in found[1:]] == ["unreadable time", "missing time"]


def test_level_types(tmp_path):
    write(tmp_path / "chain=A" / "a.parquet", [{"store": 7, "x": 1.0}])
    assert survey_only(tmp_path).level_types == ("string", "int64")  # the file's own chain counts
    assert survey_only(tmp_path, levels=("store",)).level_types == ("int64",)


# --- pieces -------------------------------------------------------------------------------------

FILE = FileState("a.parquet", 1, 1)


def groups_of(rows: list[int], spans: list[tuple[int, int]], size: int = 1) -> tuple[RowGroup, ...]:
    firsts = [sum(rows[:k]) for k in range(len(rows))]
    return tuple(RowGroup(k, firsts[k], rows[k], size, *spans[k]) for k in range(len(rows)))


def test_pieces_are_cut_by_rows_and_bytes_before_days_are_chosen(monkeypatch):
    monkeypatch.setattr(survey, "PIECE_ROWS", 10)
    groups = groups_of([4, 4, 4, 30, 2, 2], [(1, 1), (2, 2), (3, 3), (1, 3), (9, 9), (0, -1)])
    whole = cut_pieces(FILE, groups, range(10))
    assert [piece.row_groups for piece in whole] == [(0, 1), (2,), (3,), (4,)]
    assert [piece.first_rows for piece in whole] == [(0, 4), (8,), (12,), (42,)]
    assert [piece.lengths for piece in whole] == [(4, 4), (4,), (30,), (2,)]
    some = cut_pieces(FILE, groups, [2, 9])
    assert [piece.row_groups for piece in some] == [(1,), (3,), (4,)]
    for day in range(-3, 12):  # each day finds exactly the row groups that may hold it
        found = {k for piece in cut_pieces(FILE, groups, [day]) for k in piece.row_groups}
        assert found == {g.index for g in groups if g.first_day <= day <= g.last_day}
    monkeypatch.setattr(survey, "PIECE_BYTES", 2)
    groups = groups_of([1] * 5, [(1, 1)] * 5)
    assert [p.row_groups for p in cut_pieces(FILE, groups, [1])] == [(0, 1), (2, 3), (4,)]


def test_a_flat_file_of_many_days(tmp_path):
    times = [NOON + timedelta(days=n // 10) for n in range(100)]
    write(tmp_path / "a.parquet", rows_of(times), 7)
    found = survey_only(tmp_path)
    assert found.days == {FIRST + n: 10 for n in range(10)}
    assert to_date(max(found.days)) == date(2026, 3, 11)
    assert sum(group.rows for group in found.row_groups) == found.rows == 100
