"""The checks of a run as it recorded them, whether or not anything was published.

A release names the version of ``audits`` that it was published with, so the checks of a night that
failed since are in the newest version alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pyarrow.compute as pc

from hbpipe.data.filters import Condition
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.run.audits.checks import STATUSES


def recorded_checks(
    lake: Lake, *, run_id: str | None = None, as_of: date | None = None
) -> list[dict[str, Any]]:
    """Return rows of ``audits`` of one run, failures first.

    Parameters
    ----------
    run_id
        The run; by default the last night that has made checks, not an audit of what it published.
    as_of
        Only checks of this as-of day; by default those of the last run of the day.

    Raises
    ------
    LakeError
        There are no such checks.
    """
    conditions: Sequence[Condition] = [] if as_of is None else [("as_of", "==", as_of)]
    if lake.version("audits") is None:
        raise _none(lake, run_id, as_of)
    table = lake.read("audits", filters=conditions or None)
    if run_id is None:
        table = table.filter(pc.not_equal(table["gate"], "full_bayes"))
    if run_id is None and table.num_rows:
        last = pc.index(table["checked_at"], pc.max(table["checked_at"])).as_py()
        run_id = table["run_id"][last].as_py()
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["run_id"], run_id)).to_pylist()
    if not rows:
        raise _none(lake, run_id, as_of)
    return sorted(rows, key=lambda row: STATUSES.index(row["status"]))


def _none(lake: Lake, run_id: str | None, as_of: date | None) -> LakeError:
    of_run = "" if run_id is None else f" of run {run_id!r}"
    of_day = "" if as_of is None else f" of {as_of}"
    return LakeError(
        f"no check{of_run}{of_day} is recorded",
        where={"lake": lake.uri, "table": "audits"},
        expected="a run that came as far as its first check",
        remedy="see `hbpipe status` for the last runs, and what ended them",
    )
