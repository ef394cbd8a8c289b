"""Releases made of nothing but their tables: any ids, any number of stores, columns to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hbpipe.config import Settings
from hbpipe.data import posterior_schemas, schemas
from hbpipe.data.audit_tables import AUDITS
from hbpipe.data.lake import Lake
from hbpipe.data.schemas import Table
from hbpipe.run.history import Release
from hbpipe.run.release_table import RELEASES
from tests.nights import BASKET, CONVERSION, settings_for

AS_OF, RUN = date(2026, 3, 1), "20260302T041500-00000001"
ORDERS = {"family": "gamma_poisson", "count": "converted", "exposure": "days"}
METRICS: dict[str, Any] = {**CONVERSION, "basket": BASKET, "orders": ORDERS}
_TEXT, _DAY = pa.string(), pa.date32()
_LEVELS = {"chain_id": _TEXT, "store_id": _TEXT}
_QUANTILES = (0.05, 0.5, 0.95)

#: As `diagnostics` has them: a histogram has its bars in ``values``.
DIAGNOSTICS = Table(
    pa.schema(
        {
            "as_of": _DAY,
            "metric": _TEXT,
            "pool": _TEXT,
            "check": _TEXT,
            "value": pa.float64(),
            "threshold": pa.float64(),
            "status": _TEXT,
            "message": _TEXT,
            "values": pa.list_(pa.float64()),
        }
    ),
    partition_by=("as_of",),
    key=("as_of", "metric", "pool", "check"),
)

Stores = Sequence[tuple[str | None, str | None]]
Rows = Sequence[Mapping[str, Any]]


def release(
    folder: Path,
    stores: Stores,
    *,
    extra: Mapping[str, Any] | None = None,
    audits: Rows = (),
    diagnostics: Rows | None = None,
    nights: int = 3,
    seed: int = 1,
) -> tuple[Settings, Lake, Release]:
    """Release three metrics of some stores (chain, store); ``extra`` are further columns."""
    settings = settings_for(folder, metrics=METRICS)
    lake = Lake(settings.lake.path)
    pools = sorted({chain for chain, _ in stores if chain is not None})
    rng = np.random.default_rng(seed)
    posteriors, table = _posteriors(stores, rng, dict(extra or {}))
    made: dict[str, tuple[Table, list[pa.Table]]] = {
        "files": (schemas.FILES, [_files()]),
        "days": (schemas.DAYS, [_days()]),
        "quarantine": (schemas.QUARANTINE, [_quarantine(stores)]),
        "hyperparameters": (_HYPER, [_hyper(pools, AS_OF - timedelta(k)) for k in range(nights)]),
        "fits": (_FITS, [_fits(pools)]),
        "posteriors": (posteriors, [table]),
        "new_stores": (_NEW, [_new(pools)]),
        "audits": (AUDITS, [_audits([{"name": "drift"}, *audits])]),
    }
    if diagnostics is not None:
        rows = [{"as_of": AS_OF, **row} for row in diagnostics]
        found = pa.Table.from_pylist(rows, schema=DIAGNOSTICS.schema)
        made["diagnostics"] = (DIAGNOSTICS, [found])
    versions = {name: _commit(lake, name, *rows) for name, rows in made.items()}
    row = _row(settings, len(set(stores)), len(pools), versions)
    lake.create("releases", RELEASES.schema, ())
    _commit(lake, "releases", RELEASES, [pa.Table.from_pylist([row], schema=RELEASES.schema)])
    return settings, lake, row


def add_audits(lake: Lake, rows: Rows) -> None:
    """Record checks of the release that were made after it."""
    partition = {"as_of": AS_OF.isoformat()}
    table = _audits(rows).drop_columns(["as_of"])
    lake.append("audits", table, run_id="later", partition=partition)


def _commit(lake: Lake, name: str, table: Table, parts: Sequence[pa.Table]) -> int:
    lake.create(name, table.schema, table.partition_by)
    version = 0
    for part in parts:
        if table.partition_by:
            day = part["as_of"][0].as_py().isoformat()
            rows, partition = part.drop_columns(["as_of"]), {"as_of": day}
            version = lake.replace(name, rows, run_id=RUN, partition=partition)
        else:
            version = lake.replace(name, part, run_id=RUN)
    return version


def _row(settings: Settings, units: int, pools: int, versions: dict[str, int]) -> Release:
    counts = {"days": 28, "rows": 2800, "accepted": 2772, "rejected": 28, "repeated": 0}
    return {
        "release": f"{AS_OF}.1",
        "number": 1,
        "environment": "prod",
        "as_of": AS_OF,
        "run_id": RUN,
        "released_at": datetime(2026, 3, 2, 4, 15, tzinfo=UTC),
        "pipeline": settings.pipeline,
        "hbpipe": "0",
        "versions": list(versions.items()),
        "settings": settings.digest(),
        "units": units,
        "pools": pools,
        **counts,
    }


def _posteriors(
    stores: Stores, rng: np.random.Generator, extra: dict[str, Any]
) -> tuple[Table, pa.Table]:
    count, parts = len(stores), []
    extra = {name: pa.array(values) for name, values in extra.items()}
    table = posterior_schemas.posteriors_table(_LEVELS, _QUANTILES)
    schema = table.schema
    for name, values in extra.items():
        if name not in schema.names:
            schema = schema.append(pa.field(name, values.type))
    for metric in METRICS:
        n = np.floor(np.exp(rng.normal(4, 1.6, count))).astype(np.int64)
        mean = rng.beta(10, 90, count) if metric == "conversion" else rng.normal(3, 0.4, count)
        sd = np.abs(mean) / np.sqrt(n + 30)
        weight = n / (n + 100)
        columns: dict[str, Any] = {
            "as_of": [AS_OF] * count,
            "metric": [metric] * count,
            "chain_id": [chain for chain, _ in stores],
            "store_id": [store for _, store in stores],
            "level": ["store_id"] * count,
            "term": ["theta"] * count,
            "pool": [str(chain) for chain, _ in stores],
            "n": n,
            "raw": pa.array(mean + rng.normal(0, 2, count) * sd, mask=n == 0),
            "mean": mean,
            "sd": sd,
            "q0.05": mean - 1.64 * sd,
            "q0.5": mean,
            "q0.95": mean + 1.64 * sd,
            "weight": weight,
            "silent": n == 0,
            **extra,
        }
        empty = {name: pa.nulls(count, schema.field(name).type) for name in schema.names}
        parts.append(pa.table({**empty, **columns}).select(schema.names).cast(schema))
    return Table(schema, table.partition_by, table.key), pa.concat_tables(parts)


_POOL = {"chain_id": _TEXT}
_HYPER = schemas.hyperparameters_table(_POOL, _QUANTILES)
_FITS = schemas.fits_table(_POOL)
_NEW = posterior_schemas.new_stores_table(_POOL, _QUANTILES)
_PRIORS = {
    "conversion": ("beta_binomial", {"alpha": 10.0, "beta": 90.0, "mean": 0.1}, 0.1),
    "basket": ("normal", {"mu": 3.0, "tau": 0.4, "sigma": 0.7}, 3.0),
    "orders": ("gamma_poisson", {"shape": 56.0, "rate": 18.7, "mean": 3.0}, 3.0),
}


def _hyper(pools: Sequence[str], as_of: date) -> pa.Table:
    rows = [
        {"as_of": as_of, "metric": metric, "chain_id": pool, "pool": pool, "family": family}
        | {"parameter": name, "value": value * (1 + 0.01 * (as_of.day % 5)), "sd": value / 10}
        for metric, (family, prior, _) in _PRIORS.items()
        for pool in pools
        for name, value in prior.items()
    ]
    return pa.Table.from_pylist(rows, schema=_HYPER.schema)


def _fits(pools: Sequence[str]) -> pa.Table:
    told = {"status": "ok", "method": "integrated", "at_bound": "", "n_groups": 10}
    rows = [
        {"as_of": AS_OF, "metric": metric, "chain_id": pool, "pool": pool, "family": family, **told}
        for metric, (family, _, _) in _PRIORS.items()
        for pool in pools
    ]
    return pa.Table.from_pylist(rows, schema=_FITS.schema)


def _new(pools: Sequence[str]) -> pa.Table:
    rows = [
        {"as_of": AS_OF, "metric": metric, "chain_id": pool, "pool": pool, "level": "store_id"}
        | {"term": "theta", "mean": mean, "q0.05": 0.6 * mean, "q0.5": mean, "q0.95": 1.5 * mean}
        for metric, (_, _, mean) in _PRIORS.items()
        for pool in pools
    ]
    return pa.Table.from_pylist(rows, schema=_NEW.schema)


def _audits(rows: Rows) -> pa.Table:
    told = {"gate": "release", "subject": "conversion", "status": "pass", "value": 0.0}
    told |= {"threshold": 1.0, "message": "as it should be", "run_id": RUN}
    every = [{"as_of": AS_OF, **told, **row} for row in rows]
    return pa.Table.from_pylist(every, schema=AUDITS.schema)


def _days() -> pa.Table:
    told = {"state": "complete", "accepted": 99, "rejected": 1, "repeated": 0}
    rows = [{"day": AS_OF - timedelta(k), **told} for k in range(40)]
    return pa.Table.from_pylist(rows, schema=schemas.DAYS.schema)


def _files() -> pa.Table:
    reasons = [("missing level", "chain_id", None, 3), ("infinite", "amount", "basket", 25)]
    rejections = [
        {"day": AS_OF - timedelta(k), "metric": metric, "column": column, "reason": why, "rows": n}
        for why, column, metric, n in reasons
        for k in (0, 39)  # the second is before the window
    ]
    rows = [{"path": "a.parquet", "state": "read", "rejections": rejections}]
    return pa.Table.from_pylist(rows, schema=schemas.FILES.schema)


def _quarantine(stores: Stores) -> pa.Table:
    told = {"file": "a.parquet", "row": 1, "day": AS_OF, "metric": "", "column": "chain_id"}
    told["reason"] = "missing level"
    rows = [{**told, "value": str(store)[:64]} for _, store in stores[:9]]
    return pa.Table.from_pylist(rows, schema=schemas.QUARANTINE.schema)
