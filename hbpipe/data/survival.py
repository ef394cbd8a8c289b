"""Hazards by interval of duration, written as what they stand for: one metric for each interval.

``survival: {duration: days, event: bought_again, cuts: [7, 30]}`` is short for three metrics of
``gamma_poisson``: the events and the time at risk within (0, 7], (7, 30] and beyond 30. With a
constant hazard in each interval the likelihood of spells, censored or not, is that of these counts
in these exposures (Holford 1980, *Biometrics* 36; Laird and Olivier 1981, *JASA* 76). Each interval
has its own prior. Without cuts it is one metric, of a hazard that is the same at all durations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from hbpipe.data.spelling import nearest

KEY = "survival"
_KEYS = ("duration", "event", "cuts")
#: The length of a metric's name, see ``MetricName``.
_LONGEST = 64


def write_out(name: str, raw: Any) -> dict[str, Any]:
    """Return the metrics that one of the configuration is short for, by name: most are themselves.

    Raises
    ------
    ValueError
        For another family, a role that is given as well, and keys or cuts that are unusable.
    """
    if not isinstance(raw, Mapping) or KEY not in raw:
        return {name: raw}
    if raw.get("family") != "gamma_poisson":
        raise ValueError(f"{KEY} goes with family gamma_poisson, found {raw.get('family')!r}")
    if given := [role for role in ("count", "exposure") if role in raw]:
        raise ValueError(f"give either {KEY}, or count and exposure; found {given[0]} too")
    duration, event, cuts = _parse(raw[KEY])
    rest = {key: value for key, value in raw.items() if key != KEY}
    ends = [0.0, *cuts, math.inf]
    written = {}
    for lower, upper in pairwise(ends):
        within = {"duration": duration, "interval": [lower, None if upper == math.inf else upper]}
        roles = {"count": {"column": event, **within}, "exposure": within}
        written[_name(name, lower, upper)] = {**rest, **roles}
    if too_long := [one for one in written if len(one) > _LONGEST]:
        raise ValueError(f"{too_long[0]} has more than {_LONGEST} letters; shorten {name!r}")
    return written


def write_out_all(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write out every metric; raises as ``write_out``, and where two come by the same name."""
    written: dict[str, Any] = {}
    for name, raw in metrics.items():
        for one, meant in write_out(name, raw).items():
            if one in written or (one != name and one in metrics):
                raise ValueError(f"metrics.{name}: its interval {one} is a metric already")
            written[one] = meant
    return written


def _parse(raw: Any) -> tuple[str, str, Sequence[float]]:
    if not isinstance(raw, Mapping):
        raise ValueError(
            f"{KEY} is {{duration: days, event: bought_again, cuts: [7, 30]}}, found {raw!r}"
        )
    for key in raw:
        if key not in _KEYS:
            raise ValueError(f"{KEY}: unknown key {key!r}{nearest(str(key), _KEYS)}")
    for key in ("duration", "event"):
        if not isinstance(raw.get(key), str):
            raise ValueError(f"{KEY}: {key} must be a column, found {raw.get(key)!r}")
    cuts = raw.get("cuts", [])
    if not isinstance(cuts, list | tuple) or not all(_is_cut(cut) for cut in cuts):
        raise ValueError(f"{KEY}: cuts are positive numbers such as [7, 30, 90], found {cuts!r}")
    if any(left >= right for left, right in pairwise(cuts)):
        raise ValueError(f"{KEY}: cuts must rise, found {cuts!r}")
    return raw["duration"], raw["event"], cuts


def _is_cut(cut: Any) -> bool:
    return isinstance(cut, int | float) and not isinstance(cut, bool) and 0 < cut < math.inf


def _name(name: str, lower: float, upper: float) -> str:
    """Name an interval: ``wait_7_30``, ``wait_0_0p5``, the last ``wait_after_30``."""
    if upper == math.inf:
        return f"{name}_after_{_digits(lower)}" if lower else name
    return f"{name}_{_digits(lower)}_{_digits(upper)}"


def _digits(cut: float) -> str:
    """Write a cut as a part of a name, the point as ``p``."""
    text = f"{cut:.15g}".replace("+", "").replace("-", "m")
    return text.replace(".", "p")
