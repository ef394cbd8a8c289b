"""Whatever a store or a chain is called is shown as text, and breaks nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import PHONE, Open, write

pytestmark = pytest.mark.browser

#: Names, and what a reader is shown where that is not the name itself.
NAMES: dict[str, str | None] = {
    "<script>alert(1)</script>": None,
    "</script><img src=x onerror=alert(2)>": None,
    "\"double\" and 'single'": None,
    "&lt;b&gt;": None,
    "{{facts}}": None,
    "]]> <!-- -->": None,
    "\\u003cscript": None,
    "javascript:alert(3)": None,
    "🏪 naïve Ωmega": None,
    "\u05d7\u05e0\u05d5\u05ea": None,
    "\u202etxt.exe": "‹U+202E›txt.exe",
    "\u200f\u200bghost": "‹U+200F›‹U+200B›ghost",
    "two\nlines\tand a tab": "two‹U+000A›lines‹U+0009›and a tab",
    "\u2028": "‹U+2028›",
    "": "(empty)",
    "x" * 200: None,
}
SHOWN = [name if shown is None else shown for name, shown in NAMES.items()]
CHAINS = ("<img src=x onerror=alert(4)>", "\u202echain")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stores: list[Any] = [(CHAINS[0], name) for name in NAMES]
    stores += [(CHAINS[1], f"s{k}") for k in range(5)]
    told = {"metric": "conversion", "pool": CHAINS[0], "check": "<i>pit</i>", "status": "fail"}
    return write(
        tmp_path_factory.mktemp("hostile"),
        stores,
        diagnostics=[{**told, "message": "<script>alert(5)</script>", "values": [1.0, 2.0, 3.0]}],
        audits=[{"status": "warn", "name": "<b>", "message": "<svg onload=alert(6)>"}],
    )


def test_names_are_text_in_the_table(report: Path, opened: Open) -> None:
    page = opened(report)
    page.locator(".head .level-last button").click()
    page.select_option("#pool", label=CHAINS[0])
    shown = page.locator(".rows .level-last bdi").all_text_contents()
    assert sorted(shown) == sorted(SHOWN)


def test_names_are_text_in_the_story_of_a_store(report: Path, opened: Open) -> None:
    page = opened(report)
    for place in range(len(NAMES)):
        page.focus(".grid")
        page.keyboard.press("ArrowDown" if place else "Home")
        page.keyboard.press("Enter")
        assert page.locator("#story-title bdi").text_content() in SHOWN
        page.keyboard.press("Escape")


def test_names_are_text_in_drawings_and_choices(report: Path, opened: Open) -> None:
    page = opened(report)
    assert page.locator("#pool option").all_inner_texts() == [CHAINS[0], "‹U+202E›chain"]
    ticks = page.locator("#chain figure", has_text="Highest").locator("text").all_text_contents()
    assert any("…" in tick or tick.strip("\u2068\u2069") in SHOWN for tick in ticks)
    assert page.locator("main img, main script, main b b, main svg[onload]").count() == 0


def test_checks_are_text(report: Path, opened: Open) -> None:
    page = opened(report)
    assert "<script>alert(5)</script>" in page.locator(".verdict").inner_text()
    assert "<svg onload=alert(6)>" in page.locator("#audits").inner_text()
    assert "<i>pit</i>" in page.locator("#model").inner_text()


def test_a_name_is_found_as_it_is_typed(report: Path, opened: Open) -> None:
    page = opened(report)
    for typed, count in (("onerror", 1), ("Ωmega", 1), ("\u05d7", 1), ('"double"', 1), ("xxx", 1)):
        page.fill("#search", typed)
        assert page.locator(".rows .row").count() == count, typed


def test_long_names_do_not_widen_a_phone(report: Path, opened: Open) -> None:
    page = opened(report, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.fill("#search", "xxx")
    page.locator(".rows .row").click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    story = page.locator("#story")
    assert story.evaluate("one => one.scrollWidth <= one.clientWidth")
