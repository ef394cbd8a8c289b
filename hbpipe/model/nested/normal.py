"""Nested levels of a normal family: chains of regions of stores, as one more family.

With a root mean μ and levels from coarse to fine (Gelman and Hill 2007, chapter 12)

    μ_chain ~ N(μ, τ_chain²),    μ_region ~ N(μ_chain, τ_region²),    θ_store ~ N(μ_region, τ²).

:func:`nested_family` adds one coordinate τ_level² for each level to the family's own, and its
sketch is a :class:`NestedSketch`: sketches of the finest groups, and the tree above them. One
pass of messages up the tree gives the marginal likelihood of a root with gradient and Hessian.
A fit of ``R`` roots is then a fit of ``R`` pools like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Degeneracy,
    Derivatives,
    Family,
    Hyperparameters,
)
from hbpipe.model.geometry import lower_median
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.nested.messages import Message, collect, descend, widen
from hbpipe.model.nested.names import spread_of
from hbpipe.model.nested.tree import Forest
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.jets import Jet


@dataclass(frozen=True)
class NestedSketch:
    """Sketches of the finest groups, in the order of the tree above them.

    Its pools are the roots: ``G = R``.
    """

    forest: Forest
    pools: Any

    @classmethod
    def of(cls, sketch: Any, forest: Forest) -> NestedSketch:
        """Put a sketch whose pools are the finest groups, by number, below a tree."""
        return cls(forest, sketch.select(forest.finest))

    @property
    def n_pools(self) -> int:
        """The number of roots."""
        return self.forest.n_roots

    @property
    def n_rows(self) -> int:
        """Rows of all tables, groups included."""
        return int(self.pools.n_rows) + sum(len(level) for level in self.forest.levels)

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with data under each root."""
        return self.units[-1]

    @cached_property
    def whole(self) -> Any:
        """The sketch of all stores of each root in one pool, without any levels."""
        return self.pools.regroup(self.forest.roots()[-1], self.n_pools)

    @cached_property
    def children(self) -> list[NDArray[np.int64]]:
        """For each level, coarse to fine, how many children with data its groups have, (G,) each.

        The children of the finest groups are stores.
        """
        counts = [np.asarray(self.pools.n_groups)]
        for level in self.forest.levels[:0:-1]:
            counts.append(np.bincount(level.pool[counts[-1] > 0], minlength=level.n_pools))
        return counts[::-1]

    @property
    def units(self) -> list[NDArray[np.int64]]:
        """For each level, coarse to fine, and for stores, those with data under each root, (R,)."""
        roots = self.forest.roots()
        groups = [
            np.bincount(root[count > 0], minlength=self.n_pools)
            for root, count in zip(roots, self.children, strict=True)
        ]
        stores = np.bincount(roots[-1], self.pools.n_groups, self.n_pools)
        return [*groups, stores.astype(np.int64)]

    def median_children(self) -> list[Array]:
        """For each level the median number of children with data of its groups, (R,) each."""
        return [
            lower_median(
                Rows(self.n_pools, root, {"size": count, "count": np.ones(len(count))}),
                "size",
                "count",
            )
            for root, count in zip(self.forest.roots(), self.children, strict=True)
        ]

    def select(self, pools: Codes) -> NestedSketch:
        """Return the sketch of some roots."""
        forest, places = self.forest.select(pools)
        return NestedSketch(forest, self.pools.select(places))


@dataclass(frozen=True)
class Upward:
    """Messages about the means of the roots, and about those of the groups of every level."""

    root: Message
    levels: list[Message]

    def downward(self, forest: Forest, spreads: Array, root: tuple[Array, Array]) -> list[Any]:
        """Posterior mean and variance of the groups of every level, coarse to fine.

        Parameters
        ----------
        forest
            The tree.
        spreads
            (R, L) τ² of every level.
        root
            Posterior mean and variance of the roots' means, (R,) each.
        """
        found, (mean, variance) = [], root
        steps = zip(self.levels, forest.levels, forest.roots(), spreads.T, strict=True)
        for message, level, roots, spread in steps:
            mean, variance = descend(message, spread[roots], level.pool, mean, variance)
            found.append((mean, variance))
        return found


def upward(family: Family, sketch: NestedSketch, coordinates: Array) -> Upward:
    """Pass messages from the stores up to the roots, with derivatives in the coordinates.

    Parameters
    ----------
    family
        The family of the stores.
    sketch
        ``R`` trees.
    coordinates
        (R, D): the family's own, then τ² of every level.
    """
    own, forest = len(family.coordinates), sketch.forest
    assert family.location_message is not None, "checked before a nested fit"
    leaf = coordinates[forest.roots()[-1], :own]
    message = family.location_message(sketch.pools, leaf, derivatives=True)
    spreads = jets.variables(coordinates)[own:]
    return ascend(message.embed(coordinates.shape[1]), forest, spreads)


def ascend(message: Message, forest: Forest, spreads: list[Jet]) -> Upward:
    """Pass messages from the finest groups up to the roots.

    Parameters
    ----------
    message
        About the means of the finest groups.
    forest
        The trees.
    spreads
        τ² of every level, (R,) each.
    """
    found = []
    steps = zip(forest.levels, spreads, forest.roots(), strict=True)
    for level, spread, root in reversed(list(steps)):
        found.append(message)
        message = collect(widen(message, spread.take(root)), level.pool, level.n_pools)
    return Upward(message, found[::-1])


def nested_family(
    family: Family, levels: tuple[str, ...], fixed: frozenset[str] = frozenset()
) -> Family:
    """Return the family with nested levels, coarse to fine, above its stores.

    What a level's spread cannot be told from depends on what is ``fixed``.
    """
    own = len(family.coordinates)
    names = tuple(map(spread_of, levels))
    axes = tuple(
        Coordinate(f"tau_squared_{level}", 0.0, np.inf, name, spread=True)
        for level, name in zip(levels, names, strict=True)
    )
    return replace(
        family,
        hyperparameters=family.hyperparameters + names,
        coordinates=family.coordinates + axes,
        moments={"equal_shares": partial(_equal_shares, family)},
        scale=partial(_scale, family),
        degeneracies=partial(_degeneracies, family, names, fixed),
        log_marginal=partial(_log_marginal, family),
        log_restriction=partial(_log_restriction, family),
        from_coordinates=partial(_from_coordinates, family, own, names),
        to_coordinates=partial(_to_coordinates, family, names),
        geometry=None,
    )


def _log_marginal(family: Family, sketch: NestedSketch, coordinates: Array) -> Derivatives:
    """Log marginal likelihood of each root."""
    location = jets.variables(coordinates)[0]
    jet = upward(family, sketch, coordinates).root.at(location)
    return jet.value, jet.gradient, jet.hessian


def _log_restriction(family: Family, sketch: NestedSketch, coordinates: Array) -> Derivatives:
    """½ log 2π − ½ log precision: the integral over a flat prior on the root's mean."""
    precision = upward(family, sketch, coordinates).root.precision
    known = precision + np.where(precision.value == 0, 2.0 * np.pi, 0.0)
    jet = (jets.log(known) - LOG_2PI) * -0.5
    return jet.value, jet.gradient, jet.hessian


def _equal_shares(family: Family, sketch: NestedSketch, held: Array) -> Array:
    """Share the spread of all stores under a root equally between the levels: a start."""
    own = len(family.coordinates)
    first = family.start(sketch.whole, held[:, :own])
    sources = held.shape[1] - own + 1
    spread = first[:, [family.spreads[0]]] / sources
    return np.hstack(
        [np.where(np.arange(own) == family.spreads[0], spread, first)] + [spread] * (sources - 1)
    )


def _scale(family: Family, sketch: NestedSketch) -> Array:
    """Return the scale of the family without levels; every spread has that of the stores'."""
    own = family.scale(sketch.whole)
    return np.hstack([own] + [own[:, [family.spreads[0]]]] * len(sketch.forest.levels))


def _degeneracies(
    family: Family, names: tuple[str, ...], fixed: frozenset[str], sketch: NestedSketch
) -> tuple[Degeneracy, ...]:
    """Those of the family without levels, and levels that do not differ from their neighbours."""
    width = ((0, 0), (0, len(sketch.forest.levels)))
    cases = [
        replace(case, limit=np.pad(case.limit, width)) for case in family.degeneracies(sketch.whole)
    ]
    own = np.zeros((sketch.n_pools, len(family.coordinates)), bool)
    alone = np.hstack([own, _alone(sketch, names, fixed)])
    lonely = Degeneracy(
        "lone_groups",
        np.asarray(alone.any(axis=1)),
        limit=np.where(alone, 0.0, np.nan),
        identified=True,
        found="a level has one group only, or each of its groups has one member, so its spread "
        "cannot be told from that of the level above or below",
        remedy="leave the level out, fix its tau, or give a proper hyperprior for it and "
        "estimator='map'",
    )
    return (*cases, lonely)


def _alone(
    sketch: NestedSketch, names: tuple[str, ...], fixed: frozenset[str]
) -> NDArray[np.bool_]:
    """Levels whose spread the data cannot tell from something unknown, (R, L).

    There is a single group under the root, whose distance from the root's mean could be
    anything; or each group has a single child, and the child's spread says the same.
    """
    units, below = sketch.units, (*names[1:], "tau")
    alone = [
        (units[i] == 1) & ("mu" not in fixed) | (units[i] == units[i + 1]) & (name not in fixed)
        for i, name in enumerate(below)
    ]
    return np.stack(alone, axis=1)


def _from_coordinates(
    family: Family, own: int, names: tuple[str, ...], coordinates: Array
) -> dict[str, Array]:
    taus = {name: np.sqrt(coordinates[..., own + i]) for i, name in enumerate(names)}
    return family.from_coordinates(coordinates[..., :own]) | taus


def _to_coordinates(
    family: Family, names: tuple[str, ...], hyperparameters: Hyperparameters
) -> Array:
    own = {name: v for name, v in hyperparameters.items() if name not in names}
    first = family.to_coordinates(own)
    squares = [np.square(np.asarray(hyperparameters.get(name, np.nan))) for name in names]
    shape = np.broadcast_shapes(first.shape[:-1], *(square.shape for square in squares))
    columns = [np.broadcast_to(first, (*shape, first.shape[-1]))]
    columns += [np.broadcast_to(square, shape)[..., None] for square in squares]
    return np.concatenate(columns, axis=-1)
