"""The release gate: posteriors, as the workers that wrote them have counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hbpipe.run.audits.checks import Check, at_most


@dataclass(frozen=True)
class PosteriorTally:
    """What a worker counts while it writes the posteriors of one shard and metric.

    A unit has a posterior for each term: ``not_finite``, ``zero_width``, ``disordered`` and
    ``outside`` count those, the others units.
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
    outside: int = 0
    repeated: int = 0


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
    "outside": (
        "posteriors",
        "posteriors_between",
        "fail",
        "posterior means are not between data and prior",
    ),
    "repeated": ("units", "posteriors_keys", "fail", "units stand twice"),
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
