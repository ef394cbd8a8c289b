"""Releases: rows that name one version of every table, so that readers never see half a night."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from hbpipe.data.filters import Condition
from hbpipe.data.lake import Lake
from hbpipe.data.snapshot import Snapshot
from hbpipe.errors import ConfigError, LakeError
from hbpipe.run.history import (
    History,
    Release,
    newest,
    number_of,
    order,
    read_history,
    read_releases,
    require_kept,
)
from hbpipe.run.pointers import pointer_table
from hbpipe.run.release_table import RELEASES

#: Tables whose versions a release names, in the order in which they are committed.
RELEASED = (
    "files",
    "days",
    "statistics",
    "quarantine",
    "hyperparameters",
    "fits",
    "diagnostics",
    "posteriors",
    "new_stores",
    "audits",
)
#: Of these a release shows its own as-of day only; the others are shown whole.
BY_AS_OF = ("hyperparameters", "fits", "diagnostics", "posteriors", "new_stores")


def releases(lake: Lake, environment: str) -> list[Release]:
    """List the releases that an environment has, published or promoted there, oldest first."""
    return read_history(lake).of(environment)


def current_release(lake: Lake, environment: str) -> Release | None:
    """Return what readers of an environment see; None when it has no release yet."""
    return read_history(lake).current(environment)


def latest_release(lake: Lake, environment: str, as_of: date) -> Release | None:
    """Return the newest release of an as-of day, whether or not readers see it; None without."""
    return newest(row for row in releases(lake, environment) if row["as_of"] == as_of)


def publish_release(lake: Lake, row: Release) -> Release:
    """Append one row to ``releases``: the moment at which readers see the night.

    Returns
    -------
    dict
        The row with its name (``2026-01-31.2`` is the second of its day) and its number among all
        releases of the lake; both are decided in the commit, so that no two runs share them.
    """
    landed: list[Release] = []

    def named(present: pa.Table) -> pa.Table:
        rows = present.select(["release", "as_of", "number"]).to_pylist()
        number = max(map(number_of, rows), default=0) + 1
        landed[:] = [{**row, "release": _next_name(rows, row["as_of"]), "number": number}]
        return pa.Table.from_pylist(landed, schema=RELEASES.schema)

    lake.upsert("releases", named, RELEASES.key, run_id=row["run_id"])
    return landed[0]


def next_name(lake: Lake, as_of: date) -> str:
    """Name the release of a day that would be published now."""
    return _next_name(read_releases(lake), as_of)


def _next_name(rows: Iterable[Release], as_of: date) -> str:
    """Name the next release of a day: ``2026-01-31.2`` is its second."""
    last = max((order(row)[1] for row in rows if row["as_of"] == as_of), default=0)
    return f"{as_of.isoformat()}.{last + 1}"


def read(
    lake: str | os.PathLike[str] | Lake,
    table: str,
    *,
    environment: str = "prod",
    columns: Sequence[str] | None = None,
    release: str | None = None,
    as_of: date | str | None = None,
    published_before: datetime | str | None = None,
) -> pa.Table:
    """Read a table as a release shows it.

    Parameters
    ----------
    lake
        The lake's path; a ``Lake`` where it needs storage options.
    table
        ``posteriors``, ``hyperparameters``, ``fits``, ``new_stores``, ``statistics``, ...; also
        ``releases`` and ``pointers``, which tell of all releases.
    environment
        Whose current release to follow.
    columns
        Columns to read; by default all.
    release
        A release by name instead of the current one; or ``previous``, the one before it.
    as_of
        The newest release of this as-of day, even where a pin hides it from other readers.
    published_before
        What readers saw just before this moment, pointers of that time included; with ``as_of``
        the newest release of the day that was there. Aware: a datetime with a zone, or ISO text
        with an offset.

    Raises
    ------
    LakeError
        When there is no such release, it has expired, or it names no such table.
    ConfigError
        When a day or a moment cannot be understood, or a release is named beside them.
    """
    store = lake if isinstance(lake, Lake) else Lake(os.fspath(lake))
    if table == "releases":
        return store.read(table, columns=columns)
    if table == "pointers":
        rows = pointer_table(store, store.version(table))
        return rows if columns is None else rows.select(list(columns))
    row = choose(
        read_history(store),
        environment,
        release=release,
        as_of=_day(as_of),
        published_before=_moment(published_before),
    )
    return read_of(store, row, table, columns=columns)


def read_of(
    lake: Lake,
    row: Release,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    filters: Sequence[Condition] = (),
) -> pa.Table:
    """Read a table as the release ``row`` shows it, of its rows those that fit ``filters``.

    Raises
    ------
    LakeError
        When the release has expired, or names no such table.
    """
    return snapshot_of(lake, row, table).read(columns=columns, filters=_shown(row, table, filters))


def read_files_of(
    lake: Lake,
    row: Release,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    filters: Sequence[Condition] = (),
) -> Iterator[pa.Table]:
    """Read as ``read_of`` does, one file in memory at a time."""
    found = snapshot_of(lake, row, table)
    return found.read_files(columns=columns, filters=_shown(row, table, filters))


def snapshot_of(lake: Lake, row: Release, table: str) -> Snapshot:
    """Return the version of a table that a release names.

    Raises
    ------
    LakeError
        When the release has expired, or names no such table.
    """
    require_kept(lake.uri, row)
    versions = dict(row["versions"])
    if table not in versions:
        raise LakeError(
            f"release {row['release']} has no table {table!r}",
            where={"lake": lake.uri},
            expected=f"one of {', '.join(sorted(versions))}",
        )
    return lake.snapshot(table, versions[table])


def _shown(row: Release, table: str, filters: Sequence[Condition]) -> list[Condition] | None:
    """Return the conditions of the rows that a release shows, with those of the reader."""
    own: list[Condition] = [("as_of", "==", row["as_of"])] if table in BY_AS_OF else []
    return [*own, *filters] or None


def choose(
    history: History,
    environment: str,
    *,
    release: str | None = None,
    as_of: date | None = None,
    published_before: datetime | None = None,
) -> Release:
    """Choose the release that a reader asks for; parameters and errors as ``read``."""
    if release is not None and (as_of is not None or published_before is not None):
        raise ConfigError(
            f"the release {release!r} is named, and a day or a moment beside it",
            expected="a release by name, or as_of and published_before",
        )
    history.require(environment)
    then = history if published_before is None else history.before(published_before)
    at = "" if published_before is None else f" before {published_before.isoformat()}"
    if release is not None:
        return then.find(environment, release)
    of_day = [row for row in then.of(environment) if as_of is None or row["as_of"] == as_of]
    row = then.current(environment) if as_of is None else newest(of_day)
    if row is None:
        what = "no release" if as_of is None else f"no release of {as_of}"
        raise LakeError(
            f"{what} in environment {environment!r}{at}",
            where={"lake": history.lake},
            expected=_span(history.of(environment)),
        )
    return row


def _span(rows: Sequence[Release]) -> str:
    """Say which days and moments releases cover."""
    days, moments = ([row[name] for row in rows] for name in ("as_of", "released_at"))
    return (
        f"as-of days from {min(days)} to {max(days)}, released from {min(moments).isoformat()} "
        f"to {max(moments).isoformat()}"
    )


def _day(asked: date | str | None) -> date | None:
    if asked is None or (isinstance(asked, date) and not isinstance(asked, datetime)):
        return asked
    try:
        return date.fromisoformat(str(asked))
    except ValueError:
        raise ConfigError(f"as_of {asked!r}", expected="a day such as 2026-01-31") from None


def _moment(asked: Any) -> datetime | None:
    """Understand a moment; one without a zone means another where another reader sits."""
    if asked is None:
        return None
    try:
        moment = datetime.fromisoformat(asked) if isinstance(asked, str) else asked
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigError(
            f"published_before {str(asked)!r}",
            expected="a moment with its zone, such as 2026-03-03T00:00:00+01:00",
        )
    return moment
