"""Milk expenditure of 43 areas: errors against dense matrices and the R package sae."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

import hbpipe
from hbpipe.model.cross_checks.fay_herriot import area_model, prasad_rao

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def milk(reference: Path) -> dict[str, np.ndarray]:
    """Estimates, sampling variances, and the design of the four major areas."""
    path = reference / "unlabelled" / "milk.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    major = np.array([int(row["major_area"]) for row in rows])
    return {
        "estimate": np.array([float(row["yi"]) for row in rows]),
        "variance": np.array([float(row["sd"]) ** 2 for row in rows]),
        "design": np.column_stack([np.ones(43), *(major == k for k in (2, 3, 4))]).astype(float),
    }


#: mseFH(yi ~ as.factor(MajorArea), SD^2, method) of sae, as the tests of the R package emdi keep
#: it: variance, then for the areas 1, 2, 7, 25 and 43 the EBLUP and its mse.
SAE = {
    "reml": (
        0.0185502223227232,
        [1.02197034245261, 1.04760182373013, 1.05845228445578, 1.19380543906896, 0.681086989724461],
        [0.01346022016429, 0.00537287597614, 0.01592613652827, 0.00806578725768, 0.00990362560343],
    ),
    "ml": (
        0.0155175502633347,
        [1.01617332070717, 1.04369683152726, 1.04747855307827, 1.19362557185413, 0.684097649323743],
        [0.01357995347398, 0.00551286846831, 0.01593451092097, 0.00825143628264, 0.01003714049736],
    ),
}


@pytest.mark.parametrize("method", SAE)
def test_errors_equal_those_of_sae(milk: dict[str, np.ndarray], method: str) -> None:
    y, s2, x = milk["estimate"], milk["variance"], milk["design"]
    tau2, eblup, mse = SAE[method]
    found = prasad_rao(area_model(y, s2, x, tau2, estimator=method), y, s2, x)
    areas = np.array([1, 2, 7, 25, 43]) - 1
    np.testing.assert_allclose(found.mean[areas], eblup, rtol=1e-12)
    np.testing.assert_allclose(found.sd[areas] ** 2, mse, rtol=1e-9)


@pytest.mark.parametrize("estimator", ["reml", "ml", "moments:paule_mandel"])
def test_the_posterior_equals_dense_matrices(milk: dict[str, np.ndarray], estimator: str) -> None:
    y, s2 = milk["estimate"], milk["variance"]
    areas = {"estimate": y, "variance": s2}
    fit = hbpipe.fit("normal_known_variance", areas, estimator=estimator)
    found = hbpipe.posterior(fit, areas, uncertainty="prasad_rao")
    x, ones = np.ones((43, 1)), np.ones(43)

    def score(tau2: float) -> float:
        inverse = np.diag(1 / (s2 + tau2))
        p = inverse - inverse @ x @ np.linalg.inv(x.T @ inverse @ x) @ x.T @ inverse
        if estimator.startswith("moments"):
            return float(y @ p @ y - 42)
        weights = inverse if estimator == "ml" else p
        return float(y @ p @ p @ y - np.trace(weights))

    tau2 = optimize.brentq(score, 1e-6, 1.0, xtol=1e-14)
    v = np.diag(s2 + tau2)
    inverse = np.linalg.inv(v)
    c = np.linalg.inv(x.T @ inverse @ x)
    beta = c @ x.T @ inverse @ y
    shrink = tau2 * inverse
    expected = x @ beta + shrink @ (y - x @ beta)
    b = np.diag(np.eye(43) - shrink)
    w1, w2 = np.trace(inverse), np.trace(inverse @ inverse)
    variance, bias = 2 / w2, 0.0
    if estimator == "ml":
        bias = -np.trace(c @ x.T @ inverse @ inverse @ x) / w2
    if estimator.startswith("moments"):
        variance, bias = 2 * 43 / w1**2, 2 * (43 * w2 - w1**2) / w1**3
    g3 = b**2 * variance / np.diag(v)
    mse = tau2 * b + b**2 * c[0, 0] * ones + 2 * g3 - b**2 * bias
    np.testing.assert_allclose(fit.hyperparameters["tau"] ** 2, tau2, rtol=1e-7)
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-7)
    np.testing.assert_allclose(found["sd"], np.sqrt(mse), rtol=1e-7)


def test_integrated_and_closed_forms_agree(milk: dict[str, np.ndarray]) -> None:
    areas = {"estimate": milk["estimate"], "variance": milk["variance"]}
    fit = hbpipe.fit("normal_known_variance", areas, estimator="reml")
    integrated = hbpipe.posterior(fit, areas, uncertainty="integrated")
    for name in ("prasad_rao", "morris"):
        found = hbpipe.posterior(fit, areas, uncertainty=name)
        np.testing.assert_allclose(found["sd"], integrated["sd"], rtol=0.05)
        assert np.max(np.abs(found["mean"] - integrated["mean"]) / integrated["sd"]) < 0.1
