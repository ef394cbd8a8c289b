"""Hyperpriors of ``hurdle_lognormal``: one of the conversion and one of the basket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Codes, Derivatives, Family
from hbpipe.model.geometry import geometry_of
from hbpipe.model.hurdle.parts import basket, conversion
from hbpipe.model.hyperpriors import LogPrior, Spec, compile_hyperprior
from hbpipe.model.marginal.hurdle_lognormal import (
    BASKET,
    CONVERSION,
    HurdleSketch,
    block_diagonal,
)
from hbpipe.model.names import suggestion


@dataclass(frozen=True)
class HurdlePrior:
    """The compiled hyperpriors of both parts, which are independent."""

    conversion: LogPrior
    basket: LogPrior

    def __call__(self, coordinates: Array) -> Derivatives:
        """Log density with respect to the named parameters; see ``hyperpriors.LogPrior``."""
        parts = (
            self.conversion(coordinates[:, CONVERSION]),
            self.basket(coordinates[:, BASKET]),
        )
        return block_diagonal(parts)

    def select(self, pools: Codes) -> HurdlePrior:
        """Return the hyperpriors of some pools."""
        return HurdlePrior(self.conversion.select(pools), self.basket.select(pools))


def compile_parts(spec: Any, sketch: HurdleSketch, held: Array) -> HurdlePrior:
    """Turn a specification into log densities; see :func:`split`.

    Parameters
    ----------
    held
        (5,) coordinates, NaN where free.

    Raises
    ------
    FitError
        As ``compile_hyperprior``, or for a name of neither part.
    """
    bought, paid = split(spec)
    return HurdlePrior(
        _compiled(conversion(), bought, sketch.conversion, held[CONVERSION]),
        _compiled(basket(), paid, sketch.basket, held[BASKET]),
    )


def _compiled(family: Family, spec: Spec, sketch: Any, held: Array) -> LogPrior:
    known = np.flatnonzero(~np.isnan(held))
    fixed = (family.coordinates[place].hyperparameter for place in known)
    return compile_hyperprior(family, spec, sketch, held=frozenset(fixed))


def split(spec: Any) -> tuple[Spec, Spec]:
    """Return what a specification says of the conversion, and of the basket.

    A mapping is taken apart by its names; a width of uniform shrinkage is for both; any other text
    is a joint hyperprior of the conversion. What is not said is the default.

    Raises
    ------
    FitError
        If a name belongs to neither.
    """
    if not isinstance(spec, Mapping):
        width = isinstance(spec, str) and spec.strip().startswith("uniform_shrinkage")
        return spec, spec if width else None
    names = [set(geometry_of(part).names) for part in (conversion(), basket())]
    for name in spec:
        if name not in names[0] | names[1]:
            known = sorted(names[0] | names[1])
            raise FitError(
                f"hurdle_lognormal has no hyperparameter {name!r}",
                expected=f"one of {', '.join(known)}",
                remedy=suggestion(str(name), known),
            )
    parts = [{name: spec[name] for name in spec if name in own} for own in names]
    return parts[0] or None, parts[1] or None
