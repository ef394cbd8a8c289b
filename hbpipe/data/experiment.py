"""The two arms that a metric compares, as the configuration names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What the effects of stores are fitted as.
EFFECTS = "normal_known_variance"

#: Keys of a metric that go with an experiment, beside the roles of its family.
_ALLOWED = (
    "family",
    "where",
    "transform",
    "target",
    "fixed",
    "hyperprior",
    "nest",
    "covariates",
    "overdispersion",
    "prior",
    "experiment",
)
Arm = str | int | bool


@dataclass(frozen=True)
class Experiment:
    """The column that names each row's arm, and the two values that are compared.

    Without ``treatment`` it is whatever is not ``control``, and must be one value.
    """

    column: str
    control: Arm
    treatment: Arm | None = None

    @property
    def values(self) -> tuple[Arm, ...]:
        """The values that are named."""
        return (self.control,) if self.treatment is None else (self.control, self.treatment)


def parse_experiment(raw: Any, family: Any, metric: Mapping[str, Any]) -> Experiment | None:
    """Parse ``experiment: {arm: ..., control: ..., treatment: ...}``; None without one.

    Raises
    ------
    ValueError
        For what is missing or unknown, a family without effects, and keys of the metric that do
        not go with an experiment.
    """
    from hbpipe.model.families import COMPARABLE  # brings scipy

    if raw is None:
        return None
    if family.name not in COMPARABLE:
        raise ValueError(
            f"experiment: effects of {family.name} are not defined; use {' or '.join(COMPARABLE)}"
        )
    allowed = (*_ALLOWED, *(role.name for role in family.roles))
    if others := [key for key in metric if key not in allowed]:
        raise ValueError(f"{others[0]} does not go with an experiment")
    cells = metric.get("overdispersion")
    if isinstance(cells, Mapping) and cells.get("by", "day") == "day":
        raise ValueError(
            "overdispersion of an experiment is by the columns of what was assigned to arms "
            "together, such as {by: household_id, correct: true}"
        )
    return _read_arms(raw)


def _read_arms(raw: Any) -> Experiment:
    """Read the column and the values of the arms."""
    if not isinstance(raw, Mapping):
        raise ValueError(
            f"experiment is a mapping such as {{arm: group, control: A}}, found {raw!r}"
        )
    for key in raw:
        if key not in ("arm", "control", "treatment"):
            raise ValueError(f"experiment: unknown key {key!r}; known: arm, control, treatment")
    column, control, treatment = raw.get("arm"), raw.get("control"), raw.get("treatment")
    if not isinstance(column, str) or not column:
        raise ValueError(f"experiment.arm must be the column that names the arm, found {column!r}")
    named = [control] if treatment is None else [control, treatment]
    if control is None or not all(isinstance(value, Arm) for value in named):
        raise ValueError(
            "experiment: control and treatment are texts, whole numbers or booleans, found "
            + " and ".join(map(repr, named))
        )
    if treatment is not None and type(control) is type(treatment) and control == treatment:
        raise ValueError(f"experiment: control and treatment are both {control!r}")
    return Experiment(column, control, treatment)


def third_arms(experiment: Experiment, found: Mapping[str, int]) -> Sequence[str]:
    """Return the values of the arm that are not ``control``, where they are more than one.

    ``found`` are the rows that counted, by value as text. Named arms are never more.
    """
    others = sorted(value for value in found if value != str(experiment.control))
    return others if experiment.treatment is None and len(others) > 1 else ()
