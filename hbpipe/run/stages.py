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
from hbpipe.data.clusters import one_in
from hbpipe.data.daily import DayOrder, finish_day
from hbpipe.data.events import Piece
from hbpipe.data.schemas import Table
from hbpipe.data.survey import cut_pieces
from hbpipe.data.window import fold_window
from hbpipe.errors import GateError
from hbpipe.run import audits, commits
from hbpipe.run.engine import Task
from hbpipe.run.fingerprints import kernel_digest, statistics_digest
from hbpipe.run.inference.covariates import check_covariates, check_curves, code_covariates
from hbpipe.run.inference.fit_tables import stage_fits
from hbpipe.run.inference.fitting import find_trees, fit_on_sketches
from hbpipe.run.inference.group_rows import stage_groups
from hbpipe.run.inference.overdispersion import check_overdispersion, divisors, measure
from hbpipe.run.inference.size_dependence import check_size_dependence, measure_size_dependence
from hbpipe.run.inference.update import UpdateOrder, update_shard
from hbpipe.run.night import Night
from hbpipe.run.windows import window_orders


def aggregate(night: Night) -> dict[str, Any]:
    """Turn the events of every due day into committed statistics.

    Raises
    ------
    GateError
        When a day fails the data gate; it is held, the other days are committed.
    """
    commits.prepare_lake(night)
    _check_undated(night)
    results = night.engine.gather(_day_tasks(night), night.progress("aggregate"))
    night.results = {result.day: result for result in results}
    commits.commit_days(night, _check_days(night))
    blocking = [
        f"{to_date(day)} ({night.days[day].reason})"
        for day in night.plan.window
        if day in night.days and night.days[day].state == "held"
    ]
    if blocking:
        commits.commit_checks(night)
        raise _gate_failed("data", audits.failures(night.checks), f"held: {', '.join(blocking)}")
    accounts = [audits.total_account(result) for result in results]
    return {
        "days": len(night.plan.days),
        "rows": sum(account.rows for account in accounts),
        "accepted": sum(account.accepted for account in accounts),
        "rejected": sum(account.rejected for account in accounts),
        "repeated": sum(account.repeated for account in accounts),
    }


def _check_undated(night: Night) -> None:
    """Refuse new files whose rows lack a day, before anything of them is taken as known."""
    surveyed = [night.stock.files[path] for path in night.stock.surveyed]
    counting = [entry for entry in surveyed if entry.state == "read"]
    check = audits.check_undated(counting, night.settings.audits)
    night.checks = [check]
    if check.status == "fail":
        commits.commit_checks(night)
        commits.commit_quarantine(night, days=())
        raise _gate_failed("data", [check], "nothing was read")


def _day_tasks(night: Night) -> list[Task]:
    """Submit every piece once, and one merge per day that waits for the day's pieces."""
    pieces = _pieces(night)
    feeding: dict[int, list[int]] = {}
    for index, (_, days) in enumerate(pieces):
        for day in days:
            feeding.setdefault(day, []).append(index)
    rows = {day.day: day.rows for day in night.plan.days}
    crowded = {day for day, indices in feeding.items() if len(indices) > 1}
    parts = [
        night.engine.submit(
            summarise_piece,
            night.form,
            piece,
            night.metrics,
            days,
            bool(night.form.event_id) and not crowded.isdisjoint(days),
            min((one_in(rows[day]) for day in days), default=1),
            label=f"aggregation of {piece.file.path}, row groups {piece.row_groups}",
        )
        for piece, days in pieces
    ]
    table = commits.lake_table(night, "statistics")
    return [
        night.engine.submit(
            finish_day,
            night.lake.storage,
            _day_order(night, day, rows[day], table),
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
        entry = night.stock.files[path]
        groups = {group.index: group for group in entry.row_groups}
        for piece in cut_pieces(entry.file, entry.row_groups, days):
            spans = [groups[index] for index in piece.row_groups]
            held = [d for d in days if any(s.first_day <= d <= s.last_day for s in spans)]
            found.append((piece, tuple(held)))
    return found


def _day_order(night: Night, day: int, rows: int, table: Table) -> DayOrder:
    return DayOrder(
        form=night.form,
        metrics=night.metrics,
        day=day,
        label=to_date(day).isoformat(),
        rows=rows,
        table=table,
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
    orders = window_orders(night)
    night.folded = [
        night.engine.submit(fold_window, order, label=f"window fold of shard {shard}")
        for shard, order in enumerate(orders)
    ]
    trees = find_trees(night)
    pools = next(iter(trees.values())).pools
    coded = code_covariates(night, pools, [order.listed for order in orders])
    dispersed = measure(night, pools)
    divided = divisors(night.metrics, dispersed)
    for done, metric in enumerate(night.metrics, start=1):
        name = metric.name
        night.fits[name] = fit_on_sketches(
            night,
            metric,
            trees[name],
            dispersed.get(name),
            divided.get(name),
            coded.get(name),
        )
        night.observer.progress("fit", done, len(night.metrics))
    measure_size_dependence(night, pools)
    stage_fits(night)
    return {
        "pools": len(pools),
        "metrics": len(night.metrics),
        "at_bound": {name: int(np.sum(found.fits.boundary)) for name, found in night.fits.items()},
    }


def update(night: Night) -> dict[str, Any]:
    """Compute and stage the posteriors of every unit, shard by shard."""
    order = UpdateOrder(
        metrics=night.metrics,
        levels=night.form.levels,
        priors={name: found.priors for name, found in night.fits.items()},
        quantiles=night.settings.inference.quantiles,
        table=commits.lake_table(night, "posteriors"),
        label=to_date(night.plan.as_of).isoformat(),
        run_id=night.run_id,
    )
    shared = night.engine.share(order, label="nodes of the hyperparameters")
    tasks = [
        night.engine.submit(
            update_shard, night.lake.storage, shared, folded, label=f"posteriors of shard {shard}"
        )
        for shard, folded in enumerate(night.folded)
    ]
    written = night.engine.gather(tasks, night.progress("update"))
    night.staged["posteriors"] = [receipt for receipt, _ in written]
    night.tallies = [tally for _, tallies in written for tally in tallies] + stage_groups(night)
    night.folded = []
    units = sum(tally.units for tally in night.tallies if tally.metric == night.metrics[0].name)
    return {"units": units, "posteriors": sum(tally.posteriors for tally in night.tallies)}


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
    found += check_overdispersion(night.fits, night.settings.audits)
    found += check_size_dependence(night.fits)
    found += audits.check_posteriors(night.tallies, events)
    found += check_covariates(night.tallies, night.metrics, night.settings.audits)
    found += check_curves({name: fit.design for name, fit in night.fits.items()})
    found += audits.check_window(
        window, kernel_digest(night.metrics), statistics_digest(night.form, night.metrics)
    )
    # A stage that is tried again replaces its own checks.
    night.checks = [check for check in night.checks if check.gate != "release"] + found
    commits.commit_checks(night)
    failed = audits.failures(found)
    if failed:
        raise _gate_failed("release", failed, "nothing was published")
    warned = [check for check in night.checks if check.status == "warn"]
    return {"checks": len(night.checks), "warnings": len(warned)}


def release(night: Night) -> dict[str, Any]:
    """Commit what was staged, and last the one row that shows it to readers."""
    commits.commit_results(night)
    night.released = commits.commit_release(night)
    return {"release": night.released["release"]}


def _gate_failed(gate: str, failed: list[audits.Check], effect: str) -> GateError:
    shown = [f"{check.name} of {check.subject}: {check.message}" for check in failed[:5]]
    return GateError(
        "; ".join([f"{len(failed)} check(s) of the {gate} gate failed", *shown, effect]),
        expected="every check within its threshold; all results are in the table audits",
        remedy="look at the table quarantine, correct the input or change the threshold under "
        "audits, and run again; readers stay on the old release",
    )


#: The stages of a night, in order.
STAGES: tuple[Callable[[Night], dict[str, Any]], ...] = (aggregate, fit, update, audit, release)
