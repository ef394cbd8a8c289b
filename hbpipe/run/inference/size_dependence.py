"""Does a metric's prior mean depend on the sizes of its stores? Measured on workers, warned of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.config import Audits
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.checks import PrecisionDependence, SizeSums, precision_dependence, size_sums
from hbpipe.run.audits import Check, at_most
from hbpipe.run.inference.fits import Estimates, MetricFit, effective, with_covariates_only
from hbpipe.run.inference.tree import Pool, pool_codes
from hbpipe.run.night import Night


def can_depend(metric: Metric) -> bool:
    """Tell whether the check is about a metric: θ is one number, without curve in n or drift."""
    spline = any(covariate.is_spline for covariate in metric.covariates)
    return metric.measured.regression is not None and metric.dynamics is None and not spline


def sum_sizes(
    folded: Folded,
    metrics: Sequence[Metric],
    levels: Sequence[str],
    pool_by: Sequence[str],
    pools: list[Pool],
    estimates: Mapping[str, Estimates],
) -> dict[str, SizeSums]:
    """Add up what the check needs of one shard, metric by metric."""
    codes, found = pool_codes(folded, levels, pool_by, pools), {}
    for metric in metrics:
        at = estimates[metric.name]
        statistics = effective(metric, folded.fitted(metric.name), codes, at.divisor)
        own, kept = with_covariates_only(codes, statistics)
        found[metric.name] = size_sums(at.family, kept, at.hyperparameters, own, len(pools))
    return found


def measure_size_dependence(night: Night, pools: list[Pool]) -> None:
    """Add to each fit how its prior mean depends on size; nested groups have means of their own."""
    metrics = tuple(
        metric
        for metric in night.metrics
        if can_depend(metric) and night.fits[metric.name].groups is None
    )
    if not metrics:
        return
    estimates = {metric.name: night.fits[metric.name].estimates for metric in metrics}
    shards = night.engine.gather(
        [
            night.engine.submit(
                sum_sizes,
                folded,
                metrics,
                night.form.levels,
                night.settings.pool_by,
                pools,
                estimates,
                label="size dependence",
            )
            for folded in night.folded
        ]
    )
    for metric in metrics:
        sums = SizeSums.added([shard[metric.name] for shard in shards])
        night.fits[metric.name] = replace(
            night.fits[metric.name], size_dependence=precision_dependence(sums)
        )


def check_size_dependence(fits: Mapping[str, MetricFit], limits: Audits) -> list[Check]:
    """Warn of metrics whose large stores differ from the small, pool by pool.

    The value is the largest |z| of a slope of the prior mean in log n that is not too small to
    matter, the threshold what chance exceeds in one night out of a hundred.
    """
    checks = []
    for name, fit in sorted(fits.items()):
        found = fit.size_dependence
        if found is not None:
            # Stores of a mixture are shrunk to those like them, and not towards large ones.
            one_law = np.array(fit.fits.chosen) == "single"
            matters = found.matters & fit.fits.identified & one_law
            largest = float(np.abs(found.z)[matters].max(initial=0.0))
            story = _story(fit, found, matters)
            severity = limits.severity("size_dependence")
            checks.append(
                at_most(
                    "release", "size_dependence", name, largest, found.critical, story, severity
                )
            )
    return checks


def _story(fit: MetricFit, found: PrecisionDependence, matters: NDArray[np.bool_]) -> str:
    if not matters.any():
        return f"the prior mean does not depend on n in any of {len(fit.pools)} pool(s)"
    most = int(np.argmax(np.where(matters, np.abs(found.z), 0.0)))
    regression = fit.metric.measured.regression
    link = "identity" if regression is None else regression.link
    line = "prior mean" if link == "identity" else f"{link} of the prior mean"
    return (
        f"large stores differ from small ones in {int(matters.sum())} of {len(fit.pools)} pool(s), "
        f"most in {fit.labels[most]}: the {line} moves by {found.slope[most]:.3g} as n "
        "grows e-fold, and small stores are shrunk towards what large ones do; add {spline: n} or "
        "what tells large stores from small to the metric's covariates"
    )
