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
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Family, Prior
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.model.nonparametric.components import components
from hbpipe.model.nonparametric.weights import (
    Maximum,
    maximise_weights,
    one_step,
    sparse_weights,
)

#: Refits of a pool.
REFITS = 100
#: In pools of more stores the maximum for nearby counts is taken to be one step away.
MOST_STORES = 2**11
#: A sum of likelihoods below this has lost digits.
_LOST = 1e-250
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

    @cached_property
    def largest(self) -> Array:
        """The largest log likelihood of each store, (R,)."""
        return np.asarray(self.log_evidence.max(axis=1))

    @cached_property
    def likelihood(self) -> Array:
        """Likelihoods in units of each store's largest one, (R, K)."""
        return np.asarray(np.exp(self.log_evidence - self.largest[:, None]))

    def maximise(self) -> Maximum:
        """Find the best weights of the components."""
        return sparse_weights(self.likelihood, self.counts)

    def maximise_near(self, best: Array, counts: Array) -> Array:
        """Find the best weights (B, K) for ``B`` counts of the same stores, (B, R).

        ``best`` (K,) are those for the pool's own counts: in a large pool others are a step away.
        """
        if self.counts.sum() <= MOST_STORES:
            return maximise_weights(self.likelihood, counts).weight
        return one_step(self.likelihood, best, self.counts, counts)

    def log_likelihoods(self, weight: Array) -> Array:
        """Log likelihood of each distinct store under weights (K,), (R,), as ``log_evidence``."""
        mixed = self.likelihood @ weight
        lost = np.flatnonzero(mixed < _LOST)
        found = np.log(np.maximum(mixed, _LOST)) + self.largest
        found[lost] = special.logsumexp(self.log_evidence[lost], b=weight, axis=1)
        return found

    def refit(self) -> Array:
        """Maximise for stores of random weights, ``REFITS`` times, (B, K)."""
        shape = (REFITS, len(self.counts))
        weights = np.random.default_rng(_SEED).standard_gamma(self.counts, shape)
        return self.maximise_near(self.maximise().weight[0], weights)
