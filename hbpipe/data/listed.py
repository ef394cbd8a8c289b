"""The units of a window: those with events in it, those of the store table, those seen before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.clock import to_date
from hbpipe.data.rollup import read_seen
from hbpipe.data.span import Span
from hbpipe.data.standing import Sightings, identify, in_order, numbers, read_units
from hbpipe.data.units import Units

if TYPE_CHECKING:
    from hbpipe.data.window import WindowOrder


def find_units(
    order: WindowOrder, spans: Sequence[Span]
) -> tuple[Units, list[NDArray[np.int64]], NDArray[np.int64]]:
    """Find the units of window, history and dimension table, and their first days.

    A unit's parents are the latest: those of the window, else of the dimension table, else of
    the days before. Units come out in the order of their keys; with them the number of each
    span's units, and each unit's first day (U,).
    """
    past = _past(order)
    levels = past.names.schema
    listed = past.names.slice(0, 0) if order.listed is None else order.listed
    named = [pa.table(list(span.keys), schema=levels) for span in spans]
    everything = pa.concat_tables([past.names, listed.select(levels.names), *named])
    before = np.full(listed.num_rows, order.first_day - 1)
    first = np.concatenate([past.first, before, *(span.first_seen for span in spans)])
    last = np.concatenate([past.last, before, *(span.last_seen for span in spans)])
    seen = np.ones(len(last), np.bool_)
    seen[past.names.num_rows : past.names.num_rows + listed.num_rows] = False
    standing = 2 * last + ~seen  # the dimension table stands after the days before
    units, _ = identify(everything, standing, within_parent=order.within_parent)
    first_seen = np.full(units.n, order.as_of + 1, np.int64)
    np.minimum.at(first_seen, units.codes[seen], first[seen])
    shown = np.zeros(units.n, np.bool_)
    shown[units.codes[(last >= order.silent_since) | ~seen]] = True
    kept = in_order(units.keys, np.flatnonzero(shown))
    renumber = np.full(units.n, -1, np.int64)
    renumber[kept] = np.arange(len(kept))
    begins = np.cumsum([past.names.num_rows + listed.num_rows, *(span.n for span in spans)])
    codes = np.split(renumber[units.codes], begins)[1:-1]
    keys = tuple(key.take(pa.array(kept)) for key in units.keys)
    return Units(renumber[units.codes], keys), codes, first_seen[kept]


def _past(order: WindowOrder) -> Sightings:
    """Read the units of the days before the window, by day or by month."""
    levels = list(order.levels)
    past = order.window.select(lambda _: False) if order.history is None else order.history
    days = read_units(past, ["day", *levels])
    seen = numbers(days.column("day"))
    if order.months is None:
        return Sightings(days.select(levels), seen, seen)
    begin = to_date(order.first_day).isoformat()
    months = read_seen(order.months.select(lambda file: file.partition["month"] < begin), levels)
    first, last = numbers(months.column("first_day")), numbers(months.column("last_day"))
    names = pa.concat_tables([days.select(levels), months.select(levels)])
    return Sightings(names, np.concatenate([seen, first]), np.concatenate([seen, last]))
