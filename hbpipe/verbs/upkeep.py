"""Verbs that check a lake and what it is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hbpipe.verbs.common import add_verb, at_least

if TYPE_CHECKING:
    from hbpipe.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs of this group."""
    _add_verify(verbs)
    purpose = "check this machine, the events and the lake before the first run"
    add_verb(verbs, "upkeep", "doctor", purpose)


def _add_verify(verbs: Verbs) -> None:
    verify = add_verb(
        verbs, "upkeep", "verify", "check that ledger, statistics and posteriors add up"
    )
    verify.add_argument("--full", action="store_true", help="recount the raw files, row by row")
    verify.add_argument("--days", metavar="FIRST..LAST", help="only these business days")
    verify.add_argument(
        "--sample", type=at_least(1), metavar="N", help="recount N days, evenly spread"
    )
