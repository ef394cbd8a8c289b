"""Verbs that look at what was released, and that move readers from one release to another."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hbpipe.verbs.common import add_verb, at_least, day, positive

if TYPE_CHECKING:
    from hbpipe.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs of this group."""
    purpose = "show the current release, which days are done, held or gone, and what is stale"
    add_verb(verbs, "releases", "status", purpose)
    _add_read(verbs)
    _add_export(verbs)
    _add_diff(verbs)
    _add_report(verbs)
    _add_promote(verbs)
    _add_rollback(verbs)
    _add_freshness(verbs)


def _add_read(verbs: Verbs) -> None:
    read = add_verb(verbs, "releases", "read", "read a table of the current release")
    _add_what_to_read(read)
    read.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    read.add_argument("--limit", type=at_least(0), metavar="N", help="at most so many rows")
    read.add_argument("--out", metavar="FILE", help="write .parquet, .csv or .arrow, not print")


def _add_export(verbs: Verbs) -> None:
    purpose = "write a table of the current release into one file, however large it is"
    export = add_verb(verbs, "exports", "export", purpose)
    _add_what_to_read(export)
    export.add_argument("--metric", metavar="NAME", help="this metric alone")
    export.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".parquet, .csv, .arrow; .nc for posteriors as arrays of xarray and ArviZ",
    )


def _add_what_to_read(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("table", nargs="?", default="posteriors")
    verb.add_argument(
        "--release", metavar="NAME", help="another release than the current one; or previous"
    )
    verb.add_argument(
        "--as-of", type=day, metavar="DAY", help="the newest release of this as-of day"
    )
    verb.add_argument(
        "--published-before",
        metavar="TIME",
        help="what readers saw before this moment; a date means before that business day begins, "
        "a time without offset is in events.timezone",
    )
    verb.add_argument("--columns", metavar="A,B,...", help="only these columns")


def _add_diff(verbs: Verbs) -> None:
    diff = add_verb(verbs, "releases", "diff", "show what moved between two releases")
    diff.add_argument("a", metavar="A", help="a release by name, or previous, or current")
    diff.add_argument("b", metavar="B", help="the release that is compared with it")
    diff.add_argument("--metric", metavar="NAME", help="this metric alone")
    diff.add_argument(
        "--threshold",
        type=positive,
        default=1.0,
        metavar="SDS",
        help="a store moved when its mean did by more posterior sds, the root mean square of both "
        "releases' (default 1)",
    )
    diff.add_argument(
        "--limit", type=at_least(0), default=20, metavar="N", help="the longest list (default 20)"
    )


def _add_report(verbs: Verbs) -> None:
    purpose = "write a release as one HTML file: its stores, priors, checks and audits"
    report = add_verb(verbs, "releases", "report", purpose)
    report.add_argument(
        "release",
        nargs="?",
        metavar="RELEASE",
        help="its name, or previous; by default the current one",
    )
    report.add_argument(
        "--out",
        metavar="FILE",
        help="the file; by default PIPELINE-RELEASE.html in observe.report.folder, or here",
    )
    report.add_argument(
        "--metric",
        action="append",
        default=[],
        dest="metrics",
        metavar="NAME",
        help="this metric alone; may be repeated",
    )


def _add_promote(verbs: Verbs) -> None:
    purpose = "make a release of one environment another's; no data moves"
    promote = add_verb(verbs, "releases", "promote", purpose)
    promote.add_argument(
        "release", metavar="RELEASE", help="its name; or current, or previous, of --from"
    )
    promote.add_argument(
        "--from",
        dest="source",
        metavar="ENV",
        help="the environment that has it; by default any, for current and previous that of the "
        "settings",
    )
    promote.add_argument("--to", required=True, metavar="ENV", help="whose readers shall see it")
    promote.add_argument(
        "--create", action="store_true", help="--to is new, however like another it is spelt"
    )
    _add_decision(promote)


def _add_rollback(verbs: Verbs) -> None:
    purpose = "show readers an older release, pinned until the next promote"
    rollback = add_verb(verbs, "releases", "rollback", purpose)
    rollback.add_argument(
        "release",
        nargs="?",
        default="previous",
        metavar="RELEASE",
        help="its name; by default the one before the current one",
    )
    _add_decision(rollback)


def _add_decision(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--reason", required=True, metavar="TEXT", help="recorded with the pointer")
    verb.add_argument("--dry-run", action="store_true", help="only show what would change")


def _add_freshness(verbs: Verbs) -> None:
    purpose = "tell how old what readers see is; exit 5 when it is late"
    freshness = add_verb(verbs, "releases", "freshness", purpose)
    freshness.add_argument(
        "--max-age", metavar="AGE", help="such as 36h; by default audits.max_age"
    )
