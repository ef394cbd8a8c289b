"""Image, compose file, deployments, timers and settings agree; what they call exists."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import distributed  # noqa: F401  (adds its defaults to Dask's)
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from prefect.settings import Settings as PrefectSettings

import infra.locked
import infra.scale as scale
from flows.audit import audit
from flows.backfill import backfill
from flows.maintenance import maintenance
from flows.nightly import nightly
from hbpipe.cli import _parser
from hbpipe.config import Cluster, load_settings

ROOT = Path(__file__).parent.parent
INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text("utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((INFRA / "prefect.yaml").read_text("utf-8"))[
    "deployments"
]
DOCKERFILE = (INFRA / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
FLOWS = {flow.name: flow for flow in (nightly, backfill, audit, maintenance)}
#: What such a run cannot do without, given by whoever starts it.
BY_HAND = {"backfill": {"start": "2026-01-01", "end": "2026-01-31"}}


services = pytest.mark.parametrize("service", COMPOSE["services"])
deployments = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: one["entrypoint"])


def words(service: str) -> list[str]:
    return [str(word) for word in COMPOSE["services"][service].get("command", [])]


def environment(service: str) -> dict[str, str]:
    return COMPOSE["services"][service].get("environment", {})


# --- systemd and cron ---------------------------------------------------------------------------


def unit(name: str) -> configparser.ConfigParser:
    # A key may stand several times, which only the last is asked for here.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((INFRA / "systemd" / name).read_text(encoding="utf-8"))
    return parser


def test_the_service_runs_a_night(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    service = unit("hbpipe.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program == f"{service['WorkingDirectory']}/.venv/bin/hbpipe"
    parsed = _parser().parse_args(arguments)
    assert parsed.verb == "run"
    settings = load_settings(parsed.config, parsed.env)
    assert settings.lake.path == service["ReadWritePaths"]


def test_a_failed_gate_is_not_tried_again() -> None:
    service = unit("hbpipe.service")["Service"]
    assert service["RestartPreventExitStatus"].split() == ["2", "3"]


def test_the_timer_avoids_the_hours_that_daylight_saving_moves() -> None:
    timer = unit("hbpipe.timer")["Timer"]
    _, clock, zone = timer["OnCalendar"].split()
    assert int(clock[:2]) >= 4
    assert zone == load_settings(ROOT / "configs" / "base.yaml").events.timezone


def test_the_worker_of_the_system_serves_the_pool_of_the_deployments() -> None:
    worker, night = (unit(name)["Service"] for name in ("hbpipe-worker.service", "hbpipe.service"))
    program, *arguments = shlex.split(worker["ExecStart"])
    assert program == f"{worker['WorkingDirectory']}/.venv/bin/prefect"
    assert ["prefect", *arguments] == words("prefect-worker")[: 1 + len(arguments)]
    for name in ("User", "WorkingDirectory", "ReadWritePaths"):
        assert worker[name] == night[name]


def cron_lines() -> Iterator[str]:
    for line in (INFRA / "cron/hbpipe").read_text("utf-8").splitlines():
        if line and line[0] in "0123456789*":
            yield line


def test_cron_calls_verbs_that_exist_at_hours_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = list(cron_lines())
    assert lines
    for line in lines:
        _, hour, _, _, _, user, command = line.split(maxsplit=6)
        assert int(hour) >= 4
        assert user == "hbpipe"
        program = command.partition(" .venv/bin/hbpipe ")[2].partition("||")[0].partition(">")[0]
        parsed = _parser().parse_args(shlex.split(program))
        load_settings(parsed.config, parsed.env)


# --- the image ----------------------------------------------------------------------------------


def test_the_image_has_what_hbpipe_needs_at_run_time_and_nothing_else() -> None:
    """As the installed packages declare it, without a look at the lock's comments."""
    taken = set(re.findall(r"^([a-z0-9-]+)==", infra.locked.needed(LOCK, runtime_names()), re.M))
    assert not taken & {"pytest", "mypy", "ruff", "duckdb", "matplotlib", "setuptools"}
    missing = {
        str(required)
        for name in taken & installed()
        for required in required_by(name)
        if canonicalize_name(required.name) not in taken
    }
    assert not missing


def runtime_names() -> list[str]:
    return infra.locked.run_time((ROOT / "pyproject.toml").read_text("utf-8"))


def installed() -> set[str]:
    return {canonicalize_name(found.name) for found in importlib.metadata.distributions()}


def required_by(name: str) -> Iterator[Requirement]:
    for text in importlib.metadata.requires(name) or ():
        required = Requirement(text)
        here = {**default_environment(), "extra": ""}
        if required.marker is None or required.marker.evaluate(here):
            yield required


def test_every_entry_for_the_image_has_its_hashes() -> None:
    entries = infra.locked.needed(LOCK, runtime_names())
    names = re.findall(r"^([a-z0-9-]+)==", entries, re.M)
    assert len(names) == len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", entries, re.M)) > 50


def test_what_is_not_locked_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the lock: no-such-package; run make lock"):
        infra.locked.needed(LOCK, ["numpy", "no_such_package"])


def test_the_image_runs_a_python_that_the_project_supports() -> None:
    (version,) = re.findall(r"^ARG BASE=python:([\d.]+)-slim-\w+$", DOCKERFILE, re.M)
    (least,) = re.findall(r"^>=([\d.]+)$", PROJECT["requires-python"])
    assert Version(version) >= Version(least)


def test_the_image_runs_as_nobody_special_and_knows_no_index() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.M)
    assert users == ["10001:10001"]
    assert not re.search(
        r"--(extra-)?index|--find-links|--trusted-host|https?://(?!127)", DOCKERFILE
    )
    assert DOCKERFILE.count("pip install") == DOCKERFILE.count("--require-hashes") + 1
    assert "--no-index /build/wheels" in DOCKERFILE


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (INFRA / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source.split('/')[0]}" in ignored
    assert "infra/secrets" in ignored


# --- compose ------------------------------------------------------------------------------------


def test_the_images_tag_is_the_projects_version() -> None:
    own = {one["image"] for one in COMPOSE["services"].values() if "build" in one}
    assert own == {f"{PROJECT['name']}:{PROJECT['version']}"}


@services
def test_an_image_is_named_with_its_version(service: str) -> None:
    assert re.fullmatch(r"[a-z]+:\d[\w.-]+", COMPOSE["services"][service]["image"])


@services
def test_a_port_is_open_to_this_machine_alone_and_served_by_the_command(service: str) -> None:
    exposed = " ".join(re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.M)).split()
    for port in COMPOSE["services"][service].get("ports", []):
        host, outside, inside = port.split(":")
        assert host == "127.0.0.1"
        assert outside == inside
        assert any(word.endswith(inside) for word in words(service))
        assert inside in exposed


@services
def test_a_health_check_asks_a_port_that_the_service_serves(service: str) -> None:
    check = COMPOSE["services"][service]["healthcheck"]
    asked = re.search(r"127\.0\.0\.1:(\d+)", " ".join(check.get("test", [])))
    if asked:
        served = [*words(service), environment(service).get("PREFECT_WORKER_WEBSERVER_PORT", "")]
        assert any(word.endswith(asked[1]) for word in served)
    else:
        assert check.get("disable") or check["test"][1] == "pg_isready"


def test_the_images_own_health_check_and_command_are_the_workers() -> None:
    worker = COMPOSE["services"]["prefect-worker"]
    (command,) = re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.M)
    (health,) = re.findall(r"^    CMD (\[.+\])$", DOCKERFILE, re.M)
    assert json.loads(command) == words("prefect-worker")
    assert json.loads(health) == worker["healthcheck"]["test"][1:]


def test_addresses_name_services_and_the_ports_that_they_serve() -> None:
    for service in COMPOSE["services"]:
        told = [*words(service), *map(str, environment(service).values())]
        for host, port in re.findall(r"(?:tcp|http)://([a-z-]+):(\d+)", " ".join(told)):
            assert any(word.endswith(port) for word in words(host)), f"{host}:{port}"
            assert set(COMPOSE["services"][host]["networks"]) & set(
                COMPOSE["services"][service]["networks"]
            )
    server, postgres = environment("prefect-server"), environment("postgres")
    assert server["PREFECT_SERVER_DATABASE_HOST"] == "postgres"
    assert server["PREFECT_SERVER_DATABASE_NAME"] == postgres["POSTGRES_DB"]
    assert server["PREFECT_SERVER_DATABASE_USER"] == postgres["POSTGRES_USER"]


@services
def test_secrets_come_from_files_that_compose_mounts(service: str) -> None:
    given = environment(service)
    files = {value for name, value in given.items() if name.endswith("_FILE")}
    mounted = COMPOSE["services"][service].get("secrets", [])
    assert files == {f"/run/secrets/{name}" for name in mounted}
    assert set(mounted) <= COMPOSE["secrets"].keys()
    assert not [n for n in given if re.search(r"(PASSWORD|AUTH_STRING|TOKEN|SECRET)$", n)]


def test_what_the_entry_point_takes_from_files_is_what_compose_gives() -> None:
    script = (INFRA / "entrypoint.sh").read_text("utf-8")
    read = set(re.findall(r"^    (PREFECT_\w+)", script, re.M))
    given = {name for service in COMPOSE["services"] for name in environment(service)}
    prefects = {n.removesuffix("_FILE") for n in given if re.match(r"PREFECT_\w+_FILE$", n)}
    assert read == prefects


def test_the_entry_point_hands_secrets_over_and_hides_where_they_were(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("user:p a$$'\"\\word")
    command = ["sh", str(INFRA / "entrypoint.sh"), sys.executable, "-c"]
    told = subprocess.run(
        [*command, "import json, os; print(json.dumps(dict(os.environ)))"],
        env={"PATH": os.environ["PATH"], "PREFECT_API_AUTH_STRING_FILE": str(secret)},
        check=True,
        capture_output=True,
        text=True,
    )
    seen = json.loads(told.stdout)
    assert seen["PREFECT_API_AUTH_STRING"] == secret.read_text()
    assert "PREFECT_API_AUTH_STRING_FILE" not in seen


@services
def test_prefects_variables_are_settings_of_the_locked_prefect(service: str) -> None:
    known = {name.upper() for name in known_settings(PrefectSettings)}
    given = {n.removesuffix("_FILE") for n in environment(service) if n.startswith("PREFECT_")}
    image = set(re.findall(r"^ {4}(PREFECT_\w+)=", DOCKERFILE, re.M))
    assert given | image <= known


def known_settings(model: Any) -> set[str]:
    """The environment names of Prefect's settings, nested ones too."""
    names = set()
    for name, field in model.model_fields.items():
        nested = field.annotation
        if hasattr(nested, "model_fields"):
            names |= known_settings(nested)
        else:
            names.add(f"{model.model_config['env_prefix']}{name}")
    return names


@services
def test_hbpipes_variables_load_as_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(service).items():
        if name.startswith("HBPIPE__"):
            monkeypatch.setenv(name, value)
    cluster = load_settings(ROOT / "configs/base.yaml", "prod").cluster
    addressed = "HBPIPE__CLUSTER__ADDRESS" in environment(service)
    assert cluster.kind == ("address" if addressed else "local")


def test_dasks_variables_say_what_the_settings_default_to() -> None:
    given = {**environment("dask-scheduler"), **environment("dask-worker")}
    known = dask.config.merge(*dask.config.defaults)
    told = dask.config.merge(known, dask.config.collect_env(given))
    limits = told["distributed"]["scheduler"]
    assert limits["allowed-failures"] == Cluster().allowed_failures
    assert limits["no-workers-timeout"] == f"{Cluster().no_workers_timeout_s:g}s"
    assert told["distributed"]["worker"]["multiprocessing-method"] == "spawn"
    assert leaves(told) == leaves(known), "Dask knows every variable"


def leaves(config: Any, at: str = "") -> set[str]:
    if not isinstance(config, dict):
        return {at}
    return {leaf for name, below in config.items() for leaf in leaves(below, f"{at}.{name}")}


def test_both_ends_of_a_computation_see_the_same_files() -> None:
    prod = load_settings(ROOT / "configs/base.yaml", "prod")
    (folder,) = set(re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.M))
    volumes = {service: COMPOSE["services"][service].get("volumes") for service in WHO_COMPUTES}
    assert volumes["prefect-worker"] == volumes["dask-worker"]
    mounted = [volume.removesuffix(":ro").rpartition(":")[2] for volume in volumes["dask-worker"]]
    assert f"{folder}/{prod.events.path}" in mounted
    assert prod.lake.path in mounted


WHO_COMPUTES = ("prefect-worker", "dask-worker")


# --- the deployments ----------------------------------------------------------------------------


def test_every_flow_is_deployed() -> None:
    expected = {f"flows/{name}.py:{name}" for name in FLOWS}
    assert {deployment["entrypoint"] for deployment in DEPLOYMENTS} == expected


@deployments
def test_a_deployment_has_parameters_that_its_flow_takes(deployment: dict[str, Any]) -> None:
    name = deployment["entrypoint"].partition(":")[2]
    assert FLOWS[name].name == name
    assert deployment["enforce_parameter_schema"] is True
    FLOWS[name].validate_parameters({**deployment["parameters"], **BY_HAND.get(name, {})})
    assert deployment["schedules"] or name in BY_HAND
    assert all(field["description"] for field in FLOWS[name].parameters.properties.values())
    load_settings(ROOT / deployment["parameters"]["config"], deployment["parameters"]["env"])


@deployments
def test_a_schedule_is_named_active_or_not_and_in_the_business_zone(
    deployment: dict[str, Any],
) -> None:
    zone = load_settings(ROOT / "configs/base.yaml", "prod").events.timezone
    for schedule in deployment["schedules"]:
        assert schedule["slug"]
        assert isinstance(schedule["active"], bool)
        assert schedule["timezone"] == zone
        assert int(schedule["cron"].split()[1]) >= 4, "daylight saving moves earlier hours"


def test_no_two_schedules_begin_at_one_moment() -> None:
    crons = [schedule["cron"] for one in DEPLOYMENTS for schedule in one["schedules"]]
    assert len({" ".join(cron.split()[:2]) for cron in crons}) == len(crons)


@deployments
def test_one_pool_of_processes_one_run_at_a_time(deployment: dict[str, Any]) -> None:
    script = (INFRA / "deploy.sh").read_text("utf-8")
    pool = deployment["work_pool"]["name"]
    assert f"work-pool create {pool} --type process" in script
    assert f"work-pool update {pool} --concurrency-limit 1" in script
    assert deployment["concurrency_limit"]["limit"] == 1
    assert words("prefect-worker")[:5] == ["prefect", "worker", "start", "--pool", pool]


def test_the_deployments_are_written_for_the_locked_prefect() -> None:
    said = yaml.safe_load((INFRA / "prefect.yaml").read_text("utf-8"))["prefect-version"]
    assert re.findall(r"^prefect==(\S+)", LOCK, re.M) == [said]


# --- linters ------------------------------------------------------------------------------------


def test_lint_looks_at_every_script() -> None:
    (linted,) = re.findall(r"SHELLCHECK\) (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    seen = {path for pattern in linted.split() for path in ROOT.glob(pattern)}
    scripts = {p for p in [*INFRA.rglob("*"), *(ROOT / ".ci").iterdir()] if is_script(p)}
    assert scripts <= seen


def is_script(path: Path) -> bool:
    return path.is_file() and re.match(rb"#!.*sh\b", path.read_bytes()) is not None


def test_the_tables_of_scale_are_those_of_its_model() -> None:
    text = (ROOT / "infra" / "scale.md").read_text(encoding="utf-8")
    assert scale.nights() in text
    assert scale.limits() in text


def test_the_model_of_scale_is_in_proportion() -> None:
    # Where every row of a piece is of another unit; else each piece has every unit once more.
    one = scale.Load("one", 1e9, 1e8, 400, 4)
    ten = scale.Load("ten", 1e10, 1e9, 4000, 40)
    assert sum(ten.stages().values()) == pytest.approx(10 * sum(one.stages().values()))
    assert ten.minutes() == pytest.approx(one.minutes())


@pytest.mark.parametrize("rows", [1e6, 1e9, 1e10, 1e11, 1e12, 1e13])
@pytest.mark.parametrize("days", [1, 28, 365])
def test_a_stage_has_at_most_ten_thousand_tasks(rows: float, days: int) -> None:
    load = scale.Load("any", rows, 1e6, 1, 4, days)
    assert load.tasks <= 10_000
    assert load.readings <= 128 * days
    assert load.merged_bytes <= 1 << 30
