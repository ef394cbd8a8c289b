"""Nights that read rolled-up months publish what they would publish from days alone."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.report.night import NightReport
from hbpipe.run import commits
from hbpipe.run.backfill import backfill
from hbpipe.run.forget import forget
from hbpipe.run.nightly import run_night
from hbpipe.run.releases import read, releases
from hbpipe.run.restate import restate
from hbpipe.run.retention import maintain
from hbpipe.run.traces import Unit, find_traces
from hbpipe.run.verification.verify import verify
from tests.nights import CONVERSION, lake_of, rows_of, settings_for, visits, write

NOW = datetime(2026, 4, 20, 3, tzinfo=UTC)
METRICS = {
    **CONVERSION,
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"},
}
RESULTS = ("hyperparameters", "fits", "diagnostics", "posteriors", "new_stores")
#: The days with events: every third of ten weeks, the first and the last included.
DAYS = range(0, 70, 3)
LAST = date(2026, 1, 1) + timedelta(days=DAYS[-1])  # 11 March
JANUARY, FEBRUARY = "2026-01-01", "2026-02-01"


def settings_of(folder: Path, window: str = "all", **sections: Any) -> Settings:
    inference = {"window": window, "uncertainty": "first_order"}
    return settings_for(folder, metrics=METRICS, inference=inference, **sections)


def night(settings: Settings, **options: Any) -> NightReport:
    return run_night(settings, now=NOW, **options)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One night over all days: January and February are rolled up."""
    folder = tmp_path_factory.mktemp("nights")
    for number in DAYS:
        write(folder / "events" / f"{number:02}.parquet", visits(number))
    night(settings_of(folder))
    return folder


@pytest.fixture
def folder(nights: Path, tmp_path: Path) -> Path:
    return copied(nights, tmp_path / "mine")


def copied(nights: Path, folder: Path) -> Path:
    shutil.copytree(nights, folder)
    return folder


def without_months(folder: Path) -> Path:
    """A twin whose lake has no months, as one of an older version."""
    twin = copied(folder, folder.with_name("twin"))
    shutil.rmtree(twin / "lake" / "months")
    return twin


def made(lake: Lake) -> dict[str, str]:
    """What each month was made from, by its partition."""
    rows = lake.read("months", columns=["month", "made_from"])
    found = rows.group_by(["month", "made_from"]).aggregate([]).to_pylist()
    assert len({row["month"] for row in found}) == len(found)
    return {row["month"].isoformat(): row["made_from"] for row in found}


def results(folder: Path) -> dict[str, list[str]]:
    return {table: rows_of(read(folder / "lake", table)) for table in RESULTS}


def assert_fine(folder: Path, **options: Any) -> dict[str, str]:
    settings = settings_of(folder)
    found = verify(settings, lake_of(settings), **options)
    assert [str(one) for one in found if not one.fine] == []
    return {one.name: one.message for one in found}


def test_a_night_rolls_up_the_months_of_which_no_late_file_is_looked_for(folder: Path) -> None:
    settings = settings_of(folder)
    assert set(made(lake_of(settings))) == {JANUARY, FEBRUARY}
    assert_fine(folder)
    other = folder.with_name("other")
    (other / "events").mkdir(parents=True)
    for number in DAYS[:15]:  # to 12 February
        shutil.copy(folder / "events" / f"{number:02}.parquet", other / "events")
    settings = settings_of(other, window="7d")
    night(settings, as_of=date(2026, 2, 6))
    assert lake_of(settings).read("months").num_rows == 0, "late files of January may still come"
    backfill(settings, start=date(2026, 2, 9), end=date(2026, 2, 12), now=NOW)
    assert set(made(lake_of(settings))) == {JANUARY}


def test_no_release_names_a_month(folder: Path) -> None:
    settings = settings_of(folder)
    for row in releases(lake_of(settings), "prod"):
        assert "months" not in dict(row["versions"])
    with pytest.raises(LakeError, match="no table 'months'"):
        read(folder / "lake", "months")


@pytest.mark.parametrize("window", ["all", "45d", "7d"])
def test_the_next_night_is_that_of_a_lake_without_months(folder: Path, window: str) -> None:
    twin = without_months(folder)
    for one in (folder, twin):
        write(one / "events" / "next.parquet", visits(70))
    before = made(lake_of(settings_of(folder)))
    for one in (folder, twin):
        assert night(settings_of(one, window)).as_of == "2026-03-12"
    assert results(folder) == results(twin)
    assert made(lake_of(settings_of(folder))) == before
    kept = set(made(lake_of(settings_of(twin))))
    assert kept == {"all": {JANUARY, FEBRUARY}, "45d": {FEBRUARY}, "7d": set(before)}[window]


def test_a_night_reads_no_day_of_a_month_that_is_rolled_up(folder: Path) -> None:
    write(folder / "events" / "next.parquet", visits(70))
    for path in (folder / "lake" / "statistics").glob("day=2026-01-*/*"):
        path.write_bytes(b"")
    night(settings_of(folder))


def test_late_rows_make_the_month_anew(folder: Path) -> None:
    twin = without_months(folder)
    before = made(lake_of(settings_of(folder)))
    for one in (folder, twin):
        write(one / "events" / "late.parquet", visits(6, seed=3))
        report = night(settings_of(one), full_scan=True)
        assert [day["day"] for day in report.days] == ["2026-01-07"]
    after = made(lake_of(settings_of(folder)))
    assert after[FEBRUARY] == before[FEBRUARY]
    assert after[JANUARY] != before[JANUARY]
    assert results(folder) == results(twin)
    assert_fine(folder, full=True)


def test_a_restated_day_and_another_metric_make_months_anew(folder: Path) -> None:
    settings = settings_of(folder)
    lake = lake_of(settings)
    before = made(lake)
    restate(settings, start=date(2026, 2, 3), end=date(2026, 2, 3), reason="to see", now=NOW)
    after = made(lake)
    assert [month for month in before if after[month] != before[month]] == [FEBRUARY]
    basket = {"basket": {"family": "normal", "value": "amount", "transform": "log"}}
    sections: dict[str, Any] = {"inference": {"window": "all", "uncertainty": "first_order"}}
    more = settings_for(folder, metrics={**METRICS, **basket}, **sections)
    night(more)
    assert set(lake.read("months")["metric"].to_pylist()) == {*METRICS, "basket"}
    assert all(made(lake)[month] != after[month] for month in after)


def test_a_month_before_the_window_tells_units_whatever_its_metrics(folder: Path) -> None:
    """The days of January were made for other metrics, and are not made again."""
    twin = without_months(folder)
    found = []
    for one in (folder, twin):
        other = {"orders": {**METRICS["orders"], "where": [["amount", ">", 0]]}}
        sections: dict[str, Any] = {"inference": {"window": "28d", "uncertainty": "first_order"}}
        settings = settings_for(one, metrics=other, **sections)
        night(settings)
        found.append(rows_of(read(one / "lake", "posteriors")))
    assert found[0] == found[1]
    lake = lake_of(settings_of(twin))
    assert set(made(lake)) == {JANUARY}
    assert lake.read("months")["count"].null_count == lake.read("months").num_rows


def test_a_night_cut_off_while_it_rolls_up_is_done_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = without_months(folder)
    shown = results(twin)
    write(twin / "events" / "next.parquet", visits(70))

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "commit_months", dies)
        with pytest.raises(KeyboardInterrupt):
            night(settings_of(twin))
    assert results(twin) == shown
    assert lake_of(settings_of(twin)).read("months").num_rows == 0
    night(settings_of(twin))
    assert set(made(lake_of(settings_of(twin)))) == {JANUARY, FEBRUARY}
    assert_fine(twin, full=True)


def test_a_forgotten_store_leaves_its_months(folder: Path) -> None:
    settings = settings_of(folder)
    lake, unit = lake_of(settings), Unit({"store_id": "s4"})
    traces = list(find_traces(lake, unit))
    assert any(trace.startswith("months/") for trace in traces)
    report = forget(settings, "s4", reason="asked on Monday")
    assert report.rows["months"] == 2 * len(METRICS)
    assert list(find_traces(lake, unit)) == []
    assert "s4" not in lake.read("months")["store_id"].to_pylist()
    told = assert_fine(folder, full=True)
    assert told["months_folded"].startswith("0 of 2 month(s)"), "its days are others now"
    twin = without_months(folder)
    for one in (folder, twin):
        write(one / "events" / "next.parquet", visits(70))
        night(settings_of(one))
    assert results(folder) == results(twin)
    assert assert_fine(folder, full=True)["months_folded"].startswith("2 of 2 month(s)")
    assert list(find_traces(lake, unit)) == []


def test_months_go_with_their_first_day(folder: Path) -> None:
    sections: dict[str, Any] = {
        "inference": {"window": "7d", "uncertainty": "first_order"},
        "stores": {"keep_silent": "50d"},
    }
    settings = settings_for(folder, retention={"statistics": "60d"}, **sections)
    night(settings)
    later = datetime(2026, 3, 20, 12, tzinfo=UTC)  # 19 January is the first day that stays
    found = maintain(settings, now=later)
    gone = {one.table: one.partitions for one in found.expired}
    assert gone["months"] == (JANUARY,)
    assert gone["statistics"][-1] == "2026-01-16"
    lake = lake_of(settings)
    assert set(made(lake)) == {FEBRUARY}
    write(folder / "events" / "next.parquet", visits(70))
    twin = without_months(folder)
    for one in (folder, twin):
        night(settings_for(one, retention={"statistics": "60d"}, **sections))
    assert results(folder) == results(twin)
    assert set(made(lake)) == {FEBRUARY}, "what is left of January is read by day"


def test_verify_finds_a_month_that_is_not_that_of_its_days(folder: Path) -> None:
    settings = settings_of(folder)
    lake = lake_of(settings)
    (file,) = lake.files("months", partitions=[{"month": JANUARY}])
    rows = lake.read("months", filters=[("month", "==", date(2026, 1, 1))]).drop_columns(["month"])
    place = rows.column_names.index("successes")
    more = pc.add(rows["successes"], 1)
    lake.replace(
        "months",
        rows.set_column(place, "successes", more.cast(pa.int64())),
        run_id="another",
        partition={"month": JANUARY},
        statistics=tuple(file.statistics),
    )
    days = (date(2026, 1, 4), date(2026, 1, 4))
    faults = [one for one in verify(settings, lake, days=days) if not one.fine]
    assert [one.name for one in faults] == ["months_folded"]
    assert "2026-01: successes is not that of its days" in faults[0].message
    path = folder / "lake" / "months" / lake.files("months")[-1].path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [one.name for one in verify(settings, lake) if not one.fine] == ["months"]
