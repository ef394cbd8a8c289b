"""Promote and rollback: people move the readers of an environment, by appending a pointer.

No data moves. What changes is decided in the commit, on the pointers and releases of that moment,
so of two people who act at once each moves what the other has left. Nobody needs the lease: readers
can be moved while a night runs, or upkeep (``keeping``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hbpipe.data.lake import Lake
from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError, LakeError
from hbpipe.run.history import (
    History,
    Release,
    history_of,
    is_expiring,
    number_of,
    read_history,
    read_releases,
)
from hbpipe.run.pointers import Pointer, append_pointer, whoami
from hbpipe.run.releases import BY_AS_OF


@dataclass(frozen=True)
class Move:
    """What readers of an environment saw, and what they see after a promote or a rollback.

    ``before`` is None in an environment that had no release; ``pin`` is what held readers.
    """

    environment: str
    action: str
    before: Release | None
    after: Release
    pin: Pointer | None
    recorded: bool

    @property
    def changes(self) -> bool:
        """Tell whether anything changes: the release, or whether readers follow the nights."""
        same = self.before is not None and self.before["release"] == self.after["release"]
        return not same or (self.action == "rollback") != (self.pin is not None)

    def to_dict(self) -> dict[str, Any]:
        """Describe the move for ``--json``."""
        return {
            "environment": self.environment,
            "action": self.action,
            "from": None if self.before is None else _shown(self.before),
            "to": _shown(self.after),
            "pinned": self.action == "rollback",
            "unpinned": self.action == "promote" and self.pin is not None,
            "changes": self.changes,
            "recorded": self.recorded,
        }

    def text(self) -> str:
        """Write the move for a terminal."""
        to = f"{self.after['release']} (as of {self.after['as_of']})"
        if not self.changes:
            return f"Nothing changes: readers of {self.environment} see {to} already"
        old = self.before
        was = "no release" if old is None else f"{old['release']} (as of {old['as_of']})"
        lines = [f"Readers of {self.environment}: {was} → {to}"]
        if old is not None and self.after["as_of"] < old["as_of"]:
            back = (old["as_of"] - self.after["as_of"]).days
            lines.append(f"The as-of day moves back by {back} day(s)")
        if self.action == "rollback":
            lines.append("Pinned until the next promote: nights go on publishing, unseen")
        elif self.pin is not None:
            lines.append(f"The pin of {self.pin.told()} ends")
        return "\n".join([*lines, "Recorded" if self.recorded else "Nothing was recorded: dry run"])


def promote(
    lake: Lake,
    name: str,
    *,
    to: str,
    reason: str,
    source: str | None = None,
    create: bool = False,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Move:
    """Make a release of one environment another's; nights published there later follow it.

    Parameters
    ----------
    name
        The release; with ``source`` also ``current`` or ``previous``.
    to
        Whose readers shall see it.
    reason
        Recorded with the pointer.
    source
        The environment that has the release; by default any, for names are unique in a lake.
    create
        Take ``to`` for the name of a new environment, however near it is to another's.
    dry_run
        Only tell what would change.
    now
        The moment that is recorded; by default the present.

    Raises
    ------
    LakeError
        There is no such release or environment, it is about to expire, or files of it are missing.
    ConfigError
        The reason is empty, or ``to`` is no name.
    """
    _check_target(read_history(lake), to, create)

    def target(history: History) -> Release:
        return history.named(name) if source is None else history.find(source, name)

    return _move(lake, "promote", to, target, reason, dry_run, now)


def rollback(
    lake: Lake,
    environment: str,
    name: str = "previous",
    *,
    reason: str,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Move:
    """Show readers an older release, and pin it until the next promote.

    Parameters
    ----------
    name
        A release of the environment; by default the one before what readers see.
    reason, dry_run, now
        As ``promote``.

    Raises
    ------
    LakeError
        There is no such release or environment, files of the release are missing, or readers were
        moved by somebody else meanwhile, so that the one before is another than it was.
    ConfigError
        The reason is empty.
    """
    seen = read_history(lake).find(environment, "current")["release"]

    def target(history: History) -> Release:
        now_seen = history.find(environment, "current")["release"]
        if name == "previous" and now_seen != seen:
            raise LakeError(
                f"readers of {environment!r} were moved from {seen} to {now_seen} meanwhile",
                where={"lake": lake.uri},
                remedy="look again with --dry-run, or name the release to go back to",
            )
        return history.find(environment, name)

    return _move(lake, "rollback", environment, target, reason, dry_run, now)


def _move(
    lake: Lake,
    action: str,
    environment: str,
    target: Callable[[History], Release],
    reason: str,
    dry_run: bool,
    now: datetime | None,
) -> Move:
    if not reason.strip():
        raise ConfigError(f"{action} without a reason", remedy="say why with --reason")
    look = partial(_look, action=action, environment=environment, target=target)
    move = look(read_history(lake))
    require_readable(lake, move.after)
    if dry_run or not move.changes:
        return move
    moved: list[Move] = []

    def decide(pointers: tuple[Pointer, ...]) -> Pointer | None:
        # Releases are read after the pointers that the commit is made against.
        history = history_of(lake, read_releases(lake), pointers)
        moved[:] = [look(history)]
        return _pointer(history, moved[0], reason, now) if moved[0].changes else None

    landed = append_pointer(lake, decide)
    return replace(moved[0], recorded=landed is not None)


def _look(
    history: History, *, action: str, environment: str, target: Callable[[History], Release]
) -> Move:
    after = target(history)
    if is_expiring(after):
        raise _ending(history, after)
    return Move(
        environment=environment,
        action=action,
        before=_seen(history, environment),
        after=after,
        pin=history.pin(environment),
        recorded=False,
    )


def _ending(history: History, row: Release) -> LakeError:
    return LakeError(
        f"release {row['release']} is about to expire: `hbpipe vacuum` has begun to end it",
        where={"lake": history.lake},
        expected="a release that stays",
        remedy="choose another; or let vacuum end, publish the day again with `hbpipe backfill "
        f"--start {row['as_of']} --end {row['as_of']}`, and choose that",
    )


def _seen(history: History, environment: str) -> Release | None:
    """Return what readers see; None too where it is lost, for then a promote is the way out."""
    try:
        return history.current(environment)
    except LakeError:
        return None


def _pointer(history: History, move: Move, reason: str, now: datetime | None) -> Pointer:
    return Pointer(
        number=max((pointer.number for pointer in history.pointers), default=0) + 1,
        environment=move.environment,
        release=move.after["release"],
        action=move.action,
        pinned=move.action == "rollback",
        at=now or datetime.now(UTC),
        by=whoami(),
        reason=reason.strip(),
        replaces=None if move.before is None else move.before["release"],
        published=max(map(number_of, (*history.releases, *history.ended)), default=0),
    )


def _check_target(history: History, to: str, create: bool) -> None:
    """Refuse a new environment whose name looks like a misspelt one."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", to):
        raise ConfigError(
            f"{to!r} is no name of an environment",
            expected="a lower-case letter, then lower-case letters, digits, _ and -",
        )
    told = nearest(to, history.environments)
    if to not in history.environments and "did you mean" in told and not create:
        raise LakeError(
            f"no release in environment {to!r}{told}",
            where={"lake": history.lake},
            remedy="correct the name, or say --create if the environment is a new one",
        )


def require_readable(lake: Lake, row: Release) -> None:
    """Refuse a release that readers could not read: whose versions or own files have gone.

    Raises
    ------
    LakeError
        Names the table, and the first file that is missing.
    """
    for name, version in row["versions"]:
        snapshot = lake.snapshot(name, version)
        if name not in BY_AS_OF:
            continue
        files = snapshot.in_partitions([{"as_of": row["as_of"].isoformat()}]).files
        sizes = {f.path: lake.storage.size(lake.storage.path(name, f.path)) for f in files}
        missing = [path for path, size in sizes.items() if size is None]
        if missing:
            raise LakeError(
                f"{len(missing)} file(s) of the release {row['release']} are not there",
                where={"lake": lake.uri, "table": name, "file": missing[0]},
                expected="every file of a release that readers are pointed to",
                remedy="restore the file from a backup, or choose another release",
            )


def _shown(row: Release) -> dict[str, Any]:
    return {
        "release": row["release"],
        "as_of": row["as_of"].isoformat(),
        "released_at": row["released_at"].isoformat(),
        "published_in": row["environment"],
    }
