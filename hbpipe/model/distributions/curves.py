"""Whole cdfs of mixtures, each on a uniform grid of its own on the law's line.

One cdf at many points for little more than the price of its density: Beta and Gamma mixtures by
the sinc rule (``sinc``), the others by sums of the density, or from the law's cdf where a grid
cannot resolve it. Between points a cubic with the right values and slopes is within 1e-4 of the
cdf, and typically within 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.laws import STUDENT_T, Law, Parameters
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.distributions.sinc import sinc_cdf
from hbpipe.model.family import Array

Index: TypeAlias = NDArray[np.int64]

#: A grid ends so many sds from the mean of a component, of Student's t at these probabilities.
_REACH, _TAIL = 5.0, 1e-5
#: Points of a grid for each sd of its narrowest component, and at most.
_PER_SD, _LEAST, _MOST = 2.5, 8, 512
#: Where a cdf is as near to 0 or 1, its row ends.
_NOTHING = 1e-7
#: A component whose sd has so many steps of a grid may be summed on it.
_RESOLVED = 2.0
#: Normal scores beyond which a law has no weight to speak of, however rough they are; and the
#: shape from which on they are within 1e-4 of the cdf.
_CERTAIN, _LARGE = 6.0, 60.0
#: A point mass is given a width of so much of its distance from 0, which no output shows.
_POINT = 1e-11
#: Numbers that one array may hold.
_LENGTH = 2**18


@dataclass(frozen=True)
class Curves:
    """Cdfs of ``R`` laws.

    Row ``r`` has ``points[r]`` points from ``low[r]`` on, ``step[r]`` apart; their cdf begins at
    ``start[r]`` of ``cdf``. ``slope`` has the density in steps, ``mean`` and ``sd`` are those on
    the line, (R,).
    """

    low: Array
    step: Array
    mean: Array
    sd: Array
    points: Index
    start: Index
    cdf: Array
    slope: Array

    @property
    def high(self) -> Array:
        """The last point of each grid, (R,)."""
        return np.asarray(self.low + self.step * (self.points - 1))

    def take(self, rows: Index) -> Curves:
        """Return some rows; their points stay where they are."""
        names = ("low", "step", "mean", "sd", "points", "start")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    @staticmethod
    def joined(parts: Sequence[tuple[Index, Curves]]) -> Curves:
        """Put curves together; each part comes with the numbers of its rows in the whole."""
        lengths = [len(part.cdf) for _, part in parts]
        offsets = np.cumsum(lengths) - lengths
        moved = [
            replace(part, start=part.start + offset)
            for (_, part), offset in zip(parts, offsets.tolist(), strict=True)
        ]
        whole = Curves(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in moved])
                for field in fields(Curves)
            }
        )
        return whole.take(np.argsort(np.concatenate([rows for rows, _ in parts])))

    def at(self, rows: Index, u: Array) -> Array:
        """Cdf of each of ``rows`` at its own ``u``, on the line."""
        return self.with_density(rows, u)[0]

    def with_density(self, rows: Index, u: Array) -> tuple[Array, Array]:
        """Cdf and density of each of ``rows`` at its own ``u``; the density is within 2 %."""
        step = self.step[rows]
        place = (u - self.low[rows]) / step
        left = np.clip(place.astype(np.int64), 0, self.points[rows] - 2)
        t = np.clip(place - left, 0.0, 1.0)
        at = self.start[rows] + left
        low = self.cdf[at]
        rise = self.cdf[at + 1] - low
        # Hermite's cubic, by the differences of both slopes from the chord's.
        first, second = self.slope[at] - rise, self.slope[at + 1] - rise
        rest = 1.0 - t
        bend = rest * first - t * second
        cdf = np.clip(low + t * (rise + rest * bend), 0.0, 1.0)
        slope = rise + (rest - t) * bend - t * rest * (first + second)
        return cdf, np.maximum(slope, 0.0) / step


def curves(mixture: Mixture) -> Curves:
    """Compute the cdfs of R mixtures; a row's numbers do not depend on the other rows."""
    law, count = mixture.law, len(mixture.weight)
    low, step, points = np.empty(count), np.empty(count), np.zeros(count, np.int64)
    parts: list[tuple[Index, Array, Array]] = []
    left = np.arange(count)
    if law.kernel is not None:
        for rows, origin, width, cdf, density in sinc_cdf(
            law.kernel, mixture.weight, *mixture.parameters
        ):
            low[rows], step[rows], points[rows] = origin, width, cdf.shape[1]
            parts.append((rows, cdf, density * width[:, None]))
        left = np.flatnonzero(points == 0)
    if len(left):
        low[left], step[left], points[left], widths = _range(mixture.take(left))
        parts += _pointwise(mixture, left, widths, low, step, points)
    start = np.cumsum(points) - points
    flat, slope = np.empty(int(points.sum())), np.empty(int(points.sum()))
    for rows, cdf, steps in parts:
        at = start[rows][:, None] + np.arange(cdf.shape[1])
        flat[at], slope[at] = cdf, steps
    mean, sd = _moments(points, start, slope)
    below, above = (
        np.add.reduceat(empty, start, dtype=np.int64) - 1
        for empty in (flat < _NOTHING, flat > 1.0 - _NOTHING)
    )
    below, above = np.maximum(below, 0), np.maximum(above, 0)
    mean, sd, low = low + step * mean, step * sd, low + step * below
    return Curves(low, step, mean, sd, points - below - above, start + below, flat, slope)


def _moments(points: Index, start: Index, slope: Array) -> tuple[Array, Array]:
    """Mean and sd of each row in steps of its grid, (R,)."""
    place = np.arange(len(slope)) - np.repeat(start, points)
    mass = np.add.reduceat(slope, start)
    mean = np.add.reduceat(slope * place, start) / mass
    square = (place - np.repeat(mean, points)) ** 2
    return mean, np.sqrt(np.add.reduceat(slope * square, start) / mass)


def _range(mixture: Mixture) -> tuple[Array, Array, Index, Array]:
    """Return where the grid of each row begins, its step and length, and widths of components."""
    law, present = mixture.law, mixture.weight > 0
    ends = [_ends(law, mixture.parameters, side) for side in (-1.0, 1.0)]
    low = np.min(np.where(present, ends[0], np.inf), axis=1)
    high = np.max(np.where(present, ends[1], -np.inf), axis=1)
    point = _POINT * np.maximum(np.abs(low), np.abs(high)) + 1e-250
    low, high = low - point, high + point
    widths = (ends[1] - ends[0]) / (2.0 * _REACH)
    if law.kernel is not None:
        # A shape far below one has a tail of any length, and a bend as wide as 1.
        widths = np.minimum(widths, 1.0)
    width = np.min(np.where(present, widths, np.inf), axis=1)
    wanted = _PER_SD * (high - low) / np.maximum(width, (high - low) / _MOST)
    points = np.minimum(8 * (1 + wanted.astype(np.int64) // 8), _MOST)
    points[width == 0] = _LEAST
    return low, (high - low) / (points - 1), points, widths


def _ends(law: Law, parameters: Parameters, side: float) -> Array:
    if law is STUDENT_T or law.kernel is not None:
        at = np.asarray(_TAIL if side < 0 else 1.0 - _TAIL)
        return law.to_line(law.ppf(*parameters, at))
    mean, sd = law.mean_sd(*parameters)
    return np.asarray(mean + side * _REACH * sd)


def _pointwise(
    mixture: Mixture,
    rows: Index,
    widths: Array,
    low: Array,
    step: Array,
    points: Index,
) -> Iterator[tuple[Index, Array, Array]]:
    """Yield rows with grids of equal length, their cdfs and slopes, from the law's own functions.

    Parameters
    ----------
    rows
        Which of the mixture's rows are wanted; ``widths`` (rows, K) are of their components.
    low, step, points
        The grids of all rows.
    """
    for length in np.unique(points[rows]).tolist():
        same = np.flatnonzero(points[rows] == length)
        some = max(1, _LENGTH // (length * mixture.weight.shape[1]))
        for begin in range(0, len(same), some):
            block = same[begin : begin + some]
            at = rows[block]
            u = low[at, None] + step[at, None] * np.arange(length)
            wide = widths[block] >= _RESOLVED * step[at, None]
            cdf, slope = _cdf_on_grid(mixture.take(at), wide, u, step[at, None])
            yield at, np.clip(cdf, 0.0, 1.0), slope


def _cdf_on_grid(
    mixture: Mixture, wide: NDArray[np.bool_], u: Array, step: Array
) -> tuple[Array, Array]:
    """Give cdf and slope of rows at points ``u`` (R, N) of uniform grids.

    The density of components that are ``wide`` (R, K) beside the step is summed, which is many
    times faster than their cdf; what is narrow has its cdf at the few points that lie within.
    """
    law, weight = mixture.law, np.where(wide, mixture.weight, 0.0)
    near = partial(_near_cdf, law)
    slope = step * _mixed(replace(mixture, weight=weight), law.density, u)
    cdf = _summed(slope)
    lost = np.abs(cdf[:, -1] - weight.sum(axis=1)) >= 2.0 * _TAIL
    narrow = np.where(lost[:, None], mixture.weight, mixture.weight - weight)
    some = np.flatnonzero(narrow.any(axis=1))
    if len(some):
        part = replace(mixture.take(some), weight=narrow[some])
        sharp = _mixed(part, near, law.from_line(u[some]))
        cdf[some] = sharp + np.where(lost[some, None], 0.0, cdf[some])
        slope[some] = _slopes(cdf[some])
    return cdf, slope


def _mixed(mixture: Mixture, function: Callable[..., Array], at: Array) -> Array:
    """Average a function of the law over the components of each row, at points (R, N)."""
    values = function(*(p[:, None, :] for p in mixture.parameters), at[:, :, None])
    return np.asarray(np.einsum("rnk,rk->rn", values, mixture.weight))


def _near_cdf(law: Law, *arguments: Array) -> Array:
    """Evaluate a law's cdf by its normal score where that will do: a narrow law's nearly always."""
    with np.errstate(divide="ignore", invalid="ignore"):  # of a point mass
        score, *given = np.broadcast_arrays(law.score(*arguments), *arguments)
        cdf = special.ndtr(score)
    rough = ~(np.abs(score) >= _CERTAIN)
    if law.shape is not None:
        rough &= law.shape(given[0], given[1]) < _LARGE
    cdf[rough] = law.cdf(*(values[rough] for values in given))
    return np.asarray(cdf)


def _summed(mass: Array) -> Array:
    """Integrate a density times the step, (R, N), from far below up to each point.

    The sum of Euler and Maclaurin, to the third derivative: all of them vanish at the far end.
    """
    f = np.pad(mass, ((0, 0), (2, 2)))
    near, far = f[:, 3:-1] - f[:, 1:-3], f[:, 4:] - f[:, :-4]
    first, third = (8.0 * near - far) / 12.0, 0.5 * far - near
    return np.asarray(np.cumsum(mass, axis=1) - 0.5 * mass - first / 12.0 + third / 720.0)


def _slopes(cdf: Array) -> Array:
    """Differences of fourth order of values at equal distances, (R, N)."""
    padded = np.pad(cdf, ((0, 0), (2, 2)), mode="edge")
    near, far = padded[:, 3:-1] - padded[:, 1:-3], padded[:, 4:] - padded[:, :-4]
    return np.asarray(np.maximum((8.0 * near - far) / 12.0, 0.0))
