"""Ranks within a pool against brute force and simulation, for every law of θ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model import ranking
from hbpipe.model.distributions.laws import BETA, GAMMA, NORMAL
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.rank import columns
from hbpipe.model.rank.average import points_of
from hbpipe.model.ranking import RankColumns, rank_pools
from tests.covariate_cases import DATA

Array = np.ndarray
METHODS = ("plug_in", "first_order", "integrated")


def stores(family: str, seed: int, count: int) -> dict[str, Any]:
    data, _ = DATA["normal" if family == "normal_inverse_gamma" else family](seed, count)
    return data


def ranked(p: Any, family: str, data: dict[str, Any]) -> RankColumns:
    codes = np.zeros(len(p["mean"]), np.int64)
    return rank_pools(get_family(family), p.nodes, data, codes)


def on_fine_grid(p: Any) -> tuple[Array, Array]:
    """Cdfs of all stores, (N, J), and their average, at many points of θ."""
    ends = p.quantile((1e-6, 1.0 - 1e-6))
    levels = np.linspace(0.0, 1.0, 101)
    points = np.unique(ends[:, :1] + levels * (ends[:, 1:] - ends[:, :1]))
    cdf = np.stack([p.cdf(x) for x in points])
    return cdf, np.mean(cdf, axis=1)


def by_brute_force(p: Any, points: Array) -> RankColumns:
    """The definitions, on a fine grid, store by store; lists of the best at these points of θ."""
    cdf, average = on_fine_grid(p)
    middle = 0.5 * (average[1:] + average[:-1])
    expected = middle @ np.diff(cdf, axis=0)
    # Between the ends of the grid there is all but a few millionths.
    expected += 0.5 * (1.0 - cdf[-1] + cdf[0])
    top, bottom = (
        np.array([np.interp(level, average, one) for one in cdf.T]) for level in (0.9, 0.1)
    )
    v = np.stack([1.0 - p.cdf(x) for x in points])
    alpha = np.r_[1.0, np.mean(v, axis=1), 0.0]
    return RankColumns(expected, 1.0 - top, bottom, r_by_definition(v, alpha))


def r_by_definition(v: Array, alpha: Array) -> Array:
    """The α, from 1 down, from which on a store is before more than a share α of its pool.

    V is (N, J) and α (N + 2,). λ is linear between stores, each of which is half before itself,
    and V − λ between points.
    """
    middle = (np.arange(v.shape[1]) + 0.5) / v.shape[1]
    limits = [
        np.interp(a, np.r_[0.0, middle, 1.0], np.r_[1.0, np.sort(row)[::-1], 0.0])
        for row, a in zip(v, alpha[1:-1], strict=True)
    ]
    out = []
    for room in (v - np.array(limits)[:, None]).T:
        off = next((i for i, own in enumerate(room) if own < 0), len(room))
        ends = np.r_[0.0, room, 0.0][off : off + 2]
        t = ends[0] / (ends[0] - ends[1]) if ends[0] > ends[1] else 0.5
        out.append(alpha[off] + t * (alpha[off + 1] - alpha[off]))
    return np.array(out)


@pytest.mark.parametrize("uncertainty", METHODS)
@pytest.mark.parametrize("family", [*DATA, "normal_inverse_gamma"])
def test_ranks_are_those_of_brute_force(
    family: str, uncertainty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = stores(family, 11, 5 if family == "normal_inverse_gamma" else 14)
    p = hbpipe.posterior(hbpipe.fit(family, data), data, uncertainty=uncertainty)
    seen: list[Array] = []

    def points(rows: Any) -> Array:
        seen.append(points_of(rows))
        return seen[-1]

    monkeypatch.setattr(columns, "points_of", points)
    found = ranked(p, family, data)
    law = {"beta_binomial": BETA, "gamma_poisson": GAMMA}.get(family, NORMAL)
    wanted = by_brute_force(p, law.from_line(seen[0][0, 1::2]))
    # Hyperparameters of so few stores are hardly known, and a few laws stand for many nodes.
    for name in ("expected_percentile", "p_top_10", "p_bottom_10"):
        missed = np.abs(getattr(found, name) - getattr(wanted, name))
        assert np.max(missed) < (0.02 if uncertainty == "integrated" else 1e-3), name
        assert np.mean(missed) < (5e-3 if uncertainty == "integrated" else 5e-4), name
    assert np.mean(found.expected_percentile) == pytest.approx(0.5, abs=1e-4)
    missed = np.abs(found.r_value - wanted.r_value)
    # Where V runs along λ the first crossing hangs on the last digits.
    alike = uncertainty == "integrated" or family == "normal_inverse_gamma"
    if np.ptp(wanted.expected_percentile) > 1e-3:  # else all stores are the same, to rounding
        assert np.median(missed) < 0.01 if alike else np.max(missed) < 0.01


@pytest.mark.parametrize("family", ["beta_binomial", "gamma_poisson", "normal"])
def test_ranks_are_shares_of_simulated_pools(family: str) -> None:
    data = stores(family, 3, 30)
    p = hbpipe.posterior(hbpipe.fit(family, data), data, uncertainty="integrated")
    rng, draws = np.random.default_rng(1), 400
    levels = (np.arange(draws) + rng.random(draws)) / draws
    theta = np.stack([rng.permutation(row) for row in p.quantile(tuple(levels))], axis=1)
    # Percentiles of draws of all stores at once: no formula of the average cdf.
    place = (np.argsort(np.argsort(theta, axis=1), axis=1) + 0.5) / theta.shape[1]
    found = ranked(p, family, data)
    np.testing.assert_allclose(np.mean(place, axis=0), found.expected_percentile, atol=0.012)
    pooled = np.sort(theta.ravel())
    low, high = np.quantile(pooled, [0.1, 0.9])
    np.testing.assert_allclose(np.mean(theta > high, axis=0), found.p_top_10, atol=0.012)
    np.testing.assert_allclose(np.mean(theta < low, axis=0), found.p_bottom_10, atol=0.012)


def test_each_term_of_a_regression_has_its_own_ranks() -> None:
    rng, count = np.random.default_rng(5), 25
    x = np.stack([np.ones((count, 12)), rng.standard_normal((count, 12))], axis=2)
    b = np.array([2.0, -1.0]) + rng.standard_normal((count, 2)) * np.array([0.5, 0.3])
    y = np.einsum("jnp,jp->jn", x, b) + rng.standard_normal((count, 12))
    data = {
        "n": np.full(count, 12),
        "xtx": np.einsum("jnp,jnq->jpq", x, x),
        "xty": np.einsum("jnp,jn->jp", x, y),
        "yty": np.sum(y * y, axis=1),
    }
    p = hbpipe.posterior(hbpipe.fit("normal_regression", data), data, uncertainty="first_order")
    found = p.rank()
    assert found["expected_percentile"].shape == (count, 2)
    for term in range(2):
        mean, sd = p["mean"][:, term], p["sd"][:, term]
        apart = np.sqrt(sd[:, None] ** 2 + sd**2)
        pairs = ndtr((mean[:, None] - mean) / apart)
        np.testing.assert_allclose(
            found["expected_percentile"][:, term], np.mean(pairs, axis=1), atol=1e-4
        )


def known(mean: Any, sd: Any) -> tuple[Any, dict[str, Array]]:
    """Estimates so exact, or not, that their posteriors are N(mean, sd²)."""
    data = {"estimate": np.asarray(mean, float), "variance": np.square(np.asarray(sd, float))}
    fit = hbpipe.fit("normal_known_variance", data, fixed={"mu": 0.0, "tau": 1e8})
    return hbpipe.posterior(fit, data, uncertainty="plug_in"), data


def pairs(mean: Array, sd: Array) -> Array:
    """Expected percentiles of normal posteriors, pair by pair."""
    apart = np.sqrt(sd[:, None] ** 2 + sd**2)
    return np.mean(ndtr((mean[:, None] - mean) / apart), axis=1)


@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [
        ("all alike", np.linspace(-1, 1, 150), np.full(150, 0.5)),
        ("hardly overlapping", np.linspace(-1, 1, 150) ** 3, np.full(150, 1e-4)),
        ("a hair and flagships", np.r_[np.linspace(-1, 1, 200) * 1e-3, 5.0, 5.5, 9.0],
         np.r_[np.full(200, 1e-3), 0.01, 0.4, 1e-5]),
        ("few narrow among wide", np.linspace(-1, 1, 60), np.where(np.arange(60) % 9, 0.6, 1e-3)),
        ("of all sizes", np.sin(np.arange(120.0)), np.exp(-(np.arange(120.0) * 7 % 9))),
    ],
)  # fmt: skip
def test_percentiles_of_normal_posteriors(name: str, mean: Array, sd: Array) -> None:
    _, data = known(mean, sd)
    found = ranked(known(mean, sd)[0], "normal_known_variance", data)
    missed = np.abs(found.expected_percentile - pairs(mean, sd))
    # Narrow and wide in one place, both few: as much as a third of a store.
    some = 3e-3 if name == "of all sizes" else 4e-4
    assert np.max(missed) < some
    assert np.mean(missed) < some / 5


def test_stores_apart_are_ranked_like_numbers() -> None:
    mean = np.array([3.0, 1.0, 7.0, 5.0])
    found = known(mean, np.full(4, 1e-6))[0].rank()
    np.testing.assert_allclose(
        found["expected_percentile"], [0.375, 0.125, 0.875, 0.625], atol=1e-3
    )
    np.testing.assert_allclose(found["r_value"], [0.625, 0.875, 0.125, 0.375], atol=0.01)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_stores_that_are_equal_share_the_middle(count: int) -> None:
    for sd in (1e-9, 0.3):
        found = known(np.ones(count), np.full(count, sd))[0].rank()
        np.testing.assert_allclose(found["expected_percentile"], 0.5, atol=1e-6)
        np.testing.assert_allclose(found["r_value"], 0.5, atol=1e-3)
        for name in ("p_top_10", "p_bottom_10"):
            np.testing.assert_allclose(found[name], 0.1, atol=1e-3)


@pytest.mark.parametrize("family", ["beta_binomial", "gamma_poisson", "normal"])
def test_a_pool_without_spread_has_ranks(family: str) -> None:
    hyper = {
        "beta_binomial": {"alpha": 1e8, "beta": 9e8},
        "gamma_poisson": {"shape": 1e15, "rate": 1e14},
        "normal": {"mu": 0.0, "tau": 0.0, "sigma": 1.0},
    }
    data = stores(family, 2, 20)
    fit = hbpipe.fit(family, data, fixed=hyper[family])
    found = hbpipe.posterior(fit, data, uncertainty="plug_in").rank()
    assert all(np.all((column >= 0) & (column <= 1)) for column in found.values())
    assert np.mean(found["expected_percentile"]) == pytest.approx(0.5, abs=1e-4)


def test_r_values_are_about_uniform_over_a_pool() -> None:
    data = stores("beta_binomial", 8, 400)
    p = hbpipe.posterior(hbpipe.fit("beta_binomial", data), data, uncertainty="first_order")
    r = p.rank()["r_value"]
    for share in (0.1, 0.25, 0.5, 0.9):
        assert np.mean(r <= share) == pytest.approx(share, abs=0.05)


def many(seed: int, pools: int) -> tuple[Any, Any, dict[str, Array], Array]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, pools, 400)
    trials = rng.integers(0, 40, 400)
    data = {"successes": rng.binomial(trials, rng.beta(2, 8, 400)), "trials": trials}
    family = get_family("beta_binomial")
    fits = fit_pools(family, family.compress(data, codes, pools))
    return family, integrate_pools(fits), data, codes


def test_a_pool_has_the_same_bits_in_any_company_and_order() -> None:
    family, nodes, data, codes = many(4, 7)
    whole = vars(rank_pools(family, nodes, data, codes))
    shuffled = np.random.default_rng(0).permutation(400)
    for rows in (shuffled, np.flatnonzero(codes == 3), np.flatnonzero(codes != 5)[::-1]):
        some = {name: values[rows] for name, values in data.items()}
        for name, column in vars(rank_pools(family, nodes, some, codes[rows])).items():
            np.testing.assert_array_equal(column, whole[name][rows])


def test_a_pool_of_which_nobody_knows_the_prior_has_no_ranks() -> None:
    family, nodes, data, codes = many(9, 3)
    unknown = np.where(np.arange(3) == 1, "unidentified", nodes.method)
    found = rank_pools(family, replace(nodes, method=unknown), data, codes)
    for name, column in vars(found).items():
        np.testing.assert_array_equal(np.isnan(column), codes == 1, err_msg=name)


def test_a_closed_form_has_no_law_to_rank_by() -> None:
    data = {"estimate": np.arange(9.0), "variance": np.ones(9)}
    p = hbpipe.posterior(hbpipe.fit("normal_known_variance", data), data, uncertainty="morris")
    with pytest.raises(FitError, match="intervals and no posterior"):
        p.rank()


def test_a_lattice_of_laws_stands_for_many_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("beta_binomial", "gamma_poisson", "normal"):
        data = stores(family, 6, 3000)
        p = hbpipe.posterior(hbpipe.fit(family, data), data, uncertainty="first_order")
        every = p.rank()
        monkeypatch.setattr(ranking, "LARGE", 10)
        shared = p.rank()
        monkeypatch.undo()
        for name in ("expected_percentile", "p_top_10", "p_bottom_10"):
            np.testing.assert_allclose(shared[name], every[name], atol=1.5e-3, err_msg=name)
        assert np.median(np.abs(shared["r_value"] - every["r_value"])) < 0.01
