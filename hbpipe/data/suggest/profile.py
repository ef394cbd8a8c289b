"""A bounded sample of event files, and what its columns look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hbpipe.data.clock import Calendar
from hbpipe.data.events import EventFormat, FileState, find_files, hive_values, open_parquet
from hbpipe.errors import EventsError

_MAX_FILES = 16
_MAX_ROW_GROUPS = 4  # of one file
_ISO_TEXT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$"
_ISO_SHARE = 0.95  # of the texts; the rest will be counted as rejected

Kind = Literal["boolean", "whole", "amount", "text", "time", "other"]


@dataclass(frozen=True)
class Sample:
    """Rows from files spread over the delivery; ``available`` is what those files hold."""

    table: pa.Table
    files: int
    files_read: int
    available: int


def read_sample(root: str, max_rows: int) -> Sample:
    """Read at most ``max_rows`` rows, from row groups spread over the files.

    Raises
    ------
    EventsError
        There is nothing at ``root``, a file is unreadable, files disagree, or there are no rows.
    """
    form = EventFormat(root=root, time="", calendar=Calendar(), levels=())
    files = find_files(form)
    chosen = _spread(files, _MAX_FILES)
    tables: list[pa.Table] = []
    available = 0
    for file in chosen:
        with open_parquet(form, file) as parquet:
            _check_names(parquet.schema_arrow.names, root, file)
            available += parquet.metadata.num_rows
            tables += _read_some(parquet, file, root, max_rows // len(chosen))
    if available == 0:
        raise EventsError(
            "There are no rows to look at",
            where={"path": root, "files": len(files)},
            remedy="point at files with events, for instance of another day",
        )
    return Sample(_concat(tables, root), len(files), len(chosen), available)


def _spread(items: list[Any], most: int) -> list[Any]:
    """Choose at most ``most`` items at equal distances, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[index] for index in np.linspace(0, len(items) - 1, most).astype(int)]


def _read_some(parquet: pq.ParquetFile, file: FileState, root: str, most: int) -> Iterator[Any]:
    """Yield the beginnings of some row groups, without decoding the whole of a large one."""
    groups = _spread(list(range(parquet.num_row_groups)), _MAX_ROW_GROUPS)
    in_path = hive_values(file.path)
    for group in groups:
        wanted = max(1, most // len(groups))
        try:
            batch = next(parquet.iter_batches(batch_size=wanted, row_groups=[group]), None)
        except (pa.ArrowInvalid, OSError) as error:
            raise EventsError(
                f"Damaged: {str(error).splitlines()[0]}",
                where={"path": root, "file": file.path, "row_group": group},
                remedy="deliver the file again",
            ) from None
        if batch is not None:
            table = pa.Table.from_batches([batch])
            for name, value in in_path.items():
                if name not in table.column_names:
                    constant = pa.repeat(pa.scalar(value, pa.string()), len(table))
                    table = table.append_column(name, constant)
            yield table


def _check_names(names: list[str], root: str, file: FileState) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise EventsError(
            f"Columns appear more than once: {', '.join(doubled)}",
            where={"path": root, "file": file.path},
            remedy="deliver files with different column names",
        )


def _concat(tables: list[pa.Table], root: str) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise EventsError(
            f"The files do not agree on their columns: {str(error).splitlines()[0]}",
            where={"path": root},
            expected="one type for each column in all files",
            remedy="point at files of one kind",
        ) from None


class Profile:
    """One column of the sample: its kind and the evidence for it."""

    def __init__(self, name: str, column: pa.ChunkedArray) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        if _is_text(column.type):
            column = pc.if_else(pc.equal(column, ""), None, column)
        self.name = name
        self.column = column
        self.rows = len(column)
        self.kind = _kind(column)

    @cached_property
    def null_share(self) -> float:
        """Share of rows without a value; an empty text is none."""
        return float(self.column.null_count / self.rows)

    @cached_property
    def distinct(self) -> int:
        """Number of different values; 0 for a kind that cannot be counted."""
        return 0 if self.kind == "other" else pc.count_distinct(self.column).as_py()

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """Values as codes (rows,); -1 for null."""
        encoded = self.column.combine_chunks().dictionary_encode()
        codes: NDArray[np.int64] = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy()
        return codes

    @cached_property
    def filled(self) -> NDArray[np.float64]:
        """Numbers (rows,), NaN where there is none or it is not finite."""
        values = self.column.cast(pa.float64(), safe=False).to_numpy()
        return np.where(np.isfinite(values), values, np.nan)

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The finite numbers."""
        return self.filled[np.isfinite(self.filled)]

    @property
    def faulty_share(self) -> float:
        """Share of rows that hold NaN or infinity."""
        present = self.rows - self.column.null_count
        return float((present - len(self.numbers)) / self.rows)

    @cached_property
    def zero_share(self) -> float:
        """Share of the finite numbers that are zero."""
        return _share(self.numbers == 0)

    @cached_property
    def negative_share(self) -> float:
        """Share of the finite numbers below zero."""
        return _share(self.numbers < 0)

    @cached_property
    def skewness(self) -> float:
        """Third standardised moment of the finite numbers."""
        return skewness(self.numbers)

    @property
    def is_binary(self) -> bool:
        """Tell whether the values are 0 and 1, or true and false."""
        if self.kind == "boolean":
            return True
        return self.kind == "whole" and set(np.unique(self.numbers)) == {0.0, 1.0}

    def most_frequent(self) -> tuple[str, float]:
        """Return the commonest text and its share of the rows that have one."""
        counts = np.bincount(self.codes[self.codes >= 0])
        dictionary = self.column.combine_chunks().dictionary_encode().dictionary
        return dictionary[int(counts.argmax())].as_py(), float(counts.max() / counts.sum())


def _share(hits: NDArray[np.bool_]) -> float:
    return float(np.mean(hits)) if len(hits) else 0.0


def skewness(values: NDArray[np.float64]) -> float:
    """Return m3 / m2^1.5; 0 where nothing varies."""
    scale = float(np.abs(values).max(initial=0.0))
    if scale == 0:
        return 0.0
    centred = values / scale - np.mean(values / scale)  # scaled, or cubes overflow
    spread = float(np.sqrt(np.mean(centred**2)))
    return float(np.mean((centred / spread) ** 3)) if spread > 0 else 0.0


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kind(column: pa.ChunkedArray) -> Kind:
    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if _is_text(kind):
        return "time" if _looks_like_time(column) else "text"
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        values = column.drop_null().to_numpy()
        finite = values[np.isfinite(values)]
        return "whole" if len(finite) and np.all(finite == np.rint(finite)) else "amount"
    return "other"


def _looks_like_time(column: pa.ChunkedArray) -> bool:
    texts = column.drop_null()
    if not len(texts):
        return False
    return iso_share(texts) >= _ISO_SHARE


def iso_share(texts: pa.ChunkedArray) -> float:
    """Return the share of texts that look like an ISO 8601 date or time."""
    return float(pc.mean(pc.match_substring_regex(texts, _ISO_TEXT)).as_py())
