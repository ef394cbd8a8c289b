"""A new user's odd data through the command line: nothing is lost, and every refusal says why."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hbpipe.cli import main
from hbpipe.data.lake import Lake
from hbpipe.run.releases import read

#: Stores of each banner; numbers are reused by the second banner, and 900 has one event only.
BANNERS = {
    "nord": [1, 2, 3, 4, 900],
    "sud": [1, 2, 3],
    "solo": [77],
    "zero": [50, 51],
    "all": [60, 61],
}
FIRST, EMPTY, LAST = date(2026, 3, 27), date(2026, 3, 30), date(2026, 4, 1)


def bought(rng: np.random.Generator, banner: str) -> int:
    if banner in ("zero", "all"):
        return 0 if banner == "zero" else 1
    return int(rng.random() < 0.3)


def lines(day: date, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Till lines of a day: text times with the offset of the season, prices with holes."""
    offset = "+01:00" if day < date(2026, 3, 29) else "+02:00"
    return [
        {
            "Filiale": store,
            "Banner": banner,
            "Zeit": f"{day}T{rng.integers(9, 20):02d}:{rng.integers(0, 60):02d}:00{offset}",
            "Bon": f"{day}-{banner}-{store}-{k}",
            "gekauft": bought(rng, banner),
            "betrag": None if k % 5 == 4 else float(np.round(rng.lognormal(2.0, 0.5), 2)),
        }
        for banner, stores in BANNERS.items()
        for store in stores
        if store != 900 or day == FIRST
        for k in range(1 if store == 900 else 12)
    ]


METRICS = {
    "kauf": {"family": "beta_binomial", "successes": "gekauft", "trials": "rows"},
    "bon": {"family": "normal", "value": "betrag", "transform": "log"},
    "kunden": {"family": "gamma_poisson", "count": "gekauft", "exposure": "days"},
}


def deliver(folder: Path) -> Path:
    """Write the events, the table of stores and the settings; return the settings."""
    rng = np.random.default_rng(5)
    day, rows = FIRST, []
    while day <= LAST:
        rows = [] if day == EMPTY else lines(day, rng)
        if day == FIRST:
            rows[0]["betrag"] = float("nan")
            rows[1]["betrag"] = -4.0
            rows[2]["Banner"] = None
            rows[3]["Zeit"] = "gestern"
            rows[4]["Zeit"] = None
            rows[5]["gekauft"] = -1
            rows.append(rows[6])
        if rows:
            write(folder / "till" / f"{day}.parquet", rows)
        day += timedelta(days=1)
    stores = [{"Filiale": s, "Banner": b} for b, many in BANNERS.items() for s in many]
    write(folder / "stores.parquet", [*stores, {"Filiale": 5, "Banner": "nord"}])
    return settings(folder)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def settings(folder: Path, **events: Any) -> Path:
    path = folder / "shop.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "pipeline": "shop",
                "events": {
                    "path": str(folder / "till"),
                    "time": "Zeit",
                    "timezone": "Europe/Berlin",
                    "levels": ["Banner", "Filiale"],
                    "event_id": "Bon",
                    **events,
                },
                "stores": {"path": str(folder / "stores.parquet")},
                "metrics": METRICS,
                "inference": {"window": "all"},
                "lake": {"path": str(folder / "lake")},
                "cluster": {"kind": "serial"},
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    config = deliver(folder)
    assert main(["run", "--config", str(config), "--quiet"]) == 0
    return folder


def posteriors(folder: Path, metric: str) -> dict[tuple[str, int], dict[str, Any]]:
    rows = read(folder / "lake", "posteriors").to_pylist()
    return {(row["Banner"], row["Filiale"]): row for row in rows if row["metric"] == metric}


def test_every_row_is_somewhere(shop: Path) -> None:
    files = read(shop / "lake", "files").to_pylist()
    rows = sum(pq.read_metadata(path).num_rows for path in (shop / "till").iterdir())
    assert sum(entry["rows"] for entry in files) == rows
    totals = {name: sum(e[name] for e in files) for name in ("accepted", "rejected", "repeated")}
    assert totals == {"accepted": rows - 4, "rejected": 3, "repeated": 1}


def test_quarantine_names_the_place_the_value_and_what_to_do(shop: Path) -> None:
    rows = read(shop / "lake", "quarantine").to_pylist()
    assert {row["file"] for row in rows} == {f"{FIRST}.parquet"}
    found = {(row["row"], row["metric"], row["column"], row["value"]): row for row in rows}
    assert {key: row["reason"] for key, row in found.items()} == {
        (0, "bon", "betrag", "nan"): "not a number",
        (1, "bon", "betrag", "-4.0"): "logarithm of a value not above zero",
        (2, "", "Banner", "null"): "missing level",
        (3, "", "Zeit", "gestern"): "unreadable time",
        (4, "", "Zeit", "null"): "missing time",
        (5, "kauf", "gekauft", "-1"): "negative",
        (5, "kunden", "gekauft", "-1"): "negative",
    }
    assert all(row["row_group"] == 0 and row["remedy"] for row in rows)


def test_nulls_are_skipped_and_counted(shop: Path) -> None:
    days = {row["day"]: row for row in read(shop / "lake", "days").to_pylist()}
    split = {one["metric"]: one for one in days[LAST]["metrics"]}
    accepted = days[LAST]["accepted"]
    assert split["bon"]["skipped"] > 0
    assert split["bon"]["used"] + split["bon"]["skipped"] == accepted
    assert split["kauf"]["used"] == accepted


def test_a_day_without_events_is_empty_and_done(shop: Path) -> None:
    days = {row["day"]: row["state"] for row in read(shop / "lake", "days").to_pylist()}
    assert days.pop(EMPTY) == "empty"
    assert set(days.values()) == {"complete"}


def test_numbers_used_by_two_banners_are_two_stores(shop: Path) -> None:
    found = posteriors(shop, "kauf")
    assert ("nord", 1) in found
    assert ("sud", 1) in found
    assert found["nord", 1]["raw"] != found["sud", 1]["raw"]


def test_a_store_without_events_keeps_its_chains_prior(shop: Path) -> None:
    new = {
        (row["metric"], row["pool"]): row for row in read(shop / "lake", "new_stores").to_pylist()
    }
    for metric in ("kauf", "bon"):
        silent, prior = posteriors(shop, metric)["nord", 5], new[metric, "nord"]
        assert silent["silent"] is True
        assert (silent["n"], silent["raw"], silent["weight"]) == (0, None, 0.0)
        for name in ("mean", "sd", "q0.05", "q0.5", "q0.95"):
            assert silent[name] == pytest.approx(prior[name], rel=1e-9), (metric, name)


def test_a_store_with_one_event_leans_on_its_chain(shop: Path) -> None:
    one = posteriors(shop, "kauf")["nord", 900]
    assert one["n"] == 1
    assert one["raw"] in (0.0, 1.0)
    assert 0 < one["weight"] < 0.5
    assert abs(one["mean"] - one["prior_mean"]) < abs(one["raw"] - one["prior_mean"]) / 2


def test_chains_of_zeros_of_ones_and_of_one_store_have_a_named_status(shop: Path) -> None:
    status = {
        (row["metric"], row["pool"]): row["status"]
        for row in read(shop / "lake", "fits").to_pylist()
    }
    assert all(status.values())
    assert status["kauf", "nord"] != status["kauf", "solo"]
    assert status["kunden", "zero"] != "ok"
    for metric in METRICS:
        for row in posteriors(shop, metric).values():
            if row["method"] == "unidentified":
                assert row["mean"] is None
                continue
            assert row["sd"] > 0, row
            assert row["q0.05"] < row["q0.95"], row


def test_verify_recounts_all_of_it(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--config", str(shop / "shop.yaml"), "--full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fine"] is True


def test_the_report_can_be_read(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(shop / "shop.yaml"), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "Nothing to do" in text
    assert "nord" in text
    assert "nan" not in text


def test_a_store_that_moves_belongs_to_its_latest_chain(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for k, banner in enumerate(["nord", "nord", "sud"]):
        rows = [
            row
            for row in lines(FIRST + timedelta(days=k), rng)
            if row["Banner"] in ("nord", "sud") and row["Filiale"] in (1, 2, 3)
        ]
        for row in rows:
            row["Filiale"] += 10 if row["Banner"] == "sud" else 0
            if row["Filiale"] == 1:
                row["Banner"] = banner
        write(tmp_path / "till" / f"{k}.parquet", rows)
    config = settings(tmp_path)
    assert main(["run", "--config", str(config), "--set", "stores.path=null", "--quiet"]) == 0
    found = posteriors(tmp_path, "kauf")
    assert Counter(store for _, store in found)[1] == 1
    assert found["sud", 1]["n"] == 36, "its history moves with it"


def test_a_corrected_file_replaces_what_it_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deliver(tmp_path)
    assert main(["run", "--config", str(config), "--quiet"]) == 0
    before = posteriors(tmp_path, "kauf")["sud", 2]["n"]
    path = tmp_path / "till" / f"{LAST}.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = [row for row in rows if (row["Banner"], row["Filiale"]) != ("sud", 2)]
    write(path, kept)
    capsys.readouterr()
    assert main(["plan", "--config", str(config), "--json"]) == 10
    (due,) = json.loads(capsys.readouterr().out)["days"]
    assert due["day"] == str(LAST)
    assert main(["run", "--config", str(config), "--quiet"]) == 0
    assert posteriors(tmp_path, "kauf")["sud", 2]["n"] == before - 12
    assert main(["verify", "--config", str(config), "--full"]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([*arguments])
    return code, capsys.readouterr().err


def test_a_missing_column_is_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deliver(tmp_path)
    rows = [{**row, "Betrag": row["betrag"]} for row in lines(LAST, np.random.default_rng(1))]
    for row in rows:
        del row["betrag"]
    write(tmp_path / "till" / "new.parquet", rows)
    code, message = refused(capsys, "run", "--config", str(config), "--quiet")
    assert code == 1
    for part in ("'betrag' is missing", "'Betrag'", "new.parquet", "what to do"):
        assert part in message


def test_an_unreadable_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = deliver(tmp_path)
    whole = (tmp_path / "till" / f"{LAST}.parquet").read_bytes()
    (tmp_path / "till" / "half.parquet").write_bytes(whole[: len(whole) // 2])
    code, message = refused(capsys, "run", "--config", str(config), "--quiet")
    assert code == 1
    for part in ("not readable as Parquet", "half.parquet", "deliver the file again"):
        assert part in message


def test_an_unknown_key_is_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, timezon="Europe/Berlin")
    code, message = refused(capsys, "run", "--config", str(config))
    assert code == 2
    assert "timezon" in message
    assert "'timezone'" in message


def test_a_mistyped_column_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = deliver(tmp_path)
    rows = [{**row, "betrag": "12,50"} for row in lines(LAST, np.random.default_rng(1))]
    write(tmp_path / "till" / "text.parquet", rows)
    code, message = refused(capsys, "run", "--config", str(config), "--quiet")
    assert code == 1
    assert "'betrag' is string" in message
    assert "text.parquet" in message


def test_too_many_bad_rows_hold_the_day_and_readers_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deliver(tmp_path)
    assert main(["run", "--config", str(config), "--quiet"]) == 0
    following = LAST + timedelta(days=1)
    rows = lines(following, np.random.default_rng(9))
    for row in rows[: len(rows) // 2]:
        row["Filiale"] = None
    write(tmp_path / "till" / f"{following}.parquet", rows)
    code, message = refused(capsys, "run", "--config", str(config), "--quiet")
    assert code == 3
    for part in ("rejected_share", str(following), "quarantine", "old release"):
        assert part in message
    assert main(["status", "--config", str(config), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["release"]["as_of"] == str(LAST)
    assert status["held"] == {str(following): "rejected_share"}
    write(tmp_path / "till" / f"{following}.parquet", lines(following, np.random.default_rng(9)))
    assert main(["run", "--config", str(config), "--quiet"]) == 0


def test_rows_without_a_day_stop_the_run_and_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = deliver(tmp_path)
    rows = lines(LAST, np.random.default_rng(9))
    for row in rows:
        row["Zeit"] = "01.04.2026 12:00"
    write(tmp_path / "till" / "german.parquet", rows)
    code, message = refused(capsys, "run", "--config", str(config), "--quiet")
    assert code == 3
    assert "no valid business day" in message
    examples = Lake(str(tmp_path / "lake")).read("quarantine").to_pylist()
    german = [row for row in examples if row["file"] == "german.parquet"]
    assert {row["value"] for row in german} == {"01.04.2026 12:00"}
    assert "ISO 8601" in german[0]["remedy"]
