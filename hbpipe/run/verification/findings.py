"""What `doctor` and `verify` have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether it held, and what was compared."""

    name: str
    fine: bool
    message: str


def finding(name: str, faults: Sequence[str], compared: str) -> Finding:
    """Return what a check found: the first faults, or what was compared where there is none."""
    if not faults:
        return Finding(name, True, compared)
    more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return Finding(name, False, "; ".join(faults[:_SHOWN]) + more)
