"""Plans as documents: what a run sets out to do, written down so that it can be done again.

A document names its files by content. Running it later does that and nothing else: days that are
done since are skipped, files that arrived since are left for the next run, and a file that has
changed is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from hbpipe.data.clock import to_number
from hbpipe.errors import ConfigError
from hbpipe.run.inventory import Delivery
from hbpipe.run.runs import RunEntry


@dataclass(frozen=True)
class DayOrder:
    """One day of a document: why it is to be processed, and the paths that feed it."""

    reason: str
    files: frozenset[str]


@dataclass(frozen=True)
class PlanDocument:
    """What must be known of a plan to run it again.

    Attributes
    ----------
    name
        Where it comes from, for errors.
    as_of, window
        Day numbers: the last business day included; the first and last day of the window.
    days
        By day number.
    delivery
        The files.
    accept_missing
        Whether the rows of vanished files are taken out.
    made_with
        Pipeline, environment, and the digests of code and settings.
    """

    name: str
    as_of: int
    window: tuple[int, int]
    days: Mapping[int, DayOrder]
    delivery: Delivery
    accept_missing: bool
    made_with: Mapping[str, str]

    def check(self, made_with: Mapping[str, str]) -> None:
        """Refuse to run under other settings or code than the plan was made with.

        Raises
        ------
        ConfigError
            Names what differs.
        """
        differ = [name for name, value in made_with.items() if self.made_with.get(name) != value]
        if differ:
            raise ConfigError(
                f"{', '.join(differ)} changed since the plan was made",
                where={"plan": self.name},
                expected="the pipeline, environment, settings and code that the plan was made with",
                remedy="plan again",
            )


def read_document(path: Path) -> PlanDocument:
    """Read a document that ``hbpipe plan --out`` or ``--json`` wrote.

    Raises
    ------
    ConfigError
        The file is not such a document.
    """
    try:
        return parse_document(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise _not_a_document(str(path), "it is not text") from error


def planned_by(run: RunEntry) -> PlanDocument:
    """Return the document of an earlier run.

    Raises
    ------
    ConfigError
        The run ended before it had a plan.
    """
    if run.plan is None:
        raise ConfigError(
            f"run {run.run_id} ended before it had a plan: {run.error or run.state}",
            remedy="run without --retry",
        )
    return parse_document(run.plan, f"run {run.run_id}")


def parse_document(text: str, name: str) -> PlanDocument:
    """Read a document from JSON; ``name`` says in errors where it comes from.

    Raises
    ------
    ConfigError
        It is not such a document.
    """
    try:
        raw = json.loads(text)
        return PlanDocument(
            name=name,
            as_of=_number(raw["as_of"]),
            window=(_number(raw["window"][0]), _number(raw["window"][-1])),
            days={
                _number(day["day"]): DayOrder(str(day["reason"]), frozenset(day["files"]))
                for day in raw["days"]
            },
            delivery=Delivery(
                name,
                {file["path"]: str(file["sha256"]) for file in raw["files"]},
                frozenset(raw["vanished"]),
            ),
            accept_missing=bool(raw["accept_missing"]),
            made_with={str(key): str(value) for key, value in raw["made_with"].items()},
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _not_a_document(name, f"{type(error).__name__}: {error}") from error


def _number(text: Any) -> int:
    return to_number(date.fromisoformat(text))


def _not_a_document(name: str, found: str) -> ConfigError:
    return ConfigError(
        f"not the document of a plan: {found}",
        where={"plan": name},
        expected="what `hbpipe plan --out FILE` writes",
        remedy="plan again",
    )
