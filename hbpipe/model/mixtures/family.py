"""A family whose prior is a mixture of two conjugate laws, made of a scalar family.

Most stores of a chain are drawn from one law and a few, flagships or outlets, from another. A
store is then shrunk to the law that its own data say it is of, and not to a mean of both.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Degeneracy, Family, Hyperparameters, Statistics
from hbpipe.model.mixtures.conjugate import PROPORTION, ConjugateMixture
from hbpipe.model.mixtures.coordinates import TwoComponents, as_two
from hbpipe.model.mixtures.evidence import conjugate_law
from hbpipe.model.mixtures.fit import estimate
from hbpipe.model.mixtures.integrate import integrate, sampling
from hbpipe.model.mixtures.likelihood import log_marginal
from hbpipe.model.mixtures.sketch import MixtureSketch, compress, merge
from hbpipe.model.pooling import no_pooling

#: The size of a sensible step of the proportion.
_STEP = 0.25


def with_prior(base: Family) -> Family:
    """Return the family with a prior of two components.

    Raises
    ------
    FitError
        If the family has no such mixtures.
    """
    conjugate_law(base)
    mixture, two = ConjugateMixture(base), TwoComponents(base)
    return replace(
        base,
        prior_form="mixture",
        hyperparameters=(PROPORTION, *base.hyperparameters),
        coordinates=two.axes,
        compress=partial(compress, base),
        merge_sketches=partial(merge, base),
        moments={name: partial(_moments, moments) for name, moments in base.moments.items()},
        scale=partial(_scale, base),
        degeneracies=partial(_degeneracies, base),
        log_marginal=partial(log_marginal, base),
        from_coordinates=two.from_coordinates,
        to_coordinates=two.to_coordinates,
        update=mixture.update,
        prior=mixture.prior,
        log_normaliser=mixture.log_normaliser,
        describe=mixture.describe,
        predict=mixture.predict,
        simulate=mixture.simulate,
        log_restriction=None,
        location_message=None,
        log_no_pooling=base.log_no_pooling and partial(_log_no_pooling, base),
        raw=base.raw_estimates,
        raw_sd=partial(raw_sd, base),
        geometry=None,
        regression=None,
        estimate=partial(estimate, base),
        sampling=sampling(base),
        integrate=partial(integrate, base),
    )


def _moments(moments: Any, sketch: MixtureSketch, held: Array) -> Array:
    """Put the moments of a single law into both components."""
    width = held.shape[1] // 2
    return as_two(moments(sketch.whole, held[:, :width]))


def _scale(base: Family, sketch: MixtureSketch) -> Array:
    found = as_two(base.scale(sketch.whole))
    found[:, -1] = _STEP
    return found


def _degeneracies(base: Family, sketch: MixtureSketch) -> tuple[Degeneracy, ...]:
    """Those of a single law: what leaves that without an estimate leaves two without."""
    return tuple(
        replace(case, limit=as_two(case.limit)) for case in base.degeneracies(sketch.whole)
    )


def _log_no_pooling(base: Family, sketch: MixtureSketch, held: Array) -> Array:
    assert base.log_no_pooling is not None
    return base.log_no_pooling(sketch.whole, held[:, : len(base.coordinates)])


def raw_sd(base: Family, statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Give the sampling sd of raw estimates, which no prior changes, (J,)."""
    return np.asarray(no_pooling(base, statistics, hyperparameters)[1])
