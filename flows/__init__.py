"""Prefect flows around hbpipe.run; the only place that imports Prefect.

Prefect and Dask read these variables when they are imported, so they are set here, before any
flow imports them. Who wants Prefect's telemetry, or Dask's story of every connection among a
run's log lines, sets them otherwise.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")
