"""Cells of a unit's events that may hang together, as the configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CellRule:
    """Which events of a unit may hang together, and whether that divides its size.

    ``clusters`` names the columns of a cluster, such as a household; without any, a cell is a day.
    """

    clusters: tuple[str, ...] = ()
    correct: bool = False

    @property
    def by(self) -> str:
        """Name the cells: ``day``, or the columns of a cluster."""
        return ", ".join(self.clusters) or "day"


def parse_cells(raw: Any, family: Any) -> CellRule:
    """Parse ``overdispersion: {by: ..., correct: ...}``; raises ValueError with what is wrong."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"overdispersion is a mapping with by and correct, found {raw!r}")
    for key in raw:
        if key not in ("by", "correct"):
            raise ValueError(f"overdispersion: unknown key {key!r}; known: by, correct")
    by, correct = raw.get("by", "day"), raw.get("correct", False)
    names = [] if by == "day" else [by] if isinstance(by, str) else by
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"overdispersion.by is day, a column or a list of columns, found {by!r}")
    if not isinstance(correct, bool):
        raise ValueError(f"overdispersion.correct is true or false, found {correct!r}")
    if (names or correct) and family.dispersion is None:
        raise ValueError(f"overdispersion is not defined for the family {family.name}")
    return CellRule(tuple(dict.fromkeys(names)), correct)
