"""One HTML file from its parts: everything inline, and nothing else may run or be loaded.

The content security policy names the hash of every script and style of the page. It forbids all
requests, and all ways by which text could become HTML or code (trusted types): whatever a store is
called, the browser can only show it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from hbpipe.report.html.packing import deflated

_HERE = Path(__file__).parent
#: In the order in which they run: the libraries, what reads data, what draws, what begins.
SCRIPTS = (
    "vendor/d3.min.js",
    "vendor/plot.umd.min.js",
    "js/data.js",
    "js/text.js",
    "js/density.js",
    "js/plots.js",
    "js/checks.js",
    "js/chain.js",
    "js/story.js",
    "js/columns.js",
    "js/table.js",
    "js/main.js",
)
STYLES = ("css/page.css", "css/figures.css", "css/table.css", "css/print.css")
#: Of the one style element that Observable Plot adds to each figure of class ``plot``.
_STYLE_OF_PLOT = "'sha256-+TfQir1nvDucAdvE6XUQBt4ayUjpAWkbw2kCdSfekHM='"

_SLOT = re.compile(r"\{\{(\w+)\}\}")


def build_page(facts: Mapping[str, Any], numbers: str, *, title: str, lead: str) -> str:
    """Lay everything into one page.

    Parameters
    ----------
    facts
        JSON-like, what the scripts call ``facts``.
    numbers
        The text of a ``Pack``.
    title, lead
        What the page is called, and what it says to a browser without scripts.
    """
    scripts = [_asset(name) for name in SCRIPTS]
    styles = [_asset(name) for name in STYLES]
    parts = {
        "policy": _policy(scripts, styles),
        "title": escape(title),
        "lead": escape(lead),
        "styles": "\n".join(f"<style>{text}</style>" for text in styles),
        "facts": deflated(json.dumps(facts, allow_nan=False, separators=(",", ":")).encode()),
        "numbers": numbers,
        "scripts": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    # One pass, so that nothing which looks like a slot is filled inside what was put in.
    return _SLOT.sub(lambda found: parts[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _policy(scripts: list[str], styles: list[str]) -> str:
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": " ".join([*map(_hash, styles), _STYLE_OF_PLOT]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
