"""Prefect flows around hbpipe.run; the only place that imports Prefect.

Prefect reads these two variables when it is imported, so they are set here, before any flow
imports it. A user who wants Prefect's telemetry sets them.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
