"""Which arms of an experiment the events of a window have: too many, or too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hbpipe.data.experiment import Experiment, third_arms
from hbpipe.data.quantities import Metric
from hbpipe.errors import StatisticsError
from hbpipe.run.audits import Check, at_most
from hbpipe.run.ledger import DayEntry


def refuse_third_arms(days: Sequence[DayEntry], metrics: Iterable[Metric]) -> None:
    """Refuse to take several treatments for one; the ledger knows the arms of every day.

    Raises
    ------
    StatisticsError
        When a metric whose treatment is not named has seen more than two arms.
    """
    for metric in metrics:
        assert metric.experiment is not None
        found, column = _rows(days, metric), metric.experiment.column
        if others := third_arms(metric.experiment, found):
            rows = ", ".join(f"{value} ({found[value]:,} rows)" for value in others)
            raise StatisticsError(
                f"{column} has {len(others)} values beside {metric.experiment.control}: {rows}",
                where={"metric": metric.name},
                expected="one treatment",
                remedy=f"name it: experiment.treatment: {others[0]}; a metric for each treatment",
            )


def check_arms(days: Sequence[DayEntry], metrics: Iterable[Metric]) -> list[Check]:
    """Warn of arms without a row: not begun yet, or spelt otherwise in the events."""
    checks = []
    for metric in metrics:
        if metric.experiment is not None:
            found = _rows(days, metric)
            missing = _missing(metric.experiment, found)
            rows = ", ".join(f"{value} ({n:,} rows)" for value, n in sorted(found.items()))
            story = f"{metric.experiment.column} has {rows or 'no arm'}"
            if missing:
                story += f", and no {' or '.join(missing)}: no store has an effect of its own"
            checks.append(
                at_most("release", "arms_seen", metric.name, len(missing), 0, story, "warn")
            )
    return checks


def _rows(days: Iterable[DayEntry], metric: Metric) -> Counter[str]:
    """Count the rows of a metric that counted, by the value of their arm."""
    found: Counter[str] = Counter()
    for day in days:
        found.update(day.account.arms.get(metric.name, {}))
    return found


def _missing(experiment: Experiment, found: Counter[str]) -> list[str]:
    """Name the arms without a row."""
    named = [str(value) for value in experiment.values]
    missing = [value for value in named if not found[value]]
    if experiment.treatment is None and not found.keys() - set(named):
        missing.append("other value")
    return missing
