"""Posteriors of several terms as rows, and what is counted of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.data.parsing import parse_metric
from hbpipe.data.window import Folded
from hbpipe.model.update.pools import PosteriorColumns
from hbpipe.run.inference.posterior_rows import (
    over_terms,
    released,
    tally_posteriors,
    term_columns,
)

METRIC = parse_metric(
    "m", {"family": "normal_regression", "response": "y", "predictors": [1, "x", "z"]}
)
UNITS, TERMS, QUANTILES = 4, 3, (0.1, 0.9)
RAW = np.zeros((UNITS, TERMS))


def posterior(method: str = "integrated") -> PosteriorColumns:
    """Posteriors whose every number tells its unit and term."""
    place = 10.0 * np.arange(UNITS)[:, None] + np.arange(TERMS)
    return PosteriorColumns(
        mean=place,
        sd=place + 0.5,
        sd_plug_in=place + 0.25,
        quantiles=place[:, :, None] + np.array([-1.0, 1.0]),
        weight=place / 100.0,
        prior_mean=-place,
        method=np.array([method] * 3 + ["integrated"]),
    )


def folded() -> Folded:
    keys = (pa.array(list("abcd")),)
    return Folded(keys, np.array([5, 6, 7, 8]), {"m": {}}, {"m": 0})


def test_rows_come_unit_by_unit() -> None:
    raw = np.full((UNITS, TERMS), 7.0)
    raw[1, 2] = np.nan
    found = term_columns(METRIC, posterior(), QUANTILES) | released({"raw": raw}, TERMS)
    assert found["term"].to_pylist() == ["intercept", "x", "z"] * 4
    assert found["mean"].to_pylist()[:5] == [0.0, 1.0, 2.0, 10.0, 11.0]
    assert found["q0.9"].to_pylist()[:5] == [1.0, 2.0, 3.0, 11.0, 12.0]
    assert [k for k, value in enumerate(found["raw"].to_pylist()) if value is None] == [5]
    assert over_terms(folded().keys[0], TERMS).to_pylist() == list("aaabbbcccddd")


def test_what_is_said_of_a_unit_stands_in_each_of_its_terms() -> None:
    found = released({"score": np.array([0.5, np.nan]), "flag": np.array([True, False])}, 2)
    assert found["score"].to_pylist() == [0.5, 0.5, None, None]
    assert found["flag"].to_pylist() == [True, True, False, False]


def test_a_target_is_told_of_its_term_alone() -> None:
    below = np.full((UNITS, TERMS), np.nan)
    below[:, 1] = 0.5
    found = released({"p_below_target": below}, TERMS)
    assert found["p_below_target"].to_pylist() == [None, 0.5, None] * 4


def test_pools_that_are_not_identified_have_no_posterior_in_any_term() -> None:
    found = term_columns(METRIC, posterior("unidentified"), QUANTILES)
    for name in ("mean", "sd", "sd_plug_in", "weight", "prior_mean", "q0.1"):
        assert found[name].null_count == 9, name
    tally = tally_posteriors(METRIC, folded(), posterior("unidentified"), RAW, None)
    assert (tally.units, tally.posteriors, tally.unidentified) == (4, 12, 3)
    assert (tally.n_events, tally.not_finite) == (26, 0)


@pytest.mark.parametrize(
    ("fault", "column", "value"),
    [
        ("not_finite", "mean", np.nan),
        ("not_finite", "prior_mean", np.inf),
        ("zero_width", "sd", 0.0),
    ],
)
def test_a_fault_of_one_term_is_counted(fault: str, column: str, value: float) -> None:
    found = posterior()
    getattr(found, column)[2, 1] = value
    tally = tally_posteriors(METRIC, folded(), found, RAW, None)
    counts = {name: getattr(tally, name) for name in ("not_finite", "zero_width", "disordered")}
    assert counts == {**dict.fromkeys(counts, 0), fault: 1}


def test_limits_that_meet_or_cross() -> None:
    found = posterior()
    found.quantiles[0, 0] = [1.0, 1.0]
    found.quantiles[3, 2] = [2.0, 1.0]
    tally = tally_posteriors(METRIC, folded(), found, RAW, None)
    assert (tally.zero_width, tally.disordered) == (2, 1)


RATE = parse_metric("m", {"family": "beta_binomial", "successes": "won", "trials": "rows"})


def outside(mean: float, method: str = "integrated", raw: float = 0.2) -> int:
    """Count the means outside of a unit between 0.2, or ``raw``, and prior means of 0.4 to 0.5."""
    one = PosteriorColumns(
        mean=np.array([mean]),
        sd=np.array([0.05]),
        sd_plug_in=np.array([0.05]),
        quantiles=np.array([[0.1, 0.5]]),
        weight=np.array([0.5]),
        prior_mean=np.array([0.45]),
        method=np.array([method]),
    )
    seen = Folded((pa.array(["a"]),), np.array([5]), {"m": {}}, {"m": 0})
    priors = np.array([0.4]), np.array([0.5])
    return tally_posteriors(RATE, seen, one, np.array([raw]), priors).outside


@pytest.mark.parametrize(
    ("mean", "expected"),
    [(0.2, 0), (0.3, 0), (0.5 + 1e-12, 0), (0.5 + 1e-6, 1), (0.2 - 1e-6, 1)],
)
def test_means_lie_between_data_and_prior(mean: float, expected: int) -> None:
    assert outside(mean) == outside(mean, "plug_in") == expected
    assert outside(mean, "unidentified") == 0


def test_a_unit_without_data_lies_between_its_prior_means() -> None:
    assert outside(0.45, raw=np.nan) == 0
    assert outside(0.39, raw=np.nan) == 1
