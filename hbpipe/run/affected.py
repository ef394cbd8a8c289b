"""The as-of days whose releases rest on days that a plan changes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from hbpipe.config import Settings
from hbpipe.data.clock import to_number
from hbpipe.data.lake import Lake
from hbpipe.run.fingerprints import needs_history
from hbpipe.run.releases import newest, releases


def affected_days(lake: Lake, settings: Settings, days: Collection[int]) -> list[date]:
    """List the as-of days, released in the environment, whose window holds one of some days."""
    if not days:
        return []
    published = releases(lake, settings.environment)
    history = needs_history(settings)
    found = []
    for as_of in sorted({row["as_of"] for row in published}):
        shown = newest(row for row in published if row["as_of"] == as_of)
        last = to_number(as_of)
        first = min(days) if history or shown is None else last - shown["days"] + 1
        if any(first <= day <= last for day in days):
            found.append(as_of)
    return found
