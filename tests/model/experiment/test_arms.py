"""The statistics of two arms side by side."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from hbpipe.errors import StatisticsError
from hbpipe.model.experiment.arms import arm_of, side_by_side
from hbpipe.model.families import ARMS, COMPARABLE, FAMILIES, get_family
from hbpipe.model.statistics import check_statistics

EVENTS = 400


def drawn(name: str, seed: int = 1) -> tuple[dict[str, Any], np.ndarray]:
    """Events of ten stores; the last store has no treatment, the first no event."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 10, EVENTS)
    arm = np.where(codes == 9, 0, rng.integers(0, 2, EVENTS))
    if name == "normal":
        return {"value": rng.normal(50.0, 3.0, EVENTS), "arm": arm}, codes
    trials = rng.integers(0, 5, EVENTS)
    return {"successes": rng.binomial(trials, 0.3), "trials": trials, "arm": arm}, codes


@pytest.mark.parametrize("name", COMPARABLE)
def test_each_arm_is_what_its_events_are_alone(name: str) -> None:
    family, base = get_family(f"{name}_by_arm"), get_family(name)
    events, codes = drawn(name)
    found = family.summarise(events, codes, 10)
    assert list(found) == [one.name for one in family.statistics]
    for number, arm in enumerate(ARMS):
        mine = events["arm"] == number
        own = {role: values[mine] for role, values in events.items() if role != "arm"}
        expected = base.summarise(own, codes[mine], 10)
        for key, values in arm_of(base, found, arm).items():
            np.testing.assert_array_equal(values, expected[key])
    assert check_statistics(family, found).keys() == found.keys()


@pytest.mark.parametrize("name", COMPARABLE)
def test_parts_combine_to_the_whole_and_absent_is_the_identity(name: str) -> None:
    family = get_family(f"{name}_by_arm")
    events, codes = drawn(name)
    whole = family.summarise(events, codes, 10)
    halves = [
        family.summarise({k: v[some] for k, v in events.items()}, codes[some], 10)
        for some in (slice(0, 170), slice(170, None))
    ]
    absent = {one.name: np.full(10, one.absent, one.dtype) for one in family.statistics}
    for found in (family.combine(*halves), family.combine(whole, absent)):
        for key, values in whole.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-12)


def test_impossible_statistics_of_an_arm_are_refused() -> None:
    family = get_family("beta_binomial_by_arm")
    arm = {"successes": [3], "trials": [5]}
    worse = {"successes": [7], "trials": [5]}
    with pytest.raises(StatisticsError, match="more than trials_treatment"):
        check_statistics(family, side_by_side(arm, worse))


@pytest.mark.parametrize("name", COMPARABLE)
def test_a_two_arm_family_travels_by_name_and_is_none_to_choose(name: str) -> None:
    family = get_family(f"{name}_by_arm")
    assert pickle.loads(pickle.dumps(family)) is family
    assert family.name not in FAMILIES
    assert family.dispersion is None
