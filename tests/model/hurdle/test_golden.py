"""Revenue per visit against R: both likelihoods by ``optim``, the product by simulation."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import hbpipe

FOLDER = Path(__file__).parents[2] / "golden" / "hurdle"
TRUTH = json.loads((FOLDER / "truth.json").read_text(encoding="utf-8"))
LEVELS = tuple(TRUTH["levels"])


def data():
    with (FOLDER / "data.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole = {name: np.array([int(r[name]) for r in rows]) for name in ("successes", "trials")}
    return whole | {name: np.array([float(r[name]) for r in rows]) for name in ("mean", "m2")}


@pytest.fixture(scope="module")
def fit():
    return hbpipe.fit("hurdle_lognormal", data())


def test_the_fit_is_that_of_both_likelihoods_by_themselves(fit):
    wanted = dict(TRUTH["fit"])
    value = wanted.pop("log_marginal_likelihood")
    assert fit.log_marginal_likelihood == pytest.approx(value, abs=1e-8)
    for name, number in wanted.items():
        assert fit.hyperparameters[name] == pytest.approx(number, rel=1e-6)
    statistics = data()
    bought = hbpipe.fit("beta_binomial", {k: statistics[k] for k in ("successes", "trials")})
    paid = {"n": statistics["successes"], "mean": statistics["mean"], "m2": statistics["m2"]}
    parts = bought, hbpipe.fit("normal", paid)
    together = sum(part.log_marginal_likelihood for part in parts)
    assert fit.log_marginal_likelihood == pytest.approx(together, abs=1e-9)
    assert fit.hyperparameters["tau"] == pytest.approx(parts[1].hyperparameters["tau"], rel=1e-6)


def test_quantiles_are_those_of_a_long_simulation(fit):
    # The last is a store never seen.
    stores = {name: np.append(values, 0) for name, values in data().items()}
    found = hbpipe.posterior(fit, stores, uncertainty="integrated", quantiles=LEVELS)
    quantiles = np.stack([found[f"q{level:g}"] for level in LEVELS], axis=1)
    wanted, error = np.array(TRUTH["quantiles"]), np.array(TRUTH["standard_errors"])
    # Grids and thinned nodes may be a two-hundredth of an sd off.
    sd = (wanted[:, -2] - wanted[:, 1]) / 3.29
    assert np.all(np.abs(quantiles - wanted) < 3.5 * error + 0.002 * sd[:, None])
    np.testing.assert_allclose(found.cdf(wanted[:, 3]), 0.5, atol=2e-3)
