"""Large days, merged shard by shard: the same as days merged at once, to the last bit."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kernel import (
    DAY,
    NOON,
    Counted,
    assert_same,
    event_format,
    recount_spec,
    run_kernel,
    snapshot_of,
    write,
)

from hbpipe.data import partials, readings, survey, units
from hbpipe.data.durable import PRIVATE
from hbpipe.data.recount import recount
from hbpipe.errors import EventsError

METRICS: dict[str, Any] = {
    "value": {"family": "normal", "value": "x"},
    "share": {"family": "beta_binomial", "successes": "hit", "trials": "rows"},
    "rate": {"family": "gamma_poisson", "count": "hit", "exposure": "active_days"},
    "trend": {"family": "normal_regression", "response": "x", "predictors": [1, "z"]},
    "clustered": {
        "family": "beta_binomial",
        "successes": "hit",
        "trials": "rows",
        "overdispersion": {"by": "household"},
    },
}
VALUE = {"value": {"family": "normal", "value": "x"}}


def rows_of(n: int, seed: int, days: int = 2) -> list[dict[str, Any]]:
    """Rows of 40 stores, some of them of several chains; a few rows are refused."""
    rng = np.random.default_rng(seed)
    return [
        {
            "chain": f"C{rng.integers(3)}" if rng.integers(50) else None,
            "store": f"S{rng.integers(40)}",
            "x": float(rng.normal(100, 1)) if rng.integers(30) else float("nan"),
            "z": float(rng.normal()),
            "hit": bool(rng.integers(2)),
            "household": int(rng.integers(60)),
            "ts": NOON + timedelta(days=int(rng.integers(days))),
        }
        for _ in range(n)
    ]


@pytest.fixture
def sharded(monkeypatch):
    """Give a switch: shards of 30 rows, and the number of them that one task merges."""
    monkeypatch.setattr(units, "SHARD_ROWS", 30)
    return lambda merged: monkeypatch.setattr(partials, "MERGED_SHARDS", merged)


def both(root: Path, form: Any, metrics: dict[str, Any], sharded: Any) -> list[Counted]:
    """Count the events with days merged at once, and shard by shard."""
    found = []
    for name, merged in (("at-once", 1 << 20), ("sharded", 1)):
        sharded(merged)
        found.append(run_kernel(form, metrics, root / name))
    assert list((root / "sharded" / PRIVATE / "staging").iterdir()), "nothing was set aside"
    return found


def assert_identical(root: Path, form: Any, metrics: dict[str, Any], found: list[Counted]) -> None:
    """All that two runs tell of events is equal, floats to the last bit."""
    one, other = found
    assert one.accepted == other.accepted
    assert one.statistics == other.statistics
    assert one.accounts == other.accounts
    assert one.rejections == other.rejections
    for day, result in one.results.items():
        twin = other.results[day]
        names = ("units", "shared_ids", "shards", "n_events", "impossible", "repeated_units")
        assert [getattr(result, n) for n in names] == [getattr(twin, n) for n in names]
        assert [r.statistics["shard"] for r in result.receipts] == [
            r.statistics["shard"] for r in twin.receipts
        ]
    tables = [
        snapshot_of(form, metrics, root / name, counted)
        .read()
        .sort_by([(column, "ascending") for column in ("day", "metric", "chain", "store")])
        for name, counted in zip(("at-once", "sharded"), found, strict=True)
    ]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("piece_rows", [20, 1000])
@pytest.mark.parametrize("together", [2, 128])
def test_shards_change_no_bit(tmp_path, monkeypatch, sharded, piece_rows, together):
    monkeypatch.setattr(survey, "PIECE_ROWS", piece_rows)
    monkeypatch.setattr(readings, "MOST_READINGS", together)
    for number in range(3):
        write(tmp_path / "events" / f"{number}.parquet", rows_of(200, number), 20)
    form = event_format(tmp_path / "events")
    found = both(tmp_path, form, METRICS, sharded)
    assert found[0].results[DAY].shards == 16
    assert found[0].results[DAY].shared_ids > 0
    assert_identical(tmp_path, form, METRICS, found)
    paths = (tmp_path / "events").glob("*.parquet")
    assert_same(form, METRICS, found[1], recount(paths, recount_spec(form, METRICS)))


def test_a_large_day_and_a_small_one_of_the_same_pieces(tmp_path, monkeypatch, sharded):
    """A reading sets aside what it finds of one day, and keeps what it finds of the other."""
    late = [row | {"ts": NOON + timedelta(days=1)} for row in rows_of(20, 9, days=1)]
    monkeypatch.setattr(survey, "PIECE_ROWS", 50)
    write(tmp_path / "events" / "a.parquet", rows_of(300, 8, days=1) + late, 40)
    write(tmp_path / "events" / "b.parquet", late + rows_of(100, 7, days=1), 40)
    form = event_format(tmp_path / "events")
    found = both(tmp_path, form, METRICS, sharded)
    assert sorted(result.shards for result in found[1].results.values()) == [2, 16]
    assert_identical(tmp_path, form, METRICS, found)


def test_levels_of_numbers_and_days_without_a_sound_row(tmp_path, sharded):
    rows = [{"chain": 1, "store": k % 9, "x": float(k)} for k in range(90)]
    refused = [
        {"chain": None, "store": 1, "x": 1.0, "ts": NOON + timedelta(days=1)} for _ in range(90)
    ]
    write(tmp_path / "events" / "a.parquet", rows + refused, chain=pa.int32(), store=pa.int64())
    form = event_format(tmp_path / "events")
    found = both(tmp_path, form, VALUE, sharded)
    assert_identical(tmp_path, form, VALUE, found)
    assert [result.units for result in found[1].results.values()] == [9, 0]


# --- event ids ----------------------------------------------------------------------------------


def with_ids(rows: list[dict[str, Any]], ids: list[Any]) -> list[dict[str, Any]]:
    return [row | {"id": one} for row, one in zip(rows, ids, strict=True)]


KINDS: dict[str, Any] = {
    "text": (pa.string(), str),
    "number": (pa.int64(), int),
    "bytes": (pa.binary(16), lambda k: uuid.uuid5(uuid.NAMESPACE_OID, str(k)).bytes),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_counts_once_though_its_copies_are_of_different_shards(
    tmp_path, monkeypatch, sharded, kind
):
    """Copies of an event with another store are in another shard, and copies all the same."""
    monkeypatch.setattr(survey, "PIECE_ROWS", 40)
    arrow, made = KINDS[kind]
    rng = np.random.default_rng(3)
    for number in range(3):
        ids = [made(int(k)) for k in rng.integers(0, 250, 200)]
        write(
            tmp_path / "events" / f"{number}.parquet",
            with_ids(rows_of(200, number), ids),
            20,
            id=arrow,
        )
    form = event_format(tmp_path / "events", event_id=("id",))
    found = both(tmp_path, form, METRICS, sharded)
    assert_identical(tmp_path, form, METRICS, found)
    accounts = found[1].accounts.values()
    assert sum(account.repeated for account in accounts) > 150
    assert sum(account.conflicting for account in accounts) > 100
    paths = (tmp_path / "events").glob("*.parquet")
    assert_same(form, METRICS, found[1], recount(paths, recount_spec(form, METRICS)))


def test_ids_of_different_kinds_are_an_error_of_a_large_day_too(tmp_path, sharded):
    for name, made in (("a", int), ("b", str)):
        ids = [made(k) for k in range(60)]
        write(tmp_path / f"{name}.parquet", with_ids(rows_of(60, 1, days=1), ids))
    sharded(1)
    with pytest.raises(EventsError, match="event id is id string") as caught:
        run_kernel(event_format(tmp_path, event_id=("id",)), VALUE, tmp_path / "lake")
    assert caught.value.where == {"file": str(tmp_path / "b.parquet")}
    assert str(tmp_path / "a.parquet") in str(caught.value)
