"""The key `reconcile` of a metric."""

from __future__ import annotations

from typing import Any

import pytest

from hbpipe.data.parsing import parse_metric
from hbpipe.data.reconcile import Reconcile, needed_columns, weight_columns

RATE = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}


def parsed(reconcile: Any, **metric: Any) -> Reconcile | None:
    return parse_metric("conversion", {**RATE, "reconcile": reconcile, **metric}).reconcile


def test_a_mean_and_a_total() -> None:
    found = parsed({"totals": "t.parquet", "mean": "rate"})
    assert found == Reconcile("t.parquet", "rate", is_mean=True, weight="n")
    found = parsed({"totals": "t.parquet", "total": "sum", "weight": "equal"})
    assert found == Reconcile("t.parquet", "sum", is_mean=False, weight="equal")
    assert parse_metric("conversion", RATE).reconcile is None


def test_a_weight_may_be_a_column_of_the_table_of_stores() -> None:
    covariates = ["format", "size"]
    raw = {"totals": "t", "mean": "rate", "weight": "size"}
    metric = parse_metric("conversion", {**RATE, "reconcile": raw, "covariates": covariates})
    assert weight_columns([metric]) == ("size",)
    assert needed_columns([metric]) == ("format", "size")
    assert needed_columns([parse_metric("conversion", RATE)]) == ()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("t.parquet", "reconcile is a mapping such as"),
        (None, "reconcile is a mapping such as"),
        ({"mean": "rate"}, "reconcile names the table of totals"),
        ({"totals": "t"}, "either total .* or mean"),
        ({"totals": "t", "mean": "a", "total": "b"}, "either total .* or mean"),
        ({"totals": "t", "mean": 3}, "reconcile.mean is a text, found 3"),
        ({"totals": "", "mean": "a"}, "reconcile.totals is a text, found ''"),
        (
            {"totals": "t", "mean": "a", "wieght": "n"},
            "'wieght'; did you mean 'weight'",
        ),
        ({"totals": "t", "mean": "a", "weight": ["n"]}, r"weight is a text, found \['n'\]"),
        ({"totals": "t", "mean": "a", "weight": None}, "weight is a text, found None"),
    ],
)
def test_what_is_no_reconciliation(raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parsed(raw)


def test_a_store_of_several_numbers_has_no_total() -> None:
    metric = {"family": "normal_regression", "response": "amount", "predictors": [1, "price"]}
    with pytest.raises(ValueError, match="normal_regression is several numbers, and no total"):
        parse_metric("effects", {**metric, "reconcile": {"totals": "t", "mean": "a"}})


def test_revenue_that_may_have_no_mean_is_not_reconciled() -> None:
    metric = {"family": "hurdle_lognormal", "value": "amount", "trials": "rows"}
    with pytest.raises(ValueError, match="may have no mean"):
        parse_metric("revenue", {**metric, "reconcile": {"totals": "t", "mean": "a"}})
