"""The layers of the settings: YAML files, environment variables and ``--set``, put over each other.

Each over the one before: the file that ``extends`` names, the file itself, the overlay
``env/NAME.yaml`` beside it, ``HBPIPE__SECTION__KEY`` variables, ``--set section.key=value``.
What comes out is plain data and the layer of each value; nothing is validated here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError

_MAX_BYTES = 1 << 20
_PREFIX = "HBPIPE__"
#: Sections whose values are replaced whole by a file: half a metric or credential means nothing.
_WHOLE_CHILDREN = "metrics"
_WHOLE = "storage_options"


class _Loader(yaml.SafeLoader):
    """YAML without objects, and without the silent loss of a key that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a key that comes twice is an error."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [str(key) for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise yaml.constructor.ConstructorError(
                problem=f"key {twice[0]!r} is given twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


@dataclass
class Layered:
    """Merged settings, and the layer that gave each dotted key its value."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def put(self, layer: Mapping[Any, Any], origin: str) -> None:
        """Lay a file's settings over what is there."""
        _merge(self.values, layer, origin, self.origins, "")

    def assign(self, keys: Sequence[str], value: Any, origin: str) -> None:
        """Set one value, however deep: a single key of a metric may be changed this way."""
        at = self.values
        for key in keys[:-1]:
            below = at.get(key)
            at[key] = dict(below) if isinstance(below, Mapping) else {}
            at = at[key]
        _merge(at, {keys[-1]: value}, origin, self.origins, "".join(f"{k}." for k in keys[:-1]))


def origin_of(origins: Mapping[str, str], key: str) -> str | None:
    """Return the layer of a dotted key, or of the nearest key above that was set whole."""
    while key not in origins:
        key, found, _ = key.rpartition(".")
        if not found:
            return None
    return origins[key]


def origins_of(origins: Mapping[str, str], key: str) -> list[str]:
    """Return every layer that had a part in the value of a dotted key, the deepest last."""
    below = [origin for place, origin in origins.items() if place.startswith(f"{key}.")]
    above = origin_of(origins, key)
    return list(dict.fromkeys([above, *below] if above else below))


def resolve_layers(path: Path, env: str | None, overrides: Sequence[str]) -> Layered:
    """Put all layers over each other.

    Raises
    ------
    ConfigError
        A file is missing, too large, not YAML or gives a key twice; ``extends`` leads in a circle;
        a variable or an override cannot be read.
    """
    layered = Layered()
    for origin, content in _file_layers(path, ()):
        layered.put(content, origin)
    if env is not None:
        for origin, content in _file_layers(path.parent / "env" / f"{env}.yaml", ()):
            layered.put(content, origin)
    for name, text in sorted(os.environ.items()):
        if name.startswith(_PREFIX):
            keys = name.removeprefix(_PREFIX).lower().split("__")
            layered.assign(keys, _value(keys, text, f"variable {name}"), f"variable {name}")
    for override in overrides:
        dotted, found, text = override.partition("=")
        if not found or not dotted:
            raise ConfigError(
                f"--set {override!r} is not an assignment",
                expected="section.key=value, for instance inference.window=56d",
            )
        keys = dotted.split(".")
        layered.assign(keys, _value(keys, text, f"--set {dotted}"), f"--set {dotted}")
    return layered


def _value(keys: Sequence[str], text: str, origin: str) -> Any:
    if _WHOLE in keys[:-1]:
        return text  # a password of digits is no number
    try:
        return _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the value of {origin} is not readable as YAML: {_first_line(error)}",
            remedy="quote the value",
        ) from None


def _file_layers(path: Path, seen: tuple[Path, ...]) -> Iterator[tuple[str, dict[Any, Any]]]:
    content = _read_yaml(path)
    seen = (*seen, path.resolve())
    parent = content.pop("extends", None)
    if parent is not None:
        if not isinstance(parent, str):
            raise ConfigError(
                f"extends is {parent!r}", where={"file": path}, expected="the path of one file"
            )
        base = path.parent / parent
        if base.resolve() in seen:
            raise ConfigError(f"extends leads in a circle through {base}", where={"file": path})
        yield from _file_layers(base, seen)
    yield str(path), content


def _read_yaml(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        beside = [str(found) for found in sorted(path.parent.glob("*.yaml"))]
        raise ConfigError(f"no settings file {path}{nearest(str(path), beside) if beside else ''}")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB", expected="a settings file")
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"not readable as YAML: {error}", where={"file": path}) from None
    if not isinstance(content, dict):
        raise ConfigError(
            "the file holds no settings", where={"file": path}, expected="sections and keys"
        )
    return content


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _merge(
    into: dict[Any, Any],
    layer: Mapping[Any, Any],
    origin: str,
    origins: dict[str, str],
    at: str,
) -> None:
    for key, value in layer.items():
        place = f"{at}{key}"
        whole = key == _WHOLE or at == f"{_WHOLE_CHILDREN}."
        if isinstance(value, Mapping) and not whole:
            below = into.get(key)
            into[key] = dict(below) if isinstance(below, Mapping) else {}
            _merge(into[key], value, origin, origins, f"{place}.")
        else:
            into[key] = value
            _forget_below(origins, place)
            origins[place] = origin


def _forget_below(origins: dict[str, str], place: str) -> None:
    for key in [key for key in origins if key.startswith(f"{place}.")]:
        del origins[key]
