"""OpenLineage: an event when a run starts, and one when it is over."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hbpipe import __version__
from hbpipe.config import resolve_secrets
from hbpipe.observe import datasets
from hbpipe.observe.courier import Courier, post_json, within
from hbpipe.observe.facets import EVENT_SCHEMA, PRODUCER, facet
from hbpipe.observe.lines import append_line
from hbpipe.observe.record import LAKE_S, Record
from hbpipe.observe_sections import OpenLineageSettings
from hbpipe.run.night import Night
from hbpipe.run.observe import NIGHT, Silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParentRun:
    """The run that a night is part of, such as a flow run of Prefect.

    Attributes
    ----------
    run_id
        A UUID.
    namespace, job
        Whose run it is, as that scheduler's own events would name it.
    """

    run_id: str
    namespace: str
    job: str


def lineage_id(run_id: str) -> str:
    """Return the UUID by which OpenLineage knows a run: always the same for the same run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:hbpipe:run:{run_id}"))


class Lineage(Silent):
    """Emits START when a run is planned, then COMPLETE, FAIL or ABORT.

    Parameters
    ----------
    settings
        Where events go.
    record
        The run.
    courier
        Takes them to the address, where there is one.
    parent
        What the run is part of.
    """

    def __init__(
        self,
        settings: OpenLineageSettings,
        record: Record,
        courier: Courier,
        parent: ParentRun | None = None,
    ) -> None:
        self._settings = settings
        self._record = record
        self._courier = courier
        self._parent = parent

    def run_planned(self, night: Night) -> None:
        """Emit START: now it is known which day the run is for."""
        self._emit("START", inputs=datasets.inputs(night, finished=False))

    def run_ended(self, error: BaseException | None) -> None:
        """Emit how the run ended, and what it read and wrote; START before that if it is due."""
        night = self._record.night
        if night is None:
            self._emit("START")
        self._emit(_ending(error), **({} if night is None else _sets(night, error)))

    def _emit(self, kind: str, **sets: list[dict[str, Any]]) -> None:
        text = json.dumps(self._event(kind, **sets), ensure_ascii=False)
        if self._settings.path is not None:
            append_line(self._settings.path, text)
        if self._settings.url is not None:
            url = self._settings.url
            self._courier.send(lambda: post_json(url, text, self._token()))

    def _token(self) -> str | None:
        key, name = self._settings.api_key, "observe.openlineage.api_key"
        return None if key is None else resolve_secrets({name: key})[name]

    def _event(self, kind: str, **sets: list[dict[str, Any]]) -> dict[str, Any]:
        settings = self._record.settings
        opening = self._record.opening
        assert opening is not None  # a run is opened before it is anything else
        now = opening.started if kind == "START" else datetime.now(UTC)
        return {
            "eventType": kind,
            "eventTime": now.isoformat(),
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": {"runId": lineage_id(opening.run_id), "facets": self._run_facets()},
            "job": {
                "namespace": self._settings.namespace,
                "name": ".".join([settings.pipeline, settings.environment, *self._kind()]),
                "facets": _job_facets(),
            },
            "inputs": sets.get("inputs", []),
            "outputs": sets.get("outputs", []),
        }

    def _kind(self) -> list[str]:
        """Name the job of a run that is no night; a night is what the pipeline is for."""
        return [] if self._record.kind == NIGHT else [self._record.kind]

    def _run_facets(self) -> dict[str, Any]:
        record = self._record
        found = {
            "processing_engine": facet(
                "ProcessingEngineRunFacet", "1-1-1", name="hbpipe", version=__version__
            ),
            "tags": facet("TagsRunFacet", "1-0-0", tags=self._tags()),
        }
        if record.night is not None:
            calendar, as_of = record.night.form.calendar, record.night.plan.as_of
            found["nominalTime"] = facet(
                "NominalTimeRunFacet",
                "1-0-1",
                nominalStartTime=calendar.start_of(as_of).isoformat(),
                nominalEndTime=calendar.end_of(as_of).isoformat(),
            )
        if self._parent is not None:
            job = {"namespace": self._parent.namespace, "name": self._parent.job}
            run = {"runId": self._parent.run_id}
            found["parent"] = facet("ParentRunFacet", "1-2-0", run=run, job=job)
        if record.error is not None:
            found["errorMessage"] = facet(
                "ErrorMessageRunFacet",
                "1-0-1",
                message=f"{type(record.error).__name__}: {record.error}",
                programmingLanguage="PYTHON",
            )
        return found

    def _tags(self) -> list[dict[str, str]]:
        released = self._record.released
        tags = {
            "run_id": self._record.run_id,
            "release": None if released is None else released["release"],
        }
        return [{"key": k, "value": v, "source": "HBPIPE"} for k, v in tags.items() if v]


def _sets(night: Night, error: BaseException | None) -> dict[str, list[dict[str, Any]]]:
    """Describe what was read and written; less of it, rather than no last event, in need."""
    if error is None:
        try:
            return within(LAKE_S, lambda: _whole_sets(night))
        except Exception as trouble:
            logger.warning("observe.openlineage: without what was written: %s", trouble)
    return {"inputs": datasets.inputs(night, finished=False)}


def _whole_sets(night: Night) -> dict[str, list[dict[str, Any]]]:
    return {"inputs": datasets.inputs(night, finished=True), "outputs": datasets.outputs(night)}


def _ending(error: BaseException | None) -> str:
    if error is None:
        return "COMPLETE"
    return "FAIL" if isinstance(error, Exception) else "ABORT"


def _job_facets() -> dict[str, Any]:
    return {
        "jobType": facet(
            "JobTypeJobFacet",
            "2-0-4",
            processingType="BATCH",
            integration="HBPIPE",
            jobType="JOB",
        ),
        "documentation": facet(
            "DocumentationJobFacet",
            "1-1-0",
            description="Hierarchical Bayesian metrics of stores, from events to audited "
            "posteriors, for one business day and the window before it.",
            contentType="text/plain",
        ),
    }
