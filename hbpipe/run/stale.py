"""Stale releases: what was published of a day, and would come out otherwise today.

Nothing here is stored. A release is stale when the digests of what it was made from differ from
what they would be now, so no mark can be forgotten, and none can outlive a repair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.run.fingerprints import needs_history, release_input, release_kernel_digest
from hbpipe.run.history import Release, order
from hbpipe.run.ledger import DayEntry, read_days
from hbpipe.run.releases import releases
from hbpipe.run.totals import TotalsTables

_SHOWN = 3
#: So many releases, the newest, are told with the days that changed: each is a table to read.
_DETAILED = 31


@dataclass(frozen=True)
class StaleRelease:
    """The newest release of an as-of day, and why it is not what it would be now.

    ``kind`` is ``input`` where the statistics of days that it rests on have changed; these are
    named in ``days``. The other kinds, ``settings``, ``code`` and ``stores``, come upon every
    older release at once, and say nothing of its days.
    """

    release: str
    as_of: date
    kind: str
    reason: str
    days: tuple[date, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Describe the release as JSON-like values."""
        return {
            "release": self.release,
            "as_of": self.as_of.isoformat(),
            "kind": self.kind,
            "reason": self.reason,
            "days": [day.isoformat() for day in self.days],
        }


def stale_releases(
    lake: Lake,
    settings: Settings,
    ledger: Mapping[int, DayEntry],
    *,
    as_of: Iterable[date] | None = None,
) -> list[StaleRelease]:
    """Compare the newest release of each as-of day with what it would be made from now.

    Parameters
    ----------
    settings
        The present ones, and whose environment to look at. A release of other settings is of kind
        ``settings``: what it would rest on under its own is not asked.
    ledger
        The days as they are now (``read_days``).
    as_of
        Look at these as-of days only.

    Returns
    -------
    list of StaleRelease
        In the order of as-of days. Which days changed is told of the newest 31 whose input did.
    """
    by_day: dict[date, list[Release]] = {}
    for row in releases(lake, settings.environment):
        by_day.setdefault(row["as_of"], []).append(row)
    chosen = sorted(by_day if as_of is None else by_day.keys() & set(as_of))
    digests = settings.digest(), release_kernel_digest(settings.parsed_metrics)
    tables = TotalsTables(settings)
    found: list[StaleRelease] = []
    for day in reversed(chosen):
        row = max(by_day[day], key=order)
        one = _compare(row, settings, ledger, digests, tables)
        if one is not None and one.kind == "input" and len(of_kind(found, "input")) < _DETAILED:
            days = _changed_days(lake, row, settings, ledger)
            one = replace(one, reason=_in_words(days), days=days)
        found += [] if one is None else [one]
    return found[::-1]


def of_kind(found: Iterable[StaleRelease], kind: str) -> list[StaleRelease]:
    """Return those of one kind."""
    return [one for one in found if one.kind == kind]


def summary(found: Sequence[StaleRelease]) -> list[str]:
    """Tell each release whose input changed, and of the others how many there are."""
    lines = [f"{one.release}: {one.reason}" for one in of_kind(found, "input")]
    for kind in ("settings", "code", "stores"):
        others = of_kind(found, kind)
        if others:
            span = f"{others[0].as_of} to {others[-1].as_of}"
            lines.append(f"{len(others)} release(s) of {span}: {others[0].reason}")
    return lines


def affected(rows: Iterable[Release], settings: Settings, days: Iterable[int]) -> tuple[date, ...]:
    """List the as-of days, among those of some releases, whose window holds one of some days.

    Parameters
    ----------
    rows
        Releases, as rows of ``releases``.
    settings
        Give the window; a metric that counts days since a store was first seen rests on all days.
    days
        Numbers of business days, such as those that are due.
    """
    touched, window = list(days), settings.inference.window
    reach = None if window is None or needs_history(settings) else window
    released = sorted({row["as_of"] for row in rows})
    return tuple(
        as_of
        for as_of in released
        if any(0 <= to_number(as_of) - day < (reach or math.inf) for day in touched)
    )


def _compare(
    row: Release,
    settings: Settings,
    ledger: Mapping[int, DayEntry],
    digests: tuple[str, str],
    tables: TotalsTables,
) -> StaleRelease | None:
    release, as_of = row["release"], row["as_of"]
    # Other settings may mean another window, so they are asked first, as nothing else compares.
    if row["settings"] != digests[0]:
        return StaleRelease(release, as_of, "settings", "inference settings changed since")
    if row["input"] != release_input(to_number(as_of), ledger, settings, row.get("stores")):
        return StaleRelease(release, as_of, "input", _in_words(()))
    if row["kernel"] != digests[1]:
        return StaleRelease(release, as_of, "code", "code changed since")
    if row.get("stores") not in (None, tables.digest(to_number(as_of))):
        return StaleRelease(release, as_of, "stores", f"{tables.named} changed since")
    return None


def _changed_days(
    lake: Lake, row: Release, settings: Settings, ledger: Mapping[int, DayEntry]
) -> tuple[date, ...]:
    """Find the days on which the ledger differs from the one that the release names."""
    then = read_days(lake, dict(row["versions"])["days"])
    last, window = to_number(row["as_of"]), settings.inference.window
    first = 0 if window is None or needs_history(settings) else last - window + 1
    return tuple(
        to_date(day)
        for day in sorted(then.keys() | ledger.keys())
        if first <= day <= last and _fingerprint(then, day) != _fingerprint(ledger, day)
    )


def _fingerprint(ledger: Mapping[int, DayEntry], day: int) -> tuple[str, str, str] | None:
    return ledger[day].fingerprint if day in ledger else None


def _in_words(days: Sequence[date]) -> str:
    if not days:
        return "what it rests on changed since"
    more = f" and {len(days) - _SHOWN} more" if len(days) > _SHOWN else ""
    named = ", ".join(day.isoformat() for day in days[:_SHOWN])
    return f"{len(days)} of its days changed since: {named}{more}"
