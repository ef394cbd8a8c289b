"""Automations on a real Prefect server: who is told when a run ends badly."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

import flows.alerts

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_automations_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    webhook = tmp_path / "webhook"
    webhook.write_text("http://127.0.0.1:9/hook")
    for _ in range(2):
        assert flows.alerts.main(["--webhook", f"file:{webhook}"]) == 0
    with get_client(sync_client=True) as client:
        made = {automation.name: automation for automation in client.read_automations()}
        assert len(client.read_automations()) == len(made) == 2
    assert all("prefect.tag.hbpipe" in str(one.trigger.match_related) for one in made.values())
    assert flows.alerts.main(["--webhook", "env:NO_SUCH_VARIABLE"]) == 2
    assert "NO_SUCH_VARIABLE, which is not set" in capsys.readouterr().err
