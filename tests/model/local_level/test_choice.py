"""Whether levels drift is told by their next days."""

import numpy as np
import pytest
from drifting_stores import drifting
from scipy import stats

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.local_level.choice import SCORED_DAYS, choose
from hbpipe.model.update.pools import update_pools

DAYS = 21
FAMILY = get_family("local_level", DAYS)


def pools_of(seed, pools, stores, **options):
    parts = [drifting(seed + k, stores, DAYS, **options) for k in range(pools)]
    statistics = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    return (
        statistics,
        np.repeat(np.arange(pools), stores),
        np.concatenate([part[1] for part in parts]),
    )


def sketched(statistics, codes):
    return FAMILY.compress(statistics, codes, int(codes.max()) + 1)


def test_stores_without_drift_lose_next_to_nothing_where_they_are_not_static():
    statistics, codes, _ = pools_of(100, 30, 25, ratio=0.0)
    found = choose(FAMILY, sketched(statistics, codes))
    assert 0.2 < np.mean(found.drifts) < 0.7
    # Next days are predicted as well as by the static model, to a thousandth of a nat each.
    chosen = np.where(found.drifts, found.drifting, found.static)
    assert np.mean(chosen - found.static) > -1e-3
    held = fit_pools(FAMILY, sketched(statistics, codes), fixed=found.hold({}))
    ratio = held.hyperparameters["signal_ratio"]
    assert np.all(ratio[~found.drifts] == 0.0)
    assert np.all(ratio < 0.01)
    assert found.words == ["local_level" if drifts else "static" for drifts in found.drifts]


def test_stores_that_drift_are_found_out():
    statistics, codes, _ = pools_of(200, 12, 25, ratio=0.03)
    found = choose(FAMILY, sketched(statistics, codes))
    assert found.drifts.all()
    assert np.all(found.drifting - found.static > 0.02)
    assert found.hold({"sigma": 1.0}) == {"sigma": 1.0}


def test_scores_are_sums_of_one_day_forecasts():
    """Each day of a store predicted with posteriors of the days before it, at point estimates."""
    statistics, codes, _ = pools_of(300, 1, 12, ratio=0.05)
    found = choose(FAMILY, sketched(statistics, codes))
    begin = DAYS - SCORED_DAYS
    before = {name: values[:, :begin] for name, values in statistics.items()}
    for fixed, score in ((None, found.drifting), ({"signal_ratio": 0.0}, found.static)):
        at = hbpipe.fit("local_level", before, fixed=fixed).hyperparameters
        total, days = 0.0, 0
        for day in range(begin, DAYS):
            family = get_family("local_level", day + 1)
            known = {name: values[:, : day + 1].copy() for name, values in statistics.items()}
            n, mean = known["n"][:, day].copy(), known["mean"][:, day].copy()
            there = np.flatnonzero(n > 0)
            for values in known.values():
                values[:, day] = 0
            law = family.predict(family.update(known, at), np.maximum(n, 1), at, [0.5])
            total += stats.norm.logpdf(mean[there], law.mean[there], law.sd[there]).sum()
            days += len(there)
        assert found.scored[0] == days
        assert score[0] == pytest.approx(total / days, rel=1e-9)


def test_pools_that_cannot_be_scored_are_static():
    statistics, codes, _ = pools_of(400, 3, 8, ratio=0.05)
    early = codes == 1
    for values in statistics.values():
        values[early, : DAYS - SCORED_DAYS] = 0
        values[codes == 2, DAYS - SCORED_DAYS :] = 0
    found = choose(FAMILY, sketched(statistics, codes))
    assert found.drifts.tolist() == [True, False, False]
    assert np.isnan(found.static[1:]).all()
    assert np.isnan(found.drifting[1:]).all()
    assert found.scored.tolist()[1:] == [0, 0]


def test_a_ratio_that_is_held_is_no_question():
    statistics, codes, _ = pools_of(500, 2, 8, ratio=0.0)
    found = choose(FAMILY, sketched(statistics, codes), fixed={"signal_ratio": 0.1})
    assert found.drifts.all()
    assert found.scored.sum() == 0
    held = found.hold({"signal_ratio": 0.1})
    assert held == {"signal_ratio": 0.1}


@pytest.mark.long
def test_intervals_of_the_present_level_cover_after_the_choice():
    """Nominal 95 % intervals over pools of drifting and of static stores, choice included."""
    inside = []
    for seed, ratio in ((600, 0.0), (700, 0.01), (800, 0.1)):
        statistics, codes, theta = pools_of(seed, 15, 40, ratio=ratio)
        sketch = sketched(statistics, codes)
        fits = fit_pools(FAMILY, sketch, fixed=choose(FAMILY, sketch).hold({}))
        nodes = integrate_pools(fits, uncertainty="auto")
        found = update_pools(
            FAMILY, nodes, fits.hyperparameters, statistics, codes, quantiles=(0.025, 0.975)
        )
        low, high = found.quantiles.T
        inside.append(np.mean((low < theta) & (theta < high)))
    assert min(inside) > 0.92, inside
