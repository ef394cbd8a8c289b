"""`hbpipe audit` on real lakes: what agrees, what is caught, what is refused, what is recorded."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hbpipe.cli import main
from hbpipe.model.fit import fit_pools
from hbpipe.run.attempt import open_run
from hbpipe.run.full_bayes.choice import ChosenPool, choose_stores
from hbpipe.run.releases import current_release
from tests.golden_cases import rats
from tests.nights import (
    BASKET,
    CONVERSION,
    FIRST,
    day,
    first_night,
    lake_of,
    visits,
    write,
    write_config,
)
from tests.nights import night as run

METRICS = {
    **CONVERSION,
    "basket": BASKET,
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"},
}
INTEGRATED = {"window": "7d", "uncertainty": "integrated"}


def command(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """Run a verb and return what it says as JSON."""
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def rat_events() -> list[dict[str, Any]]:
    """One row for each rat of the 71 experiments, all on one day."""
    start, statistics = datetime.combine(FIRST, datetime.min.time()), rats()
    return [
        {
            "event_id": f"{j}/{k}",
            "ts": start + timedelta(minutes=k),
            "chain_id": "F344",
            "store_id": f"{j:02}",
            "converted": bool(k < y),
            "amount": 1.0,
        }
        for j, (y, n) in enumerate(zip(statistics["successes"], statistics["trials"], strict=True))
        for k in range(n)
    ]


def rat_lake(folder: Path, **sections: Any) -> str:
    """Write the rats, and settings under the hyperprior of the known answers."""
    write(folder / "events" / "rats.parquet", rat_events())
    tumours = {"conversion": {**CONVERSION["conversion"], "hyperprior": "bda3"}}
    options = {"metrics": tumours, "inference": {"window": "7d", "uncertainty": "auto"}}
    return str(write_config(folder, **(options | sections)))


def test_rats_agree_and_the_audit_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", rat_lake(tmp_path))
    released = command(capsys, "run", *config)
    found = command(capsys, "audit", *config)
    assert (found["release"], found["failed"], found["recorded"]) == (released["release"], 0, True)
    assert [check["name"] for check in found["checks"]] == [
        "mean_moved",
        "sd_ratio",
        "interval_overlap",
    ]
    assert {check["subject"] for check in found["checks"]} == {"conversion, F344"}
    assert "71 of 71 stores; quadrature" in found["checks"][0]["message"]

    rows = command(capsys, "audit", *config, "--checks", "--run", found["run_id"])["checks"]
    assert {(row["gate"], row["as_of"]) for row in rows} == {("full_bayes", str(FIRST))}
    shown = {check["name"]: check["value"] for check in found["checks"]}
    assert {row["name"]: row["value"] for row in rows} == shown
    night = command(capsys, "audit", *config, "--checks")
    assert night["run_id"] == released["run_id"], "without a run it is the night that is shown"
    assert command(capsys, "run", *config)["release"] == released["release"], "nothing is due by it"


def test_posteriors_made_under_another_hyperprior_are_caught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(family: Any, sketch: Any, **options: Any) -> Any:
        spec = {"mean": "beta(50, 50)", "concentration": "half_normal(1)"}
        return fit_pools(family, sketch, **{**options, "hyperprior": spec})

    config = ("--config", rat_lake(tmp_path))
    with monkeypatch.context() as planted:
        planted.setattr("hbpipe.run.inference.fits.fit_pools", wrong)
        command(capsys, "run", *config)
    found = command(capsys, "audit", *config, code=3)
    assert found["failed"] >= 2
    assert found["checks"][0]["status"] == "fail"
    assert main(["audit", *config, "--stores", "5"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"release {FIRST}.1 against full Bayes: ")
    assert lines[2].startswith("fail")


def test_intervals_that_are_too_narrow_are_caught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_night(tmp_path)
    config = ("--config", str(write_config(tmp_path)))
    found = command(capsys, "audit", *config, code=3)
    worst = [check for check in found["checks"] if check["name"] == "sd_ratio"]
    assert worst[0]["status"] == "fail"
    assert "by plug_in" in worst[0]["message"]


def test_every_metric_and_pool_is_folded_as_its_night_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Overdispersion divides sizes, late rows come in after the release, which rests on none."""
    corrected = {"by": "day", "correct": True}
    metrics = {
        **METRICS,
        "conversion": {**CONVERSION["conversion"], "overdispersion": corrected},
    }
    settings = first_night(tmp_path, metrics=metrics, inference=INTEGRATED)
    config = ("--config", str(write_config(tmp_path, metrics=metrics, inference=INTEGRATED)))
    found = command(capsys, "audit", *config)
    subjects = {f"{name}, {pool}" for name in metrics for pool in ("far", "near")}
    assert {check["subject"] for check in found["checks"]} == subjects
    exact = [check for check in found["checks"] if check["name"] == "mean_moved"]
    assert all(check["value"] < 1e-3 for check in exact)

    write(tmp_path / "events" / "late.parquet", visits(1, seed=5))
    run(settings, as_of=day(2))
    before = command(capsys, "audit", *config, "--release", f"{day(2)}.1")
    assert before["checks"] == found["checks"]
    one = command(capsys, "audit", *config, "--metric", "orders", "--pools", "1", "--stores", "1")
    assert {check["subject"] for check in one["checks"]} == {"orders, far"}
    assert "1 of 2 stores" in one["checks"][0]["message"]


def test_settings_that_have_changed_since_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_night(tmp_path)
    config = ("--config", str(write_config(tmp_path)))
    error = command(capsys, "audit", *config, "--set", "inference.window=2d", code=1)["error"]
    assert "cannot be audited: the settings changed since" in error["found"]
    unknown = command(capsys, "audit", *config, "--metric", "conversions", code=2)["error"]
    assert unknown["found"] == "there is no metric 'conversions'"


def test_options_of_one_form_do_not_go_with_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", str(write_config(tmp_path)))
    for words in (("--run", "any"), ("--as-of", str(day(0)))):
        found = command(capsys, "audit", *config, *words, code=2)["error"]["found"]
        assert found == f"{words[0]} without --checks"
    found = command(capsys, "audit", *config, "--checks", "--seed", "2", code=2)["error"]["found"]
    assert found == "--seed beside --checks"


AGED = {"conversion": {**CONVERSION["conversion"], "decay": {"half_life": "2d"}}}
REVENUE = {"family": "hurdle_lognormal", "value": "amount", "trials": "rows"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"inference": {"pool_by": [], "nest_by": ["chain_id"], "window": "7d"}},
            "the prior mean has nested levels",
        ),
        ({"metrics": AGED, "inference": INTEGRATED}, "days lose weight with age"),
        (
            {"metrics": {"revenue": REVENUE}, "inference": INTEGRATED},
            "conversion and basket are multiplied",
        ),
    ],
)
def test_what_full_bayes_does_not_cover_is_never_a_silent_pass(
    options: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_night(tmp_path, **options)
    config = ("--config", str(write_config(tmp_path, **options)))
    checks = command(capsys, "audit", *config)["checks"]
    assert checks
    for check in checks:
        assert (check["status"], check["name"]) == ("warn", "comparable")
        assert check["message"].startswith(f"not comparable: {why}")


def test_an_audit_beside_a_run_is_shown_and_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = first_night(tmp_path, inference=INTEGRATED)
    config = ("--config", str(write_config(tmp_path, inference=INTEGRATED)))
    lake = lake_of(settings)
    version = lake.version("audits")
    with open_run(lake, settings, run_id="other", kind="night"):
        found = command(capsys, "audit", *config, code=4)
        assert not found["recorded"]
        assert found["failed"] == 0
        assert main(["audit", *config]) == 4
        assert "not recorded: " in capsys.readouterr().out
    assert lake.version("audits") == version


def test_the_same_seed_chooses_the_same_stores(tmp_path: Path) -> None:
    settings = first_night(tmp_path, inference=INTEGRATED)
    lake = lake_of(settings)
    release = current_release(lake, "prod")
    assert release is not None
    (metric,) = settings.parsed_metrics
    pool = ChosenPool(("near",), "near", 4, "integrated")

    def chosen(seed: int) -> Any:
        return choose_stores(
            lake,
            release,
            metric,
            pool,
            settings.events.levels,
            (0.05, 0.95),
            count=2,
            seed=seed,
        )

    first, again = chosen(1), chosen(1)
    assert first.keys.equals(again.keys)
    assert first.among == 4
    assert np.all(np.diff(first.sizes) >= 0), "one store of each stratum by n"
    assert len({tuple(chosen(seed).sizes) for seed in range(8)}) > 1
