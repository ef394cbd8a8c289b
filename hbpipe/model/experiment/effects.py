"""The effect in every store: treatment less control, and its sampling variance.

The pair is what ``normal_known_variance`` fits: est_j ~ N(θ_j, v_j), θ_j ~ N(μ, τ²), with μ the
pooled effect and τ its spread over stores. The estimate is the plain difference of the two rates
or means; v_j is the sum of the variances of the arms (``rates``, ``variances``). Arms change
places without changing anything but the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.experiment.arms import arm_of, side_by_side
from hbpipe.model.experiment.rates import RateScale, RateSums
from hbpipe.model.experiment.variances import VarianceScale, VarianceSums
from hbpipe.model.families import ARMS, COMPARABLE, get_family
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.statistics import check_statistics

ArmSums = RateSums | VarianceSums
ArmScale = RateScale | VarianceScale

_SUMS: dict[str, type[RateSums] | type[VarianceSums]] = dict(
    zip(COMPARABLE, (RateSums, VarianceSums), strict=True)
)


def effects(
    family: str,
    control: Mapping[str, Any],
    treatment: Mapping[str, Any],
    *,
    pools: ArrayLike | None = None,
) -> dict[str, Array]:
    """Estimate the effect of a treatment in every store.

    >>> control = {"successes": [3, 9, 0], "trials": [100, 240, 60]}
    >>> treatment = {"successes": [5, 12, 2], "trials": [110, 250, 55]}
    >>> found = effects("beta_binomial", control, treatment)
    >>> fit = hbpipe.fit("normal_known_variance", found)  # doctest: +SKIP

    Parameters
    ----------
    family
        ``beta_binomial`` for rates or ``normal`` for means.
    control, treatment
        Statistics of each arm, name -> (J,) array-like, the same stores in the same order. A store
        that lacks an arm has no trials, or no values, in it.
    pools
        (J,) the number of each store's chain, from 0; by default all stores are one chain. Rates
        and variances are shrunk within it.

    Returns
    -------
    ``estimate`` and ``variance`` (J,), the statistics of ``normal_known_variance``: 0 and ∞ for a
    store that lacks an arm, and where all values of a chain are alike.

    Raises
    ------
    FitError
        For a family whose effects have no sampling variance here.
    StatisticsError
        If the statistics are impossible, or of different stores.
    """
    if family not in COMPARABLE:
        raise FitError(
            f"effects of {family!r} are not defined",
            expected=" or ".join(COMPARABLE),
            remedy="compare rates, means, or means of logarithms",
        )
    base = get_family(family)
    own = [check_statistics(base, arm) for arm in (control, treatment)]
    stores = [len(arm[base.statistics[0].name]) for arm in own]
    codes = np.zeros(stores[0], np.int64) if pools is None else np.asarray(pools)
    if stores[0] != stores[1] or codes.shape != (stores[0],) or codes.dtype.kind not in "iu":
        raise StatisticsError(
            f"control has {stores[0]} stores, treatment {stores[1]}, pools is of type "
            f"{codes.dtype} and shape {codes.shape}",
            expected="the same stores in each, and whole numbers for pools",
            remedy="give a store that lacks an arm no trials, or no values, in it",
        )
    statistics = side_by_side(*own)
    sums = sum_arms(family, statistics, codes, int(codes.max(initial=0)) + 1)
    return effects_by_arm(family, statistics, sums.scale(), codes)


def sum_arms(family: str, statistics: Statistics, pools: Codes, n_pools: int) -> ArmSums:
    """Add up what the variances of stores rest on, by pool; ``statistics`` are those by arm."""
    return _SUMS[family].of(statistics, pools, n_pools)


def add_arms(family: str, parts: Sequence[Any]) -> ArmSums:
    """Add up the sums of disjoint stores, in the order given."""
    return _SUMS[family].added(parts)


def effects_by_arm(
    family: str, statistics: Statistics, scale: ArmScale, pools: Codes
) -> dict[str, Array]:
    """Return ``estimate`` and ``variance`` (J,) of stores, whose pools are ``pools`` (J,)."""
    base = get_family(family)
    control, treatment = (base.raw_estimates(arm_of(base, statistics, arm)) for arm in ARMS)
    with np.errstate(invalid="ignore"):
        variance = scale.variances(statistics, pools).sum(axis=0)
    known = np.isfinite(variance) & (variance > 0)
    return {
        "estimate": np.where(known, treatment - control, 0.0),
        "variance": np.where(known, variance, np.inf),
    }


def arm_sizes(family: str, statistics: Statistics) -> dict[str, NDArray[np.int64]]:
    """Return the trials or values of each arm, arm -> (J,)."""
    name = get_family(family).sample_size
    return {arm: np.asarray(statistics[f"{name}_{arm}"]) for arm in ARMS}
