"""The ledger after a unit was forgotten: its rows were accepted, and count as rejected now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow.compute as pc

from hbpipe.data.aggregate import Account
from hbpipe.data.clock import to_number
from hbpipe.data.lake import Lake
from hbpipe.data.rejections import FORGOTTEN
from hbpipe.run.ledger import FileDay, FileEntry, read_days, read_files, write_days, write_files
from hbpipe.run.traces import Unit


def correct_ledger(lake: Lake, unit: Unit, run_id: str) -> None:
    """Count the unit's rows as rejected on every day whose statistics still hold it.

    What a day accepts is set to what the others have, not lowered by what the unit had, so that a
    correction that is cut off can be made again. Of several files that feed one day the first that
    accepted rows give them up: which of them held the unit only the events could tell.
    """
    left = _left_without(lake, unit)
    ledger, files = read_days(lake), read_files(lake)
    days = {day: entry for day, entry in ledger.items() if day in left}
    for day in days:
        feeding = [files[path] for path in sorted(files) if day in files[path].days]
        for entry in _give_up(feeding, day, left[day][0], list(unit.named)[-1]):
            files[entry.path] = entry
    known = read_files(lake)
    write_files(lake, [files[path] for path in files if files[path] != known[path]], run_id)
    corrected = [
        replace(entry, account=_moved(entry.account, left[day][0]), units=left[day][1])
        for day, entry in days.items()
    ]
    write_days(lake, [one for one in corrected if one != ledger[one.day]], run_id)


def _left_without(lake: Lake, unit: Unit) -> dict[int, tuple[int, int]]:
    """Return events and units of the others, on each day on which the unit is: day -> both."""
    rows = lake.read("statistics", columns=["day", "metric", *unit.named, "n_events"])
    own = unit.rows(rows)
    days = pc.unique(rows.filter(own).column("day"))
    others = rows.filter(pc.and_(pc.is_in(rows.column("day"), days), pc.invert(own)))
    found = {to_number(day): (0, 0) for day in days.to_pylist()}
    sums = others.group_by(["day", "metric"], use_threads=False).aggregate(
        [("n_events", "sum"), ("n_events", "count")]
    )
    for row in sums.to_pylist():  # every metric of a day lists the same units and events
        found[to_number(row["day"])] = (row["n_events_sum"], row["n_events_count"])
    return found


def _moved(account: Account, accepted: int) -> Account:
    return replace(
        account, accepted=accepted, rejected=account.rejected + account.accepted - accepted
    )


def _give_up(files: Iterable[FileEntry], day: int, accepted: int, column: str) -> list[FileEntry]:
    """Let files give up accepted rows of a day until ``accepted`` are left."""
    done = [(file, found) for file in files if (found := file.days[day].account) is not None]
    excess = sum(account.accepted for _, account in done) - accepted
    changed = []
    for file, account in done:
        rows = min(excess, account.accepted)
        excess -= rows
        if rows > 0:
            key = (day, "", column, FORGOTTEN)
            counted = FileDay(file.days[day].rows, _moved(account, account.accepted - rows))
            changed.append(
                replace(
                    file,
                    days={**file.days, day: counted},
                    rejections={
                        **file.rejections,
                        key: file.rejections.get(key, 0) + rows,
                    },
                )
            )
    return changed
