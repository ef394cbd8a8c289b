"""The history of a lake: every release and every pointer, and what readers saw at any moment.

What readers of an environment see follows from the two tables by one rule (``History.current``):
without a pointer, the newest release of the latest as-of day that was published there; after a
rollback, exactly the release pointed at; after a promote, the promoted release or what was
published there since, whichever has the later as-of day. A release that has expired is none of
them: its row stays, its files may be gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hbpipe.data.lake import Lake
from hbpipe.data.spelling import nearest
from hbpipe.errors import LakeError
from hbpipe.run.pointers import Pointer, pointer_table, to_pointers

#: A row of ``releases``.
Release = dict[str, Any]


def newest(rows: Iterable[Release]) -> Release | None:
    """Return the newest release of the latest as-of day among some; None of none."""
    return max(rows, key=order, default=None)


def order(row: Release) -> tuple[Any, int]:
    """Return what orders releases: the as-of day, then the number among those of the day."""
    return row["as_of"], int(row["release"].rpartition(".")[2])


def number_of(row: Release) -> int:
    """Return the place of a release among all of its lake; 0 where it was not yet recorded."""
    return row.get("number") or 0


def is_expired(row: Mapping[str, Any]) -> bool:
    """Tell whether retention, or a store that was forgotten, has ended a release."""
    return row.get("expired_at") is not None


def is_expiring(row: Mapping[str, Any]) -> bool:
    """Tell whether upkeep is about to end a release; readers can still read it."""
    return row.get("expiring_since") is not None


def require_kept(lake: str, row: Mapping[str, Any]) -> None:
    """Refuse a release that has expired: its files may be gone.

    Raises
    ------
    LakeError
        Says since when, why, and how to publish its day again.
    """
    if is_expired(row):
        raise LakeError(
            f"release {row['release']} expired on {row['expired_at']:%Y-%m-%d}: {row['note']}",
            where={"lake": lake},
            expected="a release whose expired_at is null: see `hbpipe read releases`",
            remedy=f"`hbpipe backfill --start {row['as_of']} --end {row['as_of']}` publishes its "
            "day again, from the events as they are now",
        )


@dataclass(frozen=True)
class History:
    """Releases and pointers of a lake as they stood at one moment, each oldest first.

    ``ended`` are releases that had expired by then.
    """

    lake: str
    releases: tuple[Release, ...]
    pointers: tuple[Pointer, ...]
    ended: tuple[Release, ...] = ()

    @property
    def environments(self) -> list[str]:
        """Every environment that has a release."""
        named = {row["environment"] for row in (*self.releases, *self.ended)}
        return sorted(named | {pointer.environment for pointer in self.pointers})

    def before(self, moment: datetime) -> History:
        """Return the history as it stood just before a moment, aware.

        What has expired since is there as it was; whoever reads it is told so by ``read_of``.
        """
        there = [row for row in (*self.releases, *self.ended) if row["released_at"] < moment]
        ended = [row for row in there if is_expired(row) and row["expired_at"] < moment]
        gone = {row["release"] for row in ended}
        return replace(
            self,
            releases=tuple(
                sorted((row for row in there if row["release"] not in gone), key=number_of)
            ),
            ended=tuple(ended),
            pointers=tuple(pointer for pointer in self.pointers if pointer.at < moment),
        )

    def of(self, environment: str) -> list[Release]:
        """List the releases of an environment: published in it, or promoted to it."""
        pointed = {p.release for p in self.pointers if p.environment == environment}
        return [
            row
            for row in self.releases
            if row["environment"] == environment or row["release"] in pointed
        ]

    def pointer(self, environment: str) -> Pointer | None:
        """Return the pointer that holds in an environment."""
        own = [pointer for pointer in self.pointers if pointer.environment == environment]
        return own[-1] if own else None

    def pin(self, environment: str) -> Pointer | None:
        """Return the rollback that pins an environment; None where readers follow the nights."""
        pointer = self.pointer(environment)
        return pointer if pointer is not None and pointer.pinned else None

    def current(self, environment: str) -> Release | None:
        """Return what readers of an environment see; None when it has no release.

        Raises
        ------
        LakeError
            A pointer names a release that the lake does not have.
        """
        pointer = self.pointer(environment)
        since = -1 if pointer is None else pointer.published
        published = [
            row
            for row in self.releases
            if row["environment"] == environment and number_of(row) > since
        ]
        if pointer is None:
            return newest(published)
        target = [row for row in self.releases if row["release"] == pointer.release]
        # A promoted release may have gone when its time was over; one that readers see may not.
        if not target and (pointer.pinned or not published):
            raise self._lost(pointer)
        return target[0] if pointer.pinned else newest([*target, *published])

    def previous(self, environment: str) -> Release | None:
        """Return the release before the current one; None when there is none."""
        current = self.current(environment)
        return None if current is None else self.preceding(environment, current)

    def preceding(self, environment: str, release: Release) -> Release | None:
        """Return the release before another in an environment; None when there is none.

        That is the newest of the releases older than it, as-of day first, that nobody has rolled
        back from: one that was taken from readers once does not come back unasked.
        """
        left: set[str | None] = set()
        for pointer in self.pointers:
            if pointer.environment == environment:
                left.discard(pointer.release)
                left |= {pointer.replaces} if pointer.action == "rollback" else set()
        return newest(
            row
            for row in self.of(environment)
            if order(row) < order(release) and row["release"] not in left
        )

    def find(self, environment: str, name: str) -> Release:
        """Return a release of an environment by its name, or as ``current`` or ``previous``.

        Raises
        ------
        LakeError
            There is no such release in the environment, it has expired, or there is no such
            environment.
        """
        self.require(environment)
        if name in ("current", "previous"):
            row = self.current(environment) if name == "current" else self.previous(environment)
            if row is None:
                raise LakeError(
                    f"no {name} release in environment {environment!r}", where={"lake": self.lake}
                )
            return row
        own = self.of(environment)
        for row in own:
            if row["release"] == name:
                return row
        self._refuse_ended(name)
        elsewhere = [row["environment"] for row in self.releases if row["release"] == name]
        if elsewhere:
            raise LakeError(
                f"no release {name!r} in {environment!r}: it is one of {elsewhere[0]!r}",
                where={"lake": self.lake},
                remedy=f"read it there, or `hbpipe promote {name} --to {environment}`",
            )
        raise self._unknown(f"no release {name!r} in {environment!r}", name, own)

    def anywhere(self, environment: str, name: str) -> Release:
        """Return a release of any environment by its name; ``current`` ones of this environment.

        Raises
        ------
        LakeError
            As ``find`` and ``named``.
        """
        relative = name in ("current", "previous")
        return self.find(environment, name) if relative else self.named(name)

    def named(self, name: str) -> Release:
        """Return the release of this name, of whichever environment.

        Raises
        ------
        LakeError
            There is none, or it has expired.
        """
        for row in self.releases:
            if row["release"] == name:
                return row
        self._refuse_ended(name)
        raise self._unknown(f"no release {name!r}", name, self.releases)

    def require(self, environment: str) -> None:
        """Refuse an environment that has no release.

        Raises
        ------
        LakeError
            With the nearest environment that has one.
        """
        if environment not in self.environments:
            known = nearest(environment, self.environments) if self.environments else ""
            raise LakeError(
                f"no release in environment {environment!r}{known}",
                where={"lake": self.lake},
                remedy="publish one with `hbpipe run`",
            )

    def _refuse_ended(self, name: str) -> None:
        for row in self.ended:
            if row["release"] == name:
                require_kept(self.lake, row)

    def _lost(self, pointer: Pointer) -> LakeError:
        return LakeError(
            f"pointer {pointer.number} of {pointer.environment!r} names the release "
            f"{pointer.release!r}, which is not there",
            where={"lake": self.lake},
            expected="a row of the table releases",
            remedy="promote another release",
        )

    def _unknown(self, found: str, name: str, rows: Iterable[Release]) -> LakeError:
        names = [row["release"] for row in sorted(rows, key=order)]
        told = nearest(name, names)
        if "did you mean" not in told:  # of names that are nowhere near, the newest will do
            told = f"; the newest is {names[-1]!r}" if names else ""
        return LakeError(
            f"{found}{told}",
            where={"lake": self.lake},
            remedy="list them with `hbpipe read releases`",
        )


def read_history(lake: Lake) -> History:
    """Read releases and pointers as they stood at one moment.

    Pointers are looked at before and after: had one landed between, a release that it hides might
    be shown, which nobody ever saw.
    """
    while True:
        version = lake.version("pointers")
        pointers = to_pointers(pointer_table(lake, version))
        rows = read_releases(lake)
        if lake.version("pointers") == version:
            return history_of(lake, rows, pointers)


def history_of(lake: Lake, rows: Iterable[Release], pointers: tuple[Pointer, ...]) -> History:
    """Make a history of rows of ``releases``, those that have expired apart."""
    every = list(rows)
    return History(
        lake.uri,
        releases=tuple(row for row in every if not is_expired(row)),
        pointers=pointers,
        ended=tuple(row for row in every if is_expired(row)),
    )


def read_releases(lake: Lake) -> tuple[Release, ...]:
    """Read every release of every environment, oldest first, those that have expired too."""
    found = lake.find("releases")
    return () if found is None else tuple(sorted(found.read().to_pylist(), key=number_of))
