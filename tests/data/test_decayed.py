"""Windows whose days lose weight by age, counted once more from the events themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel import event_format, parse, run_kernel, snapshot_of, write

from hbpipe.data.clock import to_number
from hbpipe.data.parsing import parse_metric
from hbpipe.data.window import Folded, WindowOrder, fold_window

HALF_LIFE = 4
AGES = {"decay": {"half_life": f"{HALF_LIFE}d"}}
SHARE = {"family": "beta_binomial", "successes": "hit", "trials": "rows"}
METRICS: dict[str, Any] = {
    "share": {**SHARE, **AGES},
    "undecayed": {**SHARE, "decay": {"half_life": "4d", "fit": "undecayed"}},
    "plain": SHARE,
    "weekly": {
        "family": "gamma_poisson",
        "count": "hit",
        "exposure": "days",
        "per": "7d",
        **AGES,
    },
    "active": {"family": "gamma_poisson", "count": "hit", "exposure": "active_days", **AGES},
}
FIRST, DAYS, LENGTH = date(2026, 1, 20), 30, 20
BEGIN = to_number(FIRST)
#: Day, chain, store, and whether it is a hit: one store moves, one is silent, one is new.
EVENTS: list[tuple[int, str, str, bool]] = [
    *((day, "A" if day < 15 else "B", "moves", day % 3 == 0) for day in range(3, DAYS)),
    *((day, "A", "busy", day % 5 < k) for day in range(10, DAYS) for k in range(4)),
    *((day, "A", "silent", True) for day in (11, 12)),
    *((day, "B", "new", day == 28) for day in (27, 28, 28)),
]


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> WindowOrder:
    folder: Path = tmp_path_factory.mktemp("decayed")
    noon = datetime(FIRST.year, FIRST.month, FIRST.day, 12)
    rows = [
        {"ts": noon + timedelta(days=day), "chain": chain, "store": store, "hit": hit}
        for day, chain, store, hit in EVENTS
    ]
    write(folder / "events" / "a.parquet", rows)
    form = event_format(folder / "events")
    days = snapshot_of(form, METRICS, folder / "lake", run_kernel(form, METRICS, folder / "lake"))
    begin = (FIRST + timedelta(days=DAYS - LENGTH)).isoformat()
    window = days.select(lambda file: file.partition["day"] >= begin)
    return WindowOrder(
        metrics=parse(METRICS),
        levels=form.levels,
        window=window,
        history=days.select(lambda file: file.partition["day"] < begin),
        listed=None,
        within_parent=False,
        first_day=BEGIN + DAYS - LENGTH,
        as_of=BEGIN + DAYS - 1,
        silent_since=BEGIN + DAYS - LENGTH,
        by_day=window,
    )


@pytest.fixture(scope="module")
def folded(order: WindowOrder) -> Folded:
    return fold_window(order)


def weight(age: int) -> Fraction:
    return Fraction(2.0 ** (-age / HALF_LIFE))


def expected(store: str, *, capped: bool, before: bool = False) -> dict[str, float]:
    """Sums of one store by brute force: trials, successes, days and active days."""
    as_of = DAYS - 1 - before
    mine = [(day, hit) for day, _, name, hit in EVENTS if name == store]
    within = [(as_of - day, hit) for day, hit in mine if DAYS - LENGTH <= day <= as_of]
    first = max(min(day for day, _ in mine), DAYS - LENGTH)
    every = [weight(age) for age in range(LENGTH - before)]
    most = sum(every) / sum(w * w for w in every)

    def scaled(ages: list[int], total: list[int]) -> tuple[float, float]:
        size = sum((weight(age) for age in ages), Fraction(0))
        squares = sum((weight(age) ** 2 for age in ages), Fraction(0))
        factor = size / squares if squares else Fraction(1)
        factor = min(factor, most) if capped else factor
        return float(size * factor), float(factor * sum((weight(a) for a in total), Fraction(0)))

    hits = [age for age, hit in within if hit]
    trials, successes = scaled([age for age, _ in within], hits)
    days, per_day = scaled(list(range(as_of - first + 1)), hits)
    active, per_active = scaled(sorted({age for age, _ in within}), hits)
    return {
        "trials": trials,
        "successes": successes,
        "days": days,
        "per_day": per_day,
        "active": active,
        "per_active": per_active,
    }


def assert_statistics(folded: Folded, some: Any, *, capped: bool, before: bool = False) -> None:
    for unit, store in enumerate(folded.keys[-1].to_pylist()):
        want = expected(store, capped=capped, before=before)
        found = {
            "trials": some["share"]["trials"][unit],
            "successes": some["share"]["successes"][unit],
            "days": 7.0 * some["weekly"]["exposure"][unit],
            "per_day": some["weekly"]["count"][unit],
            "active": some["active"]["exposure"][unit],
            "per_active": some["active"]["count"][unit],
        }
        for name, value in want.items():
            assert found[name] == pytest.approx(value, rel=1e-7, abs=1e-8), (store, name)


def test_units_are_updated_with_events_that_fade(folded: Folded) -> None:
    keys = zip(*(key.to_pylist() for key in folded.keys), strict=True)
    assert set(keys) == {("A", "busy"), ("A", "silent"), ("B", "moves"), ("B", "new")}
    assert_statistics(folded, folded.statistics, capped=True)


def test_pools_are_fitted_to_effective_sizes(folded: Folded) -> None:
    assert_statistics(folded, folded.for_fit, capped=False)
    for name, values in folded.statistics["plain"].items():
        np.testing.assert_array_equal(folded.for_fit["undecayed"][name], values)
        np.testing.assert_array_equal(folded.whole("undecayed")[name], values)
        np.testing.assert_array_equal(folded.whole("share")[name], values)
    assert folded.fitted("plain") is folded.statistics["plain"]


def test_the_night_before_saw_its_own_ages(order: WindowOrder, folded: Folded) -> None:
    assert folded.recent is not None
    rest = {name: apart.rest for name, apart in folded.recent.apart.items()}
    assert_statistics(folded, rest, capped=True, before=True)
    # The night before itself, of a window that begins with the same day.
    last = (FIRST + timedelta(days=DAYS - 1)).isoformat()
    window = order.window.select(lambda file: file.partition["day"] < last)
    earlier = fold_window(replace(order, window=window, by_day=window, as_of=order.as_of - 1))
    assert [k.to_pylist() for k in earlier.keys] == [k.to_pylist() for k in folded.keys]
    for metric in ("share", "weekly", "active"):
        for name, values in earlier.statistics[metric].items():
            np.testing.assert_allclose(rest[metric][name], values, rtol=1e-8, atol=1e-8)


def test_only_the_model_knows_of_a_decay() -> None:
    plain, aged = parse_metric("m", SHARE), parse_metric("m", {**SHARE, **AGES})
    assert aged.measured_by() == plain.measured_by()
    assert repr(aged) != repr(plain)
    assert (plain.by_day, aged.by_day) == (False, True)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (14, "decay is a mapping with half_life and fit, found 14"),
        ({"half_life": 14}, "decay.half_life is a number of days such as 14d, found 14"),
        ({"half_life": "0d"}, "decay.half_life is a number of days such as 14d, found '0d'"),
        ({"fit": "undecayed"}, "decay.half_life is a number of days such as 14d, found None"),
        ({"half_life": "14d", "fit": "raw"}, "decay.fit is decayed or undecayed, found 'raw'"),
        ({"halflife": "14d"}, "decay: unknown key 'halflife'; known: half_life, fit"),
    ],
)
def test_what_is_wrong_with_a_decay_is_told(raw: Any, told: str) -> None:
    with pytest.raises(ValueError, match="decay") as caught:
        parse_metric("m", {**SHARE, "decay": raw})
    assert str(caught.value) == told


def test_a_regression_does_not_decay() -> None:
    line = {"family": "normal_regression", "response": "x", "predictors": [1, "v"]}
    with pytest.raises(ValueError, match="decay is not defined for the family normal_regression"):
        parse_metric("m", {**line, **AGES})
