"""Log ratios of shares, also of shares that are 0, and what counts of classes cannot tell."""

from __future__ import annotations

from functools import partial

import numpy as np

from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Array, Degeneracy
from hbpipe.model.marginal.dirichlet_multinomial import ShareSketch

#: Bounds of log ratios to the last class; wider than what stands for a share of 0.
LOG_RATIO_BOUND = 40.0
#: A class that was never seen has the share of e^−30 of a class that was.
_NEVER = 30.0


def contrasts(mean: Array) -> Array:
    """Log ratios (..., K − 1) of shares (..., K) to the last class.

    A share of 0 is taken as e^−30 of the last one, or of the largest where the last is 0.
    """
    last, largest = mean[..., -1:], np.max(mean, axis=-1, keepdims=True)
    base = np.where(last > 0, last, np.where(largest > 0, largest * np.exp(-_NEVER), 1.0))
    base = np.where(np.isnan(last), last, base)
    least = np.where(last > 0, last * np.exp(-_NEVER), base)
    return np.asarray(np.log(np.where(mean > 0, mean, least)) - np.log(base))[..., :-1]


def degeneracies(sketch: ShareSketch) -> tuple[Degeneracy, ...]:
    """No event; events of one class; a single store; one event per store; classes never seen."""
    totals, stores = sketch.class_totals, sketch.n_groups
    zero, pinned = np.zeros((sketch.n_pools, 1)), _of_classes_never_seen(totals)
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=np.zeros((sketch.n_pools, sketch.size)),
            identified=False,
            found="no store has an event",
            remedy="leave this pool out, or fix mean and concentration",
        ),
        *_at_the_edge(sketch, totals),
        Degeneracy(
            "one_trial_each",
            totals.sum(axis=1) == stores,
            limit=np.concatenate([pinned, zero], axis=1),
            identified=False,
            found="no store has more than one event, so the spread of shares is not identified",
            remedy="fix the concentration, or give it a proper hyperprior and estimator='map'",
        ),
        Degeneracy(
            "empty_classes",
            np.any(totals == 0, axis=1),
            limit=np.concatenate([pinned, np.full_like(zero, np.nan)], axis=1),
            identified=True,
            found="a class has no event in any store, so its mean share is estimated as 0",
            remedy="leave the class out, or give a hyperprior of the mean and estimator='map'",
            unless=("mean",),
        ),
    )


def _at_the_edge(sketch: ShareSketch, totals: Array) -> tuple[Degeneracy, ...]:
    """Shapes of the data that leave the spread at none, with the pooled shares as the mean."""
    share = ratio(totals, totals.sum(axis=1, keepdims=True))
    case = partial(
        Degeneracy,
        limit=np.concatenate([contrasts(share), np.zeros((sketch.n_pools, 1))], axis=1),
        identified=True,
        remedy="pool these stores with others, or give proper hyperpriors for mean and "
        "concentration and estimator='map'",
        unless=("mean",),
    )
    return (
        case(
            status="one_class",
            pools=np.sum(totals > 0, axis=1) == 1,
            found="all events are of one class, so its mean share is estimated as 1",
        ),
        case(
            status="one_store",
            pools=sketch.n_groups == 1,
            found="a single store has events, so the spread between stores is unknown",
        ),
    )


def _of_classes_never_seen(totals: Array) -> Array:
    """Log ratios of classes without an event, NaN for the others, (G, K − 1).

    Where the last class has none, every ratio to it is infinite: the most frequent class is
    put in its place, and the others are estimated beside that.
    """
    never = totals[:, :-1] == 0
    last_is_seen = totals[:, -1] > 0
    found = np.where(never, np.where(last_is_seen, -_NEVER, 0.0)[:, None], np.nan)
    largest = np.argmax(totals[:, :-1], axis=1)
    rows = np.flatnonzero(~last_is_seen)
    found[rows, largest[rows]] = _NEVER
    return found
