"""What results were made from, as digests: equal digests mean that nothing must be done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hbpipe.config import Settings, digest
from hbpipe.data.events import EventFormat
from hbpipe.data.quantities import Metric
from hbpipe.run.ledger import DayEntry, Making
from hbpipe.run.totals import TotalsTables

#: Bumped by hand when hyperparameters or posteriors would come out otherwise.
MODEL_VERSION = 6


def format_digest(form: EventFormat) -> str:
    """Hash what decides how rows fall into days and units."""
    return digest([form.time, repr(form.calendar), form.levels, form.event_id])


def makings(form: EventFormat, metrics: Iterable[Metric]) -> dict[str, Making]:
    """Tell what the daily statistics of each metric are made with, now."""
    reading = format_digest(form)
    return {
        metric.name: Making(
            settings=digest([reading, metric.measured_by()]),
            kernel=f"{metric.family}/{metric.measured.kernel_version}",
        )
        for metric in metrics
    }


def definition(metric: Metric) -> str:
    """Hash what a number of a metric means: what is measured, and in which unit."""
    moves = () if metric.dynamics is None else (metric.dynamics.model,)
    return digest([metric.measured_by(), metric.per, metric.term_names, *moves])


def statistics_digest(form: EventFormat, metrics: Iterable[Metric]) -> str:
    """Hash every setting that decides the daily statistics."""
    return digest({name: made.settings for name, made in makings(form, metrics).items()})


def release_kernel_digest(metrics: Iterable[Metric]) -> str:
    """Hash the versions of all code that a release comes from."""
    kernels = {m.family: m.measured.kernel_version for m in metrics}
    return digest([digest(kernels), MODEL_VERSION])


def release_input(
    as_of: int, ledger: Mapping[int, DayEntry], settings: Settings, tables: str | None = None
) -> str:
    """Hash all statistics that a release may read: every done day up to its as-of day.

    ``tables`` is the digest of other tables of stores and totals than the present ones.
    """
    first = None if settings.inference.window is None else as_of - settings.inference.window + 1
    history = needs_history(settings)
    days = [
        (day, *entry.fingerprint)
        for day, entry in sorted(ledger.items())
        if day <= as_of and (history or first is None or day >= first) and entry.state != "held"
    ]
    return digest([days, TotalsTables(settings).digest(as_of) if tables is None else tables])


def needs_history(settings: Settings) -> bool:
    """Tell whether days before the window matter: for first days, or for silent stores."""
    window, silent = settings.inference.window, settings.stores.keep_silent
    since_first_seen = any(metric.calendar == "days" for metric in settings.parsed_metrics)
    return window is not None and (since_first_seen or (silent or 0) > window)
