"""The names of the hyperparameters that a nested level adds to those of a family."""

from __future__ import annotations


def spread_of(level: str) -> str:
    """Return the name of the sd between the groups of a level: of means, for counts on a line."""
    return f"tau_{level}"


def law_of(level: str) -> tuple[str, str, str]:
    """Return the names of the law of groups of counts.

    Sds of the location on its line and of the log spread, and their correlation.
    """
    return spread_of(level), f"tau_{level}_spread", f"correlation_{level}"
