"""What a metric measures, as plain values: a family and the quantities that fill its roles.

Parsed from the configuration, shipped to workers, evaluated by ``measure.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hbpipe.data.cells import CellRule, parse_cells
from hbpipe.data.classes import CLASS_KEYS, Classes, read_classes
from hbpipe.data.covariates import Covariate, parse_covariates
from hbpipe.data.held import holdable, parse_fixed, parse_number
from hbpipe.data.reconcile import Reconcile, parse_reconcile
from hbpipe.data.spelling import nearest
from hbpipe.data.terms import (
    CALENDAR,
    Condition,
    Quantity,
    parse_conditions,
    parse_quantity,
    parse_terms,
    parse_transform,
)

if TYPE_CHECKING:
    from hbpipe.model.family import Family, Role

_METRIC_KEYS = (
    "family",
    "where",
    "transform",
    "per",
    "target",
    "fixed",
    "hyperprior",
    "overdispersion",
    "nest",
    "covariates",
    "reconcile",
)
#: Columns that the lake's tables have of their own, so no level may be called so.
_RESERVED = """
as_of at_bound at_boundary boundary change change_sd check cluster_id cluster_size cluster_total
complete_pooling complete_pooling_sd converged count counts covariates cross day days_seen
definition drift ess estimate estimator expected expected_new expected_percentile exposure
false_sign_rate family first_day gradient_norm is_new iterations largest_eigenvalue last_day
last_day_n last_day_p last_day_q last_day_raw level log_likelihood_complete_pooling
log_likelihood_no_pooling log_marginal_likelihood m2 made_from made_with mean means message method
metric month n n_effective n_events n_groups next_exposure noise noise_new outlier overdispersion
overdispersion_by overdispersion_df p_below_target p_bottom_10 p_top_10 parameter pareto_k pool
predictive_high predictive_low predictive_mean predictive_sd prior_mean r_hat r_value raw raw_sd
reconciled reconciled_rmse run_id s_value sampler sd sd_plug_in shard silent smallest_eigenvalue
squares squares_new start_log_marginal_likelihood start_values starts starts_agree status successes
term threshold trials unit_ids value values variance weight
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

    @property
    def model(self) -> Family:
        """The family, with as many coefficients or classes as there are terms."""
        from hbpipe.model.families import get_family  # brings scipy

        return get_family(self.family, len(self.terms) or None)

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


def parse_metric(name: str, raw: Any) -> Metric:
    """Parse one metric of the configuration.

    Raises
    ------
    ValueError
        With every fault of the metric, one a line.
    """
    from hbpipe.model.families import FAMILIES  # brings scipy: only when settings are read

    if not isinstance(raw, Mapping) or "family" not in raw:
        raise ValueError(f"needs a family, one of {', '.join(sorted(FAMILIES))}")
    if raw["family"] not in sorted(FAMILIES):  # a list: the value may be of any type
        raise ValueError(f"unknown family {raw['family']!r}{nearest(str(raw['family']), FAMILIES)}")
    family = FAMILIES[raw["family"]]
    faults = _Faults()
    written = faults.collect(_written_out, family, raw)
    faults.throw()  # without its classes little can be said of the metric
    raw, classes = written
    _check_keys(family, raw, faults)
    given = [role for role in family.roles if role.name in raw]
    quantities = {role.name: faults.collect(_role, role, raw) for role in given if not role.several}
    terms = _terms_of(family, raw, faults)
    target = faults.collect(_target, raw.get("target"), terms) or (None, None)
    metric = Metric(
        name=name,
        family=family.name,
        roles=quantities,
        where=faults.collect(parse_conditions, raw["where"]) if "where" in raw else (),
        per=faults.collect(_per, raw.get("per", 1), quantities.get("exposure")),
        target=target[0],
        fixed=faults.collect(parse_fixed, raw.get("fixed", {}), holdable(family, raw), terms),
        hyperprior=raw.get("hyperprior"),
        terms=terms or {},
        target_term=target[1],
        cells=faults.collect(parse_cells, raw.get("overdispersion", {}), family),
        nest=faults.collect(_nest, raw.get("nest")),
        covariates=faults.collect(parse_covariates, raw["covariates"], family)
        if "covariates" in raw
        else (),
        classes=classes,
        reconcile=faults.collect(parse_reconcile, raw["reconcile"], family)
        if "reconcile" in raw
        else None,
    )
    faults.throw()
    return metric


class _Faults:
    """What was found wrong so far, so that it can be told all at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, fault: str) -> None:
        self.found.append(fault)

    def collect(self, parse: Any, *arguments: Any) -> Any:
        """Return what ``parse`` returns; None when it finds a fault, which is kept."""
        try:
            return parse(*arguments)
        except ValueError as error:
            self.found.append(str(error))

    def throw(self) -> None:
        if self.found:
            raise ValueError("\n".join(self.found))


def _check_keys(family: Family, raw: Mapping[str, Any], faults: _Faults) -> None:
    """Find keys that are unknown, missing, or of no use to the family."""
    roles = [role.name for role in family.roles]
    known = [*roles, *_METRIC_KEYS, *(CLASS_KEYS if family.roles[0].several else ())]
    for key in raw:
        if key not in known:
            faults.add(f"unknown key {key!r}{nearest(str(key), known)}")
    if missing := [role for role in roles if role not in raw]:
        faults.add(f"family {family.name} needs {', '.join(missing)}")
    if raw.get("transform") is not None and "value" not in roles:
        faults.add("transform goes with a value column")


def _written_out(
    family: Family, raw: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Classes | None]:
    """Write out classes that are given by a column, of a family that counts them."""
    first = family.roles[0]
    return read_classes(first.name, raw) if first.several else (raw, None)


def _role(role: Role, raw: Mapping[str, Any]) -> Quantity:
    """Parse what fills a role, with the metric's own transform where the role is the value."""
    quantity = parse_quantity(role.name, raw[role.name])
    transform = parse_transform(raw.get("transform")) if role.name == "value" else None
    if transform is not None:
        if quantity.kind != "column" or quantity.transform not in (None, transform):
            raise ValueError("transform goes with a value column, and is given once")
        quantity = Quantity("column", column=quantity.column, transform=transform)
    return _of_any_sign(role, quantity)


def _terms_of(
    family: Family, raw: Mapping[str, Any], faults: _Faults
) -> dict[str, Quantity] | None:
    """Parse what fills the role that takes several quantities; None where it cannot be read."""
    for role in family.roles:
        if role.several:
            found = faults.collect(_terms, role, raw) if role.name in raw else None
            return found if found is None else dict(found)
    return {}


def _terms(role: Role, raw: Mapping[str, Any]) -> dict[str, Quantity]:
    terms = parse_terms(role.name, raw[role.name])
    return {name: _of_any_sign(role, quantity) for name, quantity in terms.items()}


def _of_any_sign(role: Role, quantity: Quantity) -> Quantity:
    if quantity.transform is not None and role.lowest is not None:
        raise ValueError(f"{role.name}: a logarithm may be negative, and {role.name} may not")
    return quantity


def _per(raw: Any, exposure: Quantity | None) -> float:
    if exposure is None:
        if raw != 1:
            raise ValueError("per goes with an exposure")
        return 1.0
    calendar = exposure.kind in CALENDAR
    days = re.fullmatch(r"([1-9]\d{0,4})\s*d", raw.strip()) if isinstance(raw, str) else None
    value = int(days[1]) if days and calendar else raw
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"per must be a positive number, or days such as 7d, found {raw!r}")
    return float(value)


def _target(raw: Any, terms: Mapping[str, Any] | None) -> tuple[float | None, str | None]:
    """Parse the target: a number; where there are several terms, one of them with its value."""
    if raw is None or terms is None:  # without its terms nothing can be said of it
        return None, None
    if not terms:
        return parse_number("target", raw), None
    if not isinstance(raw, Mapping) or raw.keys() != {"term", "value"}:
        example = f"{{term: {list(terms)[-1]}, value: 0}}"
        raise ValueError(f"target is about one of several terms: {example}, found {raw!r}")
    if raw["term"] not in terms:
        raise ValueError(f"target: unknown term {raw['term']!r}{nearest(str(raw['term']), terms)}")
    return parse_number("target", raw["value"]), str(raw["term"])


def _nest(raw: Any) -> tuple[str, ...] | None:
    """Parse the nested levels of a metric: false for none, or a list of names."""
    if raw is None or raw is False:
        return None if raw is None else ()
    names = [raw] if isinstance(raw, str) else raw
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"nest is false, or levels of inference.nest_by, found {raw!r}")
    return tuple(names)
