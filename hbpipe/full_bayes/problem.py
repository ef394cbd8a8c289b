"""What is asked: a pool, and the stores of it whose posteriors are wanted.

The chosen stores have θ as an unknown of their own. All others of the pool enter by their exact
marginal likelihood, θ integrated out, so the posterior is that of the whole pool however few are
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.full_bayes.axes import Axis, place
from hbpipe.full_bayes.densities import log_density
from hbpipe.full_bayes.families import LIKELIHOODS, Array, Likelihood, Rows
from hbpipe.full_bayes.library import Library
from hbpipe.model.families import get_family
from hbpipe.model.hyperpriors import LogPrior, Spec, compile_hyperprior
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES

Statistics = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Problem:
    """One pool of a family with one θ for each store.

    Parameters
    ----------
    family
        Its name.
    prior
        The compiled hyperprior.
    held
        Hyperparameters that are known.
    chosen
        Statistics of the J stores that are asked for.
    others, counts
        Distinct statistics of the other stores with data, and how many have each, (R,).
    guess, step
        Crude hyperparameters, and a step of the location, from the data.
    """

    family: str
    prior: LogPrior
    held: Mapping[str, float]
    chosen: Rows
    others: Rows
    counts: Array
    guess: Mapping[str, float]
    step: float

    @property
    def likelihood(self) -> Likelihood:
        """The family's likelihood."""
        return LIKELIHOODS[self.family]

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of what is unknown of a store."""
        return ("theta",)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The free hyperparameters."""
        supports = self.likelihood.supports
        return tuple(
            Axis(
                name,
                supports.get(name, "positive"),
                self.guess[name],
                self.step,
                FEWEST_DEGREES if supports.get(name) == "above" else 0.0,
            )
            for name in self.prior.measure
        )

    def hyperparameters(self, library: Library, points: Sequence[Any]) -> tuple[Any, Any]:
        """Return all hyperparameters at points of the line, and log prior with the Jacobian."""
        named, jacobian = place(library, self.axes, points)
        full = self.likelihood.complete({**named, **self.held})
        return full, log_density(library, self.prior.terms, full) + jacobian

    def everyone(self) -> tuple[Rows, Array]:
        """Return the stores with data, chosen or not, as rows and counts."""
        size = self.chosen[self.likelihood.columns[0]]
        rows = {
            name: np.concatenate([self.chosen[name][size > 0], self.others[name]])
            for name in self.likelihood.columns
        }
        return rows, np.concatenate([np.ones(int((size > 0).sum())), self.counts])


def pose(
    family: str,
    statistics: Statistics,
    chosen: NDArray[np.int64],
    *,
    hyperprior: Spec = None,
    fixed: Mapping[str, Any] | None = None,
) -> Problem:
    """Pose the question for some stores of a pool.

    Parameters
    ----------
    family, statistics
        The family, and the statistics of all stores of the pool, (J, ...).
    chosen
        Numbers of the stores that are asked for.
    hyperprior, fixed
        As in ``hbpipe.fit``.

    Raises
    ------
    FitError
        When the hyperprior does not fit the family, or no store has data.
    """
    model, held = get_family(family), {k: float(v) for k, v in (fixed or {}).items()}
    sketch = model.compress(statistics, np.zeros(_length(statistics), np.int64), 1)
    prior = compile_hyperprior(model, hyperprior, sketch, held=frozenset(held))
    likelihood, rows = LIKELIHOODS[family], _rows(family, statistics)
    size = rows[likelihood.columns[0]]
    if not np.any(size > 0):
        raise FitError("no store of the pool has data", where={"family": family})
    rest = np.setdiff1d(np.flatnonzero(size > 0), chosen)
    table = np.stack([rows[name][rest] for name in likelihood.columns], axis=1)
    distinct, counts = np.unique(table, axis=0, return_counts=True)
    guess, step = likelihood.guess({name: value[size > 0] for name, value in rows.items()})
    return Problem(
        family=family,
        prior=prior,
        held=held,
        chosen={name: value[chosen] for name, value in rows.items()},
        others=dict(zip(likelihood.columns, distinct.T, strict=True)),
        counts=counts.astype(np.float64),
        guess=guess,
        step=step,
    )


def _length(statistics: Statistics) -> int:
    return len(next(iter(statistics.values())))


def _rows(family: str, statistics: Statistics) -> dict[str, Array]:
    """Return what the likelihood uses as floats; zeros for a store without data."""
    found = {name: np.asarray(values, np.float64) for name, values in statistics.items()}
    if family == "normal_known_variance":
        # An infinite variance is no estimate at all.
        found["precision"] = 1.0 / found["variance"]
    columns = LIKELIHOODS[family].columns
    size = found[columns[0]]
    return {name: np.where(size > 0, found[name], 0.0) for name in columns}
