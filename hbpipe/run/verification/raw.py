"""Raw files against statistics: every event counted again, row by row.

The recount (``data.recount``) shares no code with the kernel, so an error in either shows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.config import Settings
from hbpipe.data.classes import read_classes
from hbpipe.data.clock import to_date
from hbpipe.data.clusters import one_in
from hbpipe.data.events import full_path
from hbpipe.data.forgotten import is_forgotten, read_forgotten
from hbpipe.data.lake import Lake
from hbpipe.data.parsing import parse_metric
from hbpipe.data.quantities import Metric
from hbpipe.data.recount import Recount, RecountMetric, RecountSpec, recount
from hbpipe.data.weights import read_weights
from hbpipe.model.families import get_family
from hbpipe.model.family import Statistic
from hbpipe.run.inference.rounding import equal, numbers, roundings
from hbpipe.run.inventory import locate_events
from hbpipe.run.ledger import FileEntry
from hbpipe.run.stock import event_format
from hbpipe.run.verification.findings import Finding, finding


def spread(days: Iterable[int], sample: int | None) -> list[int]:
    """Return all days, or ``sample`` of them, evenly spread."""
    ordered = sorted(days)
    if sample is None or sample >= len(ordered):
        return ordered
    return [ordered[k * len(ordered) // sample] for k in range(sample)]


def recount_days(
    settings: Settings, lake: Lake, days: Sequence[int], files: Iterable[FileEntry]
) -> Iterator[Finding]:
    """Compare every unit's statistics of some days with the raw files that feed them.

    Units that were forgotten are in the raw files still, and must not be in the statistics.
    """
    form, _ = locate_events(event_format(settings))
    levels, wanted = form.levels, {to_date(day) for day in days}
    feeding = [
        full_path(form.root, entry.path)
        for entry in files
        if entry.state == "read" and not entry.days.keys().isdisjoint(days)
    ]
    counted = recount(feeding, recount_spec(settings))
    held = pa.array(sorted(wanted), pa.date32())
    statistics, forgotten = lake.read("statistics"), read_forgotten(lake)
    rows = statistics.filter(pc.is_in(statistics["day"], held)).to_pylist()
    expected = {
        key: n
        for key, n in counted.accepted.items()
        if key[0] in wanted and not is_forgotten(forgotten, dict(zip(levels, key[1:], strict=True)))
    }
    metrics = [metric.name for metric in settings.parsed_metrics]
    yield _compare_events(metrics, levels, rows, expected)
    for metric in settings.parsed_metrics:
        mine = {_key(row, levels): row for row in rows if row["metric"] == metric.name}
        yield _compare_metric(metric, mine, counted)


def _key(row: Mapping[str, Any], levels: Sequence[str]) -> tuple[Any, ...]:
    return (row["day"], *(row[name] for name in levels))


def _compare_events(
    metrics: Sequence[str],
    levels: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    expected: Mapping[tuple[Any, ...], int],
) -> Finding:
    """Compare the events of every unit and day, which each metric's row repeats."""
    found = {
        (row["metric"], *_key(row, levels)): row["n_events"]
        for row in rows
        if row["metric"] in metrics  # a day may keep others, of earlier settings
    }
    wanted = {(name, *key): n for name in metrics for key, n in expected.items()}
    faults = [
        f"{_shown(key)}: {found.get(key, 0)} events, {wanted.get(key, 0)} in the raw files"
        for key in sorted(wanted.keys() | found.keys(), key=str)
        if found.get(key, 0) != wanted.get(key, 0)
    ]
    days = len({key[0] for key in expected})
    return finding("recount_rows", faults, f"{sum(expected.values()):,} events of {days} day(s)")


def _compare_metric(
    metric: Metric, rows: Mapping[tuple[Any, ...], Mapping[str, Any]], counted: Recount
) -> Finding:
    """Compare every statistic; a unit none of whose rows counts has the family's empty ones."""
    absent = {one.name: _absent(one) for one in metric.measured.statistics}
    if metric.calendar is not None:
        del absent["exposure"]  # no row carries it: days are counted when the window is folded
    sampled = _sampled_days(counted)
    faults: list[str] = []
    for key, row in rows.items():
        expected = counted.statistics[metric.name].get(key, absent)
        found = list(_differences(absent, row, expected))
        if metric.cells.clusters and key[0] not in sampled:
            found += _cluster_differences(row, counted.clusters[metric.name].get(key, []))
        faults += [f"{_shown(key)}: {fault}" for fault in found]
    compared = len(rows) * sum(len(numbers(values)) for values in absent.values())
    return finding(f"recount[{metric.name}]", faults, f"{compared:,} statistics are equal")


def _absent(statistic: Statistic) -> Any:
    value = int(statistic.absent) if statistic.dtype == "int64" else statistic.absent
    return [value] * math.prod(statistic.shape) if statistic.shape else value


def _cluster_differences(
    row: Mapping[str, Any], expected: Sequence[tuple[float, float]]
) -> list[str]:
    """Compare size and total of every cluster of a unit and day, whatever the clusters' names."""
    found = sorted(zip(row["cluster_size"] or (), row["cluster_total"] or (), strict=True))
    if len(found) != len(expected):
        return [f"{len(found)} clusters, {len(expected)} in the raw files"]
    return [
        f"a cluster of {one[0]:g} with {one[1]:g}, {two} in the raw files"
        for one, two in zip(found, expected, strict=True)
        if not (equal(one[0], two[0], 0.0) and equal(one[1], two[1], 0.0))
    ]


def _sampled_days(counted: Recount) -> set[date]:
    """Return the days of which a sample of the clusters is kept."""
    rows: Counter[date] = Counter()
    for file in counted.files.values():
        rows.update({day: count.rows for day, count in file.days.items()})
    return {day for day, n in rows.items() if one_in(n) > 1}


def _differences(
    names: Iterable[str], row: Mapping[str, Any], expected: Mapping[str, Any]
) -> Iterator[str]:
    """Say which numbers of a row are not those of the raw files."""
    for name in names:
        found, right = numbers(row[name]), numbers(expected[name])
        if len(found) != len(right):
            yield f"{name} has {len(found)} numbers, {len(right)} in the raw files"
            continue
        for place, allowed in enumerate(roundings(name, expected)):
            if not equal(found[place], right[place], allowed):
                which = name if len(right) == 1 else f"{name}[{place}]"
                yield f"{which} {found[place]}, {right[place]} in the raw files"


def _shown(key: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in key)


def recount_spec(settings: Settings) -> RecountSpec:
    """Describe the settings to the recount, in the words of the YAML."""
    events = settings.events
    return RecountSpec(
        time=str(events.time or events.day),
        time_kind="timestamp" if events.time else "day",
        timezone=events.timezone,
        day_start_minutes=events.day_start,
        levels=events.levels,
        event_id=events.event_id,
        earliest=events.earliest,
        latest=events.latest,
        metrics=tuple(_recount_metric(*one) for one in settings.written_metrics.items()),
    )


def _recount_metric(name: str, raw: Mapping[str, Any]) -> RecountMetric:
    clusters = parse_metric(name, raw).cells.clusters
    raw, weights = read_weights(raw)
    family = get_family(raw["family"])
    written = read_classes(family.roles[0].name, raw)[0] if family.roles[0].several else raw
    weight = () if weights is None else ("weight",)
    roles = {name: written[name] for name in (*(role.name for role in family.roles), *weight)}
    roles |= {
        role.name: list(roles[role.name].values())
        for role in family.roles
        if role.several and isinstance(roles[role.name], Mapping)
    }
    where, transform = written.get("where", ()), raw.get("transform")
    return RecountMetric(
        name,
        raw["family"],
        roles,
        where,
        transform,
        clusters,
        experiment=raw.get("experiment"),
        weights=weights,
    )
