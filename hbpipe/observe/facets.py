"""The vocabulary of OpenLineage: facets and datasets, as its specification names them.

https://openlineage.io/spec/2-0-2/OpenLineage.json and the facets beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from hbpipe import __version__
from hbpipe.run.audits import Check

#: Who says so. hbpipe has no home on the web, so it names itself and its version.
PRODUCER = f"urn:hbpipe:{__version__}"
_SPEC = "https://openlineage.io/spec"
EVENT_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"

Facet = dict[str, Any]


def facet(kind: str, edition: str, /, **fields: Any) -> Facet:
    """Return a facet of the specification, with what every facet says of itself."""
    where = f"{_SPEC}/facets/{edition}/{kind}.json#/$defs/{kind}"
    return {"_producer": PRODUCER, "_schemaURL": where, **fields}


def dataset_name(uri: str) -> dict[str, str]:
    """Name a folder as OpenLineage does: ``file`` and a path, or the bucket and a key."""
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return {"namespace": "file", "name": parts.path if parts.scheme else uri}
    return {"namespace": f"{parts.scheme}://{parts.netloc}", "name": parts.path.strip("/") or "/"}


def schema_facet(schema: pa.Schema) -> Facet:
    """Describe columns: their names, types and places."""
    fields = [
        {"name": field.name, "type": str(field.type), "ordinal_position": place}
        for place, field in enumerate(schema, start=1)
    ]
    return facet("SchemaDatasetFacet", "1-2-0", fields=fields)


def version_facet(version: int) -> Facet:
    """Name the version of a Delta table."""
    return facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(version))


def storage_facet() -> Facet:
    """Say how a table of the lake is kept."""
    return facet("StorageDatasetFacet", "1-0-1", storageLayer="delta", fileFormat="parquet")


def input_statistics(rows: int, size: int, files: int) -> Facet:
    """Count what was read; ``size`` is in bytes."""
    return facet(
        "InputStatisticsInputDatasetFacet", "1-0-0", rowCount=rows, size=size, fileCount=files
    )


def output_statistics(rows: int, size: int, files: int) -> Facet:
    """Count what was written; ``size`` is in bytes."""
    return facet(
        "OutputStatisticsOutputDatasetFacet", "1-0-2", rowCount=rows, size=size, fileCount=files
    )


def assertions_facet(checks: Iterable[Check]) -> Facet:
    """Tell what checks of the events found."""
    return facet(
        "DataQualityAssertionsDatasetFacet",
        "1-1-0",
        assertions=[
            {
                "assertion": check.name,
                "success": check.status == "pass",
                "severity": "warn" if check.status == "warn" else "error",
                "description": f"{check.subject}: {check.message}",
                "expected": f"at most {check.threshold:g}",
                "actual": f"{check.value:g}",
            }
            for check in checks
        ],
    )


def column_lineage(
    events: Mapping[str, str], copied: Iterable[str], computed: Mapping[str, Sequence[str]]
) -> Facet:
    """Say which columns of the events those of a table come from.

    Parameters
    ----------
    events
        The dataset of the events.
    copied
        Columns of the same name and values.
    computed
        Column of the table to the columns that it adds up.
    """
    fields = {name: {"inputFields": [_input_field(events, name, "IDENTITY")]} for name in copied}
    fields |= {
        name: {"inputFields": [_input_field(events, column, "AGGREGATION") for column in columns]}
        for name, columns in computed.items()
    }
    return facet("ColumnLineageDatasetFacet", "1-2-0", fields=fields)


def _input_field(events: Mapping[str, str], column: str, how: str) -> dict[str, Any]:
    kind = {"type": "DIRECT", "subtype": how, "description": "", "masking": False}
    return {**events, "field": column, "transformations": [kind]}
