"""The likelihood of visits and purchases: that of who bought, times that of the log amounts.

Conversion and basket have no hyperparameter in common, so the log likelihood in (logit mean, φ, μ,
τ², log σ) is the sum of ``beta_binomial``'s and ``normal``'s, and its Hessian is block-diagonal. An
amount x has the density of log x, over x: −Σ log x belongs to the data and is left to whoever wants
densities of amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Derivatives, Statistics
from hbpipe.model.marginal import beta_binomial, normal
from hbpipe.model.marginal.beta_binomial import BinomialSketch
from hbpipe.model.marginal.normal import NormalSketch

#: The coordinates of each part.
CONVERSION, BASKET = slice(0, 2), slice(2, 5)


def basket_statistics(statistics: Statistics) -> dict[str, NDArray[np.generic]]:
    """Return n, mean and m2 of the log amounts: every purchase has one."""
    moments = {name: np.asarray(statistics[name]) for name in ("mean", "m2")}
    return {"n": np.asarray(statistics["successes"]), **moments}


@dataclass(frozen=True)
class HurdleSketch:
    """The sketches of both parts; a store counts if it has a visit."""

    conversion: BinomialSketch
    basket: NormalSketch

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> HurdleSketch:
        """Sketch both parts; what has no data drops out."""
        basket = basket_statistics(statistics)
        return cls(
            BinomialSketch.of(statistics, pools, n_pools), NormalSketch.of(basket, pools, n_pools)
        )

    @classmethod
    def merged(cls, sketches: Sequence[HurdleSketch]) -> HurdleSketch:
        """Add up sketches of disjoint stores."""
        return cls(
            BinomialSketch.merged([sketch.conversion for sketch in sketches]),
            NormalSketch.merged([sketch.basket for sketch in sketches]),
        )

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return self.conversion.n_pools

    @property
    def n_rows(self) -> int:
        """Rows of all tables."""
        return self.conversion.n_rows + self.basket.n_rows

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with a visit in each pool, (G,)."""
        return self.conversion.n_groups

    def select(self, pools: Codes) -> HurdleSketch:
        """Return the sketch of some pools."""
        return HurdleSketch(self.conversion.select(pools), self.basket.select(pools))


def log_marginal(sketch: HurdleSketch, coordinates: Array) -> Derivatives:
    """Log likelihood of the purchases and of the log amounts, constants of both included.

    Returns
    -------
    Value (G,), gradient (G, 5), Hessian (G, 5, 5).
    """
    parts = (
        beta_binomial.log_marginal(sketch.conversion, coordinates[:, CONVERSION]),
        normal.log_marginal(sketch.basket, coordinates[:, BASKET]),
    )
    return block_diagonal(parts)


def block_diagonal(parts: Sequence[Derivatives]) -> Derivatives:
    """Add functions of the coordinates of each part, in order."""
    value, gradients, hessians = zip(*parts, strict=True)
    gradient = np.concatenate(gradients, axis=1)
    hessian = np.zeros((*gradient.shape, gradient.shape[1]))
    for place, part in zip((CONVERSION, BASKET), hessians, strict=True):
        hessian[:, place, place] = part
    return np.asarray(value[0] + value[1]), gradient, hessian


def log_no_pooling(sketch: HurdleSketch, held: Array) -> Array:
    """Log likelihood where every store has its own p and m, (G,)."""
    bought = beta_binomial.log_no_pooling(sketch.conversion, held[:, CONVERSION])
    return bought + normal.log_no_pooling(sketch.basket, held[:, BASKET])
