"""What a metric measures: parsing, and what each mistake is told."""

from __future__ import annotations

import pytest

from hbpipe.data import posterior_schemas, schemas
from hbpipe.data.audit_tables import diagnostics_table
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import RESERVED
from hbpipe.data.spelling import nearest
from hbpipe.data.terms import (
    Condition,
    Quantity,
    parse_conditions,
    parse_quantity,
    parse_transform,
)
from hbpipe.model.families import BY_ARM, COMPARABLE, FAMILIES
from hbpipe.model.weights import can_have


@pytest.mark.parametrize(
    ("role", "raw", "expected"),
    [
        ("trials", "rows", Quantity("rows")),
        ("trials", "visits", Quantity("column", column="visits")),
        ("trials", {"column": "rows"}, Quantity("column", column="rows")),
        ("exposure", "days", Quantity("days")),
        ("exposure", "active_days", Quantity("active_days")),
        ("count", "days", Quantity("column", column="days")),
        ("value", {"column": "x", "transform": "log1p"}, Quantity("column", "x", "log1p")),
        (
            "count",
            {"where": [["x", ">", 0], ["y", "is_null"]]},
            Quantity("where", where=(Condition("x", ">", 0), Condition("y", "is_null"))),
        ),
    ],
)
def test_quantities(role, raw, expected):
    assert parse_quantity(role, raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (5, "value must be a column, rows, or a mapping, found 5"),
        ({"colum": "x"}, "unknown key 'colum' in value; did you mean 'column'"),
        ({True: "x", "column": "y"}, "unknown key True in value"),
        ({"column": 5}, "value needs a column"),
        ({"transform": "log"}, "value needs a column"),
        ({"column": "x", "transform": "sqrt"}, "unknown transform 'sqrt'"),
        ({"where": [["x", ">", 0]], "column": "x"}, "where counts rows and stands alone"),
        ({"where": []}, "where must be a list"),
    ],
)
def test_quantities_that_are_none(raw, message):
    with pytest.raises(ValueError, match=message):
        parse_quantity("value", raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("x > 0", "where must be a list"),
        (["x > 0"], "a condition is \\[column, operator, value\\]"),
        ([[5, ">", 0]], "a condition is"),
        ([["x"]], "a condition is"),
        ([["x", "=<", 0]], "unknown operator '=<'; did you mean"),
        ([["x", ">"]], "> needs a value"),
        ([["x", "is_null", True]], "is_null takes no value"),
        ([["x", "in", "abc"]], "in needs a list"),
        ([["x", "in", []]], "in needs a list"),
        ([["x", "in", [["a"]]]], "compares with a string, number or boolean"),
        ([["x", "==", None]], "compares with a string, number or boolean"),
        ([["x", "<", float("nan")]], "compares with a finite number"),
        ([["x", "<", 2**64]], "numbers of 64 bits"),
    ],
)
def test_conditions_that_are_none(raw, message):
    with pytest.raises(ValueError, match=message):
        parse_conditions(raw)


def test_conditions():
    raw = [["a", "==", "x"], ["b", "in", [1, 2.5]], ["c", "not_null"], ["d", "!=", False]]
    assert parse_conditions(raw) == (
        Condition("a", "==", "x"),
        Condition("b", "in", (1, 2.5)),
        Condition("c", "not_null"),
        Condition("d", "!=", False),
    )
    assert parse_transform(None) is None


def test_a_metric_and_what_it_reads():
    raw = {
        "family": "gamma_poisson",
        "count": {"where": [["kind", "==", "sale"]]},
        "exposure": "days",
        "per": "7d",
        "where": [["amount", ">", 0], ["kind", "not_null"]],
        "fixed": {"shape": 2},
        "target": 3,
    }
    metric = parse_metric("weekly", raw)
    assert metric.columns == ("kind", "amount")
    assert metric.calendar == "days"
    assert metric.per == 7.0
    assert metric.fixed == {"shape": 2.0}
    assert metric.target == 3.0
    measured = parse_metric("weekly", {**raw, "per": 1, "target": 4}).measured_by()
    assert measured == metric.measured_by()  # neither changes a day's statistics
    assert parse_metric("weekly", {**raw, "count": "rows"}).measured_by() != measured
    basket = {"family": "normal", "value": "x", "transform": "log"}
    assert parse_metric("m", basket).roles["value"].transform == "log"
    twice = {**basket, "value": {"column": "x", "transform": "log1p"}}
    with pytest.raises(ValueError, match="given once"):
        parse_metric("m", twice)


@pytest.mark.parametrize(
    ("per", "exposure", "ok"),
    [(7, "days", True), ("7d", "active_days", True), (1000.0, "sales", True)]
    + [(bad, "days", False) for bad in (0, -1, True, "7", "0d", float("inf"), float("nan"))]
    + [("7d", "sales", False)],
)
def test_the_unit_of_a_rate(per, exposure, ok):
    raw = {"family": "gamma_poisson", "count": "rows", "exposure": exposure, "per": per}
    if ok:
        assert parse_metric("m", raw).per == float(str(per).removesuffix("d"))
    else:
        with pytest.raises(ValueError, match="per must be a positive number, or days"):
            parse_metric("m", raw)


@pytest.mark.parametrize(
    ("given", "clusters", "correct", "by"),
    [
        ({}, (), False, "day"),
        ({"by": "day", "correct": True}, (), True, "day"),
        ({"by": "household"}, ("household",), False, "household"),
        ({"by": ["household", "basket"]}, ("household", "basket"), False, "household, basket"),
    ],
)
def test_the_cells_of_overdispersion(given, clusters, correct, by):
    metric = parse_metric("m", {"family": "normal", "value": "x", "overdispersion": given})
    assert (metric.cells.clusters, metric.cells.correct, metric.cells.by) == (clusters, correct, by)
    assert metric.columns == ("x", *clusters)
    plain = parse_metric("m", {"family": "normal", "value": "x"})
    assert (metric.measured_by() == plain.measured_by()) == (not clusters), "days are done again"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("day", "is a mapping with by and correct"),
        ({"per": "day"}, "unknown key 'per'; known: by, correct"),
        ({"by": 3}, "is day, a column or a list of columns, found 3"),
        ({"by": ["household", ""]}, "is day, a column or a list"),
        ({"correct": "yes"}, "is true or false, found 'yes'"),
    ],
)
def test_cells_that_are_none(given, message):
    with pytest.raises(ValueError, match=message):
        parse_metric("m", {"family": "normal", "value": "x", "overdispersion": given})


def test_every_fault_of_a_metric_is_told():
    raw = {
        "family": "beta_binomial",
        "success": "a",
        "fixed": 3,
        "target": True,
        "transform": "log",
    }
    with pytest.raises(ValueError, match="family beta_binomial needs") as caught:
        parse_metric("m", raw)
    assert len(str(caught.value).split("\n")) == 5


def test_the_names_that_no_level_may_have_are_those_of_the_tables():
    sampled = [f"{name}:sampling" for name, one in FAMILIES.items() if can_have(one, "sampling")]
    measured = [*FAMILIES, *(name + BY_ARM for name in COMPARABLE), *sampled]
    tables = [
        schemas.statistics_table({}, measured, clusters=True),
        schemas.months_table({}, measured, clusters=True),
        schemas.hyperparameters_table({}, ()),
        schemas.fits_table({}),
        posterior_schemas.posteriors_table({}, ()),
        posterior_schemas.new_stores_table({}, ()),
        diagnostics_table({}),
    ]
    assert {name for table in tables for name in table.schema.names} == RESERVED


def test_the_nearest_name_or_all_of_them():
    assert nearest("stroe", ["store", "chain"]) == "; did you mean 'store'?"
    assert nearest("x", ["store", 5]) == "; known: store, 5"
