"""Spells in intervals of their duration: in the settings, in the kernel, and in the recount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kernel import assert_same, event_format, recount_spec, run_kernel, write

from hbpipe.data.batch import Batch
from hbpipe.data.measure import Measured, measure
from hbpipe.data.parsing import parse_metric
from hbpipe.data.recount import recount
from hbpipe.data.survival import write_out, write_out_all
from hbpipe.data.terms import Spell

WAIT: dict[str, Any] = {
    "family": "gamma_poisson",
    "survival": {"duration": "days", "event": "again", "cuts": [7, 30]},
    "per": 30,
}
NAMES = ["wait_0_7", "wait_7_30", "wait_after_30"]


def survival(**changes: Any) -> dict[str, Any]:
    return {**WAIT, "survival": {**WAIT["survival"], **changes}}


def measured(table: pa.Table, name: str) -> Measured:
    metric = parse_metric(name, write_out("wait", WAIT)[name])
    return measure(Batch(table), metric, metric.measured, np.ones(table.num_rows, np.bool_))


# --- settings -----------------------------------------------------------------------------------


def test_one_metric_for_each_interval() -> None:
    written = write_out("wait", WAIT)
    assert list(written) == NAMES
    within = {"duration": "days", "interval": [7, 30]}
    assert written["wait_7_30"] == {
        "family": "gamma_poisson",
        "per": 30,
        "count": {"column": "again", **within},
        "exposure": within,
    }
    metric = parse_metric("wait_after_30", written["wait_after_30"])
    assert metric.columns == ("again", "days")
    assert metric.roles["exposure"] == Spell("time", "days", duration="days", lower=30.0)
    assert metric.per == 30.0
    assert len({parse_metric(*one).measured_by()["roles"] for one in written.items()}) == 3


def test_without_cuts_the_hazard_is_constant() -> None:
    [(name, raw)] = write_out("wait", survival(cuts=[])).items()
    assert name == "wait"
    assert parse_metric(name, raw).roles["count"] == Spell("ended", "again", duration="days")
    assert list(write_out("wait", survival(cuts=[0.5]))) == ["wait_0_0p5", "wait_after_0p5"]
    assert write_out("other", {"family": "normal"}) == {"other": {"family": "normal"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "beta_binomial"}, "survival goes with family gamma_poisson"),
        ({"exposure": "days"}, "either survival, or count and exposure; found exposure"),
        (survival(cuts=[7, 7]), "cuts must rise"),
        (survival(cuts=[0, 7]), "cuts are positive numbers"),
        (survival(cuts=[7, float("inf")]), "cuts are positive numbers"),
        (survival(cuts=7), "cuts are positive numbers"),
        (survival(cut=[7]), "did you mean 'cuts'"),
        (survival(event=None), "event must be a column"),
        ({"survival": "days"}, "survival is {duration: days"),
    ],
)
def test_faults_of_the_short_form(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_out("wait", {**WAIT, **changes})


def test_names_of_intervals_stand_once() -> None:
    other = {"family": "normal", "value": "x"}
    assert list(write_out_all({"wait": WAIT, "x": other})) == [*NAMES, "x"]
    for metrics in ({"wait": WAIT, "wait_0_7": other}, {"wait_0_7": other, "wait": WAIT}):
        with pytest.raises(ValueError, match="its interval wait_0_7 is a metric already"):
            write_out_all(metrics)
    with pytest.raises(ValueError, match="more than 64 letters"):
        write_out("w" * 60, WAIT)


@pytest.mark.parametrize(
    ("role", "raw", "message"),
    [
        ("exposure", {"duration": "days"}, "exposure of a spell is {duration: days, interval"),
        ("count", {"duration": "days", "interval": [0, 7]}, "count of a spell is {column: event"),
        ("exposure", {"duration": "days", "interval": [7, 7]}, "interval is"),
        ("exposure", {"duration": "days", "interval": [None, 7]}, "interval is"),
        ("exposure", {"duration": "days", "interval": 7}, "interval is"),
    ],
)
def test_faults_of_a_spell(role: str, raw: dict[str, Any], message: str) -> None:
    roles = {"count": "again", "exposure": "days", role: raw}
    with pytest.raises(ValueError, match=message):
        parse_metric("wait", {"family": "gamma_poisson", **roles})


def test_only_counts_and_exposures_are_of_spells() -> None:
    trials = {"duration": "days", "interval": [0, 7]}
    with pytest.raises(ValueError, match="go with a count and its exposure"):
        parse_metric("m", {"family": "beta_binomial", "successes": "again", "trials": trials})


# --- rows ---------------------------------------------------------------------------------------


def test_an_interval_contains_its_upper_end() -> None:
    """An event at a cut ends the interval before it, so that none is without time at risk."""
    days = pa.array([0, 7, 7, 8, 30, 31])
    table = pa.table({"days": days, "again": [True, True, False, True, True, True]})
    found = {name: measured(table, name).values for name in NAMES}
    counts = [found[name]["count"].astype(int).tolist() for name in NAMES]
    times = [found[name]["exposure"].tolist() for name in NAMES]
    assert counts == [[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert times == [[0, 7, 7, 7, 7, 7], [0, 0, 0, 1, 23, 23], [0, 0, 0, 0, 0, 1]]


def test_nulls_are_skipped_and_the_impossible_rejected_alike_in_every_interval() -> None:
    rows = {
        "days": [3.0, None, 5.0, -1.0, float("nan"), float("inf"), 9.0, 9.0, 40.0],
        "again": [1.0, 1.0, None, 0.0, 1.0, 0.0, 2.0, -1.0, 1.0],
    }
    for name in NAMES:
        found = measured(pa.table(rows), name)
        assert found.rows.tolist() == [0, 8]
        assert np.flatnonzero(found.skipped).tolist() == [1, 2]
        assert {(one.column, one.reason, *one.rows.tolist()) for one in found.refusals} == {
            ("days", "negative", 3),
            ("days", "not a number", 4),
            ("days", "infinite", 5),
            ("again", "more than one event", 6),
            ("again", "negative", 7),
        }


def test_the_recount_agrees(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = []
    for k in range(60):
        days: Any = [0, 7, 30, round(float(rng.exponential(20.0)), 3), None, -2.0, float("nan")]
        again: Any = [True, False, None]
        rows.append(
            {
                "store": f"A{k % 4}",
                "days": days[rng.choice(7, p=[0.1, 0.15, 0.15, 0.45, 0.05, 0.05, 0.05])],
                "again": again[rng.choice(3, p=[0.6, 0.35, 0.05])],
            }
        )
    path = write(tmp_path / "events" / "one.parquet", rows, 17, days=pa.float64())
    form, metrics = event_format(tmp_path / "events"), write_out("wait", {**WAIT, "per": 1})
    counted = run_kernel(form, metrics, tmp_path / "lake")
    again = recount([path], recount_spec(form, metrics))
    assert_same(form, metrics, counted, again)
    total = sum(one["count"] for name in NAMES for one in again.statistics[name].values())
    assert total > 20
