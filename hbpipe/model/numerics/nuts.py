"""One chain of the No-U-Turn sampler (Hoffman and Gelman 2014), multinomial (Betancourt 2017).

A chain is a coroutine: it yields a position and is sent the log density and its gradient there.
Whoever runs it can so answer the questions of many chains at once (``chains.py``). Positions are
in units in which the density is about standard normal, so the mass matrix is the identity.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import numpy as np

from hbpipe.model.family import Array

T = TypeVar("T")
#: Yields positions (V,), is sent log density and gradient (V,) there, and returns a T.
Asking: TypeAlias = Generator[Array, tuple[float, Array], T]

#: A trajectory has at most 2^this steps, and is given up when its energy is off by so much.
_DEEPEST, _DIVERGENT = 9, 1000.0
#: Dual averaging: wanted acceptance, and the constants of Hoffman and Gelman (2014), section 3.2.
_ACCEPTANCE, _GAMMA, _DELAY, _DECAY = 0.85, 0.05, 10.0, 0.75


@dataclass(frozen=True)
class _Point:
    """A point of a trajectory."""

    position: Array
    momentum: Array
    value: float
    gradient: Array

    @property
    def log_joint(self) -> float:
        """Log density of position and momentum, up to a constant."""
        return self.value - 0.5 * float(self.momentum @ self.momentum)


@dataclass(frozen=True)
class _Tree:
    """A piece of a trajectory.

    ``chosen`` is a point of it drawn by its weights, whose sum has the logarithm ``log_weight``;
    ``momentum`` the sum of its momenta; ``going`` whether it neither turned back nor diverged;
    ``acceptance`` the sum of acceptance probabilities of ``size`` points.
    """

    left: _Point
    right: _Point
    chosen: _Point
    log_weight: float
    momentum: Array
    going: bool
    acceptance: float
    size: int


@dataclass
class StepSize:
    """Step size by dual averaging of its logarithm (Nesterov 2009)."""

    initial: float
    error: float = 0.0
    count: int = 0
    log_average: float = 0.0
    current: float = field(init=False)

    def __post_init__(self) -> None:
        self.current = self.initial

    def learn(self, acceptance: float) -> None:
        """Move the step size towards the wanted acceptance."""
        self.count += 1
        share = 1.0 / (self.count + _DELAY)
        self.error += share * (_ACCEPTANCE - acceptance - self.error)
        log_step = math.log(10.0 * self.initial) - math.sqrt(self.count) / _GAMMA * self.error
        decay = self.count**-_DECAY
        self.log_average = decay * log_step + (1.0 - decay) * self.log_average
        self.current = math.exp(log_step)


def walk(
    start: Array, rng: np.random.Generator, length: int, step: float, *, adapt: bool
) -> Asking[tuple[Array, float]]:
    """Draw ``length`` positions, (N, V), one transition each.

    With ``adapt`` the step size is learnt on the way; its average is returned beside the draws.
    """
    value, gradient = yield start
    here = _Point(start, np.zeros_like(start), value, gradient)
    size, draws = StepSize(step), np.empty((length, len(start)))
    for number in range(length):
        here, acceptance = yield from _transition(here, rng, size.current)
        draws[number] = here.position
        if adapt:
            size.learn(acceptance)
    return draws, math.exp(size.log_average) if adapt else step


def _transition(
    here: _Point, rng: np.random.Generator, step: float
) -> Asking[tuple[_Point, float]]:
    """Grow a trajectory in random directions until it turns back; draw one of its points."""
    start = replace(here, momentum=rng.standard_normal(len(here.position)))
    energy = start.log_joint
    tree = _Tree(start, start, start, 0.0, start.momentum, True, 0.0, 0)
    for depth in range(_DEEPEST):
        signed = step if rng.random() < 0.5 else -step
        end = tree.right if signed > 0 else tree.left
        grown = yield from _grow(end, rng, signed, depth, energy)
        tree = _join(tree, grown, rng, signed > 0, favour_new=True)
        if not tree.going:
            break
    return tree.chosen, tree.acceptance / tree.size


def _grow(
    end: _Point, rng: np.random.Generator, step: float, depth: int, energy: float
) -> Asking[_Tree]:
    """Grow 2^depth points beyond ``end``, fewer when they turn back."""
    if depth == 0:
        point = yield from _leap(end, step)
        gain = point.log_joint - energy
        return _Tree(
            left=point,
            right=point,
            chosen=point,
            log_weight=gain,
            momentum=point.momentum,
            going=gain > -_DIVERGENT,
            acceptance=math.exp(min(gain, 0.0)),
            size=1,
        )
    near = yield from _grow(end, rng, step, depth - 1, energy)
    if not near.going:
        return near
    far = yield from _grow(near.right if step > 0 else near.left, rng, step, depth - 1, energy)
    return _join(near, far, rng, step > 0, favour_new=False)


def _leap(point: _Point, step: float) -> Asking[_Point]:
    """One leapfrog step."""
    half = point.momentum + 0.5 * step * point.gradient
    position = point.position + step * half
    value, gradient = yield position
    return _Point(position, half + 0.5 * step * gradient, value, gradient)


def _join(
    old: _Tree, new: _Tree, rng: np.random.Generator, rightwards: bool, *, favour_new: bool
) -> _Tree:
    """Join two pieces of a trajectory. The new point is taken by its piece's share of the weight.

    ``favour_new`` compares it with the old piece instead, which moves further (Betancourt 2017,
    section A.3.2). A new piece that turned back or diverged gives no point.
    """
    first, second = (old, new) if rightwards else (new, old)
    log_weight = float(np.logaddexp(old.log_weight, new.log_weight))
    log_share = new.log_weight - (old.log_weight if favour_new else log_weight)
    take = new.going and math.log(1.0 - rng.random()) < log_share
    momentum = old.momentum + new.momentum
    going = new.going and all(
        _straight(*piece)
        for piece in (
            (first.left, second.right, momentum),
            # Turns between the pieces, which the ends of long trajectories do not show.
            (first.left, second.left, first.momentum + second.left.momentum),
            (first.right, second.right, second.momentum + first.right.momentum),
        )
    )
    return _Tree(
        left=first.left,
        right=second.right,
        chosen=new.chosen if take else old.chosen,
        log_weight=log_weight,
        momentum=momentum,
        going=going,
        acceptance=old.acceptance + new.acceptance,
        size=old.size + new.size,
    )


def _straight(left: _Point, right: _Point, momentum: Array) -> bool:
    """Whether both ends still move along the sum of the momenta between them."""
    return bool(left.momentum @ momentum > 0 and right.momentum @ momentum > 0)
