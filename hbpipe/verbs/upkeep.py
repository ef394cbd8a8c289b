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
    _add_vacuum(verbs)


def _add_verify(verbs: Verbs) -> None:
    verify = add_verb(
        verbs, "upkeep", "verify", "check that ledger, statistics and posteriors add up"
    )
    verify.add_argument("--full", action="store_true", help="recount the raw files, row by row")
    verify.add_argument("--days", metavar="FIRST..LAST", help="only these business days")
    verify.add_argument(
        "--sample", type=at_least(1), metavar="N", help="recount N days, evenly spread"
    )


def _add_vacuum(verbs: Verbs) -> None:
    purpose = "expire what retention says, and delete the files that no kept release needs"
    vacuum = add_verb(verbs, "upkeep", "vacuum", purpose)
    vacuum.add_argument(
        "--keep-hours",
        type=at_least(0),
        metavar="N",
        help="keep files that no release needs for N hours, instead of retention.staging",
    )
    vacuum.add_argument(
        "--dry-run", action="store_true", help="show what would go; exit 10 when anything would"
    )
