"""The posteriors of a page are those of the release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hbpipe.config import Settings
from hbpipe.report.html import stores
from hbpipe.report.html.packing import Pack
from hbpipe.report.html.stores import FLAGS, find_columns, pack_stores, read_posteriors
from hbpipe.report.html.write import collect
from hbpipe.run.history import Release, read_history
from hbpipe.run.releases import read_of
from tests.nights import first_night, lake_of
from tests.released import METRICS, release
from tests.report.packed import unpack

STORES = [("b", "s2"), ("a", "s1"), ("a", "s3"), ("b", "s1"), ("a", "s2")]
POOLS = [("a",), ("b",)]


def test_every_posterior_is_there_rounded(tmp_path: Path) -> None:
    settings, lake, row = release(tmp_path, STORES)
    facts, numbers = collect(settings, lake, row)
    told = facts["stores"]
    chains, ids = (level["names"] for level in told["units"]["levels"])
    codes = [unpack(numbers, level["code"]) for level in told["units"]["levels"]]
    for sheet in told["sheets"]:
        units = unpack(numbers, sheet["unit"])
        table = read_of(lake, row, "posteriors")
        table = table.filter(pc.equal(table["metric"], sheet["metric"]))
        table = table.sort_by([("chain_id", "ascending"), ("store_id", "ascending")])
        assert [chains[codes[0][unit]] for unit in units] == table["chain_id"].to_pylist()
        assert [ids[codes[1][unit]] for unit in units] == table["store_id"].to_pylist()
        assert sheet["pools"] == [0, 3, 5]
        for name, column in {"mean": "mean", "low": "q0.05", "high": "q0.95", "raw": "raw"}.items():
            found = unpack(numbers, sheet["columns"][name])
            expected = table[column].to_numpy().astype(float)
            np.testing.assert_allclose(found, expected, rtol=5.1e-4)
        assert unpack(numbers, sheet["columns"]["n"]).tolist() == table["n"].to_pylist()


def test_columns_of_later_releases_appear_when_they_are_there(tmp_path: Path) -> None:
    extra = {
        "s_value": np.linspace(0.01, 0.5, 5),
        "last_day_q": pa.nulls(5, pa.float64()),
        "outlier": np.array([False, True, False, False, False]),
    }
    settings, lake, row = release(tmp_path, STORES, extra=extra)
    facts, numbers = collect(settings, lake, row)
    columns = facts["stores"]["sheets"][0]["columns"]
    assert "s_value" in columns
    assert "last_day_q" not in columns  # without a single number
    flags = unpack(numbers, columns["flags"])
    bit = 1 << FLAGS.index("outlier")
    assert [bool(one & bit) for one in flags] == [True, False, False, False, False]


def test_where_there_is_no_room_each_chain_keeps_its_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [("a", f"s{k}") for k in range(40)] + [("b", f"t{k}") for k in range(10)]
    _, lake, row = release(tmp_path, many)
    monkeypatch.setattr(stores, "MOST_ROWS", 75)
    columns, pack = find_columns(lake, row), Pack()
    table = read_posteriors(lake, row, columns, list(METRICS))
    told = pack_stores(table, columns, POOLS, pack)
    numbers = pack.text()
    assert told["left_out"] == 75
    for sheet in told["sheets"]:
        assert sheet["pools"] == [0, 20, 25]
        own = table.filter(
            pc.and_(pc.equal(table["metric"], sheet["metric"]), pc.equal(table["chain_id"], "a"))
        )
        largest = np.sort(own["n"].to_numpy())[-20:]
        assert np.sort(unpack(numbers, sheet["columns"]["n"])[:20]).tolist() == largest.tolist()


def test_one_prior_over_all_is_one_chain(tmp_path: Path) -> None:
    settings = first_night(tmp_path, inference={"pool_by": []})
    facts, _ = collect(settings, lake_of(settings), current(settings))
    assert facts["pools"] == ["all"]
    assert facts["stores"]["sheets"][0]["pools"] == [0, 6]


def test_a_nested_group_is_no_store(tmp_path: Path) -> None:
    settings = first_night(tmp_path, inference={"pool_by": [], "nest_by": ["chain_id"]})
    facts, _ = collect(settings, lake_of(settings), current(settings))
    assert facts["stores"]["units"]["count"] == 6
    keys = facts["history"]["keys"]
    assert len({parameter for _, _, parameter in keys}) == len(keys)


def current(settings: Settings) -> Release:
    row = read_history(lake_of(settings)).current(settings.environment)
    assert row is not None
    return row
