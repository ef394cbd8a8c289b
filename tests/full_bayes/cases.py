"""A few stores of every family, for full Bayes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.families import get_family

#: Statistics as a family has them.
STORES: dict[str, dict[str, NDArray[Any]]] = {
    "beta_binomial": {"successes": np.array([3, 0, 40, 7]), "trials": np.array([17, 5, 300, 20])},
    "gamma_poisson": {
        "count": np.array([3, 0, 40, 9]),
        "exposure": np.array([2.0, 0.5, 31.0, 3.0]),
    },
    "normal": {
        "n": np.array([5, 1, 40, 12]),
        "mean": np.array([0.3, 2.5, 1.1, 1.9]),
        "m2": np.array([14.0, 0.0, 150.0, 40.0]),
    },
    "normal_known_variance": {
        "estimate": np.array([0.3, 2.5, 1.1, 1.9]),
        "variance": np.array([0.2, 1.5, 0.01, 0.1]),
    },
}
STORES["normal_inverse_gamma"] = STORES["normal"]

#: The same as rows of a likelihood.
CASES = {name: {k: v.astype(float) for k, v in rows.items()} for name, rows in STORES.items()}
CASES["normal_known_variance"]["precision"] = 1.0 / STORES["normal_known_variance"]["variance"]


def regression_stores() -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Five stores with an intercept and a slope: statistics, design, response, codes."""
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(5), [1, 2, 4, 6, 9])
    design = np.column_stack([np.ones(len(codes)), rng.normal(4.0, 1.0, len(codes))])
    slopes = rng.normal([1.0, -0.5], [0.5, 0.2], (5, 2))
    response = np.sum(design * slopes[codes], axis=1) + rng.normal(0.0, 0.4, len(codes))
    events = {"response": response, "predictors": design}
    statistics = get_family("normal_regression", 2).summarise(events, codes, 5)
    return dict(statistics), design, response, codes
