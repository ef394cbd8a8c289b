"""The release gate: the days that a release rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hbpipe.data.clock import to_date
from hbpipe.run.audits.checks import Check, at_most
from hbpipe.run.ledger import DayEntry, Making


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


def check_left_out(held: Sequence[DayEntry]) -> list[Check]:
    """Warn of the days that a release leaves out because they are held; nothing without any."""
    if not held:
        return []
    named = ", ".join(f"{to_date(day.day)} ({day.reason})" for day in held)
    story = f"released without held days: {named}"
    return [at_most("release", "days_left_out", "window", len(held), 0, story, "warn")]
