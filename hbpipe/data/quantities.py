"""What a metric measures, as plain values: a family and the quantities that fill its roles.

Parsed from the configuration by ``parsing.py``, shipped to workers, evaluated by ``measure.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hbpipe.data.cells import CellRule
from hbpipe.data.classes import Classes
from hbpipe.data.covariates import Covariate
from hbpipe.data.decay import Decay
from hbpipe.data.dynamics import Dynamics
from hbpipe.data.experiment import EFFECTS, Experiment
from hbpipe.data.reconcile import Reconcile
from hbpipe.data.terms import CALENDAR, Condition, Quantity

if TYPE_CHECKING:
    from hbpipe.model.family import Family, Role

#: Columns that the lake's tables have of their own, so no level may be called so.
_RESERVED = """
as_of at_bound at_boundary bic_mixture bic_single boundary change change_sd check cluster_id
cluster_size cluster_total complete_pooling complete_pooling_sd converged count counts covariates
cross day days_seen definition drift duality_gap dynamics ess estimate estimator expected
expected_new expected_percentile exposure false_sign_rate family first_day gradient_norm is_new
iterations largest_eigenvalue last_day last_day_n last_day_p last_day_q last_day_raw level
log_likelihood_complete_pooling log_likelihood_no_pooling log_marginal_likelihood log_precision
log_score_drifting log_score_static m2 m2_control m2_treatment made_from made_with mean mean_control
mean_treatment means message method metric month n n_control n_effective n_events n_groups
n_treatment next_exposure noise noise_new outlier overdispersion overdispersion_by overdispersion_df
p_above_zero p_below_target p_bottom_10 p_top_10 parameter pareto_k pool posterior_mean posterior_sd
precision predictive_high predictive_low predictive_mean predictive_sd prior prior_mean r_hat
r_value raw raw_sd reconciled reconciled_rmse run_id s_value sampled_size sampler score_grid
score_single scored_days sd sd_plug_in shard silent smallest_eigenvalue squared_weights squares
squares_new start_log_marginal_likelihood start_values starts starts_agree status successes
successes_control successes_treatment term threshold trials trials_control trials_treatment unit_ids
value values variance weight weighted_count weighted_counts weighted_estimate weighted_exposure
weighted_m2 weighted_mean weighted_n weighted_successes weighted_trials weighted_variance
"""
RESERVED = frozenset(_RESERVED.split())


@dataclass(frozen=True)
class Metric:
    """One metric of the configuration: a family, what fills its roles, and which rows count."""

    name: str
    family: str
    roles: dict[str, Quantity]
    where: tuple[Condition, ...] = ()
    #: Exposure units per reported unit: 7 days for a weekly rate.
    per: float = 1.0
    target: float | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    hyperprior: Any = None
    #: What of a unit's events hangs together.
    cells: CellRule = field(default_factory=CellRule)
    #: What fills the role that takes several quantities: the name of each term, in order.
    terms: dict[str, Quantity] = field(default_factory=dict)
    #: The term that ``target`` is about, where there are several.
    target_term: str | None = None
    #: The levels at which its priors vary; None for those of all metrics.
    nest: tuple[str, ...] | None = None
    #: What the prior mean depends on beside the intercept.
    covariates: tuple[Covariate, ...] = ()
    #: The column that names each row's class, where the terms are its values.
    classes: Classes | None = None
    #: The known totals that its estimates are to add up to.
    reconcile: Reconcile | None = None
    #: What the numbers of its role ``weight`` mean; None where it has none.
    weights: str | None = None
    #: How fast its days lose weight; None where all days of a window count alike.
    decay: Decay | None = None
    #: The arms whose difference is the metric.
    experiment: Experiment | None = None
    #: How levels of units move from day to day; None where they stay.
    dynamics: Dynamics | None = None
    #: How θ varies over units: one conjugate law, ``single``, or several.
    prior: str = "single"

    @property
    def base(self) -> Family:
        """The family as it is named, without weights, arms, drift or another prior."""
        from hbpipe.model.families import get_family  # brings scipy

        return get_family(self.family, len(self.terms) or None)

    @property
    def measured(self) -> Family:
        """The family of the daily statistics: by arm, or as many classes as there are terms."""
        from hbpipe.model.families import BY_ARM, get_family  # brings scipy

        if self.experiment is not None:
            return get_family(self.family + BY_ARM)
        name = self.family if self.weights is None else f"{self.family}:{self.weights}"
        return get_family(name, len(self.terms) or None)

    @property
    def of_one_arm(self) -> Family:
        """The family of the daily statistics; of an experiment that of each arm alone."""
        from hbpipe.model.families import get_family

        return self.measured if self.experiment is None else get_family(self.family)

    @property
    def model(self) -> Family:
        """The family of what is fitted to the statistics of a window, with its prior."""
        from hbpipe.model.families import get_family

        if self.experiment is not None:
            return get_family(EFFECTS, prior=self.prior)
        if self.dynamics is not None:
            return self.dynamics.family
        return get_family(self.family, len(self.terms) or None, prior=self.prior)

    @property
    def fitted(self) -> Family:
        """The family whose hyperparameters are estimated: with covariates, with one of them."""
        from hbpipe.model.families import get_family

        family = self.model
        return get_family(family.name, family.size, 1) if self.covariates else family

    @property
    def by_day(self) -> bool:
        """Whether the days of a window are wanted one by one, not only their total."""
        return self.decay is not None or self.dynamics is not None

    def over(self, days: int | None) -> Metric:
        """Return the metric over windows of so many days; None for all days."""
        if self.dynamics is None:
            return self
        return replace(self, dynamics=replace(self.dynamics, days=days))

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names of the numbers that describe a unit: the terms, or ``theta`` alone."""
        return tuple(self.terms) or ("theta",)

    def quantities(self, role: Role) -> tuple[Quantity, ...]:
        """Return what fills a role: one quantity, several, or the number of a row's class."""
        if role.name == "arm":
            assert self.experiment is not None
            return (Quantity("arm", column=self.experiment.column),)
        if role.several and self.classes is not None:
            return (Quantity("class", column=self.classes.column),)
        return tuple(self.terms.values()) if role.several else (self.roles[role.name],)

    @property
    def columns(self) -> tuple[str, ...]:
        """The event columns that must be read, in a fixed order."""
        conditions = tuple(condition.column for condition in self.where)
        quantities = (*self.roles.values(), *self.terms.values())
        measured = tuple(name for quantity in quantities for name in quantity.columns)
        arm = () if self.experiment is None else (self.experiment.column,)
        return tuple(dict.fromkeys(measured + conditions + self.cells.clusters + arm))

    @property
    def calendar(self) -> str | None:
        """``days`` or ``active_days`` when the exposure is counted in days, else None."""
        exposure = self.roles.get("exposure")
        return exposure.kind if exposure and exposure.kind in CALENDAR else None

    def measured_by(self) -> dict[str, Any]:
        """Everything that decides the daily statistics, for the fingerprint of a day.

        The names of terms do not.
        """
        found = {"family": self.family, "roles": repr(self.roles), "where": repr(self.where)}
        if self.terms:
            found["terms"] = repr(tuple(self.terms.values()))
        if self.weights is not None:
            found["weights"] = self.weights
        if self.cells.clusters:
            found["clusters"] = repr(self.cells.clusters)
        if self.experiment is not None:
            found["experiment"] = repr(self.experiment)
        return found
