"""What the fit of a nonparametric prior gives: weights of components, and what spoke for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Prior
from hbpipe.model.fits import PoolFits
from hbpipe.model.mixtures.conjugate import PROPORTION
from hbpipe.model.mixtures.evidence import log_evidence


@dataclass(frozen=True, eq=False, kw_only=True)
class GridFits(PoolFits):
    """The fits of ``G`` pools, each with a grid of laws or with one.

    Hyperparameters are (G, K), the components that have a weight at the maximum; of pools with
    fewer the last ones are repeated, with the proportion 0. Coordinates are those of the single
    law, which is all that has any; where the grid was chosen they have no covariance.

    Parameters
    ----------
    single
        The fits of the same pools with a single law.
    several
        (G,) whether the pool's prior is the grid. Where it is not, the only component is the
        single law, and all numbers of the fit are those of ``single``.
    score_single, score_grid
        (G,) mean log probability of stores that were left out of the fit, in ten folds; NaN where
        a pool has too few stores for a choice.
    duality_gap
        (G,) of the weights: the largest directional derivative less one. The log likelihood
        falls short of its maximum by J log(1 + gap) at most. NaN where there is a single law.
    """

    single: PoolFits
    several: NDArray[np.bool_]
    score_single: Array
    score_grid: Array
    duality_gap: Array

    def single_law(self) -> PoolFits:
        """Return the fits of the same stores with a single law."""
        return self.single

    def select(self, pools: Any) -> GridFits:
        """Return the fits of some pools, in ascending order."""
        found = super().select(pools)
        assert isinstance(found, GridFits)
        return replace(found, single=self.single.select(pools))

    @property
    def n_estimated(self) -> NDArray[np.int64]:
        """How many numbers are estimated, (G,): of a grid all weights but one, at least."""
        weights = np.count_nonzero(self.hyperparameters[PROPORTION], axis=1) - 1
        return np.where(self.several, np.maximum(weights, 1), super().n_estimated)

    def log_likelihood_under(self, pool: int, law: Prior, proportion: Array) -> float:
        """Log marginal likelihood of a pool's stores under any mixture of laws, (K,) each."""
        base, one = self.single.model, self.sketch.select(np.array([pool]))
        own = {name: np.asarray(values)[:, None] for name, values in one.statistics.items()}
        each = special.logsumexp(log_evidence(base, own, law), b=proportion, axis=1)
        return float(np.sum(one.rows["stores"] * (each + one.log_base_measure)))

    @property
    def chosen(self) -> list[str]:
        """The prior of each pool in a word."""
        return [self.prior_form if several else "single" for several in self.several]
