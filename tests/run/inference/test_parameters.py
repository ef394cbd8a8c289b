"""Hyperparameters that are vectors and matrices, as rows and back."""

from __future__ import annotations

import numpy as np
import pytest

from hbpipe.run.inference.parameters import labels, places, rebuild

TERMS = ("intercept", "price")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("sigma", (), ["sigma"]),
        ("mu", (2,), ["mu[intercept]", "mu[price]"]),
        (
            "Sigma",
            (2, 2),
            ["Sigma[intercept,intercept]", "Sigma[intercept,price]", "Sigma[price,price]"],
        ),
        ("correlation", (2, 2), ["correlation[intercept,price]"]),
    ],
)
def test_the_label_of_each_number(name: str, shape: tuple[int, ...], expected: list[str]) -> None:
    assert [label for label, _ in places(name, shape, TERMS)] == expected


def test_a_shape_that_is_not_that_of_the_terms_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"mu has the shape \(3,\), and there are 2 terms"):
        places("mu", (3,), TERMS)


def test_there_and_back() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 2, 2))
    covariance = root @ np.swapaxes(root, 1, 2)
    scale = np.sqrt(np.einsum("gkk->gk", covariance))
    given = {
        "sigma": rng.normal(size=3),
        "mu": rng.normal(size=(3, 2)),
        "Sigma": covariance,
        "correlation": covariance / scale[:, :, None] / scale[:, None, :],
    }
    rows = [
        {
            label: float(values[(g, *place)])
            for name, values in given.items()
            for label, place in places(name, values.shape[1:], TERMS)
        }
        for g in range(3)
    ]
    assert rows[0].keys() == labels(given, TERMS)
    for name, values in given.items():
        blank = np.zeros_like(values) + (np.eye(2) if name == "correlation" else 0.0)
        np.testing.assert_allclose(rebuild(name, blank, TERMS, rows), values, rtol=1e-15)
        some = rebuild(name, blank, TERMS, [rows[0], {}, rows[2]])
        np.testing.assert_array_equal(some[1], blank[1])
        assert not np.shares_memory(some, blank)
