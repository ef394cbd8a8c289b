"""Roles of several quantities: their terms in the settings, on a batch, and in the recount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kernel import DAY, event_format, parse, recount_spec, run_kernel, write

from hbpipe.data.batch import Batch
from hbpipe.data.columns import schema_faults
from hbpipe.data.measure import Measured, measure
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import Metric
from hbpipe.data.recount import recount
from hbpipe.data.terms import Condition, Quantity, parse_terms

LOG_PRICE = {"column": "price", "transform": "log"}
ELASTICITY = {
    "family": "normal_regression",
    "response": {"column": "volume", "transform": "log"},
    "predictors": [1, "display", LOG_PRICE],
}


def metric(**changes: Any) -> Metric:
    return parse_metric("elasticity", {**ELASTICITY, **changes})


# --- settings -----------------------------------------------------------------------------------


def test_each_item_is_a_term_with_a_name() -> None:
    on_display = {"where": [["display", ">", 0]]}
    terms = parse_terms("predictors", [1, "display", LOG_PRICE, on_display])
    assert terms == {
        "intercept": Quantity("rows"),
        "display": Quantity("column", "display"),
        "log_price": Quantity("column", "price", "log"),
        "display > 0": Quantity("where", where=(Condition("display", ">", 0),)),
    }
    assert list(terms) == ["intercept", "display", "log_price", "display > 0"]


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("rows", "intercept"),
        ({"column": "price", "transform": "log1p"}, "log1p_price"),
        ({**LOG_PRICE, "name": "elasticity"}, "elasticity"),
        ({"where": [["a", "==", "x"], ["b", "not_null"]]}, "a == x and b not_null"),
        ({"where": [["a", "in", ["x", "y"]]]}, "a in x|y"),
        ({"where": [["a", "==", "x"]], "name": "of x"}, "of x"),
    ],
)
def test_names_of_terms(item: Any, name: str) -> None:
    assert list(parse_terms("predictors", [item])) == [name]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("price", "predictors must be a list such as"),
        ([], "predictors must be a list such as"),
        ([2], "predictors must be a column, rows, or a mapping, found 2"),
        ([True], "predictors must be a column, rows, or a mapping, found True"),
        ([1, 1], "the constant 1 is there twice"),
        ([1, "rows"], "the constant 1 is there twice"),
        (["price", "price"], "'price' is there twice"),
        (["price", {"column": "price", "name": "p"}], "is there twice"),
        (["log_price", LOG_PRICE], "two terms are called 'log_price'; give one a name"),
        ([{"column": "a", "name": "a,b"}], "'a,b' cannot name a term"),
        ([{"column": "a", "name": 3}], "3 cannot name a term"),
        (["sales[eur]"], "'sales\\[eur\\]' cannot name a term; give a name of up to 64 letters"),
        ([{"colum": "a"}], "unknown key 'colum' in predictors"),
    ],
)
def test_lists_that_are_no_terms(raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_terms("predictors", raw)


def test_a_metric_of_several_terms() -> None:
    found = metric(where=[["store", "not_null"]])
    assert found.columns == ("volume", "display", "price", "store")
    assert found.term_names == ("intercept", "display", "log_price")
    assert found.model.size == 3
    shapes = {one.name: one.shape for one in found.model.statistics}
    assert shapes == {"n": (), "means": (4,), "cross": (4, 4)}
    value = parse_metric("m", {"family": "normal", "value": "x"})
    assert value.term_names == ("theta",)
    assert value.model.size is None


def test_names_do_not_change_the_statistics_of_a_day_but_quantities_do() -> None:
    measured = metric().measured_by()
    named = [1, "display", {**LOG_PRICE, "name": "slope"}]
    assert metric(predictors=named).measured_by() == measured
    assert metric(predictors=[1, "display", "price"]).measured_by() != measured
    assert metric(predictors=[1, LOG_PRICE, "display"]).measured_by() != measured
    assert "terms" not in parse_metric("m", {"family": "normal", "value": "x"}).measured_by()


def test_a_target_is_about_one_term() -> None:
    found = metric(target={"term": "log_price", "value": -1})
    assert (found.target, found.target_term) == (-1.0, "log_price")
    assert metric().target is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": -1}, "target is about one of several terms: {term: log_price, value: 0}"),
        ({"target": {"term": "log_price"}}, "target is about one of several terms"),
        ({"target": {"term": "price", "value": 1}}, "unknown term 'price'; did you mean"),
        ({"target": {"term": "display", "value": "x"}}, "target must be a finite number"),
        ({"predictors": []}, "predictors must be a list"),
        ({"response": [1, "a"]}, "response must be a column"),
        ({"transform": "log"}, "transform goes with a value column"),
        ({"fixed": {"mu": [0, 1]}}, "fixed.mu must be a number, or one for each of 3 terms"),
        ({"fixed": {"Sigma": [[1, 0], [0, 1], 1]}}, "one for each of 3 terms"),
        ({"fixed": {"mu": [0, 1, "x"]}}, "fixed.mu must be a finite number"),
        ({"fixed": {"mu": [[[1], [1], [1]]] * 3}}, "one for each of 3 terms"),
    ],
)
def test_faults_of_a_metric_of_several_terms(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(**changes)


def test_what_is_said_of_terms_that_cannot_be_read_is_not_judged() -> None:
    said = {"target": {"term": "x", "value": 1}, "fixed": {"mu": [1, 2]}}
    with pytest.raises(ValueError, match="predictors must be a list") as caught:
        metric(predictors="price", **said)
    assert len(str(caught.value).split("\n")) == 1
    without = {key: value for key, value in ELASTICITY.items() if key != "predictors"}
    with pytest.raises(ValueError, match=r"^family normal_regression needs predictors$"):
        parse_metric("m", without | said)


def test_hyperparameters_that_are_held() -> None:
    fixed = {"sigma": 1, "mu": [0, 1, 2], "Sigma": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
    assert metric(fixed=fixed).fixed == fixed
    assert repr(metric(fixed={"tau": [None, 0, None]}).fixed) == "{'tau': [nan, 0.0, nan]}"
    with pytest.raises(ValueError, match="one for each of 0 terms"):
        parse_metric("m", {"family": "normal", "value": "x", "fixed": {"mu": [1]}})


def test_a_term_of_a_column_that_holds_no_numbers() -> None:
    schema = pa.schema(
        {"ts": pa.timestamp("us"), "chain": pa.string(), "store": pa.string()}
        | {"volume": pa.float64(), "display": pa.string(), "price": pa.float64()}
    )
    form = event_format(Path())
    assert schema_faults(schema, "a.parquet", form, [metric()]) == [
        "'display' is string, but elasticity.display needs a number or boolean"
    ]


# --- a batch ------------------------------------------------------------------------------------

NAN, INFINITY = float("nan"), float("inf")


def measured(found: Metric, **columns: list[Any]) -> Measured:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    return measure(Batch(table), found, found.model, np.ones(table.num_rows, np.bool_))


def test_the_terms_of_an_event_are_a_row() -> None:
    found = measured(metric(), volume=[1.0, np.e], display=[True, False], price=[1, 10])
    assert found.rows.tolist() == [0, 1]
    assert found.values["predictors"].tolist() == [[1.0, 1.0, 0.0], [1.0, 0.0, np.log(10)]]
    assert found.values["predictors"].dtype == np.float64
    assert found.values["response"].tolist() == [0.0, 1.0]


def test_a_null_skips_and_an_impossible_value_names_its_column() -> None:
    found = measured(
        metric(),
        volume=[1.0, 1.0, 1.0, None, 0.0, 1.0, 0.0],
        display=[0.5, None, NAN, 0.5, 0.5, INFINITY, 0.5],
        price=[2.0, 2.0, 2.0, 2.0, 2.0, 0.0, -1.0],
    )
    assert found.rows.tolist() == [0]
    assert found.values["predictors"].shape == (1, 3)
    assert found.skipped.tolist() == [False, True, False, True, False, False, False]
    reason = "logarithm of a value not above zero"
    assert [(r.column, r.reason, r.rows.tolist()) for r in found.refusals] == [
        ("volume", reason, [4, 6]),  # the response comes first, and the first fault counts
        ("display", "not a number", [2]),
        ("display", "infinite", [5]),
    ]


def test_a_regression_on_the_constant_alone() -> None:
    found = measured(metric(predictors=[1]), volume=[1.0, 2.0])
    assert found.values["predictors"].tolist() == [[1.0], [1.0]]
    assert found.values["predictors"].dtype == np.float64


# --- the statistics of a day, by hand and by the recount ----------------------------------------


def test_the_statistics_of_a_small_day(tmp_path: Path) -> None:
    """Three events of one store: y = 1, 2, 6 at x = 0, 1, 2."""
    rows = [{"x": float(x), "y": y} for x, y in ((0, 1.0), (1, 2.0), (2, 6.0))]
    rows += [{"x": None, "y": 1.0}, {"x": 1.0, "y": NAN}, {"x": None, "y": 1.0, "store": "A2"}]
    write(tmp_path / "events" / "a.parquet", rows, 2)
    raw = {"line": {"family": "normal_regression", "response": "y", "predictors": [1, "x"]}}
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, raw, tmp_path / "lake")
    found = counted.statistics["line"]
    expected = {
        "n": 3,
        "means": [1.0, 1.0, 3.0],
        "cross": [0.0, 0.0, 0.0, 0.0, 2.0, 5.0, 0.0, 5.0, 14.0],
    }
    assert found[DAY, "A", "A1"] == expected
    assert found[DAY, "A", "A2"] == {"n": 0, "means": [0.0] * 3, "cross": [0.0] * 9}
    again = recount((tmp_path / "events").glob("*"), recount_spec(form, raw))
    assert again.statistics["line"] == {(DAY, "A", "A1"): expected}
    (account,) = again.files.values()
    assert account.skipped == {"line": 2}
    assert account.rejections == {("line", "y", "not a number"): 1}


def test_two_regressions_of_different_length_share_a_table(tmp_path: Path) -> None:
    rows = [{"x": float(x), "y": float(x * x), "store": f"A{x % 2}"} for x in range(6)]
    write(tmp_path / "events" / "a.parquet", rows)
    raw = {
        "short": {"family": "normal_regression", "response": "y", "predictors": [1]},
        "long": {"family": "normal_regression", "response": "y", "predictors": [1, "x"]},
        "value": {"family": "normal", "value": "y"},
    }
    found = run_kernel(event_format(tmp_path / "events"), raw, tmp_path / "lake").statistics
    for store in ("A0", "A1"):
        short, long, value = (found[name][DAY, "A", store] for name in raw)
        assert (len(short["means"]), len(long["means"])) == (2, 3)
        assert short["means"][-1] == long["means"][-1] == value["mean"]
        assert short["cross"][-1] == long["cross"][-1] == value["m2"]
    assert parse(raw)[1].model is not parse(raw)[0].model
