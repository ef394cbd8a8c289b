"""Small tables that only grow: what joins them is decided on the rows already there."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.data.publish import Change, publish_change
from hbpipe.data.snapshot import Snapshot


def extend(
    lake: Lake, name: str, decide: Callable[[pa.Table], pa.Table | None], *, run_id: str
) -> int:
    """Append the rows that ``decide`` makes of the rows present, in one compare-and-swap.

    Of writers that race each decides on what the others have written: no row is lost, and a
    number that rises is given once. The table stays one file, in the order of appending.

    Parameters
    ----------
    name
        A table without partitions.
    decide
        Receives the rows present, and returns rows of their columns, or None to append nothing.
        Asked again when another writer was faster; what it raises ends the attempt.
    run_id
        Recorded with the commit.

    Returns
    -------
    int
        The version that holds the rows.

    Raises
    ------
    LakeError
        As ``publish_change``; nothing is appended then.
    """

    def change(snapshot: Snapshot) -> Change | None:
        present = snapshot.read()
        rows = decide(present)
        if rows is None:
            return None
        whole = pa.concat_tables([present, rows.select(present.column_names).cast(present.schema)])
        part = lake.write_part(name, whole, run_id=run_id, schema=snapshot.data_schema)
        return Change([part], snapshot.files)

    return publish_change(lake.storage, name, change, metadata={"run_id": run_id})
