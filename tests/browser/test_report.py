"""The report in a real browser: it opens, sorts, searches, takes the keyboard, and asks nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy import stats

import hbpipe
from tests.browser.conftest import PHONE, Open, write

pytestmark = pytest.mark.browser

STORES = [("near", f"s{k:03}") for k in range(120)] + [("far", f"t{k:02}") for k in range(30)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, count = np.random.default_rng(7), len(STORES)
    bars = [0.1, 0.12, 0.08, 0.11, 0.09, 0.1, 0.13, 0.07, 0.1, 0.1]
    shares = [0.78, 0.81, 0.8]
    told = {"metric": "conversion", "check": "pit", "value": 0.2, "threshold": 0.1}
    return write(
        tmp_path_factory.mktemp("report"),
        STORES,
        extra={"s_value": rng.random(count), "is_new": np.arange(count) == 3},
        diagnostics=[
            {**told, "pool": "far", "status": "ok", "message": "uniform", "values": bars},
            {**told, "pool": None, "status": "ok", "message": "as a whole", "values": bars},
            {**told, "pool": "far", "check": "calibration", "status": "ok", "values": shares},
            {**told, "pool": "near", "status": "warn", "message": "too narrow"},
        ],
        audits=[{"gate": "full_bayes", "name": "mean", "message": "at most 0.03 sds apart"}],
        nights=9,
    )


def names(page: Any) -> list[str]:
    """The first stores that the table shows."""
    return page.locator(".rows .row .level-last bdi").all_inner_texts()[:5]


def numbers(page: Any, column: str) -> list[float]:
    """What a column shows, as numbers."""
    cells = page.locator(f".rows .row .cell.{column}").all_inner_texts()
    return [float(cell.rstrip("\u00a0%").replace(",", "")) for cell in cells if cell != "–"]


def choose(page: Any, chain: str, metric: str = "conversion") -> None:
    page.select_option("#metric", label=metric)
    page.select_option("#pool", label=chain)


def test_the_first_screen_says_whether_to_trust_the_night(report: Path, opened: Open) -> None:
    page = opened(report)
    assert page.inner_text("h1") == "Release 2026-03-01.1"
    verdict = page.locator(".verdict")
    assert verdict.locator("p").inner_text() == "Good to use; one point to look at."
    assert "pit of conversion, near: too narrow" in verdict.inner_text()
    assert verdict.bounding_box()["y"] < 400
    assert "150" in page.locator(".tiles").inner_text()


def test_a_chain_has_its_plots(report: Path, opened: Open) -> None:
    page = opened(report)
    for metric in ("conversion", "basket", "orders"):
        choose(page, "near", metric)
        drawn = page.locator("#chain svg").evaluate_all("all => all.map(one => one.ariaLabel)")
        kinds = [label.split()[0] for label in drawn[:4]]
        assert kinds == ["Shrinkage", "The", "Highest:", "Lowest:"]
        assert any("over 9 nights" in label for label in drawn)
        prior = page.locator("#chain figure", has_text="Prior beside observed")
        assert prior.locator("[aria-label=line] path").get_attribute("d")


def test_checks_of_the_model_and_later_audits_have_their_place(report: Path, opened: Open) -> None:
    page = opened(report)
    choose(page, "far")
    assert page.locator("#model svg rect").count() == 20
    assert page.locator("#model figure", has_text="Calibration").locator("circle").count() == 3
    assert "all chains" in page.inner_text("#model table")
    page.locator("#model .chip", has_text="near").click()
    assert page.input_value("#pool") == "1"
    assert "too narrow" in page.locator("#model").inner_text()
    assert "at most 0.03 sds apart" in page.locator("#audits").inner_text()


def test_its_numbers_are_those_of_the_release(report: Path, opened: Open) -> None:
    page = opened(report)
    choose(page, "near", "basket")
    page.locator(".head .level-last button").click()
    table = hbpipe.read(report.parent / "lake", "posteriors").filter(
        (pc.field("metric") == "basket") & (pc.field("chain_id") == "near")
    )
    expected = table.sort_by("store_id").to_pylist()
    shown = {"n": "n", "mean": "mean", "low": "q0.05", "high": "q0.95"}
    for column, name in shown.items():
        seen = numbers(page, f"number.{column}")
        assert len(seen) > 15
        for value, row in zip(seen, expected, strict=False):
            assert value == pytest.approx(row[name], rel=5.1e-4)


@pytest.mark.parametrize(
    ("family", "prior", "of"),
    [
        ("beta_binomial", {"alpha": 0.7, "beta": 40.0}, stats.beta(0.7, 40.0)),
        ("beta_binomial", {"alpha": 1131.0, "beta": 10110.0}, stats.beta(1131.0, 10110.0)),
        ("gamma_poisson", {"shape": 0.43, "rate": 0.08}, stats.gamma(0.43, scale=1 / 0.08)),
        ("normal", {"mu": 3.2, "tau": 0.45}, stats.norm(3.2, 0.45)),
        (
            "normal_inverse_gamma",
            {"mu": 8.2, "kappa": 0.15, "d0": 2.2, "s0_squared": 0.06},
            stats.t(2.2, 8.2, np.sqrt(0.06 / 0.15)),
        ),
        (
            "normal_regression",
            {"mu[price]": -2.2, "Sigma[price,price]": 0.69},
            stats.norm(-2.2, np.sqrt(0.69)),
        ),
    ],
)
def test_priors_are_drawn_as_they_are(
    report: Path, opened: Open, family: str, prior: dict[str, float], of: Any
) -> None:
    page = opened(report)
    places = of.ppf([0.01, 0.3, 0.5, 0.9, 0.99]).tolist()
    drawn = page.evaluate(
        "([family, prior, places]) => places.map(report.density(family, 'price', prior))",
        [family, prior, places],
    )
    assert drawn == pytest.approx(of.pdf(places).tolist(), rel=1e-9)


def test_it_sorts_either_way_with_missing_values_last(report: Path, opened: Open) -> None:
    page = opened(report)
    choose(page, "near")
    header = page.locator(".head .n button")
    header.click()
    most = numbers(page, "n")
    assert most == sorted(most, reverse=True)
    assert page.locator(".head .n").get_attribute("aria-sort") == "descending"
    header.click()
    least = numbers(page, "n")
    assert least == sorted(least)
    assert least[0] < most[0]
    for click in ("descending", "ascending"):
        page.locator(".head .raw button").click()
        assert page.locator(".head .raw").get_attribute("aria-sort") == click
        assert numbers(page, "raw") != []
    page.locator(".head .level-last button").click()
    assert names(page)[:2] == ["s000", "s001"]


def test_it_searches_one_chain_or_all(report: Path, opened: Open) -> None:
    page = opened(report)
    choose(page, "near")
    page.fill("#search", "S01")
    assert page.inner_text(".said") == "10 of 120 stores"
    assert all(name.startswith("s01") for name in names(page))
    page.fill("#search", "t1")
    assert page.inner_text(".said") == "0 of 120 stores"
    page.check("#everywhere")
    assert page.inner_text(".said") == "10 of 150 stores"
    page.fill("#search", "")
    page.select_option("#flag", "is_new")
    assert names(page) == ["s003"]


def test_the_keyboard_does_it_all(report: Path, opened: Open) -> None:
    page = opened(report)
    choose(page, "near")
    page.focus(".grid")
    page.keyboard.press("End")
    assert page.locator(".row.active").get_attribute("aria-rowindex") == "121"
    assert page.locator(".row.active").is_visible()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    second = names(page)[1]
    page.keyboard.press("Enter")
    story = page.locator("#story")
    assert second in story.inner_text()
    assert "basket" in story.inner_text()
    page.keyboard.press("Escape")
    assert not story.is_visible()
    page.keyboard.press("Tab")  # to the headings of the columns, each a button
    page.keyboard.press("Enter")
    assert page.locator(".head .level-last").get_attribute("aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.innerText.trim()").startswith("store_id")


def test_the_skip_link_is_the_first_stop(report: Path, opened: Open) -> None:
    page = opened(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll(report: Path, opened: Open, scheme: str) -> None:
    page = opened(report, viewport=PHONE, color_scheme=scheme)
    for chain in ("near", "far"):
        choose(page, chain)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator(".rows .cell.mean").first.is_visible()
    page.locator(".rows .row").nth(2).click()
    box = page.locator("#story").bounding_box()
    assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"]


#: sRGB relative luminance, and the contrast of WCAG between two colours of the page.
CONTRAST = """([text, ground]) => {
  const channel = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map((c) => channel(+c));
    probe.remove();
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [light(text), light(ground)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("ink", "paper"),
        ("muted", "paper"),
        ("posterior", "paper"),
        ("raw", "paper"),
        ("good", "wash-good"),
        ("look", "wash-look"),
        ("bad", "wash-bad"),
    ],
)
def test_text_can_be_read(report: Path, opened: Open, scheme: str, text: str, ground: str) -> None:
    page = opened(report, color_scheme=scheme)
    assert page.evaluate(CONTRAST, [text, ground]) >= 4.5


def test_paper_gets_ink_on_white_and_no_controls(report: Path, opened: Open) -> None:
    page = opened(report, color_scheme="dark")
    choose(page, "near")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert not page.locator("#choose").is_visible()
    assert page.locator(".rows .row:visible").count() == 40
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_resizing_keeps_what_was_asked_for(report: Path, opened: Open) -> None:
    page = opened(report)
    page.fill("#search", "s01")
    page.check("#everywhere")
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_function("document.querySelector('#chain svg').width.baseVal.value < 700")
    assert page.inner_text(".said") == "10 of 150 stores"


@pytest.mark.parametrize(
    ("attempt", "refused"),
    [
        ('() => { document.body.innerHTML = "<b>x</b>"; }', "TrustedHTML"),
        ('() => { document.createElement("script").text = "1"; }', "TrustedScript"),
        ('() => fetch("https://example.com")', "Failed to fetch"),
    ],
)
def test_a_page_can_neither_ask_anybody_nor_make_code(
    report: Path, browser: Any, attempt: str, refused: str
) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    said = page.evaluate(f"""async () => {{
      try {{ await ({attempt})(); }} catch (error) {{ return String(error); }}
      return "done";
    }}""")
    page.close()
    assert refused in said
