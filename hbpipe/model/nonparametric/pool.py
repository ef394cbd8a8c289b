"""One pool of stores under fixed components: likelihoods, weights, and refits by the bootstrap.

Plain empirical Bayes takes the weights that maximise the likelihood for known, and its intervals
then cover 0.80 to 0.89 of what they should. The Bayesian bootstrap over stores (Rubin 1981, *Annals
of Statistics* 9; for empirical Bayes Laird and Louis 1987, *JASA* 82) gives each store a weight, a
standard exponential variable, and maximises again; a store's posterior is the average over the
refits. All stores are in every refit: the component of a lonely flagship does not come and go. The
draws have a fixed seed and are for distinct stores in the order of the sketch, so they are the same
however stores came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Family, Prior
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.model.nonparametric.components import components
from hbpipe.model.nonparametric.weights import Maximum, maximise_weights, one_step

#: Refits of a pool.
REFITS = 100
#: In pools of more stores a refit is one step from the maximum.
MOST_STORES = 2**11
#: Of the random numbers.
_SEED = 1981


@dataclass(frozen=True)
class GridPool:
    """Distinct stores of one pool, and the components of its prior.

    Parameters
    ----------
    statistics
        name -> (R,).
    counts
        (R,) how many stores each stands for.
    law
        Parameters of the components, name -> (K,).
    log_evidence
        (R, K) log likelihood of each distinct store under each component, but for the base
        measure.
    """

    statistics: Mapping[str, NDArray[Any]]
    counts: Array
    law: Prior
    log_evidence: Array

    @staticmethod
    def of(family: Family, statistics: Mapping[str, NDArray[Any]], counts: Array) -> GridPool:
        """Choose the components of a pool, and look at its stores under them."""
        law = components(family.name, statistics, counts)
        own = {name: np.asarray(values)[:, None] for name, values in statistics.items()}
        return GridPool(statistics, counts, law, log_evidence(family, own, law))

    @property
    def likelihood(self) -> Array:
        """Likelihoods in units of each store's largest one, (R, K)."""
        return np.asarray(np.exp(self.log_evidence - self.log_evidence.max(axis=1, keepdims=True)))

    def maximise(self, counts: Array | None = None) -> Maximum:
        """Find the best weights for ``B`` counts of the stores, (B, R); else for their own."""
        return maximise_weights(self.likelihood, self.counts[None] if counts is None else counts)

    def log_likelihoods(self, weight: Array) -> Array:
        """Log likelihood of each distinct store under weights (K,), (R,), as ``log_evidence``."""
        return np.asarray(special.logsumexp(self.log_evidence, b=weight, axis=1))

    def refit(self) -> Array:
        """Maximise for stores of random weights, ``REFITS`` times, (B, K)."""
        weights = np.random.default_rng(_SEED).standard_gamma(
            self.counts, (REFITS, len(self.counts))
        )
        if self.counts.sum() <= MOST_STORES:
            return maximise_weights(self.likelihood, weights).weight
        return one_step(self.likelihood, self.maximise().weight[0], self.counts, weights)
