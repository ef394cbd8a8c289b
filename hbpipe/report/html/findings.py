"""What the checks of a night found, what it rejected, and whether the night is to be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hbpipe.data.lake import Lake
from hbpipe.run.audits.checks import STATUSES
from hbpipe.run.history import Release
from hbpipe.run.releases import read_of

#: Gates that a night itself passes; rows of any other were made later, about its release.
_GATES = ("data", "release")
_EXAMPLES = 5

Row = dict[str, Any]


def read_audits(lake: Lake, row: Release) -> list[Row]:
    """Read the checks of a release's run, the worst first, and those made of the release since."""
    table = lake.read("audits", filters=[("as_of", "==", row["as_of"])])
    found = [
        one
        for one in table.to_pylist()
        if one["run_id"] == row["run_id"] or one["gate"] not in _GATES
    ]
    wanted = ("gate", "name", "subject", "status", "value", "threshold", "message")
    return _worst_first([{name: one[name] for name in wanted} for one in found])


def read_diagnostics(lake: Lake, row: Release, metrics: Sequence[str]) -> list[Row]:
    """Read the checks of the model, the worst first; none where the release has no such table."""
    if "diagnostics" not in dict(row["versions"]):
        return []
    conditions = [("as_of", "==", row["as_of"]), ("metric", "in", list(metrics))]
    table = read_of(lake, row, "diagnostics", filters=conditions)
    wanted = ("metric", "pool", "check", "value", "threshold", "status", "message", "values")
    return _worst_first([{name: one.get(name) for name in wanted} for one in table.to_pylist()])


def _worst_first(rows: Iterable[Row]) -> list[Row]:
    worst = {status: place for place, status in enumerate(STATUSES)}
    return sorted(rows, key=lambda one: worst.get(one["status"], len(worst)))


def read_days(lake: Lake, row: Release) -> list[Row]:
    """Read the days that a release rests on, and how many of their rows were taken, in order."""
    wanted = ["day", "state", "reason", "accepted", "rejected", "repeated"]
    table = read_of(lake, row, "days", columns=wanted, filters=[("day", "<=", row["as_of"])])
    days = sorted(table.to_pylist(), key=lambda one: one["day"])
    return [{**one, "day": one["day"].isoformat()} for one in days[-row["days"] :]]


def read_rejections(lake: Lake, row: Release, days: Sequence[Row]) -> list[Row]:
    """Count the rows that were rejected on some days, and those of no day; examples of each.

    The counts are exact, from ``files``; the examples are from ``quarantine``.
    """
    within = {one["day"] for one in days} | {None}
    counts: Counter[tuple[str, str, str]] = Counter()
    for found in read_of(lake, row, "files", columns=["rejections"])["rejections"].to_pylist():
        for one in found or ():
            if _iso(one["day"]) in within:
                counts[one["reason"], one["column"] or "", one["metric"] or ""] += one["rows"]
    examples: dict[tuple[str, str, str], list[Row]] = {key: [] for key in counts}
    wanted = ["file", "row", "day", "metric", "column", "value", "reason", "remedy"]
    for one in read_of(lake, row, "quarantine", columns=wanted).to_pylist():
        key = one["reason"], one["column"] or "", one["metric"] or ""
        kept = examples.get(key)
        if kept is not None and len(kept) < _EXAMPLES and _iso(one["day"]) in within:
            kept.append({**one, "day": _iso(one["day"])})
    return [
        {"reason": key[0], "column": key[1], "metric": key[2], "rows": rows, "of": examples[key]}
        for key, rows in counts.most_common()
    ]


def _iso(day: Any) -> str | None:
    return None if day is None else day.isoformat()


def judge(audits: Sequence[Row], diagnostics: Sequence[Row], fits: Sequence[Row]) -> Row:
    """Say whether a night is to be trusted, in one sentence, and what speaks against it.

    Returns
    -------
    dict
        ``level``: ``good``; ``look``, where something is to be looked at; ``bad``, where a check
        failed that a person accepted, or one of the model did; ``sentence``; ``reasons``, the
        worst first, each a text and the section of the page that tells more.
    """
    reasons = [*_from_checks(audits), *_from_diagnostics(diagnostics, audits), *_from_fits(fits)]
    reasons.sort(key=lambda one: one["level"] != "bad")
    bad = sum(one["level"] == "bad" for one in reasons)
    if bad:
        level, sentence = "bad", f"Do not act on it before {_points(bad)} {_are(bad)} settled."
    elif reasons:
        level, sentence = "look", f"Good to use; {_points(len(reasons))} to look at."
    else:
        level, sentence = "good", "Good to use: every check passed and every prior was found."
    return {"level": level, "sentence": sentence, "reasons": reasons}


def _from_checks(audits: Sequence[Row]) -> list[Row]:
    """Tell of each check once, however many days or metrics it is about."""
    levels = {"fail": "bad", "accepted": "bad", "warn": "look"}
    found: dict[tuple[str, str, str], list[Row]] = {}
    for one in audits:
        if one["status"] in levels:
            found.setdefault((one["status"], one["gate"], one["name"]), []).append(one)
    return [
        {
            "level": levels[status],
            "text": f"{name} of {_some(rows, 'subject')}: {rows[0]['message']}",
            "section": "audits",
        }
        for (status, _, name), rows in found.items()
    ]


def _from_diagnostics(diagnostics: Sequence[Row], audits: Sequence[Row]) -> list[Row]:
    """Tell of each check once, however many pools it is about; a gate may have told of it too."""
    audited = {(one["name"], one["subject"]) for one in audits if one["status"] != "pass"}
    found: dict[tuple[str, str, str], list[Row]] = {}
    for one in diagnostics:
        if one["status"] in ("fail", "warn") and (one["check"], one["metric"]) not in audited:
            found.setdefault((one["status"], one["metric"], one["check"]), []).append(one)
    return [
        {
            "level": "bad" if status == "fail" else "look",
            "text": f"{check} of {metric}{_where(rows)}",
            "section": "model",
        }
        for (status, metric, check), rows in found.items()
    ]


def _where(rows: Sequence[Row]) -> str:
    """Say of which pools a check tells, and what; a row without a pool tells of all together."""
    whole = [one for one in rows if one["pool"] is None]
    return f": {whole[0]['message']}" if whole else f", {_some(rows, 'pool')}: {rows[0]['message']}"


def _from_fits(fits: Sequence[Row]) -> list[Row]:
    found: dict[tuple[str, str], list[Row]] = {}
    for fit in fits:
        if fit["status"] != "ok":
            found.setdefault((fit["metric"], fit["status"]), []).append(fit)
    return [
        {
            "level": "look",
            "text": f"the prior of {metric}, {_some(rows, 'label')}: {status.replace('_', ' ')}",
            "section": "chain",
        }
        for (metric, status), rows in found.items()
    ]


def _some(rows: Sequence[Row], name: str) -> str:
    """Name the first of some, and how many there are beside it."""
    first = rows[0][name]
    return first if len(rows) == 1 else f"{first} and {len(rows) - 1} more"


def _points(count: int) -> str:
    return "one point" if count == 1 else f"{count} points"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
