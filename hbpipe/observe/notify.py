"""Notifications: a webhook and e-mail."""

from __future__ import annotations

import json
import smtplib
import ssl
from email.message import EmailMessage
from typing import Any

from hbpipe.config import Notify, resolve_secrets
from hbpipe.observe.courier import TIMEOUT_S, Courier, post_json
from hbpipe.observe.notice import Notice, notice_of
from hbpipe.observe.record import Record
from hbpipe.observe_sections import Smtp
from hbpipe.run.observe import Silent


class Notifier(Silent):
    """Tells people of runs that need them.

    Parameters
    ----------
    settings
        Whom, of what.
    record
        The run.
    webhook, mail
        Take the notices there, each where it is configured.
    """

    def __init__(self, settings: Notify, record: Record, webhook: Courier, mail: Courier) -> None:
        self._settings = settings
        self._record = record
        self._webhook = webhook
        self._mail = mail

    def run_ended(self, error: BaseException | None) -> None:
        """Send a notice, if this end calls for one."""
        notice = notice_of(self._record)
        if notice is None or notice.kind not in self._settings.on:
            return
        webhook, smtp = self._settings.webhook, self._settings.smtp
        if webhook is not None:
            payload = json.dumps(_PAYLOADS[self._settings.payload](notice))
            self._webhook.send(lambda: _call(webhook, payload))
        if smtp.host is not None:
            self._mail.send(lambda: send_mail(smtp, notice))


def _call(webhook: str, payload: str) -> None:
    # Read at the moment of use; the address is a secret, for who knows it may write there.
    post_json(resolve_secrets({"notify.webhook": webhook})["notify.webhook"], payload)


def _text(notice: Notice) -> dict[str, Any]:
    """Return what Slack, Mattermost and most others take."""
    return {"text": notice.text}


def _adaptive_card(notice: Notice) -> dict[str, Any]:
    """Return what the Workflows of Teams take."""
    blocks = [
        {"type": "TextBlock", "text": line, "wrap": True, "weight": weight}
        for line, weight in [
            (notice.subject, "Bolder"),
            *((line, "Default") for line in notice.lines),
        ]
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


_PAYLOADS = {"text": _text, "adaptive_card": _adaptive_card}


def send_mail(smtp: Smtp, notice: Notice) -> None:
    """Send a notice by e-mail.

    Raises
    ------
    OSError, smtplib.SMTPException
        The server does not answer, or refuses; without STARTTLS where it is asked for, nothing is
        sent.
    ConfigError
        A secret cannot be resolved.
    """
    assert smtp.host is not None
    message = EmailMessage()
    message["Subject"] = notice.subject
    message["From"] = smtp.sender
    message["To"] = ", ".join(smtp.to)
    message.set_content("\n".join(notice.lines) + "\n")
    with smtplib.SMTP(smtp.host, smtp.port, timeout=TIMEOUT_S) as server:
        if smtp.starttls:
            server.starttls(context=ssl.create_default_context())
        if smtp.user is not None and smtp.password is not None:
            found = resolve_secrets(
                {"notify.smtp.user": smtp.user, "notify.smtp.password": smtp.password}
            )
            server.login(*found.values())
        server.send_message(message)
