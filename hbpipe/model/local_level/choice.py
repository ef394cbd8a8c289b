"""Whether levels drift: the next-day log score of both models, out of sample.

Hyperparameters come from the days before the last seven. Then each of these days is predicted from
those before it, the level updated every day and the hyperparameters left alone (prequential:
Dawid 1984, *JRSS A* 147), and the score of a day is the log density of the mean of its values
(Good 1952; Gneiting and Raftery 2007). Both models are scored on the same days of the same stores.
Levels stay where they are if that predicts better by more than a standard error over stores: to
take drift for none costs coverage, to allow for what is not there a little width.

Where the days before show no drift at all, q = 0, both models are one and so are their scores. The
marginal likelihood of the whole window then tells: levels drift if it is largest at some q > 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.fits import PoolFits
from hbpipe.model.local_level.filtering import predicted
from hbpipe.model.marginal.local_level import DailySketch
from hbpipe.model.marginal.means import LOG_2PI

#: Days that are predicted.
SCORED_DAYS = 7


@dataclass(frozen=True)
class Choice:
    """Which pools' levels drift, and why, (G,) each.

    Parameters
    ----------
    drifts
        Whether the model with drift is used.
    static, drifting
        Mean log score of a store and day under each model; NaN where neither could be scored.
    scored
        How many stores and days these are.
    """

    drifts: NDArray[np.bool_]
    static: Array
    drifting: Array
    scored: NDArray[np.int64]

    def hold(self, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Add to what is held that levels do not drift, in the pools where that is chosen."""
        if self.drifts.all():
            return dict(fixed)
        return {**fixed, "signal_ratio": np.where(self.drifts, np.nan, 0.0)}

    @property
    def words(self) -> list[str]:
        """Name the model of each pool."""
        return ["local_level" if drifts else "static" for drifts in self.drifts]


def choose(family: Family, sketch: DailySketch, **options: Any) -> Choice:
    """Choose by pool whether levels drift: where that predicts better; see the module for ties.

    Parameters
    ----------
    family, sketch
        The family ``local_level``, and all days of the window.
    options
        Of :func:`hbpipe.model.fit.fit_pools`. A signal ratio held by the user is no question: its
        pools drift as it says, and nothing is scored.
    """
    pools = sketch.n_pools
    fixed = dict(options.pop("fixed", None) or {})
    if "signal_ratio" in fixed:
        nothing = np.full(pools, np.nan)
        return Choice(np.ones(pools, bool), nothing, nothing, np.zeros(pools, np.int64))
    begin = sketch.rows["n"].shape[1] - SCORED_DAYS
    before = sketch.until(begin)
    free = fit_pools(family, before, fixed=fixed, **options)
    held = fit_pools(family, before, fixed={**fixed, "signal_ratio": 0.0}, **options)
    known = free.identified & held.identified
    scored = np.where(known, sketch.rows.sum(np.sum(sketch.rows["n"][:, begin:] > 0, axis=1)), 0)
    of_stores = [_scores(sketch, fits, begin) for fits in (held, free)]
    static, drifting = (
        np.divide(sketch.rows.sum(of), scored, out=np.full(pools, np.nan), where=scored > 0)
        for of in of_stores
    )
    drifts = _predicts_no_worse(sketch, *of_stores) & (scored > 0)
    # Days that show no drift give both models one score, but for rounding.
    alike = np.flatnonzero((free.hyperparameters["signal_ratio"] == 0) & (scored > 0))
    if len(alike):
        drifts[alike] = _drift(family, sketch.select(alike), _of(fixed, alike), options)
        drifting[alike] = static[alike]
    return Choice(drifts, static, drifting, scored.astype(np.int64))


def _predicts_no_worse(sketch: DailySketch, static: Array, drifting: Array) -> NDArray[np.bool_]:
    """Tell where scores of stores with drift are not a standard error below those without, (G,)."""
    gain = drifting - static
    return np.asarray(sketch.rows.sum(gain) > -np.sqrt(sketch.rows.sum(np.square(gain))))


def _drift(
    family: Family, sketch: DailySketch, fixed: dict[str, Any], options: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """Tell where all days together show a drift, (G,)."""
    fits = fit_pools(family, sketch, fixed=fixed, **options)
    return np.asarray(fits.identified & (fits.hyperparameters["signal_ratio"] > 0))


def _of(fixed: Mapping[str, Any], pools: NDArray[np.int64]) -> dict[str, Any]:
    """Return what is held of some pools."""
    return {name: np.asarray(v)[pools] if np.ndim(v) else v for name, v in fixed.items()}


def _scores(sketch: DailySketch, fits: PoolFits, begin: int) -> Array:
    """Sum of the log densities of each store's daily means from day ``begin`` on."""
    rows = sketch.rows
    mu, tau, ratio, sigma = (
        np.asarray(fits.hyperparameters[name])[rows.pool]
        for name in ("mu", "tau", "signal_ratio", "sigma")
    )
    score = np.zeros(len(rows))
    levels = predicted(rows["n"], rows["mean"], mu, np.square(tau / sigma), ratio)
    for day, level in enumerate(levels):
        n, mean = rows["n"][:, day], rows["mean"][:, day]
        if day >= begin:
            variance = np.square(sigma) * (level.variance + 1.0 / np.where(n > 0, n, 1.0))
            squares = np.square(mean - level.mean) / variance
            score += np.where(n > 0, -0.5 * (LOG_2PI + np.log(variance) + squares), 0.0)
    return score
