"""OpenLineage: an event when a run starts, and one when it is over."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hbpipe import __version__
from hbpipe.config import resolve_secrets
from hbpipe.data.clock import to_date
from hbpipe.observe import datasets
from hbpipe.observe.courier import Courier, post_json, within
from hbpipe.observe.facets import EVENT_SCHEMA, PRODUCER, facet
from hbpipe.observe.lines import append_line
from hbpipe.observe.record import LAKE_S, Record
from hbpipe.observe_sections import OpenLineageSettings
from hbpipe.run.night import Night
from hbpipe.run.observe import NIGHT, Opening, Silent

logger = logging.getLogger(__name__)

#: The ``inputs`` and the ``outputs`` of an event.
Sets = Mapping[str, list[dict[str, Any]]]


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

    def named(self) -> dict[str, dict[str, str]]:
        """Name run and job as OpenLineage does."""
        return {
            "run": {"runId": self.run_id},
            "job": {"namespace": self.namespace, "name": self.job},
        }


def lineage_id(run_id: str) -> str:
    """Return the UUID by which OpenLineage knows a run: always the same for the same run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:hbpipe:run:{run_id}"))


@dataclass(frozen=True)
class Told:
    """What one event is about: a run, or one of the nights of a backfill.

    Attributes
    ----------
    run_id
        The UUID by which OpenLineage knows it.
    job
        The name of the job.
    own_id
        Our own name of the run.
    night
        What is known of it, once it is planned.
    error
        What ended it.
    parents
        What it is part of, the nearest first.
    """

    run_id: str
    job: str
    own_id: str
    night: Night | None
    error: BaseException | None
    parents: tuple[ParentRun, ...]


class Lineage(Silent):
    """Emits START when a run is planned, then COMPLETE, FAIL or ABORT.

    The nights of a backfill are runs of the nightly job, of which the backfill is the parent.

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
        self._parents = () if parent is None else (parent,)
        self._begun = False

    def run_opened(self, opening: Opening) -> None:
        """Wait with START for what the run is about."""
        self._begun = False

    def run_planned(self, night: Night) -> None:
        """Emit START: now it is known which day the run is for."""
        self._begin({"inputs": datasets.inputs(night, finished=False)})

    def night_started(self, night: Night) -> None:
        """Emit START of a night of many, after that of the run."""
        self._begin()
        inputs = datasets.inputs(night, finished=False)
        self._emit("START", self._about_night(night, None), {"inputs": inputs})

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Emit how a night of many ended, and what it read and wrote."""
        self._emit(_ending(error), self._about_night(night, error), _sets(night, error))

    def run_ended(self, error: BaseException | None) -> None:
        """Emit how the run ended, and what it read and wrote; START before that if it is due."""
        night = self._record.night
        self._begin()
        sets = {} if night is None else _sets(night, error)
        self._emit(_ending(error), self._about_run(), sets)

    def _begin(self, sets: Sets | None = None) -> None:
        if not self._begun:
            self._begun = True
            self._emit("START", self._about_run(), sets or {}, self._opening.started)

    @property
    def _opening(self) -> Opening:
        opening = self._record.opening
        assert opening is not None  # a run is opened before it is anything else
        return opening

    def _about_run(self) -> Told:
        """Name the job of a run that is no night by its kind too; nights are the pipeline's."""
        record, own_id = self._record, self._opening.run_id
        kind = [] if record.kind == NIGHT else [record.kind]
        return Told(
            lineage_id(own_id), self._job(*kind), own_id, record.night, record.error, self._parents
        )

    def _about_night(self, night: Night, error: BaseException | None) -> Told:
        run, namespace = self._about_run(), self._settings.namespace
        name = f"{run.own_id}/{to_date(night.plan.as_of)}"
        parents = (ParentRun(run.run_id, namespace, run.job), *run.parents)
        return Told(lineage_id(name), self._job(), run.own_id, night, error, parents)

    def _job(self, *kind: str) -> str:
        settings = self._record.settings
        return ".".join([settings.pipeline, settings.environment, *kind])

    def _emit(self, kind: str, told: Told, sets: Sets, at: datetime | None = None) -> None:
        event = self._event(kind, told, sets, at or datetime.now(UTC))
        text = json.dumps(event, ensure_ascii=False)
        if self._settings.path is not None:
            append_line(self._settings.path, text)
        if self._settings.url is not None:
            url = self._settings.url
            self._courier.send(lambda: post_json(url, text, self._token()))

    def _token(self) -> str | None:
        key, name = self._settings.api_key, "observe.openlineage.api_key"
        return None if key is None else resolve_secrets({name: key})[name]

    def _event(self, kind: str, told: Told, sets: Sets, at: datetime) -> dict[str, Any]:
        return {
            "eventType": kind,
            "eventTime": at.isoformat(),
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": {"runId": told.run_id, "facets": _run_facets(told)},
            "job": {
                "namespace": self._settings.namespace,
                "name": told.job,
                "facets": _job_facets(),
            },
            "inputs": sets.get("inputs", []),
            "outputs": sets.get("outputs", []),
        }


def _run_facets(told: Told) -> dict[str, Any]:
    found = {
        "processing_engine": facet(
            "ProcessingEngineRunFacet", "1-1-1", name="hbpipe", version=__version__
        ),
        "tags": facet("TagsRunFacet", "1-0-0", tags=_tags(told)),
    }
    if told.night is not None:
        calendar, as_of = told.night.form.calendar, told.night.plan.as_of
        found["nominalTime"] = facet(
            "NominalTimeRunFacet",
            "1-0-1",
            nominalStartTime=calendar.start_of(as_of).isoformat(),
            nominalEndTime=calendar.end_of(as_of).isoformat(),
        )
    if told.parents:
        nearest, root = told.parents[0].named(), told.parents[-1].named()
        found["parent"] = facet("ParentRunFacet", "1-2-0", **nearest, root=root)
    if told.error is not None:
        found["errorMessage"] = facet(
            "ErrorMessageRunFacet",
            "1-0-1",
            message=f"{type(told.error).__name__}: {told.error}",
            programmingLanguage="PYTHON",
        )
    return found


def _tags(told: Told) -> list[dict[str, str]]:
    released = None if told.night is None else told.night.released
    tags = {"run_id": told.own_id, "release": None if released is None else released["release"]}
    return [{"key": k, "value": v, "source": "HBPIPE"} for k, v in tags.items() if v]


def _sets(night: Night, error: BaseException | None) -> Sets:
    """Describe what was read and written; less of it, rather than no last event, in need."""
    if error is None:
        try:
            return within(LAKE_S, lambda: _whole_sets(night))
        except Exception as trouble:
            logger.warning("observe.openlineage: without what was written: %s", trouble)
    return {"inputs": datasets.inputs(night, finished=False)}


def _whole_sets(night: Night) -> Sets:
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
