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
    _add_forget(verbs)


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


def _add_forget(verbs: Verbs) -> None:
    purpose = "take a store out of every table and out of history, and prove it"
    forget = add_verb(verbs, "upkeep", "forget", purpose)
    forget.add_argument("unit", metavar="UNIT", help="its id")
    forget.add_argument("--level", metavar="NAME", help="the level of the id; by default the unit")
    forget.add_argument(
        "--parent",
        action="append",
        default=[],
        metavar="LEVEL=VALUE",
        help="a level above it, where the id alone does not name it; may be repeated",
    )
    forget.add_argument("--reason", required=True, help="why, without naming it; kept in the lake")
    forget.add_argument(
        "--dry-run", action="store_true", help="show what would go; exit 10 when anything would"
    )
    forget.add_argument("--yes", action="store_true", help="do not ask")
