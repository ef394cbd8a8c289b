"""What a file's columns must look like, checked on its schema before any row is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from hbpipe.data.clock import accepts
from hbpipe.data.events import EventFormat, hive_values, level_type
from hbpipe.data.quantities import Metric
from hbpipe.data.spelling import nearest


def schema_faults(
    schema: pa.Schema, path: str, form: EventFormat, metrics: Iterable[Metric]
) -> list[str]:
    """List what is wrong with a file's columns for these metrics: missing, doubled, mistyped."""
    metrics = tuple(metrics)
    types = dict.fromkeys(hive_values(path), pa.string()) | {f.name: f.type for f in schema}
    faults = []
    for name in form.columns(metrics):
        count = schema.names.count(name)
        if count > 1:
            faults.append(f"column {name!r} appears {count} times")
        elif name not in types:
            faults.append(f"column {name!r} is missing{nearest(name, types)}")
    faults += _key_faults(types, form)
    for metric in metrics:
        faults += _metric_faults(types, metric)
    return list(dict.fromkeys(faults))


def _key_faults(types: Mapping[str, pa.DataType], form: EventFormat) -> list[str]:
    faults = [
        f"level {name!r} is {types[name]}, expected text or signed whole numbers"
        for name in form.levels
        if name in types and level_type(types[name]) is None
    ]
    faults += [
        f"event id {name!r} is {types[name]}, expected text or a number"
        for name in form.event_id
        if name in types and pa.types.is_nested(types[name])
    ]
    if form.time in types and not accepts(types[form.time]):
        faults.append(
            f"time {form.time!r} is {types[form.time]}, expected a timestamp, a date or ISO text"
        )
    return faults


def _metric_faults(types: Mapping[str, pa.DataType], metric: Metric) -> list[str]:
    faults = [
        f"{name!r} is {types[name]}, but {metric.name}.{what} needs a number or boolean"
        for what, quantity in (*metric.roles.items(), *metric.terms.items())
        for name in (() if quantity.kind == "where" else quantity.columns)
        if name in types and not _is_number(types[name])
    ]
    faults += [
        f"{name!r} is {types[name]}, but {metric.name} takes it for a cluster: text or a number"
        for name in metric.cells.clusters
        if name in types and not (_is_text(types[name]) or _is_number(types[name]))
    ]
    faults += _arm_faults(types, metric)
    quantities = (*metric.roles.values(), *metric.terms.values())
    conditions = metric.where + tuple(c for q in quantities for c in q.where)
    for condition in conditions:
        if condition.column in types and condition.operator not in ("is_null", "not_null"):
            kind = types[condition.column]
            values = condition.value if condition.operator == "in" else (condition.value,)
            faults += [
                f"{condition.column!r} is {kind}, but {metric.name} compares it with {value!r}"
                for value in values
                if not _comparable(kind, value)
            ]
    return faults


def _arm_faults(types: Mapping[str, pa.DataType], metric: Metric) -> list[str]:
    if metric.experiment is None or metric.experiment.column not in types:
        return []
    name, kind = metric.experiment.column, types[metric.experiment.column]
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return [
            f"{name!r} is {kind}, but {metric.name} takes it for an arm: text, a whole number or a "
            "boolean"
        ]
    return [
        f"{name!r} is {kind}, but {metric.name} has the arm {value!r}"
        for value in metric.experiment.values
        if not _comparable(kind, value)
    ]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    )


def _comparable(kind: pa.DataType, value: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(value, bool):
        return bool(pa.types.is_boolean(kind))
    if isinstance(value, str):
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return _is_number(kind) and not pa.types.is_boolean(kind)
