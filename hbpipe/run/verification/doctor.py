"""What could stand in the way of a first run, checked one by one."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from hbpipe.config import Settings
from hbpipe.data.clock import to_number
from hbpipe.data.lake import Lake
from hbpipe.data.reconcile import needed_columns, weight_columns
from hbpipe.data.survey import survey_file
from hbpipe.errors import HbpipeError
from hbpipe.run.engine import available_cpus, open_engine
from hbpipe.run.inventory import locate_events
from hbpipe.run.night import open_lake
from hbpipe.run.stock import event_format
from hbpipe.run.totals import TotalsTables
from hbpipe.run.universe import check_weights, read_stores
from hbpipe.run.verification.findings import Finding

_FREE_GIB = 1.0


def examine(settings: Settings) -> list[Finding]:
    """Check this machine, the events, the lake and the cluster.

    On a local disk nothing is left behind; on an object store an empty table ``doctor`` is.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("versions", _versions),
        ("time_zone", lambda: f"{ZoneInfo(settings.events.timezone)} is known here"),
        ("events", lambda: _events(settings)),
        ("stores", lambda: _stores(settings)),
        ("totals", lambda: _totals(settings)),
        ("lake", lambda: _lake(settings)),
        ("disk", lambda: _disk(settings)),
        ("cluster", lambda: _cluster(settings)),
    ]
    return [_try(name, check) for name, check in checks]


def _try(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except (HbpipeError, OSError) as error:
        return Finding(name, False, str(error))


def _versions() -> str:
    names = ("hbpipe", "numpy", "scipy", "pyarrow", "deltalake", "distributed")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {sys.version.split()[0]}, {found}"


def _events(settings: Settings) -> str:
    form, files = locate_events(event_format(settings))
    survey_file(form, files[0], settings.parsed_metrics)
    size = sum(file.size for file in files) / 2**20
    return f"{len(files)} file(s), {size:.1f} MiB; the first has every column that is needed"


def _stores(settings: Settings) -> str:
    if settings.stores.path is None:
        return "no table of stores is set"
    levels, needed = _levels(settings), needed_columns(settings.parsed_metrics)
    listed = read_stores(settings.stores, tuple(levels), tuple(levels.values()), needed)
    assert listed is not None
    check_weights(listed, weight_columns(settings.parsed_metrics))
    return f"{listed.num_rows} stores are listed"


def _totals(settings: Settings) -> str:
    asked = [metric for metric in settings.parsed_metrics if metric.reconcile is not None]
    if not asked:
        return "no totals are set"
    tables, levels = TotalsTables(settings), _levels(settings)
    today = to_number(datetime.now(UTC).date())
    counts = [(metric.name, len(tables.read(metric, levels, today).groups)) for metric in asked]
    return ", ".join(f"{name}: totals of {count} groups for today" for name, count in counts)


def _levels(settings: Settings) -> dict[str, str]:
    """Return the levels and their types, as the first file has them."""
    form, files = locate_events(event_format(settings))
    types = survey_file(form, files[0], settings.parsed_metrics).level_types
    return dict(zip(form.levels, types, strict=True))


def _lake(settings: Settings) -> str:
    """Prove that a table can be created, once, where the lake will be."""
    lake = open_lake(settings)
    if not lake.storage.local:
        lake.create("doctor", pa.schema([("checked", pa.bool_())]))
        return f"{lake.uri} creates a file only if it is absent"
    parent = _folder_above(lake)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".hbpipe-doctor-") as folder:
        Lake(folder).create("doctor", pa.schema([("checked", pa.bool_())]))
    return f"{lake.uri} can be written, and creates a file only if it is absent"


def _folder_above(lake: Lake) -> Path:
    """Return the lake's folder, or the nearest one above it that is there already."""
    return next(path for path in (Path(lake.uri), *Path(lake.uri).parents) if path.exists())


def _disk(settings: Settings) -> str:
    lake = open_lake(settings)
    if not lake.storage.local:
        return "the lake is on an object store"
    parent = _folder_above(lake)
    free = shutil.disk_usage(parent).free / 2**30
    if free < _FREE_GIB:
        raise HbpipeError(f"{free:.2f} GiB free at {parent}", expected=f"{_FREE_GIB} GiB or more")
    return f"{free:.1f} GiB free at {parent}"


def _cluster(settings: Settings) -> str:
    with open_engine(settings.cluster) as engine:
        answer = engine.gather([engine.submit(available_cpus, label="doctor")])[0]
        return f"{engine.name} answers with {engine.workers} worker thread(s), {answer} CPU(s)"
