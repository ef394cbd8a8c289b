"""Where the posterior of the spread lies: the range that quadrature has to cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import SPREAD
from hbpipe.model.integration.peak import Peak, conditional, laplace
from hbpipe.model.integration.target import Target

#: Posterior density below exp(−DROP) of its maximum is left out.
DROP = 14.0
#: Beyond these log-odds v is as good as 1, and before the other as good as 0.
_EDGE, _ORIGIN = 16.0, -7.0
_SEARCHES = 8
#: No search goes farther than this along a logarithm or a logit.
FARTHEST = 40.0


@dataclass(frozen=True)
class Range:
    """Where the outer coordinate matters.

    ``log_scale`` (G,) is log s² on the scale of A; ``low`` and ``high`` (G,) limit the log-odds
    of v, −∞ and ∞ where the density reaches the end of the interval. ``modes`` (G, N, V) are
    conditional modes at equally spaced log spreads, the first of which is ``first`` (G,) and
    whose distance ``spacing`` (G,).
    """

    log_scale: Array
    low: Array
    high: Array
    modes: Array
    first: Array
    spacing: Array

    def start(self, log_spread: Array) -> Array:
        """Return where to seek conditional modes from, (G, K, V) at (G, K): between the known."""
        last = self.modes.shape[1] - 1
        place = (log_spread - self.first[:, None]) / self.spacing[:, None]
        place = np.clip(place, 0.0, last)
        before = np.minimum(place.astype(np.int64), max(last - 1, 0))[:, :, None]
        share = place[:, :, None] - before
        near = np.take_along_axis(self.modes, before, axis=1)
        next_ = np.take_along_axis(self.modes, np.minimum(before + 1, last), axis=1)
        return np.asarray(near + share * (next_ - near))

    def select(self, pools: Codes) -> Range:
        """Return the range of some pools."""
        return Range(**{name: values[pools] for name, values in vars(self).items()})


def _log_density_of_v(log_density_of_x: Array, log_odds: Array) -> Array:
    """Change the measure from x = 2 logit v + constant to v."""
    stretch = np.logaddexp(0.0, log_odds) + np.logaddexp(0.0, -log_odds)
    return np.asarray(log_density_of_x + np.log(2.0) + stretch)


def locate(target: Target, peak: Peak) -> Range:
    """Find the range of v that holds all but a negligible part of the posterior."""
    scan = peak.scan
    if scan is None:
        none = np.zeros(target.n_pools)
        return Range(none, none, none, peak.point[:, None], none, none + 1.0)
    typical = -np.log(target.geometry.median_size(target.sketch))
    log_scale = np.maximum(typical, peak.point[:, SPREAD])
    mode = 0.5 * (peak.point[:, SPREAD] - log_scale)
    places = 0.5 * (scan.log_spread - log_scale[:, None])
    density = _log_density_of_v(scan.marginal, places)
    top = np.max(density, axis=1)
    first, second = scan.log_spread[:, 0], scan.log_spread[:, 1]
    window = Range(log_scale, mode, mode, scan.points, first, second - first)
    # Both sides together, those below first.
    both, side = np.tile(np.arange(len(mode)), 2), np.repeat([-1.0, 1.0], len(mode))

    def drop(distance: Array, sides: Codes) -> Array:
        some = window.select(both[sides])
        log_odds = some.low + side[sides] * distance
        x = some.log_scale + 2.0 * log_odds
        guide = some.start(x[:, None])[:, 0]
        _, jet = conditional(target.select(both[sides]), guide, x)
        return np.asarray(top[both[sides]] - _log_density_of_v(laplace(target, jet), log_odds))

    width = 5.5 * 0.5 * np.sqrt(np.maximum(peak.covariance[:, SPREAD, SPREAD], 1e-12))
    width = np.clip(np.where(peak.regular, width, 2.0), 1e-6, 5.0)
    below, above = reach(drop, width[both], DROP).reshape(2, -1)
    near = density > (top - DROP)[:, None]
    low = np.minimum(mode - below, np.min(np.where(near, places, np.inf), axis=1))
    high = np.maximum(mode + above, np.max(np.where(near, places, -np.inf), axis=1))
    low, high = np.where(low < _ORIGIN, -np.inf, low), np.where(high > _EDGE, np.inf, high)
    return replace(window, low=low, high=high)


def reach(drop_at: Callable[[Array, Codes], Array], width: Array, wanted: float) -> Array:
    """Find the distance at which a log density has dropped by about ``wanted``, (G,).

    ``drop_at(distance, places)`` is the drop at some of the places, by their numbers. That of a
    Gaussian grows with the square of the distance, which a few rescalings use; slower tails are
    followed by factors of at most 3, up to ``FARTHEST``.
    """
    width, places = width.copy(), np.arange(len(width))
    for _ in range(_SEARCHES):
        if not len(places):
            break
        ratio = np.sqrt(wanted / np.maximum(drop_at(width[places], places), 1e-3))
        width[places] = np.minimum(width[places] * np.clip(ratio, 0.3, 3.0), FARTHEST)
        places = places[np.abs(ratio - 1.0) > 0.15]
    return width
