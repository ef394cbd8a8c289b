"""What units are expected to do next, and how surprising their last day is.

An observation is the total of some trials or of an exposure, or the mean of some values; its size
is the number of trials, the exposure, or the number of values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.local_level.filtering import ahead, without_last_day
from hbpipe.model.update.predict_pools import Pools, predict_stores, two_sided_p_values
from hbpipe.run.inference.coding import COVARIATES
from hbpipe.run.inference.fits import UnitPriors, effective
from hbpipe.run.inference.updated import Columns, UpdateOrder

#: By family, the statistics that are the size and the outcome of an observation.
_OBSERVED = {
    "beta_binomial": ("trials", "successes"),
    "gamma_poisson": ("exposure", "count"),
    "normal": ("n", "mean"),
    "normal_inverse_gamma": ("n", "mean"),
}


@dataclass(frozen=True)
class Units:
    """The units of a shard in one metric, updated.

    ``codes`` (U,) are their pools, ``statistics`` what their posteriors rest on, and ``known`` (U,)
    tells which have one.
    """

    order: UpdateOrder
    metric: Metric
    folded: Folded
    codes: Codes
    statistics: Statistics
    known: NDArray[np.bool_]

    @property
    def priors(self) -> UnitPriors:
        """What the units are shrunk to."""
        return self.order.priors[self.metric.name]

    @property
    def pools(self) -> Pools:
        """The same, as predictions take it."""
        priors = self.priors
        return Pools(priors.family, priors.nodes, priors.hyperparameters)

    def like(self, statistics: Statistics) -> Statistics:
        """Give other statistics of the same units the same overdispersion and covariates."""
        found = dict(effective(self.metric, statistics, self.codes, self.priors.divisor))
        if COVARIATES in self.statistics:
            found[COVARIATES] = self.statistics[COVARIATES]
        return found

    @property
    def tomorrow(self) -> Statistics:
        """What the day after the window is predicted from."""
        return self.statistics if self.metric.dynamics is None else ahead(self.statistics)

    @property
    def before_last_day(self) -> Statistics:
        """The window without its last day."""
        assert self.folded.recent is not None
        if self.metric.dynamics is not None:
            return without_last_day(self.statistics)
        return self.like(self.folded.recent.apart[self.metric.name].rest)

    def shown(self, values: Array, where: NDArray[np.bool_] | None = None) -> Array:
        """Return values of the units that have a posterior, and NaN of the others."""
        return np.where(self.known if where is None else self.known & where, values, np.nan)


def is_predicted(metric: Metric) -> bool:
    """Tell whether a metric's next observation has a size that can be known.

    A store's next estimate has a sampling variance, a next response has predictors, and a next
    effect of an experiment has sizes of both arms, that nobody knows yet: none is predicted.
    """
    return metric.experiment is None and metric.family in _OBSERVED


def predict_next(units: Units) -> Columns:
    """Predict the day after the window, at the mean exposure of a day so far."""
    if not is_predicted(units.metric):
        return {}
    exposure = next_exposure(units.metric, units.folded)
    there = exposure > 0
    levels = np.array([min(units.order.quantiles), max(units.order.quantiles)])
    found = predict_stores(
        units.pools, units.tomorrow, units.codes, np.where(there, exposure, 1.0), levels
    )
    return {
        "next_exposure": np.where(there, exposure * units.metric.per, np.nan),
        "predictive_mean": units.shown(found.mean, there),
        "predictive_sd": units.shown(found.sd, there),
        "predictive_low": units.shown(found.quantiles[:, 0], there),
        "predictive_high": units.shown(found.quantiles[:, 1], there),
    }


def next_exposure(metric: Metric, folded: Folded) -> Array:
    """Return the mean exposure of a day since each unit was first seen in the window, (U,).

    In the units of the posterior, ``metric.per`` of the exposure's own; 0 where there was none.
    Trials and values are whole, and at least one; a day is a day.
    """
    assert folded.recent is not None
    size = folded.whole(metric.name)[_OBSERVED[metric.family][0]]
    whole = size if size.ndim == 1 else size.sum(axis=1)
    daily = whole / np.maximum(folded.recent.days, 1)
    if metric.family != "gamma_poisson":
        return np.asarray(np.maximum(np.rint(daily), 1.0))
    return np.full(folded.n, 1.0 / metric.per) if metric.calendar is not None else daily


def judge_last_day(units: Units) -> Columns:
    """Compare the as-of day with what the window without it predicts of it."""
    if not is_predicted(units.metric) or not units.order.last_day:
        return {}
    assert units.folded.recent is not None
    apart, per = units.folded.recent.apart[units.metric.name], units.metric.per
    size, _ = observed(units.metric, apart.day)
    whole = units.metric.family != "gamma_poisson"
    there = size > 0
    thinned = _rounded(units.metric, units.like(apart.day))
    exposure, outcome = observed(units.metric, thinned)
    rows, rest = np.flatnonzero(units.known & (exposure > 0)), units.before_last_day
    raw = units.metric.base.raw_estimates(apart.day)
    p = np.full(len(exposure), np.nan)
    p[rows] = two_sided_p_values(
        units.pools,
        {name: np.asarray(values)[rows] for name, values in rest.items()},
        units.codes[rows],
        exposure[rows],
        outcome[rows],
    )
    return {
        "last_day_n": np.where(there, size if whole else size * per, np.nan),
        "last_day_raw": np.where(there, raw, np.nan),
        "last_day_p": p,
    }


def observed(metric: Metric, statistics: Statistics) -> tuple[Array, Array]:
    """Return size and outcome of what statistics hold, (U,) each."""
    size, outcome = _OBSERVED[metric.family]
    return (
        np.asarray(statistics[size], np.float64),
        np.asarray(statistics[outcome], np.float64),
    )


def _rounded(metric: Metric, statistics: Statistics) -> Statistics:
    """Round counts that an overdispersion has divided: a law of counts knows no fractions.

    Fewer than half a trial is none.
    """
    names = {"beta_binomial": ("trials", "successes"), "gamma_poisson": ("count",)}
    some = names.get(metric.family, ())
    return {**statistics, **{name: np.rint(statistics[name]) for name in some}}
