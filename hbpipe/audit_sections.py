"""The section ``audits`` of the settings: the limits of both gates.

What each check compares, and what to do about it, is in ``run/audits/README.md``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from hbpipe.data.spelling import nearest
from hbpipe.sections import Section
from hbpipe.typed import Days, Duration, Factor, Names, Share

#: Checks that may be left out. All others guard what would be wrong in itself.
OPTIONAL = (
    "undated_share",
    "columns_retyped",
    "rejected_share",
    "rejected_rise",
    "repeated_share",
    "repeated_rise",
    "row_count",
    "unit_count",
    "units_vanished",
    "units_new",
    "fits_converged",
    "integration_converged",
    "pools_on_bounds",
    "hyperparameter_drift",
    "overdispersion",
    "size_dependence",
    "pit",
    "prior_shape",
    "calibration",
    "outliers",
    "next_day",
    "spline_columns",
    "covariates_known",
    "prior_means_estimable",
    "pools_identified",
    "arms_seen",
    "statistics_possible",
    "totals_known",
    "totals_met",
    "totals_near",
    "reconciled_possible",
    "window_filled",
)

#: Checks of the model: they warn, or stop a release where ``stop_on`` says so.
OF_THE_MODEL = (
    "pit",
    "prior_shape",
    "calibration",
    "outliers",
    "next_day",
    "size_dependence",
    "overdispersion",
)


class Audits(Section):
    """The limits of both gates; a share is of the rows of a day or the pools of a metric."""

    held: Literal["block", "leave_out"] = Field(
        "block",
        description="what a held day does to the nights whose window contains it: block, no "
        "release; leave_out, a release without the day, and a warning",
    )
    off: Names = Field((), description="checks that are not done, by name")
    stop_on: Names = Field(
        (),
        description="checks of the model that stop a release instead of warning of it, of pit, "
        "prior_shape, calibration, outliers, next_day, size_dependence, overdispersion",
    )
    history: Days = Field(56, description="how many days before it a day is compared with")
    max_rejected_share: float = Field(
        0.05, ge=0, le=1, description="a day with a larger share of rejected rows is held"
    )
    max_repeated_share: float = Field(
        0.25, ge=0, le=1, description="a day with a larger share of repeated rows is held"
    )
    row_count_warn: Factor = Field(
        2.0,
        description="a day is warned of whose rows are more than so many times the median of "
        "comparable days, or the median so many times them; or off",
    )
    row_count_fail: Factor = Field(5.0, description="likewise a day is held; or off")
    unit_count_warn: Factor = Field(
        2.0, description="a day is warned of whose number of units differs so many times; or off"
    )
    unit_count_fail: Factor = Field(None, description="likewise a day is held; or off")
    rejected_rise_warn: Factor = Field(
        3.0,
        description="a day is warned of whose share of rejected rows is above 0.01 and so many "
        "times the median of the days before; or off",
    )
    rejected_rise_fail: Factor = Field(None, description="likewise a day is held; or off")
    repeated_rise_warn: Factor = Field(
        3.0,
        description="a day is warned of whose share of repeated rows is above 0.01 and so many "
        "times the median of the days before; or off",
    )
    repeated_rise_fail: Factor = Field(None, description="likewise a day is held; or off")
    units_vanished_warn: Factor = Field(
        3.0,
        description="a release is warned of when the share of units without events on its last "
        "day, of those seen in the week before, is above 0.01 and so many times the median of the "
        "days before; or off",
    )
    units_vanished_fail: Factor = Field(None, description="likewise a release is stopped; or off")
    units_new_warn: Factor = Field(
        3.0,
        description="a release is warned of when the share of units of its last day that were not "
        "seen in the week before is above 0.01 and so many times the median of the days before; "
        "or off",
    )
    units_new_fail: Factor = Field(None, description="likewise a release is stopped; or off")
    max_unconverged_share: float = Field(
        0.0, ge=0, le=1, description="a metric with a larger share of failed fits stops the release"
    )
    bounds_rise_warn: Share = Field(
        0.25,
        description="a metric is warned of whose share of pools on a bound is by so much above "
        "that of the release before; or off",
    )
    bounds_rise_fail: Share = Field(None, description="likewise a release is stopped; or off")
    drift_warn: Share = Field(
        0.001,
        description="a metric is warned of when the hyperparameters of the release before have, "
        "in any of its pools, a likelihood ratio that chance gives with this probability, and ten "
        "times the median of earlier releases; or off",
    )
    drift_fail: Share = Field(None, description="likewise a release is stopped; or off")
    max_overdispersion: float = Field(
        1.2,
        ge=1,
        description="a metric is warned of whose units vary more, by day or by cluster, than this "
        "many times what their model says",
    )
    max_age: Duration = Field(
        timedelta(hours=36),
        description="`hbpipe freshness` calls readers late when the as-of day that they see ended "
        "longer ago",
    )
    max_unknown_covariates: float = Field(
        0.05,
        ge=0,
        le=1,
        description="a metric with a larger share of stores whose covariates are unknown stops the "
        "release",
    )

    max_reconciled_shift: float = Field(
        3.0,
        gt=0,
        description="a metric is warned of when a known total moves the mean of a store by more "
        "than so many of its posterior sds",
    )

    @field_validator("off")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in OPTIONAL:
                raise ValueError(
                    f"{name!r} is no check that can be left out{nearest(name, OPTIONAL)}"
                )
        return value

    @field_validator("stop_on")
    @classmethod
    def _of_the_model(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in OF_THE_MODEL:
                raise ValueError(f"{name!r} is no check of the model{nearest(name, OF_THE_MODEL)}")
        return value

    def severity(self, check: str) -> str:
        """Return what a check of the model comes to that finds something: warn, or fail."""
        return "fail" if check in self.stop_on else "warn"

    @model_validator(mode="after")
    def _ordered(self) -> Audits:
        for name in type(self).model_fields:
            if name.endswith("_warn"):
                warn, fail = getattr(self, name), getattr(self, name.replace("_warn", "_fail"))
                if warn is not None and fail is not None and _milder(name, fail, warn):
                    raise ValueError(
                        f"{name.replace('_warn', '_fail')} {fail:g} would be met before "
                        f"{name} {warn:g}"
                    )
        return self


def _milder(name: str, fail: float, warn: float) -> bool:
    """Tell whether a failure comes before the warning; of drift a small probability is worse."""
    return fail > warn if name == "drift_warn" else fail < warn
