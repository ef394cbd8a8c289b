"""What was done on many days, and what of it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hbpipe.errors import GateError

#: So many days are named in an error; the report, ``status`` and the table ``audits`` have all.
_SHOWN = 5


@dataclass(frozen=True)
class RebuildReport:
    """What was done on many days.

    ``released`` and ``failed`` are nights; ``held`` are days that the data gate holds back,
    ``stopped`` tells whether they stop a night, or are left out of it.
    """

    run_id: str
    measured: int
    released: list[dict[str, Any]]
    failed: list[dict[str, str]]
    held: list[dict[str, str]]
    stopped: bool
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return {name: value for name, value in vars(self).items() if name != "stopped"}

    def text(self) -> str:
        """Write the report for a terminal."""
        lines = [
            f"{self.measured} day(s) measured, {len(self.released)} release(s) published, "
            f"{len(self.failed)} failed"
        ]
        lines += [f"  {one['as_of']}  failed: {one['reason']}" for one in self.failed]
        lines += [f"  {one['day']}  held: {one['reason']}" for one in self.held]
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)

    def failure(self) -> GateError | None:
        """Return what the whole has failed of; None where no gate stopped anything."""
        if self.failed:
            return _gates_failed("night", [one["as_of"] for one in self.failed])
        if self.held and self.stopped:
            return _gates_failed("day", [one["day"] for one in self.held])
        return None


def _gates_failed(what: str, days: Sequence[str]) -> GateError:
    more = f" and {len(days) - _SHOWN} more" if len(days) > _SHOWN else ""
    return GateError(
        f"{len(days)} {what}(s) failed their gate: {', '.join(days[:_SHOWN])}{more}",
        expected=f"{what}s that pass; all others are done",
        remedy="see `hbpipe audit --checks --as-of DAY`, repair the input or accept what was "
        "found, then `hbpipe backfill --reprocess failed` on these days",
    )
