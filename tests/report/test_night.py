"""The report of a night: in words, as Markdown, as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hbpipe.report.night import NightReport, rows_by_term, whole_pools
from hbpipe.report.status import describe_status, status_text
from hbpipe.report.tables import cell, markdown_table, text_table
from tests.nights import day, lake_of, night, settings_for, visits, write, write_days


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_days(folder, 2)
    rows = visits(2)
    for row in rows:
        row["chain_id"] = f"[{row['chain_id']}]"
    write(folder / "events" / "odd.parquet", [*rows, {**rows[0], "event_id": None}])
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> NightReport:
    return night(settings_for(folder, inference={"uncertainty": "auto"}))


def test_it_says_what_was_done(report: NightReport) -> None:
    text = report.text()
    assert f"Release {day(2)}.1 (prod), as of {day(2)}" in text
    assert f"Processed 3 day(s): {day(0)} to {day(2)}." in text
    assert "Rows: in 121, accepted 120, rejected 1, repeated 0." in text
    assert "hbpipe.read(" in text


def test_names_with_brackets_are_shown_and_not_obeyed(report: NightReport) -> None:
    assert "[near]" in report.text()
    assert "[near]" in report.markdown()


def test_hyperparameters_are_one_record_per_metric_and_pool(report: NightReport) -> None:
    records = report.hyperparameters()
    assert sorted((one["metric"], one["pool"]) for one in records) == [
        ("conversion", pool)
        for pool in ("[far]", "[near]")  # where the stores have moved
    ]
    for one in records:
        assert one["alpha"] > 0
        assert one["beta"] > 0
        assert one["status"]


def test_the_most_shrunk_stores_come_first(report: NightReport) -> None:
    moves = [abs(row["raw"] - row["mean"]) for row in report.most_shrunk]
    assert 0 < len(moves) <= 10
    assert all(move >= 0 for move in moves)
    assert set(report.most_shrunk[0]) == {
        "metric",
        "chain_id",
        "store_id",
        "n",
        "raw",
        "mean",
        "q0.05",
        "q0.95",
        "weight",
    }


def test_it_is_json(report: NightReport) -> None:
    found = json.loads(json.dumps(report.to_dict()))
    assert {"release", "as_of", "run_id", "rows", "tables", "days"} <= found.keys()


def test_notes_are_shown(report: NightReport) -> None:
    told = replace(
        report, notes=["a file vanished"], days=[], published=False, reason="all is done"
    )
    assert "Note: a file vanished" in told.text()
    assert "Nothing to do: all is done." in told.markdown()


def test_status(folder: Path, report: NightReport) -> None:
    found = describe_status(lake_of(settings_for(folder)), settings_for(folder))
    assert found["release"]["release"] == report.release
    assert found["rows"] == {"accepted": 120, "rejected": 1, "repeated": 0, "pending": 0}
    text = status_text(found)
    assert "days: complete 3" in text
    held = status_text(found | {"held": {"2026-01-09": "rejected_share"}})
    assert "held 2026-01-09: rejected_share" in held


def test_cells() -> None:
    assert [cell(value) for value in (None, 1, 0.123456789, "x", True)] == [
        "",
        "1",
        "0.12346",
        "x",
        "True",
    ]


def test_text_tables_align() -> None:
    rows = [{"name": "a", "n": 5}, {"name": "long", "n": 12345}]
    assert text_table(rows).splitlines() == ["name      n", "a         5", "long  12345"]
    assert text_table([]) == "(no rows)"


def test_markdown_tables_escape_bars() -> None:
    assert markdown_table([{"a|b": "c|d"}]).splitlines()[-1] == "| c\\|d |"
    assert markdown_table([]) == "None."


def test_a_release_without_a_day_to_process_says_why(report: NightReport) -> None:
    text = replace(report, days=[], published=True, reason="settings changed").text()
    assert "No day to process; published because settings changed." in text
    assert "Nothing to do" not in text


def test_hyperparameters_of_several_terms_are_a_row_for_each() -> None:
    record = {"pool": "all", "mu[one]": 1.0, "mu[log_price]": 2.0, "Sigma[one,log_price]": 3.0}
    record |= {"sigma": 4.0, "tau[one]": 5.0, "tau[log_price]": 6.0, "stores": 7}
    assert rows_by_term(record) == [
        {"pool": "all", "term": "one", "mu": 1.0, "tau": 5.0, "sigma": 4.0, "stores": 7},
        {"pool": "all", "term": "log_price", "mu": 2.0, "tau": 6.0, "sigma": 4.0, "stores": 7},
    ]
    plain = {"pool": "all", "mu": 1.0, "stores": 7}
    assert rows_by_term(plain) == [plain]


def test_what_a_report_leaves_out_is_counted_in_pools_and_not_in_rows(report: NightReport) -> None:
    def pool(name: str) -> dict[str, object]:
        record: dict[str, object] = {"metric": "demand", "pool": name}
        return record | {f"mu[{term}]": 1.0 for term in ("one", "price", "week")}

    text = replace(report, pools=[pool(f"chain {number}") for number in range(7)]).text()
    # Three rows a pool: a fourth pool would not fit whole.
    assert "chain 2" in text
    assert "chain 3" not in text
    assert "… and 4 pools more" in text
    assert "more, in the table" not in replace(report, pools=[pool("all")]).text()
    assert whole_pools([[{}] * 40, [{}]]) == ([{}] * 40, 1)
