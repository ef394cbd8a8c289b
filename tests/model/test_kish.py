"""Weighted statistics and their effective sizes, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import events

from hbpipe.errors import FitError
from hbpipe.model.decay import decay, weight
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.family import Family
from hbpipe.model.kish import WeightedSums, can_weigh, effective, size_of
from hbpipe.model.statistics import check_statistics

WEIGHED = [family for family in FAMILIES.values() if can_weigh(family)]
every_family = pytest.mark.parametrize("family", WEIGHED, ids=lambda family: family.name)

Exact = dict[str, Any]


def exact_sums(family: Family, parts: list[tuple[Fraction, Exact]]) -> tuple[Exact, Fraction]:
    """Weighted statistics of one store, and Σ w² n, straight from their definitions."""
    first = family.statistics[0].merge
    if first == "moments":
        size = [(w, x["n"]) for w, x in parts]
        n = sum((w * k for w, k in size), Fraction(0))
        mean = (
            sum((w * x["n"] * x["mean"] for w, x in parts), Fraction(0)) / n if n else Fraction(0)
        )
        m2 = sum((w * (x["m2"] + x["n"] * (x["mean"] - mean) ** 2) for w, x in parts), Fraction(0))
        found = {"n": n, "mean": mean, "m2": m2}
    elif first == "precision":
        known = [(w, x["estimate"], 1 / x["variance"]) for w, x in parts if x["variance"]]
        size = [(w, p) for w, _, p in known]
        total = sum((w * p for w, p in size), Fraction(0))
        estimate = sum((w * p * e for w, e, p in known), Fraction(0))
        found = {"estimate": estimate / total if total else Fraction(0), "precision": total}
    else:
        names = [item.name for item in family.statistics]
        found = {
            name: sum((w * x[name] for w, x in parts), 0 * parts[0][1][name]) for name in names
        }
        of = {"beta_binomial": "trials", "gamma_poisson": "exposure"}.get(family.name)
        size = [(w, x[of] if of else sum(x["counts"])) for w, x in parts]
    return found, sum((w * w * k for w, k in size), Fraction(0))


def exact_size(family: Family, sums: Exact) -> Fraction:
    names = ("trials", "exposure", "n", "precision")
    return next((sums[name] for name in names if name in sums), sum(sums.get("counts", [])))


def as_exact(family: Family, statistics: dict[str, NDArray[Any]], row: int) -> Exact:
    """One store in fractions; an infinite variance is None."""

    def one(value: Any) -> Any:
        if np.ndim(value):
            return np.array([Fraction(float(x)) for x in value], object)
        return None if np.isinf(value) else Fraction(float(value))

    return {item.name: one(statistics[item.name][row]) for item in family.statistics}


@settings(max_examples=60)
@given(st.data())
def test_effective_statistics_are_those_of_exact_fractions(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(WEIGHED))
    columns, codes, n = data.draw(events(family))
    if "exposure" in columns:  # no count comes without one
        columns["exposure"] = np.maximum(columns["exposure"], 0.5)
    half_life = data.draw(st.sampled_from([0.5, 1.0, 3.0, 40.0]))
    days = data.draw(st.lists(st.integers(0, 9), min_size=len(codes), max_size=len(codes)))
    age = np.array(days, np.int64)
    sums, parts = WeightedSums(family, n), [[] for _ in range(n)]
    for day in range(9, -1, -1):
        own = {name: values[age == day] for name, values in columns.items()}
        part = family.summarise(own, codes[age == day], n)
        sums.add(np.arange(n), part, weight(day, half_life))
        for store in range(n):
            of_store = as_exact(family, part, store)
            parts[store].append((Fraction(weight(day, half_life)), of_store))
    found = sums.effective()
    check_statistics(family, found)
    size = size_of(family, found)
    for store in range(n):
        exact, squares = exact_sums(family, parts[store])
        total = exact_size(family, exact)
        factor = total / squares if squares else Fraction(1)
        assert size[store] == pytest.approx(float(total * factor), rel=1e-9, abs=1e-8)
        for name, value in exact.items():
            if name == "precision":
                continue
            wanted = value if name in ("mean", "estimate") else value * factor
            wanted = np.asarray(wanted, np.float64)
            scale = 1e12 if name == "m2" else 1e6
            np.testing.assert_allclose(
                found[name][store], wanted, rtol=1e-9, atol=1e-13 * scale + 1e-8
            )


@every_family
def test_weights_that_are_all_the_same_are_none(family: Family) -> None:
    """Whole counts come back bit for bit; means and squares to rounding."""
    rng = np.random.default_rng(1)
    point = family.from_coordinates(
        np.array([0.1 if axis.spread else 0.3 for axis in family.coordinates])
    )
    rows, days = 30, 6
    parts = []
    for _ in range(days):
        columns, codes, _ = family.simulate(rng, point, rows, rng.integers(0, 5, rows))
        parts.append(family.summarise(columns, codes, rows))
    whole = parts[0]
    for part in parts[1:]:
        whole = family.combine(whole, part)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    stores, ages = np.tile(np.arange(rows), days), np.repeat(np.arange(days)[::-1], rows)
    found = decay(family, joined, stores, ages, half_life=np.inf)
    tilted = WeightedSums(family, rows)
    for part in parts:
        tilted.add(np.arange(rows), part, 0.125)
    for item in family.statistics:
        for some in (found.for_fit, found.for_update, tilted.effective()):
            if item.dtype == "int64":
                np.testing.assert_array_equal(some[item.name], whole[item.name])
            else:
                np.testing.assert_allclose(
                    some[item.name], whole[item.name], rtol=1e-12, atol=1e-12
                )


def test_a_silent_store_returns_to_its_pool_and_a_busy_one_keeps_its_size() -> None:
    days = {"successes": np.full(41, 10), "trials": np.full(41, 100)}
    stores, ages = np.append(np.zeros(40, int), 1), np.append(np.arange(40), 39)
    found = decay("beta_binomial", days, stores, ages, half_life=4)
    w = 2.0 ** (-np.arange(40) / 4)
    kish = np.sum(w) ** 2 / np.sum(w**2)
    np.testing.assert_allclose(found.for_fit["trials"], [100 * kish, 100], rtol=1e-8)
    faded = 100 * w[39] * np.sum(w) / np.sum(w**2)
    np.testing.assert_allclose(found.for_update["trials"], [100 * kish, faded], rtol=1e-6)
    for some in (found.for_fit, found.for_update):
        np.testing.assert_allclose(some["successes"], 0.1 * some["trials"], rtol=1e-6)


def test_a_store_without_data_stays_one() -> None:
    for family in WEIGHED:
        nothing = WeightedSums(family, 2).effective()
        for item in family.statistics:
            np.testing.assert_array_equal(nothing[item.name], item.absent)


def test_effective_sizes_never_exceed_the_counted() -> None:
    rng = np.random.default_rng(2)
    trials, ages = rng.integers(0, 40, 600), np.tile(np.arange(30), 20)
    stores = np.repeat(np.arange(20), 30)
    days = {"successes": rng.binomial(trials, 0.2), "trials": trials}
    whole = get_family("beta_binomial").fold(days, stores, 20)["trials"]
    for half_life in (0.1, 2.0, 30.0):
        found = decay("beta_binomial", days, stores, ages, half_life=half_life)
        assert np.all(found.for_update["trials"] <= found.for_fit["trials"])
        assert np.all(found.for_fit["trials"] <= whole + 1e-9)


def test_what_cannot_be_weighed_is_refused() -> None:
    family = get_family("normal_regression", 2)
    assert not can_weigh(family)
    with pytest.raises(FitError, match="normal_regression has no effective size"):
        effective(family, {}, np.zeros(0))
    with pytest.raises(FitError, match="half-life is 0"):
        decay("normal", {"n": [1], "mean": [0.0], "m2": [0.0]}, [0], [0], half_life=0)
