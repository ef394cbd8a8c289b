"""How far the priors of pools have moved since the last release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hbpipe.model.covariates.ranks import Span
from hbpipe.model.families import get_family
from hbpipe.model.family import Array
from hbpipe.model.fits import PoolFits
from hbpipe.model.mixtures.conjugate import PROPORTION
from hbpipe.model.nonparametric.fits import GridFits
from hbpipe.run.inference import parameters
from hbpipe.run.inference.tree import Pool, pool_label


def without_effect(
    before: dict[str, dict[str, float]],
    pools: list[Pool],
    span: Span | None,
    terms: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Add zeros to earlier hyperparameters for coefficients that a pool does not determine."""
    if span is None:
        return before
    found = dict(before)
    for pool, determined in zip(map(pool_label, pools), span.determined, strict=True):
        if pool in before:
            left_out = [term for term, used in zip(terms, determined, strict=True) if not used]
            found[pool] = {f"coefficients[{term}]": 0.0 for term in left_out} | before[pool]
    return found


def drifts(
    terms: Sequence[str], pools: list[Pool], fits: PoolFits, before: dict[str, dict[str, float]]
) -> list[float | None]:
    """Twice the log likelihood lost by keeping the last release's hyperparameters, by pool.

    Without change it is about chi-squared with one degree per hyperparameter.
    """
    family = fits.model
    last = [before.get(pool_label(pool), {}) for pool in pools]
    if isinstance(fits, GridFits):
        return _of_grids(fits, last)
    wanted = {name: fits.hyperparameters[name] for name in family.hyperparameters}
    needed = parameters.labels(wanted, terms)
    known = [
        needed <= row.keys() and bool(sure) for row, sure in zip(last, fits.identified, strict=True)
    ]
    if not any(known):
        return [None] * len(pools)
    rows = [row if complete else {} for row, complete in zip(last, known, strict=True)]
    old = {name: parameters.rebuild(name, values, terms, rows) for name, values in wanted.items()}
    coordinates = np.clip(family.to_coordinates(old), *family.bounds)
    kept, now = fits.log_likelihood(coordinates), fits.log_likelihood(fits.coordinates)
    return [float(2 * (now[g] - kept[g])) if known[g] else None for g in range(len(pools))]


def _of_grids(fits: GridFits, before: Sequence[Mapping[str, float]]) -> list[float | None]:
    """Return the same of nonparametric priors, which have no coordinates.

    Parameters
    ----------
    fits
        The fits of ``G`` pools, with their sketch.
    before
        Of each pool the last release's parameters by their labels; the components that have a
        weight, however many these were.

    Returns
    -------
    None where there was no such prior, or the data do not determine one.
    """
    return [
        _drift(fits, g, row) if f"{PROPORTION}[0]" in row and fits.identified[g] else None
        for g, row in enumerate(before)
    ]


def _drift(fits: GridFits, g: int, before: Mapping[str, float]) -> float:
    names = get_family(fits.family).prior(fits.single.hyperparameters)
    law = {name: _vector(before, name) for name in names}
    kept = fits.log_likelihood_under(g, law, _vector(before, PROPORTION))
    return float(2.0 * (fits.log_marginal_likelihood[g] - kept))


def _vector(row: Mapping[str, float], name: str) -> Array:
    """Return the numbers of a parameter in the order of the components."""
    found: list[float] = []
    while (label := f"{name}[{len(found)}]") in row:
        found.append(row[label])
    return np.array(found)
