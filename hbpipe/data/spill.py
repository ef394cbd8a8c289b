"""Files by which readers hand tables to those who merge them, a block for each.

What all readers of a large day find would not fit into a worker, so it goes through the lake's
staging folder: each reader writes one file of as many blocks as there are merges, and each merge
reads its own block of every file, as in MapReduce (Dean and Ghemawat 2004). The files live as
long as the stage; what a crash leaves, vacuum takes away.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray

from hbpipe.data.durable import PRIVATE, Storage
from hbpipe.errors import LakeError

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Spilled:
    """A file of blocks: its path within the file system, and where each block lies.

    ``places`` (B, 3) are a block's first byte, its bytes and its CRC-32.
    """

    path: str
    places: NDArray[np.int64]


def spill(storage: Storage, run_id: str, tables: Iterable[pa.Table]) -> Spilled:
    """Write a file with a block for each table.

    Raises
    ------
    LakeError
        The disk is full or fails.
    """
    path = storage.path(PRIVATE, "staging", f"{uuid.uuid4().hex}-{run_id}.arrow")
    places, begin = [], 0
    try:
        with storage.spool() as spool:
            with spool.open("wb") as file:
                for table in tables:
                    block = _encode(table)
                    file.write(block)
                    places.append((begin, len(block), zlib.crc32(block)))
                    begin += len(block)
            storage.put(spool, path)
    except OSError as error:
        raise LakeError(
            f"what was read could not be set aside: {error}",
            where={"lake": storage.uri, "file": path},
            remedy="make room on the disk of the lake, then run again",
        ) from error
    return Spilled(path, np.array(places, np.int64).reshape(-1, 3))


def _encode(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as stream:
        stream.write_table(table)
    return sink.getvalue()


def read_block(storage: Storage, spilled: Spilled, number: int) -> pa.Table:
    """Read one block.

    Raises
    ------
    LakeError
        The file is missing or damaged.
    """
    begin, size, checksum = spilled.places[number].tolist()
    try:
        with storage.filesystem().open_input_file(spilled.path) as file:
            block = file.read_at(size, begin)
    except OSError as error:
        raise _damaged(storage, spilled, str(error)) from error
    if zlib.crc32(block) != checksum:
        raise _damaged(storage, spilled, f"block {number} is not as it was written")
    return pa.ipc.open_stream(block).read_all()


def _damaged(storage: Storage, spilled: Spilled, found: str) -> LakeError:
    return LakeError(
        f"what was set aside is missing or damaged: {found}",
        where={"lake": storage.uri, "file": spilled.path},
        expected="staging files that nobody touches while a run is at work",
        remedy="run again",
    )


def drop_spilled(storage: Storage, run_id: str) -> None:
    """Delete what a run has set aside."""
    filesystem = storage.filesystem()
    selector = pafs.FileSelector(storage.path(PRIVATE, "staging"), allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        if info.base_name.partition("-")[2] == f"{run_id}.arrow":
            filesystem.delete_file(info.path)
