"""The observer that the settings ask for: a record, the sinks that read it, and their couriers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hbpipe.config import Settings
from hbpipe.observe.courier import Courier
from hbpipe.observe.record import Record
from hbpipe.run.observe import Observer, Observers, Opening, Silent

if TYPE_CHECKING:
    from hbpipe.observe.lineage import ParentRun

logger = logging.getLogger(__name__)

#: How long the end of a run may wait for all that is still to be sent, in seconds.
WAIT_S = 10.0


def observers_of(settings: Settings, *, parent: ParentRun | None = None) -> Observer:
    """Return the observer of everything that ``observe`` and ``notify`` ask for.

    It may watch several runs, one after the other. Where nothing is asked for it does nothing.

    Parameters
    ----------
    settings
        Of the pipeline.
    parent
        What the runs are part of, such as a flow run of Prefect.
    """
    record = Record(settings)
    couriers: dict[str, Courier] = {}
    sinks = dict(_sinks(settings, record, couriers, parent))
    return Watch(record, sinks) if sinks else Silent()


def _sinks(
    settings: Settings, record: Record, couriers: dict[str, Courier], parent: ParentRun | None
) -> Iterable[tuple[str, Observer]]:
    """Make what is configured, in the order in which it is told; nothing else is imported."""
    observe, notify = settings.observe, settings.notify

    def courier(name: str) -> Courier:
        return couriers.setdefault(name, Courier(name))

    if observe.prometheus.textfile is not None:
        from hbpipe.observe.prometheus import Textfile

        yield "observe.prometheus.textfile", Textfile(observe.prometheus.textfile, record)
    if observe.prometheus.push is not None:
        from hbpipe.observe.prometheus import Push

        name = "observe.prometheus.push"
        yield name, Push(observe.prometheus.push, record, courier(name))
    if observe.openlineage.path is not None or observe.openlineage.url is not None:
        from hbpipe.observe.lineage import Lineage

        name = "observe.openlineage"
        yield name, Lineage(observe.openlineage, record, courier(name), parent)
    if observe.opentelemetry:
        yield from _spans(record, courier("observe.opentelemetry"))
    if notify.webhook is not None or notify.smtp.host is not None:
        from hbpipe.observe.notify import Notifier

        webhook, mail = courier("notify.webhook"), courier("notify.smtp")
        yield "notify", Notifier(notify, record, webhook, mail)
    yield from [("waiting", Waiting(couriers.values()))] if couriers else []
    # Last, so that it has the troubles of the others.
    if observe.log.path is not None:
        from hbpipe.observe.log import JsonLog

        yield "observe.log", JsonLog(observe.log.path, record)


def _spans(record: Record, courier: Courier) -> Iterable[tuple[str, Observer]]:
    from hbpipe.observe.spans import Spans, tracer_provider

    try:
        yield "observe.opentelemetry", Spans(tracer_provider(), record, courier)
    except ModuleNotFoundError as error:
        logger.warning("observe.opentelemetry: %s; install the extra otel", error)


class Waiting(Silent):
    """Waits at the end of a run until all is sent, but not for long.

    Parameters
    ----------
    couriers
        Whom to wait for.
    """

    def __init__(self, couriers: Iterable[Courier]) -> None:
        self._couriers = couriers

    def run_ended(self, error: BaseException | None) -> None:
        """Wait for everyone, together."""
        deadline = time.monotonic() + WAIT_S
        for courier in self._couriers:
            courier.wait(deadline)


class Watch(Observers):
    """Tells sinks; what one of them raises is one warning, and never reaches the run.

    Parameters
    ----------
    record
        Hears everything before the sinks, which read it.
    sinks
        Each under the key of its settings.
    """

    def __init__(self, record: Record, sinks: Mapping[str, Observer]) -> None:
        super().__init__(record, *sinks.values())
        self._names = ("record", *sinks)
        self._failed: set[str] = set()

    def run_opened(self, opening: Opening) -> None:
        """Tell everyone that a run begins, of which nobody has failed yet."""
        self._failed.clear()
        super().run_opened(opening)

    def _tell(self, what: str, *about: Any) -> None:
        for name, sink in zip(self._names, self._observers, strict=True):
            try:
                getattr(sink, what)(*about)
            except Exception as error:
                if name not in self._failed:
                    self._failed.add(name)
                    logger.warning(
                        "%s: %s: %s; the run is not affected", name, type(error).__name__, error
                    )
