"""Parameters of flows, described as a person reads them in Prefect's form for a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Told:
    """What the form says of a parameter: ``Annotated[int, Told("how many")]``.

    Prefect overwrites the description of a pydantic ``Field``, and takes those of docstrings only
    where these are in Google's style.
    """

    text: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "description": self.text}


Config = Annotated[str, Told("the settings file, such as configs/base.yaml")]
Env = Annotated[str | None, Told("the overlay env/NAME.yaml beside it, such as prod")]
Overrides = Annotated[
    Sequence[str],
    Told(
        "settings to override, each section.key=value; secrets belong into the settings as "
        "env:NAME or file:PATH, for Prefect stores these"
    ),
]
