"""What the checks of a model found in the units of a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.diagnostics.diagnosis import Diagnosis
from hbpipe.model.diagnostics.next_day import DayScores


@dataclass(frozen=True)
class Diagnosed:
    """What the units of a metric say of its model.

    ``worst`` has, by pool, the least p-values of units that may be outliers, and these units;
    ``outliers`` has, shard by shard, the rows of the units that are outliers; ``day`` the scores of
    the as-of day, None where the family's days are not scored.
    """

    diagnosis: Diagnosis
    worst: Mapping[int, Sequence[tuple[float, str]]]
    outliers: Sequence[NDArray[np.int64]]
    day: DayScores | None = None
