"""Weighted points of the hyperparameters of one root of nested levels."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.integration import drawing
from hbpipe.model.integration.drawing import Drawn
from hbpipe.model.numerics.importance import Limits
from hbpipe.model.numerics.modes import find_mode


class Target(Protocol):
    """The posterior of the hyperparameters.

    As :class:`hbpipe.model.integration.sampling.HyperTarget` says.

    ``log_density`` bounds its own memory and is finite or −∞ everywhere.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of those that are log sds."""

    @property
    def start(self) -> Array:
        """A point estimate, (V,)."""

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""


def draw(target: Target, limits: Limits) -> Drawn:
    """Integrate by :func:`hbpipe.model.integration.drawing.draw`.

    Chains that disagree in the end raise nothing: see ``Drawn.converged``.

    Parameters
    ----------
    target
        The posterior density; without free variables there is one point.
    limits
        What has to settle.
    """
    if not target.names:
        return Drawn(np.zeros((1, 0)), np.ones(1), "none", 1.0, 0.0)
    density = target.log_density
    return drawing.draw(density, find_mode(density, target.start, target.spreads), limits)
