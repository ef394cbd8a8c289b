"""One store explained: what it observed, what its pool believes, and what came of the two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, LakeError
from hbpipe.run.history import Release
from hbpipe.run.releases import read_of

Record = dict[str, Any]

#: What is told of the release before.
_BEFORE = ("mean", "sd", "n")


@dataclass(frozen=True)
class Belief:
    """A law in a few numbers: ``low`` and ``high`` hold it with probability ``coverage``.

    All are None where nothing may be said, as of a pool whose data determine no prior. A law may
    have a ``median`` and limits, and no mean.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    coverage: float | None
    median: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything may be said."""
        return self.mean is not None or self.low is not None

    @staticmethod
    def of(row: Record) -> Belief:
        """Take the outermost limits that a row has."""
        known = [name for name in row if name.startswith("q0.") and row[name] is not None]
        levels = {float(name[1:]): row[name] for name in known}
        if len(levels) < 2:
            return Belief(row["mean"], row["sd"], None, None, None, levels.get(0.5))
        least, greatest = min(levels), max(levels)
        coverage = round(greatest - least, 12)
        limits = levels[least], levels[greatest]
        return Belief(row["mean"], row["sd"], *limits, coverage, levels.get(0.5))


@dataclass(frozen=True)
class MetricStory:
    """One metric and term of a store.

    Attributes
    ----------
    metric, term, pool, method
        As in ``posteriors``.
    row
        The store's whole row of ``posteriors``.
    posterior
        What is believed of the store.
    new_store
        What its pool's prior says of a store never seen; None where the pool has several kinds.
    stores
        How many stores of the pool the prior was learnt from; None in a release without fits.
    before
        Mean, sd and n in the release before; None where it had no such row.
    """

    metric: str
    term: str
    pool: str
    method: str
    row: Record
    posterior: Belief
    new_store: Belief | None
    stores: int | None
    before: Record | None


@dataclass(frozen=True)
class StoreStory:
    """A store in a release: its ``levels``, and its metrics in the order of their names."""

    levels: Record
    release: str
    as_of: str
    previous: str | None
    metrics: tuple[MetricStory, ...]

    def to_dict(self) -> Record:
        """Give everything as one JSON-like object."""
        metrics = [
            {**vars(one), "posterior": vars(one.posterior), "new_store": _vars(one.new_store)}
            for one in self.metrics
        ]
        return {**vars(self), "metrics": metrics}


def _vars(belief: Belief | None) -> Record | None:
    return None if belief is None else dict(vars(belief))


def explain_store(
    lake: Lake, release: Release, previous: Release | None, levels: Sequence[str], store: str
) -> list[StoreStory]:
    """Tell what a release says of a store, and what the release before said.

    Parameters
    ----------
    levels
        From coarse to fine; the last is the store's.
    store
        Its id as text. Chains may give the same id to stores of theirs: each is told of.

    Raises
    ------
    LakeError
        No store of the release has this id.
    """
    rows = _rows_of(lake, release, levels[-1], store)
    if not rows:
        raise LakeError(
            f"no store {store!r} in release {release['release']}",
            where={"lake": lake.uri},
            expected=f"a value of {levels[-1]} in posteriors, or a day such as 2026-01-31",
            remedy=f"list them with `hbpipe read posteriors --columns {','.join(levels)}`",
        )
    priors = _Priors.read(lake, release)
    earlier = {}
    if previous is not None:
        before = _rows_of(lake, previous, levels[-1], store)
        earlier = {_key(row, levels): {name: row[name] for name in _BEFORE} for row in before}
    return [
        StoreStory(
            levels=dict(zip(levels, unit, strict=True)),
            release=release["release"],
            as_of=release["as_of"].isoformat(),
            previous=None if previous is None else previous["release"],
            metrics=tuple(
                _metric(row, priors, levels[-1], earlier.get(_key(row, levels))) for row in own
            ),
        )
        for unit, own in _by_unit(rows, levels)
    ]


def _rows_of(lake: Lake, release: Release, level: str, store: str) -> list[Record]:
    version = dict(release["versions"])["posteriors"]
    kind = lake.snapshot("posteriors", version).schema.field(level).type
    try:
        value = pa.scalar(store).cast(kind).as_py()
    except pa.ArrowInvalid:
        raise ConfigError(f"the id {store!r}", expected=f"{level}, {kind}") from None
    rows = read_of(lake, release, "posteriors", filters=[(level, "==", value)]).to_pylist()
    return [row for row in rows if row["level"] == level]


def _key(row: Record, levels: Sequence[str]) -> tuple[Any, ...]:
    return (row["metric"], row["term"], *(row[name] for name in levels))


def _by_unit(
    rows: list[Record], levels: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], list[Record]]]:
    """Yield the rows of each store that has the id, chain by chain."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for row in sorted(rows, key=lambda row: row["metric"]):
        found.setdefault(tuple(row[name] for name in levels), []).append(row)
    yield from sorted(found.items(), key=lambda item: tuple(map(str, item[0])))


@dataclass(frozen=True)
class _Priors:
    """What pools believe: rows of ``new_stores``, and stores by metric and pool."""

    new_stores: list[Record]
    stores: dict[tuple[str, str], int]

    @staticmethod
    def read(lake: Lake, release: Release) -> _Priors:
        fits = read_of(lake, release, "fits", columns=["metric", "pool", "n_groups"]).to_pylist()
        return _Priors(
            read_of(lake, release, "new_stores").to_pylist(),
            {(row["metric"], row["pool"]): row["n_groups"] for row in fits},
        )

    def of(self, row: Record, level: str) -> Belief | None:
        """Return the law of a store never seen of the row's pool, where there is a single one."""
        same = ("metric", "pool", "term")
        found = [
            new
            for new in self.new_stores
            if new["level"] == level and all(new[name] == row[name] for name in same)
        ]
        return Belief.of(found[0]) if len(found) == 1 else None


def _metric(row: Record, priors: _Priors, level: str, before: Record | None) -> MetricStory:
    return MetricStory(
        metric=row["metric"],
        term=row["term"],
        pool=row["pool"],
        method=row["method"],
        row=row,
        posterior=Belief.of(row),
        new_store=priors.of(row, level),
        stores=priors.stores.get((row["metric"], row["pool"])),
        before=before,
    )
