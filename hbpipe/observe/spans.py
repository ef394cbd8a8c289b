"""OpenTelemetry: a span for the run and one for each attempt at a stage."""

from __future__ import annotations

from typing import Any, cast

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider

from hbpipe import __version__
from hbpipe.data.clock import to_date
from hbpipe.observe.courier import TIMEOUT_S, Courier
from hbpipe.observe.record import Record
from hbpipe.run.night import Night
from hbpipe.run.observe import Opening, Silent


class Spans(Silent):
    """Turns a run into spans.

    Parameters
    ----------
    provider
        Makes spans and exports them.
    record
        The run.
    courier
        Waits for the export, where the provider is this run's own.
    """

    def __init__(self, provider: TracerProvider, record: Record, courier: Courier) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("hbpipe", __version__)
        self._record = record
        self._courier = courier
        self._run: Span | None = None
        self._stage: Span | None = None
        self._night: Span | None = None

    def run_opened(self, opening: Opening) -> None:
        """Begin the run's span; in a flow of its own traces it becomes part of those."""
        attributes = {
            "hbpipe.run_id": opening.run_id,
            "hbpipe.pipeline": opening.pipeline,
            "deployment.environment.name": opening.environment,
        }
        self._run = self._tracer.start_span("run", attributes=attributes)

    def run_planned(self, night: Night) -> None:
        """Add the day that the run is for."""
        assert self._run is not None
        self._run.set_attribute("hbpipe.as_of", str(self._record.as_of))
        self._run.set_attribute("hbpipe.days", len(night.plan.days))

    def night_started(self, night: Night) -> None:
        """Begin the span of a night of many, below that of the batch it is in."""
        above = self._stage or self._run
        assert above is not None
        self._night = self._tracer.start_span(
            "night",
            trace.set_span_in_context(above),
            attributes={"hbpipe.as_of": str(to_date(night.plan.as_of))},
        )

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """End that span with what became of the night."""
        assert self._night is not None
        _end(self._night, error)
        self._night = None

    def stage_started(self, stage: str) -> None:
        """Begin a stage's span; what an earlier attempt left open has failed."""
        assert self._run is not None
        self._end_stage(StatusCode.ERROR)
        self._stage = self._tracer.start_span(
            stage,
            trace.set_span_in_context(self._run),
            attributes={"hbpipe.attempt": self._record.stage(stage).attempt},
        )

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """End the span with what the stage counted."""
        assert self._stage is not None
        for name, value in summary.items():
            if isinstance(value, bool | int | float | str):
                self._stage.set_attribute(f"hbpipe.{name}", value)
        self._end_stage(StatusCode.OK)

    def run_ended(self, error: BaseException | None) -> None:
        """End every span, and send them."""
        assert self._run is not None
        self._end_stage(StatusCode.ERROR)
        self._run.set_attribute("hbpipe.exit_status", self._record.exit_status)
        _end(self._run, error)
        flush = getattr(self._provider, "force_flush", None)
        if flush is not None:
            self._courier.send(lambda: flush(int(TIMEOUT_S * 1000)))

    def _end_stage(self, status: StatusCode) -> None:
        if self._stage is not None:
            self._stage.set_status(Status(status))
            self._stage.end()
            self._stage = None


def _end(span: Span, error: BaseException | None) -> None:
    if error is None:
        span.set_status(Status(StatusCode.OK))
    else:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end()


def tracer_provider() -> TracerProvider:
    """Return the provider of this process, or one that exports by OTLP as ``OTEL_*`` say.

    Raises
    ------
    ModuleNotFoundError
        The process has no provider, and the extra ``otel`` is not installed.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider):
        return provider
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as Sdk
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Not shut down at exit: a collector that is down would hold the process up.
    made: Any = Sdk(resource=Resource.create({"service.name": "hbpipe"}), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=TIMEOUT_S)))
    return cast("TracerProvider", made)
