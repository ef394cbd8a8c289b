"""The lake: Delta tables under one root, each replaced partition by partition, atomically.

Workers write parts, one driver publishes them (``parts``, ``publish``); readers take a version
(``snapshot``). Nothing is ever changed in place, and nothing here deletes: files that left a table
stay until ``vacuum``, so a reader of an older version is never disturbed.

What a publication promises, at every crash and in every race:

- readers see a partition wholly old or wholly new;
- a partition holds the rows of exactly one publication, however often it is repeated;
- on a local disk a returned version outlives a loss of power.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hbpipe.data import parts, upsert
from hbpipe.data.commit import METADATA, open_table, require_table
from hbpipe.data.definition import check_receipts, create_table, ensure_columns
from hbpipe.data.durable import PRIVATE, Storage
from hbpipe.data.filters import Filters
from hbpipe.data.parts import Receipt
from hbpipe.data.publish import Change, Guard, publish_change, replacement
from hbpipe.data.snapshot import FileRef, Snapshot, take_snapshot
from hbpipe.errors import LakeError

__all__ = ["FileRef", "Filters", "Guard", "Lake", "Receipt", "Snapshot"]


@dataclass(frozen=True)
class Lake:
    """A folder or bucket of Delta tables; cheap and picklable.

    Parameters
    ----------
    uri
        Local path, or an object store's address such as ``s3://bucket/prefix``.
    storage_options
        As deltalake's, for object stores.
    fence
        The number of the run that writes: every commit carries it, and is refused where a commit
        of a higher number has been before. None: commits of no run, which nothing refuses.

    Raises
    ------
    LakeError
        The options allow unsafe renames.
    """

    uri: str
    storage_options: Mapping[str, str] | None = field(default=None, repr=False, hash=False)
    fence: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", self.storage.uri)

    @property
    def storage(self) -> Storage:
        """Where the bytes lie."""
        return Storage(str(self.uri), self.storage_options or {}, self.fence)

    def path(self, *names: str) -> str:
        """Address of a table, or of what lies below it."""
        return self.storage.url(*names)

    def private_path(self, *names: str) -> str:
        """Address in the lake's own folder (lease, staging), which vacuum leaves alone."""
        return self.storage.url(PRIVATE, *names)

    # Tables

    def create(self, name: str, schema: pa.Schema, partition_by: Sequence[str] = ()) -> None:
        """Create a table unless it exists; any number of callers may race.

        Parameters
        ----------
        name
            Lower-case letters, digits and underscores.
        schema
            All columns, the partition columns included.
        partition_by
            Columns of type date32: ids never become paths.

        Raises
        ------
        LakeError
            A name or type is impossible; the disk cannot create a file only if it is absent; the
            table exists with other partitions or with another type for one of these columns.
        """
        create_table(self.storage, name, schema, partition_by)

    def ensure_schema(self, name: str, schema: pa.Schema) -> int:
        """Add the columns that a table lacks, before any rows that carry them are published.

        Columns that ``schema`` lacks stay. Older rows read as null.

        Returns
        -------
        int
            The version that has the columns.

        Raises
        ------
        LakeError
            A column exists with another type; names it, the type found and the type expected.
        """
        return ensure_columns(self.storage, name, schema)

    def version(self, name: str) -> int | None:
        """Return the newest version of a table, or None when there is none."""
        table = open_table(self.storage, name)
        return None if table is None else int(table.version())

    def history(self, name: str, limit: int | None = None) -> list[dict[str, Any]]:
        """List commits, newest first: version, timestamp (ms), operation and our metadata."""
        entries = require_table(self.storage, name).history(limit)
        told = ("version", "timestamp", "operation")
        return [
            {name: entry.get(name) for name in told} | {"metadata": entry.get(METADATA, {})}
            for entry in entries
        ]

    # Reading

    def find(self, name: str) -> Snapshot | None:
        """Return the newest version of a table, or None when there is none."""
        table = open_table(self.storage, name)
        return None if table is None else take_snapshot(self.storage, name, table)

    def snapshot(self, name: str, version: int | None = None) -> Snapshot:
        """Return one version of a table, the newest by default.

        Raises
        ------
        LakeError
            There is no such table or version.
        """
        return take_snapshot(self.storage, name, require_table(self.storage, name, version))

    def files(
        self,
        name: str,
        *,
        version: int | None = None,
        partitions: Iterable[Mapping[str, str]] | None = None,
    ) -> tuple[FileRef, ...]:
        """Files of one version, in reading order, of all or of some partitions."""
        snapshot = self.snapshot(name, version)
        return (snapshot if partitions is None else snapshot.in_partitions(partitions)).files

    def read(
        self,
        name: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        filters: Filters | None = None,
    ) -> pa.Table:
        """Read one version of a table; see ``Snapshot.read`` for order, filters and errors."""
        return self.snapshot(name, version).read(columns=columns, filters=filters)

    # Writing

    def write_part(
        self,
        name: str,
        tables: pa.Table | Iterable[pa.Table],
        *,
        run_id: str,
        partition: Mapping[str, str] | None = None,
        schema: pa.Schema | None = None,
        dictionary: Sequence[str] | None = None,
        statistics: Sequence[str] = (),
    ) -> Receipt:
        """Write one part, on a worker; see ``parts.write_part``.

        ``schema`` is the data schema (``Snapshot.data_schema``) when the caller has it: without
        it the table's log is read, which many small parts should not each do.
        """
        return parts.write_part(
            self.storage,
            name,
            tables,
            schema=self.snapshot(name).data_schema if schema is None else schema,
            run_id=run_id,
            partition=partition,
            dictionary=dictionary,
            statistics=statistics,
        )

    def publish(
        self,
        name: str,
        receipts: Iterable[Receipt],
        *,
        app_id: str,
        replaces: Iterable[Mapping[str, str]],
        guard: Guard | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Make some parts the only rows of their partitions, in one transaction.

        Parameters
        ----------
        name
            The table.
        receipts
            Parts of the partitions in ``replaces``; none to empty them.
        app_id
            Names the interval, ``"statistics/2026-01-01..2026-01-28"``; recorded in the log with
            a number that rises with each publication.
        replaces
            Partitions whose present files leave the table; ``[{}]`` for a table without any.
        guard
            Asked on every attempt with the version about to be replaced. False means that
            somebody else has published the same meanwhile: nothing is written.
        metadata
            Recorded with the commit: run id, fingerprints, counts. JSON values.

        Returns
        -------
        int
            The version that holds the parts; the present one when they were there already or the
            guard said no.

        Raises
        ------
        LakeError
            A part is missing, cut off, changed, of another schema or outside ``replaces``; the
            store failed; every attempt lost its race. Nothing is published then.
        """
        adds = tuple(receipts)
        partitions = [dict(partition) for partition in replaces]
        check_receipts(self.uri, name, adds, partitions)
        return publish_change(
            self.storage,
            name,
            replacement(adds, partitions, guard),
            metadata=metadata,
            app_id=app_id,
        )

    def replace(
        self,
        name: str,
        rows: pa.Table,
        *,
        run_id: str,
        partition: Mapping[str, str] | None = None,
        guard: Guard | None = None,
        metadata: Mapping[str, Any] | None = None,
        statistics: Sequence[str] = (),
    ) -> int:
        """Write and publish one small partition, or a whole unpartitioned table, in one call."""
        day = dict(partition or {})
        part = self.write_part(name, rows, run_id=run_id, partition=day, statistics=statistics)
        return self.publish(
            name,
            [part],
            app_id="/".join([name, *day.values()]),
            replaces=[day],
            guard=guard,
            metadata={"run_id": run_id, **(metadata or {})},
        )

    def append(
        self,
        name: str,
        rows: pa.Table,
        *,
        run_id: str,
        partition: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Add rows. A repeated call adds them again: use ``upsert`` or ``replace`` to retry."""
        part = self.write_part(name, rows, run_id=run_id, partition=partition)
        return publish_change(
            self.storage,
            name,
            lambda _: Change([part], []),
            metadata={"run_id": run_id, **(metadata or {})},
        )

    def upsert(
        self,
        name: str,
        rows: pa.Table | Callable[[pa.Table], pa.Table],
        key: Sequence[str],
        *,
        run_id: str,
        guard: Guard | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Replace the rows with equal keys and keep the others, in one transaction.

        For small tables without partitions (the ledger): the result is one file sorted by key.
        Writers of different keys may race; none is lost. ``rows`` may be decided by what is
        there, and is asked again on every attempt.

        Raises
        ------
        LakeError
            A key is null or repeated in ``rows``, the table has partitions, or as ``publish``.
        """
        where = {"lake": self.uri, "table": name}

        def change(snapshot: Snapshot) -> Change | None:
            if snapshot.partition_by:
                raise LakeError("the table has partitions", where=where, remedy="use replace")
            if guard is not None and not guard(snapshot):
                return None
            present = snapshot.read()
            new = rows(present) if callable(rows) else rows
            part = self.write_part(
                name,
                upsert.merge(present, new, key, where),
                run_id=run_id,
                schema=snapshot.data_schema,
            )
            return Change([part], snapshot.files)

        return publish_change(
            self.storage, name, change, metadata={"run_id": run_id, **(metadata or {})}
        )
