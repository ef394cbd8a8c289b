"""Whether a hyperprior leaves a proper posterior."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.geometry import SPREAD
from hbpipe.model.peak import conditional, laplace
from hbpipe.model.target import Target

#: log A from the typical one at which the tails are looked at, and the slope they must exceed.
_FAR, _FARTHER, _LEAST_SLOPE = 24.0, 28.0, 0.02


def check_proper(target: Target, start: Array, spec: Any) -> None:
    """Raise unless the posterior of the spread falls off at both ends, in every pool.

    The density of log A, other variables integrated by Laplace's method, must rise from "no
    spread" and fall towards "no pooling"; a power law that does not is not integrable. This
    finds, for example, uniform τ with fewer than three stores, uniform τ² with fewer than four,
    ``reciprocal`` τ always, and ``bda3`` without a store that has both successes and failures.

    Raises
    ------
    FitError
        With the number of the first pool concerned.
    """
    if SPREAD not in target.free:
        return
    typical = -np.log(target.geometry.median_size(target.sketch))
    for side, end in ((-1.0, "small"), (1.0, "large")):
        values = []
        for distance in (_FAR, _FARTHER):
            _, jet = conditional(target, start, typical + side * distance, precise=True)
            values.append(laplace(target, jet))
        slope = (values[1] - values[0]) / (_FARTHER - _FAR)
        improper = ~(slope < -_LEAST_SLOPE)
        if improper.any():
            pool = int(np.flatnonzero(improper)[0])
            raise FitError(
                f"the hyperprior {spec!r} gives an improper posterior: arbitrarily {end} spreads "
                "between stores keep all their weight",
                where={"pool": pool, "stores": int(target.sketch.n_groups[pool])},
                expected="a posterior that integrates to one",
                remedy="leave the hyperprior out (the default is proper), give a proper one such "
                "as half_normal or half_cauchy, or pool more stores",
            )
