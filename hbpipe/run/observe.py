"""How a night is watched: an observer is told what happens and never decides anything."""

from __future__ import annotations

from typing import Any, Protocol


class Observer(Protocol):
    """Receives the story of a night; the command line and the Prefect flow have their own."""

    def stage_started(self, stage: str) -> None:
        """Hear that a stage begins."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Hear that ``done`` of ``total`` pieces of a stage are finished."""

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Hear what a stage did, in a few numbers."""

    def message(self, text: str) -> None:
        """Hear something that a person should know."""


class Silent:
    """An observer that ignores everything."""

    def stage_started(self, stage: str) -> None:
        """Ignore."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Ignore."""

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""
