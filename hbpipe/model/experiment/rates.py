"""Sampling variances of the conversion rates of two arms, from rates that the chain shrinks.

p̂ (1 − p̂)/n is 0 for an arm without conversions, and too small wherever p̂ is small by chance: a
mean weighted by precision then believes such stores, and is biased. So the rate of a store is that
of *both its arms together*, shrunk by the concentration c of the chain's stores, Beta-distributed:

    r_j = Σ_a y_a/(m_a (1 − m_a)) / Σ_a n_a/(1 − m_a),      p̃_j = (c m + ñ_j m r_j)/(c + ñ_j),

with m_a the chain's rate in an arm and m in both: r_j is the store's rate in units of the chain's,
weighted so that it is uncorrelated with the difference of the arms' rates where these are the
chain's. Score tests pool the arms for the same reason (Miettinen and Nurminen 1985, *Statistics in
Medicine* 4). ñ_j = (1 − m)/(m Var r_j) is how many trials at the rate m tell as much as r_j does:
n_j where the arms have the same rate. How the arms of the chain differ is put back on the logit
line, so that no rate leaves (0, 1): logit p̃_ja = logit p̃_j + logit m_a − logit m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from hbpipe.model.estimation.moments import ratio
from hbpipe.model.experiment.arms import arm_of
from hbpipe.model.families import ARMS, get_family
from hbpipe.model.families.beta_binomial import MAX_CONCENTRATION
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.fit import fit_pools
from hbpipe.model.numerics.grouped import float_sums


@dataclass(frozen=True)
class RateScale:
    """Rates of chains: of each arm (2, G), of both (G,), and the concentration of stores (G,)."""

    arms: Array
    both: Array
    concentration: Array

    def variances(self, statistics: Statistics, pools: Codes) -> Array:
        """Return the expected sampling variance of the rate of each arm, (2, J).

        With κ = c + ñ of the store, E p (1 − p) = p̃ (1 − p̃) κ/(κ + 1). An arm without trials has
        variance ∞.
        """
        y, n = (_of_arms(statistics, name) for name in ("successes", "trials"))
        arms, both, c = self.arms[:, pools], self.both[pools], self.concentration[pools]
        weight = 1.0 / (arms * (1.0 - arms))
        expected = np.sum(weight * arms * n, axis=0)
        relative = ratio(np.sum(weight * y, axis=0), expected)
        effective = (1.0 - both) / both * ratio(expected**2, np.sum(weight * n, axis=0))
        kappa = c + effective
        store = (c * both + effective * np.minimum(both * relative, 1.0)) / kappa
        logit = special.logit(store) + special.logit(arms) - special.logit(both)
        spread = special.expit(logit) * special.expit(-logit) * kappa / (kappa + 1.0)
        return np.where(n > 0, spread / np.maximum(n, 1.0), np.inf)


@dataclass(frozen=True)
class RateSums:
    """What the rates of chains rest on, additive over stores.

    ``successes`` and ``trials`` (2, G) are those of each arm, ``sketch`` is of the stores' rates
    over both arms.
    """

    successes: Array
    trials: Array
    sketch: Any

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> RateSums:
        """Add up stores by pool."""
        family = _family()
        control, treatment = (arm_of(family, statistics, arm) for arm in ARMS)
        both = {name: control[name] + treatment[name] for name in control}
        successes, trials = (
            np.stack([float_sums(own[name], pools, n_pools) for own in (control, treatment)])
            for name in ("successes", "trials")
        )
        return cls(successes, trials, family.compress(both, pools, n_pools))

    @classmethod
    def added(cls, parts: Sequence[RateSums]) -> RateSums:
        """Add up the sums of disjoint stores, in the order given."""
        return cls(
            np.sum([part.successes for part in parts], axis=0),
            np.sum([part.trials for part in parts], axis=0),
            _family().merge_sketches([part.sketch for part in parts]),
        )

    def scale(self) -> RateScale:
        """Fit the distribution of rates in each chain by maximum marginal likelihood.

        A chain whose data do not determine it, as one store or no conversion at all, gets one rate
        for all its stores. Half a success and half a failure more keep that off 0 and 1.
        """
        fits = fit_pools(_family(), self.sketch)
        successes, trials = self.successes.sum(axis=0), self.trials.sum(axis=0)
        inside = fits.identified & (successes > 0) & (successes < trials)
        found = np.where(inside, fits.hyperparameters["concentration"], MAX_CONCENTRATION)
        arms = (self.successes + 0.5) / (self.trials + 1.0)
        return RateScale(arms, (successes + 0.5) / (trials + 1.0), found)


def _family() -> Family:
    return get_family("beta_binomial")


def _of_arms(statistics: Statistics, name: str) -> Array:
    return np.stack([np.asarray(statistics[f"{name}_{arm}"], np.float64) for arm in ARMS])
