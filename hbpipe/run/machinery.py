"""The tables of the machinery, ``runs`` and ``lease``: their logs are cut by the runs themselves.

Every run commits to ``runs`` when it begins and when it ends, and every renewal of a timed lease is
a commit to ``lease``. No release names a version of either, so old ones are of no use to anyone;
but a log without checkpoints is read whole by whoever opens the table. Upkeep cuts all logs. Where
it runs seldom or never, these two are cut here, by whoever has just taken the lease.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from hbpipe.data.checkpoints import EVERY
from hbpipe.data.lake import Lake
from hbpipe.data.log import list_log, list_tables
from hbpipe.data.vacuum import plan_table, vacuum_table
from hbpipe.errors import HbpipeError

logger = logging.getLogger(__name__)

_TABLES = ("lease", "runs")
#: Versions that a log may keep before it is cut: the work is done once for many runs.
MOST = 2 * EVERY
#: Whoever opened one of these tables has read it by then.
_GRACE = timedelta(hours=1)


def cut_logs(lake: Lake) -> None:
    """Cut the logs that have grown long, and delete the files that only their old versions name.

    The checkpoint that a log is cut at keeps the fence of the table, and is compared with the log
    before anything goes (``data.checkpoints``). A log that cannot be cut is one warning, and left
    to the next run.
    """
    before = datetime.now(UTC) - _GRACE
    try:
        for name in (name for name in list_tables(lake.storage) if name in _TABLES):
            log = list_log(lake.storage, name)
            if log.newest - log.oldest >= MOST:
                vacuum_table(lake.storage, plan_table(lake.storage, name, (), before))
    except (HbpipeError, OSError) as error:
        logger.warning("the logs of runs and lease were not cut: %s", error)
