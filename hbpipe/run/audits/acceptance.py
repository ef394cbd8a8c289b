"""Acceptance: a person takes what a check found as it is, once, for one input.

An acceptance belongs to a check, a subject, and a fingerprint of what was checked: the input and
the making of a day for the data gate, all that a release rests on for the release gate. As long as
the fingerprint is the same the check has the status ``accepted`` instead of ``fail``, on every run
and backfill; other input fails again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import NamedTuple

import pyarrow as pa

from hbpipe.data.audit_tables import ACCEPTANCES
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError
from hbpipe.run.audits.catalogue import INTEGRITY, NAMES
from hbpipe.run.audits.checks import Check
from hbpipe.run.audits.days import NEW_FILES
from hbpipe.run.ledger import DayEntry
from hbpipe.run.pointers import whoami


class Key(NamedTuple):
    """What an acceptance sticks to."""

    gate: str
    check: str
    subject: str
    fingerprint: str


@dataclass(frozen=True)
class Acceptance:
    """One row of ``acceptances``."""

    gate: str
    check: str
    subject: str
    fingerprint: str
    value: float
    threshold: float
    message: str
    reason: str
    by: str
    at: datetime
    run_id: str

    @property
    def key(self) -> Key:
        """What it sticks to."""
        return Key(self.gate, self.check, self.subject, self.fingerprint)


@dataclass(frozen=True)
class AcceptRequest:
    """The wish to accept what one check finds, as ``--accept-audit`` gives it.

    ``day`` is a business day for the data gate and an as-of day for the release gate. Without it,
    a day is accepted only if the ledger holds it for this check: it has been seen to fail.
    """

    check: str
    reason: str
    by: str
    day: date | None = None

    @classmethod
    def of(cls, check: str, reason: str, day: date | None = None) -> AcceptRequest:
        """Make a request of the user who runs this.

        Raises
        ------
        ConfigError
            There is no such check, it cannot be accepted, or no reason is given.
        """
        if check not in NAMES:
            raise ConfigError(f"there is no check {check!r}{nearest(check, NAMES)}")
        if check in INTEGRITY:
            raise ConfigError(
                f"{check} cannot be accepted: where it fails, numbers would be wrong whatever the "
                "events",
                remedy="read its message in the table audits, and report it as a fault of hbpipe",
            )
        if not reason.strip():
            raise ConfigError("an audit is accepted for a reason, and none is given")
        return cls(check, reason.strip(), whoami(), day)

    def covers(self, check: Check, as_of: int, ledger: Mapping[int, DayEntry]) -> bool:
        """Tell whether a failed check is what was meant; ``ledger`` is that of before the run."""
        if check.name != self.check:
            return False
        if check.subject == NEW_FILES:
            return True
        if check.gate == "release":
            return self.day in (None, to_date(as_of))
        if self.day is not None:
            return check.subject == self.day.isoformat()
        held = [one for one in ledger.values() if one.state == "held"]
        return any(
            to_date(one.day).isoformat() == check.subject and check.name in one.reason.split(", ")
            for one in held
        )

    def grant(self, check: Check, fingerprint: str, run_id: str) -> Acceptance:
        """Accept a failed check."""
        return Acceptance(
            gate=check.gate,
            check=check.name,
            subject=check.subject,
            fingerprint=fingerprint,
            value=check.value,
            threshold=check.threshold,
            message=check.message,
            reason=self.reason,
            by=self.by,
            at=datetime.now(UTC),
            run_id=run_id,
        )


def accepted(check: Check, by: Acceptance) -> Check:
    """Return a failed check as one that was accepted."""
    told = f"{check.message}; accepted by {by.by} on {by.at:%Y-%m-%d}: {by.reason}"
    return replace(check, status="accepted", message=told)


def read_acceptances(lake: Lake) -> dict[Key, Acceptance]:
    """Read the table ``acceptances``; empty when there is none yet."""
    found = lake.find("acceptances")
    rows = [] if found is None else found.read().to_pylist()
    return {one.key: one for one in (Acceptance(**row) for row in rows)}


def write_acceptances(lake: Lake, granted: Iterable[Acceptance], run_id: str) -> None:
    """Upsert rows of ``acceptances``."""
    rows = [vars(one) for one in granted]
    if rows:
        table = pa.Table.from_pylist(rows, schema=ACCEPTANCES.schema)
        lake.upsert("acceptances", table, ACCEPTANCES.key, run_id=run_id)
