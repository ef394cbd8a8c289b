"""Rows replaced by key within one partition, for small tables that grow by a partition a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.data.publish import Change, publish_change
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.upsert import merge


def upsert_partition(
    lake: Lake,
    name: str,
    rows: pa.Table,
    key: Sequence[str],
    *,
    partition: Mapping[str, str],
    run_id: str,
) -> int:
    """Replace the rows of one partition with equal keys and keep its others, in one transaction.

    Other partitions are neither read nor written, however many there are. Writers may race.

    Parameters
    ----------
    rows
        The table's columns without those of the partition.
    key
        Columns that identify a row; those of the partition may be among them.
    partition
        Partition column to ISO date.

    Returns
    -------
    int
        The version that holds the rows.

    Raises
    ------
    LakeError
        A key is null or repeated in ``rows``, or as ``publish_change``.
    """
    within = [column for column in key if column not in partition]
    where = {"lake": lake.uri, "table": name, **partition}

    def change(snapshot: Snapshot) -> Change:
        mine = snapshot.in_partitions([partition])
        present = mine.read(columns=snapshot.data_schema.names)
        part = lake.write_part(
            name,
            merge(present, rows, within, where),
            run_id=run_id,
            partition=partition,
            schema=snapshot.data_schema,
        )
        return Change([part], mine.files)

    return publish_change(lake.storage, name, change, metadata={"run_id": run_id, **partition})
