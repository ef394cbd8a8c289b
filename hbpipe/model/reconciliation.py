"""Estimates reconciled with a total that is known: benchmarked Bayes estimates, and their error.

The posterior knows each store's θ_j by its mean m_j and variance V_j, and somebody knows that
Σ w_j θ_j is T. Of all estimates t with Σ w_j t_j = T

    t_j = m_j + w_j V_j / Σ w²V · (T − Σ w m)

have the least posterior expected loss Σ E[(θ_j − t_j)²] / V_j (Datta, Ghosh, Steorts and Maples
2011, "Bayesian benchmarking with applications to small area estimation", TEST 20, theorem 1, with
weights 1/V_j): what is missing is laid where the posterior knows least. For independent normal
posteriors it is also the mean of θ_j given that Σ w θ = T.

The error that t_j is published with is the posterior one of an estimate that is not the mean,

    E[(θ_j − t_j)² | data] = V_j + (t_j − m_j)²

whose second term is what benchmarking costs (Steorts and Ghosh 2013, "On estimation of mean squared
errors of benchmarked empirical Bayes estimators", Statistica Sinica 23, have its frequentist
counterpart). It needs V_j alone: it is exact whatever the shape of the posteriors and however the
stores of a pool hang together, which V_j − w_j²V_j²/Σ w²V, the variance given T, is not. T is a
condition on what is published and no observation: it is never less than V_j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Family


@dataclass(frozen=True)
class Reconciled:
    """Estimates of ``J`` stores, and what became of ``G`` totals.

    Attributes
    ----------
    estimate, rmse
        (J,) the reconciled estimates and the roots of their posterior mean squared errors; NaN
        where a store's group is not reconciled.
    shift
        (J,) by how many posterior sds each mean was moved.
    total
        (G,) what the posterior means gave: Σ w m, or their weighted mean.
    done
        (G,) whether the group was reconciled. Not where a weight is not known, a store with a
        weight has no posterior, no store has a weight, or none is uncertain.
    """

    estimate: Array
    rmse: Array
    shift: Array
    total: Array
    done: NDArray[np.bool_]


def reconcile(
    means: Array, sds: Array, weights: Array, groups: Codes, totals: Array, *, of_means: bool
) -> Reconciled:
    """Reconcile the posteriors of stores with the totals of their groups.

    Parameters
    ----------
    means, sds
        (J,) of the posteriors, NaN where a store has none.
    weights
        (J,) not negative; NaN where one is not known.
    groups
        (J,) the number of each store's group; -1 where no total is known.
    totals
        (G,) what w m is to add up to; with ``of_means`` the weighted means.

    Notes
    -----
    Sums are rounded once (``math.fsum``), so they have the same bits in whatever order, and from
    whatever parts, the stores come.
    """
    n_groups = len(totals)
    estimate, rmse, shift = np.full((3, len(means)), np.nan)
    done = np.zeros(n_groups, np.bool_)
    found = Reconciled(estimate, rmse, shift, np.full(n_groups, np.nan), done)
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(n_groups + 1))
    for group in range(n_groups):
        rows = order[bounds[group] : bounds[group + 1]]
        _reconcile_group(found, group, rows, (means, sds, weights), float(totals[group]), of_means)
    return found


def _reconcile_group(
    found: Reconciled,
    group: int,
    rows: NDArray[np.int64],
    stores: tuple[Array, Array, Array],
    total: float,
    of_means: bool,
) -> None:
    """Fill in one group, whose stores are ``rows``."""
    m, sd, w = (values[rows] for values in stores)
    counted = w > 0
    known = np.isfinite(m) & np.isfinite(sd)
    # A store without weight may lack a posterior: the total says nothing of it.
    weight = math.fsum(w[counted])
    if np.isnan(w).any() or not known[counted].all() or weight <= 0:
        return
    # Weights as shares of the greatest, so that their squares neither overflow nor vanish.
    w = w / w.max()
    per = math.fsum(w[counted])
    met = math.fsum(w[counted] * m[counted])
    found.total[group] = met / per if of_means else met * (weight / per)
    spread = math.fsum((w[counted] * sd[counted]) ** 2)
    if not spread > 0:
        return
    missing = total * per - met if of_means else total * (per / weight) - met
    moved = w * sd * (missing / spread)
    found.estimate[rows] = m + moved * sd
    found.rmse[rows] = np.hypot(sd, moved * sd)
    found.shift[rows] = np.abs(moved)
    found.done[group] = True


def limits(family: Family) -> tuple[float, float]:
    """Return the least and the greatest value that θ may have: what its link maps to the line."""
    link = None if family.regression is None else family.regression.link
    return {"logit": (0.0, 1.0), "log": (0.0, math.inf)}.get(str(link), (-math.inf, math.inf))
