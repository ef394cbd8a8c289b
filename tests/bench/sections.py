"""What is measured beside what: each section is one contest, whose first contender is hbpipe's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.contest import Contender
from tests.bench.cost import cost_of, inner_cost_of
from tests.bench.nights import Nights


@dataclass(frozen=True)
class Section:
    """One contest: its contenders, and the one that the ratios are to.

    ``same`` says whether all must give the same answer.
    """

    title: str
    contenders: tuple[Contender, ...]
    beside: str
    same: bool = False


#: Who holds all events in memory at once, and so takes part below some hundred million of them.
_IN_MEMORY = ("arrow",)


def of_events(nights: Nights, days: list[str], *, fit_in_memory: bool = True) -> Iterator[Section]:
    """Whole nights over a folder of events, of ``days``."""
    events, rows = nights.events, nights.rows
    every = ("scan", "duckdb", "polars", "arrow", "dask")
    peers = [name for name in every if fit_in_memory or name not in _IN_MEMORY]
    yield Section(
        f"{rows} events: a first night beside a GROUP BY",
        (
            nights.first("night"),
            nights.with_workers_up("from workers up"),
            *(_peer(name, events) for name in peers),
        ),
        "duckdb",
        same=True,
    )
    yield Section(
        f"{rows} events: the next night, of one new day, beside the first",
        (
            nights.first("first", days[-2]),
            nights.next("next", "first", days[-1]),
        ),
        "first",
    )
    yield Section(
        f"{rows} events: two workers, one, and none of Dask",
        (
            nights.first("two"),
            replace(nights, workers=1).first("one"),
            replace(nights, kind="serial").first("serial"),
        ),
        "one",
    )
    yield Section(
        f"{rows} events: the aggregation alone, by two workers and by one",
        (
            nights.aggregation("aggregation by two"),
            replace(nights, workers=1).aggregation("aggregation by one"),
        ),
        "aggregation by one",
        same=True,
    )


def of_spark(events: Path) -> Section:
    """PySpark beside DuckDB, on request: it needs Java."""
    both = (_peer("spark", events), _peer("duckdb", events))
    return Section("PySpark beside DuckDB", both, "duckdb", same=True)


def of_fits(stores: int) -> Iterator[Section]:
    """Marginal likelihoods of one chain of ``stores``, and of many small pools."""
    for metric, peers in {"conversions": ["scipy"], "orders": ["scipy", "statsmodels"]}.items():
        names = [f"{metric}, {who}" for who in ("hbpipe", *peers)]
        title = f"maximum marginal likelihood, {stores:,} stores"
        yield Section(title, _tasks(names, stores), names[1], same=True)
    pools = max(1, stores // 100)
    names = ["pools, one pass", "pools, in turn"]
    few = _tasks(names, min(stores, 20_000))
    yield Section(f"pools of 100, {min(stores, 20_000) // 100}", few, names[1], same=True)
    all_of_them = _tasks(names[:1], stores)
    yield Section(f"pools of 100, {pools:,}", all_of_them, names[0])
    names = ["integral, hbpipe", "NUTS, numpyro"]
    yield Section("full Bayes, 300 stores", _tasks(names, 300), names[1])


def of_posteriors(stores: int) -> Iterator[Section]:
    """Limits beside scipy's, and what the uncertainty of the hyperparameters costs."""
    for traffic in ("dense", "sparse"):
        names = [f"{traffic} limits, {who}" for who in ("hbpipe", "scipy")]
        yield Section(f"limits of {stores:,} stores", _tasks(names, stores), names[1])
        names = [f"{traffic} {what}, hbpipe" for what in ("ranks", "limits")]
        yield Section(f"ranks of {stores:,} stores", _tasks(names, stores), names[1])
    for family in ("beta_binomial", "gamma_poisson", "normal"):
        for limits in ("", ", limits"):
            names = [f"{family}, {what}{limits}" for what in ("integrated", "plug_in")]
            yield Section("integrated, 300 stores", _tasks(names, 300), names[1])
        names = [f"{family}, {what}, limits" for what in ("auto", "plug_in")]
        yield Section(f"auto, {stores:,} stores", _tasks(names, stores), names[1])


def of_sizes(stores: tuple[int, ...]) -> Section:
    """A whole chain, fit, posterior with limits and ranks, of more and more stores."""
    contenders = tuple(_task("whole chain", size, f"{size:,} stores") for size in stores)
    return Section("a whole chain", contenders, contenders[0].name)


def _peer(name: str, events: Path) -> Contender:
    command = [sys.executable, "-m", "tests.bench.peers", name, str(events)]
    return Contender(name, lambda: cost_of(command))


def _tasks(names: list[str], stores: int) -> tuple[Contender, ...]:
    return tuple(_task(name, stores, name) for name in names)


def _task(name: str, stores: int, shown: str) -> Contender:
    command = [sys.executable, "-m", "tests.bench.library", name, str(stores)]
    return Contender(shown, lambda: inner_cost_of(command))
