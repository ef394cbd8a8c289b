"""What a sampler moves on: log densities of hyperparameters and chosen stores together.

*Centred*, a store's place is η itself; *non-centred* it is its distance from the prior's location
in scales of the prior (Papaspiliopoulos, Roberts and Sköld 2007). Which one is good depends on how
much the stores say, so both are tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hbpipe.full_bayes.library import Library, jax_library
from hbpipe.full_bayes.problem import Problem

Array = NDArray[np.float64]
#: ``h``, the hyperparameters on the line (D,), and ``stores``, the places of the stores (J, ...).
Position = Mapping[str, Any]

#: Chains start so far from the guess, in steps of each axis: wider than most posteriors.
JITTER = 0.5


class Target(Protocol):
    """A posterior density that can be sampled."""

    def start(self, rng: np.random.Generator, chains: int) -> dict[str, Array]:
        """Return different places for the chains to begin at, (C, ...) each."""

    def log_density(self, position: Position, *, centred: bool) -> Any:
        """Log posterior density up to a constant, as a number of jax."""

    def theta(self, position: Position, *, centred: bool) -> Any:
        """Return the stores' terms, (J, T), as an array of jax."""


@dataclass(frozen=True)
class OneTheta:
    """The target of a problem with one θ for each store."""

    problem: Problem

    @property
    def rows(self) -> int:
        """How many likelihoods a step evaluates: the chosen stores and distinct others."""
        return len(self._guess) + len(self.problem.counts)

    @cached_property
    def _library(self) -> Library:
        return jax_library()

    @cached_property
    def _guess(self) -> Array:
        """Where stores begin, in the place of η: the prior's location at the guess."""
        h = self.problem.likelihood.complete({**self.problem.guess, **self.problem.held})
        location, _ = self.problem.likelihood.line(self._library, h)
        size = len(next(iter(self.problem.chosen.values())))
        return np.full(size, float(location))

    def start(self, rng: np.random.Generator, chains: int) -> dict[str, Array]:
        """As ``Target.start``."""
        size = len(self._guess)
        return {
            "h": rng.normal(0.0, JITTER, (chains, len(self.problem.axes))),
            "stores": rng.normal(0.0, JITTER, (chains, size)),
        }

    def log_density(self, position: Position, *, centred: bool) -> Any:
        """As ``Target.log_density``."""
        xp, problem = self._library.np, self.problem
        likelihood = problem.likelihood
        h, total = problem.hyperparameters(self._library, list(position["h"]))
        eta, jacobian = self._eta(h, position["stores"], centred)
        total = total + xp.sum(likelihood.log_joint(self._library, h, eta, problem.chosen))
        if len(problem.counts):
            each = likelihood.log_marginal(self._library, h, problem.others)
            total = total + xp.sum(each * problem.counts)
        return total + jacobian

    def theta(self, position: Position, *, centred: bool) -> Any:
        """As ``Target.theta``."""
        h, _ = self.problem.hyperparameters(self._library, list(position["h"]))
        eta, _ = self._eta(h, position["stores"], centred)
        return self.problem.likelihood.theta(self._library, eta)[:, None]

    def _eta(self, h: Any, places: Any, centred: bool) -> tuple[Any, Any]:
        """Return η and log |∂η/∂place|."""
        if centred:
            return self._guess + self.problem.step * places, 0.0
        location, scale = self.problem.likelihood.line(self._library, h)
        return location + scale * places, len(self._guess) * self._library.np.log(scale)
