"""Verbs that plan and run nights."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hbpipe.verbs.common import add_verb, at_least, day

if TYPE_CHECKING:
    from hbpipe.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs of this group."""
    purpose = "list the days to process and why; exit 10 when there is work"
    plan = add_verb(verbs, "nights", "plan", purpose)
    _add_night_options(plan)
    plan.add_argument("--out", metavar="FILE", help="write the plan, for `hbpipe run --plan`")
    purpose = "bring the window of one day up to date and publish a release"
    run = add_verb(verbs, "nights", "run", purpose)
    _add_night_options(run)
    again = run.add_mutually_exclusive_group()
    again.add_argument(
        "--plan", dest="document", metavar="FILE", help="run this plan of `hbpipe plan --out`"
    )
    again.add_argument("--retry", metavar="RUN_ID", help="run the plan of an earlier run again")
    _add_acceptance(run)
    _add_reason_of_acceptance(run)
    _add_backfill(verbs)
    _add_restate(verbs)
    _add_explain(verbs)
    _add_audit(verbs)


def _add_audit(verbs: Verbs) -> None:
    purpose = "compare a release with full Bayes, or show the checks of a run; exit 3 on a failure"
    audit = add_verb(verbs, "audits", "audit", purpose)
    against = audit.add_argument_group("against full Bayes")
    against.add_argument("--release", metavar="NAME", help="another release than the current one")
    against.add_argument("--metric", metavar="NAME", help="this metric; by default all")
    against.add_argument(
        "--pools", type=at_least(1), metavar="N", help="pools of a metric, evenly by size; 3"
    )
    against.add_argument(
        "--stores", type=at_least(1), metavar="N", help="stores of a pool, stratified by n; 200"
    )
    against.add_argument(
        "--seed", type=at_least(0), metavar="N", help="of the stores chosen and the chains; 1"
    )
    against.add_argument(
        "--by",
        choices=("auto", "nuts", "quadrature"),
        help="how; auto takes a grid where there are few hyperparameters, else NUTS",
    )
    checks = audit.add_argument_group("checks that runs recorded")
    checks.add_argument("--checks", action="store_true", help="show these, failures first")
    checks.add_argument(
        "--run", dest="run_id", metavar="RUN_ID", help="this run; by default the last night's"
    )
    checks.add_argument("--as-of", type=day, metavar="DAY", help="only checks of this as-of day")


def _add_explain(verbs: Verbs) -> None:
    purpose = "explain a business day (files, runs, releases), or a store: its story in words"
    explain = add_verb(verbs, "nights", "explain", purpose)
    explain.add_argument(
        "what", nargs="?", metavar="DAY|STORE", help="a day such as 2026-01-31, or a store's id"
    )
    explain.add_argument("--store", metavar="ID", help="a store whose id looks like a day")
    explain.add_argument(
        "--release", metavar="NAME", help="of a store: another release than the current one"
    )


def _add_night_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--as-of", type=day, metavar="DAY", help="the last business day included")
    verb.add_argument(
        "--full-scan", action="store_true", help="look for late input beyond events.horizon"
    )
    verb.add_argument(
        "--accept-missing",
        action="store_true",
        help="take out the rows of files that have vanished",
    )


def _add_acceptance(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--accept-audit",
        metavar="NAME",
        help="take what this check has found as it is, as long as its input stays the same",
    )
    verb.add_argument(
        "--day",
        type=day,
        metavar="DAY",
        help="accept for this day only: the business day that is held, or the as-of day of a "
        "release; without it, what is held already",
    )


def _add_reason_of_acceptance(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--reason", metavar="TEXT", help="why it is accepted; kept in acceptances")


def _add_backfill(verbs: Verbs) -> None:
    purpose = "publish the nights of a range of days, as far as they are missing"
    verb = add_verb(verbs, "rebuild", "backfill", purpose)
    _add_range_options(verb)
    verb.add_argument(
        "--reprocess",
        choices=("missing", "failed", "all"),
        default="missing",
        help="missing: without a release, or stale; failed: also what failed a gate; all",
    )
    verb.add_argument("--newest-first", action="store_true", help="measure the latest days first")
    _add_acceptance(verb)
    _add_reason_of_acceptance(verb)


def _add_restate(verbs: Verbs) -> None:
    purpose = "recompute a range of days, and every release that rests on them"
    verb = add_verb(verbs, "rebuild", "restate", purpose)
    _add_range_options(verb)
    verb.add_argument(
        "--reason",
        required=True,
        metavar="TEXT",
        help="why; kept in the ledger, and with --accept-audit in acceptances",
    )
    _add_acceptance(verb)
    verb.add_argument(
        "--tables",
        choices=("statistics", "posteriors"),
        default="statistics",
        help="where to begin: at the events, or at the statistics that are there",
    )


def _add_range_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--start", type=day, required=True, metavar="DAY", help="the first day")
    verb.add_argument("--end", type=day, required=True, metavar="DAY", help="the last day")
    verb.add_argument(
        "--max-active",
        type=at_least(1),
        default=30,
        metavar="N",
        help="work on, and commit, at most N days at once",
    )
    verb.add_argument(
        "--accept-missing",
        action="store_true",
        help="take out the rows of files that have vanished",
    )
    verb.add_argument(
        "--dry-run", action="store_true", help="show what would be done; exit 10 when there is work"
    )
    verb.add_argument("--yes", action="store_true", help="do not ask")
