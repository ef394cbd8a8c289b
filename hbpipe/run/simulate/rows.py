"""One block of simulated events as arrays, and the faults that real feeds have.

A block is drawn whole from its own random stream, so what a day holds depends on the seed and
the day alone. Times rise from row to row and from block to block, as a till writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.run.simulate.truth import World

#: Traffic of Monday to Sunday against the mean day; the mean is one.
WEEKDAY = np.array([0.86, 0.84, 0.88, 0.94, 1.12, 1.32, 1.04])
_WORKING_HOURS = np.array(
    [2, 1, 1, 1, 1, 2, 8, 22, 40, 52, 60, 70, 78, 66, 58, 62, 76, 92, 84, 56, 34, 18, 9, 4]
)
_WEEKEND_HOURS = np.array(
    [4, 2, 1, 1, 1, 1, 3, 9, 28, 58, 86, 98, 94, 88, 86, 84, 78, 66, 48, 32, 22, 15, 10, 6]
)
_DAY_MICROSECONDS = 86_400_000_000
_MISSING = -1  # of codes and numbers; times use the smallest integer
_NO_TIME = np.iinfo(np.int64).min
_EPOCH = date(1970, 1, 1)

#: Faults of a row, each as likely as the others. They make the row unusable.
ROW_FAULTS = (
    "missing store",
    "empty store",
    "missing chain",
    "missing time",
    "time out of range",
    "missing event id",
)
#: Faults of an amount. The row stays usable for everything else.
AMOUNT_FAULTS = ("NaN amount", "infinite amount", "negative amount")


@dataclass(frozen=True)
class Rows:
    """``E`` events of one day, in columns.

    ``number`` (E,) is the running number in the day, ``time`` (E,) microseconds since 1970,
    ``chain`` and ``store`` (E,) codes into the world's names, ``amount`` (E,) with ``priced``
    (E,) where there is one. -1, or the smallest integer for a time, stands for null.
    """

    day: date
    number: NDArray[np.int64]
    time: NDArray[np.int64]
    chain: NDArray[np.int32]
    store: NDArray[np.int32]
    converted: NDArray[np.bool_]
    amount: NDArray[np.float64]
    priced: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.number)

    def pick(self, which: NDArray[Any]) -> Rows:
        """Return the rows at a mask or at indices, as a copy."""
        columns = {name: values for name, values in vars(self).items() if name != "day"}
        return Rows(self.day, **{name: values[which] for name, values in columns.items()})


class Blocks:
    """Draws the blocks of a world's days: what all blocks share is computed once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._ends = np.cumsum(world.traffic)
        self._sigma = world.sigma

    def draw(self, rng: np.random.Generator, day: date, first: int, rows: int, of: int) -> Rows:
        """Draw events ``first`` to ``first + rows - 1`` of the ``of`` events of ``day``.

        The block takes its share of the day's traffic, so blocks follow each other in time.
        """
        store = self._draw_stores(rng, rows)
        converted = rng.random(rows) < self.world.conversion[store]
        buyers = store[converted]
        logarithm = rng.normal(self.world.log_amount[buyers], self._sigma[buyers])
        amount = np.zeros(rows)
        amount[converted] = np.maximum(np.round(np.exp(logarithm), 2), 0.01)  # whole cents
        return Rows(
            day=day,
            number=np.arange(first, first + rows),
            time=_draw_times(day, (first + rows * _sorted_uniforms(rng, rows)) / of),
            chain=self.world.chain_of_store[store],
            store=store,
            converted=converted,
            amount=amount,
            priced=converted.copy(),
        )

    def _draw_stores(self, rng: np.random.Generator, rows: int) -> NDArray[np.int32]:
        """Draw stores in proportion to traffic.

        Looking up sorted uniforms walks through the table once, which stays fast for millions
        of stores; the shuffle makes the order random again.
        """
        position = _sorted_uniforms(rng, rows) * self._ends[-1]
        store: NDArray[np.int32] = np.searchsorted(self._ends, position, side="right").astype(
            np.int32
        )
        np.minimum(store, len(self._ends) - 1, out=store)
        rng.shuffle(store)
        return store

    @cached_property
    def _chain_names(self) -> pa.Array:
        return pa.array(self.world.chain_names)

    @cached_property
    def _store_names(self) -> pa.Array:
        return pa.array([*self.world.store_names, ""])  # the last one for "empty store"

    def table(self, rows: Rows) -> pa.Table:
        """Return the rows as Arrow columns; ids are dictionaries of the names in use."""
        return pa.table(
            {
                "event_id": _event_ids(rows),
                "ts": pa.array(rows.time, mask=rows.time == _NO_TIME).cast(pa.timestamp("us")),
                "chain_id": _dictionary(rows.chain, self._chain_names),
                "store_id": _dictionary(rows.store, self._store_names),
                "converted": pa.array(rows.converted),
                "amount": pa.array(rows.amount, mask=~rows.priced),
            }
        )


def spoil(
    rng: np.random.Generator, rows: Rows, world: World, which: NDArray[np.bool_]
) -> dict[str, int]:
    """Put one fault each, in place, into the rows of a mask; return fault → number of rows."""
    at = np.flatnonzero(which)
    kind = rng.integers(len(ROW_FAULTS), size=len(at))
    hit = {fault: at[kind == index] for index, fault in enumerate(ROW_FAULTS)}
    rows.store[hit["missing store"]] = _MISSING
    rows.store[hit["empty store"]] = len(world.store_names)
    rows.chain[hit["missing chain"]] = _MISSING
    rows.time[hit["missing time"]] = _NO_TIME
    # A till whose clock was reset to 1970: the time of day is right, the day is not.
    rows.time[hit["time out of range"]] %= _DAY_MICROSECONDS
    rows.number[hit["missing event id"]] = _MISSING
    return {fault: len(indices) for fault, indices in hit.items()}


def spoil_amounts(rng: np.random.Generator, rows: Rows, which: NDArray[np.bool_]) -> dict[str, int]:
    """Put one fault each, in place, into the amounts of a mask; return fault → number of rows."""
    at = np.flatnonzero(which)
    kind = rng.integers(len(AMOUNT_FAULTS), size=len(at))
    hit = {fault: at[kind == index] for index, fault in enumerate(AMOUNT_FAULTS)}
    rows.amount[hit["NaN amount"]] = np.nan
    rows.amount[hit["infinite amount"]] = np.inf
    rows.amount[hit["negative amount"]] *= -1.0
    return {fault: len(indices) for fault, indices in hit.items()}


def contradict(rows: Rows) -> Rows:
    """Return copies that tell another story under the same event ids."""
    converted = ~rows.converted
    amount = np.where(converted, 19.99, 0.0)
    return Rows(**(vars(rows) | {"converted": converted, "amount": amount, "priced": converted}))


def _sorted_uniforms(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Order statistics of ``count`` uniforms, without sorting (Devroye 1986, chapter V.3)."""
    arrivals: NDArray[np.float64] = np.cumsum(rng.standard_exponential(count + 1))
    arrivals /= arrivals[-1]
    return arrivals[:-1]


def _draw_times(day: date, passed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the times at which shares (E,) of the day's traffic have passed."""
    hours = _WEEKEND_HOURS if day.weekday() >= 5 else _WORKING_HOURS
    share = np.concatenate([[0.0], np.cumsum(hours) / hours.sum()])
    hour = np.interp(passed, share, np.arange(25.0))
    time: NDArray[np.int64] = (hour * 3_600_000_000).astype(np.int64)
    np.minimum(time, _DAY_MICROSECONDS - 1, out=time)
    time += (day - _EPOCH).days * _DAY_MICROSECONDS
    return time


def _four_digits() -> NDArray[np.uint32]:
    """Return 0000 to 9999 as four ASCII bytes each, to put numbers together from."""
    text = "".join(f"{number:04d}" for number in range(10_000))
    return np.frombuffer(text.encode("ascii"), dtype=np.uint32)


_FOUR_DIGITS = _four_digits()


def _event_ids(rows: Rows) -> pa.Array:
    """``YYYYMMDD`` and twelve digits of the number in the day; null where there is none."""
    number = np.maximum(rows.number, 0)
    text = np.empty((len(rows), 5), dtype=np.uint32)
    text[:, 0] = _FOUR_DIGITS[rows.day.year]
    text[:, 1] = _FOUR_DIGITS[100 * rows.day.month + rows.day.day]
    text[:, 2] = _FOUR_DIGITS[number // 100_000_000]
    text[:, 3] = _FOUR_DIGITS[number // 10_000 % 10_000]
    text[:, 4] = _FOUR_DIGITS[number % 10_000]
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * 20
    present = np.packbits(rows.number != _MISSING, bitorder="little")
    buffers = [pa.py_buffer(present), pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(rows), buffers)


def _dictionary(codes: NDArray[np.int32], names: pa.Array) -> pa.Array:
    """Encode with the names in use only: Parquet writes the whole dictionary of a row group."""
    missing = codes == _MISSING
    shown = np.where(missing, 0, codes) if missing.any() else codes
    used = np.zeros(len(names), dtype=np.bool_)
    used[shown] = True
    compact = (np.cumsum(used, dtype=np.int32) - 1)[shown]
    indices = pa.array(compact, mask=missing)
    return pa.DictionaryArray.from_arrays(indices, names.filter(pa.array(used)))
