"""The stages of a night, one by one: what each adds, and what its failure leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hbpipe.config import Settings
from hbpipe.data import units
from hbpipe.errors import EngineError, EventsError, GateError
from hbpipe.run import audits, day_tasks
from hbpipe.run.night import Night, open_night
from hbpipe.run.nightly import finish, run_stage
from hbpipe.run.observe import Silent
from hbpipe.run.releases import current_release, read
from hbpipe.run.stages import STAGES, aggregate, audit, fit, release, update
from tests.nights import (
    BOTH,
    NOW,
    day,
    first_night,
    lake_of,
    night,
    settings_for,
    visits,
    write,
    write_days,
)


@contextmanager
def opened(settings: Settings, **options: Any) -> Iterator[Night]:
    with open_night(settings, now=NOW, **options) as night:
        yield night


def test_the_stages_in_reading_order() -> None:
    assert [stage.__name__ for stage in STAGES] == [
        "aggregate",
        "fit",
        "update",
        "audit",
        "release",
    ]


def test_each_stage_adds_its_part_and_nothing_is_seen_before_the_release(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_for(tmp_path, metrics=BOTH, inference={"uncertainty": "auto"})
    lake = lake_of(settings)
    with opened(settings) as one:
        assert aggregate(one) == {
            "days": 3,
            "rows": 120,
            "accepted": 120,
            "rejected": 0,
            "repeated": 0,
        }
        assert {entry.state for entry in one.days.values()} == {"complete"}
        assert fit(one)["pools"] == 2
        assert set(one.fits) == {"conversion", "basket"}
        assert update(one) == {"units": 6, "posteriors": 12}
        assert one.folded == [], "what workers held for the night is let go"
        assert audit(one)["warnings"] == 0
        assert current_release(lake, "prod") is None
        assert release(one) == {"release": f"{day(2)}.1"}
        assert read(lake, "posteriors").num_rows == 12
        report = finish(one)
    assert report.rows == {"in": 120, "accepted": 120, "rejected": 0, "repeated": 0}


class Recorder(Silent):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.last: dict[str, tuple[int, int]] = {}

    def stage_started(self, stage: str) -> None:
        self.heard.append(("started", stage))

    def progress(self, stage: str, done: int, total: int) -> None:
        self.last[stage] = (done, total)

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        self.heard.append(("finished", stage))


def test_an_observer_hears_every_stage(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    recorder = Recorder()
    night(settings_for(tmp_path), observer=recorder)
    names = [stage.__name__ for stage in STAGES]
    assert recorder.heard == [(word, name) for name in names for word in ("started", "finished")]
    assert recorder.last == {"aggregate": (2, 2), "fit": (1, 1), "update": (1, 1)}


def test_a_stage_that_lost_its_worker_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell such as Prefect tries a stage again; checks are then recorded once."""
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path)
    finish_day, left = day_tasks.finish_day, [1]

    def flaky(*arguments: Any) -> Any:
        if left.pop() if left else 0:
            raise EngineError("the worker is lost")
        return finish_day(*arguments)

    monkeypatch.setattr(day_tasks, "finish_day", flaky)
    with opened(settings) as one:
        with pytest.raises(EngineError, match="lost"):
            run_stage(aggregate, one)
        for stage in (aggregate, aggregate, fit, update, audit, audit, release):
            run_stage(stage, one)
    recorded = read(lake_of(settings), "audits").to_pylist()
    keys = [(row["gate"], row["name"], row["subject"]) for row in recorded]
    assert len(keys) == len(set(keys)) == 2 + 2 * 11 + 23
    assert read(lake_of(settings), "statistics").num_rows == 12


def bad_rows(number: int) -> list[dict[str, Any]]:
    rows = visits(number)
    for row in rows[:20]:
        row["chain_id"] = None
    return rows


def test_a_held_day_blocks_only_the_windows_that_hold_it(tmp_path: Path) -> None:
    write_days(tmp_path, 4)
    write(tmp_path / "events" / f"{day(1)}.parquet", bad_rows(1))
    settings = settings_for(tmp_path, inference={"window": "2d"})
    with pytest.raises(GateError, match=f"rejected_share of {day(1)}.*held: {day(1)}"):
        night(settings, as_of=day(2))
    days = {row["day"]: row["state"] for row in lake_of(settings).read("days").to_pylist()}
    assert days == {day(1): "held", day(2): "complete"}, "the other day is done"
    assert night(settings, as_of=day(3)).release == f"{day(3)}.1"
    held = lake_of(settings).read("files").to_pylist()
    pending = {row["path"]: row["pending"] for row in held}
    assert pending[f"{day(1)}.parquet"] == 40, "nothing of a held day is accounted for"


def test_a_failed_release_gate_leaves_readers_on_the_old_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = first_night(tmp_path, 2)
    write_days(tmp_path, 1, first=2)
    check = audits.Check("release", "posteriors_finite", "conversion", "fail", 1, 0, "one is not")
    monkeypatch.setattr(audits, "check_posteriors", lambda *_: [check])
    with pytest.raises(GateError, match=r"posteriors_finite of conversion: one is not"):
        night(settings)
    lake = lake_of(settings)
    current = current_release(lake, "prod")
    assert current is not None
    assert current["as_of"] == day(1)
    assert set(read(lake, "posteriors")["as_of"].to_pylist()) == {day(1)}
    failed = [row for row in lake.read("audits").to_pylist() if row["status"] == "fail"]
    assert [(row["name"], row["as_of"]) for row in failed] == [("posteriors_finite", day(2))]
    monkeypatch.undo()
    report = night(settings)
    assert report.release == f"{day(2)}.1"
    assert report.days == [], "the statistics of the night before are kept"


def test_an_interval_without_width_is_not_released(tmp_path: Path) -> None:
    """The baskets of all stores come from one distribution: plug_in is then certain of it."""
    write_days(tmp_path, 2)
    with pytest.raises(GateError, match=r"intervals_open of basket.*have no width.*use auto"):
        night(settings_for(tmp_path, metrics=BOTH))
    assert night(settings_for(tmp_path, metrics=BOTH, inference={"uncertainty": "auto"})).release


def stores_table(tmp_path: Path, rows: list[tuple[str, str]]) -> dict[str, Any]:
    names = ["chain_id", "store_id"]
    write(tmp_path / "stores.parquet", [dict(zip(names, row, strict=True)) for row in rows])
    return {"path": str(tmp_path / "stores.parquet")}


def test_a_store_of_the_table_without_events_gets_its_chains_prior(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    listed = stores_table(tmp_path, [("near", "s0"), ("near", "quiet")])
    settings = settings_for(tmp_path, stores=listed)
    night(settings)
    rows = {row["store_id"]: row for row in read(lake_of(settings), "posteriors").to_pylist()}
    assert len(rows) == 7
    assert rows["quiet"]["silent"]
    assert rows["quiet"]["raw"] is None
    assert rows["quiet"]["mean"] == rows["quiet"]["prior_mean"]


def test_a_new_table_of_stores_makes_a_new_release(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    night(settings_for(tmp_path, stores=stores_table(tmp_path, [("near", "s0")])))
    settings = settings_for(tmp_path, stores=stores_table(tmp_path, [("near", "quiet")]))
    assert night(settings).release == f"{day(1)}.2"


def test_ids_reused_in_the_table_of_stores(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    listed = stores_table(tmp_path, [("near", "x"), ("far", "x")])
    with pytest.raises(EventsError, match=r"1 store id\(s\).*within_parent"):
        night(settings_for(tmp_path, stores=listed, events={"unit_ids": "unique"}))
    settings = settings_for(tmp_path, stores=listed)
    night(settings)
    rows = read(lake_of(settings), "posteriors").to_pylist()
    assert {row["chain_id"] for row in rows if row["store_id"] == "x"} == {"near", "far"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"chain_id": "near"}], "has no column 'store_id'"),
        ([{"chain_id": "near", "store_id": 7}], "int64.*expected: string"),
        ([{"chain_id": None, "store_id": "x"}, {"chain_id": "a", "store_id": "y"}], "1 nulls"),
        ([{"chain_id": "near", "store_id": "x"}] * 2, "listed twice"),
    ],
)
def test_a_table_of_stores_that_cannot_be_used(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    write_days(tmp_path, 1)
    write(tmp_path / "stores.parquet", rows)
    with pytest.raises(EventsError, match=message):
        night(settings_for(tmp_path, stores={"path": str(tmp_path / "stores.parquet")}))


def test_one_prior_over_all_stores(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path, inference={"pool_by": []})
    night(settings)
    fits = read(lake_of(settings), "fits")
    assert fits["pool"].to_pylist() == ["all"]
    assert fits["n_groups"].to_pylist() == [6]
    assert "chain_id" not in fits.column_names


def test_every_fit_tells_its_story(tmp_path: Path) -> None:
    settings = first_night(tmp_path, 2)
    for row in read(lake_of(settings), "fits").to_pylist():
        assert row["log_marginal_likelihood"] >= row["start_log_marginal_likelihood"]
        complete, none = row["log_likelihood_complete_pooling"], row["log_likelihood_no_pooling"]
        assert complete - 1e-9 <= row["log_marginal_likelihood"] <= none + 1e-9
        assert len(row["start_values"]) == row["starts"] >= 1
        assert max(row["start_values"]) == pytest.approx(row["log_marginal_likelihood"])
        assert row["starts_agree"] is True
        if row["status"] == "ok":
            assert 0 < row["smallest_eigenvalue"] <= row["largest_eigenvalue"] < 3


def test_drift_is_measured_from_the_day_before(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_for(tmp_path)
    night(settings, as_of=day(1))
    assert read(lake_of(settings), "fits")["drift"].null_count == 2
    night(settings, as_of=day(2))
    first = read(lake_of(settings), "fits")["drift"].to_pylist()
    assert all(value >= -1e-9 for value in first)
    again = settings_for(tmp_path, inference={"quantiles": [0.25, 0.75]})
    assert night(again).release == f"{day(2)}.2"
    assert read(lake_of(again), "fits")["drift"].to_pylist() == first


def test_the_shards_of_a_window_hold_every_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(tmp_path, 3)
    whole = settings_for(tmp_path, lake={"path": str(tmp_path / "whole")})
    night(whole)
    monkeypatch.setattr(units, "SHARD_ROWS", 10)
    cut = settings_for(tmp_path, stores=stores_table(tmp_path, [("near", "s0")]))
    night(cut)
    days = lake_of(cut).read("days")
    assert set(days["shards"].to_pylist()) == {4}
    assert len(lake_of(cut).files("posteriors")) == 4
    columns = ["store_id", "n", "raw", "mean"]
    one, other = (read(lake_of(s), "posteriors", columns=columns) for s in (whole, cut))
    by_store = [("store_id", "ascending")]
    assert one.sort_by(by_store)["n"].equals(other.sort_by(by_store)["n"])
    assert (
        pa.compute.max(
            pa.compute.abs(
                pa.compute.subtract(one.sort_by(by_store)["mean"], other.sort_by(by_store)["mean"])
            )
        ).as_py()
        < 1e-9
    )


def test_settings_that_change_leave_columns_of_the_old_ones_null(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    auto = {"uncertainty": "auto"}
    before = settings_for(tmp_path, metrics=BOTH, inference=auto)
    night(before)
    metrics = {"orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"}}
    inference = auto | {"quantiles": [0.25, 0.75], "pool_by": []}
    after = settings_for(tmp_path, metrics=metrics, inference=inference)
    report = night(after)
    assert report.release == f"{day(1)}.2"
    assert {"q0.25", "q0.75"} <= report.most_shrunk[0].keys()
    assert "q0.05" not in report.most_shrunk[0]
    posteriors = read(lake_of(after), "posteriors")
    assert set(posteriors["metric"].to_pylist()) == {"orders"}
    assert posteriors["q0.05"].null_count == posteriors.num_rows == 6
    assert posteriors["q0.25"].null_count == 0
    statistics = read(lake_of(after), "statistics")
    orders = statistics.filter(pc.equal(statistics["metric"], "orders"))
    assert orders["trials"].null_count == orders.num_rows
    assert read(lake_of(after), "posteriors", release=f"{day(1)}.1").num_rows == 12
    assert night(before).release == f"{day(1)}.3"
