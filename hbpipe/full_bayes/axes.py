"""Named hyperparameters on the whole line, where grids and samplers move.

0 is a crude guess from the data, and a step of 1 is a large one: a factor e of a scale, a unit of a
logit, a standard deviation of the stores for a location.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.full_bayes.library import Library


@dataclass(frozen=True)
class Axis:
    """One hyperparameter.

    Parameters
    ----------
    name
        The hyperparameter.
    support
        ``real``; ``unit``, between 0 and 1; ``above``, more than ``least``.
    guess, step
        The value at 0; and of a real one the length of a step.
    """

    name: str
    support: str
    guess: float
    step: float = 1.0
    least: float = 0.0

    def at(self, library: Library, x: Any) -> tuple[dict[str, Any], Any]:
        """Return the value at ``x``, by name, and log |∂ value/∂x| up to a constant."""
        xp = library.np
        if self.support == "real":
            return {self.name: self.guess + self.step * x}, 0.0 * x
        if self.support == "unit":
            line = np.log(self.guess) - np.log1p(-self.guess) + x
            low, high = -xp.logaddexp(0.0, -line), -xp.logaddexp(0.0, line)
            share = {self.name: xp.exp(low), f"{self.name}_complement": xp.exp(high)}
            return share, low + high
        return {self.name: self.least + (self.guess - self.least) * xp.exp(x)}, x


def place(
    library: Library, axes: Sequence[Axis], points: Sequence[Any]
) -> tuple[dict[str, Any], Any]:
    """Return all values by name, and the log Jacobian, at one point or arrays of points."""
    named: dict[str, Any] = {}
    total: Any = 0.0
    for axis, x in zip(axes, points, strict=True):
        value, jacobian = axis.at(library, x)
        named |= value
        total = total + jacobian
    return named, total
