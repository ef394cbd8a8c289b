"""Work on many days: statistics in batches, in any order; then nights, in the order of their days.

A night's fit begins at its own statistics and never at yesterday's result, so what is published
for a day depends on the files alone: not on batches, interruptions, or what was published before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.errors import GateError
from hbpipe.run import commits, stages
from hbpipe.run.attempt import Attempt
from hbpipe.run.audits import AcceptRequest
from hbpipe.run.due import DayPlan
from hbpipe.run.engine import Engine, open_engine
from hbpipe.run.fingerprints import release_kernel_digest
from hbpipe.run.gates import refuse_held
from hbpipe.run.night import Night, new_run_id, open_lake, open_work
from hbpipe.run.observe import Observer, Silent, watched_night
from hbpipe.run.plan import Plan
from hbpipe.run.rebuild_plan import DueNight, RebuildPlan
from hbpipe.run.rebuild_report import RebuildReport
from hbpipe.run.stock import Stock, take_stock

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Step:
    """A piece of work that commits what it has finished."""

    label: str
    run: Callable[[], dict[str, Any]]


@dataclass
class Rebuild:
    """Many days under way. Whoever drives it runs the ``steps`` in their order.

    Stopped anywhere, it leaves a lake in which every finished batch counts; opened again, it plans
    what is left.
    """

    settings: Settings
    lake: Lake
    engine: Engine
    observer: Observer
    run_id: str
    attempt: int
    plan: RebuildPlan
    batch: int
    stock: Stock
    versions: dict[str, int] = field(default_factory=dict)  # of each table, as this run left it
    measured: int = 0
    released: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    accept: AcceptRequest | None = None
    #: What was accepted.
    accepted: list[str] = field(default_factory=list)

    def steps(self) -> Iterator[Step]:
        """Give the steps: batches of days, then batches of nights."""
        if self.stock.changed_files and not self.plan.days:
            yield Step("files", self._record_files)
        for days in _batches(self.plan.days, self.batch):
            label = f"statistics of {_span([d.day for d in days])}"
            yield Step(label, partial(self._measure, days))
        for nights in _batches(self.plan.nights, self.batch):
            label = f"releases of {_span([n.as_of for n in nights])}"
            yield Step(label, partial(self._publish, nights))

    def _night(self, plan: Plan, observer: Observer | None = None) -> Night:
        return Night(
            settings=self.settings,
            lake=self.lake,
            engine=self.engine,
            observer=observer or Silent(),
            run_id=self.run_id,
            attempt=self.attempt,
            plan=plan,
            versions=self.versions,
            days=dict(self.stock.ledger),
            accept=self.accept,
        )

    def _note_accepted(self, night: Night) -> None:
        """Remember which checks of a night were accepted."""
        found = [check for check in night.checks if check.status == "accepted"]
        self.accepted += [f"{check.name} of {check.subject}: {check.message}" for check in found]

    def _plan(
        self, window: Sequence[int], days: Sequence[DayPlan] = (), release: str | None = None
    ) -> Plan:
        """Return the plan of one step; ``release`` is the reason for one of its last day."""
        return Plan(
            stock=self.stock,
            as_of=window[-1],
            window=tuple(window),
            days=tuple(days),
            release_reason=release or "statistics only",
            release_due=release is not None,
            notes=(),
            settings_digest=self.settings.digest(),
            kernel_digest=release_kernel_digest(self.stock.metrics),
        )

    def _of_statistics(self, days: Sequence[DayPlan] = ()) -> Plan:
        """Plan the statistics of some days, for no night in particular."""
        numbers = sorted(day.day for day in days) or [max(self.stock.ledger, default=0)]
        return self._plan(numbers, days)

    def _record_files(self) -> dict[str, Any]:
        night = self._night(self._of_statistics())
        commits.prepare_lake(night)
        commits.commit_files(night)
        self._learn(night)
        return {"files": len(self.stock.files)}

    def _measure(self, days: Sequence[DayPlan]) -> dict[str, Any]:
        """Commit the statistics of one batch; days that fail the data gate are held."""
        night = self._night(self._of_statistics(days), self.observer)
        held = stages.measure_days(night)
        commits.commit_checks(night)
        self._note_accepted(night)
        self._learn(night)
        self.measured += len(days) - len(held)
        for day in sorted(held):
            self.held[str(to_date(day))] = night.days[day].reason
            self.observer.message(f"{to_date(day)} is held: {night.days[day].reason}")
        return {"days": len(days), "held": len(held), "rows": sum(day.rows for day in days)}

    def _learn(self, night: Night) -> None:
        """Take over what the ledger knows after a batch."""
        self.stock = replace(
            self.stock,
            files=night.files,
            known=night.files,
            surveyed=(),
            undated=(),
            ledger=night.days,
        )

    def _publish(self, nights: Sequence[DueNight]) -> dict[str, Any]:
        """Publish a batch of nights, one after the other; a failed gate stops only its own."""
        if not self.released and not self.failed:
            commits.prepare_lake(self._night(self._of_statistics()))
        before = len(self.released)
        done_with = {one["as_of"] for one in (*self.released, *self.failed)}
        for due in nights:
            if str(to_date(due.as_of)) in done_with:
                continue  # before this step lost its cluster and was run again
            try:
                self._publish_one(due)
            except GateError as error:
                self.failed.append({"as_of": str(to_date(due.as_of)), "reason": str(error)})
            done = len(self.released) + len(self.failed)
            self.observer.progress("releases", done, len(self.plan.nights))
        return {"released": len(self.released) - before, "failed": len(self.failed)}

    def _publish_one(self, due: DueNight) -> None:
        """Publish one night, as it was planned: nobody else has committed since (``attempt``)."""
        night = self._night(self._plan(due.window, release=due.reason))
        with watched_night(self.observer, night):
            refuse_held(night)
            for stage in (stages.fit, stages.update, stages.audit, stages.release):
                stage(night)
        self._note_accepted(night)
        assert night.released is not None
        self.released.append(
            {"as_of": str(to_date(due.as_of)), "release": night.released["release"]}
        )


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _span(days: Sequence[int]) -> str:
    first, last = to_date(min(days)), to_date(max(days))
    return str(first) if first == last else f"{first}..{last}"


def plan_rebuild(
    settings: Settings,
    decide: Callable[[Stock, Lake], RebuildPlan],
    *,
    now: datetime | None = None,
    accept_missing: bool = False,
) -> RebuildPlan:
    """Plan alone, beside whatever runs: takes no lease and writes nothing."""
    lake = open_lake(settings)
    with open_engine(settings.cluster.model_copy(update={"kind": "serial"})) as engine:
        stock = take_stock(settings, lake, engine, now=now, accept_missing=accept_missing)
        return decide(stock, lake)


@contextmanager
def open_rebuild(
    settings: Settings,
    decide: Callable[[Stock, Lake], RebuildPlan],
    *,
    batch: int,
    kind: str,
    observer: Observer | None = None,
    now: datetime | None = None,
    accept_missing: bool = False,
    accept: AcceptRequest | None = None,
) -> Iterator[Rebuild]:
    """Take the lease, start the engine, look at everything once and plan.

    Parameters
    ----------
    decide
        Makes the plan: see ``backfill.decide`` and ``restate.decide``.
    batch
        How many days, or nights, are one step.
    kind
        What ``runs`` calls it.
    accept
        A check that a person takes as it is.

    Raises
    ------
    LeaseError
        When another run holds the lease.
    EventsError, ConfigError
        As ``take_stock``.
    """
    run_id, lake, observer = new_run_id(now), open_lake(settings), observer or Silent()
    failure: GateError | None = None
    try:
        with open_work(settings, lake, run_id, kind, observer) as (attempt, engine):
            stock = take_stock(
                settings, attempt.lake, engine, now=now, accept_missing=accept_missing
            )
            plan = decide(stock, attempt.lake)
            _enter_plan(attempt, plan)
            rebuild = Rebuild(
                settings=settings,
                lake=attempt.lake,
                engine=engine,
                observer=observer,
                run_id=run_id,
                attempt=attempt.entry.attempt,
                plan=plan,
                batch=batch,
                stock=stock,
                accept=accept,
            )
            yield rebuild
            failure = report_of(rebuild).failure()
            if failure is not None:
                raise failure
            attempt.end("done" if plan.work else "nothing")
    except GateError as error:
        # Raised so that `runs` and whoever watches hear of it; whoever drives has the report.
        if error is not failure:
            raise


def _enter_plan(attempt: Attempt, plan: RebuildPlan) -> None:
    """Enter the plan into ``runs`` before anything of it is done."""
    attempt.know(plan=json.dumps(plan.to_dict()), rows=sum(day.rows for day in plan.days))
    if plan.work or plan.stock.changed_files:
        attempt.record()


def run_rebuild(rebuild: Rebuild) -> RebuildReport:
    """Run all steps, telling the observer."""
    for step in rebuild.steps():
        rebuild.observer.stage_started(step.label)
        rebuild.observer.stage_finished(step.label, step.run())
    return report_of(rebuild)


def _not_accepted(rebuild: Rebuild) -> list[str]:
    asked = rebuild.accept
    if asked is None or any(note.startswith(f"{asked.check} of ") for note in rebuild.accepted):
        return []
    return [f"nothing was accepted: {asked.check} did not fail where it was asked for"]


def report_of(rebuild: Rebuild) -> RebuildReport:
    """Tell what a rebuild has done so far."""
    return RebuildReport(
        run_id=rebuild.run_id,
        measured=rebuild.measured,
        released=list(rebuild.released),
        failed=list(rebuild.failed),
        held=[{"day": day, "reason": reason} for day, reason in rebuild.held.items()],
        stopped=rebuild.settings.audits.held == "block",
        notes=[*rebuild.plan.notes, *rebuild.accepted, *_not_accepted(rebuild)],
    )
