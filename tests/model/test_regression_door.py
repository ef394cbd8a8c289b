"""Raw X'X, X'y and y'y at the library's door."""

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.statistics import admitted

FAMILY = "normal_regression"


def drawn(size=2, stores=30, shift=0.0, constant=True):
    rng = np.random.default_rng(0)
    family = get_family(FAMILY, size)
    named = {"mu": np.ones(size), "Sigma": 0.5 * np.eye(size), "sigma": 1.0}
    sizes = np.concatenate([[0, 1], rng.integers(0, 12, stores - 2)])
    columns, codes, _ = family.simulate(rng, named, stores, sizes)
    columns["predictors"][:, int(constant) :] += shift
    if not constant:
        columns["predictors"][:, 0] = rng.normal(size=len(codes))
    return family, columns, codes, family.summarise(columns, codes, stores)


def raw(columns, codes, stores=30):
    """Sums as anyone would write them."""
    x, y = columns["predictors"], columns["response"]
    xtx, xty = np.zeros((stores, x.shape[1], x.shape[1])), np.zeros((stores, x.shape[1]))
    np.add.at(xtx, codes, x[:, :, None] * x[:, None, :])
    np.add.at(xty, codes, x * y[:, None])
    n = np.bincount(codes, minlength=stores)
    return {"n": n, "xtx": xtx, "xty": xty, "yty": np.bincount(codes, y * y, stores)}


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_raw_products_give_the_same_fit_and_posteriors(size, constant):
    _, columns, codes, statistics = drawn(size, constant=constant)
    products = raw(columns, codes)
    expected = hbpipe.fit(FAMILY, statistics)
    found = hbpipe.fit(FAMILY, products)
    assert found.hyperparameters["mu"].shape == (size,)
    assert found.log_marginal_likelihood == pytest.approx(expected.log_marginal_likelihood)
    for name, value in expected.hyperparameters.items():
        np.testing.assert_allclose(found.hyperparameters[name], value, rtol=1e-6, atol=1e-8)
    columns_of = [
        hbpipe.posterior(fit, given, uncertainty="plug_in")
        for fit, given in ((expected, statistics), (found, products))
    ]
    np.testing.assert_allclose(columns_of[1]["mean"], columns_of[0]["mean"], rtol=1e-6)
    assert columns_of[1]["mean"].shape == (30, size)
    assert columns_of[1].covariance.shape == (30, size, size)


def test_products_are_centred_by_the_constant_column_wherever_it_is():
    _, columns, codes, statistics = drawn(3)
    columns["predictors"] = columns["predictors"][:, [1, 0, 2]]
    _, found = admitted(get_family(FAMILY, 3), raw(columns, codes))
    order = [1, 0, 2, 3]
    np.testing.assert_allclose(found["means"], statistics["means"][:, order], atol=1e-12)
    expected = statistics["cross"][:, order][:, :, order]
    np.testing.assert_allclose(found["cross"], expected, atol=1e-10)


def test_what_rounding_left_of_nothing_is_nothing():
    # Stores lie on their own planes, far from zero: raw products leave noise, not residuals.
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(10), 6)
    t = 2017.0 + rng.integers(0, 4, 60)
    y = 3.0 + 2.0 * codes + 0.5 * t
    columns = {"predictors": np.column_stack([np.ones(60), t]), "response": y}
    family, statistics = admitted(get_family(FAMILY), raw(columns, codes, 10))
    sketch = family.compress(statistics, np.zeros(10, int), 1)
    assert sketch.within[0] == 0.0


def broken(**changes):
    _, columns, codes, _ = drawn(2)
    products = {name: np.array(v, float) for name, v in raw(columns, codes).items()}
    store = int(np.argmax(products["n"]))
    for name, change in changes.items():
        products[name][store] = change(products[name][store])
    return products, store


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": lambda n: n + 0.5}, "not whole"),
        ({"n": lambda n: -n}, "impossible"),
        ({"n": lambda n: 0 * n}, "products come without n"),
        ({"n": lambda n: 1 + 0 * n}, "higher rank than n"),
        ({"xtx": lambda m: m * np.nan}, "not a number"),
        ({"xtx": lambda m: -m}, "negative diagonal"),
        ({"xtx": lambda m: m + np.eye(2)[::-1] * [0, 1]}, "not symmetric"),
        ({"xtx": lambda m: m * [[1, 1e3], [1e3, 1]]}, "not that of any data"),
        ({"xty": lambda v: 50 * v}, "y'y is less than X explains"),
        ({"yty": lambda v: 0 * v}, "y'y is less than X explains"),
        ({"yty": lambda v: v * np.inf}, "infinite"),
    ],
)
def test_impossible_products_are_named_with_their_store(changes, words):
    products, store = broken(**changes)
    with pytest.raises(StatisticsError, match=words) as caught:
        hbpipe.fit(FAMILY, products)
    assert caught.value.where["store"] == store


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.pop("xty"), "lack xty"),
        (lambda p: p.update(xtxx=1), "did you mean 'xtx'"),
        (lambda p: p.update(n=p["n"][:-1]), "different lengths"),
        (lambda p: p.update(xty=p["xty"][:, :1]), r"shape \(J, 2\)"),
        (lambda p: p.update(xtx=p["xtx"].astype(str)), "type <U"),
    ],
)
def test_misshapen_products_are_named(change, words):
    products, _ = broken()
    change(products)
    with pytest.raises(StatisticsError, match=words):
        hbpipe.fit(FAMILY, products)


def test_centred_statistics_are_checked_too():
    _, _, _, statistics = drawn(2)
    for name, value, words in (
        ("cross", -statistics["cross"], "not that of any data"),
        ("cross", statistics["cross"][:, :2, :2], r"shape \(J, 3, 3\)"),
        ("n", statistics["n"] // 8, "higher rank than n"),
    ):
        with pytest.raises(StatisticsError, match=words):
            hbpipe.fit(FAMILY, {**statistics, name: value})


def test_posteriors_want_the_coefficients_of_the_fit():
    fitted = hbpipe.fit(FAMILY, drawn(2)[3])
    with pytest.raises(StatisticsError, match="those of 3 coefficients"):
        hbpipe.posterior(fitted, drawn(3)[3])
