"""The posterior of the concentration of one pool, the mean shares integrated out.

The one working variable is x = −½ log M, the log sd of shares in units of one event's. At a given
M the K − 1 mean shares are integrated by Laplace's method on the softmax scale (``mean.py``), so
what is left is a line, whatever K is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.marginal.dirichlet_multinomial import ShareSketch, shares
from hbpipe.model.shares.hyperprior import ShareHyperprior, compile_shares
from hbpipe.model.shares.mean import MeanShares, known_shares, mean_shares, variance_of_shares

#: Spread times the largest n of a start that stands for an estimate of none.
_NEXT_TO_NONE = 1e-6
#: φ of a held concentration at its cap.
_LEAST_PHI = 1e-15
#: x beyond this is out of the range of floats when squared.
_FARTHEST = 150.0
#: Counts added to each class where the search for the mean begins.
_ADDED = 0.5


@dataclass(frozen=True)
class ShareTarget:
    """A :class:`hbpipe.model.integration.sampling.HyperTarget`.

    Parameters
    ----------
    sketch, prior
        Of the one pool.
    held, estimate
        (K,) coordinates that are known, NaN where free, and the point estimate.
    """

    sketch: ShareSketch
    prior: ShareHyperprior
    held: Array
    estimate: Array

    @property
    def names(self) -> tuple[str, ...]:
        """The log sd, unless the concentration is held."""
        return ("log_sd",) if np.isnan(self.held[-1]) else ()

    @property
    def spreads(self) -> tuple[int, ...]:
        """It is the log sd between stores."""
        return (0,) if self.names else ()

    @property
    def start(self) -> Array:
        """The point estimate, next to none where that is none."""
        if not self.names:
            return np.empty(0)
        phi = self.estimate[-1]
        least = _NEXT_TO_NONE / max(1.0, float(np.max(self.sketch.totals.counts["value"])))
        return np.array([0.5 * np.log(max(phi / (1.0 - phi), least))])

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""
        found = np.full(len(points), -np.inf)
        near = np.flatnonzero(np.all(np.abs(points) < _FARTHEST, axis=1))
        if len(near):
            spread = self._spread(points[near])
            whole = self.sketch.totals.select(np.zeros(len(near), np.int64))
            likelihood = self._mean(spread).log_integral - whole.value(np.ones(len(near)), spread)
            log_sd = 0.5 * np.log(spread)
            found[near] = self.sketch.log_choose[0] + likelihood + self.prior.of_log_sd(log_sd)
        return np.asarray(found)

    def nodes(self, points: Array) -> dict[str, Array]:
        """Spread 1/M (S,); mean shares, W of their log, and their variances, (S, K) each."""
        spread = self._spread(points)
        mean = self._mean(spread)
        return {
            "spread": spread,
            "mean": mean.mean,
            "information": mean.information,
            "mean_variance": variance_of_shares(mean.mean, mean.information),
        }

    def _spread(self, points: Array) -> Array:
        if self.names:
            return np.asarray(np.exp(2.0 * points[:, 0]))
        phi = max(float(self.held[-1]), _LEAST_PHI)
        return np.full(len(points), phi / (1.0 - phi))

    def _mean(self, spread: Array) -> MeanShares:
        if not np.isnan(self.held[0]):
            return known_shares(self.sketch.classes, spread, shares(self.held[:-1]))
        return mean_shares(self.sketch.classes, spread, self.prior.weight, self._begin)

    @cached_property
    def _begin(self) -> Array:
        return np.asarray(self.sketch.class_totals[0] + _ADDED)


def share_target(
    sketch: ShareSketch, hyperprior: object, held: Array, estimate: Array
) -> ShareTarget:
    """Return the target of the only pool of a sketch.

    Raises
    ------
    FitError
        For a hyperprior that does not fit the family, or leaves the posterior improper.
    """
    prior = compile_shares(hyperprior, sketch, held)
    prior.check_proper()
    return ShareTarget(sketch, prior, held, estimate)
