"""How the levels of units move from day to day, as the configuration says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hbpipe.data.spelling import nearest

if TYPE_CHECKING:
    from hbpipe.model.family import Family

#: By the family that is measured, the models of a level that moves.
_MODELS = {"normal": ("local_level",)}
#: Keys of a metric that take a level to stay where it is.
_STATIC = ("covariates", "decay", "experiment", "overdispersion", "prior", "weights")


@dataclass(frozen=True)
class Dynamics:
    """The model of a level, and the days of the window, which the settings know."""

    model: str
    days: int | None = None

    @property
    def family(self) -> Family:
        """The family of what is fitted to the days of a window."""
        from hbpipe.model.families import get_family  # brings scipy

        return get_family(self.model, self.days)


def parse_dynamics(raw: Mapping[str, Any], family: Family) -> Dynamics | None:
    """Parse ``dynamics: local_level`` of a metric; raises ValueError with what is wrong."""
    given = raw.get("dynamics")
    if given is None:
        return None
    known = _MODELS.get(family.name, ())
    if not known:
        raise ValueError(
            f"dynamics goes with the family {' or '.join(_MODELS)}, and {family.name} has none"
        )
    if given not in known:
        raise ValueError(f"unknown dynamics {given!r}{nearest(str(given), known)}")
    if also := [name for name in _STATIC if name in raw]:
        raise ValueError(f"dynamics does not go with {', '.join(also)}")
    return Dynamics(str(given))
