"""Verbs that plan and run nights."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hbpipe.verbs.common import add_verb, day

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
    _add_explain(verbs)


def _add_explain(verbs: Verbs) -> None:
    purpose = "explain one business day: its files, runs and releases, and why it is due or not"
    explain = add_verb(verbs, "nights", "explain", purpose)
    explain.add_argument("day", type=day, metavar="DAY", help="a business day")


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
