"""What a metric measures, as plain values: a family and the quantities that fill its roles.

Parsed from the configuration by ``parsing.py``, shipped to workers, evaluated by ``measure.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hbpipe.data.cells import CellRule
from hbpipe.data.classes import Classes
from hbpipe.data.covariates import Covariate
from hbpipe.data.reconcile import Reconcile
from hbpipe.data.terms import CALENDAR, Condition, Quantity

if TYPE_CHECKING:
    from hbpipe.model.family import Family, Role

#: Columns that the lake's tables have of their own, so no level may be called so.
_RESERVED = """
as_of at_bound at_boundary bic_mixture bic_single boundary change change_sd check cluster_id
cluster_size cluster_total complete_pooling complete_pooling_sd converged count counts covariates
cross day days_seen definition drift duality_gap ess estimate estimator expected expected_new
expected_percentile exposure false_sign_rate family first_day gradient_norm is_new iterations
largest_eigenvalue last_day last_day_n last_day_p last_day_q last_day_raw level
log_likelihood_complete_pooling log_likelihood_no_pooling log_marginal_likelihood m2 made_from
made_with mean means message method metric month n n_effective n_events n_groups next_exposure noise
noise_new outlier overdispersion overdispersion_by overdispersion_df p_below_target p_bottom_10
p_top_10 parameter pareto_k pool predictive_high predictive_low predictive_mean predictive_sd prior
prior_mean r_hat r_value raw raw_sd reconciled reconciled_rmse run_id s_value sampler score_grid
score_single sd sd_plug_in shard silent smallest_eigenvalue squares squares_new
start_log_marginal_likelihood start_values starts starts_agree status successes term threshold
trials unit_ids value values variance weight
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
    #: How θ varies over units: one conjugate law, ``single``, or several.
    prior: str = "single"

    @property
    def measured(self) -> Family:
        """The family of the daily statistics, with as many classes as there are terms."""
        from hbpipe.model.families import get_family  # brings scipy

        return get_family(self.family, len(self.terms) or None)

    @property
    def model(self) -> Family:
        """The family of what is fitted to the statistics of a window, with its prior."""
        from hbpipe.model.families import get_family

        family = self.measured
        return get_family(family.name, family.size, prior=self.prior)

    @property
    def fitted(self) -> Family:
        """The family whose hyperparameters are estimated: with covariates, with one of them."""
        from hbpipe.model.families import get_family

        family = self.model
        return get_family(family.name, family.size, 1) if self.covariates else family

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names of the numbers that describe a unit: the terms, or ``theta`` alone."""
        return tuple(self.terms) or ("theta",)

    def quantities(self, role: Role) -> tuple[Quantity, ...]:
        """Return what fills a role: one quantity, several, or the number of a row's class."""
        if role.several and self.classes is not None:
            return (Quantity("class", column=self.classes.column),)
        return tuple(self.terms.values()) if role.several else (self.roles[role.name],)

    @property
    def columns(self) -> tuple[str, ...]:
        """The event columns that must be read, in a fixed order."""
        conditions = tuple(condition.column for condition in self.where)
        quantities = (*self.roles.values(), *self.terms.values())
        measured = tuple(name for quantity in quantities for name in quantity.columns)
        return tuple(dict.fromkeys(measured + conditions + self.cells.clusters))

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
        if self.cells.clusters:
            found["clusters"] = repr(self.cells.clusters)
        return found
