"""The checks of the models on a night: what readers find, what stops a release, who is named."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.cli import main
from hbpipe.config import Settings
from hbpipe.errors import ConfigError, GateError
from hbpipe.run.audits import AcceptRequest, Finding, check_models, read_acceptances
from hbpipe.run.forget import forget
from hbpipe.run.inference import findings
from hbpipe.run.releases import read
from tests.nights import BASKET, CONVERSION, FIRST, NOW, lake_of, night, settings_for, write_config

ORDERS = {"family": "gamma_poisson", "count": "converted", "exposure": "days"}
METRICS: dict[str, Any] = {**CONVERSION, "basket": BASKET, "orders": ORDERS}
STORES, DAYS, VISITS = 160, 3, 12
OF_STORES = {"pit", "prior_shape", "calibration", "outliers", "next_day"}


def deliver(folder: Path, rates: np.ndarray, days: int = DAYS) -> None:
    """Write the visits of some days: two chains, every store with about a dozen a day."""
    rng = np.random.default_rng(21)
    (folder / "events").mkdir(parents=True)
    theta = rng.normal(3.0, 0.3, STORES)
    for day in range(days):
        store = np.repeat(np.arange(STORES), rng.integers(VISITS // 2, 2 * VISITS, STORES))
        start = datetime.combine(FIRST, datetime.min.time()) + timedelta(days=day)
        table = {
            "event_id": [f"{day}/{k}" for k in range(len(store))],
            "ts": [start + timedelta(minutes=k % 1440) for k in range(len(store))],
            "chain_id": np.where(store % 2 == 0, "even", "odd"),
            "store_id": [f"store-{k:03d}" for k in store],
            "converted": rng.random(len(store)) < rates[store],
            "amount": np.exp(rng.normal(theta[store], 0.5)),
        }
        pq.write_table(pa.table(table), folder / "events" / f"{day}.parquet")


def settings_of(folder: Path, metrics: Any = METRICS, **audits: Any) -> Settings:
    return settings_for(
        folder, metrics=metrics, inference={"uncertainty": "auto"}, audits=audits or {}
    )


def rows_by(folder: Path, *names: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = read(str(folder / "lake"), "diagnostics").to_pylist()
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    deliver(folder, np.random.default_rng(22).beta(6.0, 14.0, STORES))
    night(settings_of(folder), as_of=FIRST + timedelta(days=1))
    night(settings_of(folder))
    return folder


def test_every_check_has_a_row_by_pool_and_one_of_all(sound: Path) -> None:
    found = rows_by(sound, "metric", "pool", "check")
    for metric in METRICS:
        for check in (*OF_STORES, "size_dependence", "drift"):
            assert (metric, "even", check) in found
            if check != "drift":
                assert (metric, None, check) in found
    assert {row["run_id"] for row in found.values()} == {
        row["run_id"] for row in read(str(sound / "lake"), "fits").to_pylist()
    }


def test_a_sound_model_is_left_alone(sound: Path) -> None:
    for row in rows_by(sound, "metric", "pool", "check").values():
        one_size = row["metric"] == "orders" and row["check"] == "calibration"
        assert row["status"] == ("not_applicable" if one_size else "ok"), row
        assert row["message"]
        if row["check"] in OF_STORES and not one_size:
            assert row["n_groups"] > 0
        if row["threshold"] is not None:
            assert np.isfinite([row["value"], row["threshold"]]).all()


def test_values_are_what_the_table_says(sound: Path) -> None:
    found = rows_by(sound, "metric", "pool", "check")
    for metric in METRICS:
        heights = found[metric, "odd", "pit"]["values"]
        assert len(heights) == 10
        assert np.mean(heights) == pytest.approx(1.0)
        if metric != "orders":  # whose stores were all there for as many days
            assert 1 < len(found[metric, "odd", "calibration"]["values"]) <= 10
        partial, none, complete = found[metric, None, "next_day"]["values"]
        assert partial > max(none, complete)


def test_audits_repeat_the_worst_row(sound: Path) -> None:
    audits = read(str(sound / "lake"), "audits").to_pylist()
    found = {(row["name"], row["subject"]): row["status"] for row in audits}
    for metric in METRICS:
        # What is not applicable, of units of one size, is no audit.
        expected = OF_STORES - {"calibration"} if metric == "orders" else OF_STORES
        assert {name for name, of in found if of == metric and name in OF_STORES} == expected
        assert {found[check, metric] for check in expected} == {"pass"}


def test_the_command_line_reads_it(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(sound, metrics=METRICS)
    assert main(["read", "diagnostics", "--config", str(config)]) == 0
    assert "prior_shape" in capsys.readouterr().out


def two_kinds() -> np.ndarray:
    """Stores of 5 % and of 60 %, none in between."""
    return np.random.default_rng(23).permutation(np.repeat([0.05, 0.6], STORES // 2))


def test_a_misfit_warns_and_the_release_is_there(tmp_path: Path) -> None:
    deliver(tmp_path, two_kinds())
    night(settings_of(tmp_path, CONVERSION))
    found = rows_by(tmp_path, "pool", "check")
    assert found[None, "prior_shape"]["status"] == "warn"
    assert "lighter tails" in found[None, "prior_shape"]["message"]
    audits = read(str(tmp_path / "lake"), "audits").to_pylist()
    assert {row["status"] for row in audits if row["name"] == "prior_shape"} == {"warn"}


def test_it_stops_the_release_where_asked_and_a_person_may_accept(tmp_path: Path) -> None:
    deliver(tmp_path, two_kinds())
    settings = settings_of(tmp_path, CONVERSION, stop_on=["prior_shape"])
    with pytest.raises(GateError, match="prior_shape of conversion"):
        night(settings)
    lake = lake_of(settings)
    assert lake.read("releases").num_rows == 0
    assert lake.read("diagnostics").num_rows == 0
    night(settings, accept=AcceptRequest.of("prior_shape", "two formats, known"))
    assert [key.check for key in read_acceptances(lake)] == ["prior_shape"]
    assert rows_by(tmp_path, "pool", "check")[None, "prior_shape"]["status"] == "fail"


def test_checks_that_stop_are_known_by_name(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValueError), match="no check of the model"):
        settings_of(tmp_path, stop_on=["prior_shap"])


def test_an_outlying_store_is_named_and_can_be_forgotten(tmp_path: Path) -> None:
    rates = np.random.default_rng(24).beta(60.0, 140.0, STORES)
    rates[42] = 0.97
    deliver(tmp_path, rates)
    settings = settings_of(tmp_path, CONVERSION)
    night(settings)
    row = rows_by(tmp_path, "pool", "check")["even", "outliers"]
    assert "store-042" in row["message"]
    assert row["value"] == pytest.approx(1 / 80)
    found = forget(settings, "store-042", reason="asked to", now=NOW)
    assert not found.traces
    assert "store-042" not in rows_by(tmp_path, "pool", "check")["even", "outliers"]["message"]


def test_rows_that_stand_twice_are_never_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, np.full(STORES, 0.3), days=1)
    settings, once = settings_of(tmp_path, CONVERSION), findings.find_drift
    monkeypatch.setattr(findings, "find_drift", lambda *of: [*once(*of), *once(*of)])
    with pytest.raises(GateError, match="diagnostics_keys of conversion: 1 rows"):
        night(settings)
    assert lake_of(settings).read("releases").num_rows == 0


def test_the_worst_row_is_the_audit() -> None:
    rows = [
        Finding("pit", 0, "ok", "fine", 3.0, 10.0),
        Finding("pit", 1, "warn", "not fine", 30.0, 10.0),
        Finding("pit", None, "ok", "all", 5.0, 10.0),
        Finding("next_day", None, "not_applicable", "none"),
    ]
    (check,) = check_models({"conversion": rows})
    assert (check.name, check.subject, check.status, check.message) == (
        "pit",
        "conversion",
        "warn",
        "not fine",
    )
