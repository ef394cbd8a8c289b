"""A plan with what it costs, and what it changes for readers: the whole document."""

from __future__ import annotations

from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.run.costs import expected_seconds
from hbpipe.run.history import History, read_history
from hbpipe.run.plan import Plan
from hbpipe.run.releases import RELEASED, next_name
from hbpipe.run.runs import read_runs
from hbpipe.run.stale import affected


def describe_plan(plan: Plan, lake: Lake) -> dict[str, Any]:
    """Describe a plan as the JSON of ``hbpipe plan --json``, which ``documents`` reads back.

    ``expected_seconds`` and ``would_publish`` are None where nothing is to be done; ``affects``
    are the other as-of days whose releases rest on days that are processed.
    """
    settings, as_of = plan.stock.settings, to_date(plan.as_of)
    history = read_history(lake)
    released = history.of(settings.environment)
    touched = affected(released, settings, [day.day for day in plan.days])
    return plan.to_dict() | {
        "expected_seconds": expected_seconds(read_runs(lake), plan.rows) if plan.work else None,
        "would_publish": _published(plan, lake, history) if plan.work else None,
        "affects": [day.isoformat() for day in touched if day != as_of],
    }


def _published(plan: Plan, lake: Lake, history: History) -> dict[str, Any]:
    settings = plan.stock.settings
    return {
        "release": next_name(lake, to_date(plan.as_of)),
        "environment": settings.environment,
        "tables": list(RELEASED),
        "metrics": [metric.name for metric in plan.stock.metrics],
        "pools": _known_pools(history, settings),
    }


def _known_pools(history: History, settings: Settings) -> int | None:
    """Return the number of pools of the present release; they are not known before the fit."""
    current = history.current(settings.environment)
    return None if current is None else int(current["pools"])
