"""Which file a simulated row goes into, and on which day: delivery with its usual accidents."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hbpipe.run.simulate.rows import WEEKDAY, Blocks, Rows, contradict, spoil, spoil_amounts
from hbpipe.run.simulate.truth import World

Layout = Literal["files", "hive", "flat"]

#: The second word of a random stream's seed.
WORLD_STREAM, _VOLUME_STREAM, _BLOCK_STREAM, STORES_STREAM = range(4)
_LAGS = {1: 0.7, 2: 0.2, 3: 0.1}  # days between a late row's own day and its delivery
_ELSEWHERE = 0.5  # of the copies, the share that comes in another file
_CONFLICTING = 0.25  # of the copies, the share that contradicts the first


_ID = pa.dictionary(pa.int32(), pa.string())
#: Columns of the files, in order; ids are written as plain strings.
EVENTS_SCHEMA = pa.schema(
    {
        "event_id": pa.string(),
        "ts": pa.timestamp("us"),
        "chain_id": _ID,
        "store_id": _ID,
        "converted": pa.bool_(),
        "amount": pa.float64(),
    }
)


class Delivery:
    """Writes day after day; carries the late rows from one day to the next."""

    def __init__(
        self,
        world: World,
        folder: Path,
        seed: int,
        layout: Layout,
        shares: tuple[float, float, float],
        row_group_rows: int,
    ) -> None:
        self.files: list[Path] = []
        self._world = world
        self._blocks = Blocks(world)
        self._folder = folder
        self._seed = seed
        self._layout = layout
        self._bounds = np.cumsum(shares)
        self._row_group_rows = row_group_rows
        self._late: defaultdict[date, list[pa.Table]] = defaultdict(list)
        self._open = ExitStack()  # holds the files that span days
        self._spanning: dict[str, _Sink] = {}

    @property
    def undelivered(self) -> int:
        """Late rows whose day of delivery has not come."""
        return sum(len(table) for tables in self._late.values() for table in tables)

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write_day(self, day: date) -> Counter[str]:
        """Write what is delivered on ``day``; return how many rows of each kind."""
        counts: Counter[str] = Counter()
        appended, elsewhere = self._late.pop(day, []), []
        with ExitStack() as today:
            main, again = (self._sink(today, day, kind) for kind in ("events", "redelivery"))
            main.open()
            for rows, rng in self._draw_blocks(day):
                kept, copies, copies_elsewhere = self._fate(rng, rows, counts)
                counts["rows"] += main.write([self._blocks.table(kept)])
                appended += [self._blocks.table(part) for part in copies]
                elsewhere += [self._blocks.table(part) for part in copies_elsewhere]
            counts["rows"] += main.write(appended)
            counts["rows"] += again.write(elsewhere)
        return counts

    def _draw_blocks(self, day: date) -> Iterator[tuple[Rows, np.random.Generator]]:
        mean = self._world.traffic.sum() * WEEKDAY[day.weekday()]
        key = day.toordinal()
        count = int(np.random.default_rng([self._seed, _VOLUME_STREAM, key]).poisson(mean))
        for block, first in enumerate(range(0, count, self._row_group_rows)):
            rng = np.random.default_rng([self._seed, _BLOCK_STREAM, key, block])
            size = min(self._row_group_rows, count - first)
            yield self._blocks.draw(rng, day, first, size, count), rng

    def _fate(
        self, rng: np.random.Generator, rows: Rows, counts: Counter[str]
    ) -> tuple[Rows, list[Rows], list[Rows]]:
        """Put a block's rows where they go: kept, copied into the same file, copied elsewhere.

        Late rows are set aside for their day. A row has one fate at most, so that the counts of
        the summary say exactly what a reader of the files must find.
        """
        counts["events"] += len(rows)
        fate = np.searchsorted(self._bounds, rng.random(len(rows)), side="right")
        late, repeated, bad, ordinary = (fate == index for index in range(4))
        counts.update(spoil(rng, rows, self._world, bad))
        poor = ordinary & rows.priced & (rng.random(len(rows)) < self._bad)
        counts.update(spoil_amounts(rng, rows, poor))
        counts["late"] += self._set_aside(rng, rows.pick(late))
        copies = rows.pick(repeated)
        same, elsewhere = self._copy(rng, copies, counts)
        return rows.pick(~late) if late.any() else rows, same, elsewhere

    @property
    def _bad(self) -> float:
        return float(self._bounds[2] - self._bounds[1])

    def _set_aside(self, rng: np.random.Generator, rows: Rows) -> int:
        lag = rng.choice(list(_LAGS), size=len(rows), p=list(_LAGS.values()))
        for days in _LAGS:
            if (lag == days).any():
                table = self._blocks.table(rows.pick(lag == days))
                self._late[rows.day + timedelta(days=days)].append(table)
        return len(rows)

    def _copy(
        self, rng: np.random.Generator, rows: Rows, counts: Counter[str]
    ) -> tuple[list[Rows], list[Rows]]:
        elsewhere = rng.random(len(rows)) < _ELSEWHERE
        conflicting = rng.random(len(rows)) < _CONFLICTING
        counts["repeated"] += len(rows)
        counts["conflicting"] += int(conflicting.sum())
        places = []
        for here in (~elsewhere, elsewhere):
            true, false = rows.pick(here & ~conflicting), contradict(rows.pick(here & conflicting))
            places.append([part for part in (true, false) if len(part)])
        return places[0], places[1]

    def _sink(self, today: ExitStack, day: date, kind: str) -> _Sink:
        if self._layout == "flat":
            if kind not in self._spanning:
                sink = _Sink(self._folder / f"{kind}.parquet", self._row_group_rows, self.files)
                self._spanning[kind] = self._open.enter_context(sink)
            return self._spanning[kind]
        name = f"{kind}-{day}.parquet" if self._layout == "files" else f"day={day}/{kind}.parquet"
        return today.enter_context(_Sink(self._folder / name, self._row_group_rows, self.files))


class _Sink:
    """One Parquet file, opened at its first rows, in place under its name only when complete."""

    def __init__(self, path: Path, row_group_rows: int, finished: list[Path]) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._row_group_rows = row_group_rows
        self._finished = finished
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is not None:
            self._part.unlink()
            return
        self._part.replace(self._path)
        self._finished.append(self._path)

    def open(self) -> pq.ParquetWriter:
        """Open the file, so that it exists even when nothing is written into it."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._part,
                EVENTS_SCHEMA,
                compression="zstd",
                compression_level=1,
                use_dictionary=["chain_id", "store_id"],
                write_page_checksum=True,
                store_schema=False,  # readers see strings, not the dictionaries they came from
            )
        return self._writer

    def write(self, tables: list[pa.Table]) -> int:
        """Write tables as row groups; return the number of rows."""
        rows = sum(len(table) for table in tables)
        if rows:
            table = pa.concat_tables(tables).unify_dictionaries()
            self.open().write_table(table, row_group_size=self._row_group_rows)
        return rows
