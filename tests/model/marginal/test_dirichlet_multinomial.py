"""The Dirichlet-multinomial likelihood against 60-digit arithmetic and the Beta-Binomial."""

from decimal import Decimal, localcontext
from math import prod

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.marginal.dirichlet_multinomial import ShareSketch, log_coefficient, log_marginal


def counts_of(stores=12, size=4, most=400, seed=1):
    rng = np.random.default_rng(seed)
    theta = rng.dirichlet(np.arange(1.0, size + 1.0), stores)
    return rng.multinomial(rng.integers(0, most, stores), theta)


def exact(counts, alpha):
    """Log probability of the counts of each store, factor by factor, added up."""
    with localcontext() as context:
        context.prec = 60
        alpha = [Decimal(float(a)) for a in alpha]
        total = Decimal(0)
        for row in counts.tolist():
            total += log_rising(Decimal(1), sum(row)) - log_rising(sum(alpha), sum(row))
            for y, a in zip(row, alpha, strict=True):
                total += log_rising(a, y) - log_rising(Decimal(1), y)
        return total


def log_rising(a, m):
    """Log of a (a + 1) ... (a + m − 1)."""
    return prod((a + i for i in range(m)), start=Decimal(1)).ln()


def coordinates_of(alpha):
    return get_family("dirichlet_multinomial", len(alpha)).to_coordinates({"alpha": alpha})[None]


@pytest.mark.parametrize("concentration", [0.01, 1.0, 30.0, 1e4, 1e8, 1e12])
def test_the_value_is_that_of_gamma_functions(concentration):
    counts = counts_of()
    sketch = ShareSketch.of({"counts": counts}, np.zeros(len(counts), int), 1)
    # Powers of two, so that the coordinates carry the same numbers.
    alpha = concentration * np.array([0.5, 0.25, 0.125, 0.125])
    value = log_marginal(sketch, coordinates_of(alpha))[0][0]
    # φ as a float knows the concentration to one part in 1e16; the value feels that no more.
    assert value == pytest.approx(float(exact(counts, alpha)), rel=1e-10, abs=1e-8)


def test_without_spread_it_is_the_multinomial():
    counts = counts_of()
    sketch = ShareSketch.of({"counts": counts}, np.zeros(len(counts), int), 1)
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    point = coordinates_of(shares)
    point[:, -1] = 0.0
    expected = np.sum(log_coefficient(counts)) + np.sum(counts * np.log(shares))
    assert log_marginal(sketch, point)[0][0] == pytest.approx(expected, rel=1e-13)


def test_two_classes_are_the_beta_binomial():
    counts = counts_of(size=2)
    point = np.array([[-0.7, 0.04]])
    other = get_family("beta_binomial")
    arrays = {"successes": counts[:, 0], "trials": counts.sum(axis=1)}
    expected = other.log_marginal(other.compress(arrays, np.zeros(12, int), 1), point)
    found = log_marginal(ShareSketch.of({"counts": counts}, np.zeros(12, int), 1), point)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-9)


def test_merging_two_classes_is_the_sum_of_their_alphas():
    """The aggregation property of the Dirichlet law, for the parts that a count of both has."""
    counts, alpha = counts_of(), np.array([4.0, 2.0, 1.0, 3.0])
    merged = np.column_stack([counts[:, :2], counts[:, 2:].sum(axis=1)])
    pools = np.zeros(len(counts), int)
    given = counts[:, 2:]
    whole, part, rest = (
        log_marginal(ShareSketch.of({"counts": table}, pools, 1), coordinates_of(a))[0][0]
        for table, a in ((counts, alpha), (merged, [4.0, 2.0, 4.0]), (given, alpha[2:]))
    )
    assert whole == pytest.approx(part + rest, rel=1e-12)


def test_the_table_has_no_row_for_every_number_up_to_the_largest():
    counts = np.array([[10**9, 3, 5], [2, 10**12, 1], [0, 0, 0]])
    sketch = ShareSketch.of({"counts": counts}, np.zeros(3, int), 1)
    assert sketch.n_rows < 60
    assert sketch.n_groups.tolist() == [2]
    assert np.isfinite(log_marginal(sketch, coordinates_of(np.array([2.0, 3.0, 1.0])))[0]).all()
