"""What moved between two releases: stores, hyperparameters, pools and totals, metric by metric.

Two nights rest on almost the same days, so a difference of theirs is no test: it is told in units
of what either release claims to know. The unit is the root mean square of both posterior sds. It
is the same whichever release comes first, and a store that was vague in one of them does not look
as if it had leapt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.lake import Lake
from hbpipe.data.pairing import Pairing, pair
from hbpipe.data.quantities import RESERVED
from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError
from hbpipe.run.history import Release
from hbpipe.run.releases import read_of

Floats = NDArray[np.float64]
Records = list[dict[str, Any]]

_TOTALS = ("days", "rows", "accepted", "rejected", "repeated", "units", "pools")
_MADE_FROM = ("input", "settings", "kernel", "hbpipe")
_NUMBERS = ["n", "mean", "sd"]
_OF_POOLS = ("status", "method", "at_bound")


@dataclass(frozen=True)
class MetricDiff:
    """What moved in one metric; counts are whole, lists hold at most ``limit`` rows.

    Attributes
    ----------
    metric
        Its name.
    compared
        Posteriors that both releases have: of a unit, or a nested group, and a term.
    moved
        Of these, how many moved by more than the threshold.
    largest
        The largest move, in posterior sds; None where nothing is comparable.
    stores
        The posteriors that moved furthest: both means and sds, and the move ``b - a`` in sds.
    new, vanished
        Units that only ``b`` has, and only ``a``; one that moved to another chain is both.
    new_stores, vanished_stores
        Some of them.
    hyperparameters
        Values and sds side by side, with their drift ``b - a`` in sds; furthest first.
    pools
        Pools whose status, method or bounds changed, with both; None in a release without them.
    """

    metric: str
    compared: int
    moved: int
    largest: float | None
    stores: Records
    new: int
    vanished: int
    new_stores: Records
    vanished_stores: Records
    hyperparameters: Records
    pools: Records


def totals(a: Release, b: Release) -> Records:
    """Put the totals of two releases side by side, each with its change."""
    return [
        {"total": name, "a": a[name], "b": b[name], "change": _change(a[name], b[name])}
        for name in _TOTALS
    ]


def made_from(a: Release, b: Release) -> list[str]:
    """Name what two releases were not made from alike: input, settings, kernel, hbpipe."""
    return [name for name in _MADE_FROM if a[name] != b[name]]


def diff(
    lake: Lake,
    a: Release,
    b: Release,
    *,
    metric: str | None = None,
    threshold: float = 1.0,
    limit: int = 20,
) -> Iterator[MetricDiff]:
    """Compare two releases, one metric in memory at a time.

    Parameters
    ----------
    a, b
        Rows of ``releases``.
    metric
        This metric alone.
    threshold
        A posterior has moved when its mean did by more than so many sds, the root mean square of
        both releases'.
    limit
        The longest list.

    Raises
    ------
    ConfigError
        Neither release has the metric.
    LakeError
        A table of a release cannot be read.
    """
    fits = read_of(lake, a, "fits"), read_of(lake, b, "fits")
    hyper = read_of(lake, a, "hyperparameters"), read_of(lake, b, "hyperparameters")
    names = sorted({name for table in fits for name in table["metric"].unique().to_pylist()})
    if metric is not None and metric not in names:
        raise ConfigError(f"neither release has a metric {metric!r}{nearest(metric, names)}")
    for name in names if metric is None else [metric]:
        yield MetricDiff(
            metric=name,
            **_stores(_posteriors(lake, a, name), _posteriors(lake, b, name), threshold, limit),
            hyperparameters=_hyperparameters(*_of_metric(hyper, name))[:limit],
            pools=_pools(*_of_metric(fits, name))[:limit],
        )


def _posteriors(lake: Lake, row: Release, metric: str) -> pa.Table:
    """Read what is compared of one metric: levels, level, term, and the numbers."""
    version = dict(row["versions"])["posteriors"]
    columns = lake.snapshot("posteriors", version).schema.names
    levels = columns[columns.index("metric") + 1 : columns.index("level")]
    names = [*levels, "level", "term", *_NUMBERS]
    return read_of(lake, row, "posteriors", columns=names, filters=[("metric", "==", metric)])


def _stores(a: pa.Table, b: pa.Table, threshold: float, limit: int) -> dict[str, Any]:
    levels = a.column_names[: a.column_names.index("level")]
    key = [*levels, "level", "term"]
    paired = pair(a, b, key)
    left, right = a.select(_NUMBERS).take(paired.left), b.select(_NUMBERS).take(paired.right)
    moves = _in_sds(left, right, "mean")
    size = np.abs(moves)  # NaN where either release has no posterior, or neither an sd
    moved = np.flatnonzero(size > threshold)
    shown = moved[np.argsort(-size[moved], kind="stable")][:limit]
    keys = a.select(key).take(paired.left[shown]).to_pylist()
    numbers = _side_by_side(left.take(shown), right.take(shown), _NUMBERS)
    appeared, gone = _units(b, paired.only_right, levels), _units(a, paired.only_left, levels)
    return {
        "compared": len(moves),
        "moved": len(moved),
        "largest": None if np.isnan(size).all() else float(np.nanmax(size)),
        "stores": [
            {**place, **values, "moved": float(move)}
            for place, values, move in zip(keys, numbers, moves[shown], strict=True)
        ],
        "new": appeared.num_rows,
        "vanished": gone.num_rows,
        "new_stores": appeared.slice(0, limit).to_pylist(),
        "vanished_stores": gone.slice(0, limit).to_pylist(),
    }


def _units(table: pa.Table, rows: NDArray[np.int64], levels: Sequence[str]) -> pa.Table:
    """Return the units among some rows, each once, however many terms it has."""
    chosen = table.take(rows)
    chosen = chosen.filter(pc.equal(chosen["level"], levels[-1]))
    return chosen.group_by(list(levels), use_threads=False).aggregate([])


def _hyperparameters(a: pa.Table, b: pa.Table) -> Records:
    levels = a.column_names[a.column_names.index("metric") + 1 : a.column_names.index("pool")]
    paired = pair(a, b, [*levels, "pool", "family", "parameter"])
    left, right = a.take(paired.left), b.take(paired.right)
    drift = _in_sds(left, right, "value")
    order = np.argsort(-np.nan_to_num(np.abs(drift), nan=-1.0), kind="stable")
    keys = left.select([*levels, "pool", "parameter"]).to_pylist()
    numbers = _side_by_side(left, right, ("value", "sd"))
    return [{**keys[k], **numbers[k], "drift": _known(drift[k])} for k in order]


def _pools(a: pa.Table, b: pa.Table) -> Records:
    levels = [name for name in a.column_names if name not in RESERVED]
    paired = pair(a, b, [*levels, "pool"])
    records = []
    for left, right in _partners(a, b, paired, [*levels, "pool", *_OF_POOLS]):
        known = left or right
        assert known is not None  # each pair has at least one side
        if left is None or right is None or any(left[n] != right[n] for n in _OF_POOLS):
            key = {name: known[name] for name in [*levels, "pool"]}
            sides = (("a", left), ("b", right))
            both = {f"{name}_{s}": r and r[name] for name in _OF_POOLS for s, r in sides}
            records.append({**key, **both})
    return records


def _partners(
    a: pa.Table, b: pa.Table, paired: Pairing, names: Sequence[str]
) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Give the rows of each pair, then those without a partner."""
    left, right = a.select(list(names)), b.select(list(names))
    yield from zip(
        left.take(paired.left).to_pylist(), right.take(paired.right).to_pylist(), strict=True
    )
    yield from ((row, None) for row in left.take(paired.only_left).to_pylist())
    yield from ((None, row) for row in right.take(paired.only_right).to_pylist())


def _in_sds(a: pa.Table, b: pa.Table, name: str) -> Floats:
    """Return ``b - a`` of paired rows in units of the root mean square of both sds.

    A move from one certain value to another is infinite. NaN where a value or an sd is missing: a
    hyperparameter on a bound has none, and its change is told with the status of the pool.
    """
    before, after = _floats(a, name), _floats(b, name)
    unit = np.sqrt((_floats(a, "sd") ** 2 + _floats(b, "sd") ** 2) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = (after - before) / unit
    return np.where((after == before) & (unit == 0), 0.0, moves)


def _side_by_side(a: pa.Table, b: pa.Table, names: Sequence[str]) -> Records:
    rows = zip(a.select(list(names)).to_pylist(), b.select(list(names)).to_pylist(), strict=True)
    return [
        {f"{name}_{side}": row[name] for name in names for side, row in (("a", x), ("b", y))}
        for x, y in rows
    ]


def _of_metric(tables: Sequence[pa.Table], metric: str) -> list[pa.Table]:
    return [table.filter(pc.equal(table["metric"], metric)) for table in tables]


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table.column(name).to_numpy(), np.float64)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _change(a: Any, b: Any) -> Any:
    return None if a is None or b is None else b - a
