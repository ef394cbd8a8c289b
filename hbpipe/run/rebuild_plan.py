"""What would be done on many days, shown before it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hbpipe.data.clock import to_date
from hbpipe.run.due import DayPlan
from hbpipe.run.stock import Stock


@dataclass(frozen=True)
class DueNight:
    """An as-of day to be published, why, and the days of its window."""

    as_of: int
    reason: str
    window: tuple[int, ...]

    def to_dict(self) -> dict[str, str]:
        """Describe the night for ``--json``."""
        return {"as_of": to_date(self.as_of).isoformat(), "reason": self.reason}


@dataclass(frozen=True)
class RebuildPlan:
    """What would be done: ``days`` in the order in which they are measured, ``nights`` in time."""

    stock: Stock
    days: tuple[DayPlan, ...]
    nights: tuple[DueNight, ...]
    notes: tuple[str, ...]

    @property
    def work(self) -> bool:
        """Tell whether anything would be published."""
        return bool(self.days or self.nights)

    def to_dict(self) -> dict[str, Any]:
        """Describe the plan for ``--json``."""
        return {
            "days": [day.to_dict() for day in self.days],
            "rows": sum(day.rows for day in self.days),
            "releases": [night.to_dict() for night in self.nights],
            "notes": list(self.notes),
        }
