"""The night, in reading order: aggregate, fit, update, audit, release.

Each stage takes the night, adds its part, and returns a few numbers for people. Nothing a stage
writes is seen by readers before ``release`` appends its one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hbpipe.data.aggregate import summarise_piece
from hbpipe.data.clock import to_date
from hbpipe.data.daily import DayOrder, DayResult, finish_day
from hbpipe.data.events import Piece
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.survey import cut_pieces
from hbpipe.data.units import shard_of
from hbpipe.data.window import WindowOrder, fold_window
from hbpipe.errors import GateError
from hbpipe.run import audits, commits
from hbpipe.run.engine import Task
from hbpipe.run.fit_tables import last_hyperparameters, stage_fits
from hbpipe.run.fits import compress_shard, find_pools, fit_metric
from hbpipe.run.night import Night
from hbpipe.run.plan import needs_history
from hbpipe.run.universe import read_stores
from hbpipe.run.update import UpdateOrder, update_shard


def aggregate(night: Night) -> dict[str, Any]:
    """Turn the events of every due day into committed statistics.

    Raises
    ------
    GateError
        When a day fails the data gate; it is held, the other days are committed.
    """
    commits.prepare_lake(night)
    undated = audits.check_undated(
        (night.plan.files[path] for path in night.plan.changed_files), night.settings.audits
    )
    night.checks.append(undated)
    if undated.status == "fail":
        commits.commit_checks(night)
        raise _gate_failed("data", [undated])
    results = night.engine.gather(_day_tasks(night), night.progress("aggregate"))
    night.results = {result.day: result for result in results}
    held = _check_days(night)
    commits.commit_days(night, held)
    blocking = [day for day, entry in sorted(night.days.items()) if entry.state == "held"]
    blocking = [day for day in blocking if day in night.plan.window]
    if blocking:
        commits.commit_checks(night)
        raise _gate_failed("data", audits.failures(night.checks))
    accounts = [audits.total_account(result) for result in results]
    return {
        "days": len(results),
        "rows": sum(account.rows for account in accounts),
        "accepted": sum(account.accepted for account in accounts),
        "rejected": sum(account.rejected for account in accounts),
        "repeated": sum(account.repeated for account in accounts),
    }


def _day_tasks(night: Night) -> list[Task]:
    """Submit every piece once, and one merge per day that waits for the day's pieces."""
    pieces = _pieces(night)
    feeding: dict[int, list[int]] = {}
    for index, (_, days) in enumerate(pieces):
        for day in days:
            feeding.setdefault(day, []).append(index)
    crowded = {day for day, indices in feeding.items() if len(indices) > 1}
    parts = [
        night.engine.submit(
            summarise_piece,
            night.form,
            piece,
            night.metrics,
            days,
            bool(night.form.event_id) and not crowded.isdisjoint(days),
            label=f"aggregation of {piece.file.path}, row groups {piece.row_groups}",
        )
        for piece, days in pieces
    ]
    rows = {day.day: day.rows for day in night.plan.days}
    return [
        night.engine.submit(
            finish_day,
            night.lake.storage,
            _day_order(night, day, rows[day]),
            [parts[index] for index in indices],
            label=f"merge of {to_date(day)}",
            priority=10,
        )
        for day, indices in sorted(feeding.items())
    ]


def _pieces(night: Night) -> list[tuple[Piece, tuple[int, ...]]]:
    """Cut the files that feed due days; each piece comes with the due days it may hold."""
    due: dict[str, list[int]] = {}
    for day in night.plan.days:
        for path in day.files:
            due.setdefault(path, []).append(day.day)
    found = []
    for path, days in sorted(due.items()):
        entry = night.plan.files[path]
        groups = {group.index: group for group in entry.row_groups}
        for piece in cut_pieces(entry.file, entry.row_groups, days):
            spans = [groups[index] for index in piece.row_groups]
            held = [d for d in days if any(s.first_day <= d <= s.last_day for s in spans)]
            found.append((piece, tuple(held)))
    return found


def _day_order(night: Night, day: int, rows: int) -> DayOrder:
    return DayOrder(
        form=night.form,
        metrics=night.metrics,
        day=day,
        label=to_date(day).isoformat(),
        rows=rows,
        table=commits.statistics_table(night),
        run_id=night.run_id,
    )


def _check_days(night: Night) -> set[int]:
    """Run the data gate; return the days that fail it."""
    held = set()
    for day in night.plan.days:
        result = night.results.get(day.day)
        if result is None:
            continue  # an empty day has nothing to check
        account = audits.total_account(result)
        checks = audits.check_day(result, account, day.rows, night.settings.audits)
        night.checks += checks
        if audits.failures(checks):
            held.add(day.day)
    return held


def fit(night: Night) -> dict[str, Any]:
    """Fold the window and fit every pool's hyperparameters from sketches."""
    orders = _window_orders(night)
    night.folded = [
        night.engine.submit(fold_window, order, label=f"window fold of shard {shard}")
        for shard, order in enumerate(orders)
    ]
    pool_levels = night.settings.pool_by
    keys = night.engine.gather(
        [
            night.engine.submit(find_pools, folded, night.form.levels, pool_levels, label="pools")
            for folded in night.folded
        ]
    )
    pools = sorted({key for found in keys for key in found})
    for done, metric in enumerate(night.metrics, start=1):
        sketches = night.engine.gather(
            [
                night.engine.submit(
                    compress_shard,
                    folded,
                    metric,
                    night.form.levels,
                    pool_levels,
                    pools,
                    label=f"sketch of {metric.name}",
                )
                for folded in night.folded
            ]
        )
        night.fits[metric.name] = fit_metric(
            metric,
            sketches,
            pools,
            night.settings.inference,
            last_hyperparameters(night, metric),
        )
        night.observer.progress("fit", done, len(night.metrics))
    stage_fits(night)
    return {
        "pools": len(pools),
        "metrics": len(night.metrics),
        "at_bound": {name: int(np.sum(found.fits.boundary)) for name, found in night.fits.items()},
    }


def _window_orders(night: Night) -> list[WindowOrder]:
    """Describe each shard's part of the window, of the days before it, and of the store table."""
    first, as_of = night.plan.window[0], night.plan.as_of
    snapshot = night.lake.snapshot("statistics")
    settings = night.settings
    past = snapshot.select(lambda file: file.partition["day"] < to_date(first).isoformat())
    current = snapshot.select(
        lambda file: (
            to_date(first).isoformat() <= file.partition["day"] <= to_date(as_of).isoformat()
        )
    )
    listed = read_stores(settings.stores, night.form.levels, night.plan.level_types)
    shards = _fold_shards(night)
    place = None if listed is None else shard_of(listed.column(night.form.levels[-1]), shards)
    silent = settings.stores.keep_silent
    return [
        WindowOrder(
            metrics=night.metrics,
            levels=night.form.levels,
            window=_shard(current, shard, shards),
            history=_shard(past, shard, shards) if needs_history(settings) else None,
            listed=None
            if listed is None or place is None
            else listed.take(np.flatnonzero(place == shard)),
            within_parent=_within_parent(night),
            first_day=first,
            as_of=as_of,
            silent_since=min(first, as_of - silent + 1) if silent is not None else first,
        )
        for shard in range(shards)
    ]


def _fold_shards(night: Night) -> int:
    """Return the fewest shards of any day that is read; finer ones nest within them."""
    first = None if needs_history(night.settings) else night.plan.window[0]
    return min(
        (
            entry.shards
            for day, entry in night.days.items()
            if day <= night.plan.as_of and (first is None or day >= first) and entry.units
        ),
        default=1,
    )


def _shard(snapshot: Snapshot, shard: int, shards: int) -> Snapshot:
    """Narrow a snapshot to the files of one shard; a file holds one shard of its day."""
    return snapshot.select(lambda file: file.statistics["shard"][0] % shards == shard)


def _within_parent(night: Night) -> bool:
    """Decide whether unit ids are unique by themselves.

    ``auto``: an id seen under two parents on one day belongs to two stores, so ids are only
    unique within their parent; an id seen under one parent at a time has moved.
    """
    mode = night.settings.events.unit_ids
    if mode != "auto":
        return mode == "within_parent"
    return any(night.days[day].shared_ids for day in night.plan.window if day in night.days)


def update(night: Night) -> dict[str, Any]:
    """Compute and stage the posteriors of every unit, shard by shard."""
    order = UpdateOrder(
        metrics=night.metrics,
        levels=night.form.levels,
        pool_levels=night.settings.pool_by,
        pools=next(iter(night.fits.values())).pools,
        nodes={name: found.nodes for name, found in night.fits.items()},
        hyperparameters={name: found.fits.hyperparameters for name, found in night.fits.items()},
        quantiles=night.settings.inference.quantiles,
        table=commits.posteriors_table(night),
        label=to_date(night.plan.as_of).isoformat(),
        run_id=night.run_id,
    )
    tasks = [
        night.engine.submit(
            update_shard, night.lake.storage, order, folded, label=f"posteriors of shard {shard}"
        )
        for shard, folded in enumerate(night.folded)
    ]
    written = night.engine.gather(tasks, night.progress("update"))
    night.staged["posteriors"] = [receipt for receipt, _ in written]
    night.tallies = [tally for _, tallies in written for tally in tallies]
    night.folded = []
    units = sum(tally.units for tally in night.tallies if tally.metric == night.metrics[0].name)
    return {"units": units, "posteriors": sum(tally.units for tally in night.tallies)}


def audit(night: Night) -> dict[str, Any]:
    """Check fits and posteriors before anything of them is published.

    Raises
    ------
    GateError
        When a check fails; the old release stays, the staged files are kept for inspection.
    """
    window = [night.days[day] for day in night.plan.window if day in night.days]
    events = sum(day.account.accepted for day in window)
    found = audits.check_fits(night.fits, night.settings.audits)
    found += audits.check_posteriors(night.tallies, events)
    night.checks += found
    commits.commit_checks(night)
    failed = audits.failures(found)
    if failed:
        raise _gate_failed("release", failed)
    warned = [check for check in night.checks if check.status == "warn"]
    return {"checks": len(night.checks), "warnings": len(warned)}


def release(night: Night) -> dict[str, Any]:
    """Commit what was staged, and last the one row that shows it to readers."""
    commits.commit_results(night)
    night.released = commits.commit_release(night)
    return {"release": night.released["release"]}


def _gate_failed(gate: str, failed: list[audits.Check]) -> GateError:
    shown = "; ".join(f"{c.name} of {c.subject}: {c.message}" for c in failed[:5])
    return GateError(
        f"{len(failed)} check(s) of the {gate} gate failed: {shown}",
        expected="every check within its threshold; all results are in the table audits",
        remedy="correct the input, or change the threshold under audits; readers stay on the old "
        "release",
    )


#: The stages of a night, in order.
STAGES: tuple[Callable[[Night], dict[str, Any]], ...] = (aggregate, fit, update, audit, release)

__all__ = ["STAGES", "DayResult", "aggregate", "audit", "fit", "release", "update"]
