"""What stores say of their groups' means, for many spreads at once.

In units of σ² a message depends on one number, the odds A = τ²/σ² (τ² where the sampling variances
are known): with V = σ² (1 + n A), σ enters only as a factor. As functions of log A, messages
are analytic within ±π i of the line, since their poles lie at A = −1/n. So a table of them
replaces the stores: local interpolation of degree 9 at steps of 0.2 has relative errors of
1e-9, and integration over hyperparameters costs no more for a million stores than for a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import NOISE, SPREAD, geometry_of
from hbpipe.model.nested.messages import Message
from hbpipe.model.numerics.jets import constants

#: Step of log A, and how far the table reaches on both sides of one over the median size; beyond,
#: the message of the nearest end is taken.
_STEP, _REACH = 0.2, 25.0
#: Nodes of a polynomial.
_NODES = 10
#: Rows of sketches that are evaluated together.
_ROWS = 2**18


@dataclass(frozen=True)
class MessageTable:
    """Messages of ``F`` groups at ``T`` values of log A, with σ = 1.

    Parameters
    ----------
    low
        The first log A.
    precision, away, peak
        (T, F): ``away`` is the message's mean less ``centre``.
    centre
        (F,) a mean of each group.
    squares
        (T, F) the sum of squares in the peak, which σ² divides; zero where there is no σ.
    values
        (F,) the number of values; zero where there is no σ.
    """

    low: float
    precision: Array
    away: Array
    peak: Array
    centre: Array
    squares: Array
    values: Array

    @classmethod
    def of(cls, family: Family, pools: Any, typical: float) -> MessageTable:
        """Tabulate the messages of the pools of a sketch.

        Parameters
        ----------
        family, pools
            A normal family, and the sketch of the groups.
        typical
            Median size of a store.
        """
        log_odds = np.arange(-_REACH, _REACH + 0.5 * _STEP, _STEP) - np.log(typical)
        precision, mean, peak = _messages(family, pools, log_odds, 0.0)
        centre = mean[len(mean) // 2]
        squares, values = np.zeros_like(peak), np.zeros(len(centre))
        if geometry_of(family).has_noise:
            # At σ = 1 and σ = 2: peak = − N log σ − squares/(2 σ²) + what A alone decides.
            values = np.asarray(pools.n_values, np.float64)
            _, _, wider = _messages(family, pools, log_odds, np.log(2.0))
            squares = (wider - peak + values * np.log(2.0)) * (8.0 / 3.0)
        return cls(float(log_odds[0]), precision, mean - centre, peak, centre, squares, values)

    def at(self, log_odds: Array, noise: Array) -> Message:
        """Messages at points (S,) of log A and σ², without derivatives, (S F,)."""
        places, shares = self._interpolate(log_odds)
        precision, away, peak, squares = (
            sum(share[:, None] * table[place] for place, share in zip(places, shares, strict=True))
            for table in (self.precision, self.away, self.peak, self.squares)
        )
        relative = 1.0 / noise[:, None]
        peak = peak - 0.5 * self.values * np.log(noise)[:, None] + 0.5 * squares * (1.0 - relative)
        parts = (precision * relative, away + self.centre, peak)
        return Message(*(constants(part.ravel(), 0) for part in parts))

    def _interpolate(self, log_odds: Array) -> tuple[Array, Array]:
        """Places (N, S) of the nodes around each point, and Lagrange's weights for them."""
        last = len(self.precision) - 1
        position = np.clip((log_odds - self.low) / _STEP, 0.0, last)
        first = np.clip(np.floor(position) - (_NODES // 2 - 1), 0, last - _NODES + 1)
        offset = position - first
        numbers = np.arange(_NODES)
        shares = []
        for k in numbers:
            others = numbers[numbers != k]
            shares.append(np.prod((offset[:, None] - others) / (k - others), axis=1))
        return (first + numbers[:, None]).astype(np.int64), np.stack(shares)


def _messages(
    family: Family, pools: Any, log_odds: Array, log_sigma: float
) -> tuple[Array, Array, Array]:
    """Precision, mean and peak at values of log A, (T, F) each."""
    assert family.location_message is not None, "checked before a nested fit"
    groups, length = pools.n_pools, max(1, _ROWS // max(1, pools.n_rows))
    parts = []
    for begin in range(0, len(log_odds), length):
        some = log_odds[begin : begin + length]
        coordinates = np.zeros((len(some) * groups, len(family.coordinates)))
        coordinates[:, SPREAD] = np.repeat(np.exp(some + 2.0 * log_sigma), groups)
        if geometry_of(family).has_noise:
            coordinates[:, NOISE] = log_sigma
        many = pools.select(np.tile(np.arange(groups), len(some)))
        message = family.location_message(many, coordinates, derivatives=False)
        values = (message.precision.value, message.mean.value, message.peak.value)
        parts.append([value.reshape(len(some), groups) for value in values])
    precision, mean, peak = (np.concatenate(part) for part in zip(*parts, strict=True))
    return precision, mean, peak
