"""Servers that tests send to: they keep what they get, and answer as a test says."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Request:
    """What one request said."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Web:
    """A web server of this machine."""

    url: str
    requests: list[Request] = field(default_factory=list)
    #: Status and headers of every answer.
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def web_server() -> Iterator[Web]:
    """Serve until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode(errors="replace")
            web.requests.append(Request(self.command, self.path, dict(self.headers), body))
            self.send_response(web.status)
            for name, value in {"Content-Length": "0", **web.headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web = Web(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield web
        server.shutdown()
        thread.join()


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept connections and never answer: the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@dataclass
class Mail:
    """A mail server of this machine."""

    port: int
    certificate: Path | None
    messages: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


_ANSWERS = {"STARTTLS": "220 go on", "AUTH": "235 welcome", "DATA": "354 go on", "QUIT": "221 bye"}


class _MailHandler(socketserver.StreamRequestHandler):
    """Speaks as much SMTP as taking a message needs."""

    mail: Mail

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            self.mail.commands.append(line)
            verb = line.split()[0].upper()
            self.say(self.greeting() if verb == "EHLO" else _ANSWERS.get(verb, "250 fine"))
            if verb == "STARTTLS":
                self.encrypt()
            elif verb == "DATA":
                self.mail.messages.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.say("250 taken")
            elif verb == "QUIT":
                return

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def greeting(self) -> str:
        offered = "8BITMIME" if self.mail.certificate is None else "STARTTLS"
        return f"250-here\r\n250-AUTH PLAIN\r\n250 {offered}"

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def encrypt(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert self.mail.certificate is not None
        context.load_cert_chain(self.mail.certificate)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)


@contextmanager
def mail_server(certificate: Path | None = None) -> Iterator[Mail]:
    """Take mail until the block is left; with a certificate (and its key) STARTTLS is offered."""

    class Handler(_MailHandler):
        pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        Handler.mail = Mail(server.server_address[1], certificate)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Handler.mail
        server.shutdown()
        thread.join()
