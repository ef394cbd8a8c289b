"""Known totals that the estimates of a metric are to add up to, as the configuration names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hbpipe.data.covariates import attributes
from hbpipe.data.spelling import nearest

if TYPE_CHECKING:
    from hbpipe.data.quantities import Metric
    from hbpipe.model.family import Family

#: What stores are weighed by unless it is a column of the table of stores: their size in the window
#: (trials, exposure, values, or 1/variance), or nothing.
SIZE, EQUAL = "n", "equal"
_KEYS = ("totals", "total", "mean", "weight")


@dataclass(frozen=True)
class Reconcile:
    """The item ``reconcile`` of a metric.

    ``column`` of the table ``totals`` holds what the weighted estimates of a group of stores add
    up to, or with ``is_mean`` what their weighted mean is; ``weight`` is ``SIZE``, ``EQUAL`` or a
    column of the table of stores.
    """

    totals: str
    column: str
    is_mean: bool
    weight: str = SIZE

    @property
    def weight_column(self) -> str | None:
        """The column of the table of stores that is needed, if any."""
        return None if self.weight in (SIZE, EQUAL) else self.weight


def parse_reconcile(raw: Any, family: Family) -> Reconcile:
    """Parse ``reconcile: {totals: totals.parquet, mean: conversion, weight: n}``.

    Raises
    ------
    ValueError
        For a key that is none or missing, or a family whose stores are more than one number
        or may have no mean.
    """
    if any(role.several for role in family.roles):
        raise ValueError(f"reconcile: a store of {family.name} is several numbers, and no total")
    if family.heavy_tails:
        raise ValueError(
            f"reconcile: a store of {family.name} may have no mean, and so nothing adds up"
        )
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
    given = {"weight": SIZE, **raw}
    for key in ("totals", *named, "weight"):
        if not isinstance(given[key], str) or not given[key]:
            raise ValueError(f"reconcile.{key} is a text, found {given[key]!r}")
    return Reconcile(given["totals"], given[named[0]], named == ["mean"], given["weight"])


def needed_columns(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """List the columns of the table of stores that metrics need, each once."""
    every = tuple(metrics)
    covariates = attributes(one for metric in every for one in metric.covariates)
    return tuple(dict.fromkeys((*covariates, *weight_columns(every))))


def weight_columns(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """List the columns of the table of stores by which estimates are weighed, each once."""
    asked = [metric.reconcile.weight_column for metric in metrics if metric.reconcile is not None]
    return tuple(dict.fromkeys(column for column in asked if column is not None))
