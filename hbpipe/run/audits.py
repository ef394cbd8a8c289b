"""The two gates: checks of each day before its statistics are committed, and of the release.

A check gives a value, a threshold, and a sentence. ``fail`` stops what the gate guards; readers
stay on the old release. Every result, passed or not, becomes a row of ``audits``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from hbpipe.config import Audits
from hbpipe.data.aggregate import Account
from hbpipe.data.clock import to_date
from hbpipe.data.daily import DayResult
from hbpipe.data.rejections import FORGOTTEN
from hbpipe.data.schemas import AUDITS
from hbpipe.run.ledger import DayEntry, FileEntry, Making


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    gate: str  # data, release
    name: str
    subject: str
    status: str  # pass, warn, fail
    value: float
    threshold: float
    message: str


def at_most(
    gate: str, name: str, subject: str, value: float, limit: float, message: str, severity: str
) -> Check:
    """Check ``value <= limit``; ``severity`` (warn or fail) is the status where it is not."""
    status = "pass" if value <= limit else severity
    return Check(gate, name, subject, status, float(value), float(limit), message)


def failures(checks: Iterable[Check]) -> list[Check]:
    """Return the failed checks."""
    return [check for check in checks if check.status == "fail"]


def by_severity(checks: Iterable[Check]) -> list[Check]:
    """Return the checks in the order in which a person reads them: failures first."""
    return sorted(checks, key=lambda check: ("fail", "warn", "pass").index(check.status))


def to_table(checks: Iterable[Check], as_of: int, run_id: str) -> pa.Table:
    """Turn checks into rows of ``audits``."""
    now = datetime.now(UTC)
    rows = [
        {**vars(check), "as_of": to_date(as_of), "run_id": run_id, "checked_at": now}
        for check in checks
    ]
    return pa.Table.from_pylist(rows, schema=AUDITS.schema)


# --- the data gate ------------------------------------------------------------------------------


def check_undated(files: Iterable[FileEntry], limits: Audits) -> Check:
    """Check the share of rows without a business day in the files that are new."""
    entries = list(files)
    rows = sum(entry.rows for entry in entries)
    undated = sum(entry.undated for entry in entries)
    share = undated / rows if rows else 0.0
    return at_most(
        "data",
        "undated_share",
        "new files",
        share,
        limits.max_rejected_share,
        f"{undated} of {rows} rows of new files have no valid business day",
        "fail",
    )


def check_day(
    result: DayResult, account: Account, expected_rows: int, limits: Audits
) -> list[Check]:
    """Check one day before its statistics are committed."""
    subject = to_date(result.day).isoformat()
    found = [
        *_conserved(result, account, expected_rows),
        *_shares(_without_forgotten(account, result), limits),
    ]
    return [
        at_most("data", name, subject, value, limit, message, "fail")
        for name, value, limit, message in found
    ]


def _without_forgotten(account: Account, result: DayResult) -> Account:
    """Return an account in which rows of forgotten units are not held against the day."""
    rows = sum(one.rows for one in result.rejections if one.reason == FORGOTTEN)
    return replace(account, rejected=account.rejected - rows)


def _conserved(
    result: DayResult, account: Account, expected_rows: int
) -> list[tuple[str, float, float, str]]:
    """Compare what must be equal: files, account, statistics, metrics."""
    unsplit = [
        name for name, split in account.metrics.items() if sum(split.values()) != account.accepted
    ]
    return [
        (
            "rows_conserved",
            abs(account.rows - expected_rows),
            0,
            f"{account.rows} rows accounted for, {expected_rows} in the files",
        ),
        (
            "statistics_conserved",
            abs(result.n_events - account.accepted),
            0,
            f"statistics hold {result.n_events} events, {account.accepted} were accepted",
        ),
        (
            "metrics_conserved",
            len(unsplit),
            0,
            f"accepted rows do not split for {unsplit}" if unsplit else "every metric adds up",
        ),
    ]


def _shares(account: Account, limits: Audits) -> list[tuple[str, float, float, str]]:
    """Compare the shares of rejected and repeated rows with what is usual."""
    rows = max(account.rows, 1)
    refused = max([account.rejected, *(split["rejected"] for split in account.metrics.values())])
    return [
        (
            "rejected_share",
            refused / rows,
            limits.max_rejected_share,
            f"{refused} of {account.rows} rows rejected, by row or for one metric",
        ),
        (
            "repeated_share",
            account.repeated / rows,
            limits.max_repeated_share,
            f"{account.repeated} of {account.rows} rows repeat an event, "
            f"{account.conflicting} of them with other content",
        ),
    ]


def total_account(result: DayResult) -> Account:
    """Add up the accounts of all files of a day."""
    from hbpipe.data.daily import add_accounts

    total: Account | None = None
    for account in result.accounts.values():
        total = add_accounts(total, account)
    return total or Account()


# --- the release gate ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PosteriorTally:
    """What a worker counts while it writes the posteriors of one shard and metric.

    A unit has a posterior for each term: ``not_finite``, ``zero_width`` and ``disordered`` count
    those, the others units.
    """

    metric: str
    units: int
    posteriors: int
    n_events: int
    unidentified: int
    not_finite: int
    zero_width: int
    disordered: int
    unusable: int
    no_covariates: int = 0
    not_estimable: int = 0


#: What a tally counts, and of what: the check that it must be zero, its severity, and its meaning.
_FAULTS = {
    "unidentified": (
        "units",
        "pools_identified",
        "warn",
        "units are in pools whose data determine no prior; they have no posterior",
    ),
    "not_finite": ("posteriors", "posteriors_finite", "fail", "posteriors are not finite"),
    "zero_width": (
        "posteriors",
        "intervals_open",
        "fail",
        "intervals have no width (inference.uncertainty: plug_in makes stores of a pool without "
        "spread certain; use auto)",
    ),
    "disordered": (
        "posteriors",
        "quantiles_ordered",
        "fail",
        "posteriors have quantiles out of order",
    ),
    "unusable": ("units", "statistics_possible", "warn", "units have events but no exposure"),
}


def check_posteriors(tallies: Iterable[PosteriorTally], expected_events: int) -> list[Check]:
    """Check the posteriors of a release, metric by metric."""
    by_metric: dict[str, list[PosteriorTally]] = {}
    for tally in tallies:
        by_metric.setdefault(tally.metric, []).append(tally)
    checks = []
    for metric, parts in sorted(by_metric.items()):
        events = sum(part.n_events for part in parts)
        message = f"posteriors rest on {events} events, the window has {expected_events}"
        lost = abs(events - expected_events)
        checks.append(at_most("release", "posteriors_conserved", metric, lost, 0, message, "fail"))
        for fault, (of, name, severity, meaning) in _FAULTS.items():
            count, total = (sum(getattr(part, what) for part in parts) for what in (fault, of))
            message = f"{count} of {total} {meaning}"
            checks.append(at_most("release", name, metric, count, 0, message, severity))
    return checks


def check_fits(fits: dict[str, Any], limits: Audits) -> list[Check]:
    """Check that fits, and the integration over what they leave open, converged.

    Pools whose data determine no fit at all are left out.
    """
    checks = []
    for metric, fit in sorted(fits.items()):
        known = fit.fits.identified
        for name, converged, what in (
            ("fits_converged", fit.fits.converged, "did not converge"),
            ("integration_converged", fit.integrated, "have chains that disagree"),
        ):
            found = zip(fit.labels, converged, known, strict=True)
            failed = [label for label, fine, identified in found if identified and not fine]
            checks.append(
                at_most(
                    "release",
                    name,
                    metric,
                    len(failed) / max(len(fit.labels), 1),
                    limits.max_unconverged_share,
                    f"{len(failed)} of {len(fit.labels)} pools {what}"
                    + (f", e.g. {failed[0]}" if failed else ""),
                    "fail",
                )
            )
    return checks


def check_window(window: Sequence[DayEntry], wanted: Mapping[str, Making]) -> list[Check]:
    """Check that the days of the window are of one making, and that most of them have events.

    Days whose input has vanished keep their statistics, which other settings may have made.
    """
    filled = [day for day in window if day.units]
    others = [d for d in filled if any(d.makings.get(m) != made for m, made in wanted.items())]
    named = ", ".join(to_date(day.day).isoformat() for day in others[:3])
    empty = 1 - len(filled) / max(len(window), 1)
    return [
        at_most(
            "release",
            "one_definition",
            "window",
            len(others),
            0,
            f"{len(others)} day(s) were made with other settings or code"
            + (f", e.g. {named}: bring their input back, or --accept-missing" if others else ""),
            "fail",
        ),
        at_most(
            "release",
            "window_filled",
            "window",
            empty,
            0.5,
            f"{len(window) - len(filled)} of {len(window)} days have no events: is a row dated "
            "far after the others?",
            "warn",
        ),
    ]
