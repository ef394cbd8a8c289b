"""How a run is watched: an observer is told what happens and never decides anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hbpipe.run.night import Night

#: The kind of a run that brings one as-of day up to date, and those that work on many.
NIGHT = "night"
REBUILDS = ("backfill", "restate")


@dataclass(frozen=True)
class Opening:
    """What is known of a run before it has looked at anything.

    ``started`` is aware; ``kind`` is ``NIGHT``, or what else works on the days of a pipeline.
    """

    run_id: str
    pipeline: str
    environment: str
    started: datetime
    kind: str = NIGHT


class Observer:
    """Receives the story of a run; the command line and the Prefect flow have their own.

    It listens to what it overrides. A stage that is tried again is told as started again. Whatever
    is not sure to go well belongs into the observer's own hands: what it raises ends the run.
    """

    def run_opened(self, opening: Opening) -> None:
        """Hear that a run begins; it holds no lease yet."""

    def run_planned(self, night: Night) -> None:
        """Hear that the plan is made. The night is to be read only; stages fill it in."""

    def night_started(self, night: Night) -> None:
        """Hear that one of the nights of a backfill or a restatement begins; as ``run_planned``."""

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Hear that it is over; without an error it is published."""

    def stage_started(self, stage: str) -> None:
        """Hear that a stage begins."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Hear that ``done`` of ``total`` pieces of a stage are finished."""

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Hear what a stage did, in a few numbers."""

    def message(self, text: str) -> None:
        """Hear something that a person should know."""

    def run_ended(self, error: BaseException | None) -> None:
        """Hear that the run is over, lease and engine given back; without an error it did all."""


class Silent(Observer):
    """An observer that ignores everything."""


class Observers(Observer):
    """Several observers as one, told in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def run_opened(self, opening: Opening) -> None:
        """Tell everyone that a run begins."""
        self._tell("run_opened", opening)

    def run_planned(self, night: Night) -> None:
        """Tell everyone that the plan is made."""
        self._tell("run_planned", night)

    def night_started(self, night: Night) -> None:
        """Tell everyone that a night of many begins."""
        self._tell("night_started", night)

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Tell everyone that a night of many is over."""
        self._tell("night_ended", night, error)

    def stage_started(self, stage: str) -> None:
        """Tell everyone that a stage began."""
        self._tell("stage_started", stage)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Tell everyone how far a stage is."""
        self._tell("progress", stage, done, total)

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Tell everyone that a stage ended."""
        self._tell("stage_finished", stage, summary)

    def message(self, text: str) -> None:
        """Tell everyone a line."""
        self._tell("message", text)

    def run_ended(self, error: BaseException | None) -> None:
        """Tell everyone that the run is over."""
        self._tell("run_ended", error)

    def _tell(self, what: str, *about: Any) -> None:
        for observer in self._observers:
            getattr(observer, what)(*about)


@contextmanager
def watched(observer: Observer, opening: Opening) -> Iterator[None]:
    """Tell an observer that a run begins and, however it ends, that it is over."""
    observer.run_opened(opening)
    with _ending_told(observer.run_ended):
        yield


@contextmanager
def watched_night(observer: Observer, night: Night) -> Iterator[None]:
    """Tell an observer that a night of many begins and, however it ends, that it is over."""
    observer.night_started(night)
    with _ending_told(lambda error: observer.night_ended(night, error)):
        yield


@contextmanager
def _ending_told(ended: Callable[[BaseException | None], None]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        ended(error)
        raise
    ended(None)
