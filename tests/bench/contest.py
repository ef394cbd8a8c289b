"""Contenders in turn, round after round, so that a machine that drifts drifts for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.cost import Cost

#: Two answers that differ by less, relatively, are the same but for rounding.
SAME = 1e-9


@dataclass(frozen=True)
class Contender:
    """Something whose cost is measured: ``run`` does it once, whatever it prepares before."""

    name: str
    run: Callable[[], Cost]


@dataclass(frozen=True)
class Result:
    """The costs of one contender, one per round."""

    name: str
    costs: tuple[Cost, ...]

    def median(self, clock: str) -> float:
        """Return the median of ``wall``, ``cpu`` or ``peak``."""
        return median(getattr(cost, clock) for cost in self.costs)


def compete(contenders: Sequence[Contender], rounds: int) -> list[Result]:
    """Run every contender once in each round, the order turned round from one to the next."""
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        turn = contenders if number % 2 == 0 else contenders[::-1]
        for contender in turn:
            costs[contender.name].append(contender.run())
    return [Result(name, tuple(found)) for name, found in costs.items()]


def ratios(one: Result, other: Result, clock: str) -> tuple[float, float, float]:
    """Return the median, least and greatest ratio of two contenders, round by round."""
    found = [
        getattr(mine, clock) / getattr(theirs, clock)
        for mine, theirs in zip(one.costs, other.costs, strict=True)
    ]
    return median(found), min(found), max(found)


def require_agreement(results: Sequence[Result]) -> None:
    """Refuse contenders whose answers differ by more than rounding, in the numbers both give.

    Raises
    ------
    RuntimeError
        With the answers.
    """
    first, *others = [result.costs[0].answer for result in results]
    for answer in others:
        pairs = zip(first.split(), answer.split(), strict=False)
        if not all(math.isclose(float(x), float(y), rel_tol=SAME) for x, y in pairs):
            raise RuntimeError(f"the answers differ: {first} and {answer}")


def rows_of(title: str, results: Sequence[Result], beside: str) -> list[dict[str, Any]]:
    """Tell each contender's medians, and the ratios of the first to it or of it to ``beside``."""
    reference = next(result for result in results if result.name == beside)
    rows = []
    for result in results:
        row: dict[str, Any] = {"section": title, "name": result.name, "beside": beside}
        for clock in ("wall", "cpu", "peak"):
            row[clock] = result.median(clock)
            row[f"{clock}_ratio"] = ratios(result, reference, clock)
        rows.append({**row, "rounds": len(result.costs)})
    return rows
