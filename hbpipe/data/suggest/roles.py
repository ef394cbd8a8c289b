"""Which columns say when, where and which event: guesses from names and structure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.suggest.profile import Profile, id_like, iso_share
from hbpipe.errors import EventsError

_UNIT = re.compile(
    r"store|shop|outlet|branch|location|site|retailer|restaurant|pharmacy|station", re.I
)
_COARSE = re.compile(
    r"chain|banner|company|region|country|district|division|area|state|franchise|market"
    r"|merchant|tenant|group",
    re.I,
)
_NO_UNIT = re.compile(
    r"product|item|sku|customer|household|user|member|basket|order|session|transaction|receipt"
    r"|ticket|visit|event|line|cashier|employee|device|card|department|category|brand",
    re.I,
)
_UNIQUE = 0.98  # of the rows: a feed repeats some events
_REPEATED = 0.75  # of the rows, where those that share a label are copies of each other
_MOVED = 0.01  # of the units may have more than one parent: stores change hands


@dataclass(frozen=True)
class Choice:
    """What a column, or several, was chosen for, and the evidence."""

    columns: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Levels(Choice):
    """The levels from coarse to fine; ``unit_ids`` as in the settings."""

    unit_ids: str = "auto"


def choose_time(profiles: Sequence[Profile], root: str) -> tuple[Profile, str]:
    """Return the best time column and why; times of day before dates, typed before text.

    Raises
    ------
    EventsError
        No column holds times.
    """
    times = [profile for profile in profiles if profile.kind == "time" and profile.distinct]
    if not times:
        raise EventsError(
            "No column holds times",
            where={"path": root, "columns": ", ".join(profile.name for profile in profiles)},
            expected="a timestamp, a date, or text such as 2026-01-31T18:45:00",
            remedy="add the time of each event, or the day of each row, to the files",
        )
    best = max(times, key=lambda profile: (has_clock(profile), -profile.null_share))
    others = [profile.name for profile in times if profile is not best]
    also = f"; other times: {', '.join(others)}" if others else ""
    return best, f"{_time_kind(best)}, {percent(best.null_share)} null{also}"


def _time_kind(profile: Profile) -> str:
    if _typed(profile):
        return str(profile.column.type)
    unreadable = 1 - iso_share(profile.column.drop_null())
    return "ISO text" + (f", {percent(unreadable)} unreadable" if unreadable else "")


def has_clock(profile: Profile) -> bool:
    """Tell whether a time column says more than the day."""
    if _typed(profile):
        return bool(pa.types.is_timestamp(profile.column.type))
    return len(profile.column.drop_null()[0].as_py()) > 10


def is_aware(profile: Profile) -> bool:
    """Tell whether times carry a zone or an offset; of text the first value decides."""
    if _typed(profile):
        return getattr(profile.column.type, "tz", None) is not None
    first = profile.column.drop_null()[0].as_py()
    return bool(re.search(r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$", first))


def _typed(profile: Profile) -> bool:
    kind = profile.column.type
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def choose_event_id(profiles: Sequence[Profile]) -> Choice | None:
    """Return a column of labels that (nearly) no two rows share, but for copies of a row."""
    for profile in filter(_is_label, profiles):
        rows = profile.rows - profile.column.null_count
        if rows > 20 and (
            profile.distinct >= _UNIQUE * rows
            or (profile.distinct >= _REPEATED * rows and _are_copies(profile, profiles))
        ):
            why = (
                f"{profile.distinct:,} different values in {rows:,} rows; rows of one business "
                "day that share a value will be counted once"
            )
            return Choice((profile.name,), why)
    return None


def _are_copies(profile: Profile, profiles: Sequence[Profile]) -> bool:
    """Tell whether most rows that share a label are alike in all columns; basket lines differ."""
    columns = {str(k): other.column for k, other in enumerate(profiles) if other.kind != "other"}
    table = pa.table(columns).filter(profile.column.is_valid())
    different = table.group_by(table.column_names).aggregate([]).num_rows
    return bool(table.num_rows - different > (table.num_rows - profile.distinct) / 2)


def unique_pair(profiles: Sequence[Profile]) -> Choice | None:
    """Return two columns of labels that together tell all rows of the sample apart."""
    labels = sorted(filter(_is_label, profiles), key=lambda profile: -profile.distinct)[:4]
    for left, right in combinations(labels, 2):
        pairs = np.unique(left.codes * (right.distinct + 1) + right.codes)
        if len(pairs) == left.rows > 20:
            return Choice((left.name, right.name), "together different in every row of the sample")
    return None


def _is_label(profile: Profile) -> bool:
    return profile.kind == "text" or (_is_integer(profile) and id_like(profile.name))


def _is_integer(profile: Profile) -> bool:
    return bool(pa.types.is_integer(profile.column.type))


def choose_levels(profiles: Sequence[Profile], root: str) -> Levels:
    """Return the unit and what it is nested in.

    The unit is named like a store if a column is, else it is the label with the most values that
    still repeat. A parent is a column of which each unit has one value.

    Raises
    ------
    EventsError
        No column repeats labels.
    """
    labels = [
        profile
        for profile in profiles
        if (_is_label(profile) or (_is_integer(profile) and _UNIT.search(profile.name)))
        and 1 < profile.distinct < profile.rows
    ]
    if not labels:
        raise EventsError(
            "No column looks like a store",
            where={"path": root, "columns": ", ".join(profile.name for profile in profiles)},
            expected="a text column, or numbers named like store_id, whose values repeat",
            remedy="write events.levels by hand, or deliver the store as text",
        )
    unit = max(labels, key=lambda profile: _fitness(profile, labels))
    chain, reasons = [unit], [f"{unit.name}: {_size(unit)}"]
    for parent in sorted(labels, key=lambda label: -label.distinct):
        known = _COARSE.search(parent.name) or not _UNIT.search(unit.name)
        if parent is not unit and known and is_nested(chain[-1], parent):
            reasons.append(
                f"each {chain[-1].name} lies in one of {parent.distinct:,} {parent.name}"
            )
            chain.append(parent)
    if len(chain) == 1 and (around := _numbered_within(unit, labels)) is not None:
        why = f"{reasons[0]}; the same {unit.name} occur in several {around.name}"
        return Levels((around.name, unit.name), why, "within_parent")
    return Levels(tuple(profile.name for profile in reversed(chain)), "; ".join(reasons))


def _fitness(profile: Profile, labels: Sequence[Profile]) -> tuple[bool, bool, bool, bool, int]:
    return (
        bool(_UNIT.search(profile.name)),
        not _NO_UNIT.search(profile.name),
        profile.rows >= 5 * profile.distinct,
        any(is_nested(profile, other) for other in labels if other is not profile),
        profile.distinct,
    )


def _numbered_within(unit: Profile, labels: Sequence[Profile]) -> Profile | None:
    """Return a coarser level in which short numbers start again, such as store 1 of every chain."""
    short = (
        unit.kind == "whole"
        or pc.all(pc.match_substring_regex(unit.column.drop_null(), r"^\d{1,4}$")).as_py()
    )
    coarse = [
        label
        for label in labels
        if _COARSE.search(label.name) and label is not unit and _mostly_shared(unit, label)
    ]
    return min(coarse, key=lambda label: label.distinct) if coarse and short else None


def _mostly_shared(child: Profile, parent: Profile) -> bool:
    """Tell whether most values of ``child`` that repeat occur in several of ``parent``."""
    rows, parents = _parents(child, parent)
    return bool((rows > 1).any() and np.mean(parents[rows > 1] > 1) > 0.5)


def is_nested(child: Profile, parent: Profile) -> bool:
    """Tell whether (nearly) each value of ``child`` has one value of ``parent``.

    Only values that occur more than once prove anything; half of the values, or ten, must.
    """
    if not 1 < parent.distinct < child.distinct:
        return False
    rows, parents = _parents(child, parent)
    proving = rows > 1
    if proving.sum() < min(10, child.distinct / 2):
        return False
    return bool(np.mean(parents[proving] > 1) <= _MOVED)


def _parents(child: Profile, parent: Profile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each value of ``child``, its rows and in how many of ``parent`` it occurs."""
    both = (child.codes >= 0) & (parent.codes >= 0)
    size = max(int(child.codes.max()) + 1, 1)
    pairs = np.unique(child.codes[both] * (parent.distinct + 1) + parent.codes[both])
    rows = np.bincount(child.codes[both], minlength=size)
    return rows, np.bincount(pairs // (parent.distinct + 1), minlength=size)


def _size(unit: Profile) -> str:
    return (
        f"{unit.distinct:,} different values, {unit.rows / unit.distinct:.1f} rows each, "
        f"{percent(unit.null_share)} null or empty"
    )


def percent(share: float) -> str:
    """Format a share, small ones with more digits."""
    return f"{share:.0%}" if share in (0.0, 1.0) or 0.1 <= share <= 0.99 else f"{share:.2%}"
