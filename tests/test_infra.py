"""The examples under infra/ call commands that exist, with settings that load."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from hbpipe.cli import _parser
from hbpipe.config import load_settings


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def test_the_service_runs_a_night(root: Path, monkeypatch) -> None:
    monkeypatch.chdir(root)
    service = unit(root / "infra" / "systemd" / "hbpipe.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program == f"{service['WorkingDirectory']}/.venv/bin/hbpipe"
    parsed = _parser().parse_args(arguments)
    assert parsed.verb == "run"
    settings = load_settings(parsed.config, parsed.env)
    assert settings.lake.path == service["ReadWritePaths"]


def test_a_failed_gate_is_not_tried_again(root: Path) -> None:
    service = unit(root / "infra" / "systemd" / "hbpipe.service")["Service"]
    assert service["RestartPreventExitStatus"].split() == ["2", "3"]


def test_the_timer_avoids_the_hours_that_daylight_saving_moves(root: Path) -> None:
    timer = unit(root / "infra" / "systemd" / "hbpipe.timer")["Timer"]
    _, clock, zone = timer["OnCalendar"].split()
    assert int(clock[:2]) >= 4
    assert zone == load_settings(root / "configs" / "base.yaml").events.timezone
