"""Units that come and go: the last day of a release beside the days before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hbpipe.config import Audits
from hbpipe.data.presence import Presence
from hbpipe.run.audits.checks import Check
from hbpipe.run.audits.trailing import check_rise, comparable


def check_coverage(parts: Sequence[Presence], as_of: int, limits: Audits) -> list[Check]:
    """Compare the shares of vanished and of new units with those of the days before.

    ``parts`` are the counts of each shard. Days without any unit tell nothing, the last one too:
    ``row_count`` is about those.
    """
    found = Presence.added(parts)
    full = (found.seen > 0) & (found.known > 0)
    checks: list[Check] = []
    for name, count, of, bounds, what in (
        (
            "units_vanished",
            found.vanished,
            found.known,
            (limits.units_vanished_warn, limits.units_vanished_fail),
            "of the units of the week before have no events on the last day",
        ),
        (
            "units_new",
            found.new,
            found.seen,
            (limits.units_new_warn, limits.units_new_fail),
            "of the units of the last day had no events in the week before",
        ),
    ):
        shares = dict(
            zip(
                found.days[full].tolist(),
                (count[full] / np.maximum(of[full], 1)).tolist(),
                strict=True,
            )
        )
        earlier = comparable(shares, as_of, limits.history) if as_of in shares else None
        part, whole = (int(one[full & (found.days == as_of)].sum()) for one in (count, of))
        checks += check_rise("release", name, "window", part, whole, earlier, bounds, what)
    return checks
