"""Every engine gives the same results, in order, and names what fails."""

from __future__ import annotations

import gc
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Cluster
from hbpipe.errors import EngineError, EventsError
from hbpipe.run.engine import Engine, available_cpus, open_engine

CLUSTERS = {
    "serial": Cluster(kind="serial"),
    "threads": Cluster(workers=2, processes=False),
    "processes": Cluster(workers=2, processes=True, allowed_failures=1),
}


@pytest.fixture(scope="module", params=CLUSTERS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with open_engine(CLUSTERS[request.param]) as engine:
        yield engine


def add(*numbers: int) -> int:
    return sum(numbers)


def later(seconds: float, value: Any) -> Any:
    time.sleep(seconds)
    return value


def total(numbers: list[int], factor: int) -> int:
    return factor * sum(numbers)


def size_of(value: bytes, more: int) -> int:
    return len(value) + more


def refuse(path: str) -> None:
    raise EventsError("not readable", where={"file": path}, remedy="deliver it again")


def divide(number: int) -> float:
    return number / 0


def log_then(folder: str, name: str) -> None:
    Path(folder, f"{name}-{os.getpid()}-{time.monotonic_ns()}").touch()


def die(folder: str) -> None:
    log_then(folder, "died")
    os._exit(9)


def die_once(folder: str, value: int) -> int:
    if not any(Path(folder).iterdir()):
        die(folder)
    return value


def test_a_value_that_many_tasks_take_may_be_large(engine: Engine) -> None:
    """Twenty megabytes, without a word from Dask."""
    shared = engine.share(bytes(20_000_000), label="zeros")
    tasks = [engine.submit(size_of, shared, k, label="size") for k in range(3)]
    assert engine.gather(tasks) == [20_000_000, 20_000_001, 20_000_002]


def test_results_come_in_the_order_of_the_tasks(engine: Engine) -> None:
    waits = [0.2, 0.0, 0.1, 0.0]
    tasks = [engine.submit(later, wait, k, label=f"task {k}") for k, wait in enumerate(waits)]
    seen: list[tuple[int, int]] = []
    assert engine.gather(tasks, lambda done, of: seen.append((done, of))) == [0, 1, 2, 3]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_tasks_give_no_results(engine: Engine) -> None:
    assert engine.gather([]) == []


def test_a_task_may_be_an_argument_alone_or_in_a_list(engine: Engine) -> None:
    ones = [engine.submit(add, 1, k, label="one") for k in range(5)]
    whole = engine.submit(total, ones, engine.submit(add, 1, 1, label="factor"), label="whole")
    assert engine.gather([whole]) == [2 * (1 + 2 + 3 + 4 + 5)]
    assert engine.gather(ones) == [1, 2, 3, 4, 5], "a task can be asked for again"


def test_an_error_of_ours_comes_back_as_it_was(engine: Engine) -> None:
    task = engine.submit(refuse, "a.parquet", label="reading")
    with pytest.raises(EventsError) as caught:
        engine.gather([engine.submit(add, 1, label="fine"), task])
    assert caught.value.found == "not readable"
    assert caught.value.where == {"file": "a.parquet"}
    assert caught.value.remedy == "deliver it again"


def test_an_unexpected_error_names_the_task_that_failed_and_the_line(engine: Engine) -> None:
    broken = engine.submit(divide, 3, label="division of 3")
    above = engine.submit(add, broken, label="what waits for it")
    with pytest.raises(EngineError, match="division of 3 failed: ZeroDivisionError") as caught:
        engine.gather([above])
    assert "test_engine.py" in caught.value.where["raised_at"]
    assert caught.value.where["raised_at"].endswith("in divide")


def test_the_engine_works_on_after_an_error(engine: Engine) -> None:
    with pytest.raises(EventsError):
        engine.gather([engine.submit(refuse, "x", label="x")])
    assert engine.gather([engine.submit(add, 2, 3, label="sum")]) == [5]


def test_it_says_how_many_work(engine: Engine) -> None:
    assert engine.workers == (1 if engine.name == "serial" else 2)
    assert engine.gather([engine.submit(available_cpus, label="cpus")]) == [available_cpus()]


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Engine]:
    """One worker process, given up on after its second death."""
    with open_engine(Cluster(workers=1, processes=True, allowed_failures=1)) as engine:
        yield engine


def test_a_worker_that_dies_once_is_replaced(one_worker: Engine, tmp_path: Path) -> None:
    kept = one_worker.submit(add, 20, label="kept")
    task = one_worker.submit(die_once, str(tmp_path), 22, label="dies once")
    whole = one_worker.submit(add, kept, task, label="sum")
    assert one_worker.gather([whole]) == [42]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_task_that_takes_workers_down_is_named(one_worker: Engine, tmp_path: Path) -> None:
    deadly = one_worker.submit(die, str(tmp_path), label="aggregation of a.parquet")
    merge = one_worker.submit(add, deadly, label="merge of a day")
    with pytest.raises(EngineError, match=r"aggregation of a\.parquet took its worker down 2"):
        one_worker.gather([merge])
    assert len(list(tmp_path.iterdir())) == 2, "tried once more, and not for ever"


@pytest.fixture
def scheduler() -> Iterator[Any]:
    """A scheduler of somebody else's, without workers."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        yield cluster


def test_a_cluster_without_workers_is_an_error_in_time(scheduler: Any) -> None:
    address = scheduler.scheduler_address
    cluster = Cluster(kind="address", address=address, no_workers_timeout_s=0.5)
    with (
        pytest.raises(EngineError, match=r"no worker within 0.5 s.*start workers"),
        open_engine(cluster),
    ):
        raise AssertionError("there is nobody to work")


def test_a_cluster_with_workers_is_used(scheduler: Any) -> None:
    scheduler.scale(1)
    cluster = Cluster(kind="address", address=scheduler.scheduler_address)
    with open_engine(cluster) as engine:
        assert engine.gather([engine.submit(add, 1, 2, label="sum")]) == [3]


def test_workers_with_other_versions_are_refused(
    scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    def versions(client: Any, packages: list[str]) -> dict[str, Any]:
        here = dict.fromkeys(["python", "dask", *packages], "1.0")
        return {
            "client": {"packages": here},
            "workers": {"tcp://far:1": {"packages": here | {"numpy": "0.9"}}},
        }

    monkeypatch.setattr(Client, "get_versions", versions)
    scheduler.scale(1)
    cluster = Cluster(kind="address", address=scheduler.scheduler_address)
    with (
        pytest.raises(EngineError, match=r"numpy 0.9 \(here 1.0\).*tcp://far:1.*lock file"),
        open_engine(cluster),
    ):
        raise AssertionError("refused")


def test_a_scheduler_that_is_not_there_is_an_error() -> None:
    cluster = Cluster(kind="address", address="tcp://127.0.0.1:1", no_workers_timeout_s=0.5)
    with (
        pytest.raises(EngineError, match=r"no scheduler answers within 0\.5 s"),
        open_engine(cluster),
    ):
        raise AssertionError("nobody listens there")


class Part:
    """A result that can be seen to go."""


alive: weakref.WeakSet[Part] = weakref.WeakSet()


def make_part() -> Part:
    part = Part()
    alive.add(part)
    return part


def count_parts(parts: list[Part]) -> int:
    return len(parts)


@pytest.mark.parametrize("kind", ["serial", "threads"])
def test_what_nobody_needs_any_more_is_forgotten(kind: str) -> None:
    with open_engine(CLUSTERS[kind]) as engine:
        parts = [engine.submit(make_part, label="part") for _ in range(4)]
        merge = engine.submit(count_parts, parts, label="merge")
        del parts
        assert engine.gather([merge]) == [4]
        deadline = time.monotonic() + 20
        while len(alive) and time.monotonic() < deadline:
            time.sleep(0.02)
            gc.collect()
        assert len(alive) == 0, "the merge is done and nobody else holds the parts"
