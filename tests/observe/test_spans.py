"""Spans: one for the run, one below it for each attempt at a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from hbpipe.errors import EngineError, GateError
from hbpipe.observe.courier import Courier
from hbpipe.observe.record import Record
from hbpipe.observe.spans import Spans
from hbpipe.observe.watch import Watch
from hbpipe.run.backfill import backfill
from hbpipe.run.observe import Observer
from tests.nights import NOW, day, night, settings_for, visits, write, write_days
from tests.observe.test_watch import OPENING


class KeptSpan(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, number: int, name: str, parent: Any, attributes: dict[str, Any]) -> None:
        super().__init__(SpanContext(1, number, False, TraceFlags(1)))
        self.name, self.parent, self.attributes = name, parent, dict(attributes)
        self.status: StatusCode | None = None
        self.exceptions: list[BaseException] = []
        self.ended = 0

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_status(self, status: Any, description: str | None = None) -> None:
        assert isinstance(status, Status)
        self.status = status.status_code

    def record_exception(self, exception: BaseException, *_: Any, **__: Any) -> None:
        self.exceptions.append(exception)

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1


class Kept(trace.TracerProvider, trace.Tracer):
    """A provider, and its tracer, that keep every span."""

    def __init__(self) -> None:
        self.spans: list[KeptSpan] = []

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        return self

    def start_span(
        self, name: str, context: Any = None, *_: Any, attributes: Any = None, **__: Any
    ) -> KeptSpan:
        parent = None if context is None else trace.get_current_span(context)
        self.spans.append(KeptSpan(len(self.spans) + 1, name, parent, attributes or {}))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(self, name: str, *_: Any, **__: Any) -> Iterator[trace.Span]:  # type: ignore[override]
        raise NotImplementedError

    def names(self) -> Sequence[str]:
        return [span.name for span in self.spans]


def watching(folder: Path, kept: Kept) -> Observer:
    record = Record(settings_for(folder))
    return Watch(record, {"spans": Spans(kept, record, Courier("spans"))})


def test_a_night_is_a_span_with_its_stages_below(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    kept = Kept()
    report = night(settings_for(tmp_path), observer=watching(tmp_path, kept))
    assert kept.names() == ["run", "aggregate", "fit", "update", "audit", "release"]
    run, *stages = kept.spans
    assert run.attributes == {
        "hbpipe.run_id": report.run_id,
        "hbpipe.pipeline": "tiny",
        "deployment.environment.name": "prod",
        "hbpipe.as_of": report.as_of,
        "hbpipe.days": 2,
        "hbpipe.exit_status": 0,
    }
    assert {stage.parent for stage in stages} == {run}
    assert stages[0].attributes["hbpipe.accepted"] == 80
    assert {span.status for span in kept.spans} == {StatusCode.OK}
    assert {span.ended for span in kept.spans} == {1}


def test_attempts_that_failed_are_errors(tmp_path: Path) -> None:
    kept, error = Kept(), EngineError("a worker was lost")
    watch = watching(tmp_path, kept)
    watch.run_opened(OPENING)
    watch.stage_started("fit")
    watch.stage_started("fit")
    watch.run_ended(error)
    run, first, second = kept.spans
    assert [span.attributes["hbpipe.attempt"] for span in (first, second)] == [1, 2]
    assert {span.status for span in kept.spans} == {StatusCode.ERROR}
    assert run.exceptions == [error]
    assert {span.ended for span in kept.spans} == {1}


def test_each_night_of_a_backfill_is_a_span_below_its_batch(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    rows = [{**row, "store_id": None} for row in visits(1)[:20]]
    write(tmp_path / "events" / f"{day(1)}.parquet", [*rows, *visits(1)[20:]])
    kept = Kept()
    settings = settings_for(tmp_path)
    observer = watching(tmp_path, kept)
    backfill(settings, start=day(0), end=day(1), now=NOW, observer=observer)
    run, _, releases, first, second = kept.spans
    assert (first.name, second.name, releases.name) == (
        "night",
        "night",
        f"releases of {day(0)}..{day(1)}",
    )
    assert first.parent is second.parent is releases
    assert [span.attributes["hbpipe.as_of"] for span in (first, second)] == [
        str(day(0)),
        str(day(1)),
    ]
    statuses = [span.status for span in (run, releases, first, second)]
    assert statuses == [StatusCode.ERROR, StatusCode.OK, StatusCode.OK, StatusCode.ERROR]
    assert isinstance(second.exceptions[0], GateError)
    assert {span.ended for span in kept.spans} == {1}
