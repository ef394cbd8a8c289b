"""Where an observation lies in its predictive distribution: what is below, at, and above it.

Few successes of a Beta-Binomial are summed, by the ratio of neighbouring probabilities

    P(k − 1)/P(k) = k (b + n − k) / [(n − k + 1)(a + k − 1)]

Of many, with G the cdf of the prior Beta(a, b), P(Y < y) is the probability that a
Beta(y, n − y + 1) variable, the y-th smallest of n uniform ones, exceeds an independent Beta(a, b)
variable (David and Nagaraja 2003, *Order Statistics*, section 2.1):

    P(Y < y) = ∫ Beta(θ; y, n − y + 1) G(θ) dθ = ∫ Beta(θ; a, b) [1 − I_θ(y, n − y + 1)] dθ

The narrower density is integrated, the other's cdf is then smooth: the trapezoidal rule on the
logit of θ, whose integrand is analytic and vanishes at both ends, converges geometrically
(Trefethen and Weideman 2014): to 1e-6 for parameters of 10, 1e-9 for large ones. Cdfs of round laws
are taken from their normal score, which is within 4e-5, and tails down to 1e-6 within 3 % of
themselves. Sizes need not be whole, where an overdispersion divided them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.normal_score import ROUND, beta_score
from hbpipe.model.family import Array

#: Up to so many successes, or failures, are summed.
_SUMMED = 400
#: The log density has fallen by so much at the ends of the trapezoidal rule.
_DROP = 18.5
#: Nodes of the rule: for densities near the normal law, with both parameters at least ``_ROUND``,
#: and for those whose tails are exponential.
_FEW, _MANY, _ROUND = 16, 40, 10.0
#: Numbers that one array of a block may hold.
_BLOCK = 2**19


@dataclass(frozen=True)
class Tails:
    """P(Y < y), P(Y = y) and P(Y > y) of observations y, any shape; ``equal`` is 0 for densities.

    They add up to one.
    """

    below: Array
    equal: Array
    above: Array

    def take(self, rows: NDArray[np.int64]) -> Tails:
        """Return some rows, any of them several times."""
        return Tails(self.below[rows], self.equal[rows], self.above[rows])

    def mixed(self, weight: Array) -> Tails:
        """Average over the last axis, with weights that add to one."""
        return Tails(
            *(np.sum(weight * part, axis=-1) for part in (self.below, self.equal, self.above))
        )

    @property
    def two_sided(self) -> Array:
        """Two-sided mid p-values: twice the smaller tail, half of P(Y = y) counted with it."""
        return np.minimum(2.0 * np.minimum(self.below, self.above) + self.equal, 1.0)


def normal_tails(z: Array) -> Tails:
    """Tails of a standard normal."""
    return Tails(special.ndtr(z), np.zeros_like(z), special.ndtr(-z))


def student_tails(freedom: Array, t: Array) -> Tails:
    """Tails of Student's t."""
    return Tails(special.stdtr(freedom, t), np.zeros_like(t), special.stdtr(freedom, -t))


def negative_binomial_tails(count: Array, exposure: Array, shape: Array, rate: Array) -> Tails:
    """Tails of counts whose rate is Gamma(shape, rate): incomplete beta ratios."""
    total = rate + exposure
    below = np.where(
        count > 0, special.betainc(shape, np.maximum(count, 1e-300), rate / total), 0.0
    )
    above = special.betainc(count + 1.0, shape, exposure / total)
    return Tails(below, np.maximum(1.0 - below - above, 0.0), above)


def beta_binomial_tails(successes: Array, trials: Array, alpha: Array, beta: Array) -> Tails:
    """Tails of successes whose chance is Beta(alpha, beta); arrays of one shape, trials above 0."""
    shape = np.shape(successes)
    y, n, a, b = (np.ravel(values) for values in (successes, trials, alpha, beta))
    equal = np.exp(log_beta_binomial(y, n, a, b))
    few = 2.0 * y <= n
    # Failures are successes seen from the other side; the side with few is summed.
    count, near, far = np.where(few, y, n - y), np.where(few, a, b), np.where(few, b, a)
    summed = (count <= _SUMMED) & (count == np.floor(count))
    tail = np.zeros(len(y))
    tail[summed] = _summed(*(part[summed] for part in (count, n, near, far, equal)))
    rest = np.clip(1.0 - equal - tail, 0.0, 1.0)
    # Of many the smaller tail is integrated, so that it keeps its digits.
    low = np.where(summed, few, y * (a + b) <= n * a)
    many = np.flatnonzero(~summed)
    y, n, a, b, below = y[many], n[many], a[many], b[many], low[many]
    tail[many] = _integrated(
        np.where(below, y, n - y), n, np.where(below, a, b), np.where(below, b, a)
    )
    rest[many] = np.clip(1.0 - equal[many] - tail[many], 0.0, 1.0)
    parts = np.where(low, tail, rest), equal, np.where(low, rest, tail)
    return Tails(*(part.reshape(shape) for part in parts))


def _summed(y: Array, n: Array, alpha: Array, beta: Array, equal: Array) -> Array:
    """P(Y < y) from P(Y = y), (R,), by adding up the probabilities below."""
    out = np.zeros(len(y))
    order = np.argsort(y, kind="stable")
    start = int(np.searchsorted(y[order], 1.0))
    while start < len(order):
        # Neighbours have about as many terms, twice as many at most.
        last = np.searchsorted(y[order], 2.0 * y[order[start]], side="right")
        end = min(int(last), start + max(1, _BLOCK // int(2.0 * y[order[start]])))
        rows = order[start:end]
        # A row with fewer terms ends in zeros.
        k = np.maximum(y[rows, None] - np.arange(int(y[rows[-1]])), 0.0)
        before = np.maximum(k - 1.0, 0.0)
        ratio = k * (beta[rows, None] + (n[rows, None] - k))
        ratio = ratio / ((n[rows, None] - before) * (alpha[rows, None] + before))
        terms = np.cumprod(ratio, axis=1)
        # One after the other: zeros at the end leave every bit alone.
        out[rows] = equal[rows] * np.cumsum(terms, axis=1)[:, -1]
        start = end
    return out


def log_beta_binomial(y: Array, n: Array, alpha: Array, beta: Array) -> Array:
    """Log probability of successes whose chance is Beta(alpha, beta), also between counts."""
    log_choose = -special.betaln(y + 1.0, n - y + 1.0) - np.log1p(n)
    return np.asarray(
        np.minimum(
            log_choose + special.betaln(alpha + y, beta + n - y) - special.betaln(alpha, beta), 0.0
        )
    )


def _integrated(y: Array, n: Array, alpha: Array, beta: Array) -> Array:
    """P(Y < y), of the shape of the arguments."""
    out = np.zeros(np.shape(y))
    own = 1.0 / np.maximum(y, 1.0) + 1.0 / (n - y + 1.0) < 1.0 / alpha + 1.0 / beta
    # The variance of a logit of a Beta variable is about 1/a + 1/b.
    least = np.where(own, np.minimum(y, n - y + 1.0), np.minimum(alpha, beta))
    for nodes, chosen in ((_FEW, least >= _ROUND), (_MANY, least < _ROUND)):
        rows = np.nonzero(chosen & (y > 0))
        parts = [values[rows] for values in (y, n - y + 1.0, alpha, beta)]
        here, length = own[rows], _BLOCK // nodes
        cuts = [slice(start, start + length) for start in range(0, len(here), length)]
        found = [_exceeds([part[cut] for part in parts], here[cut], nodes) for cut in cuts]
        out[rows] = np.concatenate(found) if found else 0.0
    return out


def _exceeds(parts: list[Array], own: NDArray[np.bool_], nodes: int) -> Array:
    """P(a Beta(y, rest) variable exceeds a Beta(alpha, beta) variable), (R,).

    ``parts`` are y, rest, alpha and beta, (R,) each; ``own`` tells where the density of the former
    is integrated.
    """
    y, rest, alpha, beta = parts
    a, b = np.where(own, y, alpha), np.where(own, rest, beta)
    left, right = _reach(a, b), _reach(b, a)
    offset = np.arange(nodes) * ((left + right) / (nodes - 1))[:, None] - left[:, None]
    weight = np.exp(-_fall(a[:, None], b[:, None], -offset))
    u = (np.log(a) - np.log(b))[:, None] + offset
    # 1 − I_θ(y, rest) is the cdf of the rest at 1 − θ.
    sign = np.where(own, 1.0, -1.0)[:, None]
    cdf = _beta_cdf(np.where(own, alpha, rest), np.where(own, beta, y), sign * u)
    return np.asarray(np.sum(weight * cdf, axis=1) / np.sum(weight, axis=1))


def _beta_cdf(a: Array, b: Array, logit: Array) -> Array:
    """I_x(a, b) for (R,) and logits of x (R, N); an x near one is known by its complement."""
    low, a, b = logit < 0, a[:, None], b[:, None]
    smaller = special.expit(-np.abs(logit))
    near, far = np.where(low, a, b), np.where(low, b, a)
    score = beta_score(np.maximum(near, ROUND), np.maximum(far, ROUND), smaller)
    found = special.ndtr(np.where(low, -score, score))
    exact = np.minimum(a, b) < ROUND
    found = special.betainc(a, b, smaller, where=low & exact, out=found)
    return np.asarray(special.betaincc(b, a, smaller, where=~low & exact, out=found))


def _reach(a: Array, b: Array) -> Array:
    """How far to the left of its summit a Beta(a, b) density on the logit line matters.

    Newton's steps on a convex function from beyond its root stay beyond it.
    """
    curvature = a * (b / (a + b))
    at = np.sqrt(2.0 * _DROP / curvature) + _DROP / a
    for _ in range(3):
        slope = a * -np.expm1(-at) / (1.0 + (a / b) * np.exp(-at))
        at = at - np.maximum(_fall(a, b, at) - _DROP, 0.0) / slope
    return np.asarray(at)


def _fall(a: Array, b: Array, left: Array) -> Array:
    """How much lower the log density is at a distance to the left of its summit.

    With x₀ = a/(a + b) there, a log(x₀/x) + b log((1 − x₀)/(1 − x)) for the logit less ``left``.
    """
    total = a + b
    mixed = np.logaddexp(np.log(b / total), np.log(a / total) - left)
    return np.asarray(a * left + total * mixed)
