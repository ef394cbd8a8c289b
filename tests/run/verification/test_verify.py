"""Verification holds for a lake that is whole, and fails for each way in which it may not be."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.cli import main
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.run.verification.findings import finding
from hbpipe.run.verification.raw import spread
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, visits, write, write_days

METRICS = {
    "conversion": {"family": "beta_binomial", "successes": "converted", "trials": "rows"},
    "basket": {"family": "normal", "value": "amount", "where": [["converted", "==", True]]},
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"},
}
OPTIONS: dict[str, Any] = {"metrics": METRICS, "inference": {"uncertainty": "auto"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_days(folder, 4)
    rows = visits(1, rows=3, seed=2)
    rows[0]["store_id"] = None
    write(folder / "events" / "more.parquet", [*rows, visits(1)[0]])
    night(settings_for(folder, audits={"max_rejected_share": 0.5}, **OPTIONS))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def failed(folder: Path, **options: Any) -> set[str]:
    settings = settings_for(folder, **OPTIONS)
    return {one.name for one in verify(settings, lake_of(settings), **options) if not one.fine}


def tamper(folder: Path, table: str, column: str, change: Any, **partition: str) -> None:
    """Publish a table whose first row has another value, as if a run had written it so."""
    lake = Lake(str(folder / "lake"))
    filters = [(name, "==", day(int(number))) for name, number in partition.items()]
    rows = lake.read(table, filters=filters or None).to_pylist()
    rows[0][column] = change(rows[0][column])
    schema = lake.snapshot(table).schema
    kept = [field for field in schema if field.name not in partition]
    values = pa.Table.from_pylist(rows, schema=schema).select([field.name for field in kept])
    days = {name: str(day(int(number))) for name, number in partition.items()}
    lake.replace(
        table,
        values,
        run_id="tamper",
        partition=days,
        statistics=["shard"] if table == "statistics" else [],
    )


def test_a_whole_lake_passes(whole: Path) -> None:
    assert failed(whole) == set()
    assert failed(whole, full=True) == set()


def test_it_says_what_it_compared(whole: Path) -> None:
    settings = settings_for(whole, **OPTIONS)
    messages = {one.name: one.message for one in verify(settings, lake_of(settings), full=True)}
    assert messages["files"].startswith("164 rows")
    assert messages["days"] == "4 day(s) equal the sum of their files"
    assert messages["recount_rows"] == "162 events of 4 day(s)"
    assert "posteriors rest on 162 events" in messages["posteriors[basket]"]
    assert messages["recount[conversion]"].endswith("statistics are equal")


def test_events_of_statistics_that_were_changed(folder: Path) -> None:
    tamper(folder, "statistics", "n_events", lambda n: n + 1, day="2")
    assert failed(folder) == {"statistics"}
    assert failed(folder, full=True) == {"statistics", "recount_rows"}


@pytest.mark.parametrize("change", [lambda n: n + 1, lambda n: -n])
def test_a_statistic_that_was_changed_is_found_by_a_recount(folder: Path, change: Any) -> None:
    tamper(folder, "statistics", "trials", change, day="2")
    assert failed(folder) == set()
    (name,) = failed(folder, full=True)
    assert name.startswith("recount[")


def test_a_row_of_days_that_was_changed(folder: Path) -> None:
    tamper(folder, "days", "accepted", lambda n: n - 1)
    assert {"days", "statistics"} <= failed(folder)


def test_a_row_of_files_that_was_changed(folder: Path) -> None:
    tamper(folder, "files", "rows", lambda n: n + 1)
    assert failed(folder) == {"files"}


def test_a_row_of_files_that_was_lost(folder: Path) -> None:
    lake = Lake(str(folder / "lake"))
    lake.replace("files", lake.read("files").slice(1), run_id="tamper")
    assert failed(folder) == {"days"}


def test_a_raw_value_that_was_changed_is_found_by_a_recount(folder: Path) -> None:
    rows = visits(2)
    row = next(row for row in rows if row["converted"])
    row["amount"] *= 1.0000001
    write(folder / "events" / f"{day(2)}.parquet", rows)
    assert failed(folder) == set()
    assert failed(folder, full=True) == {"recount[basket]"}


def test_a_raw_row_that_was_lost_is_found_by_a_recount(folder: Path) -> None:
    write(folder / "events" / f"{day(2)}.parquet", visits(2)[1:])
    assert "recount_rows" in failed(folder, full=True)


def damaged(folder: Path, table: str) -> Path:
    lake = Lake(str(folder / "lake"))
    return Path(lake.path(table, lake.files(table)[0].path))


@pytest.mark.parametrize("table", ["posteriors", "statistics", "files", "audits"])
def test_a_byte_that_changed(folder: Path, table: str) -> None:
    path = damaged(folder, table)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert failed(folder) == {"hashes"}


def test_a_file_that_is_missing(folder: Path) -> None:
    damaged(folder, "hyperparameters").unlink()
    assert failed(folder) == {"hashes"}


def test_posteriors_that_rest_on_other_events(folder: Path) -> None:
    lake = Lake(str(folder / "lake"))
    tamper(folder, "posteriors", "n_events", lambda n: n + 1, as_of="3")
    row = lake.read("releases").to_pylist()[0]
    row["versions"] = [
        (name, lake.version(name) if name == "posteriors" else version)
        for name, version in row["versions"]
    ]
    table = pa.Table.from_pylist([row], schema=lake.snapshot("releases").schema)
    lake.replace("releases", table, run_id="tamper")
    (name,) = failed(folder)
    assert name in {f"posteriors[{metric}]" for metric in METRICS}


def test_some_days_or_a_sample_can_be_asked_for(folder: Path) -> None:
    write(folder / "events" / f"{day(2)}.parquet", visits(2)[1:])
    assert failed(folder, full=True, days=(day(0), day(1))) == set()
    assert "recount_rows" in failed(folder, full=True, days=(day(2), day(2)))
    assert failed(folder, full=True, sample=1) == set(), "the first day"
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread([3, 1, 2], None) == spread([3, 1, 2], 9) == [1, 2, 3]


def test_a_day_that_waits_for_input_is_not_a_fault(folder: Path) -> None:
    late = settings_for(
        folder, events={"horizon": "1d"}, audits={"max_rejected_share": 1}, **OPTIONS
    )
    write(folder / "events" / "late.parquet", visits(0, rows=4, seed=6))
    night(late)
    found = {one.name: one for one in verify(late, lake_of(late), full=True)}
    assert all(one.fine for one in found.values())
    assert "1 day(s) wait for input" in found["days"].message


def test_a_lake_without_release_cannot_be_verified(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with pytest.raises(LakeError, match="no release in environment 'prod'"):
        verify(settings, lake_of(settings))


def test_many_faults_are_counted_and_the_first_shown() -> None:
    shown = finding("days", [f"fault {k}" for k in range(5)], "fine")
    assert not shown.fine
    assert shown.message == "fault 0; fault 1; fault 2, and 2 more"


def test_days_of_earlier_settings_are_held_to_those(folder: Path) -> None:
    metrics = {"bought": METRICS["conversion"]}
    settings = settings_for(folder, metrics=metrics, inference={"window": "2d"})
    night(settings)
    found = {one.name: one for one in verify(settings, lake_of(settings), full=True)}
    assert all(one.fine for one in found.values())
    assert found["recount_rows"].message == "80 events of 2 day(s)"


@pytest.mark.parametrize(
    "change",
    [
        {"inference": {"window": "2d"}},
        {"metrics": {**METRICS, "visits": {**METRICS["orders"], "count": "rows"}}},
        {"metrics": {"bought": METRICS["conversion"]}},
        {"events": {"levels": ["store_id"]}, "inference": {"pool_by": []}},
    ],
)
def test_settings_that_no_run_has_used_are_no_fault_of_the_release(
    whole: Path, change: dict[str, Any]
) -> None:
    settings = settings_for(whole, **{**OPTIONS, **change})
    found = {one.name: one for one in verify(settings, lake_of(settings))}
    assert [one.message for one in found.values() if not one.fine] == []
    assert {name for name in found if name.startswith("posteriors[")} == {
        f"posteriors[{metric}]" for metric in METRICS
    }
    assert "rest on 162 events" in found["posteriors[basket]"].message


def test_a_check_of_nothing_fails(whole: Path) -> None:
    settings = settings_for(whole, **OPTIONS)
    never = (date(2030, 1, 1), date(2030, 1, 2))
    found = {one.name: one for one in verify(settings, lake_of(settings), days=never, full=True)}
    assert {name for name, one in found.items() if not one.fine} == {"days", "recount_rows"}
    assert "no day from 2030-01-01 to 2030-01-02 is done" in found["days"].message
    other = settings_for(whole, metrics={"bought": METRICS["conversion"]})
    found = {one.name: one for one in verify(other, lake_of(other), full=True)}
    assert {name for name, one in found.items() if not one.fine} == {"recount_rows"}
    assert "of 4 done day(s), 0 have their raw files" in found["recount_rows"].message


def test_names_of_findings_differ_whatever_metrics_are_called(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    metrics = dict.fromkeys(("rows", "events", "keys", "a", "a_keys"), METRICS["conversion"])
    settings = settings_for(tmp_path, metrics=metrics)
    night(settings)
    names = [one.name for one in verify(settings, lake_of(settings), full=True)]
    assert len(names) == len(set(names)) == 5 + 1 + 3 * len(metrics)


def test_values_far_from_zero_are_compared_with_the_rounding_that_merging_costs(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(4)
    for part in range(3):
        table = pa.table(
            {
                "day": pa.array([date(2026, 1, 1)] * 70),
                "store": ["a"] * 70,
                "amount": 1e9 + rng.normal(0, 1e-3, 70),
            }
        )
        (tmp_path / "events").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "events" / f"{part}.parquet", row_group_size=30)
    config = tmp_path / "far.yaml"
    config.write_text(
        f"""
pipeline: far
events: {{path: {tmp_path / "events"}, day: day, levels: [store]}}
metrics: {{amount: {{family: normal, value: amount}}}}
inference: {{window: 1d}}
lake: {{path: {tmp_path / "lake"}}}
cluster: {{kind: serial}}
"""
    )
    assert main(["run", "--quiet", "--config", str(config)]) == 0
    assert main(["verify", "--full", "--config", str(config)]) == 0
