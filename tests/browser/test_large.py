"""Fifty thousand stores in 200 chains, three metrics: one page that a mail can carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.browser.conftest import Open, write

pytestmark = pytest.mark.browser

COUNT, CHAINS = 50_000, 200


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    chains = rng.integers(0, CHAINS, COUNT)
    shares = ("s_value", "expected_percentile", "p_top_10", "p_bottom_10", "last_day_q")
    bars = np.round(rng.random((3, CHAINS, 20)), 9).tolist()
    return write(
        tmp_path_factory.mktemp("large"),
        [(f"chain-{chain:03}", f"store-{k:05}") for k, chain in enumerate(chains)],
        extra={**{name: rng.random(COUNT) for name in shares}, "change_sd": rng.normal(size=COUNT)},
        diagnostics=[
            {"metric": metric, "pool": f"chain-{chain:03}", "check": check, "status": "ok"}
            | {"value": 0.5, "threshold": 1.0, "message": "as expected", "values": bars[k][chain]}
            for k, metric in enumerate(("conversion", "basket", "orders"))
            for chain in range(CHAINS)
            for check in ("pit", "calibration", "size", "shape")
        ],
        nights=30,
    )


def test_it_is_below_five_megabytes(report: Path) -> None:
    assert report.stat().st_size < 5e6


def test_it_shows_searches_and_sorts_them_all(report: Path, opened: Open) -> None:
    page = opened(report)
    page.check("#everywhere")
    assert page.inner_text(".said") == "50,000 of 50,000 stores"
    assert page.locator(".rows .row").count() < 100
    page.locator(".head .mean button").last.click()
    page.focus(".grid")
    page.keyboard.press("End")
    assert page.locator(".row.active").get_attribute("aria-rowindex") == "50001"
    assert page.locator(".row.active").is_visible()
    page.fill("#search", "store-4999")
    assert page.inner_text(".said") == "10 of 50,000 stores"


def test_any_chain_is_drawn_when_it_is_chosen(report: Path, opened: Open) -> None:
    page = opened(report)
    assert page.locator("svg.plot").count() < 20
    page.select_option("#pool", label="chain-199")
    assert "chain-199" in page.inner_text("#chain-title")
    assert page.locator("#chain figure circle").count() > 100
