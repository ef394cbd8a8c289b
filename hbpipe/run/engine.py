"""Who does the work: this thread, or Dask. The only module that imports dask.

An engine runs functions that return small or mergeable results; it never decides what comes out.
A *task* is a promise: it may be an argument of another task, and is forgotten, with its result,
when nobody holds it any more.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from typing import Any, Protocol

from hbpipe.config import Cluster
from hbpipe.errors import EngineError
from hbpipe.run.tasks import WARNINGS, run, run_apart, this_process

Task = Any
Progress = Callable[[int, int], None]


class Engine(Protocol):
    """The interface that stages see."""

    name: str

    @property
    def workers(self) -> int:
        """Return the number of tasks that run at a time."""

    def submit(
        self, function: Callable[..., Any], *args: Any, label: str, priority: int = 0
    ) -> Task:
        """Promise ``function(*args)``; tasks among the arguments, or in a list, become values.

        Tasks of higher ``priority`` run first, so that a merge frees what it merges.
        """

    def share(self, value: Any, *, label: str) -> Task:
        """Promise a value that many tasks take: it travels once, and not with each of them."""

    def gather(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Any]:
        """Wait for all and return the results in the order of the tasks.

        Raises the first HbpipeError of a task as it is; anything else as EngineError with the
        label of the task that failed.
        """


#: Dask samples every thread's stack a hundred times a second, wakes up every 20 ms to see that it
#: does, and serves pages about it: a twentieth of a core for what nobody here looks at.
_UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


class _Lazy:
    """A task of the serial engine: computed when first needed, its arguments then dropped."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], label: str) -> None:
        self.function: Callable[..., Any] | None = function
        self.args, self.label, self.value = args, label, None

    def result(self) -> Any:
        if self.function is not None:
            values = [_value(argument) for argument in self.args]
            self.value = run(self.label, self.function, *values)
            self.function, self.args = None, ()
        return self.value


def _value(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_value(item) for item in argument]
    return argument.result() if isinstance(argument, _Lazy) else argument


def _itself(value: Any) -> Any:
    return value


class SerialEngine:
    """Everything in this thread, one task after the other: the reference for every other engine."""

    name = "serial"
    workers = 1

    def submit(
        self, function: Callable[..., Any], *args: Any, label: str, priority: int = 0
    ) -> Task:
        """Promise a call; see ``Engine``."""
        return _Lazy(function, args, label)

    def share(self, value: Any, *, label: str) -> Task:
        """Promise a value; see ``Engine``."""
        return self.submit(_itself, value, label=label)

    def gather(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Any]:
        """Compute and return the results; see ``Engine``."""
        results = []
        for done, task in enumerate(tasks, start=1):
            results.append(task.result())
            if progress is not None:
                progress(done, len(tasks))
        return results


class DaskEngine:
    """Tasks on the workers of a ``distributed`` client."""

    name = "dask"

    def __init__(self, client: Callable[[], Any], *, apart: bool) -> None:
        self._when_started = client
        self._run = partial(run_apart, this_process()) if apart else run
        self._labels: dict[str, str] = {}

    @property
    def _client(self) -> Any:
        return self._when_started()

    @property
    def workers(self) -> int:
        """The number of threads of all workers."""
        return sum(self._client.nthreads().values())

    def submit(
        self, function: Callable[..., Any], *args: Any, label: str, priority: int = 0
    ) -> Task:
        """Promise a call; see ``Engine``."""
        key = f"{function.__name__}-{uuid.uuid4().hex}"  # the first part is Dask's task group
        self._labels[key] = label
        return self._client.submit(self._run, label, function, *args, key=key, priority=priority)

    def share(self, value: Any, *, label: str) -> Task:
        """Promise a value; see ``Engine``. The scheduler keeps it, so no lost worker loses it."""
        return self.submit(_itself, value, label=label)

    def gather(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Any]:
        """Wait for all and return the results; see ``Engine``."""
        from distributed import as_completed

        if not tasks:
            return []
        place = {task.key: index for index, task in enumerate(tasks)}
        results: list[Any] = [None] * len(tasks)
        arriving = as_completed(list(tasks), loop=self._client.loop)  # type: ignore[no-untyped-call]
        try:
            for done, task in enumerate(arriving, start=1):
                results[place[task.key]] = self._result(task)
                if progress is not None:
                    progress(done, len(tasks))
        except BaseException:
            self._client.cancel(list(tasks))
            raise
        return results

    def _result(self, task: Any) -> Any:
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        try:
            return task.result()
        except KilledWorker as error:
            # The task that died may be one that this task waited for.
            raise EngineError(
                f"{self._labels.get(str(error.task), error.task)} took its worker down "
                f"{error.allowed_failures + 1} times",
                expected="a task that fits into a worker's memory",
                remedy="look at the worker's log; raise cluster.memory_limit_gib, or use fewer "
                "workers",
            ) from None
        except (NoValidWorkerError, FutureCancelledError) as error:
            raise EngineError(
                f"{self._labels[task.key]} found no worker: {error}",
                remedy="start workers, or run with cluster.kind: local",
            ) from None


def available_cpus() -> int:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def open_engine(cluster: Cluster) -> Iterator[Engine]:
    """Start what the settings ask for, and stop it at the end.

    Workers of this machine start in the background, while the caller plans what they are to do.
    """
    if cluster.kind == "serial":
        yield SerialEngine()
    elif cluster.kind == "address":
        with _client(cluster) as client:
            yield DaskEngine(lambda: client, apart=True)
    else:
        with ExitStack() as stack, ThreadPoolExecutor(1) as background:
            started = background.submit(stack.enter_context, _client(cluster))
            yield DaskEngine(started.result, apart=cluster.processes is True)
            started.result()  # a failure that no task has met is one all the same


@contextmanager
def _client(cluster: Cluster) -> Iterator[Any]:
    import dask
    import distributed  # noqa: F401  (adds its defaults, which leaving the block would undo)

    settings = {
        "distributed.scheduler.allowed-failures": cluster.allowed_failures,
        "distributed.scheduler.no-workers-timeout": cluster.no_workers_timeout_s,
        "distributed.scheduler.worker-ttl": "15 minutes",
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.admin.tick.limit": "1 minute",
        # What is shared may be large, and is sent once.
        "distributed.admin.large-graph-warning-threshold": "1GB",
        **_UNWATCHED,
    }
    with dask.config.set(settings):
        if cluster.kind == "address":
            with _connect(cluster) as client:
                _check_versions(client)
                client.forward_logging(WARNINGS)
                yield client
            return
        with _local_cluster(cluster) as local, closing(_client_of(local)) as client:
            # Workers that are threads of this process warn here as it is.
            if cluster.processes is True:
                client.forward_logging(WARNINGS)
            yield client


def _client_of(local: Any) -> Any:
    """Connect; one thread opens the client and another closes it, which its ``with`` refuses."""
    from distributed import Client

    return Client(local)  # type: ignore[no-untyped-call]


def _connect(cluster: Cluster) -> Any:
    """Connect to a scheduler and wait for its first worker: what it has set itself may be none."""
    from distributed import Client

    where = {"cluster.address": cluster.address}
    waited = f"within {cluster.no_workers_timeout_s:g} s"
    try:
        client = Client(  # type: ignore[no-untyped-call]
            cluster.address, timeout=cluster.no_workers_timeout_s
        )
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise EngineError(
            f"no scheduler answers {waited}: {error}",
            where=where,
            remedy="start the scheduler, or correct cluster.address",
        ) from None
    try:
        client.wait_for_workers(1, timeout=cluster.no_workers_timeout_s)
    except TimeoutError:
        client.close()  # type: ignore[no-untyped-call]
        raise EngineError(
            f"the scheduler has no worker {waited}",
            where=where,
            remedy="start workers, or raise cluster.no_workers_timeout_s",
        ) from None
    return client


def _local_cluster(cluster: Cluster) -> AbstractContextManager[Any]:
    """Threads of this process, or one process per worker; reachable from this machine only.

    Threads are the default: starting interpreters costs more than a small night, and the
    decoding of Parquet and the sums of numpy release the interpreter's lock.
    """
    from distributed import LocalCluster

    workers = available_cpus() if cluster.workers == "auto" else cluster.workers
    processes = cluster.processes is True
    limit = cluster.memory_limit_gib
    memory: Any = "auto" if limit == "auto" else int(limit * 2**30)
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers if processes else 1,
        threads_per_worker=1 if processes else workers,
        processes=processes,
        memory_limit=memory if processes else 0,
        # Dask serves HTTP even without a dashboard: on a free port, and to this machine only.
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        host="127.0.0.1" if processes else None,
        silence_logs=50,
    )


#: What computes: with other versions of these a worker could give other bits.
_SAME_EVERYWHERE = ("python", "hbpipe", "numpy", "scipy", "pyarrow", "deltalake", "dask")


def _check_versions(client: Any) -> None:
    """Refuse workers whose libraries would compute something else."""
    found = client.get_versions(packages=list(_SAME_EVERYWHERE[1:]))
    here = found["client"]["packages"]
    for worker, versions in found["workers"].items():
        there = versions["packages"]
        different = [
            f"{name} {there.get(name)} (here {here[name]})"
            for name in _SAME_EVERYWHERE
            if there.get(name) != here[name]
        ]
        if different:
            raise EngineError(
                f"a worker has {', '.join(different)}",
                where={"worker": worker},
                expected="the same versions everywhere",
                remedy="install the lock file on every worker",
            )
