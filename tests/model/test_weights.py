"""Weights of events: copies of rows, precisions of values, and samples with unequal chances."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from strategies import events

import hbpipe
from hbpipe.errors import StatisticsError
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.weights import can_have, counted, effective

FREQUENT = [name for name, one in FAMILIES.items() if can_have(one, "frequency")]
SAMPLED = [name for name, one in FAMILIES.items() if can_have(one, "sampling")]
EVERY = [*(f"{name}:frequency" for name in FREQUENT), *(f"{name}:sampling" for name in SAMPLED)]
EVERY += ["normal_known_variance:precision"]


def assert_close(found: Any, expected: Any, size: float = 1.0) -> None:
    """Whole numbers are equal, others to rounding of values of this size."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype.kind == "i":
            np.testing.assert_array_equal(found[name], values)
        else:
            power = 2 if name in ("m2", "cross", "weighted_m2") else 1
            np.testing.assert_allclose(
                found[name], values, rtol=1e-10, atol=1e-10 * max(size, 1.0) ** power
            )


def largest(columns: Any) -> float:
    return max(float(np.abs(values).max(initial=0.0)) for values in columns.values())


# --- frequency ----------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.data())
def test_a_frequency_is_so_many_rows(data: st.DataObject) -> None:
    base = get_family(data.draw(st.sampled_from(FREQUENT)))
    columns, codes, n_stores = data.draw(events(base))
    copies = data.draw(st.lists(st.integers(0, 5), min_size=len(codes), max_size=len(codes)))
    weight = np.array(copies, np.int64)
    repeated = {name: np.repeat(values, weight, axis=0) for name, values in columns.items()}
    expected = base.summarise(repeated, np.repeat(codes, weight), n_stores)
    family = get_family(f"{base.name}:frequency", base.size)
    found = family.summarise({**columns, "weight": weight}, codes, n_stores)
    assert_close(found, expected, largest(columns) * 30)


@pytest.mark.parametrize("meaning", ["frequency", "sampling"])
def test_classes_by_number_are_counts_of_one(meaning: str) -> None:
    family, rng = get_family(f"dirichlet_multinomial:{meaning}", 3), np.random.default_rng(2)
    numbers, codes = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    weight = rng.integers(0, 9, 200) * (1 if meaning == "frequency" else 0.37)
    found = family.summarise({"counts": numbers, "weight": weight}, codes, 5)
    columns = {"counts": np.eye(3, dtype=np.int64)[numbers], "weight": weight}
    expected = family.summarise(columns, codes, 5)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_a_count_times_its_frequency_must_fit() -> None:
    family = get_family("gamma_poisson:frequency")
    rows = {"count": np.array([2**40]), "exposure": np.ones(1), "weight": np.array([2**30])}
    with pytest.raises(StatisticsError, match="count times its weight does not fit 64 bits"):
        family.summarise(rows, np.zeros(1, np.int64), 1)
    rows["weight"] = np.array([2**22])
    assert family.summarise(rows, np.zeros(1, np.int64), 1)["count"].tolist() == [2**62]


# --- all meanings -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_measured_families_pickle_by_name(name: str) -> None:
    assert pickle.loads(pickle.dumps(get_family(name))) is get_family(name)


@settings(max_examples=100)
@given(st.data())
def test_any_cut_of_weighted_events_combines_to_the_whole(data: st.DataObject) -> None:
    base_name, _, meaning = data.draw(st.sampled_from(EVERY)).partition(":")
    base = get_family(base_name)
    family = get_family(f"{base_name}:{meaning}", base.size)
    columns, codes, n_stores = data.draw(events(base))
    size, whole = len(codes), meaning == "frequency"
    drawn: Any = st.integers(0, 9) if whole else st.floats(0.0, 9.0, allow_subnormal=False)
    weight = np.array(data.draw(st.lists(drawn, min_size=size, max_size=size)))
    weight = weight.astype(np.int64 if whole else np.float64)
    weight[weight < 1e-3] = 0
    columns["weight"] = weight
    left = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size))).astype(bool)
    parts = [
        family.summarise({k: v[side] for k, v in columns.items()}, codes[side], n_stores)
        for side in (left, ~left)
    ]
    together = family.combine(*parts)
    assert_close(together, family.summarise(columns, codes, n_stores), largest(columns) * 30)


# --- precision ----------------------------------------------------------------------------------


def values_with_precisions(seed: int, stores: int = 7) -> tuple[np.ndarray, ...]:
    """Values, their precisions and their stores; one store has none, one a single value."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(stores), [0, 1, *rng.integers(2, 9, stores - 2)])
    precision = np.exp(rng.normal(0.0, 1.0, len(codes)))
    theta = rng.normal(2.0, 1.5, stores)
    value = rng.normal(theta[codes], 1.3 / np.sqrt(precision))
    return value, precision, codes


def dense(
    value: np.ndarray, precision: np.ndarray, codes: np.ndarray, mu: float, tau: float, sigma: float
) -> float:
    """Log density of all values together, from their covariance matrix."""
    alike = codes[:, None] == codes[None, :]
    covariance = tau**2 * alike + np.diag(sigma**2 / precision)
    return float(stats.multivariate_normal(np.full(len(value), mu), covariance).logpdf(value))


def test_precisions_are_those_of_a_dense_gaussian() -> None:
    value, precision, codes = values_with_precisions(1)
    statistics = get_family("normal_weighted").summarise(
        {"value": value, "precision": precision}, codes, 7
    )
    fit = hbpipe.fit("normal_weighted", statistics)
    best = optimize.minimize(
        lambda p: -dense(value, precision, codes, p[0], np.exp(p[1]), np.exp(p[2])),
        [2.0, -0.5, 0.2],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000},
    )
    mu, tau, sigma = best.x[0], *np.exp(best.x[1:])
    assert fit.log_marginal_likelihood == pytest.approx(-best.fun, abs=1e-9)
    found = [fit.hyperparameters[name] for name in ("mu", "tau", "sigma")]
    assert found == pytest.approx([mu, tau, sigma], rel=1e-5)
    posterior = hbpipe.posterior(fit, statistics, uncertainty="plug_in")
    mu, tau, sigma = found
    alike = codes[:, None] == codes[None, :]
    covariance = tau**2 * alike + np.diag(sigma**2 / precision)
    for store in range(7):
        mine = tau**2 * (codes == store)
        gain = np.linalg.solve(covariance, mine)
        assert posterior["mean"][store] == pytest.approx(mu + gain @ (value - mu), rel=1e-9)
        assert posterior["sd"][store] == pytest.approx(np.sqrt(tau**2 - gain @ mine), rel=1e-9)


def test_equal_precisions_are_no_precisions() -> None:
    value, _, codes = values_with_precisions(4)
    weighted = get_family("normal_weighted").summarise(
        {"value": value, "precision": np.full(len(value), 4.0)}, codes, 7
    )
    plain = get_family("normal").summarise({"value": value}, codes, 7)
    fits = [hbpipe.fit("normal_weighted", weighted), hbpipe.fit("normal", plain)]
    for estimator in ("ml", "reml"):
        fits = [
            hbpipe.fit(family, statistics, estimator=estimator)
            for family, statistics in (("normal_weighted", weighted), ("normal", plain))
        ]
        found, expected = (fit.hyperparameters for fit in fits)
        assert found["mu"] == pytest.approx(expected["mu"], rel=1e-7)
        assert found["tau"] == pytest.approx(expected["tau"], rel=1e-6)
        assert found["sigma"] == pytest.approx(2.0 * expected["sigma"], rel=1e-7)
        likelihoods = [fit.log_marginal_likelihood for fit in fits]
        assert likelihoods[0] == pytest.approx(likelihoods[1], abs=1e-9)
    posteriors = [
        hbpipe.posterior(fit, statistics, uncertainty="integrated")
        for fit, statistics in zip(fits, (weighted, plain), strict=True)
    ]
    for name in ("mean", "sd", "q0.025", "q0.975"):
        np.testing.assert_allclose(posteriors[0][name], posteriors[1][name], rtol=1e-5)


def test_a_precision_divides_a_known_variance() -> None:
    rng = np.random.default_rng(5)
    rows = {"estimate": rng.normal(size=6), "variance": rng.uniform(0.5, 2.0, 6)}
    weight = np.array([1.0, 2.5, 0.0, 4.0, 1.0, 0.0])
    codes = np.array([0, 0, 0, 1, 1, 2])
    found = get_family("normal_known_variance:precision").summarise(
        {**rows, "weight": weight}, codes, 3
    )
    kept = weight > 0
    expected = get_family("normal_known_variance").summarise(
        {"estimate": rows["estimate"][kept], "variance": rows["variance"][kept] / weight[kept]},
        codes[kept],
        3,
    )
    assert_close(found, expected)
    assert found["variance"][2] == np.inf


# --- sampling -----------------------------------------------------------------------------------


def sampled(name: str, columns: dict[str, Any], weight: Any, codes: Any, n_stores: int) -> Any:
    base = get_family(name, 3 if name == "dirichlet_multinomial" else None)
    family = get_family(f"{name}:sampling", base.size)
    measured = family.summarise({**columns, "weight": weight}, codes, n_stores)
    return effective(base, measured), counted(base, measured)


def test_the_rate_is_weighted_and_the_size_is_kishs() -> None:
    rng = np.random.default_rng(6)
    y, w, codes = rng.random(50) < 0.3, rng.uniform(0.5, 9.0, 50), np.arange(50) % 4
    found, whole = sampled("beta_binomial", {"successes": y, "trials": np.ones(50)}, w, codes, 5)
    for store in range(4):
        mine = codes == store
        rate = np.sum(w[mine] * y[mine]) / np.sum(w[mine])
        size = np.sum(w[mine]) ** 2 / np.sum(w[mine] ** 2)
        assert found["trials"][store] == pytest.approx(size, rel=1e-8)
        assert found["successes"][store] / size == pytest.approx(rate, rel=1e-7)
        assert whole["trials"][store] == np.sum(mine)
        assert whole["successes"][store] == pytest.approx(rate * np.sum(mine), rel=1e-12)
    assert found["trials"][4] == found["successes"][4] == whole["trials"][4] == 0.0


@pytest.mark.parametrize("name", SAMPLED)
def test_equal_sampling_weights_change_nothing(name: str) -> None:
    base = get_family(name, 3 if name == "dirichlet_multinomial" else None)
    rng = np.random.default_rng(7)
    at = base.from_coordinates(np.array([0.1 if a.spread else 0.3 for a in base.coordinates]))
    columns, codes, _ = base.simulate(rng, at, 6, np.array([0, 1, 2, 5, 9, 20]))
    expected = base.summarise(columns, codes, 6)
    for weight in (1.0, 7.3):
        for found in sampled(name, columns, np.full(len(codes), weight), codes, 6):
            for statistic, values in expected.items():
                np.testing.assert_allclose(found[statistic], values, rtol=1e-8, atol=1e-8)


def survey(rng: np.random.Generator, stores: int) -> tuple[np.ndarray, dict[str, Any]]:
    """True rates (J,) and a sample of visits, weighted by one over the probability of each.

    Visits of large parties convert three times as often as others, and are sampled less often.
    """
    theta = rng.beta(6.0, 14.0, stores)
    codes = np.repeat(np.arange(stores), rng.integers(20, 120, stores))
    large = rng.random(len(codes)) < 0.5
    y = rng.random(len(codes)) < np.where(large, 1.5, 0.5) * theta[codes]
    chance = np.where(large, 0.25, 0.9)
    kept = rng.random(len(codes)) < chance
    rows = {"y": y[kept], "weight": 1.0 / chance[kept], "codes": codes[kept]}
    return theta, rows


@pytest.mark.long
def test_intervals_of_a_sample_cover() -> None:
    """Rates of all visits; without the weights few are inside."""
    rng, inside, without = np.random.default_rng(8), [], []
    for turn in range(20):
        theta, rows = survey(rng, 40)
        columns = {"successes": rows["y"], "trials": np.ones(len(rows["y"]))}
        found, _ = sampled("beta_binomial", columns, rows["weight"], rows["codes"], 40)
        raw = get_family("beta_binomial").summarise(columns, rows["codes"], 40)
        for statistics, covered in ((found, inside), (raw, without))[: 2 if turn < 3 else 1]:
            fit = hbpipe.fit("beta_binomial", statistics)
            limits = hbpipe.posterior(fit, statistics, quantiles=(0.025, 0.975))
            covered.append((limits["q0.025"] <= theta) & (theta <= limits["q0.975"]))
    assert np.mean(inside) >= 0.92
    assert np.mean(without) <= 0.75
