"""Estimates that come with their own sampling variance, as a study or a test reports them."""

from __future__ import annotations

from collections.abc import Sequence

from hbpipe.data.suggest.names import (
    estimate_of,
    names_estimate,
    names_standard_error,
    names_variance,
)
from hbpipe.data.suggest.profile import Profile

_POSITIVE = 0.98  # of the variances; the others will be rejected and counted


def variances(measures: Sequence[Profile]) -> dict[str, Profile]:
    """Return, for each column that is an estimate, the column of its sampling variance.

    The estimate is what the variance is named after (``lift`` for ``lift_var``), else the column
    named like an effect, else the only amount there is.
    """
    found: dict[str, Profile] = {}
    for variance in filter(_is_variance, measures):
        estimate = _estimate(variance, [m for m in measures if _may_be_estimate(m)])
        if estimate is not None:
            found.setdefault(estimate.name, variance)
    return found


def standard_error_of(profile: Profile, measures: Sequence[Profile]) -> str | None:
    """Return why a standard error is no measure; None for a column that is none.

    Without a column that it could be the error of, it is a number like any other.
    """
    estimates = [other for other in measures if _may_be_estimate(other)]
    if not names_standard_error(profile.name) or profile.negative_share > 0 or not estimates:
        return None
    if any(map(_is_variance, measures)):
        return "a standard error; the variance beside it says the same"
    return (
        "a standard error; normal_known_variance needs its square, and a configuration cannot "
        "square a column: deliver the variance, then write {family: normal_known_variance, "
        "estimate: ..., variance: ...}"
    )


def _is_variance(profile: Profile) -> bool:
    return (
        names_variance(profile.name)
        and profile.kind in ("amount", "whole")
        and profile.zero_share + profile.negative_share <= 1 - _POSITIVE
    )


def _may_be_estimate(profile: Profile) -> bool:
    return (
        profile.kind in ("amount", "whole")
        and not names_variance(profile.name)
        and not names_standard_error(profile.name)
    )


def _estimate(variance: Profile, estimates: Sequence[Profile]) -> Profile | None:
    stem = estimate_of(variance.name).lower()
    ways = (
        [p for p in estimates if stem and p.name.lower() == stem],
        [p for p in estimates if stem and p.name.lower().startswith(stem) and _named(p)],
        [p for p in estimates if not stem and _named(p)],
        [p for p in estimates if not stem and p.kind == "amount"],
    )
    return next((way[0] for way in ways if len(way) == 1), None)


def _named(profile: Profile) -> bool:
    return names_estimate(profile.name)
