"""A real browser, and pages of reports in it that may neither complain nor ask for anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hbpipe.report.html.write import write_report
from tests.browser.chromium import chromium
from tests.released import release

#: As a container's root, without a screen, and without the services Chromium calls home for.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

#: Opens a report; takes the options of a browser's context, such as ``color_scheme``.
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # tests without a browser do without it

    path = chromium()
    assert path is not None, "make test-browser says what to install"
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Open pages, and see in the end that none complained or asked the network for anything."""
    complaints: list[str] = []
    contexts = []

    def open_report(path: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda shown: complaints.append(f"dialog: {shown.message}"))
        page.on("request", lambda asked: complaints.append(f"request: {asked.url[:100]}"))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        assert complaints.pop(0) == f"request: {path.as_uri()[:100]}"
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == []


def write(folder: Path, stores: Any, **options: Any) -> Path:
    """Write the report of a release made of these stores."""
    settings, lake, row = release(folder, stores, **options)
    return write_report(settings, lake, row, folder / "report.html").path
