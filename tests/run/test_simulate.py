"""Simulated events: what the summary says is in the files, and the truth is true."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hbpipe.errors import ConfigError, EventsError
from hbpipe.run.simulate import SimulationSummary, simulate_events

MONDAY = date(2026, 3, 2)
SMALL = {"first_day": MONDAY, "days": 5, "chains": 4, "stores": 12, "events_per_day": 2000}
MESSY = {"late": 0.05, "bad": 0.06, "repeated": 0.08}


def simulate(out: Path, **changes) -> SimulationSummary:
    return simulate_events(out, **{**SMALL, "seed": 7, "row_group_rows": 600, **changes})


def read(path: Path) -> list[dict]:
    files = sorted(path.rglob("*.parquet"))
    return [
        row | {"file": str(file.relative_to(path))}
        for file in files
        for row in pq.ParquetFile(file).read().to_pylist()
    ]


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.parquet")}


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    out = tmp_path_factory.mktemp("messy")
    summary = simulate(out, **MESSY)
    return summary, read(summary.events_path)


def test_columns_are_plain_and_times_have_no_zone(tmp_path):
    summary = simulate(tmp_path, days=1)
    assert pq.read_schema(next(summary.events_path.glob("*.parquet"))) == pa.schema(
        {
            "event_id": pa.string(),
            "ts": pa.timestamp("us"),
            "chain_id": pa.string(),
            "store_id": pa.string(),
            "converted": pa.bool_(),
            "amount": pa.float64(),
        }
    )


def test_summary_and_daily_truth_account_for_every_row(messy):
    summary, rows = messy
    assert summary.rows == len(rows)
    assert summary.rows == summary.events - summary.undelivered + summary.repeated
    days = pq.read_table(summary.truth_path / "days.parquet")
    assert days["day"].to_pylist() == [date(2026, 3, day) for day in range(2, 7)]
    for name in ("events", "rows", "late", "repeated", "conflicting"):
        assert pc.sum(days[name]).as_py() == getattr(summary, name) > 0
    for fault, count in summary.faults.items():
        assert pc.sum(days[fault.replace(" ", "_")]).as_py() == count > 0
    files = list(summary.events_path.rglob("*.parquet"))
    assert summary.files == len(files) == 10
    assert not [path for path in summary.events_path.rglob("*") if path.suffix == ".part"]


def test_faults_are_as_counted(messy):
    summary, rows = messy
    found = Counter()
    for row in rows:
        found["missing store"] += row["store_id"] is None
        found["empty store"] += row["store_id"] == ""
        found["missing chain"] += row["chain_id"] is None
        found["missing time"] += row["ts"] is None
        found["time out of range"] += row["ts"] is not None and row["ts"].year == 1970
        found["missing event id"] += row["event_id"] is None
        amount = row["amount"]
        found["NaN amount"] += amount is not None and np.isnan(amount)
        found["infinite amount"] += amount is not None and np.isinf(amount)
        found["negative amount"] += amount is not None and amount < 0
    assert found == summary.faults
    row_faults = sum(count for fault, count in found.items() if "amount" not in fault)
    assert row_faults == pytest.approx(0.06 * summary.events, rel=0.2)


def test_late_rows_come_in_the_file_of_a_later_day(messy):
    summary, rows = messy
    lags = Counter()
    for row in rows:
        if row["ts"] is not None and row["ts"].year > 1970:
            delivered = date.fromisoformat(row["file"][-18:-8])
            lags[(delivered - row["ts"].date()).days] += 1
    assert set(lags) == {0, 1, 2, 3}
    assert lags[1] + lags[2] + lags[3] == summary.late - summary.undelivered
    assert summary.late == pytest.approx(0.05 * summary.events, rel=0.2)


def test_repeated_rows_share_an_id_and_a_day_and_some_conflict(messy):
    summary, rows = messy
    by_id = defaultdict(list)
    for row in rows:
        if row["event_id"] is not None:
            by_id[row["event_id"]].append(row)
    pairs = [copies for copies in by_id.values() if len(copies) > 1]
    assert all(len(copies) == 2 for copies in pairs)
    assert len(pairs) == summary.repeated
    assert summary.repeated == pytest.approx(0.08 * summary.events, rel=0.2)
    same = [{k: v for k, v in first.items() if k != "file"} for first, _ in pairs]
    copy = [{k: v for k, v in second.items() if k != "file"} for _, second in pairs]
    conflicting = [(a, b) for a, b in zip(same, copy, strict=True) if a != b]
    assert len(conflicting) == summary.conflicting > 0
    assert all(a["ts"] == b["ts"] and a["converted"] != b["converted"] for a, b in conflicting)
    places = Counter(second["file"].startswith("redelivery") for _, second in pairs)
    assert all(first["file"].startswith("events") for first, _ in pairs)
    assert min(places[True], places[False]) > summary.repeated / 3


def test_equal_arguments_give_equal_bytes_and_another_seed_does_not(tmp_path):
    first = simulate(tmp_path / "a", **MESSY)
    again = simulate(tmp_path / "b", **MESSY)
    other = simulate(tmp_path / "c", **MESSY, seed=8)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.faults == again.faults
    assert contents(first.events_path).keys() == contents(other.events_path).keys()
    assert contents(first.events_path) != contents(other.events_path)


@pytest.mark.parametrize("layout", ["files", "hive"])
def test_a_day_does_not_depend_on_the_number_of_days(tmp_path, layout):
    short = contents(simulate(tmp_path / "a", **MESSY, layout=layout, days=3).events_path)
    long = contents(simulate(tmp_path / "b", **MESSY, layout=layout, days=6).events_path)
    assert len(short) == 6
    assert short == {name: long[name] for name in short}


def test_layouts_hold_the_same_rows(tmp_path):
    def rows(layout):
        found = read(simulate(tmp_path / layout, **MESSY, layout=layout).events_path)
        names = {row["file"] for row in found}
        return names, Counter(repr({**row, "file": None}) for row in found)

    files, in_files = rows("files")
    hive, in_hive = rows("hive")
    flat, in_flat = rows("flat")
    assert in_files == in_hive == in_flat
    assert "events-2026-03-02.parquet" in files
    assert "day=2026-03-02/redelivery.parquet" in hive
    assert flat == {"events.parquet", "redelivery.parquet"}


def test_row_groups_are_bounded(messy):
    summary, _ = messy
    for path in summary.events_path.rglob("*.parquet"):
        footer = pq.read_metadata(path)
        assert all(footer.row_group(i).num_rows <= 600 for i in range(footer.num_row_groups))


def test_pages_carry_checksums(tmp_path):
    path = next(simulate(tmp_path, days=1).events_path.glob("*.parquet"))
    chunk = pq.read_metadata(path).row_group(0).column(5)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read(columns=["amount"])


def test_weeks_have_a_season_by_weekday_and_hour(tmp_path):
    summary = simulate(tmp_path, days=14, events_per_day=4000)
    events = pq.read_table(summary.truth_path / "days.parquet")["events"].to_numpy()
    expected = 4000 * np.array([0.86, 0.84, 0.88, 0.94, 1.12, 1.32, 1.04] * 2)
    assert np.all(np.abs(events - expected) < 5 * np.sqrt(expected))
    hours = Counter(row["ts"].hour for row in read(summary.events_path))
    assert hours[17] > 10 * hours[4] > 0


@pytest.mark.parametrize("row_group_rows", [600, 10_000], ids=["blocks", "one block"])
def test_time_of_day_says_nothing_about_the_store(tmp_path, row_group_rows):
    summary = simulate(tmp_path, days=1, events_per_day=4000, row_group_rows=row_group_rows)
    rows = read(summary.events_path)
    assert rows == sorted(rows, key=lambda row: row["ts"])
    half = len(rows) // 2
    early = Counter(row["store_id"] for row in rows[:half])
    late = Counter(row["store_id"] for row in rows[half:])
    for store in early | late:
        assert abs(early[store] - late[store]) < 5 * np.sqrt(early[store] + late[store])


def test_worlds_are_uneven(tmp_path):
    summary = simulate(tmp_path, days=1, chains=40, stores=2000)
    chains = pq.read_table(summary.truth_path / "chains.parquet")
    stores = pq.read_table(summary.truth_path / "stores.parquet")
    sizes = chains["stores"].to_numpy()
    assert sizes.sum() == 2000 == pc.count_distinct(stores["store_id"]).as_py()
    assert sizes.max() > 10 * np.median(sizes)
    traffic = np.sort(stores["events_per_day"].to_numpy())
    assert traffic.sum() == pytest.approx(2000)
    assert traffic[-20:].sum() > 0.15 * traffic.sum()
    single = simulate(tmp_path / "tiny", days=1, chains=4, stores=4)
    assert pq.read_table(single.truth_path / "chains.parquet")["stores"].to_pylist() == [1] * 4


def test_events_follow_the_truth(tmp_path):
    summary = simulate(tmp_path, days=10, stores=30, events_per_day=6000)
    truth = pq.read_table(summary.truth_path / "stores.parquet").to_pylist()
    sigma = {
        row["chain_id"]: row["sigma"]
        for row in pq.read_table(summary.truth_path / "chains.parquet").to_pylist()
    }
    by_store = defaultdict(list)
    for row in read(summary.events_path):
        assert (row["amount"] is not None) == row["converted"]
        by_store[row["chain_id"], row["store_id"]].append(row)
    conversion, amount, traffic = [], [], []
    for store in truth:
        rows = by_store.pop((store["chain_id"], store["store_id"]))
        theta, n = store["conversion"], len(rows)
        sold = np.log([row["amount"] for row in rows if row["converted"]])
        conversion.append((len(sold) - n * theta) / np.sqrt(n * theta * (1 - theta)))
        spread = sigma[store["chain_id"]] / np.sqrt(len(sold))
        amount.append((sold.mean() - store["log_amount"]) / spread)
        mean = store["events_per_day"] * (7 + 0.86 + 0.84 + 0.88)
        traffic.append((n - mean) / np.sqrt(mean))
    assert not by_store
    for z in (conversion, amount, traffic):  # 30 standard normal values each
        assert abs(np.mean(z)) < 4 / np.sqrt(30)
        assert 0.4 < np.mean(np.square(z)) < 2.0


def test_hyperparameters_describe_the_stores(tmp_path):
    summary = simulate(tmp_path, days=1, chains=2, stores=4000, events_per_day=10)
    stores = pq.read_table(summary.truth_path / "stores.parquet")
    for chain in pq.read_table(summary.truth_path / "chains.parquet").to_pylist():
        mine = stores.filter(pc.equal(stores["chain_id"], chain["chain_id"]))
        theta, m = mine["conversion"].to_numpy(), mine["log_amount"].to_numpy()
        mean = chain["alpha"] / (chain["alpha"] + chain["beta"])
        variance = mean * (1 - mean) / (1 + chain["alpha"] + chain["beta"])
        assert theta.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / len(mine)))
        assert theta.var() == pytest.approx(variance, rel=0.25)
        assert m.mean() == pytest.approx(chain["mu"], abs=5 * chain["tau"] / np.sqrt(len(mine)))
        assert m.std() == pytest.approx(chain["tau"], rel=0.15)


def test_progress_is_told_day_by_day(tmp_path):
    told = []
    summary = simulate(tmp_path, on_day=lambda day, rows: told.append((day, rows)))
    assert [day for day, _ in told] == [date(2026, 3, day) for day in range(2, 7)]
    assert sum(rows for _, rows in told) == summary.rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"days": 0}, "days is 0"),
        ({"chains": 0}, "chains is 0"),
        ({"stores": 3}, "stores is 3; expected: at least 4, one store to each chain"),
        ({"events_per_day": 0}, "events_per_day is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"row_group_rows": 0}, "row_group_rows is 0"),
        ({"late": -0.1}, "late is -0.1"),
        ({"bad": 1.5}, "bad is 1.5"),
        ({"late": 0.5, "repeated": 0.6}, "more than 1: late 0.5, bad 0.0, repeated 0.6"),
        ({"layout": "csv"}, "Layout 'csv' is unknown; expected: one of files, hive, flat"),
    ],
)
def test_impossible_arguments_are_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        simulate(tmp_path, **changes)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_existing_events_are_not_mixed_with_new_ones(tmp_path):
    before = contents(simulate(tmp_path).events_path)
    with pytest.raises(EventsError, match="name another folder"):
        simulate(tmp_path, seed=9)
    assert contents(tmp_path / "events") == before


def test_a_failure_leaves_no_half_written_file(tmp_path):
    def fail(day, rows):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        simulate(tmp_path, layout="flat", on_day=fail)
    assert list((tmp_path / "events").iterdir()) == []
