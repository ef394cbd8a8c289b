"""No sink can fail a run, nor hold it up; and without settings there is none."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.errors import GateError
from hbpipe.observe import courier, observers_of, record, watch
from hbpipe.observe.courier import Courier, within
from hbpipe.observe.record import Record
from hbpipe.observe.watch import Watch
from hbpipe.run.observe import Observer, Opening, Silent
from tests.nights import settings_for, write_config, write_days
from tests.observe.nights_watched import ended, watched_night
from tests.observe.servers import silent_server, web_server

OPENING = Opening("one", "tiny", "prod", datetime(2026, 2, 1, 3, tzinfo=UTC))


def everything(folder: Path, url: str) -> dict[str, Any]:
    """Settings that ask for every sink but the log."""
    return {
        "observe": {
            "prometheus": {"textfile": str(folder / "a.prom"), "push": url},
            "openlineage": {"path": str(folder / "lineage"), "url": url},
            "opentelemetry": True,
        },
        "notify": {"webhook": url, "on": ["failure", "late", "warning"]},
    }


def tell_all(observer: Observer) -> None:
    """Tell an observer one of each."""
    observer.run_opened(OPENING)
    observer.stage_started("fit")
    observer.progress("fit", 1, 2)
    observer.stage_finished("fit", {"pools": 1})
    observer.message("look")
    observer.run_ended(None)


def test_nothing_watches_unless_asked_for(tmp_path: Path) -> None:
    assert type(observers_of(settings_for(tmp_path))) is Silent


def test_the_command_line_loads_no_sink_that_is_not_asked_for(root: Path) -> None:
    code = (
        "import sys, hbpipe.commands.nights; "
        "print(*({'prometheus_client', 'opentelemetry'} & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == ""


def test_a_sink_that_raises_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    class Broken(Silent):
        def stage_started(self, stage: str) -> None:
            raise RuntimeError("broken")

        stage_finished = run_ended = stage_started  # type: ignore[assignment]

    class Sound(Silent):
        def run_ended(self, error: BaseException | None) -> None:
            heard.append("ended")

    told = Watch(Record(settings_for(tmp_path)), {"broken": Broken(), "sound": Sound()})
    tell_all(told)
    assert heard == ["ended"]
    assert [r.getMessage() for r in caplog.records] == [
        "broken: RuntimeError: broken; the run is not affected"
    ]
    tell_all(told)
    assert len(caplog.records) == 2, "each run is told once"


def test_servers_that_are_down_cost_a_warning_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with web_server() as server:
        gone = server.url
    report = watched_night(tmp_path, **everything(tmp_path, gone))
    assert report.published
    told = sorted(r.getMessage().partition(":")[0] for r in caplog.records)
    assert told == ["observe.openlineage", "observe.opentelemetry", "observe.prometheus.push"]


def test_a_server_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "WAIT_S", 0.1)
    monkeypatch.setattr(courier, "TIMEOUT_S", 60.0)
    began = time.monotonic()
    with silent_server() as url:
        ended(tmp_path, GateError("a check failed"), notify={"webhook": url})
    assert time.monotonic() - began < 30, "the request alone would take a minute"
    (told,) = caplog.records
    assert told.getMessage() == "notify.webhook: not sent in time; the run is not affected"


def test_a_server_that_sends_elsewhere_gets_no_second_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEY", "hunter2")
    with web_server() as server, web_server() as elsewhere:
        server.status, server.headers = 302, {"Location": elsewhere.url}
        lineage = {"url": server.url, "api_key": "env:KEY"}
        ended(tmp_path, GateError("a check failed"), observe={"openlineage": lineage})
    assert elsewhere.requests == []
    assert [record.getMessage() for record in caplog.records] == [
        "observe.openlineage: the server answered 302; the run is not affected"
    ]


def test_a_courier_keeps_the_order_and_ends_its_thread() -> None:
    sent: list[int] = []
    one = Courier("numbers")
    for _ in range(2):  # it may be used again
        for number in range(3):
            one.send(lambda number=number: sent.append(number))
        one.wait(time.monotonic() + 30)
    assert sent == [0, 1, 2, 0, 1, 2]
    assert "numbers" not in {thread.name for thread in threading.enumerate()}
    one.wait(time.monotonic())  # nothing to wait for


def test_within_gives_what_comes_in_time() -> None:
    def fail() -> None:
        raise GateError("no")

    assert within(30, lambda: 7) == 7
    with pytest.raises(GateError):
        within(30, fail)
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        within(0.01, never.wait)
    never.set()


def test_a_lake_that_does_not_answer_holds_no_notice_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(record, "LAKE_S", 0.01)
    monkeypatch.setattr(record, "open_lake", lambda _: never.wait())
    with web_server() as hook:
        ended(tmp_path, GateError("a check failed"), notify={"webhook": hook.url})
    never.set()
    (request,) = hook.requests
    text = json.loads(request.body)["text"]
    assert text.endswith("readers: the lake cannot be read (TimeoutError)")


def test_an_observer_watches_one_run_after_the_other(tmp_path: Path) -> None:
    one = Record(settings_for(tmp_path))
    tell_all(one)
    one.stage_started("fit")
    assert one.retries == 1
    one.run_opened(OPENING)
    assert (one.stages, one.retries, one.error, one.rows) == ([], 0, None, None)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (GateError("no"), 3),
        (ValueError(), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (SystemExit("bye"), 1),
    ],
)
def test_the_exit_status_is_that_of_the_command_line(
    tmp_path: Path, error: BaseException | None, status: int
) -> None:
    one = Record(settings_for(tmp_path))
    one.run_ended(error)
    assert one.exit_status == status


def test_run_and_its_exit_code_are_what_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_days(tmp_path, 1)
    with web_server() as server:
        gone = server.url
    sections = everything(tmp_path, gone)
    sections["observe"]["log"] = {"path": str(tmp_path / "log")}
    config = str(write_config(tmp_path, **sections))
    assert main(["run", "--config", config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["published"]
    assert main(["run", "--config", config, "--as-of", "2026-03-01", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "LateError"
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count("no connection") == 5, "the log has the troubles of the others"
