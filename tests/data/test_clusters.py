"""Clusters of events: their keys, and their totals over days however the events are cut."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel import NOON, event_format, parse, recount_spec, run_kernel, snapshot_of, write

from hbpipe.data import clusters as clusters_module
from hbpipe.data import survey
from hbpipe.data.clock import to_number
from hbpipe.data.clusters import Clusters, identify, merge_clusters, one_in, sampled
from hbpipe.data.recount import recount
from hbpipe.data.window import Folded, WindowOrder, fold_window
from hbpipe.errors import EventsError
from hbpipe.model.dispersion import CellSums

BY = {"overdispersion": {"by": "household"}}
METRICS = {
    "share": {"family": "beta_binomial", "successes": "hit", "trials": "rows", **BY},
    "value": {"family": "normal", "value": "x", "where": [["x", ">", 0]], **BY},
    "rate": {"family": "gamma_poisson", "count": "hit", "exposure": "x", **BY},
    "daily": {"family": "gamma_poisson", "count": "hit", "exposure": "days", **BY},
}
FIRST = date(2026, 3, 2)


def random_rows(rng: np.random.Generator, n: int, days: int = 3) -> list[dict[str, Any]]:
    """Events of a few households, some of them unknown, that return on other days."""
    return [
        {
            "event": k,
            "ts": NOON + timedelta(days=int(rng.integers(days))),
            "store": f"A{rng.integers(3)}",
            "household": None if rng.random() < 0.2 else f"h{rng.integers(6)}",
            "hit": bool(rng.integers(2)),
            "x": float(rng.integers(0, 5)),
        }
        for k in range(n)
    ]


def folded_from(
    folder: Path, days: int = 3, metrics: dict[str, Any] = METRICS, one_in: int = 1, **changes: Any
) -> Folded:
    """Fold the window of all days of the events in a folder."""
    form = event_format(folder / "events", **changes)
    counted = run_kernel(form, metrics, folder / "lake")
    first = to_number(FIRST)
    order = WindowOrder(
        metrics=parse(metrics),
        levels=form.levels,
        window=snapshot_of(form, metrics, folder / "lake", counted),
        history=None,
        listed=None,
        within_parent=False,
        first_day=first,
        as_of=first + days - 1,
        silent_since=first,
        one_in=one_in,
    )
    return fold_window(order)


def expected_sums(rows: list[dict[str, Any]], metric: str) -> dict[str, tuple[float, float]]:
    """Squares and their mean under the model by store, from the rows themselves."""
    events: dict[str, list[tuple[Any, float, float]]] = defaultdict(list)
    for row in rows:
        if metric == "value" and row["x"] <= 0:
            continue
        size = {"share": 1.0, "value": 1.0, "rate": row["x"], "daily": 0.0}[metric]
        total = row["x"] if metric == "value" else float(row["hit"])
        events[row["store"]].append((row["household"], size, total))
    found = {}
    for store, all_of in events.items():
        cells: dict[Any, np.ndarray] = defaultdict(lambda: np.zeros(2))
        for household, size, total in all_of:
            if household is not None:
                cells[household] += (size, total)
        n, y = np.sum(list(cells.values()), axis=0) if cells else (0.0, 0.0)
        r = y / n if n else 0.0
        squares = sum((t - s * r) ** 2 for s, t in cells.values())
        share = sum(s**2 for s, _ in cells.values()) / n**2 if n else 0.0
        totals = np.array([total for _, _, total in all_of])
        unit = np.var(totals, ddof=1) if len(totals) > 1 else 0.0
        expected = (n * unit if metric in ("share", "value") else y) * (1 - share)
        found[store] = squares, expected
    return found


def sums_of(folded: Folded, metric: str) -> dict[str, tuple[float, float]]:
    sums: CellSums = folded.dispersion[metric]
    stores = folded.keys[-1].to_pylist()
    return dict(zip(stores, zip(sums.squares, sums.expected, strict=True), strict=True))


def assert_folded(folded: Folded, rows: list[dict[str, Any]]) -> None:
    for metric in METRICS:
        found = sums_of(folded, metric)
        for store, pair in expected_sums(rows, metric).items():
            assert found[store] == pytest.approx(pair, rel=1e-10, abs=1e-10), (metric, store)


# --- any cut of the events ----------------------------------------------------------------------


@settings(max_examples=25)
@given(st.data())
def test_any_cut_of_the_events_gives_the_sums_of_the_whole(data):
    rows = random_rows(np.random.default_rng(data.draw(st.integers(0, 10**6))), 60)
    files, group = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([3, 11, 100]))
    piece = data.draw(st.sampled_from([1, 20, 1000]))
    owner = np.array(data.draw(st.lists(st.integers(0, files - 1), min_size=60, max_size=60)))
    owner[:files] = range(files)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "PIECE_ROWS", piece)
        for number in range(files):
            mine = [row for row, file in zip(rows, owner, strict=True) if file == number]
            write(Path(place) / "events" / f"{number}.parquet", mine, group)
        assert_folded(folded_from(Path(place)), rows)


def test_sums_of_counts_have_the_same_bits_however_files_are_cut(tmp_path, monkeypatch):
    rows = random_rows(np.random.default_rng(1), 200)
    bits = []
    for number, piece in enumerate((1000, 7)):
        folder = tmp_path / str(number)
        monkeypatch.setattr(survey, "PIECE_ROWS", piece)
        for part in range(number + 1):
            write(folder / "events" / f"{part}.parquet", rows[part :: number + 1], 5)
        bits.append([a.tobytes() for a in vars(folded_from(folder).dispersion["share"]).values()])
    assert bits[0] == bits[1]


def test_a_repeated_event_is_no_cluster_of_two(tmp_path):
    rows = random_rows(np.random.default_rng(2), 50)
    write(tmp_path / "events" / "a.parquet", rows[:30])
    write(tmp_path / "events" / "b.parquet", rows[20:])
    assert_folded(folded_from(tmp_path, event_id=("event",)), rows)


def test_a_window_over_months_adds_up_returning_clusters(tmp_path):
    rows = random_rows(np.random.default_rng(3), 150, days=70)
    write(tmp_path / "events" / "a.parquet", rows)
    assert_folded(folded_from(tmp_path, days=70), rows)


def test_columns_together_name_a_cluster(tmp_path):
    rows = random_rows(np.random.default_rng(4), 80)
    for row in rows:
        row["till"] = row["event"] % 2
    write(tmp_path / "events" / "a.parquet", rows)
    two = {"share": {**METRICS["share"], "overdispersion": {"by": ["household", "till"]}}}
    both = [
        {**row, "household": row["household"] and f"{row['household']}/{row['till']}"}
        for row in rows
    ]
    found = sums_of(folded_from(tmp_path, metrics=two), "share")
    for store, pair in expected_sums(both, "share").items():
        assert found[store] == pytest.approx(pair, rel=1e-12)


def test_days_without_a_known_cluster_say_nothing(tmp_path):
    rows = [{"household": None, "hit": bool(k % 2), "x": 1.0, "store": "A1"} for k in range(4)]
    write(tmp_path / "events" / "a.parquet", rows, household=pa.string())
    sums = folded_from(tmp_path).dispersion["share"]
    assert (sums.squares[0], sums.expected[0]) == (0.0, 0.0)


# --- samples ------------------------------------------------------------------------------------


def test_a_crowded_day_keeps_a_sample_that_is_the_same_every_day(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    rows = random_rows(rng, 3000)
    for row in rows:
        row["household"] = f"h{rng.integers(400)}"
    write(tmp_path / "events" / "a.parquet", rows)
    keys, _ = identify(pa.table({"h": [row["household"] for row in rows]}), ["h"])
    kept = [row for row, key in zip(rows, keys.tolist(), strict=True) if key % 4 == 0]
    monkeypatch.setattr(clusters_module, "SAMPLED_ROWS", 600)
    assert one_in(1000) == 2  # some 1,000 rows a day, so half of the clusters lie in the lake
    assert 50 < len({row["household"] for row in kept}) < 150
    found = sums_of(folded_from(tmp_path, one_in=4), "rate")
    for store, pair in expected_sums(kept, "rate").items():
        assert found[store] == pytest.approx(pair, rel=1e-10)


def test_samples_nest():
    assert [one_in(rows) for rows in (0, 1 << 20, (1 << 20) + 1, 5 << 20)] == [1, 1, 2, 8]
    keys = np.arange(1000, dtype=np.uint64)
    every = Clusters(np.zeros(1000, np.int64), keys, np.ones(1000), np.ones(1000))
    half, quarter = sampled(every, 2), sampled(every, 4)
    assert set(quarter.key.tolist()) < set(half.key.tolist())
    assert sampled(half, 4).key.tolist() == quarter.key.tolist()


# --- keys ---------------------------------------------------------------------------------------


def keys_of(*columns: pa.Array) -> list[int | None]:
    table = pa.table({str(k): column for k, column in enumerate(columns)})
    keys, known = identify(table, table.column_names)
    return [key if sure else None for key, sure in zip(keys.tolist(), known, strict=True)]


def test_a_key_does_not_depend_on_the_type_of_its_column():
    text = ["a", "", None, "Ωmega", "a"]
    plain = keys_of(pa.array(text))
    assert plain == keys_of(pa.array(text, pa.large_string()))
    assert plain == keys_of(pa.array(text).dictionary_encode())
    assert plain[0] == plain[4] != plain[1]
    assert plain[2] is None
    numbers = [7, None, -3, 0]
    whole = keys_of(pa.array(numbers, pa.int64()))
    for kind in (pa.int8(), pa.float64(), pa.float32()):
        assert keys_of(pa.array(numbers, kind)) == whole
    assert keys_of(pa.array([7, 0], pa.uint64())) == [whole[0], whole[3]]
    assert keys_of(pa.array([0.5, float("nan")]))[1] is None


def test_keys_differ_where_ids_do():
    ids = [f"household-{k}" for k in range(20_000)]
    found = keys_of(pa.array(ids))
    assert len(set(found)) == len(ids)
    share = np.mean([key % 2 for key in found if key is not None])
    assert share == pytest.approx(0.5, abs=0.02), "low bits choose samples"
    one, two = keys_of(pa.array(["a", "ab"]), pa.array(["bc", "c"]))
    assert one != two
    assert keys_of(pa.array(["a"]), pa.array([None], pa.string())) == [None]


def test_the_hash_of_text_is_the_published_one():
    """FNV-1a of "foobar" from the authors' test vectors, before its bits are spread."""
    found = keys_of(pa.array(["foobar"]))[0]
    assert found is not None
    spread = clusters_module._mix(np.array([0x85944171F73967E8], np.uint64))
    again = clusters_module._mix(spread)
    assert found == again[0]


def test_merged_clusters_come_in_order():
    one = Clusters(np.array([1, 0]), np.array([5, 9], np.uint64), np.ones(2), np.array([2.0, 3.0]))
    two = Clusters(np.array([1, 1]), np.array([2, 5], np.uint64), np.ones(2), np.array([4.0, 1.0]))
    merged = merge_clusters([one, two])
    assert merged.owner.tolist() == [0, 1, 1]
    assert merged.key.tolist() == [9, 2, 5]
    assert merged.total.tolist() == [3.0, 4.0, 3.0]
    assert merged.size.tolist() == [1.0, 1.0, 2.0]


def test_a_column_that_is_no_cluster_is_refused(tmp_path):
    write(tmp_path / "events" / "a.parquet", [{"household": NOON, "hit": True, "x": 1.0}])
    with pytest.raises(EventsError, match="takes it for a cluster"):
        folded_from(tmp_path)


def test_the_recount_finds_the_same_clusters(tmp_path):
    rows = random_rows(np.random.default_rng(6), 120)
    write(tmp_path / "events" / "a.parquet", rows, 20)
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, METRICS, tmp_path / "lake")
    spec = recount_spec(form, METRICS)
    named = [replace(metric, clusters=("household",)) for metric in spec.metrics]
    again = recount((tmp_path / "events").glob("*"), replace(spec, metrics=tuple(named)))
    snapshot = snapshot_of(form, METRICS, tmp_path / "lake", counted)
    for row in snapshot.read().to_pylist():
        key = (row["day"], row["chain"], row["store"])
        found = sorted(zip(row["cluster_size"], row["cluster_total"], strict=True))
        expected = again.clusters[row["metric"]].get(key, [])
        assert np.allclose(np.ravel(found), np.ravel(expected), rtol=1e-12)
        assert len(found) == len(expected)
