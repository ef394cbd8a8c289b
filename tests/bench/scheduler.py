"""What Dask's scheduler costs, measured with empty tasks in the graph of a night's aggregation.

``python -m tests.bench.scheduler PIECES PER_DAY``: a task for each piece, and for each day one that
takes its pieces. Prints the CPU of this process, which holds client and scheduler, per task.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from hbpipe.config import Cluster
from hbpipe.run.engine import open_engine


def nothing(*_: Any) -> int:
    """Stand for a piece, or for a day that takes its pieces."""
    return 0


def main(pieces: int, per_day: int) -> None:
    """Run the graph on two worker processes and print what it cost here."""
    with open_engine(Cluster.model_validate({"workers": 2, "processes": True})) as engine:
        engine.gather([engine.submit(nothing, label="warm up")])
        wall, cpu = time.perf_counter(), time.process_time()
        parts = [engine.submit(nothing, number, label="piece") for number in range(pieces)]
        days = [
            engine.submit(nothing, parts[first : first + per_day], label="day", priority=10)
            for first in range(0, pieces, per_day)
        ]
        engine.gather(days)
        tasks = len(parts) + len(days)
        cost = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**cost, "answer": f"{tasks} tasks"}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
