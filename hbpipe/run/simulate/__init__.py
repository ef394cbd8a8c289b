"""Realistic retail events of any size, with the true parameters beside them.

A folder of simulated events looks like this::

    out/events/    events-2026-01-01.parquet, ...           layout "files"
                   day=2026-01-01/events.parquet, ...       layout "hive"
                   events.parquet                           layout "flat"
    out/truth/     chains.parquet  stores.parquet  days.parquet
    out/stores.parquet      the table of stores: chain, id, format and size

Events are drawn and written block by block, so memory does not grow with the number of days or
of events. A day's file is the same, byte for byte, however many days are simulated: late rows
whose day of delivery lies beyond the last day are not delivered yet.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hbpipe.errors import ConfigError, EventsError
from hbpipe.run.simulate.delivery import STORES_STREAM, WORLD_STREAM, Delivery, Layout
from hbpipe.run.simulate.rows import AMOUNT_FAULTS, ROW_FAULTS
from hbpipe.run.simulate.truth import World, draw_world


@dataclass(frozen=True)
class SimulationSummary:
    """What was written: ``rows == events - undelivered + repeated``, exactly.

    ``faults`` counts rows by kind. ``late`` includes the ``undelivered``, ``repeated`` the
    ``conflicting``. ``seconds`` is wall time and takes no part in comparisons.
    """

    events_path: Path
    truth_path: Path
    files: int
    events: int
    rows: int
    late: int
    undelivered: int
    repeated: int
    conflicting: int
    faults: dict[str, int]
    seconds: float = field(compare=False)


def simulate_events(
    out: Path,
    *,
    first_day: date,
    days: int,
    chains: int,
    stores: int,
    events_per_day: int,
    seed: int,
    layout: Layout = "files",
    late: float = 0.0,
    bad: float = 0.0,
    repeated: float = 0.0,
    row_group_rows: int = 500_000,
    on_day: Callable[[date, int], None] | None = None,
) -> SimulationSummary:
    """Write events of ``days`` days under ``out/events`` and the truth under ``out/truth``.

    ``out/stores.parquet`` is a table of stores whose attributes tell something of the truth.

    Parameters
    ----------
    out
        A folder without ``events`` and ``truth`` in it; it is made when missing.
    first_day, days
        Days of the events, in UTC; times are written without a zone.
    chains, stores
        How many; every chain has at least one store, and store ids are unique over all chains.
    events_per_day
        The mean over a week; the number on one day is Poisson around its weekday's mean.
    seed
        Not negative. Equal arguments give equal bytes.
    layout
        One file a day, one hive partition ``day=`` of delivery a day, or one file for all days.
    late
        Share of rows that come one to three days later, at the end of that day's file.
    bad
        Share of rows with a fault in id, level or time, and, of the other rows that are neither
        late nor repeated, the share of amounts that are NaN, infinite or negative.
    repeated
        Share of rows delivered twice: half of the copies at the end of the same file, half in
        a file ``redelivery``; a quarter of them with other content under the same id.
    row_group_rows
        Rows of a block, which is drawn at once and becomes one row group; the bound on memory.
    on_day
        Called after each day with the day and its number of rows written.

    Returns
    -------
    SimulationSummary

    Raises
    ------
    ConfigError
        An argument is impossible; the message names it.
    EventsError
        ``out`` holds events already.
    """
    _check_sizes(days, chains, stores, events_per_day, seed, row_group_rows)
    _check_shares(late=late, bad=bad, repeated=repeated)
    if layout not in get_args(Layout):
        expected = ", ".join(get_args(Layout))
        raise ConfigError(f"Layout {layout!r} is unknown", expected=f"one of {expected}")
    events, truth = _claim(out)
    rng = np.random.default_rng([seed, WORLD_STREAM])
    world = draw_world(rng, chains=chains, stores=stores, events_per_day=events_per_day)
    started = time.perf_counter()
    counts = []
    with Delivery(world, events, seed, layout, (late, repeated, bad), row_group_rows) as delivery:
        for day in (first_day + timedelta(days=index) for index in range(days)):
            counts.append(delivery.write_day(day))
            if on_day is not None:
                on_day(day, counts[-1]["rows"])
    _write_truth(truth, world, first_day, counts)
    attributes = world.attributes(np.random.default_rng([seed, STORES_STREAM]))
    pq.write_table(attributes, out / "stores.parquet")
    total = sum(counts, Counter())
    return SimulationSummary(
        events_path=events,
        truth_path=truth,
        files=len(delivery.files),
        **{name: total[name] for name in ("events", "rows", "late", "repeated", "conflicting")},
        undelivered=delivery.undelivered,
        faults={fault: total[fault] for fault in ROW_FAULTS + AMOUNT_FAULTS},
        seconds=time.perf_counter() - started,
    )


def _check_sizes(
    days: int, chains: int, stores: int, events_per_day: int, seed: int, row_group_rows: int
) -> None:
    least = {
        "days": (days, 1),
        "chains": (chains, 1),
        "stores": (stores, chains),
        "events_per_day": (events_per_day, 1),
        "seed": (seed, 0),
        "row_group_rows": (row_group_rows, 1),
    }
    for name, (value, lowest) in least.items():
        if value < lowest:
            reason = ", one store to each chain" if name == "stores" else ""
            raise ConfigError(f"{name} is {value}", expected=f"at least {lowest}{reason}")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"{name} is {share}", expected="a share between 0 and 1")
    if sum(shares.values()) > 1.0:
        found = ", ".join(f"{name} {share}" for name, share in shares.items())
        raise ConfigError(f"The shares add up to more than 1: {found}", expected="at most 1")


def _claim(out: Path) -> tuple[Path, Path]:
    """Make the two folders; refuse to mix with what is there."""
    events, truth = out / "events", out / "truth"
    for place in (events, truth, out / "stores.parquet"):
        if place.exists():
            raise EventsError(
                "There is something already where the simulation writes",
                where={"folder": place},
                remedy="name another folder, or remove this one first",
            )
    events.mkdir(parents=True)
    truth.mkdir(parents=True)
    return events, truth


def _write_truth(folder: Path, world: World, first_day: date, counts: list[Counter[str]]) -> None:
    pq.write_table(world.chains(), folder / "chains.parquet")
    pq.write_table(world.stores(), folder / "stores.parquet")
    names = ("events", "rows", "late", "repeated", "conflicting", *ROW_FAULTS, *AMOUNT_FAULTS)
    columns = {name.replace(" ", "_"): [day[name] for day in counts] for name in names}
    days = [first_day + timedelta(days=index) for index in range(len(counts))]
    pq.write_table(pa.table({"day": days, **columns}), folder / "days.parquet")
