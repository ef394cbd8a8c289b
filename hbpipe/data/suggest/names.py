"""What a column's name says: a store, a level above stores, a label, a sampling error."""

from __future__ import annotations

import re

_UNIT = r"store|shop|outlet|branch|location|site|retailer|restaurant|pharmacy|station"
_COARSE = (
    r"chain|banner|company|region|country|district|division|area|state|franchise|market"
    r"|merchant|tenant|group"
)
_ATTRIBUTE = r"brand|(?:^|_)format"  # of a store, or of what it sells
_NO_UNIT = (
    r"product|item|sku|customer|household|user|member|basket|order|session|transaction|receipt"
    r"|ticket|visit|event|line|cashier|employee|device|card|department|category"
)
_LABEL = re.compile(
    r"(?i:(^|_)(id|key|no|nr|nbr|num|number|sku|ean|zip))$|[a-z](Id|ID|Key|Nr|No)$|(?i:code)$",
    re.ASCII,
)
_SUFFIX = r"[ _-]?(?:id|key|no|nr|nbr|num|number|code|cd|ref)"
# The last word tells what numbers are: `home_store` is a store, `store_visits` are visits.
_LEVEL = re.compile(rf"(?<!in_)(?:{_UNIT}|{_COARSE}|{_ATTRIBUTE})(?:{_SUFFIX})?_?\d*$", re.I)
_NUMBERED = re.compile(rf"(?:{_NO_UNIT}){_SUFFIX}$", re.I)

_VARIANCE = re.compile(r"(?:^|[ _])(?:sampling_)?(?:variance|var)(?:$|[ _])", re.I)
_STANDARD_ERROR = re.compile(r"(?:^|[ _])(?:se|sem|std_?err(?:or)?|standard_error)(?:$|[ _])", re.I)
_ESTIMATE = re.compile(
    r"(?:^|[ _])(?:effect|estimate|coef|coefficient|lift|uplift|delta|difference|mean)$", re.I
)


def id_like(name: str) -> bool:
    """Tell whether a name says that its numbers are labels."""
    return bool(_LABEL.search(name) or _NUMBERED.search(name))


def level_like(name: str) -> bool:
    """Tell whether a name says that its numbers stand for stores or for what they belong to."""
    return bool(_LEVEL.search(name))


def names_unit(name: str) -> bool:
    """Tell whether a name speaks of a store."""
    return bool(re.search(_UNIT, name, re.I))


def names_other(name: str) -> bool:
    """Tell whether a name speaks of what is no store: goods, people, events, attributes."""
    return bool(re.search(f"{_NO_UNIT}|{_ATTRIBUTE}", name, re.I))


def names_attribute(name: str) -> bool:
    """Tell whether a name speaks of a brand or a format."""
    return bool(re.search(_ATTRIBUTE, name, re.I))


def names_coarse(name: str) -> bool:
    """Tell whether a name speaks of what stores may belong to, a brand or a format included."""
    return bool(re.search(f"{_COARSE}|{_ATTRIBUTE}", name, re.I))


def names_variance(name: str) -> bool:
    """Tell whether a name speaks of a sampling variance."""
    return bool(_VARIANCE.search(name))


def names_standard_error(name: str) -> bool:
    """Tell whether a name speaks of a standard error."""
    return bool(_STANDARD_ERROR.search(name))


def names_estimate(name: str) -> bool:
    """Tell whether a name speaks of an estimated effect."""
    return bool(_ESTIMATE.search(name))


def estimate_of(name: str) -> str:
    """Return what is left of the name of a variance: `lift` of `lift_var`; may be empty."""
    return _VARIANCE.sub("_", name).strip(" _")
