"""Posteriors by full Bayes, and how far they are to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """Posteriors of J stores, each of T terms.

    Parameters
    ----------
    mean, sd, low, high
        (J, T): moments, and the quantiles at the two levels asked for.
    error
        Monte Carlo standard error of each of these by name, (J, T); zeros for a grid.
    method
        ``quadrature`` or ``nuts``.
    told
        How it was found: points or draws, chains, seed, R-hat, effective sizes, divergences.
    trouble
        Why nothing may be compared with it; None where all is well.
    """

    mean: Array
    sd: Array
    low: Array
    high: Array
    error: Mapping[str, Array]
    method: str
    told: Mapping[str, Any] = field(default_factory=dict)
    trouble: str | None = None

    @property
    def story(self) -> str:
        """Tell in one line how it was found."""
        parts = [
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.told.items()
        ]
        return f"{self.method}: {', '.join(parts)}"
