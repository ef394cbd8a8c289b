"""What a night reads and writes, as datasets of OpenLineage."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hbpipe.data.durable import Storage
from hbpipe.data.events import full_path, hive_values
from hbpipe.data.parts import Receipt
from hbpipe.data.quantities import RESERVED
from hbpipe.observe import facets
from hbpipe.run.night import Night

#: Numbers of the table posteriors that add the measured columns up; quantiles beside them.
_POSTERIOR = ("n", "raw", "mean", "sd", "weight", "prior_mean")


def inputs(night: Night, *, finished: bool) -> list[dict[str, Any]]:
    """Describe the events, and the table of stores where there is one.

    Parameters
    ----------
    night
        A night that is planned.
    finished
        Whether it is over: then with its columns, and what was read and found.
    """
    events: dict[str, Any] = dict(_events(night))
    if finished:
        events["facets"] = {"schema": facets.schema_facet(_event_schema(night))}
        events["inputFacets"] = _input_facets(night)
    stores = night.settings.stores.path
    return [events] if stores is None else [events, facets.dataset_name(Storage(stores).uri)]


def _events(night: Night) -> dict[str, str]:
    return facets.dataset_name(Storage(night.form.root).uri)


def _read(night: Night) -> list[str]:
    """List the files that the run read: those of its days; of a night without days, any."""
    paths = {path for day in night.plan.days for path in day.files}
    return sorted(paths)


def _event_schema(night: Night) -> pa.Schema:
    """Return the columns of the newest file; folders such as ``day=2026-01-31`` have some too."""
    entries = [entry for entry in night.stock.files.values() if entry.state == "read"]
    newest = max(entries, key=lambda entry: entry.file.modified_ns)
    filesystem, root = night.form.open()
    schema = pq.read_schema(full_path(root, newest.path), filesystem=filesystem)
    named = [name for name in hive_values(newest.path) if name not in schema.names]
    return pa.schema([*schema.remove_metadata(), *((name, pa.string()) for name in named)])


def _input_facets(night: Night) -> dict[str, Any]:
    paths = _read(night)
    rows = sum(day.rows for day in night.plan.days)
    size = sum(night.stock.files[path].file.size for path in paths)
    found = {"inputStatistics": facets.input_statistics(rows, size, len(paths))}
    checks = [check for check in night.checks if check.gate == "data"]
    if checks:
        found["dataQualityAssertions"] = facets.assertions_facet(checks)
    return found


def outputs(night: Night) -> list[dict[str, Any]]:
    """Describe the tables as the night's release names them; nothing without a release."""
    if night.released is None:
        return []
    return [_output(night, name, version) for name, version in night.released["versions"]]


def _output(night: Night, name: str, version: int) -> dict[str, Any]:
    schema = night.lake.snapshot(name, version).schema
    found: dict[str, Any] = {
        **facets.dataset_name(night.lake.path(name)),
        "facets": {
            "schema": facets.schema_facet(schema),
            "version": facets.version_facet(version),
            "storage": facets.storage_facet(),
        },
    }
    if name in ("statistics", "posteriors"):
        found["facets"]["columnLineage"] = _column_lineage(night, name, schema)
    receipts = _receipts(night, name)
    if receipts:
        rows, size = sum(r.rows for r in receipts), sum(r.size for r in receipts)
        written = facets.output_statistics(rows, size, len(receipts))
        found["outputFacets"] = {"outputStatistics": written}
    return found


def _receipts(night: Night, name: str) -> list[Receipt]:
    """Return what workers wrote of a table."""
    if name == "statistics":
        return [receipt for result in night.results.values() for receipt in result.receipts]
    return night.staged.get(name, [])


def _column_lineage(night: Night, name: str, schema: pa.Schema) -> facets.Facet:
    """Levels are copied; numbers add up what the metrics measure."""
    levels = night.form.levels
    measured = list(dict.fromkeys(c for metric in night.metrics for c in metric.columns))
    if name == "posteriors":
        numbers = [c for c in schema.names if c in _POSTERIOR or c.startswith("q0.")]
    else:
        numbers = [c for c in schema.names if c in RESERVED - {"day", "metric", "shard"}]
    computed = dict.fromkeys(numbers, measured) if measured else {}
    dated = {"day": [night.form.time]} if "day" in schema.names else {}
    return facets.column_lineage(_events(night), levels, {**dated, **computed})
