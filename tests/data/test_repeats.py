"""Repeated events: which copy counts, and which copies contradict it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel import DAY, NOON, assert_same, event_format, recount_spec, run_kernel, write

from hbpipe.data import survey
from hbpipe.data.recount import recount
from hbpipe.data.repeats import find_repeats, first_rows, rows_differ
from hbpipe.errors import EventsError

VALUE = {"value": {"family": "normal", "value": "x"}}
NAN = float("nan")


def check(tmp_path, files: dict[str, list[dict]], size: int = 1000, ids=("id",), **types):
    """Run the kernel over some files, compare it with the recount, and return it."""
    for name, rows in files.items():
        write(tmp_path / "events" / name, rows, size, **types)
    form = event_format(tmp_path / "events", event_id=ids)
    counted = run_kernel(form, VALUE, tmp_path / "lake")
    paths = (tmp_path / "events").rglob("*.parquet")
    assert_same(form, VALUE, counted, recount(paths, recount_spec(form, VALUE)))
    return counted


def totals(counted, name: str = "repeated") -> dict[str, int]:
    return {path: getattr(account, name) for (path, _), account in counted.accounts.items()}


@pytest.mark.parametrize("piece_rows", [1, 2, 100])
def test_three_copies_over_pieces_and_files(tmp_path, monkeypatch, piece_rows):
    monkeypatch.setattr(survey, "PIECE_ROWS", piece_rows)
    one, two = {"id": "1", "x": 1.0}, {"id": "2", "x": 2.0}
    other = {"id": "1", "x": 9.0}
    counted = check(
        tmp_path, {"a.parquet": [two, one, one, other], "b.parquet": [other, one, two, one]}, 1
    )
    assert totals(counted) == {"a.parquet": 2, "b.parquet": 4}
    assert totals(counted, "conflicting") == {"a.parquet": 1, "b.parquet": 1}
    assert counted.statistics["value"][DAY, "A", "A1"] == {"n": 2, "mean": 1.5, "m2": 0.5}


def test_a_copy_may_contradict_its_neighbour_and_not_the_first(tmp_path, monkeypatch):
    """Rows of one piece differ from each other, but one of them equals the first copy elsewhere."""
    monkeypatch.setattr(survey, "PIECE_ROWS", 2)
    first, other = {"id": "1", "x": 1.0}, {"id": "1", "x": 2.0}
    counted = check(tmp_path, {"a.parquet": [first], "b.parquet": [other, first]}, 2)
    assert totals(counted, "conflicting") == {"a.parquet": 0, "b.parquet": 1}


def test_the_scope_is_the_business_day(tmp_path):
    rows = [{"id": "1", "x": 1.0}, {"id": "1", "x": 1.0, "ts": NOON + timedelta(days=1)}]
    counted = check(tmp_path, {"a.parquet": rows, "b.parquet": rows[::-1]})
    assert sum(account.accepted for account in counted.accounts.values()) == 2
    assert sum(account.repeated for account in counted.accounts.values()) == 2


def test_rejected_rows_claim_no_id_and_ids_may_be_shared_by_chains(tmp_path):
    rows = [
        {"id": 1, "x": 1.0, "store": None},
        {"id": 1, "x": 2.0},
        {"id": 1, "x": 2.0, "chain": "B"},
        {"id": None, "x": 3.0},
    ]
    counted = check(tmp_path, {"a.parquet": rows}, ids=("chain", "id"), id=pa.int32())
    assert counted.accepted == {(DAY, "A", "A1"): 1, (DAY, "B", "A1"): 1}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_empty_ids_are_missing(tmp_path, kind):
    rows = [{"id": "", "x": 1.0}, {"id": "", "x": 1.0}, {"id": "1", "x": 1.0}]
    counted = check(tmp_path, {"a.parquet": rows}, id=kind)
    assert counted.rejections["a.parquet"] == {("", "id", "missing event id"): 2}


def test_ids_of_one_kind_are_compared_across_types(tmp_path):
    row = {"id": 5, "x": 1.5}
    write(tmp_path / "events" / "b.parquet", [row], id=pa.int16(), x=pa.float32())
    assert totals(check(tmp_path, {"a.parquet": [row]})) == {"a.parquet": 0, "b.parquet": 1}
    coded = pa.dictionary(pa.int8(), pa.string())
    form = event_format(tmp_path / "text", event_id=("id",))
    write(tmp_path / "text" / "a.parquet", [{"id": "5", "x": 1.0}], id=pa.large_string())
    write(tmp_path / "text" / "b.parquet", [{"id": "5", "x": 1.0}], id=coded)
    counted = run_kernel(form, VALUE, tmp_path / "other")
    assert totals(counted) == {"a.parquet": 0, "b.parquet": 1}
    assert totals(counted, "conflicting") == {"a.parquet": 0, "b.parquet": 0}


def test_ids_of_different_kinds_are_an_error_that_names_the_files(tmp_path):
    write(tmp_path / "a.parquet", [{"id": 5, "x": 1.0}])
    write(tmp_path / "b.parquet", [{"id": "5", "x": 1.0}])
    with pytest.raises(EventsError, match="event id is id string") as caught:
        run_kernel(event_format(tmp_path, event_id=("id",)), VALUE, tmp_path / "lake")
    assert caught.value.where == {"file": str(tmp_path / "b.parquet")}
    assert str(tmp_path / "a.parquet") in str(caught.value)


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c"]), st.integers(5, 7)),
        max_size=25,
    )
)
def test_first_rows_by_plain_python(rows):
    days = np.array([row[2] for row in rows], np.int32)
    ids = pa.table(
        {"n": [row[0] for row in rows], "t": pa.array([row[1] for row in rows], pa.string())}
    )
    if not rows:
        ids = ids.set_column(0, "n", pa.array([], pa.int64()))
    expected = [rows.index(row) for row in rows]
    assert first_rows(ids, days).tolist() == expected
    valid = np.array([row[1] != "c" for row in rows], np.bool_)
    found = find_repeats(ids, ("n", "t"), days, valid)
    assert found.rows.tolist() == [
        bool(ok) and first != k for k, (first, ok) in enumerate(zip(expected, valid, strict=True))
    ]
    assert not found.conflicting.any()


@pytest.mark.parametrize(
    ("kind", "left", "right"),
    [
        (pa.float64(), [1.0, NAN, None, NAN, 0.0], [1.0, NAN, None, 1.0, None]),
        (pa.float16(), [1.0, NAN, None, NAN, 0.0], [1.0, NAN, None, 1.0, None]),
        (pa.string(), ["a", "", None, "a", ""], ["a", "", None, "b", None]),
        (
            pa.dictionary(pa.int8(), pa.string()),
            ["a", "", None, "a", ""],
            ["a", "", None, "b", None],
        ),
        (pa.bool_(), [True, False, None, True, False], [True, False, None, False, None]),
        (pa.uint64(), [2**63, 0, None, 1, 0], [2**63, 0, None, 2, None]),
        (pa.timestamp("ns", "UTC"), [1, 2, None, 3, 0], [1, 2, None, 4, None]),
        (pa.timestamp("us"), [2**62, 2, None, 3, 0], [2**62, 2, None, 4, None]),
        (
            pa.decimal128(9, 2),
            [Decimal("1.10"), Decimal(0), None, Decimal(1), Decimal(0)],
            [Decimal("1.1"), Decimal(0), None, Decimal(2), None],
        ),
    ],
    ids=str,
)
def test_copies_that_differ(kind, left, right):
    tables = [
        pa.table(
            {"same": [1] * 5, "c": pa.chunked_array([pa.array(values, _plain(kind)).cast(kind)])}
        )
        for values in (left, right)
    ]
    assert rows_differ(*tables).tolist() == [False, False, False, True, True]
    assert rows_differ(*reversed(tables)).tolist() == [False, False, False, True, True]


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
