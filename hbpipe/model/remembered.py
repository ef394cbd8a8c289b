"""What a fit was integrated to, kept for as long as the fit lives."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from hbpipe.model.fits import PoolFits

Nodal = TypeVar("Nodal")

#: Nodes by (identity of the fit, uncertainty), for as long as the fit lives: an analyst who
#: updates several sets of stores with one fit integrates once.
_NODES: dict[tuple[int, str], Any] = {}


def remembered(fits: PoolFits, uncertainty: str, integrate: Callable[..., Nodal]) -> Nodal:
    """Integrate a fit, or return what that gave before."""
    key = (id(fits), uncertainty)
    if key not in _NODES:
        _NODES[key] = integrate(fits, uncertainty=uncertainty)
        weakref.finalize(fits, _NODES.pop, key, None)
    found: Nodal = _NODES[key]
    return found
