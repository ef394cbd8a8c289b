"""Gaussian messages: what the data below a group say of its mean.

A message is a likelihood that is Gaussian in the mean μ of a group,

    log p(data | μ) = peak − ½ precision (μ − mean)²,

whatever lies below: a store's values, the stores of a region, the regions of a chain. Two steps
take messages up a tree, and one takes posteriors down it (Kalman and Rauch-Tung-Striebel on a
tree: Chou, Willsky and Benveniste 1994; Willsky 2002, *Proc. IEEE* 90, section IV).

Where a group varies around its parent with variance t, its mean integrated out,

    precision' = precision/(1 + t precision),     peak' = peak − ½ log(1 + t precision),

the mean unchanged. Neither t = 0 nor a group without data (precision 0) is a special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.model.family import Array, Codes
from hbpipe.model.numerics.jets import Jet, log, reciprocal, total


@dataclass(frozen=True)
class Message:
    """What data say of the means of ``G`` groups; jets (G,) of the variance parameters.

    A group without data has precision, mean and peak 0.
    """

    precision: Jet
    mean: Jet
    peak: Jet

    def embed(self, dimension: int) -> Message:
        """Return the same message in ``dimension`` variables, the first of them its own."""
        parts = (self.precision, self.mean, self.peak)
        return Message(*(part.embed(dimension) for part in parts))

    def at(self, location: Jet) -> Jet:
        """Evaluate the log likelihood at given means."""
        deviation = self.mean - location
        return self.peak - self.precision * deviation * deviation * 0.5


def widen(message: Message, variance: Jet) -> Message:
    """Turn messages about groups into messages about what they vary around.

    Parameters
    ----------
    message : about the means of G groups.
    variance : of these means around that of their parent, (G,).
    """
    total_variance = message.precision * variance + 1.0
    return Message(
        message.precision * reciprocal(total_variance),
        message.mean,
        message.peak - log(total_variance) * 0.5,
    )


def collect(message: Message, parents: Codes, n_parents: int) -> Message:
    """Multiply messages about the same mean: those of the children of every parent.

    Parameters
    ----------
    message : of C children, about their parent's mean.
    parents : (C,) their parents.
    n_parents : the number of parents.
    """
    precision = total(message.precision, parents, n_parents)
    empty = precision.value == 0
    inverse = reciprocal(precision + empty)
    weights = message.precision.value
    centre = np.bincount(parents, weights * message.mean.value, n_parents) * inverse.value
    # Sums of differences from a mean nearby: an offset of the data costs no digits.
    shift = total(message.precision * (message.mean - centre[parents]), parents, n_parents)
    mean = shift * inverse + centre
    deviation = message.mean - mean.take(parents)
    peak = message.peak - message.precision * deviation * deviation * 0.5
    return Message(precision, mean, total(peak, parents, n_parents))


def descend(
    message: Message, variance: Array, parents: Codes, mean: Array, uncertainty: Array
) -> tuple[Array, Array]:
    """Posterior mean and variance of the means of C children, given those of their parents.

    Given its parent's mean m, a child's is N(B m + (1 − B) mean, B t) with B = 1/(1 + t
    precision), so B² times the parent's own variance is added.

    Parameters
    ----------
    message : of the children, about their own means.
    variance : (C,) t, of the children around their parents.
    parents : (C,).
    mean, uncertainty : posterior mean and variance of the parents' means.
    """
    own = message.mean.value
    shrink = 1.0 / (1.0 + variance * message.precision.value)
    below = own + shrink * (mean[parents] - own)
    return below, shrink * variance + shrink**2 * uncertainty[parents]
