"""What the configuration says of levels that move, and their days as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel import event_format, parse, run_kernel, snapshot_of, write

from hbpipe.data.clock import to_number
from hbpipe.data.day_tables import lay_out_days
from hbpipe.data.parsing import parse_metric
from hbpipe.data.window import WindowOrder, fold_window
from hbpipe.errors import ConfigError
from hbpipe.model.families import get_family
from tests.nights import BASKET, settings_for

DRIFTING = {**BASKET, "dynamics": "local_level"}
FIRST, DAYS = date(2026, 1, 24), 16


def test_a_metric_is_measured_by_one_family_and_fitted_by_another():
    metric = parse_metric("basket", DRIFTING).over(28)
    assert metric.measured is get_family("normal")
    assert metric.model is get_family("local_level", 28)
    assert metric.by_day
    plain = parse_metric("basket", BASKET)
    assert plain.over(28) is plain
    assert plain.model is plain.measured
    # The statistics of a day do not know of it.
    assert metric.measured_by() == plain.measured_by()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({**BASKET, "dynamics": "local_levle"}, "unknown dynamics 'local_levle'; did you mean"),
        ({**BASKET, "dynamics": True}, "unknown dynamics True"),
        (
            {
                "family": "gamma_poisson",
                "count": "x",
                "exposure": "days",
                "dynamics": "local_level",
            },
            "dynamics goes with the family normal, and gamma_poisson has none",
        ),
        ({**DRIFTING, "covariates": ["format"]}, "dynamics does not go with covariates"),
        ({**DRIFTING, "overdispersion": {"correct": True}}, "does not go with overdispersion"),
        ({**DRIFTING, "fixed": {"ratio": 1}}, "fixed: unknown 'ratio'"),
        ({"family": "local_level", "value": "x", "day": "d"}, "unknown family 'local_level'"),
    ],
)
def test_mistakes_are_told(raw, message):
    with pytest.raises(ValueError, match=message):
        parse_metric("basket", raw)


def test_hyperparameters_of_the_fitted_family_may_be_held():
    metric = parse_metric("basket", {**DRIFTING, "fixed": {"signal_ratio": 0.01, "sigma": 1}})
    assert metric.fixed == {"signal_ratio": 0.01, "sigma": 1.0}


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        ({"window": "all"}, "dynamics needs inference.window of 14d to 366d.*it is all"),
        ({"window": "13d"}, "it is 13d"),
        ({"window": "367d"}, "it is 367d"),
        ({"window": "28d", "estimator": "reml:chung"}, "reml:chung adjusts one; use reml or map"),
        ({"window": "28d", "nest_by": ["chain_id"]}, "local_level has no nested levels"),
    ],
)
def test_settings_must_agree(tmp_path: Path, inference: dict[str, Any], message: str):
    metrics = {"basket": DRIFTING}
    with pytest.raises((ValueError, ConfigError), match=message):
        settings_for(tmp_path, metrics=metrics, inference=inference)


def test_changed_dynamics_change_the_release_and_no_day(tmp_path: Path):
    inference = {"window": "28d"}
    plain = settings_for(tmp_path, metrics={"basket": BASKET}, inference=inference)
    moving = settings_for(tmp_path, metrics={"basket": DRIFTING}, inference=inference)
    assert plain.digest() != moving.digest()
    [one], [other] = plain.parsed_metrics, moving.parsed_metrics
    assert one.measured_by() == other.measured_by()


def random_rows() -> list[dict[str, Any]]:
    """Events of 9 stores, some of them absent for days."""
    rng, rows = np.random.default_rng(3), []
    for _ in range(240):
        store, number = int(rng.integers(9)), int(rng.integers(DAYS))
        noon = datetime(FIRST.year, FIRST.month, FIRST.day, 12)
        rows.append(
            {
                "ts": noon + timedelta(days=number),
                "chain": f"C{store % 2}",
                "store": f"S{store}",
                "x": float(rng.normal(50.0, 3.0)),
            }
        )
    return rows


def test_the_table_of_days_is_that_of_the_events(tmp_path: Path):
    rows = random_rows()
    write(tmp_path / "events" / "a.parquet", rows)
    form = event_format(tmp_path / "events")
    raw = {"value": {"family": "normal", "value": "x", "dynamics": "local_level"}}
    counted = run_kernel(form, raw, tmp_path / "lake")
    days = snapshot_of(form, raw, tmp_path / "lake", counted)
    begin, length = to_number(FIRST) + 2, DAYS - 2
    window = days.select(lambda file: file.partition["day"] >= (FIRST + timedelta(2)).isoformat())
    order = WindowOrder(
        metrics=tuple(metric.over(length) for metric in parse(raw)),
        levels=form.levels,
        window=window,
        history=None,
        listed=None,
        within_parent=False,
        first_day=begin,
        as_of=begin + length - 1,
        silent_since=begin,
        by_day=window,
    )
    folded = fold_window(order)
    table = lay_out_days(folded, order).statistics["value"]
    assert table["n"].shape == (folded.n, length)
    for unit, name in enumerate(folded.keys[-1].to_pylist()):
        for number in range(length):
            noon = datetime(FIRST.year, FIRST.month, FIRST.day, 12) + timedelta(days=number + 2)
            values = np.array([r["x"] for r in rows if r["store"] == name and r["ts"] == noon])
            assert table["n"][unit, number] == len(values)
            if len(values):
                assert table["mean"][unit, number] == pytest.approx(values.mean(), rel=1e-12)
                squares = np.sum((values - values.mean()) ** 2)
                assert table["m2"][unit, number] == pytest.approx(squares, abs=1e-9)
    # A day that is left out of the window has no values.
    last = (FIRST + timedelta(DAYS - 1)).isoformat()
    held = replace(order, by_day=window.select(lambda file: file.partition["day"] != last))
    assert lay_out_days(folded, held).statistics["value"]["n"][:, -1].sum() == 0
