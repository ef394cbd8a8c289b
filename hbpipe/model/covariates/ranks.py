"""Pools whose stores do not determine every coefficient: a chain without malls has no mall effect.

In a pool of a batch the columns that follow from those before them, over its stores with data, are
left out (as R's ``lm`` and lme4 do): their coefficients are held at 0. A prior mean is then defined
for the covariates x that these stores span, and for no other: x'β is *estimable* when x has no part
along the null space of their rows (Searle 1971, *Linear Models*, section 5.4).

Pools with the same columns left out are fitted together, with as many covariates as they have left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.covariates.sketch import CovariateSketch
from hbpipe.model.covariates.units import orthogonal
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Codes, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.fits import PoolFits
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.pooling import CompletePooling, complete_pooling

#: A store's part along the null space that is rounding, as a share of what it is the sum of.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Span:
    """What the stores with data of ``G`` pools determine.

    Parameters
    ----------
    determined
        (G, P) False for columns that follow from those before them.
    null
        (G, P, P) in the columns that are not determined, combinations that vanish on every store
        with data; 0 in the others.
    """

    determined: NDArray[np.bool_]
    null: Array

    @classmethod
    def of(cls, sketch: CovariateSketch) -> Span:
        """Find it; pools without data, which nothing spans, keep all columns."""
        matrix, dependent = orthogonal(sketch.rows, sketch.rows["stores"])
        left_out = dependent & (sketch.n_groups > 0)[:, None]
        return cls(~left_out, np.where(left_out[:, None, :], matrix, 0.0))

    def reaches(self, covariates: Array, pools: Codes) -> NDArray[np.bool_]:
        """Whether stores with covariates (J, P) in ``pools`` (J,) have a prior mean, (J,)."""
        null = self.null[pools]
        part = np.abs(np.einsum("jp,jpq->jq", covariates, null))
        size = np.einsum("jp,jpq->jq", np.abs(covariates), np.abs(null))
        return np.asarray((part <= _ROUNDING * size).all(axis=1))


@dataclass(frozen=True)
class RankedFits:
    """Fits of ``G`` pools, of all P columns each; what is not determined is held at 0."""

    fits: PoolFits
    nodes: SampledNodes
    complete: CompletePooling


def fit_by_rank(
    family: Family,
    sketch: CovariateSketch,
    span: Span,
    *,
    estimator: str,
    fixed: Mapping[str, Any] | None,
    hyperprior: Any,
    uncertainty: str,
) -> RankedFits:
    """Fit every pool with the columns that its stores determine, and integrate.

    Parameters are those of :func:`hbpipe.model.fit.fit_pools` and
    :func:`hbpipe.model.integrate.integrate_pools`; ``fixed`` holds numbers.
    """
    patterns, of_pool = np.unique(span.determined, axis=0, return_inverse=True)
    fits, complete, nodes = [], [], list[tuple[int, PoolNodes]]()
    for number, kept in enumerate(patterns):
        pools = np.flatnonzero(of_pool.reshape(-1) == number)
        part = fit_pools(
            get_family(family.name, family.size, int(kept.sum())),
            _narrow(sketch.select(pools), kept),
            estimator=estimator,
            fixed=fixed,
            hyperprior=hyperprior,
        )
        fits.append((pools, _wide_fits(family, part, kept)))
        own = integrate_pools(part, uncertainty=uncertainty)
        assert isinstance(own, SampledNodes)
        nodes += zip(pools.tolist(), (_wide_nodes(one, kept) for one in own.pools), strict=True)
        complete.append((pools, _wide_complete(complete_pooling(part), kept)))
    count = len(span.determined)
    return RankedFits(
        fits=replace(fits[0][1], **_joined(fits, count), sketch=sketch),
        nodes=SampledNodes(family.name, tuple(one for _, one in sorted(nodes, key=_number))),
        complete=replace(complete[0][1], **_joined(complete, count)),
    )


def _narrow(sketch: CovariateSketch, kept: NDArray[np.bool_]) -> CovariateSketch:
    rows = sketch.rows
    columns = {name: v[:, kept] if v.ndim == 2 else v for name, v in rows.columns.items()}
    return replace(sketch, rows=Rows(rows.n_pools, rows.pool, columns))


def _wide(values: Array, kept: NDArray[np.bool_], axes: tuple[int, ...]) -> Array:
    """Put zeros for the columns left out at the front of ``axes``, whose first numbers they are."""
    for axis in axes:
        beyond = values.shape[axis] - int(kept.sum())
        used = np.flatnonzero(np.concatenate([kept, np.ones(beyond, bool)]))
        shape = list(values.shape)
        shape[axis] = len(kept) + beyond
        out = np.zeros(shape)
        out[(slice(None),) * (axis % values.ndim) + (used,)] = values
        values = out
    return values


def _wide_fits(family: Family, part: PoolFits, kept: NDArray[np.bool_]) -> PoolFits:
    coordinates = _wide(part.coordinates, kept, (1,))
    return replace(
        part,
        coordinates=coordinates,
        hyperparameters=family.from_coordinates(coordinates),
        covariance=_wide(part.covariance, kept, (1, 2)),
        eigenvalues=_wide(part.eigenvalues, kept, (1,)),
        held=_wide(part.held, kept, (1,)),
        covariates=len(kept),
    )


#: Which axes of the values at nodes are coefficients.
_COEFFICIENTS = {"coefficients": (1,), "remaining": (1, 2), "spread_covariance": (1,)}


def _wide_nodes(part: PoolNodes, kept: NDArray[np.bool_]) -> PoolNodes:
    return replace(
        part,
        values={
            name: _wide(values, kept, _COEFFICIENTS.get(name, ()))
            for name, values in part.values.items()
        },
    )


def _number(numbered: tuple[int, PoolNodes]) -> int:
    return numbered[0]


def _wide_complete(part: CompletePooling, kept: NDArray[np.bool_]) -> CompletePooling:
    assert part.covariance is not None
    return replace(
        part,
        estimate=_wide(part.estimate, kept, (1,)),
        sd=_wide(part.sd, kept, (1,)),
        covariance=_wide(part.covariance, kept, (1, 2)),
    )


def _joined(parts: list[tuple[NDArray[np.int64], Any]], n_pools: int) -> dict[str, Any]:
    """Put the fields of disjoint sets of pools together."""
    order = np.argsort(np.concatenate([pools for pools, _ in parts]), kind="stable")
    found: dict[str, Any] = {}
    for item in fields(parts[0][1]):
        values = [getattr(part, item.name) for _, part in parts]
        if item.name in ("status", "at_bound"):
            every = [one for value in values for one in value]
            found[item.name] = tuple(every[g] for g in order)
        elif item.name == "start_values":
            starts = max(len(value) for value in values)
            padded = [np.pad(v, [(0, starts - len(v)), (0, 0)], mode="edge") for v in values]
            found[item.name] = np.concatenate(padded, axis=1)[:, order]
        elif item.name == "hyperparameters":
            found[item.name] = {
                name: np.concatenate([value[name] for value in values])[order] for name in values[0]
            }
        elif isinstance(values[0], np.ndarray):
            found[item.name] = np.concatenate(values)[order]
    assert len(order) == n_pools
    return found
