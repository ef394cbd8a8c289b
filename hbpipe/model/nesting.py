"""Nested levels platform → chain → region → store: fits, and the posterior of their groups.

``fit_nested`` takes the sketches of the finest groups and the tree above them;
``integrate_nested`` gives :class:`hbpipe.model.integration.nodes.Nodes` for every finest group,
with which ``update_pools`` updates stores as if each group were a pool of its own. That is all
that nesting changes for a store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.estimation.problem import hold, read_estimator
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Codes, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.fits import PoolFits
from hbpipe.model.geometry import geometry_of
from hbpipe.model.names import unknown
from hbpipe.model.nested.levels import NestedNodes
from hbpipe.model.nested.nodes import is_usable, nested_nodes
from hbpipe.model.nested.normal import NestedSketch, nested_family
from hbpipe.model.nested.pooled_fit import (
    Placing,
    fit_pooled,
    fit_undetermined,
    log_likelihood_of_law,
    no_data,
)
from hbpipe.model.nested.pooled_nodes import pooled_nodes
from hbpipe.model.nested.pools import pooled_family
from hbpipe.model.nested.prior import check_proper_nested, compile_nested
from hbpipe.model.nested.tree import Forest

UNCERTAINTIES = ("auto", "plug_in", "integrated")


@dataclass(frozen=True, eq=False, kw_only=True)
class NestedFits(PoolFits):
    """The fit of one root: a :class:`PoolFits` of one pool, with what its levels need.

    ``coordinates`` and hyperparameters are, for normal families, the family's own and τ² of every
    level (``tau_chain``); for families of counts those of a typical group and ``tau_chain``,
    ``tau_chain_spread``, ``correlation_chain`` (sds and correlation, between groups, of the
    location on its line and of the log spread).

    Parameters
    ----------
    levels
        Names, coarse to fine.
    parents
        For each level the number of each group's parent, (G,); zeros at the coarsest.
    groups
        The sketch of the finest groups.
    placing
        How the grids of the groups were placed; None for normal families.
    """

    levels: tuple[str, ...]
    parents: tuple[Codes, ...]
    groups: Any
    placing: Placing | None

    @property
    def model(self) -> Family:
        """The family with its levels."""
        return _with_levels(get_family(self.family), self.levels)

    def log_likelihood(self, coordinates: Array) -> Array:
        """Log marginal likelihood at any coordinates (1, D), (1,).

        Of counts on grids placed for these: those of the fit know it near the estimate only.
        """
        if self.placing is None:
            return super().log_likelihood(coordinates)
        some = self.groups.select(np.flatnonzero(np.asarray(self.groups.n_groups) > 0))
        return log_likelihood_of_law(get_family(self.family), some, coordinates[0])


def fit_nested(
    family: str | Family,
    sketch: Any,
    parents: Sequence[Codes],
    levels: Sequence[str],
    *,
    estimator: str = "ml",
    fixed: Mapping[str, Any] | None = None,
    hyperprior: Any = None,
    start: Mapping[str, Any] | None = None,
) -> NestedFits:
    """Estimate the hyperparameters of stores in groups within groups.

    Parameters
    ----------
    family
        Its name, or the family. Normal families take any number of levels, families of counts one.
    sketch
        The family's sketch with the finest groups as pools.
    parents
        For each level, coarse to fine, (G,) the number of each group's parent in the level
        above; zeros at the coarsest. A finest group's number is that of its pool.
    levels
        The names of the levels, coarse to fine.
    estimator
        ``ml``, ``reml`` or ``map`` for normal families. Families of counts are always fitted
        by ``map``, the mode in the coordinates of the fit: the likelihood alone is often highest
        where groups do not differ at all.
    fixed, hyperprior, start
        As in :func:`hbpipe.model.fit.fit`, with the hyperparameters of the levels beside the
        family's own.

    Raises
    ------
    FitError
        If an argument is wrong, or the family has no nested levels.
    """
    model = get_family(family) if isinstance(family, str) else family
    names, held = tuple(levels), dict(fixed or {})
    codes = tuple(np.asarray(code, np.int64) for code in parents)
    _check(model, estimator, names)
    is_normal = geometry_of(model).location_is_analytic
    with_levels = _with_levels(model, names, frozenset(held))
    hold(with_levels, {**(start or {}), **held}, 1)  # wrong names first
    if not is_normal:
        found, placing = _fit_counts(model, sketch, names[0], held, hyperprior, start)
        return NestedFits(
            **vars(found), levels=names, parents=codes, groups=sketch, placing=placing
        )
    nested = NestedSketch.of(sketch, Forest.of(codes))
    taus = with_levels.hyperparameters[-len(names) :]
    prior = compile_nested(model, hyperprior, nested, taus, frozenset(held))
    found = fit_pools(
        with_levels,
        nested,
        estimator=estimator,
        fixed=held,
        hyperprior=prior,
        start=start,
    )
    return NestedFits(**vars(found), levels=names, parents=codes, groups=sketch, placing=None)


def _fit_counts(
    family: Family,
    sketch: Any,
    level: str,
    fixed: Mapping[str, Any],
    hyperprior: Any,
    start: Mapping[str, Any] | None,
) -> tuple[PoolFits, Placing]:
    """Fit the law of the groups that have data."""
    stores = np.asarray(sketch.n_groups)
    seen = np.flatnonzero(stores > 0)
    if not len(seen):
        return fit_undetermined(family, level, fixed, no_data())
    some = sketch.select(seen)
    found, placing = fit_pooled(
        family, some, level, fixed=fixed, hyperprior=hyperprior, start=start
    )
    return replace(found, n_groups=np.array([stores.sum()])), placing


def _with_levels(
    family: Family, levels: tuple[str, ...], fixed: frozenset[str] = frozenset()
) -> Family:
    if geometry_of(family).location_is_analytic:
        return nested_family(family, levels, fixed)
    return pooled_family(family, levels[0])


def _check(family: Family, estimator: str, levels: tuple[str, ...]) -> None:
    """Say why there is no such nested fit."""
    kind, _ = read_estimator(family, estimator)
    if kind == "moments":
        raise FitError(
            "nested levels have no moment estimators",
            expected="ml, reml or map",
            remedy="use estimator='ml'",
        )
    counts = not geometry_of(family).location_is_analytic
    if counts and len(levels) > 1:
        raise FitError(
            f"{family.name} has {len(levels)} nested levels",
            where={"levels": ", ".join(levels)},
            expected="one level with families of counts; any number with normal families",
            remedy="keep the level whose groups differ most",
        )
    if not counts and family.location_message is None:
        raise FitError(
            f"{family.name} has no nested levels",
            expected="a family that says what its stores know of their mean",
            remedy="use normal, normal_known_variance, or a family of counts",
        )


def integrate_nested(fits: NestedFits, *, uncertainty: str = "auto") -> NestedNodes:
    """Posterior of all groups, as nodes that a worker can use.

    Parameters
    ----------
    fits
        From :func:`fit_nested`.
    uncertainty
        ``plug_in`` takes the hyperparameters as known and the groups' means as what they are,
        unknown quantities with a posterior; ``integrated`` averages over the posterior of the
        hyperparameters. ``auto`` integrates, except that for families of counts it takes the
        law of the groups as known where both its log sds have a curvature of 80 or more.

    Raises
    ------
    FitError
        If the method is unknown or the posterior of the hyperparameters improper.
    """
    if uncertainty not in UNCERTAINTIES:
        raise unknown("uncertainty of nested levels", uncertainty, UNCERTAINTIES)
    family = get_family(fits.family)
    if not geometry_of(family).location_is_analytic:
        return pooled_nodes(family, fits, uncertainty)
    if uncertainty != "plug_in" and is_usable(family, fits):
        check_proper_nested(fits.hyperprior, fits.sketch, frozenset(fits.fixed))
    return nested_nodes(family, fits, uncertainty)


def own_values(family: Family, fixed: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is fixed of the family's own hyperparameters, without those of the levels."""
    return {name: v for name, v in (fixed or {}).items() if name in family.hyperparameters}
