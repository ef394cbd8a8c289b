"""Forget a unit: out of every table and of history, proved by reading what is left.

In this order, each step true whenever the process dies, and done again when it is called again:

1. the unit's digest is entered in ``forgotten``: from now on no night brings it back;
2. the ledger counts its rows as rejected;
3. the files that hold it are written anew, table by table, in one commit each;
4. releases name the new versions; one whose results have been replaced since cannot, and expires;
5. every file and log entry that no kept release needs is deleted at once, without any grace;
6. every file left is read, and searched for the id.

What was computed with the unit keeps its numbers: hyperparameters, fits, group rows and the counts
of days are of many units, and name none. The events themselves are not ours: delete it there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.config import Settings
from hbpipe.data.forgotten import remember
from hbpipe.data.lake import Lake
from hbpipe.data.log import list_tables
from hbpipe.data.rewrite import rewrite_rows, without
from hbpipe.data.vacuum import abandoned_spools, plan_table
from hbpipe.errors import ConfigError, GateError, LakeError
from hbpipe.run.attempt import open_run
from hbpipe.run.corrections import correct_ledger
from hbpipe.run.history import read_releases
from hbpipe.run.keeping import end_releases, needed_by_releases, rewrite_releases
from hbpipe.run.ledger import read_days
from hbpipe.run.night import new_run_id, open_lake
from hbpipe.run.repointing import Repointing, plan_repointing
from hbpipe.run.retention import vacuum
from hbpipe.run.traces import Unit, find_traces, rows_of_unit

#: Tables whose rows go where any text of theirs mentions the unit.
_EXAMPLES = ("quarantine",)
#: Columns of prose in which the id is struck out: the outcome of a check stays.
_PROSE = {
    "audits": ("subject", "message"),
    "diagnostics": ("message",),
    "acceptances": ("subject", "message", "reason"),
    "runs": ("plan", "error"),
    "pointers": ("reason",),
}
_STRUCK = "(forgotten)"


@dataclass(frozen=True)
class ForgetReport:
    """What was, or would be, forgotten.

    ``rows`` by table, in its newest version; ``releases`` that name new versions, and those that
    expire; ``traces`` left, which is empty when it is done.
    """

    rows: Mapping[str, int]
    rewritten: tuple[str, ...]
    expired: tuple[str, ...]
    known: bool
    files: int = 0
    traces: tuple[str, ...] = field(default=())

    @property
    def work(self) -> bool:
        """Tell whether there is anything of the unit, or it was not forgotten before."""
        return not self.known or any(self.rows.values())

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return {
            "rows": dict(self.rows),
            "releases": {"rewritten": list(self.rewritten), "expired": list(self.expired)},
            "files_deleted": self.files,
            "traces": list(self.traces),
        }


def forget(
    settings: Settings,
    unit: str,
    *,
    level: str | None = None,
    parents: Mapping[str, str] | None = None,
    reason: str,
    dry_run: bool = False,
    now: datetime | None = None,
) -> ForgetReport:
    """Take a unit out of the lake and out of its history, for good.

    Parameters
    ----------
    unit
        Its id.
    level
        The level that the id is of; by default the finest.
    parents
        Levels above it, where the id alone does not name it.
    reason
        Why; kept beside the digest, so it must not name the unit.
    dry_run
        Only look, without the lease.

    Raises
    ------
    ConfigError
        The level is unknown, the id is not of its type, does not name one unit, or is in the
        reason.
    LakeError
        What readers see now could not be written without the unit; nothing has been done.
    GateError
        Traces are left; names them.
    LeaseError
        A run holds the lease.
    """
    lake, moment = open_lake(settings), now or datetime.now(UTC)
    run_id = new_run_id(moment)
    named = _named(settings, lake, unit, level or settings.events.unit, parents or {})
    if named.mentioned(reason):
        raise ConfigError("the reason names the unit", expected="a reason without its id")
    if dry_run:
        return _look(lake, named)
    with open_run(lake, settings, run_id=run_id, kind="forget") as attempt:
        lake = attempt.lake
        _require_one(settings, lake, named)
        found = _look(lake, named)
        attempt.record()
        remember(lake, named.named, reason=reason, run_id=run_id, forgotten_at=moment)
        correct_ledger(lake, named, run_id)
        for table in (name for name, rows in found.rows.items() if rows):
            _take_out(lake, table, named, run_id)
        _repoint(lake, plan_repointing(lake, named), moment, run_id)
        files = _delete(lake)
        traces = tuple(find_traces(lake, named))
        if traces:  # told in `runs` without their places, which may hold the id
            attempt.end("held", f"{len(traces)} trace(s) of the unit are left")
    if traces:
        raise _left(lake, traces)
    return ForgetReport(found.rows, found.rewritten, found.expired, True, files)


def _named(
    settings: Settings, lake: Lake, unit: str, level: str, parents: Mapping[str, str]
) -> Unit:
    """Give the levels that name the unit their values, of the types that the lake has."""
    levels = settings.events.levels
    for name in (level, *parents):
        if name not in levels:
            raise ConfigError(f"{name!r} is not a level", expected=", ".join(levels))
    schema = lake.snapshot("statistics").schema
    values = {**parents, level: unit}
    return Unit({n: _typed(values[n], n, schema.field(n).type) for n in levels if n in values})


def _typed(value: str, name: str, kind: pa.DataType) -> Any:
    if not pa.types.is_integer(kind):
        return value
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"{name} {value!r}", expected="a whole number, as in the lake") from None


def _require_one(settings: Settings, lake: Lake, unit: Unit) -> None:
    """Refuse an id that two units have, unless its parents are given too."""
    above = [name for name in settings.events.levels if name not in unit.named]
    shared = settings.events.unit_ids == "within_parent" or any(
        entry.shared_ids for entry in read_days(lake).values()
    )
    if not above or not shared or settings.events.unit_ids == "unique":
        return
    rows = lake.read("statistics", columns=[*above, *unit.named])
    found = rows.filter(unit.rows(rows)).select(above).group_by(above).aggregate([]).to_pylist()
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} units have this id, under {found[0]} and {found[1]}",
            expected="one unit",
            remedy=f"add --parent {above[-1]}=VALUE",
        )


def _look(lake: Lake, unit: Unit) -> ForgetReport:
    """Count what there is of a unit in the newest versions; writes nothing.

    Raises
    ------
    LakeError
        What readers see now could not be written without it.
    """
    rows = {}
    for table in list_tables(lake.storage):
        snapshot = lake.snapshot(table)
        rows[table] = rows_of_unit(snapshot, unit)
        if table in (*_EXAMPLES, *_PROSE):
            rows[table] = pc.sum(unit.texts(snapshot.read())).as_py() or 0
    plan = plan_repointing(lake, unit)
    return ForgetReport(rows, tuple(plan.rewritten), tuple(plan.expired), not any(rows.values()))


def _take_out(lake: Lake, table: str, unit: Unit, run_id: str) -> None:
    """Write a table without the unit, in one commit; none where it is not there."""

    def revise(rows: pa.Table) -> pa.Table:
        if unit.named_in(rows):
            rows = without(rows, unit.rows(rows))
        if table in _EXAMPLES:
            rows = without(rows, unit.texts(rows))
        for name in _PROSE.get(table, ()):
            rows = _strike(rows, name, unit)
        return rows

    rewrite_rows(lake.storage, table, revise, run_id=run_id, metadata={"forget": True})


def _strike(rows: pa.Table, name: str, unit: Unit) -> pa.Table:
    texts = rows.column(name).to_pylist()
    if not any(map(unit.mentioned, texts)):
        return rows
    struck = [text if text is None else unit.pattern.sub(_STRUCK, text) for text in texts]
    place = rows.column_names.index(name)
    return rows.set_column(place, rows.schema.field(name), pa.array(struck, pa.string()))


def _repoint(lake: Lake, plan: Repointing, now: datetime, run_id: str) -> None:
    """End the releases that cannot name the new versions, then let all others do so.

    Raises
    ------
    LakeError
        Readers were pointed to one of the former meanwhile.
    """
    why = "its results held a store that was forgotten, and had been replaced since"
    ended = end_releases(lake, dict.fromkeys(plan.expired, why), now, run_id)
    seen = sorted(set(plan.expired) - ended)
    if seen:
        raise LakeError(
            f"readers were pointed to release {seen[0]} meanwhile, whose results held the store, "
            "and have been replaced since",
            where={"lake": lake.uri},
            remedy="point them at another release, and call forget again: nothing is deleted yet",
        )
    note = f"rewritten on {now:%Y-%m-%d} without a store that was forgotten"
    rewrite_releases(
        lake,
        {name: {"versions": versions, "note": note} for name, versions in plan.rewritten.items()},
        run_id,
    )


def _delete(lake: Lake) -> int:
    """Delete at once what no kept release needs; return how many files."""
    needed = needed_by_releases(read_releases(lake), None)
    tables = tuple(
        plan_table(lake.storage, table, needed.get(table, ()), None)
        for table in list_tables(lake.storage)
    )
    vacuum(lake, tables, tuple(abandoned_spools(lake.storage, None)))
    return sum(len(table.files) for table in tables)


def _left(lake: Lake, traces: tuple[str, ...]) -> GateError | LakeError:
    return GateError(
        f"{len(traces)} trace(s) of the unit are left, the first in {traces[0]}",
        where={"lake": lake.uri},
        expected="none in any file of the lake",
        remedy="a path of events that holds the id stays in `files`: rename it there; else call "
        "forget again",
    )
