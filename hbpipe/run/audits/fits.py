"""The release gate: fits by themselves, and beside those of the releases before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hbpipe.config import Audits
from hbpipe.model.checks import likelihood_ratio_limit
from hbpipe.run.audits.checks import Check, at_most, banded

#: A drift of so many times the usual one is unusual.
TIMES_USUAL = 10.0


def check_fits(fits: dict[str, Any], limits: Audits) -> list[Check]:
    """Check that fits, and the integration over what they leave open, converged.

    Pools whose data determine no fit at all are left out.
    """
    checks = []
    for metric, fit in sorted(fits.items()):
        known = fit.fits.identified
        for name, converged, what in (
            ("fits_converged", fit.fits.converged, "did not converge"),
            ("integration_converged", fit.integrated, "have chains that disagree"),
        ):
            found = zip(fit.labels, converged, known, strict=True)
            failed = [label for label, fine, identified in found if identified and not fine]
            checks.append(
                at_most(
                    "release",
                    name,
                    metric,
                    len(failed) / max(len(fit.labels), 1),
                    limits.max_unconverged_share,
                    f"{len(failed)} of {len(fit.labels)} pools {what}"
                    + (f", e.g. {failed[0]}" if failed else ""),
                    "fail",
                )
            )
    return checks


@dataclass(frozen=True)
class EarlierFits:
    """What earlier as-of days have: the last one's shares of pools on a bound, and drifts.

    ``bounds`` by metric; ``drifts`` metric -> pool -> the median of some as-of days.
    """

    bounds: Mapping[str, float] = field(default_factory=dict)
    drifts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def check_bounds(fits: Mapping[str, Any], earlier: EarlierFits, limits: Audits) -> list[Check]:
    """Check by how much the share of pools on a bound has risen since the release before."""
    checks: list[Check] = []
    bounds = limits.bounds_rise_warn, limits.bounds_rise_fail
    for metric, fit in sorted(fits.items()):
        on_bound = int(np.sum(fit.fits.boundary))
        share, before = on_bound / max(len(fit.labels), 1), earlier.bounds.get(metric)
        rise = 0.0 if before is None else max(share - before, 0.0)
        told = "no release before to compare with" if before is None else f"{before:.0%} before"
        story = f"{on_bound} of {len(fit.labels)} pools are on a bound, {told}"
        checks += banded("release", "pools_on_bounds", metric, rise, bounds, story)
    return checks


def check_drift(fits: Mapping[str, Any], earlier: EarlierFits, limits: Audits) -> list[Check]:
    """Check the likelihood ratio of the last release's hyperparameters, pool by pool.

    The value is the largest ratio over its own limit, the threshold 1: a pool's limit is the
    quantile of chi-squared with a degree for each number that is estimated, or ten times the
    pool's usual drift where that is more. With many stores a day like any other is beyond chance.
    """
    checks: list[Check] = []
    for metric, fit in sorted(fits.items()):
        known = {label: d for label, d in zip(fit.labels, fit.drift, strict=True) if d is not None}
        usual = earlier.drifts.get(metric, {})
        bounds = drift_limits(fit, limits)
        first = next((bound for bound in bounds if bound is not None), 1.0)
        over = {
            label: drift / max(first, TIMES_USUAL * usual.get(label, 0.0))
            for label, drift in known.items()
        }
        most = max(over, key=lambda label: over[label], default=None)
        story = "no release before to compare with"
        if most is not None:
            story = (
                f"the hyperparameters of the release before have a likelihood ratio of "
                f"{known[most]:.3g} in {most}, chance gives {first:.3g}"
                + (f", usual are {usual[most]:.3g}" if most in usual else "")
            )
        value = 0.0 if most is None else over[most]
        relative = tuple(None if bound is None else bound / first for bound in bounds)
        warn, fail = relative
        checks += banded("release", "hyperparameter_drift", metric, value, (warn, fail), story)
    return checks


def drift_limits(fit: Any, limits: Audits) -> list[float | None]:
    """Return what chance gives of likelihood ratios, to warn at and to fail at; None for off."""
    free = int(fit.fits.n_estimated.max(initial=1))
    known = sum(drift is not None for drift in fit.drift)
    return [
        None if level is None else likelihood_ratio_limit(level, max(free, 1), known)
        for level in (limits.drift_warn, limits.drift_fail)
    ]
