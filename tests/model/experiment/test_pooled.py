"""The posterior of the pooled effect and its spread, against a dense grid."""

from __future__ import annotations

import numpy as np
import pytest

from hbpipe.model.experiment.pooled import pooled_effect
from hbpipe.model.families import get_family
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.integrate import integrate_pools

EFFECT = get_family("normal_known_variance")
SCHOOLS = {
    "estimate": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
    "variance": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]) ** 2,
}
LEVELS = (0.025, 0.25, 0.5, 0.9, 0.975)
PRIOR = {"tau": "half_cauchy(10)"}


def schools(**options: object) -> PoolFits:
    sketch = EFFECT.compress(SCHOOLS, np.zeros(8, np.int64), 1)
    return fit_pools(EFFECT, sketch, hyperprior=PRIOR, **options)


def test_both_are_those_of_a_dense_grid() -> None:
    """τ on 40,000 points of its cdf; given τ, μ is normal (BDA3, eq. 5.20 and 5.21)."""
    tau = 1e4 * np.linspace(0.0, 1.0, 40_001)[1:] ** 4
    weight = 1.0 / (SCHOOLS["variance"] + tau[:, None] ** 2)
    v = 1.0 / weight.sum(axis=1)
    mu = v * (weight @ SCHOOLS["estimate"])
    squares = (weight * (SCHOOLS["estimate"] - mu[:, None]) ** 2).sum(axis=1)
    log = 0.5 * np.log(weight).sum(axis=1) + 0.5 * np.log(v) - 0.5 * squares
    density = np.exp(log - log.max()) / (1.0 + (tau / 10.0) ** 2) * np.gradient(tau)
    density /= density.sum()
    cdf = np.cumsum(density) - 0.5 * density
    found = pooled_effect(integrate_pools(schools(), uncertainty="integrated"), LEVELS)
    spread, pooled = found["tau"], found["mu"]
    mean = density @ tau
    sd = np.sqrt(density @ (tau - mean) ** 2)
    assert spread["mean"][0] == pytest.approx(mean, rel=1e-3)
    assert spread["sd"][0] == pytest.approx(sd, rel=0.02)
    np.testing.assert_allclose(spread["quantiles"][0], np.interp(LEVELS, cdf, tau), atol=0.02 * sd)
    from scipy import special

    above = density @ special.ndtr(mu / np.sqrt(v))
    assert pooled["mean"][0] == pytest.approx(density @ mu, abs=1e-3)
    assert pooled["above_zero"][0] == pytest.approx(above, abs=1e-3)
    for level, limit in zip(LEVELS, pooled["quantiles"][0], strict=True):
        assert density @ special.ndtr((limit - mu) / np.sqrt(v)) == pytest.approx(level, abs=1e-3)


def test_first_order_is_a_lognormal_law_of_the_spread() -> None:
    nodes = integrate_pools(schools(), uncertainty="first_order")
    law = pooled_effect(nodes, (0.1587, 0.5, 0.8413))["tau"]
    low, middle, high = np.log(law["quantiles"][0])
    assert middle == pytest.approx(0.5 * np.log(nodes.spread[0, 0, 0]))  # type: ignore[union-attr]
    assert high - middle == pytest.approx(middle - low, rel=1e-6)
    assert law["mean"][0] > np.exp(middle)


def test_what_is_taken_as_known_has_no_interval() -> None:
    found = pooled_effect(integrate_pools(schools(), uncertainty="plug_in"), LEVELS)
    for law in found.values():
        assert np.isfinite(law["mean"]).all()
        assert np.isnan(law["sd"]).all()
        assert np.isnan(law["quantiles"]).all()
    held = pooled_effect(
        integrate_pools(schools(fixed={"tau": 5.0}), uncertainty="integrated"), LEVELS
    )
    assert held["tau"]["mean"][0] == pytest.approx(5.0)
    assert np.isnan(held["tau"]["sd"][0])
    assert held["mu"]["sd"][0] > 0
