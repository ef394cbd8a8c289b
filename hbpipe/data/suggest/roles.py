"""Which columns say where and which event: guesses from names and structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.suggest.names import (
    id_like,
    level_like,
    names_attribute,
    names_coarse,
    names_other,
    names_unit,
)
from hbpipe.data.suggest.profile import Profile
from hbpipe.data.suggest.writing import percent
from hbpipe.errors import EventsError

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


def choose_event_id(profiles: Sequence[Profile]) -> Choice | None:
    """Return a column of labels that (nearly) no two rows share, but for copies of a row.

    A column named like a store is none: where each store has one row, its values differ too.
    """
    for profile in filter(_is_label, profiles):
        if _is_named_unit(profile):
            continue
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
    shared = [profile for profile in profiles if _is_label(profile) and not _is_unique(profile)]
    labels = sorted(shared, key=lambda profile: -profile.distinct)[:4]
    for left, right in combinations(labels, 2):
        pairs = np.unique(left.codes * (right.distinct + 1) + right.codes)
        if len(pairs) == left.rows > 20:
            return Choice((left.name, right.name), "together different in every row of the sample")
    return None


def _is_label(profile: Profile) -> bool:
    return profile.kind == "text" or (_is_integer(profile) and id_like(profile.name))


def _is_integer(profile: Profile) -> bool:
    return bool(pa.types.is_integer(profile.column.type))


def _is_named_unit(profile: Profile) -> bool:
    return names_unit(profile.name) and not names_other(profile.name)


def _is_unique(profile: Profile) -> bool:
    """Tell whether each value occurs once."""
    return bool(profile.distinct == profile.rows - profile.column.null_count)


def choose_levels(profiles: Sequence[Profile], root: str) -> Levels:
    """Return the unit and what it is nested in.

    The unit is named like a store if a column is, else it is the label with the most values that
    still repeat. A parent is a column of which each unit has one value; where too few units
    repeat to show it, a name such as chain or brand is enough.

    Raises
    ------
    EventsError
        No column is named like a store, and none repeats labels.
    """
    labels = [profile for profile in profiles if _may_be_level(profile)]
    if not labels:
        raise EventsError(
            "No column looks like a store",
            where={"path": root, "columns": ", ".join(profile.name for profile in profiles)},
            expected="a text column, or numbers named like store_id, whose values repeat",
            remedy="write events.levels by hand, or deliver the store as text",
        )
    unit = max(labels, key=lambda profile: _fitness(profile, labels))
    chain = _nest(unit, labels)
    if len(chain) == 1 and (around := _numbered_within(unit, labels)) is not None:
        why = f"{unit.name}: {_size(unit)}; the same {unit.name} occur in several {around.name}"
        return Levels((around.name, unit.name), why, "within_parent")
    reasons = [f"{unit.name}: {_size(unit)}", *map(_nesting, chain[:-1], chain[1:])]
    return Levels(tuple(profile.name for profile in reversed(chain)), "; ".join(reasons))


def _may_be_level(profile: Profile) -> bool:
    """Tell whether a column holds labels: text, or integers that their name says are labels."""
    named = _is_integer(profile) and level_like(profile.name)
    if profile.distinct <= 1 or not (_is_label(profile) or named):
        return False
    return profile.distinct < profile.rows or _is_named_unit(profile)


def _nest(unit: Profile, labels: Sequence[Profile]) -> list[Profile]:
    """Return the levels from the unit up; a brand or a format only where it fits the others."""
    chain = [unit]
    by_size = sorted(labels, key=lambda label: (names_attribute(label.name), -label.distinct))
    for label in by_size:
        known = names_coarse(label.name) or not names_unit(unit.name)
        place = sum(finer.distinct > label.distinct for finer in chain)
        if label is unit or not known or place == 0:
            continue
        above = chain[place : place + 1]
        if _lies_in(chain[place - 1], label) and all(_lies_in(label, upper) for upper in above):
            chain.insert(place, label)
    return chain


def _lies_in(child: Profile, parent: Profile) -> bool:
    """Tell whether values prove that levels nest, or the name says so and no value denies it."""
    return is_nested(child, parent) or (
        names_coarse(parent.name)
        and 1 < parent.distinct < child.distinct
        and _share_moved(child, parent) <= _MOVED
    )


def _nesting(child: Profile, parent: Profile) -> str:
    proof = "" if is_nested(child, parent) else " (by its name: too few repeat to prove it)"
    return f"each {child.name} lies in one of {parent.distinct:,} {parent.name}{proof}"


def _fitness(profile: Profile, labels: Sequence[Profile]) -> tuple[bool, bool, bool, bool, int]:
    return (
        names_unit(profile.name),
        not names_other(profile.name),
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
        if names_coarse(label.name)
        and not names_other(label.name)  # a brand of goods is sold in several stores
        and label is not unit
        and _mostly_shared(unit, label)
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
    rows, _ = _parents(child, parent)
    if np.sum(rows > 1) < min(10, child.distinct / 2):
        return False
    return _share_moved(child, parent) <= _MOVED


def _share_moved(child: Profile, parent: Profile) -> float:
    """Return the share of the repeating values of ``child`` that have several of ``parent``."""
    rows, parents = _parents(child, parent)
    return float(np.mean(parents[rows > 1] > 1)) if np.any(rows > 1) else 0.0


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
