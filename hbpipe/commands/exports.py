"""The verb that writes a released table into one file."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pyarrow as pa

from hbpipe.commands.common import moment_of, print_json, require_columns, settings_of
from hbpipe.config import Settings
from hbpipe.data.filters import Condition
from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, HbpipeError
from hbpipe.report.datatree import to_xarray
from hbpipe.report.export import FORMATS, require_format, write_tables
from hbpipe.run.history import Release, read_history
from hbpipe.run.night import open_lake
from hbpipe.run.releases import choose, read_files_of, snapshot_of
from hbpipe.run.stock import calendar_of

#: The suffix of arrays, in NetCDF.
_ARRAYS = ".nc"


def export(arguments: Namespace) -> int:
    """Write a table of a release into one file and print how many rows it has."""
    settings, path = settings_of(arguments), Path(arguments.out)
    require_format(path, (*FORMATS, _ARRAYS))
    lake = open_lake(settings)
    release = _release_of(arguments, settings, lake)
    if path.suffix == _ARRAYS:
        rows = _write_arrays(arguments, lake, release, path)
    else:
        rows = _write_rows(arguments, lake, release, path)
    found = {"release": release["release"], "table": arguments.table, "count": rows}
    if arguments.json:
        print_json({**found, "out": str(path)})
    else:
        print(f"{rows:,} rows of {arguments.table}, release {release['release']}, in {path}")
    return 0


def _release_of(arguments: Namespace, settings: Settings, lake: Lake) -> Release:
    return choose(
        read_history(lake),
        settings.environment,
        release=arguments.release,
        as_of=arguments.as_of,
        published_before=moment_of(arguments.published_before, calendar_of(settings)),
    )


def _write_rows(arguments: Namespace, lake: Lake, release: Release, path: Path) -> int:
    schema = snapshot_of(lake, release, arguments.table).schema
    columns = schema.names
    if arguments.columns is not None:
        columns = arguments.columns.split(",")
        require_columns(schema.names, columns)
    tables = read_files_of(
        lake, release, arguments.table, columns=columns, filters=_conditions(arguments)
    )
    return write_tables(pa.schema([schema.field(name) for name in columns]), tables, path)


def _write_arrays(arguments: Namespace, lake: Lake, release: Release, path: Path) -> int:
    if arguments.table != "posteriors" or arguments.columns is not None:
        raise ConfigError(
            f"{path.name}: arrays are made of whole posteriors",
            expected="the table posteriors without --columns, or a name in .parquet",
        )
    tables = read_files_of(lake, release, arguments.table, filters=_conditions(arguments))
    schema = snapshot_of(lake, release, arguments.table).schema
    rows = pa.concat_tables([schema.empty_table(), *tables])
    told = {"release": release["release"], "as_of": release["as_of"].isoformat()}
    tree = to_xarray(rows, {**told, "run_id": release["run_id"]})
    try:
        tree.to_netcdf(path, engine="h5netcdf")
    except ImportError as error:
        raise HbpipeError(
            f"NetCDF cannot be written: {error}", remedy="pip install 'hbpipe[xarray]'"
        ) from None
    return int(rows.num_rows)


def _conditions(arguments: Namespace) -> list[Condition]:
    return [] if arguments.metric is None else [("metric", "==", arguments.metric)]
