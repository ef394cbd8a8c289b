"""Notifications: what is sent, when, and to real servers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hbpipe.errors import EngineError, GateError, LateError
from hbpipe.observe import notify
from hbpipe.observe.notice import Notice, notice_of
from hbpipe.observe.record import Record
from hbpipe.observe_sections import Smtp
from hbpipe.run.observe import Opening
from tests.nights import day, settings_for
from tests.observe.nights_watched import ended, held_night, late_night, warned_night, watched_night
from tests.observe.servers import mail_server, web_server

NOTICE = Notice("failure", "hbpipe: tiny (prod) failed", ("what: this", "do: that"))


def test_people_are_told_of_what_needs_them_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server() as hook:
        monkeypatch.setenv("HOOK", f"{hook.url}/services/T0/secret")
        told = {"webhook": "env:HOOK"}
        watched_night(tmp_path, notify=told)
        assert hook.requests == []
        error = held_night(tmp_path, notify=told)
        late_night(tmp_path, notify=told)
    assert [request.path for request in hook.requests] == ["/services/T0/secret"] * 2
    assert all(r.headers["Content-Type"] == "application/json" for r in hook.requests)
    failed, late = (json.loads(request.body) for request in hook.requests)
    assert set(failed) == {"text"}
    lines = failed["text"].splitlines()
    assert lines[0] == f"hbpipe: tiny (prod) as of {day(2)} failed"
    assert lines[1].startswith("what: GateError: ")
    assert f"do: {error.remedy}" in lines
    assert lines[-2].startswith("run: 20260201T030000-")
    assert lines[-1] == f"readers: still release {day(1)}.1, as of {day(1)}"
    assert late["text"].startswith("hbpipe: tiny (prod) is late\nwhat: LateError: ")


def test_a_warning_is_told_where_that_is_asked_for(tmp_path: Path) -> None:
    with web_server() as hook:
        warned_night(
            tmp_path, notify={"webhook": hook.url, "on": ["warning"], "payload": "adaptive_card"}
        )
        late_night(tmp_path, notify={"webhook": hook.url, "on": ["warning"]})
    (request,) = hook.requests
    (attachment,) = json.loads(request.body)["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    texts = [block["text"] for block in attachment["content"]["body"]]
    assert texts[0] == f"hbpipe: tiny (prod) as of {day(6)} published with warnings"
    assert texts[1].startswith("check: window_filled of window: 5 of 7 days have no events")
    assert texts[-1] == f"readers: release {day(6)}.1, as of {day(6)}"


def a_record(folder: Path, error: BaseException | None) -> Record:
    record = Record(settings_for(folder))
    record.run_opened(Opening("one", "tiny", "prod", datetime.now(UTC)))
    record.run_ended(error)
    return record


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, None),
        (KeyboardInterrupt(), None),
        (SystemExit(143), "failure"),
        (GateError("a check failed"), "failure"),
        (MemoryError(), "failure"),
    ],
)
def test_what_calls_for_a_notice(
    tmp_path: Path, error: BaseException | None, kind: str | None
) -> None:
    notice = notice_of(a_record(tmp_path, error))
    assert (None if notice is None else notice.kind) == kind
    if notice is not None:
        assert notice.lines[-1] == "readers: no release yet"


def test_an_error_is_told_with_its_place_and_its_remedy(tmp_path: Path) -> None:
    error = EngineError("a worker died", where={"raised_at": "a.py:3"}, expected="memory")
    notice = notice_of(a_record(tmp_path, error))
    assert notice is not None
    assert notice.lines[:4] == (
        "what: EngineError: a worker died",
        "where: raised at a.py:3",
        "expected: memory",
        "do: look at the log of the run, and run again",
    )


def test_a_lake_that_cannot_be_read_keeps_no_notice_back(tmp_path: Path) -> None:
    (tmp_path / "lake" / "releases" / "_delta_log").mkdir(parents=True)
    (tmp_path / "lake" / "releases" / "_delta_log" / f"{0:020d}.json").write_text("{")
    notice = notice_of(a_record(tmp_path, GateError("a check failed")))
    assert notice is not None
    assert notice.lines[-1] == "readers: the lake cannot be read (LakeError)"


def smtp(port: int, **more: Any) -> Smtp:
    given = {"host": "127.0.0.1", "port": port, "sender": "hbpipe@shop", "to": ["a@shop", "b@shop"]}
    return Smtp.model_validate({**given, "starttls": False, **more})


def test_an_e_mail_says_it_in_words() -> None:
    with mail_server() as server:
        notify.send_mail(smtp(server.port), NOTICE)
    (text,) = server.messages
    message = message_from_string(text, policy=policy.default)
    assert message["Subject"] == NOTICE.subject
    assert (message["From"], message["To"]) == ("hbpipe@shop", "a@shop, b@shop")
    assert message.get_content().splitlines() == list(NOTICE.lines)
    assert [c for c in server.commands if c.startswith("rcpt")] == [
        "rcpt TO:<a@shop>",
        "rcpt TO:<b@shop>",
    ]


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate of this machine with its key, which this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "here.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def test_a_password_travels_encrypted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_USER", "me")
    monkeypatch.setenv("MAIL_PASSWORD", "hunter2")
    secrets = {"user": "env:MAIL_USER", "password": "env:MAIL_PASSWORD"}
    with mail_server(certificate) as server:
        notify.send_mail(smtp(server.port, host="localhost", starttls=True, **secrets), NOTICE)
    verbs = [command.split()[0].upper() for command in server.commands]
    assert verbs.index("STARTTLS") < verbs.index("AUTH") < verbs.index("MAIL")
    assert len(server.messages) == 1


def test_without_encryption_nothing_is_sent_where_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mail_server() as server:
        settings = smtp(server.port, starttls=True).model_dump()
        ended(tmp_path, LateError("no events yet"), notify={"smtp": settings})
    assert server.messages == []
    (told,) = caplog.records
    assert told.getMessage().startswith("notify.smtp: STARTTLS extension not supported")


@pytest.mark.parametrize(
    ("webhook", "told"),
    [
        ("env:NO_SUCH_VARIABLE", "notify.webhook refers to the variable NO_SUCH_VARIABLE"),
        ("file:/etc/hosts", "the address is none on the web"),
        ("ftp://host/secret", "the address is none on the web"),
        ("http://127.0.0.1:1/secret", "no connection: "),
        ("http://127.0.0.1:1/a secret", "InvalidURL"),
    ],
)
def test_a_webhook_that_cannot_be_called_is_one_warning_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, webhook: str, told: str
) -> None:
    ended(tmp_path, LateError("no events yet"), notify={"webhook": webhook})
    (record,) = caplog.records
    assert told in record.getMessage()
    assert "secret" not in record.getMessage()
