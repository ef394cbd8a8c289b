"""Days of a window compared with each other, against the rules applied day by day."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel import NOON, event_format, parse, run_kernel, snapshot_of, write

from hbpipe.data.clock import to_number
from hbpipe.data.window import WindowOrder, fold_window

METRICS = {
    "share": {"family": "beta_binomial", "successes": "hit", "trials": "rows"},
    "value": {"family": "normal", "value": "x"},
    "effect": {"family": "normal_known_variance", "estimate": "x", "variance": "v"},
    "rate": {"family": "gamma_poisson", "count": "hit", "exposure": "v"},
    "daily": {"family": "gamma_poisson", "count": "hit", "exposure": "days", "per": "7d"},
    "active": {"family": "gamma_poisson", "count": "hit", "exposure": "active_days"},
}
FIRST = date(2026, 3, 2)


def random_rows(days: int, seed: int) -> list[dict[str, Any]]:
    """Events of three stores, one of which opens on day 5; many days of a store have none."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(days * 4):
        store, day = int(rng.integers(3)), int(rng.integers(days))
        if store < 2 or day >= 5:
            rows.append(
                {
                    "ts": NOON + timedelta(days=day),
                    "store": f"A{store}",
                    "hit": bool(rng.random() < 0.4),
                    "x": float(rng.normal(100.0, 2.0)),
                    "v": float(rng.gamma(2.0)),
                }
            )
    return rows


def dispersed(folder: Path, rows: list[dict[str, Any]], first: int, last: int) -> Any:
    """Fold the window from day ``first`` to ``last``; metric -> store -> (squares, expected)."""
    write(folder / "events" / "a.parquet", rows)
    form = event_format(folder / "events")
    counted = run_kernel(form, METRICS, folder / "lake")
    snapshot = snapshot_of(form, METRICS, folder / "lake", counted)
    ends = [(FIRST + timedelta(days=n)).isoformat() for n in (first, last)]
    folded = fold_window(
        WindowOrder(
            metrics=parse(METRICS),
            levels=form.levels,
            window=snapshot.select(lambda f: ends[0] <= f.partition["day"] <= ends[1]),
            history=snapshot.select(lambda f: f.partition["day"] < ends[0]),
            listed=None,
            within_parent=False,
            first_day=to_number(FIRST) + first,
            as_of=to_number(FIRST) + last,
            silent_since=to_number(FIRST) + first,
        )
    )
    stores = folded.keys[-1].to_pylist()
    return {
        metric: dict(zip(stores, zip(sums.squares, sums.expected, strict=True), strict=True))
        for metric, sums in folded.dispersion.items()
    }


def by_the_rules(
    rows: list[dict[str, Any]], first: int, last: int, metric: str, store: str
) -> tuple[float, float]:
    """Squares over days and their mean, summed over the weekdays of each block of days."""
    mine = [(to_number(r["ts"].date()) - to_number(FIRST), r) for r in rows if r["store"] == store]
    opened = max(first, min(day for day, _ in mine))
    events: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for day, row in mine:
        if first <= day <= last:
            events[day].append(row)
    days = range(opened, last + 1) if metric == "daily" else sorted(events)
    strata: dict[Any, list[int]] = defaultdict(list)
    for day in days:
        strata[stratum(day, first, last)].append(day)
    squares = expected = 0.0
    for group in strata.values():
        cells = [cell(metric, events[day]) for day in group]
        n, y = (sum(part) for part in zip(*cells, strict=True))
        if n == 0:
            continue
        r = y / n
        squares += sum((total - size * r) ** 2 for size, total in cells)
        values = [row["x"] for day in group for row in events[day]]
        unit = {
            "share": r * (1 - r) * n / (n - 1) if n > 1 else 0.0,
            "value": float(np.var(values, ddof=1)) if len(values) > 1 else 0.0,
            "effect": 1.0,
        }.get(metric, r)
        expected += unit * n * (1 - sum(size**2 for size, _ in cells) / n**2)
    return squares, expected


def stratum(day: int, first: int, last: int) -> Any:
    """Weekday and month, where a whole month lies in the window; else weekday and four weeks."""
    dates = [FIRST + timedelta(days=k) for k in range(first, last + 1)]
    date = FIRST + timedelta(days=day)
    if len(dates) < 14:
        return "all"
    for one in dates:
        begins = one.day == 1
        ends = [d for d in dates if (d.year, d.month) == (one.year, one.month)][-1]
        if begins and (ends + timedelta(days=1)).day == 1:
            return date.weekday(), date.month
    return date.weekday(), (last - day) // 28


def cell(metric: str, events: list[dict[str, Any]]) -> tuple[float, float]:
    """Size and total of one day."""
    hits = float(sum(row["hit"] for row in events))
    precision = [1 / row["v"] for row in events]
    return {
        "share": (float(len(events)), hits),
        "value": (float(len(events)), sum(row["x"] for row in events)),
        "effect": (
            sum(precision),
            sum(row["x"] * p for row, p in zip(events, precision, strict=True)),
        ),
        "rate": (sum(row["v"] for row in events), hits),
        "daily": (1.0, hits),
        "active": (1.0, hits),
    }[metric]


@pytest.mark.parametrize(
    ("first", "last"), [(0, 27), (0, 69), (3, 16), (2, 14), (30, 69), (3, 57), (5, 33)]
)
def test_days_are_compared_by_the_rules(tmp_path, first, last):
    rows = random_rows(70, seed=last)
    found = dispersed(tmp_path, rows, first, last)
    for metric in METRICS:
        for store, pair in found[metric].items():
            expected = by_the_rules(rows, first, last, metric, store)
            assert pair == pytest.approx(expected, rel=1e-9, abs=1e-9), (metric, store)


def test_neither_the_week_nor_a_season_is_dispersion(tmp_path):
    """Poisson counts that are three times as many on Saturdays, and double over ten weeks."""
    rng, rows = np.random.default_rng(1), []
    for store in range(12):
        for day in range(70):
            busy = 3.0 if (FIRST + timedelta(days=day)).weekday() == 5 else 1.0
            count = int(rng.poisson(4.0 * busy * 2.0 ** (day / 70)))
            moment = NOON + timedelta(days=day)
            row = {"ts": moment, "store": f"A{store}", "hit": True, "x": 1.0, "v": 1.0}
            rows += [row] * count
    daily = dispersed(tmp_path, rows, 0, 69)["daily"]
    squares, expected = np.sum(list(daily.values()), axis=0)
    assert squares / expected == pytest.approx(1.0, abs=0.12)
