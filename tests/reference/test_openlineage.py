"""Lineage events against the JSON Schema that OpenLineage publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from tests.observe.test_lineage import every_ending, facets_in

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def schemas(reference: Path) -> dict[str, Any]:
    """The schemas of OpenLineage's folder spec, by their address."""
    files = sorted((reference / "openlineage").rglob("*.json"))
    found = (json.loads(path.read_text(encoding="utf-8")) for path in files)
    return {schema["$id"]: schema for schema in found}


def test_events_and_their_facets_are_valid(tmp_path: Path, schemas: dict[str, Any]) -> None:
    registry = Registry().with_resources(
        (address, Resource.from_contents(schema)) for address, schema in schemas.items()
    )
    events = every_ending(tmp_path)
    assert [event["eventType"] for event in events][:2] == ["START", "COMPLETE"]
    for event in events:
        for part in [event, *facets_in(event)]:
            address = part.get("schemaURL") or part["_schemaURL"]
            assert address.partition("#")[0] in schemas, "an edition that is published"
            _validator(address, registry).validate(part)
    mutant = {**events[0], "run": {"runId": "no UUID"}}
    with pytest.raises(ValidationError):
        _validator(mutant["schemaURL"], registry).validate(mutant)


def _validator(address: str, registry: Any) -> Draft202012Validator:
    checks = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator({"$ref": address}, registry=registry, format_checker=checks)
