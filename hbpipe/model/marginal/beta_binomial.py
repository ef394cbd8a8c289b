"""The Beta-Binomial likelihood of the stores of many pools, from their distinct counts.

With the mean μ, φ = 1/(1 + α + β), a = μ(1 − φ) and b = (1 − μ)(1 − φ), the log probability of a
store's y successes out of n trials is (Griffiths 1973, *Biometrics* 29)

    log C(n, y) + R(a, φ; y) + R(b, φ; n − y) − R(1 − φ, φ; n),   R(a, φ; m) = Σ_{k<m} log(a + kφ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.estimation.rates import RateSums, merge_rate_sums, rate_sums, squares_about
from hbpipe.model.family import Array, Codes, Derivatives, Pearson, Statistics
from hbpipe.model.geometry import LOCATION
from hbpipe.model.marginal.given_spread import in_location
from hbpipe.model.marginal.rising import RisingCounts, RisingSums


@dataclass(frozen=True)
class BinomialSketch:
    """Distinct successes, failures and trials with counts, and sums for the moments; lossless.

    ``log_choose`` is Σ log C(n, y), (G,).
    """

    successes: RisingCounts
    failures: RisingCounts
    trials: RisingCounts
    rates: RateSums
    log_choose: Array

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> BinomialSketch:
        """Count distinct values; stores without trials drop out."""
        seen = np.asarray(statistics["trials"]) > 0
        pool = np.asarray(pools)[seen]
        y, n = np.asarray(statistics["successes"])[seen], np.asarray(statistics["trials"])[seen]
        successes, failures, trials = (RisingCounts.of(pool, m, n_pools) for m in (y, n - y, n))
        factorials = successes.total_log_factorial() + failures.total_log_factorial()
        rates = rate_sums(pool, y.astype(np.float64), n.astype(np.float64), n_pools)
        log_choose = trials.total_log_factorial() - factorials
        return cls(successes, failures, trials, rates, log_choose)

    @classmethod
    def merged(cls, sketches: Sequence[BinomialSketch]) -> BinomialSketch:
        """Add up sketches of disjoint stores."""
        return cls(
            RisingCounts.merged([sketch.successes for sketch in sketches]),
            RisingCounts.merged([sketch.failures for sketch in sketches]),
            RisingCounts.merged([sketch.trials for sketch in sketches]),
            merge_rate_sums([sketch.rates for sketch in sketches]),
            np.sum([sketch.log_choose for sketch in sketches], axis=0),
        )

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.log_choose)

    @property
    def n_rows(self) -> int:
        """Rows of all tables."""
        return self.successes.n_rows + self.failures.n_rows + self.trials.n_rows

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with at least one trial in each pool, (G,)."""
        return self.rates.stores.astype(np.int64)

    def select(self, pools: Codes) -> BinomialSketch:
        """Return the sketch of some pools."""
        return BinomialSketch(
            self.successes.select(pools),
            self.failures.select(pools),
            self.trials.select(pools),
            self.rates.select(pools),
            self.log_choose[pools],
        )

    def given_spread(self, log_spread: Array) -> BinomialGivenSpread:
        """Return the likelihood at given A = 1/(α + β); what depends on it alone is summed up."""
        spread = np.exp(log_spread)
        constant = self.log_choose - self.trials.value(np.ones_like(spread), spread)
        return BinomialGivenSpread(self.successes, self.failures, spread, constant)


def log_choose(n: NDArray[Any], y: NDArray[Any]) -> Array:
    """Log binomial coefficient."""
    return np.asarray(
        special.gammaln(n + 1.0) - special.gammaln(y + 1.0) - special.gammaln(n - y + 1.0)
    )


def log_marginal(sketch: BinomialSketch, coordinates: Array) -> Derivatives:
    """Log probability of the successes in (logit μ, φ), binomial coefficients included.

    Returns
    -------
    Value (G,), gradient (G, 2), Hessian (G, 2, 2).
    """
    logit, phi = coordinates[:, 0], coordinates[:, 1]
    mean, rest = special.expit(logit), special.expit(-logit)
    successes = sketch.successes(mean * (1.0 - phi), phi)
    failures = sketch.failures(rest * (1.0 - phi), phi)
    trials = sketch.trials(1.0 - phi, phi)

    value = sketch.log_choose + successes.value + failures.value - trials.value
    by_successes = _by_coordinates(successes, mean, rest, phi)
    by_failures = _by_coordinates(failures, rest, mean, phi)
    # The failures see the logit of 1 − μ, which is −logit μ.
    gradient = by_successes[0] + by_failures[0] * [-1.0, 1.0]
    hessian = by_successes[1] + by_failures[1] * [[1.0, -1.0], [-1.0, 1.0]]
    gradient[:, 1] -= trials.d_phi - trials.d_a
    hessian[:, 1, 1] -= trials.d_a_a - 2.0 * trials.d_a_phi + trials.d_phi_phi
    return value, gradient, hessian


def log_no_pooling(sketch: BinomialSketch, held: Array) -> Array:
    """Log probability of the successes where every store has its own θ = y/n, (G,)."""
    each = sketch.successes.total_m_log_m() + sketch.failures.total_m_log_m()
    return sketch.log_choose + each - sketch.trials.total_m_log_m()


def log_probability(sketch: BinomialSketch, coordinates: Array) -> Array:
    """Evaluate the same without derivatives, (G,)."""
    logit, phi = coordinates[:, 0], coordinates[:, 1]
    rest = 1.0 - phi
    rising = sketch.successes.value(special.expit(logit) * rest, phi)
    rising = rising + sketch.failures.value(special.expit(-logit) * rest, phi)
    return np.asarray(sketch.log_choose + rising - sketch.trials.value(rest, phi))


@dataclass(frozen=True)
class BinomialGivenSpread:
    """The likelihood at given A = 1/(α + β) as a function of logit μ, (G,) each.

    R(ca, cφ; m) = m log c + R(a, φ; m), so without the common factor 1 − φ a store has

        log C(n, y) + R(μ, A; y) + R(1 − μ, A; n − y) − R(1, A; n),

    of which the last term is one number for a pool.
    """

    successes: RisingCounts
    failures: RisingCounts
    spread: Array
    constant: Array

    @property
    def n_rows(self) -> int:
        """Rows that sums are taken over."""
        return self.successes.n_rows + self.failures.n_rows

    def select(self, pools: Codes) -> BinomialGivenSpread:
        """Return the likelihoods of some pools."""
        tables = self.successes.select(pools), self.failures.select(pools)
        return BinomialGivenSpread(*tables, self.spread[pools], self.constant[pools])

    def value(self, point: Array) -> Array:
        """Evaluate the log likelihood at working points (G, 2), (G,)."""
        mean, rest = special.expit(point[:, LOCATION]), special.expit(-point[:, LOCATION])
        successes = self.successes.value(mean, self.spread)
        return np.asarray(self.constant + (successes + self.failures.value(rest, self.spread)))

    def derivatives(self, point: Array) -> Derivatives:
        """Evaluate the same with its derivatives in the location."""
        mean, rest = special.expit(point[:, LOCATION]), special.expit(-point[:, LOCATION])
        successes = self.successes.along(mean, self.spread)
        failures = self.failures.along(rest, self.spread)
        slope, by_mean = mean * rest, successes[1] - failures[1]
        curvature = slope**2 * (successes[2] + failures[2]) + slope * (rest - mean) * by_mean
        value = self.constant + (successes[0] + failures[0])
        return in_location(value, slope * by_mean, curvature)


def _by_coordinates(sums: RisingSums, mean: Array, rest: Array, phi: Array) -> tuple[Array, Array]:
    """Differentiate R(μ(1 − φ), φ) in (logit μ, φ), given the derivatives in its arguments."""
    slope = mean * rest
    a_logit, a_phi = slope * (1.0 - phi), -mean
    gradient = np.stack([sums.d_a * a_logit, sums.d_phi + sums.d_a * a_phi], axis=-1)
    logit_logit = sums.d_a_a * a_logit**2 + sums.d_a * a_logit * (rest - mean)
    mixed = sums.d_a_a * a_logit * a_phi + sums.d_a_phi * a_logit - sums.d_a * slope
    phi_phi = sums.d_a_a * a_phi**2 + 2.0 * sums.d_a_phi * a_phi + sums.d_phi_phi
    hessian = np.stack([logit_logit, mixed, mixed, phi_phi], axis=-1).reshape(-1, 2, 2)
    return gradient, hessian


def pearson(sketch: BinomialSketch, coordinates: Array) -> Pearson:
    """Squares of the rates about μ in units of μ(1 − μ)/n, which grow as n − 1 (Williams 1982)."""
    mean, sums = special.expit(coordinates[:, 0]), sketch.rates
    unit = mean * special.expit(-coordinates[:, 0])
    return Pearson(
        squares_about(sums, mean) / unit,
        sums.size - sums.stores,
        unit * (sums.size_squared - sums.size),
    )
