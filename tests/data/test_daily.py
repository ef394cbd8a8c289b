"""A day's parts merged and written: accounts, shards, row groups, and the order of parts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from kernel import DAY, NOON, assert_same, event_format, parse, recount_spec, run_kernel, write

from hbpipe.data import survey, units
from hbpipe.data.aggregate import Account, add_accounts, summarise_piece
from hbpipe.data.clock import to_number
from hbpipe.data.day_statistics import DayStatistics, add_up, day_of
from hbpipe.data.events import find_files
from hbpipe.data.recount import recount
from hbpipe.data.survey import cut_pieces, survey_file

METRICS = {
    "value": {"family": "normal", "value": "x"},
    "effect": {"family": "normal_known_variance", "estimate": "x", "variance": "v"},
    "share": {"family": "beta_binomial", "successes": "hit", "trials": "rows"},
    "rate": {"family": "gamma_poisson", "count": "hit", "exposure": "active_days"},
}


def rows_of(n: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "chain": f"C{rng.integers(3)}",
            "store": f"S{rng.integers(8)}",  # shared by the chains
            "x": float(rng.normal(100, 1)),
            "v": float(rng.gamma(2)),
            "hit": bool(rng.integers(2)),
            "ts": NOON + timedelta(days=int(rng.integers(2))),
        }
        for _ in range(n)
    ]


def parts_of(root: Path, monkeypatch, piece_rows: int):
    monkeypatch.setattr(survey, "PIECE_ROWS", piece_rows)
    form, metrics, day = event_format(root), parse(METRICS), to_number(DAY)
    return [
        summarise_piece(form, piece, metrics, (day, day + 1))
        for file in find_files(form)
        for found in [survey_file(form, file, metrics)]
        for piece in cut_pieces(file, found.row_groups, [day, day + 1])
    ]


def merge(parts, day: int) -> DayStatistics:
    return add_up(parse(METRICS), day, [day_of(part, day) for part in parts])


@pytest.mark.parametrize("piece_rows", [1, 40, 1000])
@pytest.mark.parametrize("group", [7, 1000])
def test_any_cut_merges_to_the_recount(tmp_path, monkeypatch, piece_rows, group):
    monkeypatch.setattr(survey, "PIECE_ROWS", piece_rows)
    rows = rows_of(200, seed=1)
    for number in range(3):
        write(tmp_path / "events" / f"{number}.parquet", rows[number::3], group)
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, METRICS, tmp_path / "lake")
    paths = (tmp_path / "events").glob("*.parquet")
    assert_same(form, METRICS, counted, recount(paths, recount_spec(form, METRICS)))
    assert counted.results[DAY].shared_ids == 8


def test_one_file_has_the_same_bits_whatever_lies_beside_it(tmp_path, monkeypatch):
    """Pieces depend on their own file: another file changes no bit of units it does not hold."""
    write(tmp_path / "one" / "b.parquet", rows_of(150, seed=2), 20)
    write(tmp_path / "two" / "b.parquet", rows_of(150, seed=2), 20)
    write(tmp_path / "two" / "a.parquet", [{"x": 1.0, "v": 1.0, "hit": True, "store": "new"}])
    monkeypatch.setattr(survey, "PIECE_ROWS", 50)
    alone, beside = (
        run_kernel(event_format(tmp_path / name), METRICS, tmp_path / f"lake-{name}").statistics
        for name in ("one", "two")
    )
    for metric, found in alone.items():
        assert found == {key: beside[metric][key] for key in found}  # floats to the last bit
        assert len(beside[metric]) == len(found) + 1


def test_days_are_merged_apart(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", rows_of(200, seed=3), 25)
    parts = parts_of(tmp_path, monkeypatch, 50)
    assert len(parts) == 4
    first, second = (merge(parts, to_number(DAY) + n) for n in (0, 1))
    assert first.n_events.sum() + second.n_events.sum() == 200
    assert first.statistics["share"]["trials"].tolist() == first.n_events.tolist()
    (whole,) = parts_of(tmp_path, monkeypatch, 1000)
    single = merge([whole], to_number(DAY))
    names = list(zip(*(key.to_pylist() for key in single.keys), strict=True))
    events = dict(zip(names, single.n_events.tolist(), strict=True))
    names = list(zip(*(key.to_pylist() for key in first.keys), strict=True))
    assert dict(zip(names, first.n_events.tolist(), strict=True)) == events


def test_active_days_are_capped_when_parts_meet(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", rows_of(100, seed=4), 10)
    parts = parts_of(tmp_path, monkeypatch, 10)
    merged = merge(parts, to_number(DAY))
    assert set(merged.statistics["rate"]["exposure"].tolist()) == {1.0}


def test_a_crowded_day_is_written_in_shards_with_a_row_group_per_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "SHARD_ROWS", 30)
    write(tmp_path / "events" / "a.parquet", rows_of(200, seed=5))
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, METRICS, tmp_path / "lake")
    result = counted.results[DAY]
    assert result.shards == 4
    seen = []
    for receipt in result.receipts:
        file = pq.ParquetFile(tmp_path / "lake" / "statistics" / receipt.path)
        assert file.num_row_groups == len(METRICS)
        tables = [file.read_row_group(k).to_pylist() for k in range(len(METRICS))]
        keys = [[(row["chain"], row["store"]) for row in table] for table in tables]
        assert all(one == keys[0] for one in keys)  # every metric lists the same units
        shards = {row["shard"] for table in tables for row in table}
        assert shards == {receipt.statistics["shard"][0]} == {receipt.statistics["shard"][1]}
        assert receipt.statistics["metric"] == (min(METRICS), max(METRICS))
        seen += keys[0]
    assert len(seen) == len(set(seen)) == result.units
    monkeypatch.undo()
    paths = (tmp_path / "events").glob("*.parquet")
    assert_same(form, METRICS, counted, recount(paths, recount_spec(form, METRICS)))


def test_accounts_add_up_and_stay_as_they_are():
    one = Account(3, 1, 2, 1, {"m": {"used": 2, "skipped": 1, "excluded": 0, "rejected": 0}})
    two = Account(5, 0, 1, 0, {"m": {"used": 4, "skipped": 0, "excluded": 0, "rejected": 1}})
    total = add_accounts(add_accounts(None, one), two)
    assert (total.accepted, total.rejected, total.repeated, total.conflicting) == (8, 1, 3, 1)
    assert total.metrics["m"] == {"used": 6, "skipped": 1, "excluded": 0, "rejected": 1}
    assert total.rows == one.rows + two.rows == 12
    assert one.metrics["m"]["used"] == 2
