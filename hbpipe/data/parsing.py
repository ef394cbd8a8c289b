"""A metric of the configuration, parsed: every fault of it is told at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hbpipe.data.cells import parse_cells
from hbpipe.data.classes import CLASS_KEYS, Classes, read_classes
from hbpipe.data.covariates import parse_covariates
from hbpipe.data.decay import parse_decay
from hbpipe.data.dynamics import Dynamics, parse_dynamics
from hbpipe.data.experiment import EFFECTS, parse_experiment
from hbpipe.data.held import holdable, parse_fixed, parse_number
from hbpipe.data.priors import parse_prior
from hbpipe.data.quantities import Metric
from hbpipe.data.reconcile import parse_reconcile
from hbpipe.data.spelling import nearest
from hbpipe.data.terms import (
    CALENDAR,
    Quantity,
    parse_conditions,
    parse_quantity,
    parse_terms,
    parse_transform,
)
from hbpipe.data.weights import check_weights, read_weights

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
    "decay",
    "experiment",
    "dynamics",
    "prior",
    "weights",
)


def parse_metric(name: str, raw: Any) -> Metric:
    """Parse one metric of the configuration.

    Raises
    ------
    ValueError
        With every fault of the metric, one a line.
    """
    from hbpipe.model.families import FAMILIES  # brings scipy: only when settings are read

    known = [name for name, family in sorted(FAMILIES.items()) if family.is_measured]
    if not isinstance(raw, Mapping) or "family" not in raw:
        raise ValueError(f"needs a family, one of {', '.join(known)}")
    raw, weights = read_weights(raw)
    if raw["family"] not in known:  # a list: the value may be of any type
        raise ValueError(f"unknown family {raw['family']!r}{nearest(str(raw['family']), known)}")
    family = FAMILIES[raw["family"]]
    faults = _Faults()
    written = faults.collect(_written_out, family, raw)
    faults.throw()  # without its classes little can be said of the metric
    raw, classes = written
    _check_keys(family, raw, faults, weights)
    quantities = _quantities(family, raw, faults, weights)
    terms = _terms_of(family, raw, faults)
    target = faults.collect(_target, raw.get("target"), terms) or (None, None)
    dynamics = faults.collect(parse_dynamics, raw, family)
    fitted = _fitted(family, raw, dynamics)
    metric = Metric(
        name=name,
        family=family.name,
        roles=quantities,
        where=faults.of(raw, "where", parse_conditions) or (),
        per=faults.collect(_per, raw.get("per", 1), quantities.get("exposure")),
        target=target[0],
        fixed=faults.collect(parse_fixed, raw.get("fixed", {}), holdable(fitted, raw), terms),
        hyperprior=raw.get("hyperprior"),
        terms=terms or {},
        target_term=target[1],
        cells=faults.collect(parse_cells, raw.get("overdispersion", {}), family),
        nest=faults.of(raw, "nest", _nest),
        covariates=faults.of(raw, "covariates", parse_covariates, fitted) or (),
        classes=classes,
        weights=weights,
        experiment=faults.of(raw, "experiment", parse_experiment, family, raw),
        reconcile=faults.of(raw, "reconcile", parse_reconcile, family),
        decay=faults.of(raw, "decay", parse_decay, family),
        dynamics=dynamics,
        prior=faults.collect(parse_prior, fitted.name, raw) or "single",
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

    def of(self, raw: Mapping[str, Any], key: str, parse: Any, *arguments: Any) -> Any:
        """Return what ``parse`` makes of a key that a metric may have; None without it."""
        return self.collect(parse, raw[key], *arguments) if key in raw else None

    def throw(self) -> None:
        if self.found:
            raise ValueError("\n".join(self.found))


def _check_keys(
    family: Family, raw: Mapping[str, Any], faults: _Faults, weights: str | None
) -> None:
    """Find keys that are unknown, missing, or of no use to the family."""
    roles = [role.name for role in family.roles]
    weight = [] if weights is None else ["weight"]
    known = [*roles, *weight, *_METRIC_KEYS, *(CLASS_KEYS if family.roles[0].several else ())]
    for key in raw:
        if key not in known:
            faults.add(f"unknown key {key!r}{nearest(str(key), known)}")
    if missing := [role for role in roles if role not in raw]:
        faults.add(f"family {family.name} needs {', '.join(missing)}")
    if raw.get("transform") is not None and "value" not in roles:
        faults.add("transform goes with a value column")


def _fitted(family: Family, raw: Mapping[str, Any], dynamics: Dynamics | None) -> Family:
    """Return the family of what is fitted, whose hyperparameters may be held."""
    from hbpipe.model.families import get_family

    if raw.get("experiment") is not None:
        return get_family(EFFECTS)
    return family if dynamics is None else dynamics.family


def _written_out(
    family: Family, raw: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Classes | None]:
    """Write out classes that are given by a column, of a family that counts them."""
    first = family.roles[0]
    return read_classes(first.name, raw) if first.several else (raw, None)


def _quantities(
    family: Family, raw: Mapping[str, Any], faults: _Faults, weights: str | None
) -> dict[str, Quantity]:
    """Parse what fills the roles of one quantity each, and the weight of a row."""
    given = [role for role in family.roles if role.name in raw and not role.several]
    quantities = {role.name: faults.collect(_role, role, raw) for role in given}
    if weights is not None:
        faults.collect(check_weights, raw, family, weights)
        quantities["weight"] = Quantity("column", column=raw["weight"])
    return quantities


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
