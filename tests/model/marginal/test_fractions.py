"""Likelihoods of effective counts, which have fractions, against 80-digit arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mp

from hbpipe.model.families import get_family
from hbpipe.model.family import Family

#: Spreads, from none (its limit from above) to as much as there can be.
SPREADS = (0.0, 1e-15, 1e-8, 1e-3, 0.3)
LIMIT = 1e-30
GRID = 2.0**-30


@pytest.fixture(autouse=True)
def eighty_digits():
    with mp.workdps(80):
        yield


def on_grid(*values: float) -> list[float]:
    return [float(np.round(value / GRID) * GRID) for value in values]


def log_choose(parts: list[Any]) -> Any:
    return mpmath.loggamma(sum(parts) + 1) - sum(mpmath.loggamma(y + 1) for y in parts)


def rising(a: Any, phi: Any, m: Any) -> Any:
    """Π (a + kφ) for any m by Γ."""
    return m * mpmath.log(phi) + mpmath.loggamma(a / phi + m) - mpmath.loggamma(a / phi)


def shares(counts: list[float]) -> Callable[..., Any]:
    """Dirichlet-multinomial in (log ratios to the last class, φ)."""
    parts = [mpmath.mpf(y) for y in counts]

    def log_marginal(*point: Any) -> Any:
        *line, phi = point
        raised = [mpmath.exp(x) for x in (*line, mpmath.mpf(0))]
        mean = [x / sum(raised) for x in raised]
        each = sum(rising(m * (1 - phi), phi, y) for m, y in zip(mean, parts, strict=True))
        return log_choose(parts) + each - rising(1 - phi, phi, sum(parts))

    return log_marginal


def poisson(count: float, exposure: float) -> Callable[..., Any]:
    y, e = mpmath.mpf(count), mpmath.mpf(exposure)

    def log_marginal(log_mean: Any, kappa: Any) -> Any:
        z = mpmath.exp(log_mean) * e
        log_rate = y * mpmath.log(z) - (y + 1 / kappa) * mpmath.log(1 + kappa * z)
        return rising(mpmath.mpf(1), kappa, y) + log_rate - mpmath.loggamma(y + 1)

    return log_marginal


def assert_exact(family: Family, statistics: Any, point: Any, exact: Callable[..., Any]) -> None:
    """Compare value, gradient and Hessian of one store."""
    sketch = family.compress(
        {name: np.array([values]) for name, values in statistics.items()}, np.zeros(1, int), 1
    )
    value, gradient, hessian = family.log_marginal(sketch, np.array([point]))
    at = [mpmath.mpf(x) for x in point]
    at[-1] = at[-1] or mpmath.mpf(LIMIT)
    where, width = f"{statistics} at {point}", len(point)

    def compare(found: float, order: list[int]) -> None:
        truth = mpmath.diff(exact, at, tuple(order), h=at[-1] * mpmath.mpf(10) ** -12)
        assert abs(found - truth) <= 1e-8 * max(1, abs(truth)), (where, order)

    compare(value[0], [0] * width)
    for i in range(width):
        first = [int(k == i) for k in range(width)]
        compare(gradient[0, i], first)
        for j in range(i, width):
            compare(hessian[0, i, j], [one + int(k == j) for k, one in enumerate(first)])


@pytest.mark.parametrize("spread", SPREADS)
def test_beta_binomial(spread: float) -> None:
    family = get_family("beta_binomial")
    for logit, (y, failures) in product(
        (-6.0, 0.3), ((0.0, 0.7), (0.3, 0.9), (1.61, 12.4), (40.2, 3e4 / 7))
    ):
        y, failures = on_grid(y, failures)
        exact = shares([y, failures])
        assert_exact(family, {"successes": y, "trials": y + failures}, (logit, spread), exact)


@pytest.mark.parametrize("spread", [*SPREADS, 40.0])
def test_gamma_poisson(spread: float) -> None:
    family = get_family("gamma_poisson")
    for log_mean, (y, exposure) in product(
        (-5.0, 0.4), ((0.0, 0.7), (0.3, 9.1), (7.7, 3.3), (1e4 / 7, 812.5))
    ):
        exact = poisson(y, exposure)
        assert_exact(family, {"count": y, "exposure": exposure}, (log_mean, spread), exact)


@pytest.mark.parametrize("spread", SPREADS)
def test_dirichlet_multinomial(spread: float) -> None:
    family = get_family("dirichlet_multinomial", 3)
    for counts in ([0.0, 0.4, 0.3], [3.2, 0.0, 41.7], [812.9, 7.25, 60.1]):
        counts = on_grid(*counts)
        for line in ((0.2, -1.0), (-4.0, 2.0)):
            assert_exact(family, {"counts": counts}, (*line, spread), shares(counts))
