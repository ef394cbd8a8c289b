"""How fast what was observed ages, as the configuration says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hbpipe.model.family import Family


@dataclass(frozen=True)
class Decay:
    """An event counts half as much ``half_life`` days later.

    ``fit_undecayed`` says that hyperparameters are fitted to the window as it is, and only the
    units are updated with what is decayed.
    """

    half_life: float
    fit_undecayed: bool = False


def parse_decay(raw: Any, family: Family) -> Decay:
    """Parse ``decay: {half_life: 14d, fit: ...}``; raises ValueError with what is wrong."""
    from hbpipe.model.kish import can_weigh  # brings scipy

    if not isinstance(raw, Mapping):
        raise ValueError(f"decay is a mapping with half_life and fit, found {raw!r}")
    for key in raw:
        if key not in ("half_life", "fit"):
            raise ValueError(f"decay: unknown key {key!r}; known: half_life, fit")
    given, fit = raw.get("half_life"), raw.get("fit", "decayed")
    days = re.fullmatch(r"([1-9]\d{0,4})\s*d", given.strip()) if isinstance(given, str) else None
    if days is None:
        raise ValueError(f"decay.half_life is a number of days such as 14d, found {given!r}")
    if fit not in ("decayed", "undecayed"):
        raise ValueError(f"decay.fit is decayed or undecayed, found {fit!r}")
    if not can_weigh(family):
        raise ValueError(
            f"decay is not defined for the family {family.name}: how much its days tell is not "
            "one number"
        )
    return Decay(float(days[1]), fit == "undecayed")
