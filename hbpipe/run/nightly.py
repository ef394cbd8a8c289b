"""A whole night in one call: open, run the stages, report."""

from __future__ import annotations

import time
from datetime import date, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.report.night import NightReport, describe_release
from hbpipe.run import commits
from hbpipe.run.audits import AcceptRequest, total_account
from hbpipe.run.documents import PlanDocument
from hbpipe.run.history import History, read_history
from hbpipe.run.night import Night, open_night
from hbpipe.run.observe import Observer
from hbpipe.run.releases import latest_release
from hbpipe.run.stages import STAGES
from hbpipe.run.stale import StaleRelease, affected, of_kind, stale_releases


def run_night(
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
) -> NightReport:
    """Bring the window of one as-of day up to date and publish one release.

    Nothing is done where nothing is due; the report then says why. Options as ``open_night``.

    Raises
    ------
    HbpipeError
        The subclass says what happened and which exit code it means; readers stay on the old
        release.
    """
    with open_night(
        settings,
        as_of=as_of,
        observer=observer,
        now=now,
        full_scan=full_scan,
        accept_missing=accept_missing,
        accept=accept,
        document=document,
        retry=retry,
    ) as night:
        if night.plan.work:
            for stage in STAGES:
                run_stage(stage, night)
        return finish(night)


def run_stage(stage: Any, night: Night) -> None:
    """Run one stage, telling the observer, and note the seconds it took."""
    name, begun = stage.__name__, time.monotonic()
    night.observer.stage_started(name)
    try:
        summary = stage(night)
    finally:
        # One that is tried again takes the time of all its attempts.
        night.seconds[name] = night.seconds.get(name, 0.0) + time.monotonic() - begun
    night.observer.stage_finished(name, summary)


def finish(night: Night) -> NightReport:
    """Close a night: record what a night without work has learnt, and report."""
    if not night.plan.work and night.stock.changed_files:
        commits.prepare_lake(night)
        commits.commit_files(night)
    as_of = to_date(night.plan.as_of)
    row = night.released or latest_release(night.lake, night.settings.environment, as_of)
    assert row is not None  # a plan without a release of its day has work
    history = read_history(night.lake)
    stale = _made_stale(night, history)
    return describe_release(
        night.lake,
        row,
        environment=night.settings.environment,
        run_id=night.run_id,
        days=[day.to_dict() for day in night.plan.days],
        reason=night.plan.release_reason,
        published=night.released is not None,
        rows=rows_read(night),
        notes=[*night.plan.notes, *_told_by_checks(night), *_told(stale), *_pinned(night, history)],
        stale=[one.to_dict() for one in stale],
    )


def _made_stale(night: Night, history: History) -> list[StaleRelease]:
    """List the releases of other as-of days that the days of this run have made stale."""
    if not night.days:
        return []
    settings, before = night.settings, night.stock.ledger
    changed = [
        day
        for day, entry in night.days.items()
        if day not in before or before[day].fingerprint != entry.fingerprint
    ]
    rows = history.of(settings.environment)
    touched = set(affected(rows, settings, changed)) - {to_date(night.plan.as_of)}
    return of_kind(stale_releases(night.lake, settings, night.days, as_of=touched), "input")


def _told(stale: list[StaleRelease]) -> list[str]:
    """Tell in one sentence which releases became stale."""
    if not stale:
        return []
    names = ", ".join(one.release for one in stale[:3])
    more = f" and {len(stale) - 3} more" if len(stale) > 3 else ""
    return [
        f"{len(stale)} release(s) of other as-of days are stale now ({names}{more}): readers of "
        "those days see what was believed then, until a backfill publishes them anew"
    ]


def _pinned(night: Night, history: History) -> list[str]:
    """Tell that readers do not see this night."""
    pin = history.pin(night.settings.environment)
    if pin is None:
        return []
    return [
        f"readers of {pin.environment} see release {pin.release} until the next promote; pinned "
        f"by {pin.told()}"
    ]


def _told_by_checks(night: Night) -> list[str]:
    """Tell what the checks of this run warn of, and what was accepted."""
    told = [check for check in night.checks if check.status in ("warn", "accepted")]
    notes = [f"{check.name} of {check.subject}: {check.message}" for check in told]
    asked = night.accept
    names = {check.name for check in told if check.status == "accepted"}
    if asked is not None and asked.check not in names:
        notes.append(f"nothing was accepted: {asked.check} did not fail where it was asked for")
    return notes


def rows_read(night: Night) -> dict[str, int]:
    """Count the rows that this run read: of its days, undated ones, and files delivered twice."""
    accounts = [total_account(result) for result in night.results.values()]
    undated = sum(rejection.rows for rejection in night.stock.undated)
    copies = [night.stock.files[path] for path in night.stock.surveyed]
    twice = sum(entry.rows for entry in copies if entry.state == "duplicate")
    accepted = sum(account.accepted for account in accounts)
    rejected = sum(account.rejected for account in accounts) + undated
    repeated = sum(account.repeated for account in accounts) + twice
    return {
        "in": accepted + rejected + repeated,
        "accepted": accepted,
        "rejected": rejected,
        "repeated": repeated,
    }
