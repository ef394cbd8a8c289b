"""Overdispersion: how much more the cells of a store vary than its model lets them.

``phi`` is the design effect: the variance of a store's rate over what the family's model makes of
it. With it a store of n events tells as much as n/phi independent ones, and ``thin`` divides its
statistics so; the likelihood of thinned counts is a quasi-likelihood (Rao and Scott 1992; 1999,
*Statistics in Medicine* 18). One phi serves a whole pool: of a single store it is too uncertain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.dispersion import CellSums, Dispersion
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.statistics import check_statistics

__all__ = ["Overdispersion", "overdispersion", "thin"]

#: How rarely chance may pass for overdispersion, where nobody asks for another level.
_CHANCE = 1e-3


@dataclass(frozen=True)
class Overdispersion:
    """Overdispersion of ``G`` pools, from the sums over the cells of their stores.

    Parameters
    ----------
    sums
        Squares over the cells and what the model expects of them, (G,) each.
    """

    sums: CellSums

    @property
    def phi(self) -> Array:
        """Σ squares/Σ expected of each pool, (G,).

        NaN where no store has two cells and something that varies.
        """
        known = self.sums.expected > 0
        return np.where(known, ratio(self.sums.squares, self.sums.expected), np.nan)

    @property
    def df(self) -> Array:
        """Satterthwaite's (1946) degrees of freedom, (G,): phi varies like chi-squared/df.

        As if totals were normal. Few large stores count for less than as many small ones.
        """
        return ratio(self.sums.expected**2, self.sums.noise)

    def lower(self, chance: float = _CHANCE) -> Array:
        """Give the one-sided lower confidence limit of phi, (G,), missed with this chance."""
        df = np.maximum(self.df, 1e-300)
        return np.where(self.df > 0, self.phi * df / special.chdtri(df, chance), np.nan)

    def together(self) -> Overdispersion:
        """Take all pools as one, (1,)."""
        one = np.zeros(len(self.sums.squares), np.int64)
        return Overdispersion(self.sums.by(one, 1))

    def divisor(self) -> Array:
        """Return what to divide sizes by, (G,): phi, but not below 1.

        A pool without an estimate, or with less than one degree of freedom, takes that of all
        pools together, and 1 where that is missing too.
        """
        every = float(self.together().phi[0])
        chosen = np.where(self.df >= 1.0, self.phi, every)
        return np.maximum(np.where(np.isnan(chosen), 1.0, chosen), 1.0)


def dispersion_of(family: str | Family) -> tuple[Family, Dispersion]:
    """Return a family and what it says of cells; FitError where it says nothing."""
    model = get_family(family) if isinstance(family, str) else family
    if model.dispersion is None:
        others = (name for name, other in FAMILIES.items() if other.dispersion is not None)
        raise FitError(
            f"overdispersion is not defined for {model.name!r}",
            expected=f"one of {', '.join(others)}",
            remedy="fit it without dividing by an overdispersion",
        )
    return model, model.dispersion


def overdispersion(
    family: str | Family,
    cells: Mapping[str, Any],
    stores: Any,
    *,
    pools: Any = None,
    strata: Any = None,
) -> Overdispersion:
    """Estimate the overdispersion of pools from the statistics of their stores' cells.

    Parameters
    ----------
    family
        Its name, or the family.
    cells
        name -> (R,): the family's statistics of each cell, such as one row per store and day or
        per store and household.
    stores
        (R,) the number of the store of each cell, from 0.
    pools
        (J,) the number of the pool of each store, from 0; by default all are one pool.
    strata
        (R,) cells are compared within a store's stratum only, say the weekday, so that what
        differs between weekdays does not count.

    Returns
    -------
    Overdispersion
        Of as many pools as there are.

    Raises
    ------
    StatisticsError
        If the statistics are impossible, or the arrays do not fit each other.
    FitError
        If the family has no overdispersion.
    """
    model, law = dispersion_of(family)
    arrays = check_statistics(model, cells)
    rows = len(next(iter(arrays.values())))
    of_cell = _codes(stores, rows, "stores", "cell")
    n_stores = int(of_cell.max(initial=-1)) + 1
    of_store = np.zeros(n_stores, np.int64)
    if pools is not None:
        of_store = _codes(pools, n_stores, "pools", "store")
    groups, owner = of_cell, np.arange(n_stores)
    if strata is not None:
        pairs = np.stack([of_cell, _codes(strata, rows, "strata", "cell")])
        found, groups = np.unique(pairs, axis=1, return_inverse=True)
        groups, owner = groups.reshape(rows), found[0]
    whole = model.fold(arrays, groups, len(owner))
    sums = law.sums(law.cells(arrays), groups, whole, len(owner))
    n_pools = int(of_store.max(initial=-1)) + 1
    return Overdispersion(sums.by(of_store[owner], n_pools))


def _codes(given: Any, length: int, name: str, of: str) -> NDArray[np.int64]:
    codes = np.asarray(given)
    if codes.shape != (length,) or codes.dtype.kind not in "iu" or codes.min(initial=0) < 0:
        raise StatisticsError(
            f"{name} are of type {codes.dtype} and shape {codes.shape}",
            expected=f"({length},) whole numbers from 0, one for each {of}",
            remedy="number them, for instance with numpy.unique(..., return_inverse=True)",
        )
    return codes.astype(np.int64)


def thin(family: str | Family, statistics: Mapping[str, Any], phi: Any) -> dict[str, NDArray[Any]]:
    """Divide the sizes of stores by an overdispersion: n/phi events that are independent.

    Raw rates and means stay as they are. A store of trials or values keeps at least one: phi is
    bounded by its n. The result is made for :func:`hbpipe.fit` and :func:`hbpipe.posterior`,
    which elsewhere take whole counts only.

    Parameters
    ----------
    family
        Its name, or the family.
    statistics
        name -> (J,) of each store.
    phi
        One number or (J,), at least 1.

    Raises
    ------
    StatisticsError
        If the statistics are impossible, or phi is below 1 or not finite.
    FitError
        If the family has no overdispersion.
    """
    model, law = dispersion_of(family)
    arrays = check_statistics(model, statistics)
    stores = len(next(iter(arrays.values())))
    divisor = np.asarray(phi, np.float64)
    if divisor.shape not in ((), (stores,)) or not np.all((divisor >= 1) & np.isfinite(divisor)):
        raise StatisticsError(
            f"the overdispersion has shape {divisor.shape} and least {np.min(divisor):g}",
            expected=f"one finite number, or ({stores},), at least 1",
            remedy="take Overdispersion.divisor(), which is never below 1",
        )
    return law.thin(arrays, np.broadcast_to(divisor, (stores,)))
