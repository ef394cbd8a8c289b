"""Which metrics the columns allow, with the family and the evidence for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hbpipe.data.suggest.estimates import standard_error_of, variances
from hbpipe.data.suggest.names import id_like, level_like, names_coarse, names_unit
from hbpipe.data.suggest.profile import Profile, skewness
from hbpipe.data.suggest.roles import is_nested
from hbpipe.data.suggest.writing import column, percent, scalar, slug

_CALENDAR = re.compile(
    r"(^|_)(year|quarter|month|week|weekday|day|dow|hour|minute)(_|\d|$)", re.IGNORECASE
)
_MAX_CATEGORIES = 12
_SKEWED = 1.0
_FAR_FROM_NORMAL = 3.0  # skewness
_MOSTLY_ZERO = 0.5
_STRAY_NEGATIVES = 0.02  # more than that are returns or a signed quantity
_OVERDISPERSED = 100.0  # within-unit variance over mean: no longer counts of single things

_TOTALS = "the sample has one row per unit and day"


@dataclass(frozen=True)
class Suggestion:
    """A metric as YAML (the mapping after ``name:``) and the evidence in words."""

    name: str
    body: str
    why: str


@dataclass(frozen=True)
class LeftOut:
    """A column that became no metric, and why."""

    name: str
    why: str


def suggest_metrics(
    profiles: Sequence[Profile], unit: Profile, totals: bool
) -> tuple[list[Suggestion], list[LeftOut]]:
    """Return metrics for the columns that are measures, and what was left out.

    ``profiles`` are the columns that have no role yet; ``unit`` tells stores apart; ``totals``
    says that there is one row per unit and day.
    """
    left_out = [LeftOut(p.name, why) for p in profiles if (why := _no_measure(p, unit)) is not None]
    gone = {column.name for column in left_out}
    measures = [profile for profile in profiles if profile.name not in gone]
    errors = {p.name: why for p in measures if (why := standard_error_of(p, measures)) is not None}
    left_out += [LeftOut(name, why) for name, why in errors.items()]
    found = _metrics([p for p in measures if p.name not in errors], unit)
    if not totals:
        found.insert(0, _events())
    elif found:
        left_out.insert(0, LeftOut("events", f"a metric of rows per day would say 1: {_TOTALS}"))
    else:
        found.append(replace(_events(), why=f"{_TOTALS}, so this says 1: replace it"))
    return _with_own_names(found), left_out


def _metrics(measures: Sequence[Profile], unit: Profile) -> list[Suggestion]:
    known = variances(measures)
    free = [p for p in measures if all(p is not variance for variance in known.values())]
    pairs = _pairs([p for p in free if p.name not in known and _is_count(p, unit)])
    found: list[Suggestion] = []
    for profile in free:
        if profile.name in known:
            found.append(_estimate(profile, known[profile.name]))
        elif profile.name in pairs:
            found.append(_pair(profile, pairs[profile.name]))
        else:
            found += _measure(profile, unit)
    return found


def _no_measure(profile: Profile, unit: Profile) -> str | None:
    """Return why a column is no measure; None when it is one."""
    if profile.null_share == 1.0:
        return "no value in the sample"
    if profile.kind == "other":
        return f"{profile.column.type} is neither a number, a boolean nor text"
    if profile.kind == "time":
        return "a time"
    if profile.kind in ("whole", "amount") and not len(profile.numbers):
        return "no finite number in the sample"
    if profile.distinct == 1:
        return f"one value only: {scalar(profile.column.drop_null()[0].as_py())}"
    if profile.kind == "text" and profile.distinct > _MAX_CATEGORIES:
        return f"text with {profile.distinct:,} different values: too many to be a share of one"
    if profile.kind == "whole" and (id_like(profile.name) or level_like(profile.name)):
        return f"named like a label, {profile.distinct:,} different numbers"
    if profile.kind == "whole" and _CALENDAR.search(profile.name):
        return "named like a part of a date"
    if profile.kind == "whole" and _is_trait(profile, unit):
        return f"one value for each {scalar(unit.name)}: a trait of it"
    return None


def _is_trait(profile: Profile, unit: Profile) -> bool:
    """Tell whether numbers such as ``store_type`` never change within a unit."""
    named = names_unit(profile.name) or names_coarse(profile.name)
    return named and is_nested(unit, profile)


def _events() -> Suggestion:
    return Suggestion(
        "events",
        "{family: gamma_poisson, count: rows, exposure: days, per: 1d}",
        "rows per calendar day and unit: a count over a time -> gamma_poisson",
    )


def _measure(profile: Profile, unit: Profile) -> Iterator[Suggestion]:
    if profile.is_binary:
        yield _rate(profile)
    elif profile.kind == "text":
        yield _share(profile)
    elif _is_count(profile, unit):
        yield _count(profile)
    else:
        if profile.zero_share >= _MOSTLY_ZERO and profile.negative_share == 0:
            yield _use(profile)
        yield _value(profile)


# --- shares -------------------------------------------------------------------------------------


def _rate(profile: Profile) -> Suggestion:
    hits = float(np.mean(profile.numbers))
    values = "true or false" if profile.kind == "boolean" else "0 or 1"
    return Suggestion(
        f"{slug(profile.name)}_rate",
        f"{{family: beta_binomial, successes: {column(profile.name)}, trials: rows}}",
        f"{values}, {percent(hits)} hits, {_nulls(profile)}: one trial each -> beta_binomial",
    )


def _share(profile: Profile) -> Suggestion:
    value, share = profile.most_frequent()
    name = scalar(profile.name)
    return Suggestion(
        f"{slug(profile.name)}_{slug(value)}_share",
        f"{{family: beta_binomial, successes: {{where: [[{name}, '==', {scalar(value)}]]}}, "
        f"trials: {{where: [[{name}, not_null]]}}}}",
        f"{profile.distinct} categories, the most frequent one in {percent(share)} of the rows, "
        f"{_nulls(profile)} -> share of rows, beta_binomial",
    )


def _use(profile: Profile) -> Suggestion:
    name = scalar(profile.name)
    return Suggestion(
        f"{slug(profile.name)}_use",
        f"{{family: beta_binomial, successes: {{where: [[{name}, '>', 0]]}}, "
        f"trials: {{where: [[{name}, not_null]]}}}}",
        f"{percent(profile.zero_share)} zeros: how often it is above zero -> beta_binomial",
    )


def _pairs(counts: Sequence[Profile]) -> dict[str, Profile]:
    """Return, for each count that never exceeds another, the closest such other."""
    pairs: dict[str, Profile] = {}
    for part in counts:
        bounds = [whole for whole in counts if whole is not part and _never_exceeds(part, whole)]
        if bounds:
            pairs[part.name] = min(bounds, key=lambda whole: float(np.nansum(whole.filled)))
    return pairs


def _never_exceeds(part: Profile, whole: Profile) -> bool:
    both = np.isfinite(part.filled) & np.isfinite(whole.filled)
    a, b = part.filled[both], whole.filled[both]
    return bool(len(a) and np.all(a <= b) and np.mean(a < b) > 0.05)


def _pair(part: Profile, whole: Profile) -> Suggestion:
    both = np.isfinite(part.filled) & np.isfinite(whole.filled)
    share = float(part.filled[both].sum() / whole.filled[both].sum())
    return Suggestion(
        f"{slug(part.name)}_per_{slug(whole.name)}",
        f"{{family: beta_binomial, successes: {column(part.name)}, trials: {column(whole.name)}}}",
        f"whole numbers that never exceed {scalar(whole.name)}, {percent(share)} of it in total: "
        "successes of trials -> beta_binomial",
    )


# --- counts and values --------------------------------------------------------------------------


def _is_count(profile: Profile, unit: Profile) -> bool:
    return (
        profile.kind == "whole"
        and not profile.is_binary
        and profile.negative_share == 0
        and _dispersion(profile, unit) <= _OVERDISPERSED
    )


def _dispersion(profile: Profile, unit: Profile) -> float:
    """Return the pooled variance within units over the overall mean."""
    usable = np.isfinite(profile.filled) & (unit.codes >= 0)
    values, codes = profile.filled[usable], unit.codes[usable]
    size = np.maximum(np.bincount(codes), 1)
    freedom = len(values) - len(np.unique(codes))
    mean = float(values.mean()) if len(values) else 0.0
    if freedom <= 0 or mean <= 0:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # numbers so large are no counts
        centred = values - (np.bincount(codes, values) / size)[codes]
        return float(np.sum(centred**2) / freedom / mean)


def _count(profile: Profile) -> Suggestion:
    return Suggestion(
        f"{slug(profile.name)}_per_day",
        f"{{family: gamma_poisson, count: {column(profile.name)}, exposure: days, per: 1d}}",
        f"whole numbers from 0 up, mean {profile.numbers.mean():.3g}, largest "
        f"{profile.numbers.max():,.0f}, {_nulls(profile)} -> counts over a time, gamma_poisson",
    )


def _value(profile: Profile) -> Suggestion:
    """Take a value as normal, on the log scale when it is positive and skewed to the right."""
    numbers, skew = profile.numbers, profile.skewness
    evidence = f"{_range(profile)}, skewness {skew:.1f}, {_nulls(profile)}"
    if profile.faulty_share > 0:
        evidence += f", {percent(profile.faulty_share)} not finite will be rejected and counted"
    positive = numbers[numbers > 0]
    if profile.negative_share > _STRAY_NEGATIVES or skew <= _SKEWED or not len(positive):
        body = f"{{family: normal, value: {column(profile.name)}}}"
        return Suggestion(slug(profile.name), body, f"{evidence} -> normal as it is")
    on_log_scale = skewness(np.log(positive))
    evidence += f" ({on_log_scale:.1f} on the log scale)"
    where = ""
    if profile.zero_share > 0:
        # Zeros are left out on purpose; negative values among them stay, to be counted as faults.
        sign = ">" if profile.negative_share == 0 else "!="
        where = f", where: [[{scalar(profile.name)}, '{sign}', 0]]"
        evidence += f", {percent(profile.zero_share)} zeros left out"
    if profile.negative_share > 0:
        evidence += f", {percent(profile.negative_share)} below zero will be rejected and counted"
    if abs(on_log_scale) > _FAR_FROM_NORMAL:
        evidence += ", far from normal even so: look at it before you trust it"
    body = f"{{family: normal, value: {column(profile.name)}, transform: log{where}}}"
    return Suggestion(slug(profile.name), body, f"{evidence} -> log-normal")


def _estimate(estimate: Profile, variance: Profile) -> Suggestion:
    return Suggestion(
        slug(estimate.name),
        f"{{family: normal_known_variance, estimate: {column(estimate.name)}, "
        f"variance: {column(variance.name)}}}",
        f"{_range(estimate)}, {_nulls(estimate)}, with {scalar(variance.name)}, named like its "
        f"sampling variance, {_range(variance)} -> normal_known_variance",
    )


def _range(profile: Profile) -> str:
    low, high = profile.numbers.min(), profile.numbers.max()
    what = "whole numbers" if profile.kind == "whole" else "amounts"
    return f"{what} from {low:,.6g} to {high:,.6g}"


def _nulls(profile: Profile) -> str:
    return f"{percent(profile.null_share)} null" + (", skipped" if profile.null_share > 0 else "")


def _with_own_names(found: Sequence[Suggestion]) -> list[Suggestion]:
    """Set apart names that clash: columns may differ in signs that names cannot have."""
    taken: set[str] = set()
    named = []
    for suggestion in found:
        name, number = suggestion.name, 1
        while name in taken:
            number += 1
            name = f"{suggestion.name}_{number}"
        taken.add(name)
        named.append(Suggestion(name, suggestion.body, suggestion.why))
    return named
