"""The law of θ = p eʷ: p of a mixture of Beta laws and w, independent of it, of normal ones.

With u the logit of p and h its density there, F(x) = ∫ h(u) Σ v Φ((log x − log p(u) − m)/s) du: a
sum over evenly spaced nodes t of u = c + κ sinh t, which converges exponentially (Trefethen and
Weideman 2014) while the steps are short beside s. Where they are not, Φ gets the variance σ² that
the steps resolve, and the surplus d = σ² − s² is taken off by two terms of exp(−½ d ∂²): a kernel
whose first five moments are right, of Maz'ya and Schmidt (2007, *Approximate Approximations*). So
s = 0 is an ordinary number, and the nodes only have to resolve h.

Cdfs are within 2e-6 of the exact ones, within 1e-8 where s is not far below the sd of log p, and
within 1e-5 where it is and a shape of p is below 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.laws import BETA, ascending
from hbpipe.model.family import Array

#: A component of p is left out of the range where its density has fallen by exp(−this), and
#: altogether if it has less weight than this.
_DROP, _NO_WEIGHT = 24.0, 1e-9
#: No logit is followed beyond: p is then beside the smallest floats, or 1.
_LOWEST, _HIGHEST = -600.0, 38.0
#: Steps at the centre, in scales of the narrowest component; quick cdfs are good to 1e-4.
FINE, QUICK = 0.12, 0.3
#: A variance is resolved from so many steps of its sd on: what is aliased is below 1e-9.
_RESOLVED = 1.2
#: The range around the centre in which steps are even, in sds of u.
_CORE = 2.0
#: Numbers of nodes: a row takes the first that is enough for it, or the last.
_NODES = np.array([24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 256, 384, 512, 1024, 2048])
#: So many sds away a normal cdf is 0 or 1.
_FAR = 40.0
#: Numbers that one array of a block may hold.
_BLOCK = 2**16
#: Newton steps to a quantile at most, and the step in sds of log θ after which it is there: what
#: is left is the square of it. The second is for a start.
_STEPS, _ARRIVED, _NEAR = 80, 1e-6, 1e-2


@dataclass(frozen=True)
class Products:
    """``J`` laws of θ = p eʷ.

    Parameters
    ----------
    share, a, b
        (J, K) weights and parameters of the Beta laws of p.
    weight, location, scale
        (J, L) weights, means and sds of the normal laws of w.
    step
        ``FINE`` or ``QUICK``.
    """

    share: Array
    a: Array
    b: Array
    weight: Array
    location: Array
    scale: Array
    step: float = FINE

    def take(self, rows: NDArray[np.int64]) -> Products:
        """Return some rows."""
        names = ("share", "a", "b", "weight", "location", "scale")
        return Products(**{name: getattr(self, name)[rows] for name in names}, step=self.step)

    def cdf(self, x: Array) -> Array:
        """Return the cdf of each law at its own ``x`` (J,)."""
        return self._at(x, density=False)

    def density(self, log_x: Array) -> Array:
        """Return the density of log θ at its own point (J,)."""
        return self._at(np.exp(log_x), density=True)

    def quantiles(self, levels: Array) -> Array:
        """Return quantiles (J, Q), the inverse of ``cdf``; they never fall as the level rises."""
        every = np.broadcast_to(levels, (len(self.a), len(levels)))
        return ascending(self._quantiles(every), levels)

    def quantile(self, level: Array) -> Array:
        """Return a quantile of each law at its own level (J,)."""
        return self._quantiles(level[:, None])[:, 0]

    def _quantiles(self, levels: Array) -> Array:
        """Seek quantiles at levels (J, Q) from those with a single normal law in place of all."""
        found = np.empty(levels.shape)
        for rows, log_p, mass, apart in self.grids():
            some = self.take(rows)
            table = _Table.of(some, log_p, mass, apart)
            single = _Table.of(some._single, log_p, mass, apart)
            for column, level in enumerate(levels[rows].T):
                begin = single.mean + single.width * special.ndtri(level)
                begin = single.quantile(level, begin, _NEAR)
                found[rows, column] = table.quantile(level, begin, _ARRIVED)
        return np.exp(found)

    @property
    def _single(self) -> Products:
        mean, variance = _mixed(self.weight, self.location, np.square(self.scale))
        one, sd = np.ones((len(mean), 1)), np.sqrt(variance)
        return Products(self.share, self.a, self.b, one, mean[:, None], sd[:, None], self.step)

    def log_moments(self) -> tuple[Array, Array]:
        """Mean and variance of log θ, (J,) each."""
        mean = special.digamma(self.a) - special.digamma(self.a + self.b)
        variance = special.polygamma(1, self.a) - special.polygamma(1, self.a + self.b)
        first = _mixed(self.share, mean, variance)
        second = _mixed(self.weight, self.location, np.square(self.scale))
        return first[0] + second[0], first[1] + second[1]

    def grids(self) -> Iterator[tuple[NDArray[np.int64], Array, Array, Array]]:
        """Yield rows, and the law of log p there: nodes, masses, distances, (R, N) each."""
        grid = _Grid.of(self)
        for points in np.unique(grid.points).tolist():
            same = np.flatnonzero(grid.points == points)
            length = max(1, _BLOCK // (points * max(self.a.shape[1], self.weight.shape[1])))
            for begin in range(0, len(same), length):
                rows = same[begin : begin + length]
                yield rows, *grid.masses(self.take(rows), rows, points)

    def _at(self, x: Array, *, density: bool) -> Array:
        inside = (x > 0) & (x < np.inf)
        found, log_x = np.zeros(len(self.a)), np.log(np.where(inside, x, 1.0))
        for rows, *grid in self.grids():
            found[rows] = _Table.of(self.take(rows), *grid).at(log_x[rows])[int(density)]
        outside = 0.0 if density else np.where(x > 0, 1.0, 0.0)
        return np.where(inside, np.clip(found, 0.0, np.inf if density else 1.0), outside)


def _flat(values: Array) -> Array:
    """Lay nodes and laws side by side, (R, N, L) -> (R, N L)."""
    return values.reshape(len(values), -1)


def _mixed(weight: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    centre = np.sum(weight * mean, axis=1)
    return centre, np.sum(weight * (variance + (mean - centre[:, None]) ** 2), axis=1)


@dataclass(frozen=True)
class _Grid:
    """Nodes u = ``centre`` + ``core`` sinh(``low`` + i ``step``) of each row, (J,) all.

    ``cut`` (J,) tells whether something lies beyond: it is put on the first or the last node.
    """

    centre: Array
    core: Array
    low: Array
    step: Array
    points: NDArray[np.int64]
    cut: NDArray[np.bool_]

    @staticmethod
    def of(products: Products) -> _Grid:
        """Cover what carries weight, as ``sinc`` does, with steps that resolve it."""
        a, b, kernel = products.a, products.b, BETA.kernel
        assert kernel is not None
        carries = products.share > _NO_WEIGHT
        curvature, below, above = kernel.tails(a, b)
        mode = np.clip(np.log(a) - np.log(b), _LOWEST, _HIGHEST)
        reach = [_reach(_DROP / curvature, slope) for slope in (below, above)]
        low = np.min(np.where(carries, mode - reach[0], np.inf), axis=1)
        high = np.max(np.where(carries, mode + reach[1], -np.inf), axis=1)
        cut = (low < _LOWEST) | (high > _HIGHEST)
        low, high = np.maximum(low, _LOWEST), np.minimum(high, _HIGHEST)
        # Next to p = 1 the density of log p is not smooth where a shape is below 1.
        corner = np.sqrt(np.clip(np.minimum(a, b), 0.1, 1.0))
        scale = corner / np.sqrt(1.0 + curvature)
        narrowest = np.min(np.where(carries, scale, np.inf), axis=1)
        share = np.where(carries, products.share, 0.0)
        centre, variance = _mixed(share / np.sum(share, axis=1, keepdims=True), mode, scale**2)
        core = _CORE * np.sqrt(variance)
        ends = np.arcsinh((low - centre) / core), np.arcsinh((high - centre) / core)
        wanted = 1.0 + (ends[1] - ends[0]) * core / (products.step * narrowest)
        place = np.minimum(np.searchsorted(_NODES, wanted), len(_NODES) - 1)
        points = _NODES[place]
        return _Grid(centre, core, ends[0], (ends[1] - ends[0]) / (points - 1), points, cut)

    def masses(
        self, products: Products, rows: NDArray[np.int64], points: int
    ) -> tuple[Array, Array, Array]:
        """Nodes of log p of some rows, their masses, and the distances between them, (R, N)."""
        kernel = BETA.kernel
        assert kernel is not None
        t = self.low[rows, None] + self.step[rows, None] * np.arange(points)
        core, centre = self.core[rows, None], self.centre[rows, None]
        offset, apart = core * np.sinh(t), core * np.cosh(t) * self.step[rows, None]
        first, second = kernel.statistics(centre, offset)
        mode = np.clip(np.log(products.a) - np.log(products.b) - centre, -700.0, 700.0)
        top = [products.a, -products.b] * np.stack(kernel.statistics(centre, mode))
        mass, cut = np.zeros(offset.shape), np.flatnonzero(self.cut[rows])
        for k in range(products.a.shape[1]):
            a, b = products.a[:, k, None], products.b[:, k, None]
            part = np.exp(a * first - b * second - np.sum(top, axis=0)[:, k, None]) * apart
            part[:, [0, -1]] *= 0.5
            # One that is left out of the range has no weight to speak of.
            part *= products.share[:, k, None] / np.maximum(np.sum(part, axis=1), 1e-300)[:, None]
            if len(cut):
                ends = _beyond(a[cut], b[cut], centre[cut] + offset[cut][:, [0, -1]])
                part[cut] *= 1.0 - np.sum(ends, axis=1, keepdims=True)
                part[np.ix_(cut, np.array([0, -1]))] += products.share[cut, k, None] * ends
            mass += part
        u, total = centre + offset, np.sum(mass, axis=1, keepdims=True)
        return -np.logaddexp(0.0, -u), mass / total, apart * special.expit(-u)


def _reach(fall: Array, slope: Array) -> Array:
    """Distance at which a log density has fallen; see ``sinc``."""
    along = slope * fall / 3.0
    return np.asarray(np.sqrt(2.0 * fall + 4.0 * along * along) + along)


def _beyond(a: Array, b: Array, ends: Array) -> Array:
    """Probability below the lower one and above the upper one of two logits (R, 2)."""
    low, high = ends.T[..., None]
    below = special.betainc(a, b, special.expit(low))
    return np.concatenate([below, special.betainc(b, a, special.expit(-high))], axis=1)


@dataclass(frozen=True)
class _Table:
    """Mixtures of N L normal laws of log θ, with what has to be taken off them.

    ``weight``, ``centre``, ``sd`` and ``surplus`` (R, N L), the last as a share of sd²; ``mean``
    and ``width`` (R,) those of log θ. Sums run along memory, so a row's bits are its own.
    """

    weight: Array
    centre: Array
    sd: Array
    surplus: Array
    mean: Array
    width: Array

    @staticmethod
    def of(products: Products, log_p: Array, mass: Array, apart: Array) -> _Table:
        resolved = _RESOLVED * np.maximum(apart, 1e-150)
        scale = _flat(0.0 * mass[:, :, None] + products.scale[:, None, :])
        sd = np.maximum(scale, np.repeat(resolved, products.scale.shape[1], axis=1))
        weight = _flat(mass[:, :, None] * products.weight[:, None, :])
        centre = _flat(log_p[:, :, None] + products.location[:, None, :])
        mean, variance = _mixed(weight, centre, np.square(scale))
        surplus = 1.0 - np.square(scale / sd)
        return _Table(weight, centre, sd, surplus, mean, np.sqrt(variance))

    def take(self, rows: NDArray[np.int64]) -> _Table:
        return _Table(**{name: values[rows] for name, values in vars(self).items()})

    def at(self, y: Array) -> tuple[Array, Array]:
        """Cdf and density of log θ at its own point (R,)."""
        z = np.clip((y[:, None] - self.centre) / self.sd, -_FAR, _FAR)
        square, half, slope = np.square(z), 0.5 * self.surplus, np.ones(())
        bell, cdf = np.exp(-0.5 * square) / np.sqrt(2.0 * np.pi), special.ndtr(z)
        if half.any():
            cdf += bell * z * half * (1.0 - 0.5 * half * (square - 3.0))
            slope = 1.0 + half * (1.0 - square + 0.5 * half * (square * (square - 6.0) + 3.0))
        return (
            np.sum(self.weight * cdf, axis=1),
            np.sum(self.weight * bell * slope / self.sd, axis=1),
        )

    def quantile(self, level: Array, begin: Array, arrived: float) -> Array:
        """Log of the quantile at each row's own level (R,), sought from ``begin`` on.

        Newton's method on the probit scale, between brackets that it narrows. A row that is done
        no longer moves, so its bits do not depend on the other rows.
        """
        low = np.min(self.centre - 9.0 * self.sd, axis=1)
        high = np.max(self.centre + 9.0 * self.sd, axis=1)
        wanted = special.ndtri(level)
        y = np.clip(begin, low, high)
        going, some = np.arange(len(y)), self
        for _ in range(_STEPS):
            cdf, density = some.at(y[going])
            below = cdf < level[going]
            low[going] = np.where(below, y[going], low[going])
            high[going] = np.where(below, high[going], y[going])
            z = special.ndtri(np.clip(cdf, 1e-300, 1.0 - 1e-16))
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                slope = density * np.sqrt(2.0 * np.pi) * np.exp(0.5 * z * z)
                moved = y[going] + (wanted[going] - z) / slope
            within = (moved > low[going]) & (moved < high[going])
            moved = np.where(within, moved, 0.5 * (low[going] + high[going]))
            done = within & (np.abs(moved - y[going]) <= arrived * self.width[going])
            done |= high[going] - low[going] <= 1e-15 * (1.0 + np.abs(moved))
            y[going] = moved
            if done.all():
                break
            if done.any():
                going = going[~done]
                some = self.take(going)
        return y
