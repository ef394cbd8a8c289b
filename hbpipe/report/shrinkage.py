"""The shrinkage plot: the raw rate of every store, its posterior mean, the way between.

    python -m hbpipe.report.shrinkage tests/golden/rat_tumours/data.csv hbpipe/model/shrinkage.svg

needs matplotlib, which the ``dev`` dependencies bring.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import csv

import hbpipe

_RAW, _POSTERIOR, _PRIOR = "#b0552f", "#1f5a8c", "#666666"
#: Grey enough to be read on a light page as on a dark one.
_INK = "#7a7a7a"


def draw_shrinkage(
    axes: Any,
    size: NDArray[Any],
    raw: NDArray[np.float64],
    mean: NDArray[np.float64],
    prior_mean: float,
) -> None:
    """Draw stores (J,) of given size: raw estimates, posterior means, a line between the two.

    Stores of one size are set a little apart, in the order of their raw estimates, so that none
    hides another.
    """
    place = _apart(size, raw)
    axes.vlines(place, raw, mean, color=_INK, linewidth=0.8, zorder=1)
    axes.scatter(place, raw, s=22, facecolors="none", edgecolors=_RAW, label="raw", zorder=2)
    axes.scatter(place, mean, s=18, color=_POSTERIOR, label="posterior mean", zorder=3)
    axes.axhline(prior_mean, color=_PRIOR, linestyle="--", linewidth=1.0, label="prior mean")


def _apart(size: NDArray[Any], raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of the stores along the axis of size, (J,)."""
    place = np.asarray(size, np.float64).copy()
    width = 0.8 * np.min(np.diff(np.unique(size)), initial=1.0)
    for value in np.unique(size):
        here = np.flatnonzero(size == value)
        offset = np.zeros(len(here))
        offset[np.argsort(raw[here], kind="stable")] = np.linspace(-0.5, 0.5, len(here) + 2)[1:-1]
        place[here] += width * offset
    return place


def main(arguments: Sequence[str]) -> None:
    """Read successes ``y`` of ``n`` trials from a CSV file and write the plot as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    source, target = arguments
    table = csv.read_csv(source)
    y, n = (table.column(name).to_numpy() for name in ("y", "n"))
    fit = hbpipe.fit("beta_binomial", {"successes": y, "trials": n})
    posterior = hbpipe.posterior(fit, {"successes": y, "trials": n})
    # The same file for the same data: element ids from a fixed salt, and no date.
    with mpl.rc_context({"svg.hashsalt": "hbpipe", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        draw_shrinkage(axes, n, y / n, posterior["mean"], float(posterior["prior_mean"][0]))
        axes.set(xlabel="animals in the experiment", ylabel="share with a tumour")
        axes.legend(frameon=False, labelcolor=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_INK)
        axes.tick_params(colors=_INK)
        for part in (axes.xaxis, axes.yaxis):
            part.label.set_color(_INK)
        figure.savefig(Path(target), format="svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
