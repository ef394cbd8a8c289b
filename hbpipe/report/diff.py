"""The difference of two releases, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hbpipe.report.tables import text_table
from hbpipe.run.diff import MetricDiff, made_from, totals
from hbpipe.run.history import Release


def describe_diff(
    a: Release, b: Release, found: Sequence[MetricDiff], threshold: float
) -> dict[str, Any]:
    """Give the difference of two releases as JSON-like values."""
    return {
        "a": _release(a),
        "b": _release(b),
        "threshold": threshold,
        "totals": totals(a, b),
        "made_from": made_from(a, b),
        "metrics": [vars(one) for one in found],
    }


def diff_text(found: dict[str, Any]) -> str:
    """Write a difference, as ``describe_diff`` gives it, for a terminal."""
    a, b = found["a"], found["b"]
    parts = [
        f"a: {a['release']} as of {a['as_of']}\nb: {b['release']} as of {b['as_of']}",
        text_table(found["totals"]),
    ]
    if found["made_from"]:
        parts.append(f"Not made from the same: {', '.join(found['made_from'])}")
    for one in found["metrics"]:
        parts += _metric(one, found["threshold"])
    return "\n\n".join(parts)


def _metric(one: dict[str, Any], threshold: float) -> list[str]:
    largest = one["largest"]
    furthest = "" if largest is None else f", the furthest by {largest:.3g} sds"
    parts = [
        f"{one['metric']}: {one['moved']:,} of {one['compared']:,} posteriors moved by more than "
        f"{threshold:g} posterior sds{furthest}; {one['new']:,} new and {one['vanished']:,} "
        "vanished stores"
    ]
    for name, title in (
        ("stores", "What moved furthest"),
        ("new_stores", "New stores"),
        ("vanished_stores", "Vanished stores"),
        ("hyperparameters", "Hyperparameters, the furthest drift first"),
        ("pools", "Pools whose fit has another status, method or bound"),
    ):
        if one[name]:
            parts.append(f"{title}\n{text_table(one[name])}")
    return parts


def _release(row: Release) -> dict[str, Any]:
    return {
        "release": row["release"],
        "environment": row["environment"],
        "as_of": row["as_of"].isoformat(),
        "released_at": row["released_at"].isoformat(),
    }
