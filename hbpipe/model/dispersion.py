"""How far a store's total may vary over its cells under a family's model, and how it is thinned.

A *cell* is a part of a store's events that may hang together: one day, or one household. It has a
size n_c (trials, exposure, values) and a total y_c. Given the total of all cells, the model says
no more than that every event might have fallen into any cell; then, with r = Σ y_c/Σ n_c,

    E Σ (y_c − n_c r)² = V n (1 − κ),        κ = Σ n_c²/n²,        n = Σ n_c,

where V estimates the variance of one unit of size from the store alone: r (1 − r) n/(n − 1) for
trials (hypergeometric), r for counts (multinomial), m2/(n − 1) for values (any law: sampling
without replacement). So the squares over the cells, divided by the right side, have mean 1 if
events are independent, however few fall into a cell. The ratio is the design effect of a ratio
estimator (Kish 1965, *Survey Sampling*, section 6.5; Rao and Scott 1992, *Biometrics* 48). Not
Pearson's statistic: it weighs all cells alike, but the variance of a store's rate lies in its
large ones. With 60 households of 1 to 50 events, correlated by 0.1, that variance is 3.9 times
the binomial; the design effect says 3.6 and Pearson's statistic 1.7.

Each family's instance of :class:`Dispersion` is below; ``overdispersion.py`` makes estimates of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.numerics.grouped import float_sums
from hbpipe.model.statistics import Effective

#: Thinned trials lie on this grid, so that trials less successes are exact, and equal numbers of
#: failures stay equal: the sketch of the likelihood counts distinct values.
_GRID = 2.0**-30


@dataclass(frozen=True)
class CellSums:
    """Squares over cells and what the model expects of them, of G groups, (G,) each.

    ``squares`` = Σ (y_c − n_c r)², ``expected`` its mean under the model, and ``noise`` half its
    variance if totals were normal: the part of the group in Satterthwaite's degrees of freedom.
    """

    squares: Array
    expected: Array
    noise: Array

    def by(self, codes: Codes, n_groups: int) -> CellSums:
        """Add up the groups with equal code."""
        return CellSums(*(float_sums(part, codes, n_groups) for part in vars(self).values()))

    @classmethod
    def added(cls, parts: Sequence[CellSums]) -> CellSums:
        """Add up the sums of disjoint stores, in the order given."""
        columns = ((part.squares, part.expected, part.noise) for part in parts)
        return cls(*(np.sum(column, axis=0) for column in zip(*columns, strict=True)))


@dataclass(frozen=True)
class Dispersion:
    """What overdispersion needs to know of a family.

    Parameters
    ----------
    cells
        Statistics of the cells → size and total of each, (R,) each.
    scatter
        (statistics of each group, size and total of its cells (G,)) → V n: the variance of such
        a total under the model, estimated without bias from the group alone; 0 where one
        observation tells nothing.
    thin
        (statistics, overdispersion (J,), at least 1) → statistics of the effective size, the raw
        values as they were.
    """

    cells: Callable[[Statistics], tuple[Array, Array]]
    scatter: Callable[[Statistics, Array, Array], Array]
    thin: Callable[[Statistics, Array], dict[str, NDArray[Any]]]

    def sums(
        self,
        cells: tuple[Array, Array],
        groups: Codes,
        statistics: Statistics,
        n_groups: int,
    ) -> CellSums:
        """Compare cells with each other within groups; see ``sums_with_empty``."""
        (found,) = self.sums_with_empty(cells, groups, statistics, n_groups, [np.zeros(n_groups)])
        return found

    def sums_with_empty(
        self,
        cells: tuple[Array, Array],
        groups: Codes,
        statistics: Statistics,
        n_groups: int,
        empty: Sequence[Array],
    ) -> list[CellSums]:
        """Compare cells with each other within groups.

        Parameters
        ----------
        cells
            Size and total of each cell, (R,) each. Cells whose sizes are all 0 are compared with
            nothing: where events carry no exposure, clusters of them arrive as a compound
            Poisson process, whose variance is Σ y_c², and Σ y_c if events come one by one.
        groups
            (R,) the group of each cell.
        statistics
            Statistics of each group, (G,).
        empty
            For each result (G,) the number of further cells of size 1 and total 0, which need no
            row.
        """
        size, total = cells
        sizes, y = float_sums(size, groups, n_groups), float_sums(total, groups, n_groups)
        squared_sizes = float_sums(size**2, groups, n_groups)
        alone = ratio(np.ones(n_groups), np.bincount(groups, minlength=n_groups))
        found = []
        for absent in empty:
            n = sizes + absent
            rate = ratio(y, n)
            residual = total - size * rate[groups]
            squares = float_sums(residual**2, groups, n_groups) + absent * rate**2
            share = np.minimum(ratio(squared_sizes + absent, n**2), 1.0)
            scatter = self.scatter(statistics, n, y)
            noise = scatter**2 * np.where(n > 0, share, alone) * (1.0 - share)
            found.append(CellSums(squares, scatter * (1.0 - share), noise))
        return found


def _trials(statistics: Statistics) -> tuple[Array, Array]:
    return _float(statistics["trials"]), _float(statistics["successes"])


def _scatter_of_trials(statistics: Statistics, size: Array, total: Array) -> Array:
    n, y = _trials(statistics)
    rate = ratio(y, n)
    return size * rate * (1.0 - rate) * ratio(n, n - 1.0)


def _thin_trials(statistics: Statistics, phi: Array) -> dict[str, NDArray[Any]]:
    n, y = _trials(statistics)
    divisor = _at_most_all(phi, n)
    successes, failures = (np.round(part / divisor / _GRID) * _GRID for part in (y, n - y))
    return Effective(successes=successes, trials=successes + failures)


def _at_most_all(phi: Array, n: Array) -> Array:
    """Bound the design effect by n: all events of a store as one leave one."""
    return np.minimum(phi, np.maximum(n, 1.0))


def _counts(statistics: Statistics) -> tuple[Array, Array]:
    return _float(statistics["exposure"]), _float(statistics["count"])


def _thin_counts(statistics: Statistics, phi: Array) -> dict[str, NDArray[Any]]:
    exposure, count = _counts(statistics)
    return Effective(count=count / phi, exposure=exposure / phi)


def _values(statistics: Statistics) -> tuple[Array, Array]:
    n = _float(statistics["n"])
    return n, n * np.where(n > 0, statistics["mean"], 0.0)


def _scatter_of_values(statistics: Statistics, size: Array, total: Array) -> Array:
    return size * ratio(_float(statistics["m2"]), _float(statistics["n"]) - 1.0)


def _thin_values(statistics: Statistics, phi: Array) -> dict[str, NDArray[Any]]:
    """Divide n and m2: E m2 = σ² (n − phi), so that m2/phi has n/phi − 1 degrees of freedom."""
    n = _float(statistics["n"])
    divisor = _at_most_all(phi, n)
    m2 = _float(statistics["m2"]) / divisor
    return Effective(n=n / divisor, mean=_float(statistics["mean"]), m2=m2)


def _estimates(statistics: Statistics) -> tuple[Array, Array]:
    precision = 1.0 / _float(statistics["variance"])
    return precision, precision * np.where(precision > 0, statistics["estimate"], 0.0)


def _thin_estimates(statistics: Statistics, phi: Array) -> dict[str, NDArray[Any]]:
    variance = _float(statistics["variance"]) * phi
    return Effective(estimate=_float(statistics["estimate"]), variance=variance)


def _float(values: NDArray[Any]) -> Array:
    return np.asarray(values, np.float64)


TRIALS = Dispersion(_trials, _scatter_of_trials, _thin_trials)
COUNTS = Dispersion(_counts, lambda statistics, size, total: total, _thin_counts)
VALUES = Dispersion(_values, _scatter_of_values, _thin_values)
#: The ratio is Birge's (1932, *Physical Review* 40), with cells in place of single estimates.
ESTIMATES = Dispersion(_estimates, lambda statistics, size, total: size, _thin_estimates)
