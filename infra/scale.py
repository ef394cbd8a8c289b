"""What a night costs past one machine: the model behind the tables of scale.md.

    python infra/scale.py

prints the tables; a test compares them with the document. The unit costs are fitted to nights of 6
and 60 million events on one machine, see scale.md; everything else is arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hbpipe.data.events import PIECE_BYTES, PIECE_ROWS
from hbpipe.data.partials import merges
from hbpipe.data.readings import pieces_together
from hbpipe.data.units import count_shards
from hbpipe.run.day_tasks import MOST_TASKS

#: CPU seconds of one core, for a million of each.
READ_AND_SUM = 0.042  # rows of events: decoded, checked, added up
HASH = 0.0006  # bytes of events, as SHA-256
ADD_CELL = 0.11  # statistics of a metric, unit and piece: added to those of other pieces
SET_ASIDE_CELL = 0.23  # statistics of a metric, unit and reading of a large day: set aside
WRITE_CELL = 0.33  # statistics of a metric, unit and day: merged, written
FOLD_CELL = 0.33  # the same, read again and folded into the window
FIT_POOL = 1100.0  # a metric of a pool: fitted, integrated where needed
UPDATE_CELL = 8.0  # posteriors of a metric and unit, with limits, by `auto`
TASK = 1350.0  # a task, in the one process of client and scheduler
#: Seconds that nothing shortens: imports, planning, commits, the release.
FIXED_S = 4.0
#: What one core reads from an object store, in bytes a second.
STORE_BANDWIDTH = 60e6
#: What the statistics of a metric, unit and day take while a day is merged, in bytes: in memory,
#: and where they are set aside.
CELL_BYTES = 40
ASIDE_BYTES = 17


@dataclass(frozen=True)
class Load:
    """A first night: ``rows`` of events over ``days``, of ``units`` with ``metrics`` each."""

    name: str
    rows: float
    units: float
    pools: float
    workers: int
    days: int = 28
    metrics: int = 3
    bytes_per_row: float = 25.0
    cores_per_worker: int = 4

    @property
    def cores(self) -> int:
        """Cores of all workers."""
        return self.workers * self.cores_per_worker

    @property
    def cells(self) -> float:
        """Statistics that are written: a metric of a unit on a day with events."""
        return self.metrics * self.days * min(self.units, self.rows / self.days)

    @property
    def pieces(self) -> float:
        """Pieces of the files."""
        return max(self.rows / PIECE_ROWS, self.rows * self.bytes_per_row / PIECE_BYTES, self.days)

    @property
    def readings(self) -> float:
        """Readings: pieces of a day that are added up together."""
        return self.pieces / pieces_together(math.ceil(self.pieces / self.days))

    @property
    def merges(self) -> int:
        """Merges of a day: one, or one for each shard."""
        return merges(math.ceil(self.rows / self.days))

    def found(self, parts: float) -> float:
        """Statistics that so many parts of the rows have, each of its own units."""
        return parts * self.metrics * min(self.units, self.rows / parts)

    @property
    def tasks(self) -> int:
        """Tasks of the aggregation: readings and merges, several to a task where they are many."""
        if self.merges == 1:
            return _tasks(self.readings) + self.days
        return _tasks(self.readings) + _tasks(self.days * self.merges) + 2 * self.days

    @property
    def aside(self) -> float:
        """Statistics that are set aside for the merges of shards."""
        return self.found(self.readings) if self.merges > 1 else 0.0

    @property
    def merged_bytes(self) -> float:
        """What one merge holds: the units of its day, or shard, as each reading found them."""
        return self.found(self.readings) * CELL_BYTES / self.days / self.merges

    def stages(self) -> dict[str, float]:
        """CPU seconds by stage, of all cores together."""
        million = 1e-6
        read = self.rows * (READ_AND_SUM + HASH * self.bytes_per_row)
        added = self.found(self.pieces) * ADD_CELL if self.pieces > self.days else 0.0
        aside = self.aside * (SET_ASIDE_CELL + ADD_CELL)
        return {
            "aggregate": million * (read + added + aside + self.cells * WRITE_CELL),
            "fit": million * (self.cells * FOLD_CELL + self.pools * self.metrics * FIT_POOL),
            "update": million * self.units * self.metrics * UPDATE_CELL,
        }

    def minutes(self) -> dict[str, float]:
        """Minutes by stage; the scheduler and the object store may be slower than the cores."""
        spread = {stage: seconds / self.cores for stage, seconds in self.stages().items()}
        moved = self.rows * self.bytes_per_row + 2 * self.aside * ASIDE_BYTES
        transfer = moved / (self.cores * STORE_BANDWIDTH)
        tasks = self.tasks * TASK * 1e-6
        spread["aggregate"] = max(spread["aggregate"], transfer, tasks)
        return {stage: seconds / 60 for stage, seconds in spread.items()}


def _tasks(parts: float) -> int:
    """Return the tasks of a kind where each takes as many parts as keeps them few."""
    return math.ceil(parts / math.ceil(parts / MOST_TASKS))


#: What scale.md tells of. Chains have 250 units.
LOADS = (
    Load("10^9 events", 1e9, 1e5, 400, 4),
    Load("10^11 events", 1e11, 1e6, 4_000, 32),
    Load("10^12 events", 1e12, 5e6, 20_000, 128),
    Load("10^8 store × item cells", 1e10, 1e8, 1_000, 64),
)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duration(minutes: float) -> str:
    """Write minutes as people do."""
    return f"{60 * minutes:.0f} s" if minutes < 2 else f"{minutes:.0f} min"


def nights() -> str:
    """Tell, for each load, the cores, the core hours, and minutes by stage."""
    heads = ["night", "workers × cores", "core hours", "aggregate", "fit", "update", "together"]
    rows = []
    for load in LOADS:
        minutes = load.minutes()
        total = sum(minutes.values()) + FIXED_S / 60
        rows.append(
            [
                load.name,
                f"{load.workers} × {load.cores_per_worker}",
                f"{sum(load.stages().values()) / 3600:,.2f}",
                *map(duration, minutes.values()),
                duration(total),
            ]
        )
    return table(heads, rows)


def limits() -> str:
    """Tell, for each load, what grows towards a limit."""
    heads = ["night", "input", "pieces", "tasks", "scheduler", "set aside", "merge", "files a day"]
    rows = [
        [
            load.name,
            f"{load.rows * load.bytes_per_row / 1e12:.2g} TB",
            f"{load.pieces:,.0f}",
            f"{load.tasks:,}",
            duration(load.tasks * TASK * 1e-6 / 60),
            f"{load.aside * ASIDE_BYTES / 1e12:.2g} TB",
            f"{load.merged_bytes / 2**20:,.0f} MiB",
            f"{count_shards(math.ceil(load.rows / load.days)):,}",
        ]
        for load in LOADS
    ]
    return table(heads, rows)


if __name__ == "__main__":
    print(nights(), limits(), sep="\n\n")
