"""Posteriors of the stores of one chain, by hbpipe and by other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import stats

import hbpipe
from hbpipe.model.fits import Fit
from tests.bench.stores import Statistics

Task = Callable[[], float]

LEVELS = (0.05, 0.5, 0.95)
#: The prior that the rates are drawn from: limits under it are the same whoever takes them.
KNOWN = {"alpha": 4.0, "beta": 36.0}


def update(family: str, uncertainty: str, levels: tuple[float, ...] = ()) -> Callable[..., Task]:
    """Take means and sds, and limits at ``levels``, of all stores, given the fit."""

    def prepare(stores: Statistics) -> Task:
        fit = hbpipe.fit(family, stores)
        return partial(_update, fit, stores, uncertainty, levels)

    return prepare


def _update(fit: Fit, stores: Statistics, uncertainty: str, levels: tuple[float, ...]) -> float:
    anew = replace(fit, pools=replace(fit.pools))  # what is remembered belongs to the other one
    found = hbpipe.posterior(anew, stores, uncertainty=uncertainty, quantiles=levels)
    return float(sum(np.sum(found[name]) for name in ("mean", "sd", *map("q{:g}".format, levels))))


def whole(stores: Statistics) -> Task:
    """Fit, take the posterior with its limits, and rank the stores: all that a chain needs."""

    def run() -> float:
        found = hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, quantiles=LEVELS)
        return float(np.sum(found["mean"]) + sum(map(np.sum, found.rank().values())))

    return run


def ranks(stores: Statistics) -> Task:
    """Rank the stores, given their posteriors."""
    found = hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, quantiles=())
    return lambda: float(sum(map(np.sum, found.rank().values())))


def limits(stores: Statistics) -> Task:
    """Take limits under a known prior."""
    fit = hbpipe.fit("beta_binomial", stores, fixed=KNOWN)

    def run() -> float:
        found = hbpipe.posterior(fit, stores, uncertainty="plug_in", quantiles=LEVELS)
        return float(sum(np.sum(found[f"q{level:g}"]) for level in LEVELS))

    return run


def limits_by_scipy(stores: Statistics) -> Task:
    """Take the same limits by scipy.stats, store by store."""
    alpha = stores["successes"] + KNOWN["alpha"]
    beta = stores["trials"] - stores["successes"] + KNOWN["beta"]
    return lambda: float(sum(np.sum(stats.beta.ppf(level, alpha, beta)) for level in LEVELS))
