"""Every error that hbpipe raises, drawn once.

    HbpipeError                      exit code 1
    ├── ConfigError                  2   a setting is wrong; says which, and the nearest right one
    ├── EventsError                  1   input files cannot be used as they are
    ├── StatisticsError              1   statistics are impossible or would overflow
    ├── FitError                     1   hyperparameters cannot be estimated from these statistics
    ├── EngineError                  1   a worker or the cluster failed
    ├── LakeError                    1   a table is missing, damaged or was changed underneath us
    ├── GateError                    3   an audit failed; readers stay on the old release
    ├── LeaseError                   4   another run works on this lake
    └── LateError                    5   the as-of day is not complete

A message has four parts: what was found, where, what was expected, what to do.
Errors are raised on workers and read on the driver, so they survive pickling.
"""

from __future__ import annotations

from typing import Any


class HbpipeError(Exception):
    """The root of the tree.

    Parameters
    ----------
    found
        What was found, as a sentence without a full stop.
    where
        The place: stage, day, chain, store, file, row group, row, column; only what is known.
    expected
        What would have been right.
    remedy
        What the reader can do about it.
    """

    exit_code = 1

    def __init__(
        self,
        found: str,
        *,
        where: dict[str, Any] | None = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(found)
        self.found = found
        self.where = dict(where or {})
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        place = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self.where.items())
        parts = [f"{self.found} ({place})" if place else self.found]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.remedy:
            parts.append(f"what to do: {self.remedy}")
        return "; ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.found, self.where, self.expected, self.remedy)

    def at(self, **where: Any) -> HbpipeError:
        """Return the same error with the place made more precise."""
        return _rebuild(type(self), self.found, {**where, **self.where}, self.expected, self.remedy)


def _rebuild(
    kind: type[HbpipeError],
    found: str,
    where: dict[str, Any],
    expected: str | None,
    remedy: str | None,
) -> HbpipeError:
    return kind(found, where=where, expected=expected, remedy=remedy)


class ConfigError(HbpipeError):
    """A setting is wrong."""

    exit_code = 2


class EventsError(HbpipeError):
    """Input files cannot be used as they are."""


class StatisticsError(HbpipeError):
    """Statistics are impossible, or adding them up would overflow."""


class FitError(HbpipeError):
    """Hyperparameters cannot be estimated from these statistics."""


class EngineError(HbpipeError):
    """A worker or the cluster failed."""


class LakeError(HbpipeError):
    """A table is missing, damaged, or was changed underneath us."""


class GateError(HbpipeError):
    """An audit failed, so nothing was published."""

    exit_code = 3


class LeaseError(HbpipeError):
    """Another run holds the lease on this lake, or has taken it over."""

    exit_code = 4


class LateError(HbpipeError):
    """The as-of day is not complete."""

    exit_code = 5
