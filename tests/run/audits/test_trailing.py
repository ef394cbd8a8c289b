"""Checks against the days and releases before: silent on ordinary weeks, and on a first night."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hbpipe.config import Audits
from hbpipe.data.aggregate import Account
from hbpipe.data.daily import DayResult
from hbpipe.data.events import FileState
from hbpipe.data.presence import count_presence
from hbpipe.data.rejections import Rejection
from hbpipe.run.audits import (
    Check,
    EarlierFits,
    Past,
    check_bounds,
    check_columns,
    check_coverage,
    check_drift,
    check_measured,
    check_rows,
)
from hbpipe.run.ledger import DayEntry, FileDay, FileEntry

LIMITS = Audits()
LAST = 20_500
#: What the weekdays of a shop sell, Monday to Sunday.
WEEK = (0.7, 0.8, 0.9, 1.0, 1.4, 1.8, 0.6)


def retail(rng: np.random.Generator, days: int, rows: float) -> dict[int, int]:
    """Rows of ordinary days up to LAST: weekdays, and a tenth of noise."""
    return {
        d: int(rng.poisson(rows * WEEK[d % 7] * rng.lognormal(0, 0.1)))
        for d in range(LAST - days, LAST + 1)
    }


def past(rows: dict[int, int], units: int = 100, rejected: float = 0.002) -> Past:
    accounts = {d: Account(n - int(rejected * n), int(rejected * n), 0) for d, n in rows.items()}
    return Past(rows, dict.fromkeys(rows, units), accounts)


def status(rows: dict[int, int], limits: Audits = LIMITS) -> Check:
    (found,) = check_rows(LAST, rows[LAST], past(rows), limits)
    return found


@pytest.mark.parametrize("rows", [40, 1_000, 100_000])
@pytest.mark.parametrize("days", [3, 10, 30, 60])
def test_ordinary_weeks_are_no_alarm(rows: int, days: int) -> None:
    rng = np.random.default_rng([rows, days])
    for _ in range(200):
        found = past(retail(rng, days, rows))
        checks = check_rows(LAST, found.rows[LAST], found, LIMITS)
        checks += check_measured(LAST, found, LIMITS)
        assert {check.status for check in checks} == {"pass"}


@pytest.mark.parametrize(
    ("times", "expected"), [(0.1, "fail"), (0.4, "warn"), (1.0, "pass"), (2.5, "warn"), (9, "fail")]
)
def test_a_day_that_is_not_like_the_others(times: float, expected: str) -> None:
    rows = retail(np.random.default_rng(1), 60, 10_000)
    rows[LAST] = int(rows[LAST - 7] * times)
    found = status(rows)
    assert found.status == expected
    assert "the median of 8 earlier same weekdays is" in found.message


def test_a_store_that_was_forgotten_neither_raises_an_alarm_nor_hides_one() -> None:
    """A third of all rows are of one store, forgotten since; on the last day 2 in 100 are bad."""
    days = range(LAST - 30, LAST)
    gone = {(d, "", "store_id", "forgotten"): 300 for d in days}
    counted = {d: FileDay(1_000, Account(699, 301, 0)) for d in days}
    entry = FileEntry(FileState("a", 1, 1), "aa", "f", (), 1, (), counted, gone)
    done = DayEntry(0, "complete", "", "", {}, account=Account(699, 301, 0), units=100)
    ledger = {d: replace(done, day=d) for d in days}
    refused = (Rejection("a", LAST, "", "store_id", "forgotten", 300, ()),)

    def rise(rejected: int) -> Check:
        accounts = {"b": Account(700 - rejected, 300 + rejected, 0)}
        result = DayResult(LAST, (), accounts, refused, 100, 0, 1, 700 - rejected)
        found = check_measured(LAST, Past.of([entry], ledger, {LAST: result}), LIMITS)
        assert {one.status for one in found if one.name != "rejected_rise"} == {"pass"}
        return next(one for one in found if one.name == "rejected_rise")

    assert rise(1).status == "pass"
    assert rise(1).message.startswith("0.14% of its rows are rejected, the median of")
    assert rise(21).status == "warn"


def test_a_first_run_has_nothing_to_compare_with() -> None:
    found = status({LAST: 5, LAST - 1: 5_000})
    assert found.status == "pass"
    assert "too few days before it" in found.message


def test_limits_may_be_off() -> None:
    rows = retail(np.random.default_rng(1), 60, 10_000)
    rows[LAST] = 1
    held = Audits(row_count_warn="off", row_count_fail=5.0)
    assert status(rows, held).status == "fail"
    assert not check_rows(LAST, 1, past(rows), Audits(row_count_warn=False, row_count_fail="off"))


def test_closed_sundays_are_ordinary_and_an_open_one_is_only_told() -> None:
    rows = retail(np.random.default_rng(2), 60, 10_000)
    for d in range(LAST, LAST - 60, -7):
        rows[d] = 0
    assert status(rows).status == "pass"
    assert status(rows | {LAST: 5_000}).status == "warn"


def test_an_empty_day_is_told_where_its_weekday_is_not() -> None:
    rows = retail(np.random.default_rng(2), 60, 10_000)
    assert status(rows | {LAST: 0}).status == "warn"
    few = {d: n for d, n in rows.items() if d > LAST - 20}
    assert status(few | {LAST: 0}).status == "pass", "nobody knows its weekday yet"


def test_units_and_rejected_rows_beside_the_days_before() -> None:
    rows = retail(np.random.default_rng(3), 60, 10_000)
    found = past(rows)
    units = {**found.units, LAST: 30}
    accounts = {**found.accounts, LAST: Account(rows[LAST] - 300, 300, 0)}
    checks = check_measured(LAST, replace(found, units=units, accounts=accounts), LIMITS)
    warned = {check.name for check in checks if check.status == "warn"}
    assert warned == {"unit_count", "rejected_rise"}
    strict = Audits(unit_count_fail=2.5, rejected_rise_fail=5.0)
    checks = check_measured(LAST, replace(found, units=units, accounts=accounts), strict)
    assert {check.name for check in checks if check.status == "fail"} == warned


def presence(seen: np.ndarray) -> Any:
    """Count units (U,) of days (D,), the last of them LAST; ``seen`` is (D, U)."""
    days, codes = np.nonzero(seen)
    first = LAST - len(seen) + 1
    return count_presence(days + first, codes, seen.shape[1], first_day=first, as_of=LAST)


def test_presence_counts_each_unit_of_each_day() -> None:
    seen = np.ones((10, 4), np.bool_)
    seen[9, 0] = False  # vanished
    seen[:9, 1] = False  # new
    seen[1:, 2] = False  # known no more after a week
    found = presence(seen)
    assert found.days.tolist() == [LAST - 2, LAST - 1, LAST]
    assert found.known.tolist() == [3, 2, 2]
    assert found.seen.tolist() == [2, 2, 2]
    assert found.vanished.tolist() == [1, 0, 1]
    assert found.new.tolist() == [0, 0, 1]


def test_presence_against_counting_sets() -> None:
    seen = np.random.default_rng(5).random((30, 50)) < 0.2
    found = presence(seen)
    for place, d in enumerate(found.days - (LAST - 29)):
        known, now = seen[d - 7 : d].any(axis=0), seen[d]
        expected = (known.sum(), now.sum(), (known & ~now).sum(), (now & ~known).sum())
        counts = (found.known, found.seen, found.vanished, found.new)
        assert tuple(int(one[place]) for one in counts) == expected


def coverage(seen: np.ndarray) -> dict[str, str]:
    shards = [presence(seen[:, :60]), presence(seen[:, 60:])]
    return {check.name: check.status for check in check_coverage(shards, LAST, LIMITS)}


def test_units_that_vanish_and_units_that_come() -> None:
    rng = np.random.default_rng(6)
    ordinary = rng.random((28, 300)) < rng.uniform(0.3, 1.0, 300)
    ordinary[:, 290:] = False
    fine = {"units_vanished": "pass", "units_new": "pass"}
    assert coverage(ordinary) == fine
    lost = ordinary.copy()
    lost[-1, :250] = False
    assert coverage(lost) == fine | {"units_vanished": "warn"}
    come = np.hstack([ordinary, np.zeros((28, 80), np.bool_)])
    come[-1, 300:] = True
    assert coverage(come) == fine | {"units_new": "warn"}
    assert coverage(ordinary[-5:]) == fine, "a week is needed"
    ordinary[-1] = False
    assert coverage(ordinary) == fine, "row_count is about empty days"


def fits(drift: list[float | None], boundary: list[bool] | None = None) -> dict[str, Any]:
    n = len(drift)
    pools = SimpleNamespace(boundary=boundary or [False] * n, n_estimated=np.full(n, 2))
    labels = [f"chain-{k}" for k in range(n)]
    return {"conversion": SimpleNamespace(labels=labels, drift=drift, fits=pools)}


def drift(values: list[float | None], usual: dict[str, float], limits: Audits = LIMITS) -> Check:
    (found,) = check_drift(fits(values), EarlierFits({}, {"conversion": usual}), limits)
    return found


def test_a_drift_beyond_chance_is_told() -> None:
    assert drift([None], {}).status == "pass"
    assert drift([13.0], {}).status == "pass", "13.8 is the limit of two parameters"
    assert drift([14.0], {}).status == "warn"
    found = drift([14.0, 1.0], {})
    assert found.status == "pass", "of two pools 15.2"
    assert drift([1.0, 16.0], {}).message.split(" in ")[1].startswith("chain-1")


def test_a_drift_that_is_usual_is_none() -> None:
    assert drift([300.0], {"chain-0": 40.0}).status == "pass"
    assert drift([500.0], {"chain-0": 40.0}).status == "warn"


def test_a_drift_may_stop_a_release() -> None:
    limits = Audits(drift_fail=1e-6)
    assert drift([20.0], {}, limits).status == "warn"
    assert drift([30.0], {}, limits).status == "fail"


def test_pools_that_reach_their_bounds() -> None:
    on = [True, True, False, False]
    for before, expected in (({"conversion": 0.4}, "pass"), ({"conversion": 0.2}, "warn")):
        (found,) = check_bounds(fits([None] * 4, on), EarlierFits(before), LIMITS)
        assert found.status == expected
    (found,) = check_bounds(fits([None] * 4, on), EarlierFits(), LIMITS)
    assert found.status == "pass"
    assert "no release before" in found.message


def file(path: str, number: int, **columns: str) -> FileEntry:
    days = {number: FileDay(10)}
    state = FileState(path, 1, 1)
    return FileEntry(state, "aa", "f", ("string",), 10, (), days, {}, columns=columns)


def test_columns_of_new_files_against_the_last_one() -> None:
    known = [file("a", 1, ts="int32", n="int64"), file("b", 2, ts="timestamp[us]", n="int64")]
    same = check_columns([file("c", 3, ts="timestamp[us]", n="int64")], known, ["ts", "n"])
    assert (same.status, same.message) == ("pass", "columns are as before")
    other = check_columns([file("c", 3, ts="timestamp[us]", n="double", x="string")], known, ["n"])
    assert other.status == "warn"
    assert other.message == "n is double, and was int64; new: x"
    unused = check_columns([file("c", 3, ts="timestamp[us]", n="double")], known, ["ts"])
    assert unused.status == "pass"
    assert check_columns([file("c", 3, n="int64")], [], ["n"]).status == "pass"
