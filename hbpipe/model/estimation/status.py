"""What is said of a pool's fit: what is on a bound, and how it ended in one word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.estimation.problem import Problem
from hbpipe.model.family import Array, Family
from hbpipe.model.numerics.optimise import Optimum

#: A walk that stopped with less slope than this without a proper maximum stands on a plain.
_FLAT_NORM = 1e-3


def names_at_bound(
    family: Family, coordinates: Array, at_bound: NDArray[np.bool_]
) -> tuple[tuple[str, ...], ...]:
    """Name what each pool has on a bound, by hyperparameters."""
    if family.mirror is not None:
        return family.mirror.names(coordinates, at_bound)
    names = [axis.hyperparameter for axis in family.coordinates]
    return tuple(
        tuple(dict.fromkeys(name for name, on in zip(names, row, strict=True) if on))
        for row in at_bound
    )


def bounds_reached(problem: Problem, best: Optimum) -> NDArray[np.bool_]:
    """Estimated coordinates on a bound, by the gradient or because the data put them there."""
    lower, upper = problem.family.bounds
    on_bound = (best.coordinates <= lower) | (best.coordinates >= upper)
    return np.asarray(np.isnan(problem.held) & on_bound)


def status(
    problem: Problem, best: Optimum, at_bound: NDArray[np.bool_], *, climbed: bool
) -> NDArray[np.str_]:
    """One word per pool; the data's own word comes first."""
    family, spreads = problem.family, problem.family.spreads
    lost = (at_bound & (best.coordinates <= family.bounds[0]))[:, spreads].any(axis=1)
    alike = lost & np.all(best.coordinates[:, spreads] == 0, axis=1)
    singular = lost & (family.mirror is not None)
    held_all = ~np.isnan(problem.held).any(axis=1)
    flat = ~best.converged & (best.gradient_norm <= _FLAT_NORM) & climbed
    words = np.select(
        [
            problem.status != "",
            held_all,
            flat,
            ~best.converged,
            alike,
            singular,
            at_bound.any(axis=1),
        ],
        [problem.status, "fixed", "flat", "not_converged", "no_spread", "singular", "at_bound"],
        "ok",
    )
    return np.asarray(words, dtype="U32")
