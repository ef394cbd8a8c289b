"""What a person is told when a run needs one: what happened, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from hbpipe.errors import HbpipeError, LateError
from hbpipe.observe.record import Record
from hbpipe.run.observe import NIGHT

#: So many checks, days and nights are named; the log and the table audits have all.
_SHOWN = 5


@dataclass(frozen=True)
class Notice:
    """A notification in words: a subject of one line, and the lines below it."""

    kind: str  # failure, warning, late
    subject: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """Everything, as plain text."""
        return "\n".join([self.subject, *self.lines])


def notice_of(record: Record) -> Notice | None:
    """Return what a run that has ended has to tell a person; None when all is well.

    A run that a person interrupted is no news to them.
    """
    kind = _kind(record)
    if kind is None:
        return None
    settings = record.settings
    of_day = "" if record.as_of is None else f" as of {record.as_of}"
    what = "" if record.kind == NIGHT else f" {record.kind}"
    verb = {"failure": "failed", "late": "is late", "warning": "published with warnings"}[kind]
    subject = f"hbpipe: {settings.pipeline} ({settings.environment}){what}{of_day} {verb}"
    lines = _of_error(record.error) if record.error is not None else _of_warnings(record)
    lines += [*_of_nights(record), f"run: {record.run_id}", f"readers: {_readers(record)}"]
    return Notice(kind, subject, tuple(lines))


def _kind(record: Record) -> str | None:
    if isinstance(record.error, KeyboardInterrupt):
        return None
    if isinstance(record.error, LateError):
        return "late"
    if record.error is not None:
        return "failure"
    return "warning" if record.checks("warn") or record.held() else None


def _of_error(error: BaseException) -> list[str]:
    if not isinstance(error, HbpipeError):
        return [
            f"what: {type(error).__name__}: {error}",
            "do: look at the log of the run; the next run takes up what is missing",
        ]
    where = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in error.where.items())
    found = {
        "what": f"{type(error).__name__}: {error.found}",
        "where": where,
        "expected": error.expected,
        "do": error.remedy or "look at the log of the run, and run again",
    }
    return [f"{name}: {text}" for name, text in found.items() if text]


def _of_nights(record: Record) -> list[str]:
    """Say which nights of a backfill or a restatement were not published, and why."""
    return _shortened(
        [
            f"night: {day}: {error.found if isinstance(error, HbpipeError) else error!r}"
            for day, error in sorted(record.failed_nights.items())
        ]
    )


def _shortened(told: list[str]) -> list[str]:
    more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    return [*told[:_SHOWN], *more]


def _of_warnings(record: Record) -> list[str]:
    told = [f"held: {day} ({reason})" for day, reason in sorted(record.held().items())]
    told += [
        f"check: {check.name} of {check.subject}: {check.message}"
        for check in record.checks("warn")
    ]
    return [
        *_shortened(told),
        "do: look at `hbpipe status` and the table audits; correct the input, or change the "
        "threshold under audits",
    ]


def _readers(record: Record) -> str:
    """Say what readers see now."""
    try:
        seen = record.seen_by_readers()
    except (HbpipeError, OSError) as error:
        return f"the lake cannot be read ({type(error).__name__})"
    if seen is None:
        return "no release yet"
    released = record.released
    new = released is not None and released["release"] == seen["release"]
    return f"{'' if new else 'still '}release {seen['release']}, as of {seen['as_of']}"
