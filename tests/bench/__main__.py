"""`make bench`: hbpipe beside other programs, in turn, on this machine; a table and JSON.

Every ratio is of two commands that ran one after the other, round by round: its median, and the
least and greatest. Programs differ in what they do: see each module.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hbpipe.run.engine import available_cpus
from tests.bench.contest import compete, require_agreement, rows_of
from tests.bench.nights import Nights
from tests.bench.sections import Section, of_events, of_fits, of_posteriors, of_sizes, of_spark
from tests.bench.table import print_rows

FIRST_DAY = date(2026, 1, 1)
DAYS = 30
#: From so many million events on, not everybody can hold them in memory.
LARGE = 100.0


def main() -> None:
    """Measure what the options name, print each table as it is there, write all as JSON."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for section in _sections(options):
        results = compete(section.contenders, options.rounds)
        if section.same:
            require_agreement(results)
        rows = rows_of(section.title, results, section.beside)
        print_rows(rows)
        found += rows
    machine = f"{platform.platform()}, {available_cpus()} CPUs"
    report = {"machine": machine, "rounds": options.rounds, "rows": found}
    options.out.write_text(json.dumps(report, indent=2), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--million-events", default="6,60", help="of nights, such as 6,60,600")
    parser.add_argument("--event-stores", type=int, default=50_000, help="of the nights")
    parser.add_argument("--stores", type=int, default=1_000_000, help="of fits and posteriors")
    parser.add_argument("--chains", default="", help="stores of whole chains: 1000000,10000000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--uncertainty", default="auto", help="of the nights")
    parser.add_argument("--spark", action="store_true", help="also PySpark, which needs Java")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hbpipe-bench")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    return parser.parse_args()


def _sections(options: argparse.Namespace) -> Iterator[Section]:
    for size in filter(None, options.million_events.split(",")):
        events = _events(options.folder, float(size), options.event_stores)
        lakes = options.folder / f"lakes-{size}"
        lakes.mkdir(exist_ok=True)
        nights = Nights(lakes, events, f"{size} million", options.uncertainty)
        days = [(FIRST_DAY + timedelta(days=day)).isoformat() for day in range(DAYS)]
        yield from of_events(nights, days, fit_in_memory=float(size) < LARGE)
        if options.spark:
            yield of_spark(events)
    if options.stores:
        yield from of_fits(options.stores)
        yield from of_posteriors(options.stores)
    if options.chains:
        yield of_sizes(tuple(int(size) for size in options.chains.split(",")))


def _events(folder: Path, million: float, stores: int) -> Path:
    """Simulate events of chains of 250 stores; kept from one bench to the next."""
    out = folder / f"events-{million:g}-{stores}"
    if not (out / "truth" / "days.parquet").exists():
        per_day = round(million * 1e6 / DAYS)
        command = [str(Path(sys.executable).parent / "hbpipe"), "simulate", str(out), "--quiet"]
        command += ["--first-day", FIRST_DAY.isoformat(), "--days", str(DAYS), "--seed", "1"]
        command += ["--chains", str(max(1, stores // 250)), "--stores", str(stores)]
        subprocess.run([*command, "--events-per-day", str(per_day)], check=True)
    return out / "events"


if __name__ == "__main__":
    main()
