"""A mix of classes in the settings, on a batch, and in the recount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kernel import event_format, recount_spec, run_kernel, write

from hbpipe.data.batch import Batch
from hbpipe.data.classes import Classes, read_classes
from hbpipe.data.columns import schema_faults
from hbpipe.data.measure import measure
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import Metric
from hbpipe.data.recount import recount

MIX = {"family": "dirichlet_multinomial", "class": "kind", "classes": ["cash", "card"]}
WRITTEN = {
    "family": "dirichlet_multinomial",
    "counts": {
        "cash": {"where": [["kind", "==", "cash"]]},
        "card": {"where": [["kind", "==", "card"]]},
        "rest": {"where": [["kind", "not_null"], ["kind", "!=", "cash"], ["kind", "!=", "card"]]},
    },
    "where": [["kind", "not_null"]],
}


def metric(**changes: Any) -> Metric:
    return parse_metric("mix", {**MIX, **changes})


# --- settings -----------------------------------------------------------------------------------


def test_the_short_form_is_what_it_stands_for() -> None:
    short, long = metric(other="rest"), parse_metric("mix", WRITTEN)
    assert short.term_names == ("cash", "card", "rest")
    assert short.measured_by() == long.measured_by()
    assert short.columns == ("kind",)
    assert short.model.size == 3
    assert short.classes == Classes("kind", ("cash", "card"), others=True)


def test_without_a_name_for_others_they_do_not_count() -> None:
    written, classes = read_classes("counts", {**MIX, "where": [["n", ">", 0]]})
    assert written["where"] == [["n", ">", 0], ["kind", "in", ["cash", "card"]]]
    assert classes == Classes("kind", ("cash", "card"), others=False)
    assert list(written["counts"]) == ["cash", "card"]


def test_counts_may_be_a_mapping_or_a_list() -> None:
    counts = {"cash": "cash_n", "card": {"where": [["kind", "==", "card"]]}, "all": 1}
    named = parse_metric("mix", {"family": "dirichlet_multinomial", "counts": counts})
    assert named.term_names == ("cash", "card", "all")
    listed = parse_metric(
        "mix", {"family": "dirichlet_multinomial", "counts": ["cash_n", "card_n"]}
    )
    assert listed.term_names == ("cash_n", "card_n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": []}, "classes must list the values of kind"),
        ({"classes": None}, "classes must list the values of kind"),
        ({"classes": ["cash", "cash"]}, "'cash' is there twice"),
        ({"classes": ["cash", True]}, "texts or whole numbers, found True"),
        ({"other": "cash"}, "'cash' is there twice"),
        ({"class": 3}, "class must be the column"),
        ({"counts": {"cash": "n"}}, "either counts, or class with classes"),
        ({"classes": ["a,b", "c"]}, "cannot name a term"),
        ({"target": 0.5}, "target is about one of several terms"),
        ({"clases": ["cash"]}, "did you mean 'class"),
    ],
)
def test_faults_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(**changes)


def test_other_families_have_no_classes() -> None:
    with pytest.raises(ValueError, match="unknown key 'class'"):
        parse_metric("rate", {**MIX, "family": "beta_binomial", "successes": "a", "trials": "b"})


def test_the_schema_must_have_a_column_to_compare_with() -> None:
    columns = {"ts": pa.timestamp("us"), "chain": pa.string(), "store": pa.string()}
    schema = pa.schema(columns | {"kind": pa.float64()})
    assert schema_faults(schema, "a.parquet", event_format(Path()), [metric()]) == [
        "'kind' is double, but mix compares it with 'cash'",
        "'kind' is double, but mix compares it with 'card'",
    ]


# --- on a batch ---------------------------------------------------------------------------------

KINDS = ["cash", None, "card", "points", "cash"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(KINDS),
        pa.array(KINDS, pa.large_string()),
        pa.array(KINDS).dictionary_encode(),
        pa.chunked_array([pa.array(KINDS[:2]), pa.array(KINDS[2:])]),
        pa.chunked_array(
            [pa.array(KINDS[:2]).dictionary_encode(), pa.array(KINDS[2:]).dictionary_encode()]
        ),
    ],
    ids=["text", "large text", "dictionary", "chunks", "dictionaries"],
)
@pytest.mark.parametrize("other", [None, "rest"])
def test_a_row_has_the_number_of_its_class(column: Any, other: str | None) -> None:
    short = metric(**({} if other is None else {"other": other}))
    batch = Batch(pa.table({"kind": column}))
    found = measure(batch, short, short.model, batch.everything)
    rows, numbers = ([0, 2, 4], [0, 1, 0]) if other is None else ([0, 2, 3, 4], [0, 1, 2, 0])
    assert found.rows.tolist() == rows
    assert found.values["counts"].tolist() == numbers
    assert not found.refusals


def test_classes_may_be_whole_numbers() -> None:
    short = parse_metric("mix", {**MIX, "classes": [7, 9], "other": "rest"})
    batch = Batch(pa.table({"kind": pa.array([9, 7, 7, 1], pa.int16())}))
    assert short.term_names == ("7", "9", "rest")
    assert measure(batch, short, short.model, batch.everything).values["counts"].tolist() == [
        1,
        0,
        0,
        2,
    ]


def test_numbers_of_classes_sum_up_as_their_counts_do() -> None:
    family = metric(other="rest").model
    numbers, codes = np.array([2, 0, 1, 1, 2]), np.array([0, 0, 1, 3, 3])
    one_hot = np.eye(3, dtype=np.int64)[numbers]
    left, right = (family.summarise({"counts": x}, codes, 4) for x in (numbers, one_hot))
    np.testing.assert_array_equal(left["counts"], right["counts"])
    assert left["counts"].dtype == np.int64
    assert left["counts"].tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 1, 1]]


# --- against the recount ------------------------------------------------------------------------


@pytest.mark.parametrize("other", [None, "rest"])
def test_the_kernel_counts_as_the_recount_does(other: str | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"kind": KINDS[rng.integers(0, 5)], "store": f"A{rng.integers(0, 7)}"} for _ in range(200)
    ]
    write(tmp_path / "events" / "a.parquet", rows, 33)
    raw = MIX if other is None else {**MIX, "other": other}
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, {"mix": raw}, tmp_path / "lake")
    written, _ = read_classes("counts", raw)
    listed = {**written, "counts": list(written["counts"].values())}
    again = recount((tmp_path / "events").glob("*"), recount_spec(form, {"mix": listed}))
    assert counted.statistics["mix"] == again.statistics["mix"]
    total = np.sum([one["counts"] for one in counted.statistics["mix"].values()], axis=0)
    kinds = [row["kind"] for row in rows]
    expected = [kinds.count(kind) for kind in ("cash", "card", "points")]
    assert total.tolist() == (expected[:2] if other is None else expected)
