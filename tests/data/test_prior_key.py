"""The key ``prior`` of a metric: a nonparametric prior, and what it does not go with."""

from typing import Any

import pytest

from hbpipe.data.parsing import parse_metric
from hbpipe.setting_checks import estimator_faults

CONVERSION: dict[str, Any] = {
    "family": "beta_binomial",
    "successes": "converted",
    "trials": "visits",
    "prior": "grid",
}


def test_the_model_has_the_prior_and_the_statistics_are_those_of_the_family() -> None:
    metric = parse_metric("conversion", CONVERSION)
    plain = parse_metric("conversion", {**CONVERSION, "prior": "single"})
    assert metric.model.prior_form == "grid"
    assert metric.measured is plain.measured
    assert metric.measured_by() == plain.measured_by()


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"prior": "gird"}, "did you mean 'grid'"),
        ({"hyperprior": "bda3"}, "grid does not go with hyperprior"),
        ({"fixed": {"mean": 0.1}}, "grid does not go with fixed"),
        ({"nest": ["chain_id"]}, "grid does not go with nest"),
    ],
)
def test_faults_are_told(more: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_metric("conversion", {**CONVERSION, **more})


def test_estimators_but_ml_are_told_before_the_night() -> None:
    metric = parse_metric("conversion", CONVERSION)
    assert estimator_faults("ml", [metric]) == []
    for estimator in ("map", "moments", "moments:kleinman", "ml:chung"):
        [fault] = estimator_faults(estimator, [metric])
        assert "the prior grid of conversion has ml alone" in fault


def test_other_families_have_no_grid() -> None:
    with pytest.raises(ValueError, match="takes no mixture"):
        parse_metric("basket", {"family": "normal", "value": "amount", "prior": "grid"})
