"""Known totals that the estimates of a metric are to add up to, as the configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hbpipe.data.spelling import nearest

if TYPE_CHECKING:
    from hbpipe.model.family import Family

#: What stores are weighed by: ``n``, their size in the window (trials, exposure, values, or
#: 1/variance), or ``equal``.
WEIGHTS = ("n", "equal")
_KEYS = ("totals", "total", "mean", "weight")


@dataclass(frozen=True)
class Reconcile:
    """The item ``reconcile`` of a metric.

    ``column`` of the table ``totals`` holds what the weighted estimates of a group of stores add
    up to, or with ``is_mean`` what their weighted mean is.
    """

    totals: str
    column: str
    is_mean: bool
    weight: str = WEIGHTS[0]


def parse_reconcile(raw: Any, family: Family) -> Reconcile:
    """Parse ``reconcile: {totals: totals.parquet, mean: conversion, weight: n}``.

    Raises
    ------
    ValueError
        For a key that is none or missing, or a family whose stores are more than one number.
    """
    if any(role.several for role in family.roles):
        raise ValueError(f"reconcile: a store of {family.name} is several numbers, and no total")
    example = "{totals: totals.parquet, mean: conversion, weight: n}"
    if not isinstance(raw, Mapping):
        raise ValueError(f"reconcile is a mapping such as {example}, found {raw!r}")
    for key in raw:
        if key not in _KEYS:
            raise ValueError(f"reconcile: unknown key {key!r}{nearest(str(key), _KEYS)}")
    named = [key for key in ("total", "mean") if key in raw]
    if "totals" not in raw or len(named) != 1:
        raise ValueError(
            "reconcile names the table of totals, and a column of it as either total (what "
            f"weight times estimate adds up to) or mean (the weighted mean): {example}"
        )
    for key in ("totals", *named):
        if not isinstance(raw[key], str) or not raw[key]:
            raise ValueError(f"reconcile.{key} is a text, found {raw[key]!r}")
    weight = raw.get("weight", WEIGHTS[0])
    if weight not in WEIGHTS:
        raise ValueError(f"reconcile.weight is one of {', '.join(WEIGHTS)}, found {weight!r}")
    return Reconcile(raw["totals"], raw[named[0]], named == ["mean"], weight)
