"""What moved between two releases, against a comparison row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError
from hbpipe.report.diff import describe_diff, diff_text
from hbpipe.report.plain import to_json
from hbpipe.run import diff as module
from hbpipe.run.diff import MetricDiff, diff, made_from, totals
from hbpipe.run.history import Release, read_history
from hbpipe.run.releases import read_of
from tests.nights import BASKET, BOTH, day, lake_of, night, settings_for, visits, write, write_days


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two nights: s0 is seen on the first days only, s9 on the last, and s1 does much better."""
    folder = tmp_path_factory.mktemp("diff")
    settings = settings_for(folder, metrics=BOTH, inference={"window": "2d", "uncertainty": "auto"})
    write_days(folder, 2)
    night(settings)
    of_s1 = [row for row in visits(2, rows=80, seed=4) if row["store_id"] == "s1"]
    better = [{**row, "converted": True} for row in of_s1]
    others = [row for row in visits(2) if row["store_id"] != "s0"]
    fresh = [{**row, "store_id": "s9", "event_id": f"new {row['event_id']}"} for row in of_s1]
    write(folder / "events" / f"{day(2)}.parquet", [*others, *better, *fresh])
    write(folder / "events" / f"{day(3)}.parquet", [r for r in visits(3) if r["store_id"] != "s0"])
    night(settings)
    return settings


@pytest.fixture(scope="module")
def lake(settings: Settings) -> Lake:
    return lake_of(settings)


@pytest.fixture(scope="module")
def pair(lake: Lake) -> tuple[Release, Release]:
    a, b = read_history(lake).of("prod")
    return a, b


def one(lake: Lake, pair: tuple[Release, Release], **options: Any) -> MetricDiff:
    (found,) = diff(lake, *pair, metric="conversion", **options)
    return found


def expected_moves(lake: Lake, pair: tuple[Release, Release]) -> dict[str, float]:
    """Store to its move in root-mean-square sds, row by row."""
    a, b = (
        {
            row["store_id"]: row
            for row in read_of(lake, release, "posteriors").to_pylist()
            if row["metric"] == "conversion"
        }
        for release in pair
    )
    return {
        store: (b[store]["mean"] - a[store]["mean"])
        / np.sqrt((a[store]["sd"] ** 2 + b[store]["sd"] ** 2) / 2)
        for store in a.keys() & b.keys()
    }


def test_stores_that_moved(lake: Lake, pair: tuple[Release, Release]) -> None:
    expected = expected_moves(lake, pair)
    found = one(lake, pair)
    beyond = {store: move for store, move in expected.items() if abs(move) > 1}
    assert 0 < len(beyond) < len(expected) == found.compared
    assert found.moved == len(beyond)
    assert {row["store_id"]: row["moved"] for row in found.stores} == pytest.approx(beyond)
    sizes = [abs(row["moved"]) for row in found.stores]
    assert sizes == sorted(sizes, reverse=True)
    assert "s1" in beyond
    assert found.largest == pytest.approx(max(sizes))
    assert set(found.stores[0]) == {
        "chain_id", "store_id", "level", "term", "n_a", "n_b", "mean_a", "mean_b", "sd_a", "sd_b",
        "moved",
    }  # fmt: skip


def test_the_other_way_round_it_is_the_same_with_another_sign(
    lake: Lake, pair: tuple[Release, Release]
) -> None:
    there, back = one(lake, pair, threshold=0.1), one(lake, pair[::-1], threshold=0.1)
    assert {row["store_id"]: row["moved"] for row in there.stores} == pytest.approx(
        {row["store_id"]: -row["moved"] for row in back.stores}
    )
    assert (there.new, there.vanished) == (back.vanished, back.new)


def test_new_and_vanished_stores(lake: Lake, pair: tuple[Release, Release]) -> None:
    for found in diff(lake, *pair):
        assert (found.new, found.vanished) == (1, 1)
        assert [row["store_id"] for row in found.new_stores] == ["s9"]
        assert [row["store_id"] for row in found.vanished_stores] == ["s0"]


def test_a_release_does_not_differ_from_itself(lake: Lake, pair: tuple[Release, Release]) -> None:
    same = one(lake, (pair[0], pair[0]))
    assert (same.moved, same.largest, same.new, same.vanished) == (0, 0.0, 0, 0)
    assert all(row["drift"] == 0 for row in same.hyperparameters)
    assert same.pools == []
    assert made_from(pair[0], pair[0]) == []


def test_hyperparameters_stand_side_by_side(lake: Lake, pair: tuple[Release, Release]) -> None:
    a, b = (
        {
            (row["pool"], row["parameter"]): (row["value"], row["sd"])
            for row in read_of(lake, release, "hyperparameters").to_pylist()
            if row["metric"] == "conversion"
        }
        for release in pair
    )
    found = one(lake, pair).hyperparameters
    assert {(row["pool"], row["parameter"]) for row in found} == a.keys() & b.keys()
    for row in found:
        key = row["pool"], row["parameter"]
        assert (row["value_a"], row["sd_a"]) == a[key]
        assert (row["value_b"], row["sd_b"]) == b[key]
    drifts = [abs(row["drift"]) for row in found if row["drift"] is not None]
    assert drifts == sorted(drifts, reverse=True)


def test_totals_and_what_releases_are_made_from(pair: tuple[Release, Release]) -> None:
    rows = {row["total"]: row for row in totals(*pair)}
    assert rows["rows"]["change"] == pair[1]["rows"] - pair[0]["rows"] != 0
    assert rows["days"] == {"total": "days", "a": 2, "b": 2, "change": 0}
    assert made_from(*pair) == ["input"]


def test_lists_have_a_limit_and_counts_none(lake: Lake, pair: tuple[Release, Release]) -> None:
    found = one(lake, pair, threshold=1e-6, limit=2)
    assert len(found.stores) == 2 < found.moved
    assert len(found.hyperparameters) == 2
    assert one(lake, pair, limit=0).new_stores == []


def test_a_metric_that_neither_has_is_answered_with_the_nearest(
    lake: Lake, pair: tuple[Release, Release]
) -> None:
    with pytest.raises(ConfigError, match="'conversions'; did you mean 'conversion'"):
        list(diff(lake, *pair, metric="conversions"))


def test_it_is_told_in_words_and_as_json(lake: Lake, pair: tuple[Release, Release]) -> None:
    found = describe_diff(*pair, list(diff(lake, *pair)), threshold=1.0)
    assert json.loads(to_json(found))["metrics"][1]["metric"] == "conversion"
    text = diff_text(found)
    assert f"a: {day(1)}.1 as of {day(1)}" in text
    assert "Not made from the same: input" in text
    assert "conversion: 2 of 5 posteriors moved by more than 1 posterior sds" in text
    assert "1 new and 1 vanished stores" in text


def rows(**columns: Any) -> pa.Table:
    kinds = {"mean": pa.float64(), "sd": pa.float64()}
    return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})


def test_moves_where_something_is_missing_or_certain() -> None:
    a = rows(mean=[1.0, 1.0, 1.0, None, 1.0, 1.0], sd=[3.0, None, 0.0, 1.0, 0.0, None])
    b = rows(mean=[6.0, 3.0, 1.0, 1.0, 2.0, 2.0], sd=[4.0, 2.0, 0.0, 1.0, 0.0, None])
    found = module._in_sds(a, b, "mean")
    np.testing.assert_allclose(found, [5 / np.sqrt(12.5), np.nan, 0, np.nan, np.inf, np.nan])


def test_pools_that_changed_status() -> None:
    def fits(*pools: tuple[str, str, str, str]) -> pa.Table:
        names = ("pool", "status", "method", "at_bound")
        kept = [dict(zip(names, pool, strict=True)) for pool in pools]
        return pa.Table.from_pylist([{"chain_id": row["pool"], **row} for row in kept])

    a = fits(
        ("near", "ok", "integrated", ""), ("far", "ok", "integrated", ""), ("old", "ok", "", "")
    )
    b = fits(
        ("far", "ok", "integrated", "tau"),
        ("near", "ok", "integrated", ""),
        ("new", "one_store", "", ""),
    )
    found = {row["pool"]: row for row in module._pools(a, b)}
    assert set(found) == {"far", "old", "new"}
    assert (found["far"]["at_bound_a"], found["far"]["at_bound_b"]) == ("", "tau")
    assert (found["old"]["status_a"], found["old"]["status_b"]) == ("ok", None)
    assert (found["new"]["status_a"], found["new"]["status_b"]) == (None, "one_store")


def test_groups_and_terms_are_compared_as_what_they_are(tmp_path: Path) -> None:
    """Rows of nested groups have null below their level; a store of two terms is one store."""
    write_days(tmp_path, 3)
    nested = settings_for(
        tmp_path,
        metrics={"basket": BASKET},
        inference={"pool_by": [], "nest_by": ["chain_id"], "uncertainty": "auto"},
    )
    night(nested, as_of=day(1))
    night(nested, as_of=day(2))
    lake = lake_of(nested)
    a, b = read_history(lake).of("prod")
    (found,) = diff(lake, a, b, threshold=1e-9)
    groups = [row for row in found.stores if row["level"] == "chain_id"]
    assert {row["chain_id"] for row in groups} == {"near", "far"}
    assert {row["store_id"] for row in groups} == {None}
    assert found.compared == 6 + 2
    assert (found.new, found.vanished) == (0, 0)
