"""A page is one file: nothing else is loaded, and nothing but its own scripts can run."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hbpipe.errors import ConfigError
from hbpipe.report.html.page import SCRIPTS, STYLES, build_page
from hbpipe.report.html.write import collect, write_report
from tests.released import release

HTML = Path("hbpipe/report/html")
HOSTILE = ("<script>alert(1)</script>", "</script>", '"><img src=x onerror=alert(2)>', "{{facts}}")
STORES = [("near", name) for name in HOSTILE] + [("<b>", "s")]


class Inline(HTMLParser):
    """Collects what a browser would run, and what it would load."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.policy = ""
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(found["content"])
        runs = tag == "script" and "type" not in found
        self._into = self.scripts if runs else self.styles if tag == "style" else None
        self.loads += [(tag, name) for name in found if name in ("src", "srcset", "data")]
        if not str(found.get("href", "#")).startswith("#"):
            self.loads.append((tag, "href"))

    def handle_data(self, content: str) -> None:
        if self._into is not None:
            self._into.append(content)

    def handle_endtag(self, tag: str) -> None:
        self._into = None


def hash_of(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    settings, lake, row = release(folder, STORES)
    return write_report(settings, lake, row, folder / "a.html").path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def inline(text: str) -> Inline:
    parser = Inline()
    parser.feed(text)
    return parser


def test_the_policy_knows_every_script_and_style_and_nothing_else(inline: Inline) -> None:
    rules = dict(rule.split(" ", 1) for rule in inline.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["trusted-types"] == "'none'"
    scripts, styles = (list(map(hash_of, kind)) for kind in (inline.scripts, inline.styles))
    assert rules["script-src"].split() == scripts
    assert set(styles) < set(rules["style-src"].split())
    assert len(inline.scripts) == len(SCRIPTS)
    assert len(inline.styles) == len(STYLES)
    assert not set(rules) & {"connect-src", "img-src", "font-src", "frame-src"}


def test_nothing_is_loaded(inline: Inline) -> None:
    assert inline.loads == []
    assert not any(re.search(r"@import|url\(", style) for style in inline.styles)


def test_names_are_nowhere_in_the_source(text: str) -> None:
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not any(name in own for name in ("alert(", "onerror", "{{"))


def test_a_slot_inside_what_is_put_in_is_not_filled() -> None:
    page = build_page({}, "", title="{{facts}} & <b>", lead="{{title}}")
    assert "<title>{{facts}} &amp; &lt;b&gt;</title>" in page


def test_the_same_release_gives_the_same_bytes(tmp_path: Path) -> None:
    settings, lake, row = release(tmp_path, STORES)
    first, second = (
        write_report(settings, lake, row, tmp_path / name).path.read_bytes()
        for name in ("a.html", "b.html")
    )
    assert first == second
    assert not list(tmp_path.glob(".*"))


def test_definitions_are_told_only_of_the_settings_that_made_the_release(tmp_path: Path) -> None:
    settings, lake, row = release(tmp_path, STORES)
    facts, _ = collect(settings, lake, row)
    assert facts["metrics"][0]["made_of"] == "successes: converted; trials: rows"
    facts, _ = collect(settings, lake, {**row, "settings": "others"})
    assert "made_of" not in facts["metrics"][0]


def test_metrics_can_be_chosen(tmp_path: Path) -> None:
    settings, lake, row = release(tmp_path, STORES)
    facts, _ = collect(settings, lake, row, ["orders"])
    assert [one["name"] for one in facts["metrics"]] == ["orders"]
    assert [sheet["metric"] for sheet in facts["stores"]["sheets"]] == ["orders"]
    with pytest.raises(ConfigError, match="did you mean 'orders'"):
        collect(settings, lake, row, ["order"])


def test_the_vendored_files_are_what_they_are_said_to_be(root: Path) -> None:
    vendor = root / HTML / "vendor"
    lines = (vendor / "checksums").read_text().split()
    said = dict(zip(lines[1::2], lines[::2], strict=True))
    assert set(said) == {path.name for path in vendor.glob("*.js")}
    for name, digest in said.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest


def test_a_package_carries_every_part_of_the_page(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["hbpipe"]
    carried = {path for pattern in patterns for path in (root / "hbpipe").glob(pattern)}
    parts = {root / HTML / name for name in (*SCRIPTS, *STYLES, "page.html")}
    parts |= set((root / HTML / "vendor").glob("*.LICENSE"))
    assert parts <= carried


@pytest.mark.parametrize("path", sorted(HTML.glob("js/*.js")), ids=lambda path: path.name)
def test_scripts_never_make_html_of_text(path: Path) -> None:
    script = path.read_text(encoding="utf-8")
    assert script.startswith('"use strict";\n')
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\.html\(", script)
    assert script.count("\n") < 330
