"""The keys of the settings as a Markdown table, drawn from their JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def key_table(schema: Mapping[str, Any]) -> str:
    """Return one row per key, in the order of the schema: key, type, default, meaning.

    Parameters
    ----------
    schema
        Of a settings file, as ``hbpipe.config.json_schema`` gives it.
    """
    rows = [("key", "type", "default", "meaning"), ("---",) * 4]
    rows += [
        (f"`{key}`", _type(one), _default(one, required), str(one["description"]))
        for key, one, required in _keys(schema, schema["$defs"])
    ]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _keys(
    part: Mapping[str, Any], sections: Mapping[str, Any], at: str = ""
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for name, one in part["properties"].items():
        if "$ref" in one:
            yield from _keys(sections[one["$ref"].rpartition("/")[2]], sections, f"{at}{name}.")
        else:
            yield f"{at}{name}", one, name in part.get("required", ())


def _type(one: Mapping[str, Any]) -> str:
    """Name what a key may hold in the words of YAML."""
    if "anyOf" in one:
        return " or ".join(_type(arm) for arm in one["anyOf"])
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    if one["type"] == "array":
        return f"list of {_type(one['items'])}"
    if one["type"] == "object":
        return "mapping"
    if one.get("format") == "date":
        return "date"
    if "examples" in one:
        return f"text such as `{one['examples'][0]}`"
    return {"string": "text"}.get(one["type"], str(one["type"]))


def _default(one: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    return f"`{json.dumps(one['default'])}`" if "default" in one else "absent"
