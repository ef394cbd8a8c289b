"""A first configuration drafted from the events themselves, every choice with its evidence."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import available_timezones

from hbpipe.data.suggest.metrics import LeftOut, Suggestion, suggest_metrics
from hbpipe.data.suggest.profile import Profile, Sample, read_sample
from hbpipe.data.suggest.roles import (
    Choice,
    Levels,
    choose_event_id,
    choose_levels,
    unique_pair,
)
from hbpipe.data.suggest.times import (
    choose_time,
    has_clock,
    is_aware,
    row_per_unit_and_day,
    zone,
)
from hbpipe.data.suggest.writing import comment, scalar, slug

MAX_ROWS = 200_000


def suggest(path: str | Path) -> str:
    """Draft a commented YAML configuration from a Parquet file or a folder of them.

    Names and values are judged on a sample of at most 200,000 rows from row groups spread over
    at most 16 files. The draft loads and runs as it is; its comments give the evidence for each
    choice, and what was left out and why.

    Parameters
    ----------
    path
        A Parquet file, or a folder, flat or hive-partitioned; local or an object-store address.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    EventsError
        The path is missing, empty or no Parquet; the files disagree; or no column can be the
        time or the unit. The message says what to do.
    """
    root = str(path)
    sample = read_sample(root, MAX_ROWS)
    profiles = [Profile(name, sample.table[name]) for name in sample.table.column_names]
    time, time_why = choose_time(profiles, root)
    others = [profile for profile in profiles if profile.kind != "time"]
    event_id = choose_event_id(others)
    labels = [p for p in others if event_id is None or p.name not in event_id.columns]
    levels = choose_levels(labels, root)
    by_name = {profile.name: profile for profile in profiles}
    places = [by_name[name] for name in levels.columns]
    taken = {time.name, *levels.columns, *(event_id.columns if event_id else ())}
    free = [profile for profile in profiles if profile.name not in taken]
    totals = row_per_unit_and_day(time, places)
    metrics, left_out = suggest_metrics(free, places[-1], totals)
    pipeline = _pipeline(root)
    return "\n".join(
        [
            *_header(sample),
            f"pipeline: {scalar(pipeline)}",
            "events:",
            f"  path: {scalar(root)}",
            *_time_lines(time, time_why),
            *_level_lines(levels),
            *_id_lines(event_id, unique_pair(labels) if event_id is None else None),
            "metrics:",
            *_metric_lines(metrics),
            *_left_out_lines(left_out),
            *_inference_lines(levels),
            f"lake: {{path: {pipeline}-lake}}  # a folder for the tables of this pipeline alone",
            "",
        ]
    )


def _header(sample: Sample) -> list[str]:
    rows = f"{len(sample.table):,} of the {sample.available:,} rows"
    files = f"{sample.files_read:,} of {sample.files:,} file(s)"
    return comment(
        f"Drafted by `hbpipe suggest` from a sample: {rows} in {files}. All figures are of that "
        "sample. Read each line, then see what would be done: hbpipe plan"
    )


def _pipeline(root: str) -> str:
    """Name the pipeline after the file or folder, or after what a folder ``events`` lies in."""
    place = root if "://" in root else os.path.normpath(Path.cwd() / root)
    parts = [part for part in place.split("/") if part]
    name = slug(re.sub(r"\.(parquet|pq|parq)$", "", parts[-1]))
    return slug(parts[-2]) if name == "events" and len(parts) > 1 else name


def _time_lines(time: Profile, why: str) -> list[str]:
    clock = has_clock(time)
    own = zone(time)
    named = own in available_timezones()  # an offset such as +01:00 is no zone
    if not clock:
        note = "whole days; the zone decides when a day is over: set that of your stores"
    elif named:
        note = (
            "instants; the zone is the column's own, and the business day begins in it: if your "
            "stores are in another, set that"
        )
    elif is_aware(time):
        note = "instants; the business day begins in this zone: set that of your stores"
    else:
        note = "times without a zone are taken as local in this one: set that of your stores"
    return [
        *comment(why, 2),
        f"  {'time' if clock else 'day'}: {scalar(time.name)}",
        *comment(note, 2),
        f"  timezone: {own if named else 'UTC'}",
        *(["  # day_start: '02:00'  # where the till closes after midnight"] if clock else []),
    ]


def _level_lines(levels: Levels) -> list[str]:
    names = ", ".join(scalar(name) for name in levels.columns)
    lines = [*comment(f"coarse to fine; {levels.why}", 2), f"  levels: [{names}]"]
    if levels.unit_ids != "auto":
        lines.append(f"  unit_ids: {levels.unit_ids}")
    return lines


def _id_lines(event_id: Choice | None, pair: Choice | None) -> list[str]:
    if event_id is not None:
        return [*comment(event_id.why, 2), f"  event_id: {scalar(event_id.columns[0])}"]
    none = "no single column tells events apart, so repeated deliveries will not be recognised"
    if pair is None:
        return comment(none, 2)
    names = ", ".join(scalar(name) for name in pair.columns)
    return [
        *comment(f"{none}; {pair.why}: if that is always so, uncomment", 2),
        f"  # event_id: [{names}]",
    ]


def _metric_lines(metrics: Sequence[Suggestion]) -> list[str]:
    lines = []
    for metric in metrics:
        lines += [*comment(metric.why, 2), f"  {scalar(metric.name)}: {metric.body}"]
    return lines


def _left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return []
    notes = [comment(f"- {scalar(column.name)}: {column.why}", 2) for column in left_out]
    return ["  # left out:", *(line for note in notes for line in note)]


def _inference_lines(levels: Levels) -> list[str]:
    pools = ", ".join(scalar(name) for name in levels.columns[:-1])
    meaning = f"one prior for each {pools}" if pools else "one prior over all units"
    return [
        "inference:",
        *comment(meaning, 2),
        f"  pool_by: [{pools}]",
        "  window: 28d  # the days that a night looks back on, or `all`",
    ]
