"""Where the posterior of the spread lies: the range that quadrature has to cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import SPREAD
from hbpipe.model.integration.peak import Peak, conditional, conditional_at, laplace
from hbpipe.model.integration.target import Target

#: Posterior density below exp(−DROP) of its maximum is left out.
DROP = 14.0
#: Beyond these log-odds v is as good as 1, and before the other as good as 0.
_EDGE, _ORIGIN = 16.0, -7.0
_SCAN = np.linspace(-7.0, 7.0, 15)
#: Spacing of the scan in log A, which is twice that in the log-odds.
_SPACING = 2.0
_SEARCHES = 8
#: No search goes farther than this along a logarithm or a logit.
FARTHEST = 40.0


@dataclass(frozen=True)
class Range:
    """Where the outer coordinate matters.

    ``log_scale`` (G,) is log s² on the scale of A; ``low`` and ``high`` (G,) limit the log-odds
    of v, −∞ and ∞ where the density reaches the end of the interval. ``modes`` (G, N, V) are
    conditional modes at equally spaced log spreads, the first of which is ``first`` (G,).
    """

    log_scale: Array
    low: Array
    high: Array
    modes: Array
    first: Array

    def start(self, log_spread: Array) -> Array:
        """Return where to seek conditional modes from, (G, K, V) at (G, K): between the known."""
        last = self.modes.shape[1] - 1
        place = np.clip((log_spread - self.first[:, None]) / _SPACING, 0.0, last)
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
    if SPREAD not in target.free:
        none = np.zeros(target.n_pools)
        return Range(none, none, none, peak.point[:, None], none)
    typical = -np.log(target.geometry.median_size(target.sketch))
    log_scale = np.maximum(typical, peak.point[:, SPREAD])
    mode = 0.5 * (peak.point[:, SPREAD] - log_scale)

    places = mode[:, None] + _SCAN[None, :]
    scanned = log_scale[:, None] + 2.0 * places
    points, jet = conditional_at(target, peak.point, scanned)
    modes = points.reshape(*places.shape, -1)
    scan = _log_density_of_v(laplace(target, jet).reshape(places.shape), places)
    top = np.max(scan, axis=1)
    window = Range(log_scale, mode, mode, modes, scanned[:, 0])
    # Both sides together, those below first.
    both, side = np.tile(np.arange(len(mode)), 2), np.repeat([-1.0, 1.0], len(mode))
    target, twice = target.select(both), window.select(both)

    def drop(distance: Array) -> Array:
        log_odds = twice.low + side * distance
        x = twice.log_scale + 2.0 * log_odds
        _, jet = conditional(target, twice.start(x[:, None])[:, 0], x)
        return np.asarray(top[both] - _log_density_of_v(laplace(target, jet), log_odds))

    width = 5.5 * 0.5 * np.sqrt(np.maximum(peak.covariance[:, SPREAD, SPREAD], 1e-12))
    width = np.clip(np.where(peak.regular, width, 2.0), 1e-6, 5.0)
    below, above = reach(drop, width[both], DROP).reshape(2, -1)
    near = scan > (top - DROP)[:, None]
    low = np.minimum(mode - below, np.min(np.where(near, places, np.inf), axis=1))
    high = np.maximum(mode + above, np.max(np.where(near, places, -np.inf), axis=1))
    low, high = np.where(low < _ORIGIN, -np.inf, low), np.where(high > _EDGE, np.inf, high)
    return replace(window, low=low, high=high)


def reach(drop_at: Callable[[Array], Array], width: Array, wanted: float) -> Array:
    """Find the distance at which a log density has dropped by about ``wanted``, (G,).

    The drop of a Gaussian grows with the square of the distance, which a few rescalings use;
    slower tails are followed by factors of at most 3, up to ``FARTHEST``.
    """
    searching = np.ones(len(width), dtype=bool)
    for _ in range(_SEARCHES):
        ratio = np.sqrt(wanted / np.maximum(drop_at(width), 1e-3))
        scaled = np.minimum(width * np.clip(ratio, 0.3, 3.0), FARTHEST)
        width = np.where(searching, scaled, width)
        searching &= np.abs(ratio - 1.0) > 0.15
        if not searching.any():
            break
    return width
