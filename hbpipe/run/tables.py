"""The tables of a night's lake: what there should be, and what stands there."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from hbpipe.data import posterior_schemas, schemas
from hbpipe.data.audit_tables import ACCEPTANCES, AUDITS, diagnostics_table
from hbpipe.run.night import Night
from hbpipe.run.release_table import RELEASES

_TYPES = {"int64": pa.int64(), "string": pa.string()}


def level_columns(night: Night) -> dict[str, pa.DataType]:
    """Return the levels and their Arrow types."""
    found = zip(night.form.levels, night.stock.level_types, strict=True)
    return {name: _TYPES[kind] for name, kind in found}


def pool_columns(night: Night) -> dict[str, pa.DataType]:
    """Return the levels that name a pool."""
    return {name: level_columns(night)[name] for name in night.settings.pool_by}


def group_columns(night: Night) -> dict[str, pa.DataType]:
    """Return the levels that name a pool, or a nested group of one."""
    names = (*night.settings.pool_by, *night.settings.inference.nest_by)
    return {name: level_columns(night)[name] for name in names}


def tables(night: Night) -> dict[str, schemas.Table]:
    """Return every table of the lake."""
    levels, pools, groups = level_columns(night), pool_columns(night), group_columns(night)
    quantiles = night.settings.inference.quantiles
    families = [metric.measured.name for metric in night.metrics]
    clusters = any(metric.cells.clusters for metric in night.metrics)
    return {
        "files": schemas.FILES,
        "days": schemas.DAYS,
        "quarantine": schemas.QUARANTINE,
        "audits": AUDITS,
        "acceptances": ACCEPTANCES,
        "releases": RELEASES,
        "statistics": schemas.statistics_table(levels, families, clusters=clusters),
        "months": schemas.months_table(levels, families, clusters=clusters),
        "hyperparameters": schemas.hyperparameters_table(groups, quantiles),
        "fits": schemas.fits_table(pools),
        "diagnostics": diagnostics_table(pools),
        "posteriors": posterior_schemas.posteriors_table(levels, quantiles),
        "new_stores": posterior_schemas.new_stores_table(groups, quantiles),
    }


def lake_table(night: Night, name: str) -> schemas.Table:
    """Return a table as it stands in the lake.

    It may have columns of earlier settings, another quantile or family; new rows leave them null.
    """
    return replace(tables(night)[name], schema=night.lake.snapshot(name).schema)
