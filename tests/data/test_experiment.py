"""Experiments in the settings, on a batch, and in the recount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kernel import assert_same, event_format, recount_spec, run_kernel, write

from hbpipe.data import arms
from hbpipe.data.batch import Batch
from hbpipe.data.columns import schema_faults
from hbpipe.data.experiment import Experiment, third_arms
from hbpipe.data.measure import measure
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import Metric
from hbpipe.data.recount import recount
from hbpipe.errors import StatisticsError

RATE = {"family": "beta_binomial", "successes": "won", "trials": "rows"}
MONEY = {"family": "normal", "value": "paid", "transform": "log"}
ARMS = {"arm": "group", "control": "A"}


def metric(experiment: Any = ARMS, **changes: Any) -> Metric:
    return parse_metric("lift", {**RATE, "experiment": experiment, **changes})


# --- settings -----------------------------------------------------------------------------------


def test_what_is_measured_has_two_arms_and_what_is_fitted_is_an_effect() -> None:
    lift = metric()
    assert lift.experiment == Experiment("group", "A")
    assert lift.measured.name == "beta_binomial_by_arm"
    assert lift.model.name == lift.fitted.name == "normal_known_variance"
    assert lift.columns == ("won", "group")
    assert lift.term_names == ("theta",)


def test_arms_decide_the_daily_statistics() -> None:
    plain = parse_metric("lift", RATE).measured_by()
    assert "experiment" not in plain
    makings = [plain, metric().measured_by(), metric({**ARMS, "treatment": "B"}).measured_by()]
    assert len({repr(one) for one in makings}) == 3
    assert metric(hyperprior={"tau": "half_normal(1)"}).measured_by() == makings[1]


def test_effects_may_have_a_prior_of_two_laws() -> None:
    assert metric(prior="mixture").prior == "mixture"
    assert metric(prior="mixture").model.name.startswith("normal_known_variance")
    assert metric(prior="mixture").measured.name == "beta_binomial_by_arm"


def test_numbers_of_the_effect_may_be_held() -> None:
    assert metric(fixed={"tau": 0.1}).fixed == {"tau": 0.1}
    with pytest.raises(ValueError, match="fixed: unknown 'alpha'"):
        metric(fixed={"alpha": 5})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "group"}, "experiment is a mapping such as {arm: group, control: A}"),
        ({"experiment": {**ARMS, "arms": "x"}}, "unknown key 'arms'"),
        ({"experiment": {"control": "A"}}, "must be the column that names the arm, found None"),
        ({"experiment": {"arm": "group"}}, "texts, whole numbers or booleans, found None"),
        ({"experiment": {**ARMS, "treatment": 0.5}}, "found 'A' and 0.5"),
        ({"experiment": {**ARMS, "treatment": "A"}}, "control and treatment are both 'A'"),
        ({"overdispersion": {"by": "day"}}, "overdispersion of an experiment is by the columns"),
        ({"overdispersion": {"correct": True}}, "what was assigned to arms together"),
        ({"decay": {"half_life": "7d"}}, "decay does not go with an experiment"),
        ({"reconcile": {"totals": "t.parquet", "mean": "m"}}, "reconcile does not go with"),
    ],
)
def test_faults_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_metric("lift", {**RATE, "experiment": ARMS, **changes})


def test_other_families_have_no_effects() -> None:
    orders = {"family": "gamma_poisson", "count": "n", "exposure": "days", "experiment": ARMS}
    with pytest.raises(ValueError, match="effects of gamma_poisson are not defined; use beta_bin"):
        parse_metric("orders", orders)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (pa.string(), []),
        (pa.dictionary(pa.int32(), pa.string()), []),
        (pa.float64(), ["'group' is double, but lift takes it for an arm: text, a whole number "]),
        (pa.int64(), ["'group' is int64, but lift has the arm 'A'"]),
        (pa.bool_(), ["'group' is bool, but lift has the arm 'A'"]),
    ],
)
def test_the_column_of_the_arm_must_be_able_to_name_it(kind: pa.DataType, fault: list[str]) -> None:
    columns = {"ts": pa.timestamp("us"), "chain": pa.string(), "store": pa.string()}
    schema = pa.schema(columns | {"won": pa.bool_(), "group": kind})
    found = schema_faults(schema, "a.parquet", event_format(Path()), [metric()])
    assert len(found) == len(fault)
    assert all(one.startswith(expected) for one, expected in zip(found, fault, strict=True))


# --- on a batch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("treatment", [None, "B"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_rows_of_neither_arm_are_skipped(treatment: str | None, dictionary: bool) -> None:
    named = pa.array(["A", "B", None, "C", "A"])
    column = named.dictionary_encode() if dictionary else named
    lift = metric(ARMS if treatment is None else {**ARMS, "treatment": treatment})
    batch = Batch(pa.table({"group": column, "won": [True] * 5}))
    found = measure(batch, lift, lift.measured, batch.everything)
    expected = [0, 1, 4] if treatment else [0, 1, 3, 4]
    assert found.rows.tolist() == expected
    assert found.values["arm"].tolist() == ([0, 1, 0] if treatment else [0, 1, 1, 0])
    assert np.flatnonzero(found.skipped).tolist() == ([2, 3] if treatment else [2])


@pytest.mark.parametrize(
    ("values", "control"),
    [(pa.array([False, True, None, False]), False), (pa.array([0, 1, None, 0], pa.int8()), 0)],
    ids=["boolean", "number"],
)
def test_arms_may_be_booleans_and_numbers(values: pa.Array, control: Any) -> None:
    lift = metric({"arm": "group", "control": control})
    batch = Batch(pa.table({"group": values, "won": [True] * 4}))
    found = measure(batch, lift, lift.measured, batch.everything)
    assert found.values["arm"].tolist() == [0, 1, 0]


def test_a_third_arm_is_known_by_its_rows() -> None:
    found = {"A": 5, "B": 2, "C": 1}
    assert third_arms(Experiment("group", "A"), found) == ["B", "C"]
    assert not third_arms(Experiment("group", "A", "B"), found)
    assert not third_arms(Experiment("group", "A"), {"A": 5, "C": 1})


def test_a_column_of_ids_is_no_arm() -> None:
    table = pa.table({"group": [f"v{k}" for k in range(50)]})
    with pytest.raises(StatisticsError, match="'group' has 50 values, too many for arms"):
        arms.rows_of_arms(Experiment("group", "A"), table, np.arange(50))


# --- against the recount ------------------------------------------------------------------------

METRICS: dict[str, Any] = {
    "lift": {**RATE, "experiment": ARMS},
    "against_b": {**RATE, "experiment": {**ARMS, "treatment": "B"}, "where": [["paid", ">", 2]]},
    "money": {**MONEY, "experiment": ARMS},
    "plain": RATE,
}


def test_the_kernel_counts_as_the_recount_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [
        {
            "group": [None, "A", "A", "B", "C"][rng.integers(0, 5)],
            "store": f"A{rng.integers(0, 7)}",
            "won": [True, False, False, None][rng.integers(0, 4)],
            "paid": float(rng.integers(0, 9)),
        }
        for _ in range(300)
    ]
    for part in range(2):
        write(tmp_path / "events" / f"{part}.parquet", rows[part::2], 33)
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, METRICS, tmp_path / "lake")
    again = recount((tmp_path / "events").glob("*"), recount_spec(form, METRICS))
    assert_same(form, METRICS, counted, again)
    found: dict[str, int] = {}
    for account in counted.accounts.values():
        for arm, n in account.arms["lift"].items():
            found[arm] = found.get(arm, 0) + n
    used = [row["group"] for row in rows if row["won"] is not None]
    assert found == {arm: used.count(arm) for arm in "ABC"}
