"""One metric on one batch: what counts, what is skipped, excluded and refused."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from kernel import parse

from hbpipe.data.batch import Batch
from hbpipe.data.events import FileState, Piece
from hbpipe.data.measure import measure
from hbpipe.data.rejections import MAX_EXAMPLES, REMEDIES, merge_rejections, reject
from hbpipe.errors import StatisticsError
from hbpipe.model.families import FAMILIES, get_family

SHARE = {"family": "beta_binomial", "successes": "a", "trials": "b"}


def measured(table: pa.Table, raw: dict, accepted=None):
    (metric,) = parse({"m": raw})
    everything = np.ones(table.num_rows, np.bool_)
    mask = everything if accepted is None else np.array(accepted)
    return measure(Batch(table), metric, get_family(metric.family), mask)


def test_the_fast_path_takes_everything_as_it_is():
    table = pa.table({"a": [1, 0, 2], "b": [2, 2, 2]})
    found = measured(table, SHARE)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.values["successes"].tolist() == [1, 0, 2]
    assert found.refusals == ()
    assert not found.skipped.any()
    assert not found.excluded.any()


def test_the_fast_path_still_refuses():
    table = pa.table({"a": [1.0, 3.0, -1.0], "b": [2.0, 2.0, 2.0]})
    found = measured(table, SHARE)
    assert found.rows.tolist() == [0]
    assert found.values["successes"].tolist() == [1]
    assert found.values["trials"].dtype == np.int64
    assert [(r.column, r.reason, r.rows.tolist()) for r in found.refusals] == [
        ("a", "negative", [2]),
        ("a", "successes exceed trials", [1]),
    ]


def test_a_visit_without_an_amount_is_one_without_a_purchase():
    amounts = pa.array([5.0, None, 0.0, -1.0, np.nan, 2.0])
    table = pa.table({"amount": amounts, "visits": [1, 3, None, 1, 1, 0]})
    raw = {"family": "hurdle_lognormal", "value": "amount", "trials": "visits"}
    found = measured(table, raw)
    assert found.rows.tolist() == [0, 1]
    assert found.values["value"].tolist() == [5.0, 0.0]
    assert found.values["trials"].tolist() == [1, 3]
    assert np.flatnonzero(found.skipped).tolist() == [2]
    assert {(r.column, r.reason): r.rows.tolist() for r in found.refusals} == {
        ("amount", "not a number"): [4],
        ("amount", "negative"): [3],
        ("amount", "value without trials"): [5],
    }
    whole = measured(pa.table({"amount": [3, None, 0]}), {**raw, "trials": "rows"})
    assert whole.values["value"].tolist() == [3.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="a logarithm may be negative"):
        measured(table, {**raw, "transform": "log"})


def test_rows_that_are_not_accepted_have_no_say():
    table = pa.table({"a": pa.array([1, 2**64 - 1, None], pa.uint64()), "b": [2, -1, None]})
    found = measured(table, SHARE, [True, False, False])
    assert found.rows.tolist() == [0]
    assert found.refusals == ()
    assert not found.skipped.any()
    with pytest.raises(StatisticsError, match="18446744073709551615 does not fit") as caught:
        measured(table, SHARE, [True, True, False])
    assert caught.value.where == {"metric": "m", "column": "a"}
    kept = {**SHARE, "where": [["a", "<", 10]]}
    assert measured(table, kept, [True, True, True]).excluded.tolist() == [False, True, True]


def test_no_rows():
    table = pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.bool_())})
    assert len(measured(table, SHARE).rows) == 0
    table = pa.table({"a": [None, None], "b": pa.array([True, None])})
    table = table.set_column(0, "a", table.column("a").cast(pa.int8()))
    found = measured(table, SHARE)
    assert len(found.rows) == 0
    assert found.skipped.all()


def test_a_metric_of_rows_and_days_reads_no_column():
    raw = {"family": "gamma_poisson", "count": "rows", "exposure": "days"}
    found = measured(pa.table({"x": [1, 2]}), raw, [True, False])
    assert found.rows.tolist() == [0]
    assert {name: values.tolist() for name, values in found.values.items()} == {"count": [True]}


@pytest.mark.parametrize(("values", "refused"), [([True, False], [1]), ([True, True], [])])
def test_a_truth_value_as_a_variance(values, refused):
    raw = {"family": "normal_known_variance", "estimate": "x", "variance": "v"}
    found = measured(pa.table({"x": [1.0, 2.0], "v": values}), raw)
    assert [r.rows.tolist() for r in found.refusals] == ([refused] if refused else [])


@pytest.mark.parametrize("transform", ["log", "log1p"])
def test_a_truth_value_has_a_logarithm(transform):
    raw = {"family": "normal", "value": "x", "transform": transform}
    found = measured(pa.table({"x": [True, False]}), raw)
    expected = {"log": [0.0], "log1p": [np.log(2), 0.0]}[transform]
    assert found.values["value"].tolist() == expected
    assert len(found.refusals) == (1 if transform == "log" else 0)


@pytest.mark.parametrize("chunks", [0, 1, 3])
@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">=", "in"])
def test_text_conditions_on_dictionaries_equal_those_on_text(sign, chunks):
    text = pa.chunked_array([pa.array(["b", None, "a", "c"])] * chunks, pa.string())
    value = ["b", "z"] if sign == "in" else "b"
    raw = {
        "family": "beta_binomial",
        "successes": {"where": [["t", sign, value]]},
        "trials": "rows",
    }
    coded = pa.chunked_array(
        [chunk.dictionary_encode() for chunk in text.chunks],
        pa.dictionary(pa.int32(), pa.string()),
    )
    plain = measured(pa.table({"t": text}), raw).values["successes"]
    assert measured(pa.table({"t": coded}), raw).values["successes"].tolist() == plain.tolist()
    python = {"==": "b".__eq__, "!=": "b".__ne__, "<": "b".__gt__, "<=": "b".__ge__}
    python |= {">": "b".__lt__, ">=": "b".__le__, "in": "b".__eq__}
    assert plain.tolist() == [t is not None and python[sign](t) for t in text.to_pylist()]


def test_a_condition_on_nothing_but_nulls():
    table = pa.table({"t": pa.nulls(2, pa.string()), "x": pa.nulls(2, pa.float32())})
    for condition, holds in (
        (["t", "is_null"], True),
        (["t", "!=", "a"], False),
        (["x", "!=", 1], False),
        (["x", "not_null"], False),
    ):
        raw = {"family": "beta_binomial", "successes": {"where": [condition]}, "trials": "rows"}
        assert measured(table, raw).values["successes"].tolist() == [holds, holds]


# --- rejections ---------------------------------------------------------------------------------


def test_every_reason_has_a_remedy():
    reasons = {"negative", "not a number", "infinite", "not whole"}
    for family in FAMILIES.values():
        for role in family.roles:
            reasons |= {f"{role.name} not above zero"} if role.exclusive else set()
            reasons |= {f"{role.name} exceed {role.at_most}"} if role.at_most else set()
            reasons |= {f"{role.name} without {role.needs}"} if role.needs else set()
    keys = {
        "missing level",
        "empty level",
        "unreadable level",
        "missing event id",
        "missing time",
        "unreadable time",
    }
    logarithm = {"logarithm of a value not above zero", "day out of range"}
    spells = {"more than one event"}
    assert reasons | keys | logarithm | spells == REMEDIES.keys()


def example(values, kind=None, rows=None, lengths=(2, 3)):
    column = pa.chunked_array([pa.array(values, kind)])
    firsts = (10, 40)
    return reject(
        file="a",
        day=1,
        metric="",
        column="c",
        reason="negative",
        values=column,
        rows=np.arange(len(values)) if rows is None else np.array(rows),
        piece=Piece(FileState("a", 1, 1), (3, 7), firsts, lengths),
    )


def test_examples_say_where_to_look():
    found = example([1, 2, 3, None, 5], rows=[0, 1, 2, 3])
    assert [(e.row_group, e.row, e.value) for e in found.examples] == [
        (3, 10, "1"),
        (3, 11, "2"),
        (7, 40, "3"),
        (7, 41, "null"),
    ]


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        ("tab\t\u2028", pa.string(), "tab\\x09\\x2028"),
        ("ä" * 300, pa.large_string(), "ä" * 199 + "…"),
        (datetime(2026, 3, 2), pa.timestamp("us"), "2026-03-02 00:00:00.000000"),
        (1, pa.timestamp("ns"), "1970-01-01 00:00:00.000000001"),
        (2**62, pa.timestamp("ms"), "<value out of range: 4611686018427387904>"),
        (True, pa.bool_(), "True"),
        (float("nan"), pa.float32(), "nan"),
        ("a", pa.dictionary(pa.int8(), pa.string()), "a"),
    ],
)
def test_values_are_shown_whatever_they_are(value, kind, shown):
    (one,) = example([value], kind, lengths=(1, 0)).examples
    assert one.value == shown


def test_counts_are_exact_and_examples_bounded():
    many = example(list(range(900)), lengths=(900, 0))
    merged = merge_rejections([many, many, example([1], lengths=(1, 0))])
    (one,) = merged
    assert one.rows == 1801
    assert len(one.examples) == MAX_EXAMPLES
    assert one.examples[:900] == many.examples


def test_rows_are_left_out_once_and_only_where_something_was_asked():
    table = pa.table({"a": [1, None, None, 1], "b": [2, None, 2, 2], "c": [1, 1, 1, 0]})
    found = measured(table, {**SHARE, "where": [["c", "==", 1]]}, [True, True, True, True])
    assert found.excluded.tolist() == [False, False, False, True]
    assert found.skipped.tolist() == [False, True, True, False]
    assert found.rows.tolist() == [0]
    whole = measured(table.slice(3), SHARE)
    assert len(whole.excluded) == len(whole.skipped) == 0
    assert whole.used.tolist() == [True]
