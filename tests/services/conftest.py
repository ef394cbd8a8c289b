"""The stack: PostgreSQL, Prefect's server and worker, Dask's scheduler and two workers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hbpipe.run.simulate import simulate_events
from tests.services.composed import command_of, environment_of, write_secrets
from tests.services.postgres import Database, postgres
from tests.services.processes import Running, free_port, healthy, running, wait_for

FIRST_DAY = date(2026, 1, 1)
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
    simulate_events(
        folder,
        first_day=FIRST_DAY,
        days=DAYS,
        chains=3,
        stores=30,
        events_per_day=800,
        seed=7,
        late=0.01,
        bad=0.01,
        repeated=0.02,
    )
    secrets = write_secrets(folder / "secrets")
    with ExitStack() as services:
        database = services.enter_context(
            postgres(
                folder,
                "prefect",
                Path(secrets["/run/secrets/postgres_password"]).read_text(),
                "prefect",
            )
        )
        api, server = _server(services, folder, secrets, database)
        scheduler, dashboard = _dask(services, folder)
        client = {
            "PREFECT_API_URL": api,
            "PREFECT_API_AUTH_STRING_FILE": secrets["/run/secrets/prefect_auth"],
        }
        _deploy(services, folder, client)
        nightly = {
            **client,
            "HBPIPE__CLUSTER__ADDRESS": scheduler,
            "PREFECT_WORKER_WEBSERVER_PORT": str(free_port()),
        }
        # What a site's own env/prod.yaml would say.
        paths = {
            "HBPIPE__EVENTS__PATH": str(folder / "events"),
            "HBPIPE__LAKE__PATH": str(folder / "lake"),
        }
        environment = {**environment_of("prefect-worker", nightly), **paths}
        worker = services.enter_context(
            running(
                "prefect-worker",
                command_of("prefect-worker", {}),
                {**environment, "PREFECT_HOME": str(folder / "worker")},
                folder,
            )
        )
        health = f"http://127.0.0.1:{nightly['PREFECT_WORKER_WEBSERVER_PORT']}/health"
        wait_for("Prefect worker", lambda: healthy(health), worker, server)
        auth = Path(secrets["/run/secrets/prefect_auth"]).read_text()
        yield Stack(api, auth, folder / "lake", dashboard, environment, server, worker)


def _server(
    services: ExitStack, folder: Path, secrets: dict[str, str], database: Database
) -> tuple[str, Running]:
    port = str(free_port())
    environment = environment_of(
        "prefect-server",
        {
            "PREFECT_SERVER_API_AUTH_STRING_FILE": secrets["/run/secrets/prefect_auth"],
            "PREFECT_SERVER_DATABASE_PASSWORD_FILE": secrets["/run/secrets/postgres_password"],
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": str(database.port),
        },
    )
    own = {"PREFECT_HOME": str(folder / "server"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    server = services.enter_context(
        running(
            "prefect-server",
            command_of("prefect-server", {"0.0.0.0": "127.0.0.1", "4200": port}),
            {**environment, **own},
            folder,
        )
    )
    api = f"http://127.0.0.1:{port}/api"
    wait_for("Prefect server", lambda: healthy(f"{api}/health"), server)
    return api, server


def _dask(services: ExitStack, folder: Path) -> tuple[str, str]:
    """Start a scheduler and two workers; returns its address and that of its dashboard."""
    port, dashboard = str(free_port()), f"127.0.0.1:{free_port()}"
    local = {"0.0.0.0": "127.0.0.1", "8786": port, "0.0.0.0:8787": dashboard}
    scheduler = services.enter_context(
        running(
            "dask-scheduler",
            command_of("dask-scheduler", local),
            environment_of("dask-scheduler", {}),
            folder,
        )
    )
    address = f"tcp://127.0.0.1:{port}"
    wait_for("scheduler", lambda: healthy(f"http://{dashboard}/health"), scheduler)
    for number in (1, 2):
        here = {
            "tcp://dask-scheduler:8786": address,
            "/scratch": str(folder / f"scratch-{number}"),
            ":8788": f"127.0.0.1:{free_port()}",
        }
        services.enter_context(
            running(
                f"dask-worker-{number}",
                command_of("dask-worker", here),
                environment_of("dask-worker", {}),
                folder,
            )
        )
    wait_for("two Dask workers", lambda: _workers(dashboard) == 2 or None, scheduler)
    return address, dashboard


def _workers(dashboard: str) -> int:
    with urllib.request.urlopen(f"http://{dashboard}/json/counts.json", timeout=30) as answer:
        counts: dict[str, Any] = json.load(answer)
    return int(counts["workers"])


def _deploy(services: ExitStack, folder: Path, client: dict[str, str]) -> None:
    """Do it twice: the second time finds what the first has made."""
    for number in (1, 2):
        environment = environment_of("prefect-deploy", client)
        deploy = services.enter_context(
            running(
                f"prefect-deploy-{number}",
                command_of("prefect-deploy", {}),
                {**environment, "PREFECT_HOME": str(folder / "deploy")},
                folder,
            )
        )
        deploy.finish()
