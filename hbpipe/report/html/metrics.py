"""What each metric of a release is, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.quantities import Metric
from hbpipe.data.terms import Condition, Quantity, Spell
from hbpipe.data.weights import SAMPLING
from hbpipe.run.history import Release


def describe_metrics(
    settings: Settings, row: Release, metrics: Sequence[str], fits: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Describe metrics; from the settings only where the release was made with the same."""
    families = {fit["metric"]: fit["family"] for fit in fits}
    known = {}
    if settings.digest() == row["settings"]:
        known = {metric.name: _definition(metric) for metric in settings.parsed_metrics}
    return [{"name": name, "family": families[name], **known.get(name, {})} for name in metrics]


def _definition(metric: Metric) -> dict[str, Any]:
    roles = [f"{role}: {_quantity(quantity)}" for role, quantity in metric.roles.items()]
    roles += [f"{term}: {_quantity(quantity)}" for term, quantity in metric.terms.items()]
    if metric.weights is not None:
        likelihood = ", a pseudo-likelihood" if metric.weights == SAMPLING else ""
        roles.append(f"weights of meaning {metric.weights}{likelihood}")
    if metric.where:
        roles.append(f"where {_conditions(metric.where)}")
    if metric.experiment is not None:
        treatment = metric.experiment.treatment
        other = "the other arm" if treatment is None else treatment
        roles.append(f"{other} less {metric.experiment.control} of {metric.experiment.column}")
    value = metric.roles.get("value")
    return {
        "made_of": "; ".join(roles),
        "transform": None if value is None else value.transform,
        "per": metric.per,
        "target": metric.target,
    }


def _quantity(quantity: Quantity) -> str:
    if isinstance(quantity, Spell):
        what = "time" if quantity.kind == "time" else quantity.column
        ends = f"{quantity.lower:g} to {quantity.upper:g}".removesuffix(" to inf")
        return f"{what} within {quantity.duration} from {ends}"
    if quantity.kind == "column":
        name = str(quantity.column)
        return f"{quantity.transform}({name})" if quantity.transform else name
    return f"rows where {_conditions(quantity.where)}" if quantity.where else quantity.kind


def _conditions(conditions: Sequence[Condition]) -> str:
    return " and ".join(
        " ".join(str(part) for part in (one.column, one.operator, one.value) if part is not None)
        for one in conditions
    )
