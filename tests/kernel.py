"""The fast kernel from files to a day's statistics, in the words of the recount."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hbpipe.data.aggregate import Account
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.data.copies import find_copies, without_copies
from hbpipe.data.daily import DayResult, close_day, finish_day, merge_shards
from hbpipe.data.day_files import DayOrder
from hbpipe.data.durable import Storage
from hbpipe.data.events import EventFormat, find_files, full_path
from hbpipe.data.parsing import parse_metric
from hbpipe.data.partials import (
    Partial,
    ReadingOrder,
    collect,
    merges,
    summarise_readings,
)
from hbpipe.data.quantities import Metric
from hbpipe.data.readings import Source, plan_readings
from hbpipe.data.recount import Recount, RecountMetric, RecountSpec
from hbpipe.data.schemas import Table, statistics_table
from hbpipe.data.snapshot import FileRef, Snapshot
from hbpipe.data.survey import Survey, survey_file
from hbpipe.model.families import get_family

NOON = datetime(2026, 3, 2, 12)
DAY = date(2026, 3, 2)


def event_format(root: Path, **changes: Any) -> EventFormat:
    settings: dict[str, Any] = {
        "time": "ts",
        "calendar": Calendar(earliest=date(2020, 1, 1), latest=date(2030, 12, 31)),
        "levels": ("chain", "store"),
    }
    return EventFormat(root=str(root), **{**settings, **changes})


def parse(metrics: dict[str, dict[str, Any]]) -> tuple[Metric, ...]:
    return tuple(parse_metric(name, raw) for name, raw in metrics.items())


def recount_spec(form: EventFormat, metrics: dict[str, dict[str, Any]]) -> RecountSpec:
    calendar = form.calendar
    return RecountSpec(
        time=form.time,
        time_kind="day" if calendar.whole_days else "timestamp",
        timezone=calendar.timezone,
        day_start_minutes=calendar.day_start,
        levels=form.levels,
        event_id=form.event_id,
        earliest=calendar.earliest,
        latest=calendar.latest,
        metrics=tuple(
            RecountMetric(
                name,
                raw["family"],
                {role.name: raw[role.name] for role in get_family(raw["family"]).roles},
                raw.get("where", ()),
                raw.get("transform"),
                experiment=raw.get("experiment"),
            )
            for name, raw in metrics.items()
        ),
    )


def write(path: Path, rows: Sequence[dict[str, Any]], size: int = 1000, **types: Any) -> Path:
    """Write rows over a sound default row; ``types`` give columns their Arrow type."""
    filled = [{"ts": NOON, "chain": "A", "store": "A1"} | row for row in rows]
    names = dict.fromkeys(name for row in filled for name in row)
    arrays = {name: pa.array([row.get(name) for row in filled], types.get(name)) for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path, row_group_size=size)
    return path


@dataclass
class Counted:
    """What the kernel made of some files, keyed as the recount keys it."""

    surveys: list[Survey]
    results: dict[date, DayResult] = field(default_factory=dict)
    accepted: Counter[Any] = field(default_factory=Counter)
    statistics: dict[str, dict[Any, dict[str, Any]]] = field(default_factory=dict)
    accounts: dict[tuple[str, date], Account] = field(default_factory=dict)
    rejections: dict[str, Counter[Any]] = field(default_factory=dict)

    def reject(self, found: Iterable[Any]) -> None:
        for one in found:
            per_file = self.rejections.setdefault(one.file, Counter())
            per_file[one.metric, one.column, one.reason] += one.rows


def survey_all(form: EventFormat, metrics: tuple[Metric, ...]) -> list[Survey]:
    return [survey_file(form, file, metrics) for file in find_files(form)]


def run_kernel(
    form: EventFormat,
    raw_metrics: dict[str, dict[str, Any]],
    lake: Path,
    days: Iterable[date] | None = None,
) -> Counted:
    """Survey, summarise and merge, as a night does, all days together or some."""
    metrics = parse(raw_metrics)
    counted = Counted(survey_all(form, metrics), statistics={name: {} for name in raw_metrics})
    for survey in counted.surveys:
        counted.reject(survey.undated)
    found = sorted({day for survey in counted.surveys for day in survey.days})
    wanted = found if days is None else [to_number(day) for day in days]
    order = _reading_order(form, metrics, lake, counted.surveys)
    sources = [
        Source(s.file, s.row_groups, tuple(s.days), tuple(day for day in wanted if day in s.days))
        for s in counted.surveys
    ]
    read = summarise_readings(order, plan_readings(form, sources))
    for day in wanted:
        result = _finish(order, _order(form, metrics, day, counted.surveys), read)
        counted.results[to_date(day)] = result
        counted.reject(result.rejections)
        for path, account in result.accounts.items():
            counted.accounts[path, to_date(day)] = account
        _take_statistics(counted, form, metrics, to_date(day), lake, result)
    return counted


def _reading_order(
    form: EventFormat, metrics: Any, lake: Path, surveys: Sequence[Survey]
) -> ReadingOrder:
    rows = Counter[int]()
    for survey in surveys:
        rows.update(survey.days)
    compared = frozenset(rows if form.event_id else ())
    return ReadingOrder(Storage(str(lake)), "test", form, metrics, rows, compared)


def _finish(reading: ReadingOrder, order: DayOrder, read: Sequence[Partial]) -> DayResult:
    """Finish a day in one task, or shard by shard where it is large, as the tasks of a night do."""
    shards = range(merges(order.rows))
    if len(shards) == 1:
        return finish_day(reading, order, [read])
    partials = collect(order.day, [read])
    if order.day in reading.compared:
        copies = find_copies(reading, order.day, partials, shards)
        everyone = range(len(partials))
        partials = without_copies(reading, order.day, partials, copies, everyone)
    return close_day(order, partials, [merge_shards(reading, order, partials, shards)])


def _order(form: EventFormat, metrics: Any, day: int, surveys: Sequence[Survey]) -> DayOrder:
    table = _table(_kinds(form, surveys[0]), metrics)
    rows = sum(survey.days.get(day, 0) for survey in surveys)
    return DayOrder(form, metrics, day, to_date(day).isoformat(), rows, table, "test")


def _kinds(form: EventFormat, survey: Survey) -> dict[str, Any]:
    types = {"string": pa.string(), "int64": pa.int64()}
    return {n: types[kind] for n, kind in zip(form.levels, survey.level_types, strict=True)}


def _table(kinds: dict[str, Any], metrics: Any) -> Table:
    clusters = any(metric.cells.clusters for metric in metrics)
    return statistics_table(kinds, [metric.measured.name for metric in metrics], clusters=clusters)


def snapshot_of(
    form: EventFormat, raw_metrics: dict[str, Any], lake: Path, *nights: Counted
) -> Snapshot:
    """Return the files that some runs wrote, as the snapshot of the table that holds them."""
    metrics = parse(raw_metrics)
    table = _table(_kinds(form, nights[0].surveys[0]), metrics)
    files = [
        FileRef(one.path, one.partition, one.rows, one.size, one.statistics)
        for night in nights
        for result in night.results.values()
        for one in result.receipts
    ]
    files.sort(key=lambda file: (file.partition["day"], file.path))
    storage = Storage(str(lake))
    return Snapshot(storage, "statistics", 0, table.schema, ("day",), tuple(files))


def _take_statistics(
    counted: Counted, form: EventFormat, metrics: Any, day: date, lake: Path, result: DayResult
) -> None:
    for receipt in result.receipts:
        for row in pq.ParquetFile(lake / "statistics" / receipt.path).read().to_pylist():
            key = (day, *(row[level] for level in form.levels))
            counted.accepted[key] = row["n_events"]
            names = [one.name for one in get_family(_family(metrics, row["metric"])).statistics]
            found = counted.statistics[row["metric"]]
            assert key not in found, f"{key} is there twice"
            found[key] = {name: row[name] for name in names}


def _family(metrics: tuple[Metric, ...], name: str) -> str:
    return next(metric.measured.name for metric in metrics if metric.name == name)


def assert_same(
    form: EventFormat, raw_metrics: dict[str, Any], counted: Counted, expected: Recount
) -> None:
    """Counts are equal, floats to 1e-12, and every row of every file is accounted for."""
    assert counted.accepted == expected.accepted
    for metric in parse(raw_metrics):
        _assert_statistics(metric, counted.statistics[metric.name], expected)
    for survey in counted.surveys:
        path = survey.file.path
        account = expected.files[full_path(form.root, path)]
        assert counted.rejections.get(path, Counter()) == account.rejections
        days = {day: one for (file, day), one in counted.accounts.items() if file == path}
        assert {d: (a.rows, a.accepted, a.rejected, a.repeated) for d, a in days.items()} == {
            d: (a.rows, a.accepted, a.rejected, a.repeated) for d, a in account.days.items()
        }
        assert survey.rows == account.rows
        assert sum(a.conflicting for a in days.values()) == account.conflicting
        for metric in raw_metrics:
            splits = [one.metrics[metric] for one in days.values()]
            for one in days.values():
                assert sum(one.metrics[metric].values()) == one.accepted
            assert sum(s["skipped"] for s in splits) == account.skipped[metric]
            assert sum(s["excluded"] for s in splits) == account.excluded[metric]


def _assert_statistics(metric: Metric, found: dict[Any, dict[str, Any]], wanted: Recount) -> None:
    expected = wanted.statistics[metric.name]
    assert found.keys() == wanted.accepted.keys()
    kinds = {one.name: one for one in metric.measured.statistics}
    for key, values in found.items():
        if key not in expected:  # no row of this unit counts for the metric
            empty = {
                name: [0.0] * math.prod(one.shape) if one.shape else one.absent
                for name, one in kinds.items()
            }
            assert values == empty, (metric.name, key)
            continue
        for name, value in expected[key].items():
            if kinds[name].dtype == "int64":
                assert values[name] == value, (metric.name, key, name)
            else:
                _assert_close((metric.name, key, name), values, name, value)


def _assert_close(where: Any, values: dict[str, Any], name: str, value: Any) -> None:
    """Compare floats: centred products to what rounding of the means costs, others to 1e-12."""
    found, wanted = (one if isinstance(one, list) else [one] for one in (values[name], value))
    kind, _, arm = name.partition("_")
    of_arm = f"_{arm}" if arm else ""
    slack = [0.0] * len(found)
    if kind in ("m2", "cross"):
        means = values[("mean" if kind == "m2" else "means") + of_arm]
        slack = _rounding(values[f"n{of_arm}"], means, wanted)
    for place, (one, right, allowed) in enumerate(zip(found, wanted, slack, strict=True)):
        assert math.isclose(one, right, rel_tol=1e-12, abs_tol=max(1e-12, allowed)), (
            f"{where}[{place}]: {one}, expected {right}"
        )


def _rounding(n: int, means: Any, cross: list[float]) -> list[float]:
    """Bound what centred products lose because the means of each piece are rounded to floats.

    M = Σ (Mᵢ + nᵢ (aᵢ − a)(bᵢ − b)); errors of ε|a| and ε|b| in each mean move it by at most
    ε (|a| √(n M_bb) + |b| √(n M_aa)); sums of both signs are rounded beside √(M_aa M_bb).
    """
    error = [2.0**-52 * abs(mean) for mean in (means if isinstance(means, list) else [means])]
    size = [math.sqrt(cross[k * (len(error) + 1)]) for k in range(len(error))]
    return [
        math.sqrt(n) * (error[i] * size[j] + error[j] * size[i]) + 1e-12 * size[i] * size[j]
        for i in range(len(error))
        for j in range(len(error))
    ]
