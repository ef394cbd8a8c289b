"""The log posterior of the hyperparameters, in working variables, for many pools at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.densities import Term
from hbpipe.model.family import Array, Codes, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, Geometry
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet

#: A mode is found when a Newton step promises less than this gain in log density.
PRECISE = 1e-12
#: Good enough to centre nodes and to see where a density matters.
ROUGH = 1e-3
_ITERATIONS = 60
#: Rows of sketches that are evaluated together.
_ROWS = 2**16
#: No step is longer than this along a logarithm or a logit.
_LONGEST = 1.5


class Hyperprior(Protocol):
    """What a target needs of a compiled hyperprior, as ``hyperpriors.LogPrior`` is one."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """Its factors."""

    @property
    def measure(self) -> tuple[str, ...]:
        """The named parameters whose density it is."""

    def in_working(self, working: list[Jet]) -> Jet:
        """Log density with respect to the working variables."""

    def select(self, pools: Codes) -> Hyperprior:
        """Return the hyperprior of some pools."""


@dataclass(frozen=True)
class Target:
    """Log marginal likelihood times hyperprior of ``G`` pools.

    ``held`` (G, D) has the family's coordinates that are known and NaN for the free ones; the
    same coordinates are free in every pool. A *point* is (G, V): all working variables.
    """

    family: Family
    geometry: Geometry
    sketch: Any
    prior: Hyperprior
    held: Array

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.held)

    @property
    def free(self) -> tuple[int, ...]:
        """The working variables that are not held."""
        if not self.n_pools:
            return ()
        return tuple(int(i) for i in np.flatnonzero(np.isnan(self.held[0])))

    @property
    def quadratic(self) -> tuple[int, ...]:
        """Places in which the log density is exactly quadratic, so that no step is too long."""
        return (LOCATION,) if self.geometry.location_is_analytic else ()

    def select(self, pools: Codes) -> Self:
        """Return the target of the pools with these numbers, some of them several times."""
        return replace(
            self,
            sketch=self.sketch.select(pools),
            prior=self.prior.select(pools),
            held=self.held[pools],
        )

    def repeat(self, times: int) -> Self:
        """Return the target of every pool ``times`` times in a row."""
        if times == 1:
            return self
        return self.select(np.repeat(np.arange(self.n_pools), times))

    def at_once(self, points: int) -> int:
        """How many points of every pool to evaluate together, in bounded memory."""
        return int(np.clip(_ROWS // max(1, self.sketch.n_rows), 1, points))

    def blockwise(
        self, function: Callable[..., tuple[Array, ...]], *tables: Array
    ) -> tuple[Array, ...]:
        """Evaluate at K points of every pool, in bounded memory.

        ``tables`` are (G, K, ...). ``function`` takes the target of every pool k times in a row
        and of each table (G k, ...); what it gives, (G k, ...), is put together as (G, K, ...).
        """
        points = tables[0].shape[1]
        length = self.at_once(points)
        many, parts = self.repeat(length), []
        for begin in range(0, points, length):
            block = [table[:, begin : begin + length] for table in tables]
            width = block[0].shape[1]
            many = many if width == length else self.repeat(width)
            found = function(many, *(rows.reshape(-1, *rows.shape[2:]) for rows in block))
            parts.append([rows.reshape(self.n_pools, width, *rows.shape[1:]) for rows in found])
        return tuple(np.concatenate(part, axis=1) for part in zip(*parts, strict=True))

    def evaluate(self, point: Array) -> Jet:
        """Log posterior density with respect to the free working variables, at a point.

        Derivatives are with respect to all working variables, zero for held ones.
        """
        working = self._working(point)
        coordinates = self.geometry.coordinates(working)
        at = np.stack([jet.value for jet in coordinates], axis=1)
        value, gradient, hessian = self.family.log_marginal(self.sketch, at)
        return jets.chain(value, gradient, hessian, coordinates) + self.prior.in_working(working)

    def log_density(self, point: Array) -> Array:
        """Evaluate the same without derivatives, (G,), at a fraction of the cost."""
        regression = self.family.regression
        if regression is None or regression.log_probability is None:
            return self.evaluate(point).value
        bare = [jets.constant(values) for values in self.complete(point).T]
        at = np.stack([jet.value for jet in self.geometry.coordinates(bare)], axis=1)
        likelihood = regression.log_probability(self.sketch, at)
        return np.asarray(likelihood + self.prior.in_working(bare).value)

    def given_spread(self, log_spread: Array) -> Target:
        """Return the target at given log spreads (G,), whose sums are shorter.

        Where the user holds the spread's coordinate, the log spread may move with the location or
        the noise, and there is nothing to gain.
        """
        if SPREAD not in self.free:
            return self
        likelihood = self.geometry.given_spread(self.sketch, log_spread)
        return TargetGivenSpread(self.family, self.geometry, likelihood, self.prior, self.held)

    def complete(self, point: Array) -> Array:
        """Return the point with held variables at their values."""
        if len(self.free) == point.shape[1]:
            return point
        return np.stack([jet.value for jet in self._working(point)], axis=1)

    def _working(self, point: Array) -> list[Jet]:
        working = jets.variables(point)
        for place in (LOCATION, NOISE):
            if place < self.geometry.n_working and place not in self.free:
                working[place] = working[place] * 0.0 + self.held[:, place]
        if SPREAD not in self.free:
            working[SPREAD] = self.geometry.log_spread(self.held[:, SPREAD], working)
        return working


@dataclass(frozen=True)
class TargetGivenSpread(Target):
    """The same at given spreads, as a function of the other variables.

    ``sketch`` is the family's likelihood there. Points have the given log spreads; derivatives
    along these are without meaning.
    """

    def evaluate(self, point: Array) -> Jet:
        """Log posterior density at a point, with derivatives in the other variables."""
        complete = self.complete(point)
        prior = self.prior.in_working(jets.variables(complete))
        return Jet(*self.sketch.derivatives(complete)) + prior

    def log_density(self, point: Array) -> Array:
        """Evaluate the same without derivatives, (G,)."""
        complete = self.complete(point)
        prior = self.prior.in_working([jets.constant(values) for values in complete.T])
        return np.asarray(self.sketch.value(complete) + prior.value)

    def given_spread(self, log_spread: Array) -> Target:
        """Return itself: the spreads are those that it was made for."""
        return self


def climb(
    target: Target, point: Array, over: tuple[int, ...], enough: float = PRECISE
) -> tuple[Array, Jet]:
    """Maximise the log posterior over some working variables, the others as they are.

    Newton's method with steps shortened until the density rises, until the gain that the next
    step promises was below ``enough``. A pool that has converged no longer moves, so its result
    does not depend on the other pools.

    Returns
    -------
    The point (G, V) and the jet there.
    """
    point = target.complete(point).copy()
    jet = target.evaluate(point)
    moving, some = np.arange(target.n_pools if over else 0), target
    for _ in range(_ITERATIONS):
        if not len(moving):
            break
        at = jet.take(moving)
        step = _newton_step(some, at, over)
        promised = 0.5 * np.sum(step * at.gradient, axis=1)
        trial, at_trial, taken = _shorten(some, point[moving], at, step)
        point[moving[taken]] = trial[taken]
        jet.put(moving[taken], at_trial.take(taken))
        going = taken & (promised > enough)
        if not going.all():
            moving, some = moving[going], some.select(np.flatnonzero(going))
    return point, jet


def _newton_step(target: Target, jet: Jet, over: tuple[int, ...]) -> Array:
    """Newton step with the curvature made negative definite, limited in length."""
    places = list(over)
    curvature = -jet.hessian[:, places][:, :, places]
    eigenvalues, vectors = np.linalg.eigh(curvature)
    size = np.max(np.abs(eigenvalues), axis=1, keepdims=True)
    eigenvalues = np.maximum(np.abs(eigenvalues), 1e-10 * size + 1e-300)
    along = np.einsum("gij,gi->gj", vectors, jet.gradient[:, places]) / eigenvalues
    step = np.zeros_like(jet.gradient)
    step[:, places] = np.einsum("gij,gj->gi", vectors, along)
    logarithmic = [place for place in places if place not in target.quadratic]
    if logarithmic:
        longest = np.max(np.abs(step[:, logarithmic]), axis=1)
        step *= np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-300))[:, None]
    return step


def _shorten(
    target: Target, point: Array, jet: Jet, step: Array
) -> tuple[Array, Jet, NDArray[np.bool_]]:
    """Halve the step of each pool until its density does not fall; say where that succeeded."""
    fraction = np.ones(len(point))
    for _ in range(20):
        trial = target.complete(point + fraction[:, None] * step)
        at_trial = target.evaluate(trial)
        worse = ~(at_trial.value >= jet.value - 1e-9 * (1.0 + np.abs(jet.value)))
        if not worse.any():
            break
        fraction = np.where(worse, 0.5 * fraction, fraction)
    return trial, at_trial, ~worse
