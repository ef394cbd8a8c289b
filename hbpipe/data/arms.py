"""The rows of each arm that an experiment's column names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.experiment import Experiment
from hbpipe.data.units import encode_any
from hbpipe.errors import StatisticsError

#: A column of more values than this names something else than arms.
MOST_ARMS = 20


def rows_of_arms(
    experiment: Experiment, table: pa.Table, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Sort some rows, which have an arm, by its value as text.

    Raises
    ------
    StatisticsError
        When there are so many values that they name something else.
    """
    encoded = encode_any(table.column(experiment.column))
    codes = encoded.codes[rows]
    present = np.unique(codes)
    if len(present) > MOST_ARMS:
        raise StatisticsError(
            f"column {experiment.column!r} has {len(present)} values, too many for arms",
            expected="one value for each arm of an experiment",
            remedy="name the column of the arm in experiment.arm, or the treatment beside control",
        )
    names = encoded.values.take(pa.array(present)).to_pylist()
    return {str(name): rows[codes == code] for name, code in zip(names, present, strict=True)}
