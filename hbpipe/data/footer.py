"""The end of a Parquet file, which tells whether it is whole, ours and of the right columns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hbpipe.errors import LakeError

_DIGESTS = re.compile(r"-([0-9a-f]{16})-([0-9a-f]{16})\.(?:zstd|snappy)\.parquet$")
#: Read at once; a longer footer costs a second read.
_TAIL = 1 << 16
_BLOCK = 1 << 20


def read_footer(
    filesystem: pafs.FileSystem, path: str, size: int, where: Mapping[str, Any]
) -> tuple[bytes, pq.FileMetaData]:
    """Read a Parquet footer: its bytes, and what they say.

    Raises
    ------
    LakeError
        The file has no readable footer.
    """
    try:
        with filesystem.open_input_file(path) as source:
            start = max(0, size - _TAIL)
            tail = source.read_at(size - start, start)
            length = int.from_bytes(tail[-8:-4], "little") + 8
            if length > len(tail):
                tail = source.read_at(length, max(0, size - length))
        footer = tail[-length:]
        return footer, pq.read_metadata(pa.BufferReader(b"PAR1" + footer))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise LakeError(
            f"the file has no readable Parquet footer: {error}",
            where=dict(where),
            expected="a whole Parquet file",
            remedy="run again, or restate the days of this file",
        ) from error


def signature(footer_digest: str, digest: str, compression: str) -> str:
    """Return what a part's name carries of its digests, 64 bits of each, and how it ends."""
    return f"{footer_digest[:16]}-{digest[:16]}.{compression}.parquet"


def signed(path: str) -> tuple[str, str] | None:
    """Return the footer's and the file's digest that a name carries, or None for a foreign name."""
    found = _DIGESTS.search(path)
    return (found[1], found[2]) if found else None


def file_digest(filesystem: pafs.FileSystem, path: str) -> str:
    """Compute the SHA-256 of a whole file.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_columns(found: pa.Schema, expected: pa.Schema, where: Mapping[str, Any]) -> None:
    """Refuse columns that are missing, unknown or of another type; dictionaries count as values.

    Raises
    ------
    LakeError
        Naming every such column.
    """
    types = {column.name: plain_type(column.type) for column in found}
    wanted = {column.name: column.type for column in expected}
    faults = [f"column {name!r} is missing" for name in wanted if name not in types]
    faults += [f"column {name!r} is unknown" for name in types if name not in wanted]
    faults += [
        f"column {name!r} is {types[name]}, not {kind}"
        for name, kind in wanted.items()
        if name in types and types[name] != kind
    ]
    if len(found.names) != len(types):
        faults.append(f"columns are repeated: {', '.join(found.names)}")
    if faults:
        raise LakeError(
            "; ".join(faults),
            where=dict(where),
            expected=", ".join(f"{name}: {kind}" for name, kind in wanted.items()),
            remedy="write the table's columns, or add new ones with ensure_schema first",
        )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the value type of a dictionary, any other type as it is."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def schema_digest(schema: pa.Schema) -> str:
    """Compute the SHA-256 of names and types, whatever the order of the columns."""
    lines = sorted(f"{column.name}: {plain_type(column.type)}" for column in schema)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
