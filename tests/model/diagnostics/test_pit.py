"""The PIT histogram against its definition, and its components against integrals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from hbpipe.model.diagnostics import pit
from hbpipe.model.diagnostics.tails import Tails


def counts(rows: int = 50) -> Tails:
    """Poisson counts in their own law: wide intervals and narrow ones."""
    rng = np.random.default_rng(1)
    mean = np.exp(rng.uniform(-2, 5, rows))
    y = rng.poisson(mean)
    return Tails(
        stats.poisson.cdf(y - 1, mean), stats.poisson.pmf(y, mean), stats.poisson.sf(y, mean)
    )


def czado(u: float, low: float, high: float) -> float:
    """F(u | y), equation 2 of Czado, Gneiting and Held (2009)."""
    return 0.0 if u <= low else 1.0 if u >= high else (u - low) / (high - low)


def test_the_histogram_is_that_of_czado_gneiting_and_held() -> None:
    tails = counts()
    expected = [
        np.mean(
            [
                czado((b + 1) / pit.BINS, low, low + at) - czado(b / pit.BINS, low, low + at)
                for low, at in zip(tails.below, tails.equal, strict=True)
            ]
        )
        for b in range(pit.BINS)
    ]
    np.testing.assert_allclose(pit.histogram(tails).mean(axis=0), expected, atol=1e-12)


def test_a_density_is_put_into_one_bin() -> None:
    z = stats.norm.ppf([0.0, 0.04, 0.55, 0.999, 1.0])
    tails = Tails(special.ndtr(z), np.zeros(5), special.ndtr(-z))
    found = pit.histogram(tails)
    assert found.sum(axis=1).tolist() == [1.0] * 5
    assert found.argmax(axis=1).tolist() == [0, 0, 5, 9, 9]


@pytest.mark.parametrize("degree", range(1, pit.DEGREE + 1))
def test_components_are_means_of_legendre_polynomials(degree: int) -> None:
    tails = counts()
    nodes, weights = special.roots_legendre(20)
    found = pit.components(tails)[:, degree - 1]
    middle, half = tails.below + 0.5 * tails.equal, 0.5 * tails.equal
    u = middle[:, None] + half[:, None] * nodes
    polynomial = np.sqrt(2 * degree + 1) * special.eval_legendre(degree, 2 * u - 1)
    np.testing.assert_allclose(found, polynomial @ weights / 2, atol=1e-9)


def test_the_expectation_over_counts_is_exactly_zero() -> None:
    y, mean = np.arange(200), 3.7
    law = stats.poisson(mean)
    tails = Tails(law.cdf(y - 1), law.pmf(y), law.sf(y))
    np.testing.assert_allclose(law.pmf(y) @ pit.components(tails), 0.0, atol=1e-12)
    assert law.pmf(y) @ pit.covered(tails, 0.1, 0.9) == pytest.approx(0.8, abs=1e-12)
