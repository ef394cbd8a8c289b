"""A whole night in one call: open, run the stages, report."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.report.night import NightReport, describe_release
from hbpipe.run import commits
from hbpipe.run.audits import AcceptRequest, total_account
from hbpipe.run.night import Night, open_night
from hbpipe.run.observe import Observer
from hbpipe.run.releases import current_release
from hbpipe.run.stages import STAGES


def run_night(
    settings: Settings,
    *,
    as_of: date | None = None,
    observer: Observer | None = None,
    now: datetime | None = None,
    full_scan: bool = False,
    accept_missing: bool = False,
    accept: AcceptRequest | None = None,
) -> NightReport:
    """Bring the window of one as-of day up to date and publish one release.

    Nothing is done where nothing is due; the report then says why. ``accept`` names a check that
    a person takes as it is.

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
    ) as night:
        if night.plan.work:
            for stage in STAGES:
                run_stage(stage, night)
        return finish(night)


def run_stage(stage: Any, night: Night) -> None:
    """Run one stage, telling the observer."""
    night.observer.stage_started(stage.__name__)
    summary = stage(night)
    night.observer.stage_finished(stage.__name__, summary)


def finish(night: Night) -> NightReport:
    """Close a night: record what a night without work has learnt, and report."""
    if not night.plan.work and night.stock.changed_files:
        commits.prepare_lake(night)
        commits.commit_files(night)
    as_of = to_date(night.plan.as_of)
    row = night.released or current_release(night.lake, night.settings.environment, as_of)
    assert row is not None  # a plan without a release of its day has work
    return describe_release(
        night.lake,
        row,
        run_id=night.run_id,
        days=[day.to_dict() for day in night.plan.days],
        reason=night.plan.release_reason,
        published=night.released is not None,
        rows=_rows(night),
        notes=[*night.plan.notes, *_told_by_checks(night)],
    )


def _told_by_checks(night: Night) -> list[str]:
    """Tell what the checks of this run warn of, and what was accepted."""
    told = [check for check in night.checks if check.status in ("warn", "accepted")]
    notes = [f"{check.name} of {check.subject}: {check.message}" for check in told]
    asked = night.accept
    names = {check.name for check in told if check.status == "accepted"}
    if asked is not None and asked.check not in names:
        notes.append(f"nothing was accepted: {asked.check} did not fail where it was asked for")
    return notes


def _rows(night: Night) -> dict[str, int]:
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
