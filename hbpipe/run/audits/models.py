"""The release gate: whether the models fit, as the table ``diagnostics`` says in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hbpipe.run.audits.checks import Check

#: Checks of the model that are audits of the same name; the others have audits of their own.
AUDITED = ("pit", "prior_shape", "calibration", "outliers", "next_day")
#: What a finding may come to, the worst first.
_STATUSES = ("fail", "warn", "ok", "not_applicable")


@dataclass(frozen=True)
class Finding:
    """What a check of the model found in a pool, by its number, or in all of them: a row.

    ``values`` are what the check has beside its one value: see README.md of the tables.
    """

    check: str
    pool: int | None
    status: str
    message: str
    value: float | None = None
    threshold: float | None = None
    n_groups: int | None = None
    values: Sequence[float] | None = None


def check_models(findings: Mapping[str, Sequence[Finding]]) -> list[Check]:
    """Make one result of each check and metric: its worst row, that of all pools before others."""
    checks = []
    for metric, rows in sorted(findings.items()):
        for name in AUDITED:
            found = [row for row in rows if row.check == name and row.value is not None]
            if not found:
                continue
            worst = min(found, key=_order)
            status = "pass" if worst.status == "ok" else worst.status
            value, threshold = worst.value or 0.0, worst.threshold or 0.0
            checks.append(Check("release", name, metric, status, value, threshold, worst.message))
    return checks


def _order(row: Finding) -> tuple[int, bool, float]:
    """Order rows by status; then that of all pools, then those most above their threshold."""
    value, threshold = row.value or 0.0, row.threshold or 0.0
    beyond = value / threshold if threshold > 0 else value
    return _STATUSES.index(row.status), row.pool is not None, -beyond
