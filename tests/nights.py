"""Tiny nights: events of a few stores, settings for them, and the tables that come out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.report.night import NightReport
from hbpipe.run.night import open_lake
from hbpipe.run.nightly import run_night

FIRST = date(2026, 1, 1)
#: The moment at which these nights are planned, long after their events.
NOW = datetime(2026, 2, 1, 3, tzinfo=UTC)
#: Columns that tell of the run and not of the events.
OF_THE_RUN = {"run_id", "released_at", "processed_at", "checked_at", "modified_ns", "versions"}
OF_THE_RUN |= {"statistics_version"}


def day(number: int) -> date:
    """Day ``number`` of the events, from 0."""
    return FIRST + timedelta(days=number)


def visits(number: int, *, rows: int = 40, seed: int = 0, stores: int = 6) -> list[dict[str, Any]]:
    """The visits of one day: two chains, a third of the stores in the second."""
    rng = np.random.default_rng([seed, number + 1000])
    start = datetime.combine(day(number), datetime.min.time())
    store = rng.integers(0, stores, rows)
    return [
        {
            "event_id": f"{day(number)}/{seed}/{k}",
            "ts": start + timedelta(minutes=int(rng.integers(0, 1440))),
            "chain_id": "far" if store[k] % 3 == 2 else "near",
            "store_id": f"s{store[k]}",
            "converted": bool(rng.random() < 0.1 + 0.1 * store[k]),
            "amount": float(rng.lognormal(3.0, 0.4)),
        }
        for k in range(rows)
    ]


def write(path: Path, rows: Iterable[dict[str, Any]], **options: Any) -> Path:
    """Write rows as one Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return path


def write_days(folder: Path, days: int, first: int = 0) -> list[Path]:
    """Write one file per day."""
    return [
        write(folder / "events" / f"{day(k)}.parquet", visits(k))
        for k in range(first, first + days)
    ]


CONVERSION = {"conversion": {"family": "beta_binomial", "successes": "converted", "trials": "rows"}}
BASKET = {"family": "normal", "value": "amount", "transform": "log"}
BOTH = {**CONVERSION, "basket": BASKET}


def raw_settings(folder: Path, **sections: Any) -> dict[str, Any]:
    """The settings as they stand in YAML; ``sections`` are merged key by key."""
    settings: dict[str, Any] = {
        "pipeline": "tiny",
        "events": {
            "path": str(folder / "events"),
            "time": "ts",
            "levels": ["chain_id", "store_id"],
            "event_id": "event_id",
        },
        "metrics": CONVERSION,
        "inference": {"window": "7d", "uncertainty": "plug_in"},
        "lake": {"path": str(folder / "lake")},
        "cluster": {"kind": "serial"},
    }
    for name, section in sections.items():
        merge = isinstance(section, dict) and name != "metrics"
        settings[name] = {**settings.get(name, {}), **section} if merge else section
    return settings


def settings_for(folder: Path, **sections: Any) -> Settings:
    """Settings of a tiny pipeline in ``folder``."""
    return Settings.model_validate(raw_settings(folder, **sections))


def write_config(folder: Path, **sections: Any) -> Path:
    """Write the settings as YAML for the command line."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw_settings(folder, **sections)))
    return path


def night(settings: Settings, **options: Any) -> NightReport:
    """Run one night."""
    return run_night(settings, now=NOW, **options)


def first_night(folder: Path, days: int = 3, **sections: Any) -> Settings:
    """Write some days and run their night, as ``write_days`` and ``night`` do, but once.

    Whoever asks again is given a copy; file times are kept, so the copy is as done as the first.
    """
    made = _first_night(days, json.dumps(sections, sort_keys=True))
    shutil.copytree(made.name, folder, dirs_exist_ok=True)
    return settings_for(folder, **sections)


@cache
def _first_night(days: int, sections: str) -> TemporaryDirectory[str]:
    made = TemporaryDirectory(prefix="hbpipe-nights-")
    write_days(Path(made.name), days)
    night(settings_for(Path(made.name), **json.loads(sections)))
    return made


def lake_of(settings: Settings) -> Lake:
    """The lake of the settings."""
    return open_lake(settings)


def rows_of(table: pa.Table, without: Iterable[str] = ()) -> list[str]:
    """The rows of a table, sorted, bit for bit, without what tells of the run."""
    kept = [name for name in table.column_names if name not in {*OF_THE_RUN, *without}]
    return sorted(map(repr, table.select(kept).to_pylist()))
