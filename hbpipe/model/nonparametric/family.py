"""A family with a nonparametric prior, made of a scalar family.

Its θ are drawn from Σ_k w_k p(θ | η_k) with fixed components η_k, as many as the data of a pool ask
for. Its coordinates are those of the single law that stands beside the grid: a mixture of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Derivatives, Family, Hyperparameters
from hbpipe.model.integration.sampling import StoreUpdate
from hbpipe.model.mixtures.conjugate import PROPORTION, ConjugateMixture
from hbpipe.model.mixtures.evidence import conjugate_law
from hbpipe.model.mixtures.family import raw_sd
from hbpipe.model.mixtures.sketch import MixtureSketch, compress, merge
from hbpipe.model.mixtures.stores import slots
from hbpipe.model.nonparametric.fit import estimate


def with_prior(base: Family) -> Family:
    """Return the family with a grid of laws as its prior.

    Raises
    ------
    FitError
        If the family has no such mixtures.
    """
    conjugate_law(base)
    mixture = ConjugateMixture(base)
    return replace(
        base,
        prior_form="grid",
        hyperparameters=(PROPORTION, *base.hyperparameters),
        compress=partial(compress, base),
        merge_sketches=partial(merge, base),
        moments={name: partial(_moments, moments) for name, moments in base.moments.items()},
        scale=lambda sketch: base.scale(sketch.whole),
        degeneracies=lambda sketch: base.degeneracies(sketch.whole),
        log_marginal=partial(_log_marginal, base),
        from_coordinates=partial(_from_coordinates, base),
        to_coordinates=partial(_to_coordinates, base),
        update=mixture.update,
        prior=mixture.prior,
        log_normaliser=mixture.log_normaliser,
        describe=mixture.describe,
        predict=mixture.predict,
        simulate=mixture.simulate,
        log_restriction=None,
        location_message=None,
        log_no_pooling=base.log_no_pooling and partial(_log_no_pooling, base.log_no_pooling),
        raw=base.raw_estimates,
        raw_sd=partial(raw_sd, base),
        geometry=None,
        regression=None,
        estimate=partial(estimate, base),
        sampling=StoreUpdate(**slots(base)),
    )


def _moments(moments: Callable[..., Array], sketch: MixtureSketch, held: Array) -> Array:
    return moments(sketch.whole, held)


def _log_marginal(base: Family, sketch: MixtureSketch, coordinates: Array) -> Derivatives:
    return base.log_marginal(sketch.whole, coordinates)


def _log_no_pooling(log_no_pooling: Callable[..., Array], sketch: Any, held: Array) -> Array:
    return log_no_pooling(sketch.whole, held)


def _from_coordinates(base: Family, coordinates: Array) -> dict[str, Array]:
    """One component with the proportion 1, name → (..., 1)."""
    named = base.from_coordinates(coordinates)
    found = {name: np.asarray(values)[..., None] for name, values in named.items()}
    return {PROPORTION: np.ones((*coordinates.shape[:-1], 1)), **found}


def _to_coordinates(base: Family, hyperparameters: Hyperparameters) -> Array:
    """Coordinates of a mixture of one.

    Raises
    ------
    FitError
        If there are more components: no coordinates stand for them.
    """
    given = {name: np.asarray(v, np.float64) for name, v in hyperparameters.items()}
    given.pop(PROPORTION, None)
    if any(values.ndim == 0 or values.shape[-1] != 1 for values in given.values()):
        raise FitError(
            "a nonparametric prior has no coordinates",
            where={"family": base.name},
            expected="hyperparameters of one component, (..., 1)",
            remedy="do not hold or start from values of such a prior",
        )
    return base.to_coordinates({name: values[..., 0] for name, values in given.items()})
