"""Findings as plain sentences: what was seen, and what to do where it matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hbpipe.model.diagnostics.sizes import COVERAGE
from hbpipe.model.family import Array
from hbpipe.run.inference.fits import MetricFit

NOT_SCORED = "the next day of this family has no density in closed form here"


def by_chance(chance: float) -> str:
    """Say how often chance makes a clean night warn."""
    return f"chance exceeds that in one night out of {round(1 / chance)}"


def of_test(statistic: float, critical: float, beyond: bool, matters: bool, chance: str) -> str:
    """Say what a test found, after what was seen."""
    told = f" (χ² {statistic:.1f}; beyond {critical:.1f} is more than chance: {chance})"
    return told + ("; too small a difference to matter" if beyond and not matters else "")


def of_too_few(stores: int, fewest: int) -> str:
    """Say why nothing is tested."""
    return (
        f"{stores} units: a test takes {fewest} in a pool, twice as many for two groups of size, "
        "and some variation that the hyperparameters do not explain"
    )


def of_pit(heights: Array, matters: bool) -> str:
    """Say where units lie in what the others of their pool predict, by the histogram's heights."""
    if not matters:
        return "units lie where the others of their pool predict them: the PIT histogram is flat"
    ends, middle = float(np.mean(heights[[0, -1]])), float(np.mean(heights[4:6]))
    what = f"{ends:.2f} times as many units as predicted at the ends and {middle:.2f} in the middle"
    return (
        f"units do not lie where the others of their pool predict them: {what}; see prior_shape "
        "and calibration for which assumption fails"
    )


def of_shape(mean: Array, matters: bool) -> str:
    """Say how the prior's shape differs, by the components of spread, skewness and tails."""
    spread, skewness, tails = mean.tolist()
    # The spread is fitted: with heavy tails most units lie nearer the middle than it says.
    tails -= spread
    if not matters:
        return "the units' values have the shape that the prior gives them"
    if abs(skewness) > abs(tails):
        found = f"a longer tail of {'high' if skewness > 0 else 'low'} values than the prior"
        advice = "name what sets those units apart among the covariates, or pool them apart"
    elif tails > 0:
        found = "heavier tails than the prior: some units are far from the rest"
        advice = "see the outliers; far units are shrunk too much, near ones too little"
    else:
        found = "lighter tails than the prior, as two kinds of units in one pool have"
        advice = "pool them apart (pool_by), or name what tells them apart among the covariates"
    return f"the units' values have {found}; {advice}"


def of_sizes(coverage: Array, matters: bool) -> str:
    """Say how predictions cover small and large units."""
    small, large = float(coverage[0]), float(coverage[-1])
    told = (
        f"{COVERAGE:.0%} predictions cover {small:.0%} of the smallest units and {large:.0%} of "
        "the largest"
    )
    if not matters:
        return told
    return (
        f"{told}: units of different sizes do not vary as the model says; see overdispersion and "
        "size_dependence, and correct the sizes, or add {spline: n} to the covariates"
    )


def of_outliers(count: int, stores: int, named: Sequence[str], matters: bool) -> str:
    """Say how many units their pool does not expect, and which most."""
    told = f"{count} of {stores} units are outliers: their pool does not expect them"
    if named:
        told += f", least {', '.join(named)}"
    return told + ("; look at their data, or give the pool a covariate" if matters else "")


def of_few_on_day(stores: int, fewest: int) -> str:
    """Say why a day is not scored."""
    return f"{stores} units have data on the as-of day and before it: {fewest} in a pool are scored"


def of_next_day(means: Array, z: Array, critical: float, beaten: bool) -> str:
    """Say how the as-of day was predicted by partial, no and complete pooling."""
    told = (
        f"log score of the as-of day, given the days before: {means[0]:.4g} a unit; {means[1]:.4g} "
        f"without pooling, {means[2]:.4g} with one value for all"
    )
    if not beaten:
        return told
    better = "no pooling" if z[0] >= z[1] else "one value for all"
    return (
        f"{told}: {better} predicts better, by {float(z.max()):.1f} standard errors (beyond "
        f"{critical:.1f} is more than chance); days may differ by more than a unit's data say, see "
        "overdispersion, or units may have changed within the window: shorten it"
    )


def of_size(z: float, critical: float, slope: float, effect: float, matters: bool) -> str:
    """Say whether large units of a pool differ from small ones."""
    told = (
        f"the prior mean moves by {slope:.3g} on its line as n grows e-fold (z {z:.1f}; beyond "
        f"{critical:.1f} is more than chance)"
    )
    if np.isfinite(effect):
        told += f", by {effect:.2f} sds between units for an sd of log n"
    if not matters:
        return told
    return (
        f"{told}: small units are shrunk towards what large ones do; add {{spline: n}} or what "
        "tells large from small to the metric's covariates"
    )


def of_overdispersion(fit: MetricFit, phi: float, high: bool) -> str:
    """Say how much more units vary than the model says."""
    told = f"totals by {fit.metric.cells.by} vary {phi:.2f} times as much as the model says"
    if fit.divisor is not None:
        return f"{told}; the sizes of units were divided by it"
    advice = ": intervals are too narrow; set overdispersion.correct to divide sizes by it"
    return told + (advice if high else "")


def of_drift(drift: float, limit: float | None, usual: float | None) -> str:
    """Say how far hyperparameters moved since the release before."""
    told = f"the hyperparameters of the release before have a likelihood ratio of {drift:.3g}"
    told += f", usual are {usual:.3g}" if usual is not None else ""
    return told + (f"; beyond {limit:.3g} they have moved" if limit is not None else "")
