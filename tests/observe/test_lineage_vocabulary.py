"""Lineage events in the words of OpenLineage's own client, which is drawn from its schema.

The client's classes name the edition of each facet, require what the schema requires, and know no
other field.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import openlineage.client.generated as generated
import pytest
from openlineage.client import event_v2

from tests.observe.test_lineage import Event, every_ending, facets_in


def _classes() -> Iterator[tuple[str, Any]]:
    for module in pkgutil.iter_modules(generated.__path__):
        found = vars(importlib.import_module(f"{generated.__name__}.{module.name}"))
        yield from ((n, c) for n, c in found.items() if hasattr(c, "_get_schema"))


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return every_ending(tmp_path_factory.mktemp("events"))


def test_every_facet_is_one_of_the_client_in_its_edition(events: list[Event]) -> None:
    classes = dict(_classes())
    met = set()
    for event in events:
        for facet in facets_in(event):
            name = facet["_schemaURL"].rpartition("/")[2]
            assert classes[name]._get_schema() == facet["_schemaURL"]
            classes[name](**{k: v for k, v in facet.items() if not k.startswith("_")})
            met.add(name)
    assert len(met) == 14


def test_the_client_can_say_the_same(events: list[Event]) -> None:
    for event in events:
        run, job = event["run"], event["job"]
        said = event_v2.RunEvent(
            eventType=event_v2.RunState[event["eventType"]],
            eventTime=event["eventTime"],
            run=event_v2.Run(**run),
            job=event_v2.Job(**job),
            producer=event["producer"],
            inputs=[event_v2.InputDataset(**one) for one in event["inputs"]],
            outputs=[event_v2.OutputDataset(**one) for one in event["outputs"]],
        )
        assert said.schemaURL == event["schemaURL"]


def test_what_the_schema_does_not_know_is_refused() -> None:
    classes = dict(_classes())
    with pytest.raises(TypeError):
        classes["NominalTimeRunFacet"](nominalEndTime="2026-01-01T00:00:00Z")
