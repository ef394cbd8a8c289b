"""The examples of rejected rows that a lake keeps, up to a thousand of each file, day, reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.data.clock import to_date
from hbpipe.data.rejections import REMEDIES, Rejection
from hbpipe.data.schemas import QUARANTINE
from hbpipe.run.due import DayPlan
from hbpipe.run.night import Night


def examples(night: Night, kept: pa.Table, days: Iterable[DayPlan]) -> pa.Table | None:
    """Put what was met now in the place of what was read again; None where nothing changes.

    Parameters
    ----------
    kept
        The table as it is.
    days
        Those that were processed; rows without a day are replaced file by file.
    """
    found: list[Rejection] = list(night.stock.undated)
    found += [r for result in night.results.values() for r in result.rejections]
    again = _read_again(kept, night.stock.surveyed, days)
    if not found and not pc.any(again).as_py():
        return None
    rows = [row for rejection in found for row in _rows(rejection, night.run_id)]
    fresh = pa.Table.from_pylist(rows, schema=QUARANTINE.schema)
    table = pa.concat_tables([kept.filter(pc.invert(again)), fresh])
    return table.sort_by([(name, "ascending") for name in QUARANTINE.key])


def _read_again(kept: pa.Table, surveyed: Iterable[str], days: Iterable[DayPlan]) -> pa.Array:
    """Tell which examples are of rows that were read again, for the metrics measured again."""
    processed = {to_date(day.day): day.keeps for day in days}
    files = set(surveyed)
    columns = (kept[name].to_pylist() for name in ("file", "day", "metric"))
    return pa.array(
        [
            file in files if day is None else day in processed and metric not in processed[day]
            for file, day, metric in zip(*columns, strict=True)
        ],
        pa.bool_(),
    )


def _rows(rejection: Rejection, run_id: str) -> list[dict[str, Any]]:
    return [
        {
            "file": rejection.file,
            **vars(example),
            "day": None if rejection.day is None else to_date(rejection.day),
            "metric": rejection.metric,
            "column": rejection.column,
            "reason": rejection.reason,
            "remedy": REMEDIES.get(rejection.reason, "correct the value at the source"),
            "run_id": run_id,
        }
        for example in rejection.examples
    ]
