"""The likelihood of levels that drift, from n and mean of each day and M2 within days.

With q gathered into h values of mean m on the first day (``local_level/filtering.py``), squares S
and fading F, a store of N values has the likelihood of the family ``normal`` for that day,

    −½ [N log 2π + N log σ² + (M2 + S + h (m − μ)²/(1 + h τ²/σ²))/σ² + log(1 + h τ²/σ²) + F].

It is the sum of the Kalman filter's innovations over the days, in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Derivatives, Statistics
from hbpipe.model.local_level.filtering import Evidence, evidence
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.row_sketch import RowSketch
from hbpipe.model.numerics.grouped import Rows, stack
from hbpipe.model.numerics.jets import (
    Jet,
    chain,
    exp,
    log,
    log1p,
    reciprocal,
    total,
    variables,
)

#: Numbers of the coordinates (μ, τ², q, log σ).
MU, TAU_SQUARED, RATIO, LOG_SIGMA = range(4)
#: Rows that are gathered together: what they need fits a core's cache.
_BLOCK = 2**13


@dataclass(frozen=True)
class DailySketch(RowSketch):
    """The stores of each pool with their days, lossless.

    ``rows`` has ``n``, ``mean`` and ``m2`` (R, D) of each store's days, their sums ``size`` and
    ``within`` of n and m2, and ``stores``, which is 1: sorted by pool and by what the stores have,
    so the order of the stores leaves every bit alone.
    """

    stores: ClassVar[str] = "stores"

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> DailySketch:
        """Take stores with values."""
        n, m2 = (np.asarray(statistics[name], np.float64) for name in ("n", "m2"))
        columns = {"n": n, "mean": np.where(n > 0, statistics["mean"], 0.0), "m2": m2}
        columns |= {"size": n.sum(axis=1), "within": m2.sum(axis=1), "stores": np.ones(len(n))}
        seen = columns["size"] > 0
        columns = {name: values[seen] for name, values in columns.items()}
        return cls(_ordered(np.asarray(pools)[seen].astype(np.int64), columns, n_pools))

    @classmethod
    def merged(cls, sketches: Sequence[DailySketch]) -> DailySketch:
        """Put disjoint stores together."""
        return cls(_ordered(*stack([one.rows for one in sketches]), sketches[0].n_pools))

    @property
    def n_values(self) -> Array:
        """Values of all stores in each pool, (G,)."""
        return self.rows.sum(self.rows["size"])

    @property
    def within(self) -> Array:
        """Squares within days of each pool, (G,)."""
        return self.rows.sum(self.rows["within"])

    @property
    def n_days(self) -> Array:
        """Days with values, over all stores of each pool, (G,)."""
        return self.rows.sum(np.sum(self.rows["n"] > 0, axis=1))

    def until(self, day: int) -> DailySketch:
        """Return the sketch of the days before one, whose number counts from 0."""
        rows = self.rows
        days = {name: rows[name][:, :day] for name in ("n", "mean", "m2")}
        return DailySketch.of(days, rows.pool, rows.n_pools)

    def select(self, pools: Codes) -> DailySketch:
        """Return the sketch of some pools."""
        return DailySketch(self.rows.select(pools))

    def evidence(self, ratio: Array) -> Evidence:
        """Return what the days of each row say of the first, at the ratio of its pool, (G,)."""
        return evidence(self.rows["n"], self.rows["mean"], ratio[self.rows.pool])


def _ordered(pool: NDArray[np.int64], columns: dict[str, NDArray[Any]], n_pools: int) -> Rows:
    """Sort rows by pool, then by their totals, and those that agree in them by everything else."""
    keys = [columns["mean"].sum(axis=1), columns["within"], columns["size"], pool]
    order = np.lexsort(keys)
    if np.any(np.all([np.diff(key[order]) == 0 for key in keys], axis=0)):
        every = [day for name in ("m2", "mean", "n") for day in columns[name].T]
        order = np.lexsort([*every, *keys])
    return Rows(n_pools, pool[order], {name: values[order] for name, values in columns.items()})


def log_marginal(sketch: DailySketch, coordinates: Array) -> Derivatives:
    """Log density of all values in (μ, τ², q, log σ), −½ log 2π per value included.

    Rows are summed as jets of A = τ²/σ² and q; μ and σ come in once for each pool, where the
    squares about μ are Σ w (m − μ)² with w = h/(1 + hA).

    Returns
    -------
    Value (G,), gradient (G, 4), Hessian (G, 4, 4).
    """
    rows, values = sketch.rows, sketch.n_values
    mu, tau_squared, ratio, log_sigma = variables(coordinates)
    unit = exp(-2.0 * log_sigma)
    inner = [tau_squared * unit, ratio]
    odds, days = _signals(sketch, inner[0].value, ratio.value)
    signal, apart = days.size * odds, days.mean - mu.value[rows.pool]
    weight = days.size * reciprocal(signal + 1.0)
    pull = weight * apart

    def summed(jet: Jet) -> Jet:
        found = total(jet, rows.pool, rows.n_pools)
        return chain(found.value, found.gradient, found.hessian, inner)

    move = mu - mu.value
    within = summed(days.squares + pull * apart + rows["within"])
    within = within - 2.0 * move * summed(pull) + move * move * summed(weight)
    found = -0.5 * (within * unit + summed(log1p(signal) + days.fading))
    found = found - values * log_sigma - 0.5 * LOG_2PI * values
    return found.value, found.gradient, found.hessian


def log_restriction(sketch: DailySketch, coordinates: Array) -> Derivatives:
    """Turn the likelihood into the restricted one: ½ log 2π − ½ log Σ h/(σ² + h τ²)."""
    rows, there = sketch.rows, np.asarray(sketch.n_groups) > 0
    _, tau_squared, ratio, log_sigma = variables(coordinates)
    unit = exp(-2.0 * log_sigma)
    inner = [tau_squared * unit, ratio]
    odds, days = _signals(sketch, inner[0].value, ratio.value)
    weight = total(days.size * reciprocal(days.size * odds + 1.0), rows.pool, rows.n_pools)
    # Without any store there is nothing to integrate: 2π makes the logarithm's value 0.
    weight = weight + np.where(there, 0.0, 2.0 * np.pi)
    information = chain(weight.value, weight.gradient, weight.hessian, inner) * unit
    found = np.where(there, 1.0, 0.0) * (0.5 * LOG_2PI - 0.5 * log(information))
    return found.value, found.gradient, found.hessian


def _signals(sketch: DailySketch, odds: Array, ratio: Array) -> tuple[Jet, Evidence]:
    """Return A and what the days say, of each row as jets of A and q."""
    rows = sketch.rows
    first, second = variables(np.stack([odds, ratio], axis=1)[rows.pool])
    alone = variables(second.value[:, None])[0]
    parts = [
        evidence(rows["n"][some], rows["mean"][some], alone.take(some))
        for some in np.array_split(np.arange(len(rows)), max(1, len(rows) // _BLOCK))
    ]

    def joined(name: str) -> Jet:
        jets = [getattr(part, name) for part in parts]
        value, gradient, hessian = (
            np.concatenate([getattr(jet, kind) for jet in jets])
            for kind in ("value", "gradient", "hessian")
        )
        return chain(value, gradient, hessian, [second])

    return first, Evidence(*(joined(item.name) for item in fields(Evidence)))
