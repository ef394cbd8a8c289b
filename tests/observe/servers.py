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
            body = self.rfile.read(length).decode()
            web.requests.append(Request(self.command, self.path, dict(self.headers), body))
            self.send_response(web.status)
            for name, value in {"Content-Length": "0", **web.headers}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_PUT = do_POST

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
    messages: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@contextmanager
def mail_server(certificate: Path | None = None) -> Iterator[Mail]:
    """Take mail until the block is left; with a certificate (and its key) by STARTTLS alone."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                mail.commands.append(line)
                verb = line.split()[0].upper()
                if verb == "EHLO":
                    self.say("250-here\r\n250-AUTH PLAIN\r\n" + f"250 {self.offer()}")
                elif verb == "STARTTLS":
                    self.say("220 go on")
                    self.encrypt()
                elif verb == "AUTH":
                    self.say("235 welcome")
                elif verb == "DATA":
                    self.say("354 go on")
                    mail.messages.append(self.text())
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")

        def offer(self) -> str:
            return "STARTTLS" if certificate else "8BITMIME"

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def text(self) -> str:
            lines = iter(self.rfile.readline, b".\r\n")
            return b"".join(lines).decode()

        def encrypt(self) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            assert certificate is not None
            context.load_cert_chain(certificate)
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        mail = Mail(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield mail
        server.shutdown()
        thread.join()
