"""The grid of laws: where it lies, and that it follows the data's units."""

import numpy as np

from hbpipe.model.distributions.laws import BETA, GAMMA
from hbpipe.model.nonparametric.components import components

NORMAL = "normal_known_variance"


def estimates(seed: int, stores: int = 50) -> dict:
    rng = np.random.default_rng(seed)
    return {"estimate": rng.normal(size=stores), "variance": rng.uniform(0.1, 0.4, stores)}


def test_the_grid_moves_and_scales_with_the_data() -> None:
    data, ones = estimates(1), np.ones(50)
    law = components(NORMAL, data, ones)
    moved = {"estimate": 7.0 + 3.0 * data["estimate"], "variance": 9.0 * data["variance"]}
    again = components(NORMAL, moved, ones)
    np.testing.assert_allclose(again["mu"], 7.0 + 3.0 * law["mu"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(again["tau"], 3.0 * law["tau"], rtol=1e-12)


def test_the_grid_does_not_depend_on_the_order_of_stores_or_on_counting_them() -> None:
    data = {name: np.tile(values, 3) for name, values in estimates(2).items()}
    law = components(NORMAL, data, np.ones(150))
    order = np.random.default_rng(2).permutation(150)
    shuffled = components(NORMAL, {k: v[order] for k, v in data.items()}, np.ones(150))
    counted = components(NORMAL, estimates(2), np.full(50, 3.0))
    for name, values in law.items():
        np.testing.assert_allclose(shuffled[name], values, rtol=1e-12)
        np.testing.assert_allclose(counted[name], values, rtol=1e-12)


def test_stores_alike_have_one_law_with_a_width() -> None:
    data = {"successes": np.full(30, 2), "trials": np.full(30, 40)}
    law = components("beta_binomial", data, np.ones(30))
    assert law["alpha"].shape == (1,)
    mean, sd = BETA.mean_sd(law["alpha"], law["beta"])
    assert 0.05 < mean[0] < 0.07
    assert sd[0] > 0.005


def test_more_stores_tell_of_a_finer_shape() -> None:
    few, many = (components(NORMAL, estimates(3, n), np.ones(n)) for n in (40, 4000))
    assert many["tau"].min() < 0.6 * few["tau"].min()
    assert len(many["tau"]) > len(few["tau"])


def test_two_kinds_of_stores_do_not_make_laws_wide() -> None:
    data = estimates(4, 100)
    narrow = components(NORMAL, data, np.ones(100))
    apart = {**data, "estimate": data["estimate"] + 40.0 * (np.arange(100) < 40)}
    wide = components(NORMAL, apart, np.ones(100))
    assert wide["tau"].min() < 3.0 * narrow["tau"].min()


def test_a_flagship_far_away_has_laws_of_its_own_and_the_rest_keep_theirs() -> None:
    data = estimates(5)
    data["estimate"][0] = 1000.0
    law = components(NORMAL, data, np.ones(50))
    assert np.min(np.abs(law["mu"] - 1000.0)) < law["tau"].min()
    assert len(law["mu"]) < 60
    assert law["tau"].min() < 1.0


def test_laws_on_the_line_have_the_mean_and_the_spread_asked_for() -> None:
    rng = np.random.default_rng(6)
    exposure = rng.uniform(20, 200, 80)
    data = {"count": rng.poisson(exposure * 2.0), "exposure": exposure}
    law = components("gamma_poisson", data, np.ones(80))
    mean, sd = GAMMA.mean_sd(law["shape"], law["rate"])
    np.testing.assert_allclose(sd / mean, law["shape"] ** -0.5)
    assert np.all(sd <= 3.0 * mean * (1 + 1e-12))
    assert 1.0 < np.median(mean) < 4.0
