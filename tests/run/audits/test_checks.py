"""Each check fails for the fault that it is for, and for no other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hbpipe.audit_sections import OPTIONAL
from hbpipe.config import Audits
from hbpipe.data.aggregate import Account
from hbpipe.data.daily import DayResult
from hbpipe.data.events import FileState
from hbpipe.run import audits
from hbpipe.run.audits import (
    Check,
    PosteriorTally,
    check_day,
    check_fits,
    check_posteriors,
    check_undated,
    failures,
    left_on,
    to_table,
    total_account,
)
from hbpipe.run.audits.catalogue import NAMES
from hbpipe.run.ledger import FileEntry

LIMITS = Audits(max_rejected_share=0.05, max_repeated_share=0.25)


def split(used: int, rejected: int = 0) -> dict[str, int]:
    return {"used": used, "skipped": 1, "excluded": 2, "rejected": rejected}


GOOD = Account(93, 2, 5, 1, {"conversion": split(88, 2), "basket": split(90)})


def checked(account: Account, *, rows: int = 100, n_events: int | None = None) -> list[str]:
    """Names of the checks that fail for a day with this account."""
    events = account.accepted if n_events is None else n_events
    result = DayResult(20454, (), {"a": account}, (), 3, 0, 1, events)
    return [check.name for check in failures(check_day(result, account, rows, LIMITS))]


def test_a_good_day_passes() -> None:
    assert checked(GOOD) == []


def test_rows_that_are_nowhere() -> None:
    assert checked(GOOD, rows=101) == ["rows_conserved"]


def test_statistics_with_other_events_than_were_accepted() -> None:
    assert checked(GOOD, n_events=92) == ["statistics_conserved"]


def test_a_metric_whose_rows_do_not_add_up() -> None:
    lost = replace(GOOD, metrics={"conversion": split(87, 2)})
    assert checked(lost) == ["metrics_conserved"]


def test_too_many_rows_rejected() -> None:
    account = Account(94, 6, 0, 0, {"conversion": split(91)})
    assert checked(account) == ["rejected_share"]


def test_too_many_rows_rejected_for_one_metric() -> None:
    account = Account(100, 0, 0, 0, {"basket": split(91, 6)})
    assert checked(account) == ["rejected_share"]


def test_too_many_rows_repeated() -> None:
    account = Account(70, 0, 30, 0, {"conversion": split(67)})
    assert checked(account) == ["repeated_share"]


def test_the_limit_itself_is_allowed() -> None:
    account = Account(70, 5, 25, 0, {"conversion": split(67)})
    assert checked(account) == []


def test_an_all_rejected_day_fails_and_says_how_many() -> None:
    account = Account(0, 100, 0)
    result = DayResult(20454, (), {"a": account}, (), 0, 0, 1, 0)
    failed = failures(check_day(result, account, 100, LIMITS))
    assert [check.name for check in failed] == ["rejected_share"]
    assert failed[0].message.startswith("100 of 100 rows rejected")
    assert failed[0].subject == "2026-01-01"


def file(rows: int, undated: int) -> FileEntry:
    rejections = {(None, "", "ts", "unreadable time"): undated}
    return FileEntry(FileState("a", 1, 1), "aa", "f", ("string",), rows, (), {}, rejections)


@pytest.mark.parametrize(("undated", "status"), [(5, "pass"), (6, "fail")])
def test_rows_without_a_day(undated: int, status: str) -> None:
    assert check_undated([file(60, undated), file(40, 0)], LIMITS).status == status


def test_no_new_file_is_no_fault() -> None:
    assert check_undated([], LIMITS).status == "pass"


def test_accounts_of_a_day_add_up() -> None:
    result = DayResult(20454, (), {"a": GOOD, "b": GOOD}, (), 3, 0, 1, 186)
    total = total_account(result)
    assert (total.rows, total.accepted, total.conflicting) == (200, 186, 2)
    assert total.metrics["conversion"]["used"] == 176


TALLY = PosteriorTally("conversion", 10, 10, 500, 0, 0, 0, 0, 0)


def posterior_checks(*tallies: PosteriorTally, events: int) -> dict[str, str]:
    return {
        f"{check.name}/{check.subject}": check.status
        for check in check_posteriors(tallies, events)
        if check.status != "pass"
    }


def test_good_posteriors_pass_over_all_shards() -> None:
    assert posterior_checks(TALLY, TALLY, events=1000) == {}


def test_events_lost_on_the_way_to_the_posteriors() -> None:
    found = posterior_checks(TALLY, TALLY, events=1001)
    assert found == {"posteriors_conserved/conversion": "fail"}


@pytest.mark.parametrize(
    ("fault", "name", "status"),
    [
        ("not_finite", "posteriors_finite", "fail"),
        ("zero_width", "intervals_open", "fail"),
        ("disordered", "quantiles_ordered", "fail"),
        ("outside", "posteriors_between", "fail"),
        ("repeated", "posteriors_keys", "fail"),
        ("unidentified", "pools_identified", "warn"),
        ("unusable", "statistics_possible", "warn"),
    ],
)
def test_a_fault_of_one_posterior_in_any_shard(fault: str, name: str, status: str) -> None:
    bad = replace(TALLY, **{fault: 1})
    assert posterior_checks(TALLY, bad, events=1000) == {f"{name}/conversion": status}


def test_metrics_are_checked_apart() -> None:
    other = replace(TALLY, metric="basket", zero_width=1)
    assert posterior_checks(TALLY, other, events=500) == {"intervals_open/basket": "fail"}


def test_a_row_that_stands_twice_is_a_fault_of_its_table_and_metric() -> None:
    found = audits.check_keys({"fits": {"orders": 0, "basket": 2}, "new_stores": {"orders": 0}})
    assert [(check.name, check.subject, check.status) for check in found] == [
        ("fits_keys", "basket", "fail"),
        ("fits_keys", "orders", "pass"),
        ("new_stores_keys", "orders", "pass"),
    ]


def fits(
    converged: list[bool],
    identified: list[bool] | None = None,
    integrated: list[bool] | None = None,
) -> dict[str, Any]:
    labels = [f"chain-{k}" for k in range(len(converged))]
    fine = [True] * len(converged)
    pools = SimpleNamespace(converged=converged, identified=identified or fine)
    found = SimpleNamespace(labels=labels, fits=pools, integrated=integrated or fine)
    return {"conversion": found}


def test_a_fit_that_did_not_converge_is_named() -> None:
    fitted, integrated = check_fits(fits([True, False, True, True]), LIMITS)
    assert (fitted.status, integrated.status) == ("fail", "pass")
    assert fitted.value == 0.25
    assert "1 of 4 pools did not converge, e.g. chain-1" in fitted.message


def test_chains_that_disagree_are_named() -> None:
    fitted, integrated = check_fits(fits([True, True], None, [True, False]), LIMITS)
    assert (fitted.status, integrated.status) == ("pass", "fail")
    assert integrated.name == "integration_converged"
    assert "1 of 2 pools have chains that disagree, e.g. chain-1" in integrated.message


def test_a_pool_whose_data_determine_no_fit_cannot_fail_to_converge() -> None:
    found = check_fits(fits([False, True], [False, True], [False, True]), LIMITS)
    assert [check.status for check in found] == ["pass", "pass"]


def test_a_share_of_fits_may_be_allowed_to_fail() -> None:
    found = check_fits(fits([True, False]), Audits(max_unconverged_share=0.5))
    assert [check.status for check in found] == ["pass", "pass"]


def test_every_check_becomes_a_row() -> None:
    checks = [Check("data", "rows_conserved", "2026-01-01", "pass", 0.0, 0.0, "fine")]
    (row,) = to_table(checks, 20454, "run-1").to_pylist()
    assert str(row["as_of"]) == "2026-01-01"
    assert row["run_id"] == "run-1"
    assert row["status"] == "pass"


def test_every_check_is_in_the_readme() -> None:
    text = (Path(audits.__file__).parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (data|release)(, always)? \|", text, re.M)
    assert sorted(name for name, *_ in rows) == sorted(NAMES)
    always = {name for name, _, mark in rows if mark}
    assert always == set(NAMES) - set(OPTIONAL)


def test_a_check_that_is_off_is_not_there() -> None:
    checks = [
        Check("data", name, "d", "fail", 1.0, 0.0, "") for name in ("row_count", "unit_count")
    ]
    assert [check.name for check in left_on(checks, ("row_count",))] == ["unit_count"]
    with pytest.raises(ValueError, match=r"rows_conserved.*no check that can be left out"):
        Audits(off=("rows_conserved",))
    with pytest.raises(ValueError, match="would be met before row_count_warn"):
        Audits(row_count_warn=3.0, row_count_fail=2.0)
    with pytest.raises(ValueError, match="would be met before drift_warn"):
        Audits(drift_warn=1e-6, drift_fail=1e-3)


def test_statistics_that_no_events_have_hold_the_day() -> None:
    result = DayResult(20454, (), {"a": GOOD}, (), 3, 0, 1, 93, {"conversion": 2}, 1)
    failed = failures(check_day(result, GOOD, 100, LIMITS))
    assert [check.name for check in failed] == ["statistics_identities", "statistics_keys"]
    assert "{'conversion': 2}" in failed[0].message
