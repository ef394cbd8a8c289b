"""How much likelihood is lost by the hyperparameters of the last release: their drift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hbpipe.model.covariates.ranks import Span
from hbpipe.model.fits import PoolFits
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
