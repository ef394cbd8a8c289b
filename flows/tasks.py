"""Work as Prefect tasks: what is tried again, and what Prefect neither hashes nor keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from hbpipe.errors import EngineError

#: Waits before work that lost its cluster is tried again.
RETRY_DELAYS_S: list[float] = [10, 60]

Result = TypeVar("Result")


def run_as_task(name: str, work: Callable[[], Result]) -> Result:
    """Do some work as one Prefect task.

    The task has no parameters and keeps no result, so Prefect hashes and stores nothing. Only a
    lost worker or cluster is tried again: another attempt cannot mend events or a failed gate.

    Parameters
    ----------
    name
        What the task and its run are called.
    work
        Called without arguments, once for each attempt.
    """

    @task(
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=_is_infrastructure,
    )
    def run() -> Result:
        return work()

    return run()


def _is_infrastructure(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.data, EngineError)
