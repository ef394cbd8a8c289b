"""Where gauges go: a file for the node exporter's textfile collector, and a Pushgateway."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import pushadd_to_gateway, write_to_textfile
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from hbpipe.observe.courier import TIMEOUT_S, Courier
from hbpipe.observe.gauges import Gauges, values_of
from hbpipe.observe.record import Record
from hbpipe.run.observe import Silent

logger = logging.getLogger(__name__)


class Textfile(Silent):
    """Writes the gauges when a run ends; a reader sees the old file or the new one, whole.

    Parameters
    ----------
    path
        The file.
    record
        The run.
    """

    def __init__(self, path: str, record: Record) -> None:
        self._path = path
        self._record = record

    def run_ended(self, error: BaseException | None) -> None:
        """Write what is known over what the file says."""
        settings, values = self._record.settings, values_of(self._record)
        if not values:
            return
        before = _read(Path(self._path))
        gauges = Gauges(settings.pipeline, settings.environment, values, before)
        write_to_textfile(self._path, gauges.registry())


def _read(path: Path) -> Iterable[Metric]:
    """Read the gauges of earlier runs; a file that is none is replaced, with a warning."""
    if not path.exists():
        return []
    try:
        return list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except ValueError as error:
        logger.warning("%s holds no gauges (%s): begun anew", path, error)
        return []


class Push(Silent):
    """Pushes the gauges when a run ends.

    They are added to their group (job, pipeline, environment), so what is not pushed stays.

    Parameters
    ----------
    url
        The Pushgateway.
    record
        The run.
    courier
        Takes them there.
    """

    def __init__(self, url: str, record: Record, courier: Courier) -> None:
        self._url = url
        self._record = record
        self._courier = courier

    def run_ended(self, error: BaseException | None) -> None:
        """Send what is known."""
        settings, values = self._record.settings, values_of(self._record)
        if not values:
            return
        owner = {"pipeline": settings.pipeline, "environment": settings.environment}
        gauges = Gauges(settings.pipeline, settings.environment, values)
        self._courier.send(
            lambda: pushadd_to_gateway(
                self._url, "hbpipe", gauges.registry(), grouping_key=owner, timeout=TIMEOUT_S
            )
        )
