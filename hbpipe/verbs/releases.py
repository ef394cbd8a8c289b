"""Verbs that look at what was released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hbpipe.verbs.common import add_verb, at_least

if TYPE_CHECKING:
    from hbpipe.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs of this group."""
    purpose = "show the current release, and which days are done, held or gone"
    add_verb(verbs, "releases", "status", purpose)
    _add_read(verbs)


def _add_read(verbs: Verbs) -> None:
    read = add_verb(verbs, "releases", "read", "read a table of the current release")
    read.add_argument("table", nargs="?", default="posteriors")
    read.add_argument("--release", metavar="NAME", help="another release than the current one")
    read.add_argument("--columns", metavar="A,B,...", help="only these columns")
    read.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    read.add_argument("--limit", type=at_least(0), metavar="N", help="at most so many rows")
    read.add_argument("--out", metavar="FILE", help="write .parquet or .csv instead of printing")
