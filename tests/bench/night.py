"""A whole night against DuckDB's plain GROUP BY over the same files, in pairs: `make bench`.

Whole processes are timed, start-up included, A and B in turn, so that a machine that drifts
drifts for both. The two do not do the same: DuckDB adds up one table of sums over all days; the
night keeps statistics per day, fits every chain and publishes a posterior per store and metric.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from hbpipe.run.simulate import simulate_events

QUERY = """
import duckdb
duckdb.sql("SET threads = 2")
duckdb.sql('''SELECT chain_id, store_id, count(*), sum(converted::int), count(amount),
    sum(ln(amount)), sum(ln(amount) * ln(amount)) FROM '{events}/*.parquet'
    GROUP BY ALL''').fetchall()
"""
CONFIG = """
pipeline: bench
events: {{path: {events}, time: ts, levels: [chain_id, store_id]}}
metrics:
  conversion: {{family: beta_binomial, successes: converted, trials: rows}}
  basket_value: {{family: normal, value: amount, transform: log, where: [[converted, "==", true]]}}
  orders: {{family: gamma_poisson, count: converted, exposure: days}}
inference: {{uncertainty: {uncertainty}}}
lake: {{path: {lake}}}
cluster: {{workers: 2}}
"""


def main() -> None:
    """Simulate, run the pairs, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million-rows", type=float, default=6)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--uncertainty", default="first_order")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hbpipe-bench-") as name:
        folder = Path(name)
        rows = simulate_events(
            folder,
            first_day=date(2026, 1, 1),
            days=28,
            chains=200,
            stores=50_000,
            events_per_day=round(options.million_rows * 1e6 / 28),
            seed=1,
        ).rows
        pairs = [_pair(folder, options.uncertainty) for _ in range(options.pairs)]
    found = {"rows": rows, "uncertainty": options.uncertainty, "pairs": pairs, **_summary(pairs)}
    options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    print(f"{rows:,} rows, {options.pairs} pairs, uncertainty {options.uncertainty}")
    for clock in ("wall", "cpu"):
        night, duckdb, ratio = (found[f"{clock}_{what}"] for what in ("night", "duckdb", "ratio"))
        print(f"{clock:>5}: night {night:6.2f} s   DuckDB {duckdb:6.2f} s   ratio {ratio:5.2f}")


def _pair(folder: Path, uncertainty: str) -> dict[str, float]:
    """Run one night in a new lake, then the query."""
    lake, config, events = folder / "lake", folder / "bench.yaml", folder / "events"
    shutil.rmtree(lake, ignore_errors=True)
    config.write_text(
        CONFIG.format(events=events, lake=lake, uncertainty=uncertainty), encoding="utf-8"
    )
    hbpipe = str(Path(sys.executable).parent / "hbpipe")
    night = _timed([hbpipe, "run", "--quiet", "--config", str(config)])
    duckdb = _timed([sys.executable, "-c", QUERY.format(events=events)])
    return {
        "wall_night": night[0],
        "cpu_night": night[1],
        "wall_duckdb": duckdb[0],
        "cpu_duckdb": duckdb[1],
    }


def _timed(command: list[str]) -> tuple[float, float]:
    """Return wall and CPU seconds of a command and its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def _summary(pairs: list[dict[str, float]]) -> dict[str, float]:
    result = {name: median(pair[name] for pair in pairs) for name in pairs[0]}
    for clock in ("wall", "cpu"):
        ratios = [pair[f"{clock}_night"] / pair[f"{clock}_duckdb"] for pair in pairs]
        result[f"{clock}_ratio"] = median(ratios)
    return result


if __name__ == "__main__":
    main()
