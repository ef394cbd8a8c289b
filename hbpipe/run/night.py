"""One night: what the stages share, and the order in which they run."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from hbpipe.config import Settings, resolve_secrets
from hbpipe.data.clock import to_date
from hbpipe.data.daily import DayResult
from hbpipe.data.events import EventFormat
from hbpipe.data.lake import Lake
from hbpipe.data.parts import Receipt
from hbpipe.data.presence import Presence
from hbpipe.data.quantities import Metric
from hbpipe.run.attempt import Attempt, open_run
from hbpipe.run.audits import AcceptRequest, Check, Finding, PosteriorTally
from hbpipe.run.describe import describe_plan
from hbpipe.run.documents import PlanDocument, planned_by
from hbpipe.run.engine import Engine, Task, open_engine
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.reconciled import Outcome
from hbpipe.run.ledger import DayEntry, FileEntry
from hbpipe.run.observe import Observer, Opening, Silent, watched
from hbpipe.run.plan import Plan, make_plan
from hbpipe.run.runs import require_run
from hbpipe.run.stock import Stock
from hbpipe.run.totals import Totals


@dataclass
class Night:
    """The state of one run, filled in by the stages in order.

    Everything before ``results`` is decided when the night opens; each later field belongs to
    the stage that its comment names.
    """

    settings: Settings
    lake: Lake
    engine: Engine
    observer: Observer
    run_id: str
    attempt: int
    plan: Plan

    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    versions: dict[str, int] = field(default_factory=dict)  # of each table, as this run left it
    results: dict[int, DayResult] = field(default_factory=dict)  # aggregate
    days: dict[int, DayEntry] = field(default_factory=dict)  # aggregate: the ledger afterwards
    files: dict[str, FileEntry] = field(default_factory=dict)  # aggregate: likewise
    folded: list[Task] = field(default_factory=list)  # fit: one per shard
    presence: list[Presence] = field(default_factory=list)  # fit: one per shard
    totals: dict[str, Totals] = field(default_factory=dict)  # fit: of metrics that have some
    fits: dict[str, MetricFit] = field(default_factory=dict)  # fit
    staged: dict[str, list[Receipt]] = field(default_factory=dict)  # fit, update
    repeated: dict[str, dict[str, int]] = field(default_factory=dict)  # fit: table, metric, rows
    findings: dict[str, list[Finding]] = field(default_factory=dict)  # audit: by metric
    tallies: list[PosteriorTally] = field(default_factory=list)  # update
    reconciled: dict[str, Outcome] = field(default_factory=dict)  # update: by metric
    checks: list[Check] = field(default_factory=list)  # aggregate, audit
    released: dict[str, Any] | None = None  # release
    accept: AcceptRequest | None = None  # which failed check the user accepts

    @property
    def stock(self) -> Stock:
        """What was there when the night was planned."""
        return self.plan.stock

    @property
    def form(self) -> EventFormat:
        """How events are read."""
        return self.stock.form

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics, parsed."""
        return self.stock.metrics

    @property
    def rests_on(self) -> list[DayEntry]:
        """The days of the window that a release rests on: all but those that are held."""
        known = [self.days[day] for day in self.plan.window if day in self.days]
        return [entry for entry in known if entry.state != "held"]

    @property
    def left_out(self) -> list[DayEntry]:
        """The held days of the window."""
        known = [self.days[day] for day in self.plan.window if day in self.days]
        return [entry for entry in known if entry.state == "held"]

    def progress(self, stage: str) -> Any:
        """Return a callback that reports progress of a stage."""
        return lambda done, total: self.observer.progress(stage, done, total)


def new_run_id(now: datetime | None = None) -> str:
    """Name a run: its moment, readable and sortable, and something no other run has."""
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    return f"{moment}-{uuid.uuid4().hex[:8]}"


def open_lake(settings: Settings) -> Lake:
    """Return the lake of the settings, its secrets resolved."""
    return Lake(settings.lake.path, resolve_secrets(settings.lake.storage_options))


@contextmanager
def open_work(
    settings: Settings, lake: Lake, run_id: str, kind: str, observer: Observer
) -> Iterator[tuple[Attempt, Engine]]:
    """Tell the observer, take the lease and an attempt, start the engine: how every run begins.

    Raises
    ------
    LeaseError
        When another run holds the lease, or takes this one's place.
    """
    opening = Opening(run_id, settings.pipeline, settings.environment, datetime.now(UTC), kind)
    with (
        watched(observer, opening),
        open_run(lake, settings, run_id=run_id, kind=kind) as attempt,
        open_engine(settings.cluster) as engine,
    ):
        yield attempt, engine


@contextmanager
def open_night(
    settings: Settings,
    *,
    as_of: date | None = None,
    observer: Observer | None = None,
    now: datetime | None = None,
    full_scan: bool = False,
    accept_missing: bool = False,
    accept: AcceptRequest | None = None,
    document: PlanDocument | None = None,
    retry: str | None = None,
    run_id: str | None = None,
    kind: str = "night",
) -> Iterator[Night]:
    """Take the lease, start the engine and make the plan; and enter all that into ``runs``.

    Parameters
    ----------
    as_of, now, full_scan, accept_missing, document
        As ``make_plan``.
    observer
        Who watches.
    accept
        What the gates are to let pass.
    retry
        The id of a run whose own plan is run again, instead of a new one.
    run_id
        The name of this run; by default a new one.
    kind
        What ``runs`` calls it.

    Raises
    ------
    LeaseError
        When another run holds the lease, or takes this one's place.
    ConfigError, EventsError, LateError
        As ``make_plan``; and when there is no plan to run again.
    """
    run_id, lake = run_id or new_run_id(now), open_lake(settings)
    observer = observer or Silent()
    with open_work(settings, lake, run_id, kind, observer) as (attempt, engine):
        plan = make_plan(
            settings,
            attempt.lake,
            engine,
            as_of=as_of,
            now=now,
            full_scan=full_scan,
            accept_missing=accept_missing,
            document=planned_by(require_run(lake, retry)) if retry is not None else document,
            retry_held=accept is not None,
        )
        seconds = _enter_plan(attempt, plan)
        night = Night(
            settings=settings,
            lake=attempt.lake,
            engine=engine,
            observer=observer,
            run_id=run_id,
            attempt=attempt.entry.attempt,
            plan=plan,
            seconds=seconds,
            accept=accept,
        )
        observer.run_planned(night)
        yield night
        attempt.end("nothing" if night.released is None else "done")


def _enter_plan(attempt: Attempt, plan: Plan) -> dict[str, float]:
    """Enter the plan into ``runs`` before anything of it is done; return where seconds go.

    Without anything to write the attempt does not begin, see ``attempt``.
    """
    seconds: dict[str, float] = {}
    known = {
        "as_of": to_date(plan.as_of),
        "plan": json.dumps(describe_plan(plan, attempt.lake)),
        "rows": plan.rows,
        "bytes": plan.bytes,
        "seconds": seconds,
    }
    attempt.know(**known)
    if plan.work or plan.stock.changed_files:
        attempt.record()
    return seconds
