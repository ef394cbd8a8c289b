"""Fits of a grid of laws, or of one, pool by pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Family, Prior
from hbpipe.model.fits import PoolFits
from hbpipe.model.mixtures.conjugate import PROPORTION
from hbpipe.model.mixtures.sketch import MixtureSketch
from hbpipe.model.nonparametric.choice import LEAST_STORES, MARGIN, scores
from hbpipe.model.nonparametric.fits import GridFits
from hbpipe.model.nonparametric.pool import GridPool
from hbpipe.model.nonparametric.weights import GAP, Maximum

#: Of the single law: what the data did not leave without an estimate.
_USUAL = ("ok", "no_spread", "at_bound", "not_converged")


def estimate(
    base: Family,
    family: Family,
    sketch: MixtureSketch,
    *,
    estimator: str = "ml",
    **options: Any,
) -> GridFits:
    """Fit a grid of laws or a single one to each of ``G`` pools.

    Parameters are those of :func:`hbpipe.model.fit.fit_pools`, of which there is only ``ml``.
    Pools of few stores, and those whose data leave a single law without an estimate, have the
    status and the numbers of the single law.

    Raises
    ------
    FitError
        For another estimator, or anything held, started from or with a hyperprior.
    """
    from hbpipe.model.fit import fit_pools  # it asks for the fit of a grid here

    _check(base, estimator, options)
    single = fit_pools(base, sketch.whole)
    found = [_fit_pool(base, sketch, single, pool) for pool in range(sketch.n_pools)]
    return _report(base, family, sketch, single, found)


def _check(base: Family, estimator: str, options: Mapping[str, Any]) -> None:
    given = [name for name, value in options.items() if value]
    if estimator != "ml":
        given.append(f"estimator={estimator!r}")
    if given:
        raise FitError(
            f"a nonparametric prior does not go with {', '.join(given)}",
            where={"family": base.name},
            expected="estimator='ml' and nothing else: its weights are all that is estimated",
            remedy="leave these out, or use a single prior",
        )


@dataclass(frozen=True)
class _OfPool:
    """The components of one pool that have a weight, and what spoke for them."""

    law: Prior
    weight: Array
    log_likelihood: float
    gap: float
    rounds: int
    scores: tuple[float, float]
    several: bool


def _fit_pool(base: Family, sketch: MixtureSketch, single: PoolFits, pool: int) -> _OfPool | None:
    """Fit the grid to one pool, and compare; None where nothing is to be compared."""
    enough = single.n_groups[pool] >= LEAST_STORES
    if not (enough and single.identified[pool] and single.status[pool] in _USUAL):
        return None
    one = sketch.select(np.array([pool]))
    stores = one.rows["stores"].astype(np.float64)
    grid = GridPool.of(base, one.statistics, stores)
    best: Maximum = grid.maximise()
    weight = best.weight[0]
    found = scores(base, grid, weight, one.log_base_measure)
    used = np.flatnonzero(weight)
    each = grid.log_likelihoods(weight) + one.log_base_measure
    return _OfPool(
        law={name: values[used] for name, values in grid.law.items()},
        weight=weight[used],
        log_likelihood=float(np.sum(stores * each)),
        gap=float(best.gap[0]),
        rounds=best.rounds,
        scores=found,
        several=bool(np.sum(stores) * (found[1] - found[0]) > MARGIN),
    )


def _report(
    base: Family,
    family: Family,
    sketch: MixtureSketch,
    single: PoolFits,
    found: list[_OfPool | None],
) -> GridFits:
    """Put the fits of pools side by side, the single law where it was kept."""
    several = np.array([one is not None and one.several for one in found])
    nothing = (np.nan, np.nan)
    criteria = np.array([nothing if one is None else one.scores for one in found]).reshape(-1, 2)
    plain: dict[str, Any] = dict(vars(single))
    plain |= {
        "hyperparameters": _hyperparameters(base, single, found),
        "sketch": sketch,
        "prior_form": family.prior_form,
    }
    fits = GridFits(
        **plain,
        single=single,
        several=several,
        score_single=criteria[:, 0],
        score_grid=criteria[:, 1],
        duality_gap=np.full(len(found), np.nan),
    )
    return _told(fits, found)


def _told(fits: GridFits, found: list[_OfPool | None]) -> GridFits:
    """Tell of the weights where the grid was chosen: how far they are from the maximum."""
    names = ("log_marginal_likelihood", "gradient_norm", "iterations", "converged", "boundary")
    parts: dict[str, Any] = {name: getattr(fits, name).copy() for name in names}
    more = ("starts_agree", "covariance", "eigenvalues")
    parts |= {name: getattr(fits, name).copy() for name in more}
    gaps, words, bounds = fits.duality_gap.copy(), list(fits.status), list(fits.at_bound)
    for pool in np.flatnonzero(fits.several):
        one = found[pool]
        assert one is not None
        gaps[pool] = one.gap
        converged = one.gap <= GAP
        # The square of a distance in standard errors is twice what the log likelihood falls short.
        short = 2.0 * fits.n_groups[pool] * np.log1p(max(one.gap, 0.0))
        values = (one.log_likelihood, np.sqrt(short), one.rounds, converged, False)
        for name, value in zip(names, values, strict=True):
            parts[name][pool] = value
        parts["starts_agree"][pool] = True  # the problem is convex
        parts["covariance"][pool] = parts["eigenvalues"][pool] = 0.0
        words[pool], bounds[pool] = "ok" if converged else "not_converged", ()
    return replace(fits, **parts, duality_gap=gaps, status=tuple(words), at_bound=tuple(bounds))


def _hyperparameters(
    base: Family, single: PoolFits, found: list[_OfPool | None]
) -> dict[str, Array]:
    """Components of each pool and their proportions, (G, K)."""
    laws, weights = [], []
    for pool, one in enumerate(found):
        if one is not None and one.several:
            laws.append(one.law)
            weights.append(one.weight)
        else:
            at = {name: values[pool : pool + 1] for name, values in single.hyperparameters.items()}
            laws.append(base.prior(at))
            weights.append(np.ones(1))
    width = max((len(weight) for weight in weights), default=1)
    law = {
        name: np.stack([np.pad(one[name], (0, width - len(one[name])), "edge") for one in laws])
        for name in laws[0]
    }
    proportion = np.stack([np.pad(weight, (0, width - len(weight))) for weight in weights])
    return {PROPORTION: proportion, **_named(base, law)}


def _named(base: Family, law: Prior) -> dict[str, Array]:
    """Give every name of a family's hyperparameters, from those of its prior."""
    return {**base.from_coordinates(base.to_coordinates(law)), **law}
