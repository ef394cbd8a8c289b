"""Integration over a density of several variables by quasi-random importance sampling.

Points come from Student's law (ν = 8) around the mode, in coordinates in which the density is
about standard normal, with a scale of its own on each side of each axis (Geweke 1989; the
continuous form is that of Villani and Larsson 2006). The scales come from the distances at which
the log density has fallen by 2, as in INLA (Rue, Martino and Chopin 2009; Martins et al. 2013),
and by 5, where that asks for more: a log sd next to no spread falls off no faster than an
exponential, and in several dimensions the first distance alone leaves its tail to a few points.
One point in twenty is drawn with doubled scales, in defence against what the axes did not see
(Hesterberg 1995). Where the weights are uneven the law is moved and stretched to their moments.

The points are those of a scrambled Sobol sequence with a fixed seed (Owen 1997): the same data
give the same bits, and twice as many points contain the first half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.numerics.modes import LogDensity, Mode, root_of
from hbpipe.model.numerics.pareto import pareto_k

#: (points (S, V), weights (S,)) -> limits (R,), and the posterior sds that are their units.
Limits: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]

#: Degrees of freedom; share and stretch of the defensive points.
_FREEDOM, _DEFENCE, _STRETCH = 8.0, 0.05, 2.0
#: How far the log density has fallen where scales are measured, and the distances tried.
_DROPS = (2.0, 5.0)
_DISTANCES = 2.0 ** np.arange(-5.0, 6.5, 0.5)
#: Points at first and at most; the limits move less than this when enough.
FEWEST, MOST, TOLERANCE = 1024, 16384, 0.005
#: Logarithm to base 2 of the least number of points that stores are updated with.
_SHORTEST = 7
#: The law is adapted, at most so often, while fewer of its points are effective, or k̂ is higher.
_EVEN, _TAME, _ADAPTATIONS = 0.3, 0.5, 4
#: Points for each of V + 1 numbers that moments are taken from, and how often weights are halved
#: on the logarithmic scale to have them.
_POINTS, _HALVINGS = 5.0, 12
_SEED = 20240607


@dataclass(frozen=True)
class Proposal:
    """Split Student law around ``centre`` (V,).

    The axes are the columns of ``root`` (V, V); ``below`` and ``above`` (V,) the scales on both
    sides of each.
    """

    centre: Array
    root: Array
    below: Array
    above: Array

    def draw(self, uniform: Array) -> tuple[Array, Array]:
        """Points (S, V) and their log density (S,), from uniform numbers (S, V + 1)."""
        # The first dimension of the sequence is its best, and the radius matters most.
        radial, u = uniform[:, 0], uniform[:, 1:]
        side = self.below / (self.below + self.above)
        left = u < side
        tail = np.where(left, u / side, (1.0 - u) / (1.0 - side))
        normal = special.ndtri(0.5 * tail) * np.where(left, 1.0, -1.0)
        # One number decides on the defensive points and, within both kinds, on the radius.
        wide = radial < _DEFENCE
        level = np.where(wide, radial / _DEFENCE, (radial - _DEFENCE) / (1.0 - _DEFENCE))
        chi_squared = 2.0 * special.gammaincinv(0.5 * _FREEDOM, np.clip(level, 1e-12, None))
        stretch = np.where(wide, _STRETCH, 1.0) * np.sqrt(_FREEDOM / chi_squared)
        standard = normal * stretch[:, None]
        scaled = standard * np.where(left, self.below, self.above)
        log_density = self._log_density(np.sum(standard**2, axis=1))
        return self.centre + np.einsum("sk,vk->sv", scaled, self.root), log_density

    def _log_density(self, square: Array) -> Array:
        """Log density at a squared distance in scales, (S,)."""
        variables = len(self.centre)
        half = 0.5 * (_FREEDOM + variables)
        constant = special.gammaln(half) - special.gammaln(0.5 * _FREEDOM)
        constant -= 0.5 * variables * np.log(_FREEDOM * np.pi)
        constant += np.sum(np.log(2.0 / (self.below + self.above)))
        constant -= np.linalg.slogdet(self.root)[1]
        narrow = -half * np.log1p(square / _FREEDOM)
        wide = -half * np.log1p(square / (_STRETCH**2 * _FREEDOM)) - variables * np.log(_STRETCH)
        mixed = np.logaddexp(np.log1p(-_DEFENCE) + narrow, np.log(_DEFENCE) + wide)
        return np.asarray(constant + mixed)


@dataclass(frozen=True)
class Weighted:
    """Weighted points of a density.

    ``points`` (S, V); ``log_ratio`` (S,) the log of density over proposal; ``moved`` the last
    movement of the limits, in posterior sds, NaN before there were two.
    """

    points: Array
    log_ratio: Array
    moved: float = np.nan

    @property
    def weight(self) -> Array:
        """Weights (S,), adding to one."""
        weight = np.exp(self.log_ratio - np.max(self.log_ratio))
        return np.asarray(weight / np.sum(weight))

    @property
    def ess(self) -> float:
        """Effective number of points, 1/Σ w² (Kong, Liu and Wong 1994)."""
        return float(1.0 / np.sum(self.weight**2))

    @property
    def pareto_k(self) -> float:
        """Pareto k̂ of the weights."""
        return pareto_k(self.weight)

    @property
    def is_tame(self) -> bool:
        """Whether averages converge as fast as those with weights of finite variance."""
        return self.pareto_k <= _TAME


def sample(density: LogDensity, mode: Mode, limits: Limits) -> Weighted:
    """Integrate: weighted points, doubled until the limits settle.

    Parameters
    ----------
    density
        The log density.
    mode
        Its mode.
    limits
        What has to settle.

    Returns
    -------
    Weighted
        Its k̂ says whether the weights are to be trusted: not above ``pareto.LIMIT``.
    """
    proposal, found = adapted(density, proposal_at(density, mode))
    before, _ = limits(found.points, found.weight)
    while len(found.points) < MOST and not (found.moved < TOLERANCE and found.is_tame):
        more = _evaluate(density, proposal, len(found.points), 2 * len(found.points))
        points = np.concatenate([found.points, more.points])
        ratio = np.concatenate([found.log_ratio, more.log_ratio])
        now, unit = limits(points, Weighted(points, ratio).weight)
        found = Weighted(points, ratio, float(np.max(np.abs(now - before) / unit, initial=0.0)))
        before = now
    return found


def shortest(found: Weighted, limits: Limits) -> Weighted:
    """Return the first points of the sequence alone, as few as give nearly the same limits.

    They are a rule of their own. Where the hyperparameters are well known a fraction of them
    does, and every store is updated with every point that is left.
    """
    wanted, unit = limits(found.points, found.weight)
    for power in range(_SHORTEST, len(found.points).bit_length() - 1):
        some = Weighted(found.points[: 2**power], found.log_ratio[: 2**power], found.moved)
        off, _ = limits(some.points, some.weight)
        if np.max(np.abs(off - wanted) / unit, initial=0.0) < 0.5 * TOLERANCE:
            return some
    return found


def proposal_at(density: LogDensity, mode: Mode) -> Proposal:
    """Split law around the mode, its scales from how far away the density has fallen."""
    root = mode.root
    axes = np.concatenate([-root.T, root.T])
    points = mode.point + _DISTANCES[:, None, None] * axes
    drop = mode.value - density(points.reshape(-1, len(root))).reshape(len(_DISTANCES), -1)
    # Of a normal density the square root of the drop is a line through 0.
    height = np.maximum.accumulate(np.sqrt(np.clip(drop, 0.0, 1e6)), axis=0)
    roots = np.sqrt(_DROPS)
    found = [np.max(np.interp(roots, side, _DISTANCES) / roots) for side in height.T]
    scale = np.array(found) / np.sqrt(2.0)
    return Proposal(mode.point, root, *np.split(scale, 2))


def adapted(density: LogDensity, proposal: Proposal) -> tuple[Proposal, Weighted]:
    """Fit the proposal to its own weighted points while these are uneven; the best one found."""
    best = found = _evaluate(density, proposal, 0, FEWEST)
    chosen = proposal
    for _ in range(_ADAPTATIONS):
        if best.is_tame and best.ess >= _EVEN * FEWEST:
            break
        proposal = fitted(found)
        found = _evaluate(density, proposal, 0, FEWEST)
        if (found.is_tame, found.ess) > (best.is_tame, best.ess):
            chosen, best = proposal, found
    return chosen, best


def tempered(found: Weighted) -> Array:
    """Weights to the largest power 1, ½, ¼, … at which enough points share them, (S,).

    One point with nearly all the weight says nothing of a scale.
    """
    enough = _POINTS * (found.points.shape[1] + 1)
    log_ratio = found.log_ratio - np.max(found.log_ratio)
    for halvings in range(_HALVINGS):
        weight = np.exp(log_ratio * 0.5**halvings)
        weight /= np.sum(weight)
        if 1.0 / np.sum(weight**2) >= enough:
            break
    return np.asarray(weight)


def fitted(found: Weighted) -> Proposal:
    """Centre, axes and scales from the moments of weighted points."""
    weight = tempered(found)
    centre = np.sum(weight[:, None] * found.points, axis=0)
    offset = found.points - centre
    covariance = np.einsum("s,si,sj->ij", weight, offset, offset)
    root = root_of(covariance)
    standard = np.linalg.solve(root, offset.T).T
    scales = []
    for side in (standard < 0, standard > 0):
        mass = np.sum(weight[:, None] * side, axis=0)
        square = np.sum(weight[:, None] * side * standard**2, axis=0)
        scales.append(np.sqrt(square / mass))
    return Proposal(centre, root, *scales)


def _evaluate(density: LogDensity, proposal: Proposal, begin: int, end: int) -> Weighted:
    """Weighted points number ``begin`` to ``end`` of the sequence."""
    points, log_density = proposal.draw(_uniform(len(proposal.centre) + 1, begin, end))
    log_ratio = density(points) - log_density
    if not np.isfinite(log_ratio).any():
        raise FitError(
            "the posterior of the hyperparameters has no density around its mode",
            expected="a density that is finite in some neighbourhood of its mode",
            remedy="give a hyperprior without gaps, or hold what is known with `fixed`",
        )
    return Weighted(points, log_ratio)


@lru_cache(maxsize=16)
def _uniform(dimensions: int, begin: int, end: int) -> Array:
    """Points of the scrambled Sobol sequence, strictly inside the unit cube; not to be changed."""
    from scipy.stats import qmc  # half a second, and most nights have only grids

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(_SEED))
    if begin:
        sequence.fast_forward(begin)
    return np.asarray(np.clip(sequence.random(end - begin), 2.0**-40, 1.0 - 2.0**-40))
