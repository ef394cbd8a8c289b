"""Whether a night is to be trusted, and what a page tells of its checks and rejections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hbpipe.report.html.findings import (
    judge,
    read_audits,
    read_days,
    read_diagnostics,
    read_rejections,
)
from hbpipe.report.html.packing import Pack
from hbpipe.report.html.priors import pack_history
from hbpipe.report.html.stores import find_columns
from tests.released import AS_OF, add_audits, release
from tests.report.packed import unpack

STORES = [("near", "s1"), ("near", "s2"), ("far", "s3")]


def check(status: str, **more: Any) -> dict[str, Any]:
    told = {"gate": "release", "name": "drift", "subject": "conversion", "message": "moved"}
    return {**told, "status": status, **more}


def diagnosis(status: str, pool: str | None) -> dict[str, Any]:
    told = {"metric": "conversion", "check": "pit", "message": "too narrow", "values": None}
    return {**told, "status": status, "pool": pool}


def fit(status: str, label: str = "near") -> dict[str, Any]:
    return {"metric": "conversion", "status": status, "label": label}


@pytest.mark.parametrize(
    ("audits", "diagnostics", "fits", "level", "sentence"),
    [
        ([check("pass")], [diagnosis("ok", "near")], [fit("ok")], "good", "Good to use: every"),
        ([check("warn")], [], [fit("ok")], "look", "Good to use; one point to look at."),
        ([], [diagnosis("warn", "near")], [fit("no_spread")], "look", "Good to use; 2 points"),
        ([check("accepted")], [], [fit("ok")], "bad", "Do not act on it before one point is"),
        ([], [diagnosis("fail", "near")], [fit("ok")], "bad", "Do not act on it before one"),
        (
            [check("fail", gate="full_bayes")],
            [diagnosis("fail", "near")],
            [],
            "bad",
            "Do not act on it ",
        ),
    ],
)
def test_the_verdict(audits: Any, diagnostics: Any, fits: Any, level: str, sentence: str) -> None:
    verdict = judge(audits, diagnostics, fits)
    assert verdict["level"] == level
    assert verdict["sentence"].startswith(sentence)


def test_the_worst_comes_first_and_pools_are_told_of_together() -> None:
    many = [diagnosis("warn", pool) for pool in ("a", "b", "c")]
    reasons = judge([check("accepted")], many, [fit("ok")])["reasons"]
    assert [one["level"] for one in reasons] == ["bad", "look"]
    assert reasons[1]["text"] == "pit of conversion, a and 2 more: too narrow"


def test_what_is_said_of_all_pools_goes_before_what_is_said_of_one() -> None:
    rows = [diagnosis("warn", "a"), {**diagnosis("warn", None), "message": "in 9 of 9 pools"}]
    (reason,) = judge([], rows, [])["reasons"]
    assert reason["text"] == "pit of conversion: in 9 of 9 pools"


def test_what_a_gate_has_told_is_not_told_again() -> None:
    (reason,) = judge([check("warn", name="pit")], [diagnosis("warn", "a")], [])["reasons"]
    assert reason["section"] == "audits"


def test_a_check_of_many_days_is_one_point() -> None:
    days = [check("warn", name="row_count", subject=f"2026-01-{k:02}") for k in (1, 8, 15)]
    (reason,) = judge(days, [], [])["reasons"]
    assert reason["text"] == "row_count of 2026-01-01 and 2 more: moved"


def test_audits_are_those_of_the_run_and_those_made_of_it_since(tmp_path: Path) -> None:
    _, lake, row = release(tmp_path, STORES, audits=[{"status": "warn", "name": "units_new"}])
    add_audits(lake, [{"gate": "full_bayes", "name": "mean", "run_id": "later"}])
    add_audits(lake, [{"gate": "release", "name": "another run's", "run_id": "later"}])
    found = read_audits(lake, row)
    assert sorted(one["name"] for one in found) == ["drift", "mean", "units_new"]
    assert found[0]["name"] == "units_new"


def test_diagnostics_are_read_where_a_release_has_them(tmp_path: Path) -> None:
    told = {"value": 1.0, "threshold": 2.0}
    rows = [
        {**diagnosis("ok", "near"), **told, "values": [0.1, 0.2, 0.7]},
        {**diagnosis("warn", "far"), **told},
        {**diagnosis("fail", "far"), **told, "metric": "orders"},
    ]
    _, lake, row = release(tmp_path / "with", STORES, diagnostics=rows)
    found = read_diagnostics(lake, row, ["conversion"])
    assert [(one["pool"], one["values"]) for one in found] == [
        ("far", None),
        ("near", [0.1, 0.2, 0.7]),
    ]
    _, lake, row = release(tmp_path / "without", STORES)
    assert read_diagnostics(lake, row, ["conversion"]) == []


def test_rejections_are_those_of_the_days_of_the_release(tmp_path: Path) -> None:
    _, lake, row = release(tmp_path, STORES)
    days = read_days(lake, row)
    assert len(days) == 28
    assert days[-1]["day"] == AS_OF.isoformat()
    found = read_rejections(lake, row, days)
    assert [(one["reason"], one["column"], one["metric"], one["rows"]) for one in found] == [
        ("infinite", "amount", "basket", 25),
        ("missing level", "chain_id", "", 3),
    ]
    assert [example["value"] for example in found[1]["of"]] == ["s1", "s2", "s3"]


def test_the_nights_before_are_in_their_order(tmp_path: Path) -> None:
    _, lake, row = release(tmp_path, STORES, nights=4)
    pack = Pack()
    columns = find_columns(lake, row)
    pools = [("far",), ("near",)]
    found = pack_history(lake, row, columns, ["conversion"], pools, pack)
    assert found["nights"] == ["2026-02-26", "2026-02-27", "2026-02-28", "2026-03-01"]
    alphas = [k for k, key in enumerate(found["keys"]) if key[2] == "alpha"]
    assert [found["keys"][k][1] for k in alphas] == [0, 1]
    values = unpack(pack.text(), found["value"]).reshape(4, -1)
    assert values[:, alphas[0]].tolist() == [10.1, 10.2, 10.3, 10.1]
