"""The two gates of a night: which checks are made, what was accepted, and what a failure stops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hbpipe.config import digest
from hbpipe.data.clock import to_date
from hbpipe.data.parts import Receipt
from hbpipe.errors import GateError
from hbpipe.run import audits, commits
from hbpipe.run.audits.acceptance import Acceptance, Key, accepted, write_acceptances
from hbpipe.run.audits.catalogue import INTEGRITY
from hbpipe.run.fingerprints import makings, release_input
from hbpipe.run.inference.arms import check_arms
from hbpipe.run.inference.covariates import check_covariates, check_curves
from hbpipe.run.inference.earlier import earlier_fits
from hbpipe.run.inference.overdispersion import check_overdispersion
from hbpipe.run.inference.reconciled import check_totals
from hbpipe.run.inference.size_dependence import check_size_dependence
from hbpipe.run.ledger import FileEntry
from hbpipe.run.night import Night


def check_new_files(night: Night) -> None:
    """Check new files before anything of them is taken as known.

    Raises
    ------
    GateError
        When a check fails; nothing was read.
    """
    surveyed = [night.stock.files[path] for path in night.stock.surveyed]
    counting = [entry for entry in surveyed if entry.state == "read"]
    known = night.stock.known.values()
    needed = night.form.columns(night.metrics)
    found = [
        audits.check_undated(counting, night.settings.audits),
        audits.check_columns(counting, known, needed),
    ]
    night.checks = _settled(night, found, _of_files(counting))
    failed = audits.failures(night.checks)
    if failed:
        commits.commit_checks(night)
        commits.commit_quarantine(night, ())
        raise _gate_failed("data", failed, "nothing was read", [])


def _of_files(files: Iterable[FileEntry]) -> str:
    return digest(sorted(entry.sha256 for entry in files))


def check_days(night: Night) -> set[int]:
    """Run the data gate on the days that were measured; return those that fail it."""
    limits, held = night.settings.audits, set()
    past = audits.Past.of(night.stock.files.values(), night.stock.ledger, night.results)
    for day in night.plan.days:
        result = night.results.get(day.day)
        found = audits.check_rows(day.day, day.rows, past, limits)
        if result is not None:
            account = audits.total_account(result)
            found += audits.check_day(result, account, day.rows, limits)
            found += audits.check_measured(day.day, past, limits)
        checks = _settled(night, found, digest(day.entry.fingerprint))
        night.checks += checks
        if audits.failures(checks):
            held.add(day.day)
    return held


def refuse_held(night: Night) -> None:
    """Stop a night whose window contains a held day, unless such days are left out.

    Raises
    ------
    GateError
        Names the days, and the checks that they failed.
    """
    held = night.left_out
    if not held or (night.settings.audits.held == "leave_out" and night.rests_on):
        return
    commits.commit_checks(night)
    blocking = [f"{to_date(day.day)} ({day.reason})" for day in held]
    failed = audits.failures(night.checks)
    if not failed:
        raise _held_before(blocking, held[0].reason.split(", ")[0])
    results = [night.results[day.day] for day in held if day.day in night.results]
    staged = [receipt for result in results for receipt in result.receipts]
    raise _gate_failed("data", failed, f"held: {', '.join(blocking)}", _paths(night, staged))


def _held_before(days: Sequence[str], check: str) -> GateError:
    """Return the error of a night whose window has days that failed the data gate before."""
    return GateError(
        f"{len(days)} day(s) of the window are held: {', '.join(days)}",
        expected="days that passed the data gate",
        remedy="correct their input and run again, or take it as it is: --accept-audit "
        f"{check} --day DAY --reason TEXT; readers stay on the old release",
    )


def check_release(night: Night) -> list[audits.Check]:
    """Run the release gate on what is staged; every result is recorded.

    Raises
    ------
    GateError
        When a check fails; the old release stays, the staged files are kept for inspection.
    """
    window, limits = night.rests_on, night.settings.audits
    events = sum(day.account.accepted for day in window)
    earlier = earlier_fits(night)
    found = audits.check_fits(night.fits, limits)
    found += audits.check_bounds(night.fits, earlier, limits)
    found += audits.check_drift(night.fits, earlier, limits)
    found += check_overdispersion(night.fits, limits)
    found += check_size_dependence(night.fits, limits)
    found += audits.check_models(night.findings)
    found += audits.check_posteriors(night.tallies, events)
    found += audits.check_keys(night.repeated)
    found += check_covariates(night.tallies, night.metrics, limits)
    found += check_curves({name: fit.design for name, fit in night.fits.items()})
    found += check_arms(window, night.metrics)
    found += check_totals(night.reconciled, limits)
    found += audits.check_coverage(night.presence, night.plan.as_of, limits)
    found += audits.check_window(window, makings(night.form, night.metrics))
    found += audits.check_left_out(night.left_out)
    found = _settled(night, found, _of_release(night))
    # A stage that is tried again replaces its own checks.
    night.checks = [check for check in night.checks if check.gate != "release"] + found
    commits.commit_checks(night)
    failed = audits.failures(found)
    if failed:
        staged = [receipt for receipts in night.staged.values() for receipt in receipts]
        raise _gate_failed("release", failed, "nothing was published", _paths(night, staged))
    return found


def _of_release(night: Night) -> str:
    """Hash what a release is made from: statistics, settings, code."""
    rests_on = release_input(night.plan.as_of, night.days, night.settings)
    return digest([rests_on, night.plan.settings_digest, night.plan.kernel_digest])


def _settled(night: Night, found: Iterable[audits.Check], made: str) -> list[audits.Check]:
    """Leave out the checks that are off, and let pass the failed ones that a person accepts.

    ``made`` is the fingerprint of what was checked.
    """
    checks, granted = [], list[Acceptance]()
    known: dict[Key, Acceptance] | None = None
    for check in audits.left_on(found, night.settings.audits.off):
        if check.status == "fail" and check.name not in INTEGRITY:
            known = audits.read_acceptances(night.lake) if known is None else known
            by = known.get(Key(check.gate, check.name, check.subject, made))
            asked = night.accept
            if by is None and asked and asked.covers(check, night.plan.as_of, night.stock.ledger):
                by = asked.grant(check, made, night.run_id)
                granted.append(by)
            check = check if by is None else accepted(check, by)
        checks.append(check)
    write_acceptances(night.lake, granted, night.run_id)
    return checks


def _paths(night: Night, staged: Sequence[Receipt]) -> list[str]:
    return [night.lake.path(receipt.table, receipt.path) for receipt in staged]


def _gate_failed(
    gate: str, failed: list[audits.Check], effect: str, staged: Sequence[str]
) -> GateError:
    shown = [f"{check.name} of {check.subject}: {check.message}" for check in failed[:5]]
    acceptable = [check for check in failed if check.name not in INTEGRITY]
    remedy = (
        "look at the table quarantine, correct the input or change the threshold under audits, "
        "and run again; readers stay on the old release"
    )
    if acceptable:
        remedy += f"; or take it as it is: --accept-audit {acceptable[0].name} --reason TEXT"
    return GateError(
        "; ".join([f"{len(failed)} check(s) of the {gate} gate failed", *shown, effect]),
        where={"staged": _some(staged)} if staged else None,
        expected="every check within its threshold; `hbpipe audit --checks` shows all of them",
        remedy=remedy,
    )


def _some(paths: Sequence[str]) -> str:
    """Name the first files, and tell how many there are beside them."""
    more = f" and {len(paths) - 3} more, until the next vacuum" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more
