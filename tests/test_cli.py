"""Each verb through ``main``: what it prints, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from hbpipe.cli import main
from hbpipe.commands import nights
from hbpipe.run.attempt import Attempt
from hbpipe.run.lease import Lease
from tests.nights import (
    day,
    first_night,
    lake_of,
    settings_for,
    visits,
    write,
    write_config,
    write_days,
)
from tests.verbs import Verb, verbs_of


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_days(tmp_path, 3)
    return write_config(tmp_path)


@pytest.fixture
def hbpipe(config: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb on the three days; gives exit code, standard output and standard error."""
    return verbs_of(config, capsys)


@pytest.fixture
def done(config: Path) -> None:
    """The three days have been run."""
    first_night(config.parent, 3)


def the_object(printed: str) -> Any:
    """Parse standard output that must be one JSON object on one line, without NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert printed.count("\n") == 1
    return json.loads(printed, parse_constant=refuse)


def test_plan_lists_the_days_and_exits_with_ten(hbpipe: Verb) -> None:
    code, printed, _ = hbpipe("plan", "--json")
    found = the_object(printed)
    assert code == 10
    assert [one["day"] for one in found["days"]] == [str(day(k)) for k in range(3)]
    assert all(one["reason"] == "missing" for one in found["days"])
    assert [one["files"] for one in found["days"]] == [[f"{day(k)}.parquet"] for k in range(3)]
    code, printed, _ = hbpipe("plan")
    assert code == 10
    assert f"{day(1)}" in printed
    assert "missing" in printed


def test_run_publishes_and_a_second_has_nothing_to_do(hbpipe: Verb) -> None:
    code, printed, error = hbpipe("run", "--json")
    first = the_object(printed)
    assert code == 0
    assert error == ""
    assert first["release"] == f"{day(2)}.1"
    assert first["as_of"] == str(day(2))
    assert first["rows"] == {"in": 120, "accepted": 120, "rejected": 0, "repeated": 0}
    assert {"posteriors", "statistics", "files", "days", "releases"} <= set(first["tables"])
    assert all(Path(path).is_dir() for path in first["tables"].values())
    code, printed, _ = hbpipe("run", "--json")
    again = the_object(printed)
    assert code == 0
    assert again["release"] == first["release"]
    assert again["run_id"] != first["run_id"]
    assert again["days"] == []
    assert "up to date" in again["reason"]
    assert hbpipe("plan")[0] == 0


def test_run_in_words(hbpipe: Verb) -> None:
    code, printed, error = hbpipe("run", "--as-of", str(day(1)))
    assert code == 0
    assert f"Release {day(1)}.1 (prod), as of {day(1)}" in printed
    assert "Rows: in 80, accepted 80" in printed
    assert "aggregate: days 2" in error, "a log gets one line a stage"
    assert hbpipe("run", "--quiet")[2] == ""


def test_the_line_of_the_report_reads_the_posteriors(hbpipe: Verb, root: Path) -> None:
    line = next(one for one in hbpipe("run")[1].splitlines() if "duckdb.sql" in one)
    code = line.strip().removeprefix(".venv/bin/python -c ").strip('"')
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "5 rows" in done.stdout


def test_status(hbpipe: Verb) -> None:
    assert "no release yet" in hbpipe("status")[1]
    hbpipe("run")
    code, printed, _ = hbpipe("status", "--json")
    found = the_object(printed)
    assert code == 0
    assert found["release"]["release"] == f"{day(2)}.1"
    assert found["days"] == {"complete": 3}
    assert found["rows"] == {"accepted": 120, "rejected": 0, "repeated": 0, "pending": 0}
    assert f"release {day(2)}.1" in hbpipe("status")[1]


def test_status_shows_the_last_runs(hbpipe: Verb, config: Path) -> None:
    run_ids = [the_object(hbpipe("run", "--json")[1])["run_id"] for _ in range(2)]
    assert hbpipe("run", "--as-of", "2027-01-01")[0] == 5
    shown = the_object(hbpipe("status", "--json")[1])["runs"]
    assert [(run["attempt"], run["state"]) for run in shown] == [
        (3, "failed"),
        (2, "nothing"),
        (1, "done"),
    ]
    assert [run["run_id"] for run in shown[1:]] == run_ids[::-1]
    assert set(shown[2]["seconds"]) == {"aggregate", "fit", "update", "audit", "release"}
    assert "plan" not in shown[2]
    text = hbpipe("status")[1]
    assert f"run {run_ids[0]} (attempt 1): night of {day(2)}, done" in text
    assert "(attempt 3): night, failed: " in text
    Attempt(
        lake_of(settings_for(config.parent)), run_id="now", kind="night", environment="prod"
    ).record()
    assert f"running, pid {os.getpid()} on" in hbpipe("status")[1]


def test_a_plan_that_was_written_is_run_as_it_is(hbpipe: Verb, config: Path) -> None:
    path = config.parent / "plan.json"
    code, printed, _ = hbpipe("plan", "--out", str(path))
    assert code == 10
    assert "Costs: 120 rows, 3 KiB" in printed
    assert f"Publishes: {day(2)}.1 in prod, with conversion" in printed
    assert json.loads(path.read_text()) == the_object(hbpipe("plan", "--json")[1])
    write_days(config.parent, 1, first=3)
    code, printed, _ = hbpipe("run", "--plan", str(path), "--json")
    found = the_object(printed)
    assert code == 0
    assert (found["as_of"], found["rows"]["in"]) == (str(day(2)), 120)
    code, printed, _ = hbpipe("run", "--plan", str(path), "--json")
    assert (code, the_object(printed)["published"]) == (0, False)
    assert " s by the runs before" in hbpipe("plan")[1]
    code, printed, _ = hbpipe("run", "--retry", found["run_id"], "--json")
    assert (code, the_object(printed)["as_of"]) == (0, str(day(2)))
    write(config.parent / "events" / f"{day(1)}.parquet", visits(1, seed=3))
    code, _, error = hbpipe("run", "--plan", str(path))
    assert code == 1
    assert "a file of the plan has other content" in error
    assert "plan again" in error


def test_a_plan_names_the_older_releases_that_become_stale(hbpipe: Verb, config: Path) -> None:
    hbpipe("run", "--as-of", str(day(1)))
    hbpipe("run")
    write(config.parent / "events" / "late.parquet", visits(0, rows=3, seed=5))
    assert f"Older releases become stale: {day(1)}\n" in hbpipe("plan")[1]


@pytest.mark.usefixtures("done")
def test_verify(hbpipe: Verb, config: Path) -> None:
    code, printed, _ = hbpipe("verify", "--full", "--json")
    found = the_object(printed)
    assert code == 0
    assert found["fine"] is True
    assert {"hashes", "files", "days", "recount_rows"} <= {o["name"] for o in found["findings"]}
    write(config.parent / "events" / f"{day(1)}.parquet", visits(1)[1:])
    assert hbpipe("verify")[0] == 0
    code, printed, _ = hbpipe("verify", "--full", "--days", f"{day(1)}..{day(2)}")
    assert code == 3
    assert "FAIL  recount_rows" in printed
    code, printed, _ = hbpipe("verify", "--days", "2030-01-01")
    assert code == 3
    assert "FAIL  days: nothing was checked" in printed


def test_doctor(hbpipe: Verb) -> None:
    code, printed, _ = hbpipe("doctor", "--json")
    assert code == 0
    assert all(one["fine"] for one in the_object(printed)["findings"])
    code, printed, _ = hbpipe("doctor", "--set", "events.path=nowhere")
    assert code == 1
    assert "FAIL  events" in printed


def test_config_shows_values_and_where_they_come_from(hbpipe: Verb, config: Path) -> None:
    code, printed, _ = hbpipe("config", "--json", "--set", "inference.window=3d")
    found = the_object(printed)
    assert code == 0
    assert found["inference.window"]["origin"].startswith("--set")
    assert found["pipeline"] == {"value": "tiny", "origin": str(config)}
    assert "inference.window" in hbpipe("config")[1]


def test_what_config_shows_can_be_set_again(hbpipe: Verb) -> None:
    options = ["--set", "inference.window=all", "--set", 'events.day_start="02:30"']
    options += ["--set", "stores.keep_silent=90d"]
    shown = the_object(hbpipe("config", "--json", *options)[1])
    values = {key: one["value"] for key, one in shown.items()}
    assert values["inference.window"] == "all"
    assert values["events.day_start"] == "02:30"
    assert values["events.horizon"] == "7d"
    typed = [part for key, v in values.items() for part in ("--set", f"{key}={json.dumps(v)}")]
    again = the_object(hbpipe("config", "--json", *typed)[1])
    assert {key: one["value"] for key, one in again.items()} == values


def test_the_schema_needs_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)
    assert main(["config", "--keys"]) == 0
    assert "| `inference.window` |" in capsys.readouterr().out
    assert main(["config"]) == 2
    assert "--config FILE" in capsys.readouterr().err


@pytest.mark.usefixtures("done")
def test_read(hbpipe: Verb, tmp_path: Path) -> None:
    code, printed, _ = hbpipe(
        "read", "--json", "--where", "store_id=s1", "--columns", "store_id,n,mean"
    )
    found = the_object(printed)
    assert code == 0
    assert [set(row) for row in found["rows"]] == [{"store_id", "n", "mean"}]
    assert found["rows"][0]["store_id"] == "s1"
    assert len(the_object(hbpipe("read", "files", "--json", "--limit", "2")[1])["rows"]) == 2
    assert "store_id" in hbpipe("read")[1]
    out = str(tmp_path / "out" / "posteriors.parquet")
    code, printed, _ = hbpipe("read", "--out", out, "--json")
    assert the_object(printed) == {"table": "posteriors", "count": 6, "out": out}
    assert pq.read_table(out).num_rows == 6
    assert hbpipe("read", "--out", str(tmp_path / "p.csv"))[0] == 0
    assert pyarrow.csv.read_csv(tmp_path / "p.csv").num_rows == 6


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("table", ["files", "days", "releases"])
def test_nested_columns_are_json_text_in_csv(hbpipe: Verb, tmp_path: Path, table: str) -> None:
    rows = the_object(hbpipe("read", table, "--json")[1])["rows"]
    out = tmp_path / "out" / "table.csv"
    assert hbpipe("read", table, "--out", str(out))[0] == 0
    assert [path.name for path in out.parent.iterdir()] == ["table.csv"]
    written = pyarrow.csv.read_csv(
        out, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
    ).to_pylist()
    nested = [name for name, value in rows[0].items() if isinstance(value, list)]
    assert nested
    for name in nested:
        assert [json.loads(row[name]) for row in written] == [row[name] for row in rows]


@pytest.mark.usefixtures("done")
def test_a_table_that_cannot_be_written_leaves_the_old_file(
    hbpipe: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def fail(path: str, schema: pyarrow.Schema) -> Iterator[None]:
        Path(path).write_text("half a ta")
        raise pyarrow.ArrowInvalid("a type that has no text")
        yield

    out = tmp_path / "out" / "p.csv"
    hbpipe("read", "--out", str(out))
    before = out.read_bytes()
    monkeypatch.setattr(pyarrow.csv, "CSVWriter", fail)
    code, _, error = hbpipe("read", "--out", str(out))
    assert code == 1
    assert "a type that has no text" in error
    assert [path.name for path in out.parent.iterdir()] == ["p.csv"]
    assert out.read_bytes() == before


@pytest.mark.parametrize("verb", ["run", "read", "verify"])
@pytest.mark.parametrize("place", ["tiny.yaml", "tiny.yaml/lake", "/proc/x"])
def test_a_lake_where_none_can_be_is_an_error_that_says_so(
    hbpipe: Verb, config: Path, verb: str, place: str
) -> None:
    lake = f"lake.path={config.parent / place}"
    code, printed, _ = hbpipe(verb, "--json", "--set", lake)
    error = the_object(printed)["error"]
    assert code == 1
    assert error["kind"] == "LakeError"
    assert error["remedy"]


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("read", "posterior"), 1, "has no table 'posterior'"),
        (("read", "--columns", "stor_id"), 2, "did you mean 'store_id'"),
        (("read", "--where", "store_id"), 2, "COLUMN=VALUE"),
        (("read", "files", "--where", "days=1"), 2, "holds lists"),
        (("read", "--release", "2020-01-01.1"), 1, "no release '2020-01-01.1'"),
        (("read", "--out", "x.xlsx"), 1, ".parquet, .csv, .arrow"),
        (("export", "--out", "x.xlsx"), 1, ".parquet, .csv, .arrow, .nc"),
        (("export", "fits", "--out", "x.nc"), 2, "arrays are made of whole posteriors"),
        (("export", "--columns", "stor_id", "--out", "x.csv"), 2, "did you mean 'store_id'"),
        (("explain", "no such store"), 1, "no store 'no such store'"),
        (("verify", "--days", "yesterday"), 2, "2026-01-01..2026-01-31"),
        (("verify", "--days", "2026-01-08..2026-01-05"), 2, "ends before it begins"),
        (("read", "--out", "tiny.yaml/x.csv"), 1, "check that the path exists"),
        (("run", "--set", "inference.windw=3d"), 2, "did you mean 'window'"),
        (("run", "--set", "lake.path"), 2, "section.key=value"),
        (("run", "--env", "nowhere"), 2, "nowhere.yaml"),
        (("run", "--as-of", "2027-01-01"), 5, "2027-01-01"),
        (("run", "--retry", "never"), 1, "there is no run 'never'"),
        (("run", "--plan", "missing.json"), 1, "check that the path exists"),
        (("run", "--plan", "tiny.yaml"), 2, "not the document of a plan"),
        (("run", "--plan", "x.json", "--as-of", "2026-01-01"), 2, "--as-of beside a plan"),
        (("run", "--retry", "x", "--full-scan"), 2, "--full-scan beside a plan"),
    ],
)
def test_errors_have_their_exit_code_and_say_what_to_do(
    hbpipe: Verb,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, printed, error = hbpipe(*arguments)
    assert (found, printed) == (code, "")
    assert message in error
    found, printed, _ = hbpipe(*arguments, "--json")
    assert found == code
    assert set(the_object(printed)["error"]) == {"kind", "found", "where", "expected", "remedy"}


def test_a_failed_gate_exits_with_three(hbpipe: Verb, config: Path) -> None:
    rows = visits(2)
    for row in rows[:20]:
        row["store_id"] = None
    write(config.parent / "events" / f"{day(2)}.parquet", rows)
    code, _, error = hbpipe("run", "--quiet")
    assert code == 3
    assert "20 of 40 rows rejected" in error


def test_a_held_lease_exits_with_four_and_names_the_holder(hbpipe: Verb, config: Path) -> None:
    with Lease(lake_of(settings_for(config.parent))).acquire(run_id="other-run"):
        code, _, error = hbpipe("run", "--quiet")
        assert hbpipe("plan")[0] == 10, "a plan needs no lease"
    assert code == 4
    assert "other-run" in error
    assert str(os.getpid()) in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["walk"],
        [],
        ["run", "--as-of", "soon"],
        ["verify", "--config", "x.yaml", "--sample", "0"],
        ["verify", "--config", "x.yaml", "--sample", "-3"],
        ["read", "--config", "x.yaml", "--limit", "-2"],
        ["read", "--config", "x.yaml", "--limit", "few"],
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: hbpipe" in capsys.readouterr().err


def test_simulated_events_run_with_the_suggested_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--days", "3", "--chains", "2", "--stores", "10", "--events-per-day", "300"]
    first = ["--first-day", str(day(0))]
    assert main(["simulate", str(tmp_path / "sim"), *first, *sizes, "--json"]) == 0
    written = the_object(capsys.readouterr().out)
    assert written["files"] == 3
    assert main(["suggest", written["events"], "--json"]) == 0
    suggested = the_object(capsys.readouterr().out)["config"]
    config = tmp_path / "suggested.yaml"
    config.write_text(suggested)
    settings = yaml.safe_load(suggested)
    assert settings["events"]["path"] == written["events"]
    here = ["--set", f"lake.path={tmp_path / 'lake'}", "--set", "cluster.kind=serial"]
    assert main(["run", "--config", str(config), *here, "--json"]) == 0
    assert the_object(capsys.readouterr().out)["rows"]["in"] == written["rows"]


def test_an_interrupted_run_says_so(hbpipe: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt  # as Ctrl-C does; where a shell ignores that, a signal would not

    monkeypatch.setattr(nights, "run_night", interrupted)
    code, _, error = hbpipe("run", "--quiet")
    assert code == 130
    assert "the next run takes up what is missing" in error
