"""Gauges for Prometheus: what they are, and what a run says of each.

A batch job is gone when it could be scraped, so its gauges are left in a file or at a Pushgateway.
What a run does not know, such as the last success of a run that failed, stays as it was.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hbpipe.data.clock import to_number
from hbpipe.errors import HbpipeError
from hbpipe.observe.record import Record
from hbpipe.run.night import Night
from hbpipe.run.observe import NIGHT, REBUILDS
from hbpipe.run.stale import stale_releases

#: What makes a release stale.
STALE = ("input", "settings", "code", "stores")

logger = logging.getLogger(__name__)

#: Gauge to the value of its own label, empty where it has none, to what was measured.
Values = Mapping[str, Mapping[str, float]]

#: Gauge to its own label, if it has one beside pipeline and environment, and its meaning.
GAUGES = {
    "hbpipe_last_success_timestamp_seconds": ("", "when a run last ended without an error"),
    "hbpipe_last_run_timestamp_seconds": ("", "when a run last ended, however it did"),
    "hbpipe_exit_status": ("", "the exit code of the last run"),
    "hbpipe_duration_seconds": ("", "how long the last run took"),
    "hbpipe_stage_duration_seconds": ("stage", "how long each stage of the last run took"),
    "hbpipe_stage_retries": ("", "how often the last run tried a stage again"),
    "hbpipe_latest_published_day_seconds": (
        "",
        "the end of the newest business day that readers see, in Unix time",
    ),
    "hbpipe_days_processed": ("", "business days that the last run processed"),
    "hbpipe_days_held": ("", "business days that the data gate holds back"),
    "hbpipe_stale_releases": (
        "kind",
        "releases that would come out otherwise today, by what changed",
    ),
    "hbpipe_rows": ("kind", "rows that the last run read, by what became of them"),
    "hbpipe_audit_failures": ("check", "checks of the last run that failed"),
    "hbpipe_audit_warnings": ("check", "checks of the last run that warn"),
    "hbpipe_rebuild_timestamp_seconds": (
        "",
        "when a backfill or a restatement last ended, however it did",
    ),
    "hbpipe_rebuild_exit_status": ("", "the exit code of the last backfill or restatement"),
    "hbpipe_rebuild_nights": (
        "outcome",
        "nights of the last backfill or restatement, by what became of them",
    ),
}


def values_of(record: Record) -> Values:
    """Return the gauges that a run knows when it has ended; none where it is of another kind.

    A backfill that went well says nothing of whether last night did, and has gauges of its own.
    What it has made of the lake, such as stale releases, is the same for both.
    """
    if record.kind in REBUILDS:
        return _of_rebuild(record)
    return _of_run(record) if record.kind == NIGHT else {}


def _of_run(record: Record) -> dict[str, Mapping[str, float]]:
    known: dict[str, Mapping[str, float]] = {
        "hbpipe_last_run_timestamp_seconds": {"": _ended(record)},
        "hbpipe_exit_status": {"": record.exit_status},
        "hbpipe_duration_seconds": {"": record.seconds},
        "hbpipe_stage_retries": {"": record.retries},
    }
    if record.error is None:
        known["hbpipe_last_success_timestamp_seconds"] = {"": _ended(record)}
    if record.night is not None:
        known |= _of_night(record, record.night)
    return known


def _of_rebuild(record: Record) -> dict[str, Mapping[str, float]]:
    failed = len(record.failed_nights)
    known: dict[str, Mapping[str, float]] = {
        "hbpipe_rebuild_timestamp_seconds": {"": _ended(record)},
        "hbpipe_rebuild_exit_status": {"": record.exit_status},
        "hbpipe_rebuild_nights": {"published": len(record.nights) - failed, "failed": failed},
    }
    return known if record.last is None else known | _of_lake(record, record.last)


def _ended(record: Record) -> float:
    return (record.ended or datetime.now(UTC)).timestamp()


def _of_night(record: Record, night: Night) -> dict[str, Mapping[str, float]]:
    known: dict[str, Mapping[str, float]] = {
        "hbpipe_rows": record.rows or {},
        "hbpipe_days_processed": {"": len(night.results)},
        **_of_lake(record, night),
    }
    if record.stages:
        known["hbpipe_stage_duration_seconds"] = {
            run.name: run.seconds for run in record.stages if run.seconds is not None
        }
    if night.checks:
        # A check that passed is a zero: what is not said stays as it was.
        names = dict.fromkeys((check.name for check in night.checks), 0)
        failed = Counter(check.name for check in record.checks("fail"))
        warned = Counter(check.name for check in record.checks("warn"))
        known["hbpipe_audit_failures"] = {**names, **failed}
        known["hbpipe_audit_warnings"] = {**names, **warned}
    return known


def _of_lake(record: Record, night: Night) -> dict[str, Mapping[str, float]]:
    """Tell what the lake is like after a night; less where the run, or the lake, failed."""
    known: dict[str, Mapping[str, float]] = {"hbpipe_days_held": {"": len(record.held())}}
    published = any(error is None for error in record.nights.values())
    if record.error is not None and not published:
        return known
    seen = _seen(record)
    if seen is not None:
        end = night.form.calendar.end_of(to_number(seen["as_of"]))
        known["hbpipe_latest_published_day_seconds"] = {"": end.timestamp()}
    known["hbpipe_stale_releases"] = _stale(night)
    return known


def _stale(night: Night) -> dict[str, float]:
    """Count the stale releases; of a kind that has none, zero."""
    ledger = night.days or night.stock.ledger
    found = Counter(one.kind for one in stale_releases(night.lake, night.settings, ledger))
    return {kind: found[kind] for kind in STALE}


def _seen(record: Record) -> Mapping[str, Any] | None:
    """Return what readers see; None where the lake does not say."""
    try:
        return record.seen_by_readers()
    except (HbpipeError, OSError) as error:
        logger.warning("hbpipe_latest_published_day_seconds stays as it was: %s", error)
        return None


class Gauges(Collector):
    """Known gauges of one pipeline and environment, over what was known before.

    Parameters
    ----------
    pipeline, environment
        Whose gauges they are: the labels that every gauge has.
    values
        What is known now.
    before
        What an earlier run left. Of others all of it is kept, of this pipeline and environment
        the gauges of which nothing is known now.
    """

    def __init__(
        self, pipeline: str, environment: str, values: Values, before: Iterable[Metric] = ()
    ) -> None:
        self._owner = {"pipeline": pipeline, "environment": environment}
        self._values = values
        self._before = {family.name: family for family in before}

    def collect(self) -> Iterator[Metric]:
        """Give the gauges, in the order of ``GAUGES``."""
        for name, (label, meaning) in GAUGES.items():
            family = Metric(name, meaning, "gauge")
            if name in self._before:
                kept = self._before[name].samples
                family.samples += [s for s in kept if self._keeps(name, s.labels)]
            for key, value in self._values.get(name, {}).items():
                family.add_sample(name, {**self._owner, **({label: key} if label else {})}, value)
            if family.samples:
                yield family

    def _keeps(self, name: str, labels: Mapping[str, str]) -> bool:
        return name not in self._values or not self._owner.items() <= labels.items()

    def registry(self) -> CollectorRegistry:
        """Return a registry of these gauges alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry
