"""One pool of stores under fixed components: likelihoods, weights, and refits by the bootstrap.

The weights that maximise the likelihood are taken for known by plain empirical Bayes, and its
intervals then cover 0.80 to 0.89 (Efron 2016, *Biometrika* 103). The bootstrap over stores (Laird
and Louis 1987, *JASA* 82) draws as many stores of the pool with replacement and maximises again;
a store's posterior is the average over the refits. The draws have a fixed seed and are of distinct
stores in the order of the sketch, so they are the same however stores came.
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
from hbpipe.model.nonparametric.weights import Maximum, maximise_weights

#: Refits of a pool. Limits of 95 % intervals then have a Monte Carlo error of 0.02 posterior sd.
REFITS = 100
#: A refit is of so many stores at most: the uncertainty of the weights is that of a pool of this
#: size where there are more (m out of n; Bickel, Götze and van Zwet 1997, *Statistica Sinica* 7).
MOST_STORES = 2**11
#: Of the random numbers.
_SEED = 20161


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
        return np.exp(self.log_evidence - self.log_evidence.max(axis=1, keepdims=True))

    def maximise(self, counts: Array | None = None) -> Maximum:
        """Find the best weights for ``B`` counts of the stores, (B, R); else for their own."""
        return maximise_weights(self.likelihood, self.counts[None] if counts is None else counts)

    def log_likelihoods(self, weight: Array) -> Array:
        """Log likelihood of each distinct store under weights (K,), (R,), as ``log_evidence``."""
        return np.asarray(special.logsumexp(self.log_evidence, b=weight, axis=1))

    def refit(self) -> Maximum:
        """Maximise for stores drawn with replacement, ``REFITS`` times."""
        drawn = self._drawn()
        likelihood = self.likelihood
        if self.counts.sum() <= MOST_STORES:
            return maximise_weights(likelihood, drawn)
        found = []
        for counts in drawn:
            rows = np.flatnonzero(counts)
            found.append(maximise_weights(likelihood[rows], counts[None, rows]))
        return Maximum(
            np.concatenate([one.weight for one in found]),
            np.concatenate([one.gap for one in found]),
            max(one.rounds for one in found),
        )

    def _drawn(self) -> Array:
        """Draw counts of the distinct stores, (B, R)."""
        stores = self.counts.sum()
        rng = np.random.default_rng(_SEED)
        size = int(min(stores, MOST_STORES))
        drawn = rng.multinomial(size, self.counts / stores, size=REFITS)
        return drawn.astype(np.float64)
