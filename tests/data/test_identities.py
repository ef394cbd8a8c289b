"""Statistics that no events have, and units that stand twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.data.identities import (
    count_impossible,
    count_repeated,
    count_repeated_in_order,
)
from hbpipe.model.families import get_family

GOOD: dict[str, dict[str, Any]] = {
    "beta_binomial": {"successes": [0, 2], "trials": [0, 3]},
    "normal": {"n": [0, 2], "mean": [0.0, -1.0], "m2": [0.0, 4.0]},
    "gamma_poisson": {"count": [3, 0], "exposure": [0.0, 1.0]},
    "normal_known_variance": {"estimate": [0.0, 1.0], "variance": [np.inf, 2.0]},
}


def wrong(family: str, **changed: Any) -> int:
    arrays = {name: np.array(values) for name, values in (GOOD[family] | changed).items()}
    return count_impossible(get_family(family), arrays)


@pytest.mark.parametrize("family", GOOD)
def test_what_events_give_is_possible(family: str) -> None:
    """A count without exposure too: days of the calendar come later."""
    assert wrong(family) == 0


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("beta_binomial", {"successes": [0, 4]}),
        ("beta_binomial", {"trials": [-1, 3], "successes": [-1, 3]}),
        ("normal", {"m2": [0.0, -1e-9]}),
        ("normal", {"mean": [0.0, np.nan]}),
        ("normal", {"mean": [0.0, np.inf]}),
        ("gamma_poisson", {"exposure": [-1.0, 1.0]}),
        ("normal_known_variance", {"variance": [np.inf, -2.0]}),
    ],
)
def test_what_no_events_give(family: str, changed: dict[str, Any]) -> None:
    assert wrong(family, **changed) == 1


def test_units_that_stand_twice() -> None:
    chain, store = pa.array(["a", "a", "b"]), pa.array([1, 2, 1])
    assert count_repeated([chain, store]) == 0
    assert count_repeated([chain]) == 1
    assert count_repeated([pa.chunked_array([[1, 1], [1]])]) == 2
    assert count_repeated_in_order([chain, store]) == 0
    assert count_repeated_in_order([chain]) == 1
    assert count_repeated_in_order([chain.slice(0, 0)]) == 0
