"""Weights in the settings, on a batch, and as metrics of a night."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.data.batch import Batch
from hbpipe.data.measure import measure
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import Metric
from hbpipe.data.recount.weights import reduce_weighted
from hbpipe.model.families import get_family
from hbpipe.model.weights import with_weights

RATE: dict[str, Any] = {"family": "beta_binomial", "successes": "hit", "trials": "rows"}
VALUE: dict[str, Any] = {"family": "normal", "value": "x"}
KNOWN: dict[str, Any] = {"family": "normal_known_variance", "estimate": "y", "variance": "v"}


def metric(raw: dict[str, Any], meaning: Any, **changes: Any) -> Metric:
    return parse_metric("m", {**raw, "weights": {"column": "w", "meaning": meaning}, **changes})


def test_what_is_measured_and_what_is_fitted() -> None:
    names = {
        meaning: (one.measured.name, one.model.name, one.columns)
        for meaning in ("frequency", "sampling")
        if (one := metric(RATE, meaning))
    }
    assert names == {
        "frequency": ("beta_binomial:frequency", "beta_binomial", ("hit", "w")),
        "sampling": ("beta_binomial:sampling", "beta_binomial", ("hit", "w")),
    }
    assert metric(KNOWN, "precision").measured.name == "normal_known_variance:precision"
    precise = metric(VALUE, "precision", transform="log")
    assert precise.family == precise.measured.name == precise.model.name == "normal_weighted"
    assert precise == parse_metric(
        "m", {"family": "normal_weighted", "value": "x", "precision": "w", "transform": "log"}
    )


def test_each_meaning_is_another_measure() -> None:
    raw = [parse_metric("m", RATE), metric(RATE, "frequency"), metric(RATE, "sampling")]
    made = [repr(one.measured_by()) for one in raw]
    assert len(set(made)) == 3
    assert "weight" not in made[0]


def test_a_bare_column_is_refused_with_the_four_meanings() -> None:
    with pytest.raises(ValueError, match="'w' does not say what its numbers mean") as caught:
        parse_metric("m", {**RATE, "weights": "w"})
    for word in ("frequency", "precision", "sampling", "decay: {half_life: 14d}"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({**RATE, "weights": {"column": "w"}}, "meaning is frequency .*found None"),
        ({**RATE, "weights": {"column": "w", "meaning": "freqency"}}, "did you mean 'frequency'"),
        ({**RATE, "weights": {"column": 3, "meaning": "sampling"}}, "weights is {column: w"),
        ({**RATE, "weights": {"column": "w", "meaning": "sampling", "by": 1}}, "unknown key 'by'"),
        ({**RATE, "weight": "w"}, "unknown key 'weight'; did you mean 'weights'"),
    ],
)
def test_faults_of_weights(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_metric("m", raw)


@pytest.mark.parametrize(
    ("raw", "meaning", "changes", "message"),
    [
        (RATE, "precision", {}, "precision are not defined for beta_binomial"),
        (
            {"family": "hurdle_lognormal", "value": "x", "trials": "rows"},
            "frequency",
            {},
            "frequency are not defined for hurdle_lognormal",
        ),
        (
            {"family": "normal_regression", "response": "y", "predictors": [1, "x"]},
            "sampling",
            {},
            "sampling are not defined for normal_regression",
        ),
        (RATE, "sampling", {"overdispersion": {"by": "day"}}, "overdispersion does not go with"),
        (RATE, "sampling", {"decay": {"half_life": "7d"}}, "decay does not go with"),
        (
            RATE,
            "frequency",
            {"experiment": {"arm": "group", "control": "A"}},
            "experiment does not go with weights",
        ),
        (
            {"family": "gamma_poisson", "count": "rows", "exposure": "days"},
            "sampling",
            {},
            "exposure: days does not go with",
        ),
    ],
)
def test_what_weights_do_not_go_with(
    raw: dict[str, Any], meaning: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(raw, meaning, **changes)


def test_impossible_weights_are_rejected_for_the_metric_alone() -> None:
    rows = pa.table(
        {
            "hit": [True, False, True, True, True, None, False],
            "w": [1.0, 2.5, -1.0, float("nan"), float("inf"), 1.0, None],
        }
    )
    expected = {("w", "negative", 2), ("w", "not a number", 3), ("w", "infinite", 4)}
    for meaning, more in (("frequency", {("w", "not whole", 1)}), ("sampling", set())):
        one = metric(RATE, meaning)
        found = measure(Batch(rows), one, one.measured, np.ones(7, np.bool_))
        assert {(r.column, r.reason, *r.rows.tolist()) for r in found.refusals} == expected | more
        assert np.flatnonzero(found.skipped).tolist() == [5, 6]
        assert found.rows.tolist() == ([0] if more else [0, 1])


def test_visits_that_stand_for_several_are_recounted() -> None:
    family = with_weights(get_family("hurdle_lognormal"), "frequency")
    events = {
        "value": np.array([5.0, 0.0, 7.0, 0.0, 2.0]),
        "trials": np.array([1, 2, 1, 1, 1]),
        "weight": np.array([2, 3, 1, 0, 0]),
    }
    rows = [{name: values[k].item() for name, values in events.items()} for k in range(5)]
    for some in (slice(0, 5), slice(1, 2), slice(4, 5)):
        part = {name: values[some] for name, values in events.items()}
        codes = np.zeros(len(part["weight"]), np.int64)
        expected = reduce_weighted("hurdle_lognormal", "frequency", rows[some])
        for name, values in family.summarise(part, codes, 1).items():
            assert values[0] == pytest.approx(expected[name])
