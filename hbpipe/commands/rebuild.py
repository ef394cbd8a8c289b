"""Verbs that work on many days."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial

from hbpipe.commands.common import WORK, accepts, confirm, print_json, settings_of
from hbpipe.data.lake import Lake
from hbpipe.observe import observers_of
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.terminal import show
from hbpipe.run import backfill as backfills
from hbpipe.run import restate as restatements
from hbpipe.run.audits import AcceptRequest
from hbpipe.run.observe import Observers
from hbpipe.run.rebuild import open_rebuild, plan_rebuild, run_rebuild
from hbpipe.run.rebuild_plan import RebuildPlan
from hbpipe.run.stock import Stock

_SHOWN = 20


def backfill(arguments: Namespace) -> int:
    """Publish what is missing of a range of days; what is accepted has failed before."""
    accept = accepts(arguments)
    again = accept is not None and arguments.reprocess == "missing"
    return _work(
        arguments,
        partial(
            backfills.decide,
            within=backfills.Range(arguments.start, arguments.end),
            reprocess="failed" if again else arguments.reprocess,
            newest_first=arguments.newest_first,
        ),
        accept,
    )


def restate(arguments: Namespace) -> int:
    """Recompute a range of days and what rests on them; its reason is that of an acceptance too."""
    return _work(
        arguments,
        partial(
            restatements.decide,
            within=backfills.Range(arguments.start, arguments.end),
            reason=arguments.reason,
            what=arguments.tables,
        ),
        accepts(arguments, always=("reason",)),
    )


def _work(
    arguments: Namespace,
    decide: Callable[[Stock, Lake], RebuildPlan],
    accept: AcceptRequest | None,
) -> int:
    """Plan, show the plan, ask, and do it; 3 when a gate failed."""
    settings = settings_of(arguments)
    if arguments.dry_run:
        found = plan_rebuild(settings, decide, accept_missing=arguments.accept_missing)
        _show(found, arguments.json)
        return WORK if found.work else 0
    with (
        ConsoleObserver(arguments.quiet or arguments.json) as console,
        open_rebuild(
            settings,
            decide,
            batch=arguments.max_active,
            kind=arguments.verb,
            observer=Observers(console, observers_of(settings)),
            accept_missing=arguments.accept_missing,
            accept=accept,
        ) as rebuild,
    ):
        if rebuild.plan.work and not arguments.yes:
            plan = rebuild.plan
            counts = f"{len(plan.days)} day(s) and {len(plan.nights)} release(s)"
            confirm(plan_text(plan), f"{counts} wait for a yes")
        report = run_rebuild(rebuild)
    if arguments.json:
        print_json(report.to_dict())
    else:
        show(report.text())
    failure = report.failure()
    return 0 if failure is None else failure.exit_code


def _show(plan: RebuildPlan, as_json: bool) -> None:
    if as_json:
        print_json(plan.to_dict())
    else:
        show(plan_text(plan))


def plan_text(plan: RebuildPlan) -> str:
    """Write a plan for a terminal: the days, and the releases that follow from them."""
    described = plan.to_dict()
    days = [f"  {d['day']}  {d['rows']:>12,} rows  {d['reason']}" for d in described["days"]]
    nights = [f"  {night['as_of']}  {night['reason']}" for night in described["releases"]]
    return "\n".join(
        [
            f"{len(days)} day(s) to measure, {described['rows']:,} rows",
            *_first(days),
            f"{len(nights)} release(s) to publish",
            *_first(nights),
            *(f"Note: {note}" for note in described["notes"]),
        ]
    )


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"  … and {more} more"] if more > 0 else lines
