"""Sending without waiting: a thread for each address, and a bounded wait at the end of a run.

A timeout alone does not bound a request: looking a name up has none, and a server may answer a
byte at a time. So requests are made by a daemon thread, which the process does not wait for.
"""

from __future__ import annotations

import logging
import queue
import smtplib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from typing import IO, TypeVar

from hbpipe.errors import ConfigError, HbpipeError

logger = logging.getLogger(__name__)

#: How long one request may stand still, in seconds.
TIMEOUT_S = 5.0

Result = TypeVar("Result")
Errand = Callable[[], None]
Errands = queue.Queue[Errand | None]


class Courier:
    """Does what it is given in order, in a thread of its own; its troubles are one warning.

    Parameters
    ----------
    what
        What is sent, for the warning.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._warned = False
        self._errands: Errands | None = None
        self._thread: threading.Thread | None = None

    def send(self, errand: Errand) -> None:
        """Do an errand soon; what it raises becomes a warning."""
        if self._errands is None:
            self._errands = queue.Queue()
            self._thread = threading.Thread(
                target=self._work, args=[self._errands], name=self._what, daemon=True
            )
            self._thread.start()
        self._errands.put(errand)

    def wait(self, deadline: float) -> None:
        """Wait until all is sent, but not beyond a moment of the monotonic clock."""
        if self._errands is None or self._thread is None:
            return
        self._errands.put(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._warn("not sent in time")
        self._errands = self._thread = None

    def _work(self, errands: Errands) -> None:
        while (errand := errands.get()) is not None:
            try:
                errand()
            except Exception as error:
                self._warn(described(error))

    def _warn(self, why: str) -> None:
        """Warn once: a server that is down would else be told of with every event."""
        if not self._warned:
            self._warned = True
            logger.warning("%s: %s; the run is not affected", self._what, why)


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Return what a function returns, or raises, if it does so in time.

    Raises
    ------
    TimeoutError
        It takes longer; it is left behind.
    """
    ends: queue.Queue[tuple[Result | None, Exception | None]] = queue.Queue()

    def call() -> None:
        try:
            ends.put((function(), None))
        except Exception as error:
            ends.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        result, error = ends.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def described(error: Exception) -> str:
    """Say what went wrong without the address, which may be a secret."""
    if isinstance(error, HbpipeError | smtplib.SMTPException):
        return str(error)
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse to be sent elsewhere: a POST would become a GET, and carry its token along."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow nothing; urllib then raises the answer as an error."""


_opener = urllib.request.build_opener(_NoRedirect)


def post_json(url: str, text: str, token: str | None = None) -> None:
    """Post one JSON object.

    Parameters
    ----------
    url
        An address on the web.
    text
        The object, as JSON.
    token
        What authorises the bearer, if anything.

    Raises
    ------
    OSError
        The server does not answer, or not with success.
    ConfigError
        The address is none on the web.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigError("the address is none on the web", expected="http:// or https://")
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, text.encode(), headers, method="POST")
    with _opener.open(request, timeout=TIMEOUT_S):
        pass
