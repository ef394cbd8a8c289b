"""Stretches of a piece: what is decoded, and that where they end changes nothing."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel import DAY, NOON, event_format, parse, run_kernel, write

from hbpipe.data import stretches
from hbpipe.data.clock import to_number
from hbpipe.data.events import FileState, Piece, find_files
from hbpipe.data.forgotten import Forgotten
from hbpipe.data.rejections import MAX_EXAMPLES
from hbpipe.data.stretches import RowDays, cut_stretches, read_stretches
from hbpipe.data.survey import cut_pieces, survey_file
from hbpipe.errors import EventsError, StatisticsError

SHARE = {"share": {"family": "beta_binomial", "successes": "hit", "trials": "rows"}}
METRICS = {
    **SHARE,
    "hits": {"family": "gamma_poisson", "count": "hit", "exposure": "active_days"},
    "items": {"family": "beta_binomial", "successes": "bought", "trials": "seen"},
    "rate": {"family": "gamma_poisson", "count": "bought", "exposure": "amount"},
    "basket": {
        "family": "normal",
        "value": {"column": "amount", "transform": "log"},
        "where": [["hit", "==", True]],
    },
    "lines": {
        "family": "beta_binomial",
        "successes": "hit",
        "trials": "rows",
        "overdispersion": {"by": "household"},
    },
}


def events(n: int = 400, seed: int = 5) -> list[dict]:
    """Events of two days in no order, some of them faulty."""
    rng = np.random.default_rng(seed)
    stores = [f"s{k}" for k in range(9)] + [None, ""]
    return [
        {
            "ts": NOON + timedelta(days=int(rng.integers(2))),
            "chain": f"c{k % 3}",
            "store": stores[rng.integers(11)],
            "hit": [True, False, None][rng.integers(3)],
            "bought": int(rng.integers(-1, 4)),
            "seen": int(rng.integers(0, 6)),
            "amount": float(rng.choice([0.1, 0.7, 3.3, -1.0, np.nan])) * float(rng.random()),
            "household": int(rng.integers(5)),
        }
        for k in rng.integers(0, 9, n)
    ]


def piece_of(form, metrics):
    survey = survey_file(form, find_files(form)[0], metrics)
    (piece,) = cut_pieces(survey.file, survey.row_groups, survey.days)
    return piece


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), most=st.integers(1, 20))
def test_stretches_are_whole_row_groups_and_all_of_them(lengths, most):
    firsts = tuple(np.cumsum([0, *lengths[:-1]]).tolist())
    piece = Piece(FileState("a", 1, 1), tuple(range(len(lengths))), firsts, tuple(lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "STRETCH_ROWS", most)
        parts = list(cut_stretches(piece))
    for name in ("row_groups", "first_rows", "lengths"):
        assert sum((getattr(part, name) for part in parts), ()) == getattr(piece, name)
    assert all(part.rows <= most or len(part.lengths) == 1 for part in parts)


def everything(counted) -> list:
    """Return all that a night keeps of a day, floats to the last bit."""
    return [
        repr(
            (
                day,
                result.accounts,
                sorted(result.rejections, key=lambda one: (one.metric, one.column, one.reason)),
                result.units,
                result.shared_ids,
                sorted((str(key), repr(row)) for key, row in counted.accepted.items()),
                {
                    name: sorted((str(key), repr(row)) for key, row in rows.items())
                    for name, rows in counted.statistics.items()
                },
            )
        )
        for day, result in counted.results.items()
    ]


@pytest.mark.parametrize("rows", [1, 40, 90])
def test_where_stretches_end_changes_no_bit(tmp_path, monkeypatch, rows):
    write(tmp_path / "events" / "a.parquet", events(), 30, hit=pa.bool_())
    form = event_format(tmp_path / "events")
    whole = everything(run_kernel(form, METRICS, tmp_path / "whole"))
    monkeypatch.setattr(stretches, "STRETCH_ROWS", rows)
    assert len(list(cut_stretches(piece_of(form, parse(METRICS))))) > 1
    assert everything(run_kernel(form, METRICS, tmp_path / "cut")) == whole


def test_examples_of_all_stretches_together_are_the_first_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH_ROWS", 500)
    rows = [{"store": None} for _ in range(MAX_EXAMPLES + 700)]
    write(tmp_path / "events" / "a.parquet", [*rows, {}], 400, store=pa.string())
    counted = run_kernel(event_format(tmp_path / "events"), {}, tmp_path / "lake")
    (found,) = counted.results[DAY].rejections
    assert found.rows == MAX_EXAMPLES + 700
    assert [example.row for example in found.examples] == list(range(MAX_EXAMPLES))
    assert [found.examples[k].row_group for k in (0, 399, 400, 999)] == [0, 0, 1, 2]


def test_counts_that_fit_each_stretch_but_not_64_bits_together(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH_ROWS", 1)
    rows = [{"n": 2**62, "store": f"s{k}"} for k in range(3)]
    write(tmp_path / "events" / "a.parquet", rows, 1)
    metrics = {"share": {"family": "beta_binomial", "successes": "n", "trials": "n"}}
    with pytest.raises(StatisticsError, match="does not fit 64 bits") as caught:
        run_kernel(event_format(tmp_path / "events"), metrics, tmp_path / "lake")
    assert caught.value.where["metric"] == "share"


# --- times --------------------------------------------------------------------------------------


def read(form, metrics: dict) -> list:
    parsed = parse(metrics)
    return list(read_stretches(form, piece_of(form, parsed), parsed))


def test_times_are_not_decoded_where_the_footer_proves_the_day(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH_ROWS", 4)
    later = NOON + timedelta(days=1)
    rows = [{"ts": ts, "hit": True} for ts in [NOON] * 4 + [NOON, NOON, later, later]]
    rows += [{"ts": ts, "hit": True} for ts in [NOON, later]]
    write(tmp_path / "a.parquet", rows, 2)
    one, two, both = read(event_format(tmp_path), SHARE)
    day = to_number(DAY)
    assert one.days.only == day
    assert two.days.numbers.tolist() == [day, day, day + 1, day + 1]
    assert both.days.numbers.tolist() == [day, day + 1]
    assert ["ts" in stretch.table.column_names for stretch in (one, two, both)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("metrics", "changes"),
    [
        ({"late": {**SHARE["share"], "where": [["ts", "not_null"]]}}, {}),
        (SHARE, {"event_id": ("hit",)}),
    ],
)
def test_times_are_decoded_where_they_are_asked_for(tmp_path, metrics, changes):
    write(tmp_path / "a.parquet", [{"hit": True}], 2)
    (stretch,) = read(event_format(tmp_path, **changes), metrics)
    assert "ts" in stretch.table.column_names


def test_times_are_decoded_where_the_footer_tells_nothing(tmp_path):
    table = pa.table(
        {"ts": [NOON, None], "chain": ["A"] * 2, "store": ["a"] * 2, "hit": [True] * 2}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (stretch,) = read(event_format(tmp_path), SHARE)
    assert stretch.days.sound.tolist() == [True, False]
    pq.write_table(table.slice(0, 1), tmp_path / "a.parquet", write_statistics=False)
    (stretch,) = read(event_format(tmp_path), SHARE)
    assert stretch.days.only is None
    assert "ts" in stretch.table.column_names


def test_what_looks_across_rows_gets_the_piece_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH_ROWS", 1)
    write(tmp_path / "a.parquet", [{"hit": True}] * 3, 1)
    assert len(read(event_format(tmp_path), SHARE)) == 3
    assert len(read(event_format(tmp_path, event_id=("hit",)), SHARE)) == 1
    forgotten = (Forgotten(("store",), "00" * 32, "0"),)
    assert len(read(event_format(tmp_path, forgotten=forgotten), SHARE)) == 1


def test_a_file_that_changes_while_its_stretches_are_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH_ROWS", 1)
    path = write(tmp_path / "a.parquet", [{"hit": True}] * 2, 1)
    form, metrics = event_format(tmp_path), parse(SHARE)
    found = read_stretches(form, piece_of(form, metrics), metrics)
    next(found)
    write(path, [{"hit": True}] * 5, 1)
    with pytest.raises(EventsError):
        list(found)


def test_days_of_rows_are_counted_alike_where_one_was_known_beforehand():
    day, rows = to_number(DAY), np.array([True, False, True])
    known, looked_at = RowDays.all_on(day, 3), RowDays(np.full(3, day, np.int32), np.ones(3, bool))
    for days in (known, looked_at):
        assert days.among((day, day + 1)).tolist() == [True] * 3
        assert days.among((day + 1,)).tolist() == [False] * 3
        assert days.of(rows).tolist() == [day]
        assert days.of(~rows & rows).tolist() == []
        assert days.count(rows, days.of(rows)) == [2]
        assert days.count(np.array([1]), days.of(rows)) == [1]
