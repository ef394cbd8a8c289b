"""Months that are kept: whatever of them is there, a window comes out the same to the last bit."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kernel import Counted, event_format, parse, run_kernel, snapshot_of, write

from hbpipe.data import units as units_module
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.durable import Storage
from hbpipe.data.rollup import RollupOrder, roll_up, said
from hbpipe.data.schemas import months_table
from hbpipe.data.snapshot import FileRef, Snapshot
from hbpipe.data.span import cut, month_of
from hbpipe.data.window import Folded, WindowOrder, fold_window

METRICS: dict[str, Any] = {
    "value": {"family": "normal", "value": "x", "overdispersion": {"by": "household"}},
    "share": {"family": "beta_binomial", "successes": "hit", "trials": "rows"},
    "effect": {"family": "normal_known_variance", "estimate": "x", "variance": "v"},
    "weekly": {"family": "gamma_poisson", "count": "hit", "exposure": "days", "per": "7d"},
    "active": {"family": "gamma_poisson", "count": "hit", "exposure": "active_days"},
    "line": {"family": "normal_regression", "response": "x", "predictors": [1, "v"]},
    "aging": {"family": "normal", "value": "x", "decay": {"half_life": "9d"}},
}
FIRST, DAYS = date(2025, 12, 20), 102  # to the end of March
BEGIN = to_number(FIRST)


def random_rows(seed: int, shared: bool) -> list[dict[str, Any]]:
    """Events on some days of 14 stores that open and close, and move between chains.

    With ``shared`` ids some stores stand under several chains at once.
    """
    rng = np.random.default_rng(seed)
    days = rng.choice(DAYS, 30, replace=False)
    opened, closed = rng.integers(0, 60, 14), rng.integers(30, DAYS, 14)
    moves = rng.integers(0, DAYS, 14)
    rows = []
    for _ in range(700):
        store, day = int(rng.integers(14)), int(rng.choice(days))
        if not opened[store] <= day <= closed[store]:
            continue
        chain = (store + (day >= moves[store])) % 3 if store % 2 else store % 3
        if shared and store % 5 == 0:
            chain = int(rng.integers(3))
        noon = datetime(FIRST.year, FIRST.month, FIRST.day, 12)
        rows.append(
            {
                "ts": noon + timedelta(days=day),
                "chain": f"C{chain}",
                "store": f"S{store}",
                "household": f"h{rng.integers(5)}",
                "hit": bool(rng.integers(2)),
                "x": float(rng.normal(50.0, 3.0)),
                "v": float(rng.gamma(2.0)) + 0.1,
            }
        )
    return rows


class Kept:
    """Daily statistics of some events, and every whole month of them rolled up."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        write(folder / "events" / "a.parquet", rows)
        self.form = event_format(folder / "events")
        counted = run_kernel(self.form, METRICS, folder / "lake")
        self.storage = Storage(str(folder / "lake"))
        self.days = snapshot_of(self.form, METRICS, folder / "lake", counted)
        self.shards = least_shards(counted)
        self.months = {mode: self.roll_up(mode) for mode in (False, True)}

    def roll_up(self, within_parent: bool) -> Snapshot:
        kinds = {name: pa.string() for name in self.form.levels}
        table = months_table(kinds, [m["family"] for m in METRICS.values()], clusters=True)
        receipts = []
        for first in sorted({month_of(BEGIN + k)[0] for k in range(DAYS)}):
            for shard in range(self.shards):
                days = of_shard(self.days_between(*month_of(first)), shard, self.shards)
                order = RollupOrder(
                    metrics=parse(METRICS),
                    levels=self.form.levels,
                    days=days,
                    within_parent=within_parent,
                    month=first,
                    shard=shard,
                    made_from="files",
                    made_with="settings",
                    schema=table.data_schema,
                    label=to_date(first).isoformat(),
                    run_id="test",
                )
                receipts.append(roll_up(self.storage, order))
        files = [
            FileRef(one.path, one.partition, one.rows, one.size, one.statistics)
            for one in receipts
            if one is not None
        ]
        return Snapshot(self.storage, "months", 0, table.schema, ("month",), tuple(files))

    def days_between(self, first: int, last: int) -> Snapshot:
        ends = to_date(first).isoformat(), to_date(last).isoformat()
        return self.days.select(lambda file: ends[0] <= file.partition["day"] <= ends[1])

    def order(self, first: int, last: int, within_parent: bool, silent: int = 0) -> WindowOrder:
        window = self.days_between(BEGIN + first, BEGIN + last)
        return WindowOrder(
            metrics=parse(METRICS),
            levels=self.form.levels,
            window=window,
            by_day=window,
            history=self.days_between(BEGIN, BEGIN + first - 1),
            listed=pa.table({"chain": ["C9", "C9"], "store": ["S1", "never"]}),
            within_parent=within_parent,
            first_day=BEGIN + first,
            as_of=BEGIN + last,
            silent_since=BEGIN + first - silent,
        )

    def with_months(self, order: WindowOrder, chosen: set[str]) -> WindowOrder:
        """Let some months stand for their days, where they lie wholly in or before the window."""
        found = set()
        for label in chosen:
            first, last = month_of(to_number(date.fromisoformat(label)))
            if last < order.first_day or (order.first_day <= first and last < order.as_of):
                found.add(label)
        left = {label[:7] for label in found}
        assert order.history is not None
        return replace(
            order,
            window=order.window.select(lambda f: f.partition["day"][:7] not in left),
            history=order.history.select(lambda f: f.partition["day"][:7] not in left),
            months=self.months[order.within_parent].select(
                lambda file: file.partition["month"] in found
            ),
        )


def least_shards(counted: Counted) -> int:
    return min(result.shards for result in counted.results.values())


def of_shard(snapshot: Snapshot, shard: int, shards: int) -> Snapshot:
    return snapshot.select(lambda file: file.statistics["shard"][0] % shards == shard)


def bits(folded: Folded) -> dict[str, Any]:
    arrays = {"n_events": folded.n_events}
    for metric, found in folded.statistics.items():
        arrays |= {f"{metric}.{name}": values for name, values in found.items()}
    for metric, found in folded.for_fit.items():
        arrays |= {f"{metric}.fit.{name}": values for name, values in found.items()}
    for metric, sums in folded.dispersion.items():
        arrays |= {f"{metric}:{k}": v for k, v in vars(sums).items()} if sums is not None else {}
    arrays |= {f"presence.{name}": values for name, values in vars(folded.presence).items()}
    found = {name: values.tobytes() for name, values in arrays.items()}
    return {"keys": [k.to_pylist() for k in folded.keys], "unusable": folded.unusable, **found}


@pytest.fixture(scope="module", params=[(1, False), (2, True)], ids=str)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    seed, shared = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units_module, "SHARD_ROWS", 4 if seed == 2 else 10**6)
        return Kept(tmp_path_factory.mktemp("kept"), random_rows(seed, shared))


@pytest.mark.parametrize("within_parent", [False, True])
def test_any_months_that_are_kept_give_the_bits_of_their_days(
    kept: Kept, within_parent: bool
) -> None:
    rng = np.random.default_rng(11)
    labels = sorted({file.partition["month"] for file in kept.months[False].files})
    assert len(labels) == 4
    windows = [(0, DAYS - 1), (60, 87)]
    windows += [sorted(rng.integers(0, DAYS, 2).tolist()) for _ in range(2)]
    for first, last in windows:
        order = kept.order(first, last, within_parent, silent=int(rng.integers(0, 60)))
        expected = bits(fold_window(order))
        some = {label for label in labels if rng.integers(2)}
        for chosen in (set(labels), some):
            found = bits(fold_window(kept.with_months(order, chosen)))
            assert found == expected, (first, last, chosen)


def test_shards_of_months_nest_as_those_of_days(kept: Kept) -> None:
    if kept.shards == 1:
        assert {file.statistics["shard"] for file in kept.months[True].files} == {(0, 0)}
    whole = kept.with_months(
        kept.order(20, DAYS - 1, True), {"2026-01-01", "2026-02-01", "2026-03-01"}
    )
    parts = [
        fold_window(
            replace(
                whole,
                **{
                    name: of_shard(getattr(whole, name), shard, kept.shards)
                    for name in ("window", "history", "months", "by_day")
                },
                listed=None,
            )
        )
        for shard in range(kept.shards)
    ]
    together = fold_window(replace(whole, listed=None))
    assert sum(part.n for part in parts) == together.n
    assert sorted(name for part in parts for name in names(part)) == sorted(names(together))


def names(folded: Folded) -> list[tuple[str, ...]]:
    return list(zip(*(key.to_pylist() for key in folded.keys), strict=True))


def test_a_month_says_how_its_ids_name_units(kept: Kept) -> None:
    units = kept.days.read(columns=["day", "chain", "store", "shard"]).to_pylist()
    for within_parent, months in kept.months.items():
        for file in months.files:
            mine = {
                (row["chain"], row["store"])
                for row in units
                if row["day"].isoformat()[:7] == file.partition["month"][:7]
                and row["shard"] % kept.shards == file.statistics["shard"][0]
            }
            several = len(mine) > len({store for _, store in mine})
            mode = "within_parent" if within_parent else "unique"
            assert said(file, "unit_ids") == (mode if several else "any")


def test_windows_are_cut_where_a_whole_month_lies_in_them() -> None:
    day = to_number(date(2026, 1, 20))
    assert cut(day, day + 27) == ([(day, day + 27)], 28)
    assert cut(day, day + 9) == ([(day, day + 9)], None)
    february = to_number(date(2026, 2, 1))
    assert cut(february, february + 27) == ([(february, february + 27)], 35)
    whole = [(day, february - 1), (february, february + 27), (february + 28, february + 30)]
    assert cut(day, february + 30) == (whole, 35)
    longest = to_number(date(2025, 7, 2)), to_number(date(2025, 8, 30))
    assert cut(*longest) == ([longest], 28)


def test_a_month_without_present_metrics_keeps_its_units(kept: Kept) -> None:
    order = RollupOrder(
        metrics=(),
        levels=kept.form.levels,
        days=kept.days_between(*month_of(BEGIN + 20)),
        within_parent=False,
        month=month_of(BEGIN + 20)[0],
        shard=0,
        made_from="files",
        made_with="none",
        schema=kept.months[False].data_schema,
        label="2026-01-01",
        run_id="test",
    )
    receipt = roll_up(kept.storage, order)
    assert receipt is not None
    ref = FileRef(receipt.path, receipt.partition, receipt.rows, receipt.size, receipt.statistics)
    alone = replace(kept.months[False], files=(ref,))
    rows = alone.read()
    assert set(rows["metric"].to_pylist()) == {"active"}  # the first of the days
    assert rows["mean"].null_count == rows["successes"].null_count == rows.num_rows
    window = kept.order(60, 87, False)
    without = replace(
        window,
        history=kept.days_between(BEGIN, BEGIN + 59).select(
            lambda f: f.partition["day"][:7] != "2026-01"
        ),
        months=alone,
    )
    assert bits(fold_window(without)) == bits(fold_window(window))
