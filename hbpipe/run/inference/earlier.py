"""The fits of earlier as-of days, as the release gate compares with them."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import numpy as np

from hbpipe.data.clock import to_date
from hbpipe.run.audits import EarlierFits
from hbpipe.run.night import Night

#: As-of days so many days back are looked at.
_DAYS = 14
_COLUMNS = ["as_of", "metric", "pool", "boundary", "drift"]


def earlier_fits(night: Night) -> EarlierFits:
    """Read the fits of the as-of days before this one, of two weeks."""
    as_of = to_date(night.plan.as_of)
    filters = [("as_of", ">=", as_of - timedelta(days=_DAYS)), ("as_of", "<", as_of)]
    rows = night.lake.read("fits", columns=_COLUMNS, filters=filters).to_pylist()
    last = max((row["as_of"] for row in rows), default=None)
    on_bound: dict[str, list[bool]] = defaultdict(list)
    drifts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["as_of"] == last:
            on_bound[row["metric"]].append(bool(row["boundary"]))
        if row["drift"] is not None:
            drifts[row["metric"]][row["pool"]].append(row["drift"])
    return EarlierFits(
        bounds={metric: float(np.mean(found)) for metric, found in on_bound.items()},
        drifts={metric: _medians(pools) for metric, pools in drifts.items()},
    )


def _medians(pools: dict[str, list[float]]) -> dict[str, Any]:
    return {pool: float(np.median(found)) for pool, found in pools.items()}
