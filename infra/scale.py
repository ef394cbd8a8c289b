"""What a night costs past one machine: the model behind the tables of scale.md.

    python infra/scale.py

prints the tables; a test compares them with the document. The unit costs are fitted to nights of 6
and 60 million events on one machine, see scale.md; everything else is arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hbpipe.data.events import PIECE_BYTES, PIECE_ROWS

#: CPU seconds of one core, for a million of each.
READ_AND_SUM = 0.042  # rows of events: decoded, checked, added up
HASH = 0.0006  # bytes of events, as SHA-256
WRITE_CELL = 0.33  # statistics of a metric, unit and day: merged, written
FOLD_CELL = 0.33  # the same, read again and folded into the window
FIT_POOL = 1100.0  # a metric of a pool: fitted, integrated where needed
UPDATE_CELL = 8.0  # posteriors of a metric and unit, with limits, by `auto`
TASK = 1350.0  # a task, in the one process of client and scheduler
#: Seconds that nothing shortens: imports, planning, commits, the release.
FIXED_S = 4.0
#: What one core reads from an object store, in bytes a second.
STORE_BANDWIDTH = 60e6
#: What the statistics of a metric, unit and day take in memory while a day is merged, in bytes.
CELL_BYTES = 40


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
        """Tasks that read, by the constants of today."""
        return max(self.rows / PIECE_ROWS, self.rows * self.bytes_per_row / PIECE_BYTES, self.days)

    @property
    def merged_bytes(self) -> float:
        """What the merge of one day holds: the units of each of its pieces."""
        pieces = self.pieces / self.days
        units = min(self.units, self.rows / self.pieces)
        return pieces * units * self.metrics * CELL_BYTES

    def stages(self) -> dict[str, float]:
        """CPU seconds by stage, of all cores together."""
        million = 1e-6
        read = READ_AND_SUM + HASH * self.bytes_per_row
        return {
            "aggregate": million * (self.rows * read + self.cells * WRITE_CELL),
            "fit": million * (self.cells * FOLD_CELL + self.pools * self.metrics * FIT_POOL),
            "update": million * self.units * self.metrics * UPDATE_CELL,
        }

    def minutes(self) -> dict[str, float]:
        """Minutes by stage; the scheduler and the object store may be slower than the cores."""
        spread = {stage: seconds / self.cores for stage, seconds in self.stages().items()}
        transfer = self.rows * self.bytes_per_row / (self.cores * STORE_BANDWIDTH)
        tasks = self.pieces * TASK * 1e-6
        spread["aggregate"] = max(spread["aggregate"], transfer, tasks)
        return {stage: seconds / 60 for stage, seconds in spread.items()}


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
                f"{sum(load.stages().values()) / 3600:.2g}",
                *map(duration, minutes.values()),
                duration(total),
            ]
        )
    return table(heads, rows)


def limits() -> str:
    """Tell, for each load, what grows towards a limit."""
    heads = ["night", "input", "reading tasks", "scheduler", "merge of a day", "files a day"]
    rows = [
        [
            load.name,
            f"{load.rows * load.bytes_per_row / 1e12:.2g} TB",
            f"{load.pieces:,.0f}",
            duration(load.pieces * TASK * 1e-6 / 60),
            f"{load.merged_bytes / 2**30:,.1f} GiB",
            f"{max(1.0, load.rows / load.days / 8e6):,.0f}",
        ]
        for load in LOADS
    ]
    return table(heads, rows)


if __name__ == "__main__":
    print(nights(), limits(), sep="\n\n")
