"""The state of a lake: its current release, its days and files, and which releases are stale."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.run.history import read_history
from hbpipe.run.ledger import read_days, read_files
from hbpipe.run.runs import read_runs
from hbpipe.run.stale import stale_releases, summary

#: So many of the newest runs are shown.
_RUNS = 5


def describe_status(lake: Lake, settings: Settings) -> dict[str, Any]:
    """Collect the state of a lake, as the environment of the settings has it, JSON-like."""
    environment, history = settings.environment, read_history(lake)
    release, pin = history.current(environment), history.pin(environment)
    days, files = read_days(lake), read_files(lake)
    stale = stale_releases(lake, settings, days)
    held = [entry for entry in days.values() if entry.state == "held"]
    return {
        "lake": lake.uri,
        "environment": environment,
        "release": None
        if release is None
        else {
            "release": release["release"],
            "as_of": release["as_of"].isoformat(),
            "released_at": release["released_at"].isoformat(),
            "run_id": release["run_id"],
        },
        "pinned": None if pin is None else pin.to_dict(),
        "stale": [one.to_dict() for one in stale if one.kind == "input"],
        "stale_in_words": summary(stale),
        "days": dict(Counter(entry.state for entry in days.values())),
        "held": {to_date(entry.day).isoformat(): entry.reason for entry in held},
        "files": dict(Counter(entry.state for entry in files.values())),
        "rows": {
            name: sum(entry.totals()[name] for entry in files.values())
            for name in ("accepted", "rejected", "repeated", "pending")
        },
        "runs": [run.to_dict() for run in read_runs(lake)[: -_RUNS - 1 : -1]],
    }


def status_text(found: dict[str, Any]) -> str:
    """Write the state for a terminal."""
    release = found["release"]
    shown = (
        "no release yet"
        if release is None
        else f"release {release['release']} of {release['as_of']}, at {release['released_at']}"
    )
    lines = [f"{found['lake']} ({found['environment']}): {shown}"]
    if found["pinned"] is not None:
        pin = found["pinned"]
        lines.append(f"pinned until the next promote: {pin['by']}, {pin['at']}: {pin['reason']}")
    for name in ("days", "files", "rows"):
        counts = ", ".join(f"{key} {count:,}" for key, count in sorted(found[name].items()))
        lines.append(f"{name}: {counts or 'none'}")
    lines += [f"held {day}: {reason}" for day, reason in sorted(found["held"].items())]
    lines += [f"stale {words}" for words in found["stale_in_words"]]
    lines += map(_run_line, found["runs"])
    return "\n".join(lines)


def _run_line(run: dict[str, Any]) -> str:
    """Tell of one run: its number, what it did for which day, and how it ended."""
    story = f"{run['kind']} of {run['as_of']}" if run["as_of"] else run["kind"]
    where = f", pid {run['pid']} on {run['host']}" if run["state"] == "running" else ""
    line = f"run {run['run_id']} (attempt {run['attempt']}): {story}, {run['state']}{where}"
    return f"{line}: {run['error']}" if run["error"] else line
