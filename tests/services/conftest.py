"""The stack: PostgreSQL, Prefect's server and worker, Dask's scheduler and two workers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services.composed import Composed
from tests.services.postgres import Database, postgres
from tests.services.processes import Running, free_port, healthy, wait_for
from tests.simulated import simulate

DAYS = 5


@dataclass(frozen=True)
class Stack:
    """What the tests know of the running services."""

    api: str
    auth: str
    lake: Path
    scheduler: str
    #: What Prefect's worker sees, and whoever runs a night beside it.
    environment: dict[str, str]
    server: Running
    worker: Running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("services")
    simulate(folder, DAYS)
    site = {
        "HBPIPE__EVENTS__PATH": str(folder / "events"),
        "HBPIPE__LAKE__PATH": str(folder / "lake"),
        "HBPIPE__AUDITS__MAX_AGE": "99999d",  # of events that are old on any day
    }
    with ExitStack() as until_the_end:
        composed = Composed(folder, until_the_end, site)
        password = composed.secret("postgres_password")
        database = until_the_end.enter_context(postgres(folder, "prefect", password, "prefect"))
        api, server = start_prefect(composed, database)
        scheduler, dashboard = start_dask(composed)
        wait_for("Prefect server", lambda: healthy(f"{api}/health"), server)
        for number in (1, 2):  # the second time finds what the first has made
            name = f"prefect-deploy-{number}"
            composed.start("prefect-deploy", {}, name=name, PREFECT_API_URL=api).finish()
        variables = {
            "PREFECT_API_URL": api,
            "HBPIPE__CLUSTER__ADDRESS": scheduler,
            "PREFECT_WORKER_WEBSERVER_PORT": str(free_port()),
        }
        worker = composed.start("prefect-worker", {}, **variables)
        health = f"http://127.0.0.1:{variables['PREFECT_WORKER_WEBSERVER_PORT']}/health"
        wait_for("Prefect worker", lambda: healthy(health), worker, server)
        environment = composed.environment_of("prefect-worker", **variables)
        auth = composed.secret("prefect_auth")
        yield Stack(api, auth, folder / "lake", dashboard, environment, server, worker)


def start_prefect(composed: Composed, database: Database) -> tuple[str, Running]:
    """Start Prefect's server; returns the address of its API."""
    port = str(free_port())
    server = composed.start(
        "prefect-server",
        {"0.0.0.0": "127.0.0.1", "4200": port},
        PREFECT_SERVER_DATABASE_HOST="127.0.0.1",
        PREFECT_SERVER_DATABASE_PORT=str(database.port),
    )
    return f"http://127.0.0.1:{port}/api", server


def start_dask(composed: Composed) -> tuple[str, str]:
    """Start a scheduler and two workers; returns its address and that of its dashboard."""
    port, dashboard = str(free_port()), f"127.0.0.1:{free_port()}"
    address = f"tcp://127.0.0.1:{port}"
    scheduler = composed.start(
        "dask-scheduler", {"0.0.0.0": "127.0.0.1", "8786": port, "0.0.0.0:8787": dashboard}
    )
    workers = [
        composed.start(
            "dask-worker",
            {
                "tcp://dask-scheduler:8786": address,
                "/scratch": str(composed.folder / f"scratch-{number}"),
                ":8788": f"127.0.0.1:{free_port()}",
            },
            name=f"dask-worker-{number}",
        )
        for number in (1, 2)
    ]
    wait_for("scheduler", lambda: healthy(f"http://{dashboard}/health"), scheduler)
    wait_for("two Dask workers", lambda: count_workers(dashboard) == 2 or None, scheduler, *workers)
    return address, dashboard


def count_workers(dashboard: str) -> int:
    with urllib.request.urlopen(f"http://{dashboard}/json/counts.json", timeout=30) as answer:
        counts: dict[str, Any] = json.load(answer)
    return int(counts["workers"])
