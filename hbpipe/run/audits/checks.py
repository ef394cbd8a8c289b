"""The result of a check: a value, a threshold, a status and a sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from hbpipe.data.audit_tables import AUDITS
from hbpipe.data.clock import to_date

#: What a check may come to, the worst first.
STATUSES = ("fail", "accepted", "warn", "pass")


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    gate: str  # data, release
    name: str
    subject: str  # a day, a metric, or what else was looked at
    status: str  # pass, warn, fail; accepted: failed, and a person has taken it as it is
    value: float
    threshold: float
    message: str


def at_most(
    gate: str, name: str, subject: str, value: float, limit: float, message: str, severity: str
) -> Check:
    """Check ``value <= limit``; ``severity`` (warn or fail) is the status where it is not."""
    status = "pass" if value <= limit else severity
    return Check(gate, name, subject, status, float(value), float(limit), message)


def banded(
    gate: str,
    name: str,
    subject: str,
    value: float,
    limits: tuple[float | None, float | None],
    message: str,
) -> list[Check]:
    """Check a value against two limits, above which it warns and fails; None for no such limit.

    The threshold of the result is the limit that was passed, or else the first. Without any limit
    there is no check.
    """
    warn, fail = limits
    if fail is not None and value > fail:
        return [Check(gate, name, subject, "fail", float(value), float(fail), message)]
    limit = fail if warn is None else warn
    if limit is None:
        return []
    status = "pass" if warn is None or value <= warn else "warn"
    return [Check(gate, name, subject, status, float(value), float(limit), message)]


def failures(checks: Iterable[Check]) -> list[Check]:
    """Return the failed checks."""
    return [check for check in checks if check.status == "fail"]


def by_severity(checks: Iterable[Check]) -> list[Check]:
    """Return the checks in the order in which a person reads them: failures first."""
    return sorted(checks, key=lambda check: STATUSES.index(check.status))


def left_on(checks: Iterable[Check], off: Collection[str]) -> list[Check]:
    """Return the checks that the settings do not switch off."""
    return [check for check in checks if check.name not in off]


def to_table(checks: Iterable[Check], as_of: int, run_id: str) -> pa.Table:
    """Turn checks into rows of ``audits``."""
    now = datetime.now(UTC)
    rows = [
        {**vars(check), "as_of": to_date(as_of), "run_id": run_id, "checked_at": now}
        for check in checks
    ]
    return pa.Table.from_pylist(rows, schema=AUDITS.schema)
