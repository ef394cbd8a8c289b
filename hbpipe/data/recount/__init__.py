"""The recount: the rules for events applied literally, row by row, in plain Python.

Slow on purpose. It is the oracle of the fast kernel's tests and the judge of
``hbpipe verify --full``, so it shares no code with the kernel: rows are dictionaries, sums are
Python integers or ``math.fsum``, moments take two passes. Memory grows with the number of rows.

The rules, in the order in which they meet a row:

1. A row without a usable time, level or event id is rejected, for the first reason found: time,
   then levels from coarse to fine, then id.
2. Of the rows of one business day that share an event id, the first by (path, row group, row)
   counts; the others are repeated, and conflicting where anything that is read differs.
3. For each metric an accepted row is excluded (its ``where`` does not hold), skipped (a measure
   is null), rejected (a measure is impossible), or counted.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from hbpipe.data.recount.days import business_day
from hbpipe.data.recount.rules import check_metric, is_known, measure
from hbpipe.data.recount.spec import RecountMetric, RecountSpec, RefusedError
from hbpipe.data.recount.sums import Values, reduce_values, size_and_total
from hbpipe.data.recount.weights import reduce_weighted
from hbpipe.errors import EventsError, StatisticsError

__all__ = ["DayCount", "FileRecount", "Recount", "RecountMetric", "RecountSpec", "recount"]

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass
class DayCount:
    """Rows of one file and business day: ``rows == accepted + rejected + repeated``."""

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0


@dataclass
class FileRecount:
    """What became of the rows of one file: ``rows == accepted + rejected + repeated``.

    ``days`` holds the rows that have a business day. ``rejections`` counts by (metric, column,
    reason), with an empty metric where the whole row is rejected. ``skipped`` and ``excluded``
    count by metric, so that for each metric
    ``accepted == counted + skipped + excluded + rejected for it``.
    """

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    conflicting: int = 0
    days: dict[date, DayCount] = field(default_factory=lambda: defaultdict(DayCount))
    rejections: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)


@dataclass
class Recount:
    """The result: keys are ``(day, *levels)``, with level values as they stand in the file.

    ``accepted`` counts the accepted rows of each key. By metric and key, ``counted`` is the number
    of rows counted and ``statistics`` the family's statistics, an array as the list of its
    numbers, row by row; keys without such rows are absent. ``clusters`` holds size and total of
    each of a key's clusters, in the order of these numbers.
    """

    files: dict[str, FileRecount]
    accepted: Counter[Key]
    counted: dict[str, Counter[Key]]
    statistics: dict[str, dict[Key, dict[str, Values]]]
    clusters: dict[str, dict[Key, list[tuple[float, float]]]]


def recount(files: Iterable[str | Path], spec: RecountSpec) -> Recount:
    """Recount Parquet files.

    Parameters
    ----------
    files
        Paths of the files that count, each once. Their order does not matter: files are taken in
        the order of their paths. Columns may stand in the path as ``key=value`` folders.
    spec
        Columns, calendar and metrics.

    Raises
    ------
    ConfigError
        A metric names a family without recount, lacks a role, or transforms a count.
    EventsError
        A file is unreadable, lacks a column, or holds something that is no measure or no time.
    StatisticsError
        Values are so large that their sum is no number.
    """
    for metric in spec.metrics:
        check_metric(metric)
    tally = _Tally(spec)
    for path in sorted(str(file) for file in files):
        count = tally.files[path] = FileRecount()
        try:
            for row, time_type in _rows(path, spec):
                tally.take(row, time_type, count)
        except EventsError as error:
            raise error.at(file=path) from error
    return tally.result()


class _Tally:
    """What has been seen so far."""

    def __init__(self, spec: RecountSpec) -> None:
        self.files: dict[str, FileRecount] = {}
        self.accepted: Counter[Key] = Counter()
        self._spec = spec
        self._seen: dict[Key, Row] = {}
        self._values: dict[str, dict[Key, list[dict[str, Any]]]] = {
            metric.name: defaultdict(list) for metric in spec.metrics
        }
        self._clusters: dict[str, dict[Key, dict[Key, list[dict[str, Any]]]]] = {
            metric.name: defaultdict(lambda: defaultdict(list)) for metric in spec.metrics
        }

    def take(self, row: Row, time_type: pa.DataType, count: FileRecount) -> None:
        """Account for one row."""
        count.rows += 1
        today = DayCount()  # stands in until the row has a day
        try:
            day = business_day(row[self._spec.time], time_type, self._spec)
            today = count.days[day]
            today.rows += 1
            _check_keys(row, self._spec)
        except RefusedError as refused:
            count.rejected += 1
            today.rejected += 1
            count.rejections["", refused.column, refused.reason] += 1
            return
        if self._is_repeated(day, row, count):
            count.repeated += 1
            today.repeated += 1
            return
        count.accepted += 1
        today.accepted += 1
        key = (day, *(row[level] for level in self._spec.levels))
        self.accepted[key] += 1
        for metric in self._spec.metrics:
            self._take_measure(metric, row, key, count)

    def _is_repeated(self, day: date, row: Row, count: FileRecount) -> bool:
        if not self._spec.event_id:
            return False
        identity = (day, *(row[name] for name in self._spec.event_id))
        if identity not in self._seen:
            self._seen[identity] = row
            return False
        if _comparable(self._seen[identity]) != _comparable(row):
            count.conflicting += 1
        return True

    def _take_measure(self, metric: RecountMetric, row: Row, key: Key, count: FileRecount) -> None:
        try:
            outcome, values = measure(metric, row)
        except RefusedError as refused:
            count.rejections[metric.name, refused.column, refused.reason] += 1
            return
        if outcome == "skipped":
            count.skipped[metric.name] += 1
        elif outcome == "excluded":
            count.excluded[metric.name] += 1
        else:
            self._values[metric.name][key].append(values)
            identity = tuple(row[name] for name in metric.clusters)
            if identity and metric.experiment is not None:
                identity = (*identity, values["arm"])  # what it has in an arm is a cluster
            if identity and all(is_known(value) for value in identity):
                self._clusters[metric.name][key][identity].append(values)

    def result(self) -> Recount:
        """Reduce the values kept to the statistics of each family."""
        counted, statistics, clusters = {}, {}, {}
        for metric in self._spec.metrics:
            values = self._values[metric.name]
            counted[metric.name] = Counter({key: len(rows) for key, rows in values.items()})
            statistics[metric.name] = {
                key: _reduce(metric, key, rows) for key, rows in values.items()
            }
            clusters[metric.name] = {
                key: sorted(size_and_total(metric, rows) for rows in found.values())
                for key, found in self._clusters[metric.name].items()
            }
        return Recount(self.files, self.accepted, counted, statistics, clusters)


def _reduce(metric: RecountMetric, key: Key, rows: list[dict[str, Any]]) -> dict[str, Values]:
    try:
        if metric.weights is not None:
            return reduce_weighted(metric.family, metric.weights, rows)
        return reduce_values(metric, rows)
    except OverflowError:
        raise StatisticsError(
            "The values are too large to be added up",
            where={"metric": metric.name, "day": key[0], "unit": "/".join(map(str, key[1:]))},
            expected="sums, and sums of squares, below 1e308",
            remedy="leave such values out with a where condition, or use transform: log",
        ) from None


def _check_keys(row: Row, spec: RecountSpec) -> None:
    for level in spec.levels:
        if row[level] is None:
            raise RefusedError(level, "missing level")
        if row[level] == "":
            raise RefusedError(level, "empty level")
        if isinstance(row[level], bytes):
            raise RefusedError(level, "unreadable level")
    for name in spec.event_id:
        if row[name] is None or row[name] == "":
            raise RefusedError(name, "missing event id")


def _comparable(row: Row) -> Row:
    """Make NaN equal to NaN, so that a copy of a row is no contradiction."""
    return {
        name: "NaN" if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }


def _rows(path: str, spec: RecountSpec) -> Iterator[tuple[Row, pa.DataType]]:
    """Yield the rows of a file in order, and the type of its time column."""
    in_path = _path_columns(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            _check_columns(path, schema.names, in_path, spec)
            stored = [name for name in spec.columns if name in schema.names]
            time_type = schema.field(spec.time).type if spec.time in stored else pa.string()
            constant = {name: in_path[name] for name in spec.columns if name not in stored}
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=stored, use_threads=False)
                columns = [_python_values(table[name]) for name in stored]
                for values in zip(*columns, strict=True):
                    yield constant | dict(zip(stored, values, strict=True)), time_type
    except (OSError, pa.ArrowInvalid) as error:
        raise EventsError(
            f"Not readable as Parquet: {error}",
            where={"file": path},
            expected="a complete Parquet file",
            remedy="deliver the file again, or take it out of the folder",
        ) from error


def _check_columns(
    path: str, names: list[str], in_path: Mapping[str, Any], spec: RecountSpec
) -> None:
    for name in spec.columns:
        if names.count(name) > 1 or (name not in names and name not in in_path):
            raise EventsError(
                f"Column {name!r} is there {names.count(name)} times",
                where={"file": path},
                expected=f"each of {', '.join(spec.columns)} once",
                remedy="correct the column names in the settings or in the file",
            )


def _path_columns(path: str) -> dict[str, str | None]:
    pairs = [folder.split("=", 1) for folder in Path(path).parts[:-1] if "=" in folder]
    return {unquote(key): None if text == _HIVE_NULL else unquote(text) for key, text in pairs}


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    """Decode to Python; times as integers, because Python's own dates end in the year 9999."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date64(column.type):
        return list(column.cast(pa.int64()).to_pylist())
    if pa.types.is_date32(column.type):
        return list(column.cast(pa.int32()).to_pylist())
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_text(raw) for raw in column.cast(pa.binary()).to_pylist()]


def _text(raw: bytes | None) -> str | bytes | None:
    """Decode UTF-8; other bytes stay bytes."""
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return raw
