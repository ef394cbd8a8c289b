"""The shrinkage plot shows every store, raw and shrunk."""

import re
from pathlib import Path

import numpy as np

from hbpipe.report.shrinkage import draw_shrinkage, main

ROOT = Path(__file__).parent.parent.parent


class Axes:
    """What was drawn."""

    def __init__(self):
        self.points, self.lines = [], []

    def vlines(self, place, low, high, **_):
        self.lines = list(zip(place, low, high, strict=True))

    def scatter(self, place, height, **_):
        self.points.append((place, height))

    def axhline(self, height, **_):
        self.level = height


def test_a_line_joins_the_raw_estimate_and_the_mean_of_every_store():
    size, raw = np.array([10, 20, 20, 30]), np.array([0.4, 0.1, 0.0, 0.2])
    mean = 0.5 * raw + 0.1
    axes = Axes()
    draw_shrinkage(axes, size, raw, mean, 0.2)
    place = [x for x, _, _ in axes.lines]
    np.testing.assert_array_equal([low for _, low, _ in axes.lines], raw)
    np.testing.assert_array_equal([high for _, _, high in axes.lines], mean)
    assert len(set(place)) == 4, "stores of one size do not hide each other"
    assert place[2] < 20 < place[1]
    assert [place[0], place[3]] == [10, 30]
    for points, heights in zip(axes.points, (raw, mean), strict=True):
        np.testing.assert_array_equal(points[0], place)
        np.testing.assert_array_equal(points[1], heights)
    assert axes.level == 0.2


def test_the_command_draws_the_stores_of_a_file_the_same_way_each_time(tmp_path):
    source = str(ROOT / "tests/golden/rat_tumours/data.csv")
    for name in ("one.svg", "two.svg"):
        main([source, str(tmp_path / name)])
    drawn = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert drawn == (tmp_path / "two.svg").read_text(encoding="utf-8")
    stored = (ROOT / "hbpipe/model/shrinkage.svg").read_text(encoding="utf-8")
    for picture in (drawn, stored):
        assert picture.count("posterior mean") >= 1
        assert len(re.findall(r"<use ", picture)) >= 2 * 71
