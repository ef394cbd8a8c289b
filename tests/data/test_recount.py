"""The recount against answers worked out by hand, and against what a simulation says it wrote."""

from __future__ import annotations

import ast
import pickle
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hbpipe.data
from hbpipe.data.recount import FileRecount, RecountMetric, RecountSpec, recount, rules
from hbpipe.errors import ConfigError, EventsError, StatisticsError
from hbpipe.model.families import FAMILIES
from hbpipe.run.simulate import simulate_events

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12)
CONVERSION = RecountMetric("conversion", "beta_binomial", {"successes": "hit", "trials": "rows"})
VALUE = RecountMetric("value", "normal", {"value": "x"})


def spec(*metrics, **changes) -> RecountSpec:
    settings = {
        "time": "ts",
        "time_kind": "timestamp",
        "timezone": "UTC",
        "day_start_minutes": 0,
        "levels": ("chain", "store"),
        "event_id": (),
        "earliest": date(2020, 1, 1),
        "latest": date(2030, 12, 31),
        "metrics": metrics,
    }
    return RecountSpec(**{**settings, **changes})


def write(path: Path, rows: list[dict], row_group_size: int = 2, **types) -> Path:
    """Write rows over a sound default row; ``types`` give columns their Arrow type."""
    filled = [{"ts": NOON, "chain": "A", "store": "A1"} | row for row in rows]
    names = dict.fromkeys(name for row in filled for name in row)
    arrays = {name: pa.array([row.get(name) for row in filled], types.get(name)) for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path, row_group_size=row_group_size)
    return path


def count_one(tmp_path: Path, rows: list[dict], settings: RecountSpec, **types):
    """Recount one file; return its account and the whole."""
    path = write(tmp_path / "events.parquet", rows, **types)
    result = recount([path], settings)
    assert list(result.files) == [str(path)]
    return result.files[str(path)], result


def test_statistics_of_a_small_file(tmp_path):
    rows = [
        {"store": "A1", "hit": True, "x": 1.0, "n": 2, "e": 0.5},
        {"store": "A1", "hit": False, "x": 4.0, "n": 0, "e": 1.5},
        {"store": "A1", "hit": True, "x": None, "n": 3, "e": 1.0},
        {"store": "A2", "hit": False, "x": 7.0, "n": 1, "e": 2.0},
        {"store": "A1", "hit": True, "x": 9.0, "n": 5, "e": 1.0, "ts": NOON + timedelta(days=1)},
    ]
    orders = RecountMetric("orders", "gamma_poisson", {"count": "n", "exposure": "e"})
    daily = RecountMetric("daily", "gamma_poisson", {"count": "hit", "exposure": "days"})
    account, result = count_one(tmp_path, rows, spec(CONVERSION, VALUE, orders, daily))
    a1, a2, next_day = (DAY, "A", "A1"), (DAY, "A", "A2"), (date(2026, 3, 3), "A", "A1")
    assert result.accepted == {a1: 3, a2: 1, next_day: 1}
    assert result.statistics == {
        "conversion": {
            a1: {"successes": 2, "trials": 3},
            a2: {"successes": 0, "trials": 1},
            next_day: {"successes": 1, "trials": 1},
        },
        "value": {
            a1: {"n": 2, "mean": 2.5, "m2": 4.5},
            a2: {"n": 1, "mean": 7.0, "m2": 0.0},
            next_day: {"n": 1, "mean": 9.0, "m2": 0.0},
        },
        "orders": {
            a1: {"count": 5, "exposure": 3.0},
            a2: {"count": 1, "exposure": 2.0},
            next_day: {"count": 5, "exposure": 1.0},
        },
        "daily": {a1: {"count": 2}, a2: {"count": 0}, next_day: {"count": 1}},
    }
    assert result.counted["value"] == {a1: 2, a2: 1, next_day: 1}
    assert account.skipped == {"value": 1}
    assert (account.rows, account.accepted, account.rejected, account.repeated) == (5, 5, 0, 0)
    assert {day: today.rows for day, today in account.days.items()} == {a1[0]: 4, next_day[0]: 1}


def test_a_row_is_rejected_for_its_first_fault_alone(tmp_path):
    rows = [
        {"hit": True, "id": "1"},
        {"hit": True, "id": "2", "chain": None},
        {"hit": True, "id": "3", "store": None, "chain": None},
        {"hit": True, "id": "4", "store": ""},
        {"hit": True, "id": "5", "ts": None, "store": None},
        {"hit": True, "id": "6", "ts": datetime(2019, 12, 31, 23, 59)},
        {"hit": True, "id": "7", "ts": datetime(2031, 1, 1)},
        {"hit": True, "id": None},
        {"hit": True, "id": "", "store": "A2"},
    ]
    account, result = count_one(tmp_path, rows, spec(CONVERSION, event_id=("id",)))
    assert account.rejections == {
        ("", "chain", "missing level"): 2,
        ("", "store", "empty level"): 1,
        ("", "ts", "missing time"): 1,
        ("", "ts", "day out of range"): 2,
        ("", "id", "missing event id"): 2,
    }
    assert (account.rows, account.accepted, account.rejected) == (9, 1, 8)
    today = account.days[DAY]
    assert (today.rows, today.accepted, today.rejected, today.repeated) == (6, 1, 5, 0)
    assert result.statistics["conversion"] == {(DAY, "A", "A1"): {"successes": 1, "trials": 1}}


PARIS, NEW_YORK = "Europe/Paris", "America/New_York"


@pytest.mark.parametrize(
    ("value", "kind", "changes", "expected"),
    [
        # naive times are local whatever the zone
        (datetime(2026, 3, 2, 23, 59, 59), pa.timestamp("us"), {"timezone": PARIS}, "2026-03-02"),
        (datetime(2026, 3, 2), pa.timestamp("s"), {}, "2026-03-02"),
        (datetime(2026, 3, 2), pa.timestamp("ms"), {}, "2026-03-02"),
        (1772495999999999999, pa.timestamp("ns"), {}, "2026-03-02"),
        (1772496000000000000, pa.timestamp("ns"), {}, "2026-03-03"),
        # a till that closes late
        (datetime(2026, 3, 2, 1, 59), pa.timestamp("us"), {"day_start_minutes": 120}, "2026-03-01"),
        (datetime(2026, 3, 2, 2, 0), pa.timestamp("us"), {"day_start_minutes": 120}, "2026-03-02"),
        ("2026-03-02T01:59:59", None, {"day_start_minutes": 120}, "2026-03-01"),
        # instants are converted: 23:30 UTC is the next day in Paris, 03:00 the last in New York
        ("2026-03-02T23:30:00Z", None, {"timezone": PARIS}, "2026-03-03"),
        ("2026-03-02T03:00:00+00:00", None, {"timezone": NEW_YORK}, "2026-03-01"),
        ("2026-03-02 23:30+0100", None, {"timezone": PARIS}, "2026-03-02"),
        (1772494200, pa.timestamp("s", "UTC"), {"timezone": PARIS}, "2026-03-03"),
        (1772494200, pa.timestamp("s", PARIS), {"timezone": "UTC"}, "2026-03-02"),
        # spring: 2026-03-29 02:00 is skipped in Paris, so its 02:00 begins at 01:00 UTC
        (
            "2026-03-29T00:59:59Z",
            None,
            {"timezone": PARIS, "day_start_minutes": 120},
            "2026-03-28",
        ),
        (
            "2026-03-29T01:00:00Z",
            None,
            {"timezone": PARIS, "day_start_minutes": 120},
            "2026-03-29",
        ),
        # autumn: 02:30 comes twice on 2026-10-25; the day begins at the first, 00:30 UTC
        (
            "2026-10-25T00:29:59Z",
            None,
            {"timezone": PARIS, "day_start_minutes": 150},
            "2026-10-24",
        ),
        (
            "2026-10-25T01:10:00Z",
            None,
            {"timezone": PARIS, "day_start_minutes": 150},
            "2026-10-25",
        ),
        # whole dates are not moved
        (date(2026, 3, 2), pa.date32(), {"day_start_minutes": 120}, "2026-03-02"),
        (date(2026, 3, 2), pa.date64(), {"day_start_minutes": 120}, "2026-03-02"),
        ("2026-03-02", None, {"day_start_minutes": 120}, "2026-03-02"),
        ("2026-03-02", None, {"time_kind": "day"}, "2026-03-02"),
        (
            datetime(2026, 3, 2, 1),
            pa.timestamp("us"),
            {"time_kind": "day", "day_start_minutes": 120},
            "2026-03-02",
        ),
        ("2026-03-02T10:00:00.123456789", pa.large_string(), {}, "2026-03-02"),
        ("2026-03-02", pa.dictionary(pa.int8(), pa.string()), {}, "2026-03-02"),
        # bounds are included
        (date(2020, 1, 1), pa.date32(), {}, "2020-01-01"),
        (date(2030, 12, 31), pa.date32(), {}, "2030-12-31"),
    ],
)
def test_business_days(tmp_path, value, kind, changes, expected):
    account, _ = count_one(tmp_path, [{"ts": value}], spec(**changes), ts=kind)
    assert list(account.days) == [date.fromisoformat(expected)]
    assert account.accepted == 1


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        ("02/03/2026", None, "unreadable time"),
        ("2026-02-30", None, "unreadable time"),
        ("2026-03-02T24:00:00", None, "unreadable time"),
        ("2026-03-02T10:61", None, "unreadable time"),
        ("20260302", None, "unreadable time"),
        ("2026-W10-1", None, "unreadable time"),
        ("2026-03-02 ", None, "unreadable time"),
        ("0000-01-01", None, "unreadable time"),
        ("٢٠٢٦-٠٣-٠٢", None, "unreadable time"),
        ("", None, "unreadable time"),
        ("0001-01-01T00:00:00+14:00", None, "day out of range"),
        ("9999-12-31T23:59:59-12:00", None, "day out of range"),
        (2**62, pa.timestamp("us"), "day out of range"),
        (-(2**62), pa.timestamp("ms"), "day out of range"),
        (2**62, pa.timestamp("us", "UTC"), "day out of range"),
        (2**31 - 1, pa.date32(), "day out of range"),
        (None, pa.date32(), "missing time"),
    ],
)
def test_unusable_times(tmp_path, value, kind, reason):
    account, result = count_one(tmp_path, [{"ts": value}], spec(timezone=PARIS), ts=kind)
    assert account.rejections == {("", "ts", reason): 1}
    assert account.days == {}
    assert result.accepted == {}


def test_the_first_by_path_row_group_and_row_counts(tmp_path):
    first = write(
        tmp_path / "a.parquet",
        [
            {"id": "1", "hit": True},
            {"id": "2", "hit": False},
            {"id": "1", "hit": True},  # the same again, in another row group
            {"id": "2", "hit": True},  # another story
            {"id": "1", "hit": False, "ts": NOON + timedelta(days=1)},  # another day
        ],
    )
    second = write(tmp_path / "b.parquet", [{"id": "1", "hit": True}, {"id": "3", "hit": True}])
    result = recount([second, first], spec(CONVERSION, event_id=("id",)))
    one, two = result.files[str(first)], result.files[str(second)]
    assert (one.rows, one.accepted, one.repeated, one.conflicting) == (5, 3, 2, 1)
    assert (two.rows, two.accepted, two.repeated, two.conflicting) == (2, 1, 1, 0)
    assert (one.days[DAY].repeated, two.days[DAY].repeated) == (2, 1)
    assert result.statistics["conversion"] == {
        (DAY, "A", "A1"): {"successes": 2, "trials": 3},
        (date(2026, 3, 3), "A", "A1"): {"successes": 0, "trials": 1},
    }


def test_ids_of_several_columns_and_copies_with_nan(tmp_path):
    rows = [
        {"basket": 1, "line": 1, "x": float("nan")},
        {"basket": 1, "line": 2, "x": 2.0},
        {"basket": 1, "line": 1, "x": float("nan")},
        {"basket": 1, "line": 1, "x": None},
    ]
    account, _ = count_one(tmp_path, rows, spec(VALUE, event_id=("basket", "line")))
    assert (account.accepted, account.repeated, account.conflicting) == (2, 2, 1)


def test_a_rejected_row_does_not_claim_its_event_id(tmp_path):
    rows = [{"id": "1", "store": None, "hit": True}, {"id": "1", "hit": True}]
    account, _ = count_one(tmp_path, rows, spec(CONVERSION, event_id=("id",)))
    assert (account.accepted, account.rejected, account.repeated) == (1, 1, 0)


NAN, INFINITY = float("nan"), float("inf")
KNOWN = {"estimate": "a", "variance": "b"}
BETA = {"successes": "a", "trials": "b"}
GAMMA = {"count": "a", "exposure": "b"}


@pytest.mark.parametrize(
    ("family", "roles", "a", "b", "column", "reason"),
    [
        ("beta_binomial", BETA, -1, 2, "a", "negative"),
        ("beta_binomial", BETA, 1, -2, "b", "negative"),
        ("beta_binomial", BETA, 3, 2, "a", "successes exceed trials"),
        ("beta_binomial", BETA, 0.5, 2.0, "a", "not whole"),
        ("beta_binomial", BETA, 1.0, 2.0**53 + 2, "b", "not whole"),
        ("beta_binomial", BETA, NAN, -1.0, "a", "not a number"),
        ("gamma_poisson", GAMMA, INFINITY, 1.0, "a", "infinite"),
        ("gamma_poisson", GAMMA, -INFINITY, 1.0, "a", "infinite"),
        ("gamma_poisson", GAMMA, -0.5, 1.0, "a", "negative"),
        ("gamma_poisson", GAMMA, 1, -0.5, "b", "negative"),
        ("gamma_poisson", GAMMA, 0, -1.0, "b", "negative"),
        ("gamma_poisson", GAMMA, 0, NAN, "b", "not a number"),
        ("normal", {"value": "a"}, NAN, 0, "a", "not a number"),
        ("normal", {"value": "a"}, -INFINITY, 0, "a", "infinite"),
        ("normal_known_variance", KNOWN, 1.0, 0.0, "b", "variance not above zero"),
        ("normal_known_variance", KNOWN, 1.0, -1.0, "b", "variance not above zero"),
        ("normal_known_variance", KNOWN, NAN, 1.0, "a", "not a number"),
    ],
)
def test_impossible_measures_are_rejected_for_their_metric_only(
    tmp_path, family, roles, a, b, column, reason
):
    strict = RecountMetric("strict", family, roles)
    settings = spec(strict, CONVERSION)
    account, result = count_one(tmp_path, [{"a": a, "b": b, "hit": True}], settings)
    assert account.rejections == {("strict", column, reason): 1}
    assert result.statistics["strict"] == {}
    assert result.statistics["conversion"] == {(DAY, "A", "A1"): {"successes": 1, "trials": 1}}
    assert (account.accepted, account.rejected) == (1, 0)


def test_a_row_may_lack_exposure_as_only_a_whole_unit_needs_it(tmp_path):
    metric = RecountMetric("orders", "gamma_poisson", GAMMA)
    rows = [{"a": 0, "b": 0.0}, {"a": 3, "b": 0.0}, {"a": 0, "b": 1.5}]
    account, result = count_one(tmp_path, rows, spec(metric))
    assert account.rejections == {}
    assert result.statistics["orders"] == {(DAY, "A", "A1"): {"count": 3, "exposure": 1.5}}


@pytest.mark.parametrize(
    ("transform", "x", "expected"),
    [
        ("log", 1.0, 0.0),
        ("log", Decimal("1.00"), 0.0),
        ("log", 1, 0.0),
        ("log1p", 0.0, 0.0),
        ("log", 0.0, None),
        ("log", -1.0, None),
        ("log1p", -1.0, None),
    ],
)
@pytest.mark.parametrize("inside", [True, False], ids=["quantity", "metric"])
def test_logarithms(tmp_path, transform, x, expected, inside):
    quantity = {"column": "x", "transform": transform} if inside else "x"
    metric = RecountMetric(
        "value", "normal", {"value": quantity}, transform=None if inside else transform
    )
    account, result = count_one(tmp_path, [{"x": x}], spec(metric))
    if expected is None:
        reason = "logarithm of a value not above zero"
        assert account.rejections == {("value", "x", reason): 1}
    else:
        key = (DAY, "A", "A1")
        assert result.statistics["value"] == {key: {"n": 1, "mean": expected, "m2": 0.0}}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (["brand", "==", "own"], [True, False, False]),
        (["brand", "!=", "own"], [False, True, False]),
        (["brand", "in", ["own", "other"]], [True, True, False]),
        (["brand", "in", ["none"]], [False, False, False]),
        (["brand", "is_null"], [False, False, True]),
        (["brand", "not_null"], [True, True, False]),
        (["price", "<", 2], [True, False, False]),
        (["price", "<=", 2], [True, True, False]),
        (["price", ">", 1.5], [False, True, False]),
        (["price", ">=", 2.0], [False, True, False]),
        (["flag", "==", True], [True, False, False]),
    ],
)
def test_conditions_and_null(tmp_path, condition, holds):
    rows = [
        {"brand": "own", "price": 1.0, "flag": True},
        {"brand": "other", "price": 2.0, "flag": False},
        {"brand": None, "price": None, "flag": None},
    ]
    share = RecountMetric(
        "share", "beta_binomial", {"successes": {"where": [condition]}, "trials": "rows"}
    )
    kept = RecountMetric(
        "kept", "beta_binomial", {"successes": "rows", "trials": "rows"}, where=[condition]
    )
    account, result = count_one(tmp_path, rows, spec(share, kept))
    key, hits = (DAY, "A", "A1"), sum(holds)
    assert result.statistics["share"] == {key: {"successes": hits, "trials": 3}}
    expected = {key: {"successes": hits, "trials": hits}} if hits else {}
    assert result.statistics["kept"] == expected
    assert account.excluded["kept"] == 3 - hits
    assert account.skipped == {}


def test_comparisons_with_nan_are_false_but_for_unequal(tmp_path):
    where = {"less": "<", "greater": ">", "equal": "==", "unequal": "!="}
    metrics = [
        RecountMetric(
            name, "gamma_poisson", {"count": {"where": [["x", sign, 1.0]]}, "exposure": "rows"}
        )
        for name, sign in where.items()
    ]
    _, result = count_one(tmp_path, [{"x": NAN}], spec(*metrics))
    counts = {name: result.statistics[name][DAY, "A", "A1"]["count"] for name in where}
    assert counts == {"less": 0, "greater": 0, "equal": 0, "unequal": 1}


def test_success_outside_the_trials_is_rejected_under_its_role(tmp_path):
    metric = RecountMetric(
        "share",
        "beta_binomial",
        {"successes": {"where": [["x", ">", 0]]}, "trials": {"where": [["y", ">", 0]]}},
    )
    account, _ = count_one(tmp_path, [{"x": 1, "y": 0}, {"x": 1, "y": 1}], spec(metric))
    assert account.rejections == {("share", "successes", "successes exceed trials"): 1}


def test_excluded_comes_before_skipped_before_rejected(tmp_path):
    metric = RecountMetric(
        "rate", "beta_binomial", {"successes": "a", "trials": "b"}, where=[["keep", "==", True]]
    )
    rows = [
        {"keep": False, "a": None, "b": -1},
        {"keep": None, "a": 5, "b": 1},
        {"keep": True, "a": None, "b": -1},
        {"keep": True, "a": 5, "b": 1},
        {"keep": True, "a": 1, "b": 1},
    ]
    account, result = count_one(tmp_path, rows, spec(metric))
    assert account.excluded == {"rate": 2}
    assert account.skipped == {"rate": 1}
    assert account.rejections == {("rate", "a", "successes exceed trials"): 1}
    assert result.counted["rate"].total() == 1
    assert account.accepted == 5


def test_whole_numbers_are_exact_and_floats_correctly_rounded(tmp_path):
    big = 2**62
    counts = RecountMetric("counts", "gamma_poisson", {"count": "n", "exposure": "e"})
    rows = [{"n": big, "e": 1e16}, {"n": big, "e": 1.0}, {"n": 1, "e": 1.0}]
    _, result = count_one(tmp_path, rows, spec(counts))
    found = result.statistics["counts"][DAY, "A", "A1"]
    assert found == {"count": 2 * big + 1, "exposure": 1e16 + 2.0}  # 1e16 + 1 + 1 by floats: 1e16


def test_moments_keep_their_digits_far_from_zero(tmp_path):
    values = [1e9 + k / 8 for k in range(20)]
    _, result = count_one(tmp_path, [{"x": x} for x in values], spec(VALUE))
    found = result.statistics["value"][DAY, "A", "A1"]
    exact = [Fraction(x) for x in values]
    mean = sum(exact) / 20
    assert found["n"] == 20
    assert found["mean"] == pytest.approx(float(mean), rel=1e-15)
    assert found["m2"] == pytest.approx(float(sum((x - mean) ** 2 for x in exact)), rel=1e-12)


@pytest.mark.parametrize("values", [[1e300, -1e300], [1.7e308, 1.7e308]])
def test_sums_that_are_no_number_are_an_error_that_names_the_unit(tmp_path, values):
    with pytest.raises(StatisticsError, match="too large") as caught:
        count_one(tmp_path, [{"x": x} for x in values], spec(VALUE))
    assert caught.value.where == {"metric": "value", "day": DAY, "unit": "A/A1"}


def test_estimates_merge_by_precision(tmp_path):
    metric = RecountMetric("effect", "normal_known_variance", KNOWN)
    rows = [{"a": 1.0, "b": 0.5}, {"a": 4.0, "b": 0.25}]  # weights 2 and 4
    _, result = count_one(tmp_path, rows, spec(metric))
    found = result.statistics["effect"][DAY, "A", "A1"]
    assert found == pytest.approx({"estimate": 3.0, "variance": 1 / 6}, rel=1e-15)


def test_columns_of_the_path(tmp_path):
    write(tmp_path / "chain=A%20B" / "a.parquet", [{"hit": True}])
    write(tmp_path / "chain=__HIVE_DEFAULT_PARTITION__" / "b.parquet", [{"hit": True}])
    for path in tmp_path.rglob("*.parquet"):  # opened as a file: the folder is no column here
        table = pq.ParquetFile(path).read()
        pq.write_table(table.drop_columns(["chain"]), path)
    result = recount(tmp_path.rglob("*.parquet"), spec(CONVERSION))
    assert result.accepted == {(DAY, "A B", "A1"): 1}
    assert [file.rejections for file in result.files.values()] == [
        {},
        {("", "chain", "missing level"): 1},
    ]


def test_an_empty_file_counts_nothing(tmp_path):
    path = write(tmp_path / "a.parquet", [{"hit": True}])
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    result = recount([path], spec(CONVERSION))
    assert result.files == {str(path): FileRecount()}
    assert result.statistics == {"conversion": {}}


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"hit": "yes"}], spec(CONVERSION), "'hit' holds 'yes', and successes needs a number"),
        ([{}], spec(VALUE), "Column 'x' is there 0 times"),
        ([{"ts": 5}], spec(), "Time column 'ts' is int64"),
        (
            [{"x": "a"}],
            spec(RecountMetric("m", "normal", {"value": "x"}, where=[["x", "<", 1]])),
            "'x' holds 'a', which is not comparable with 1",
        ),
    ],
)
def test_what_is_no_measure_and_no_time_names_file_and_column(tmp_path, rows, settings, message):
    path = write(tmp_path / "a.parquet", rows)
    with pytest.raises(EventsError, match=message) as caught:
        recount([path], settings)
    assert caught.value.where["file"] == str(path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", None])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EventsError, match="Not readable as Parquet") as caught:
        recount([path], spec(CONVERSION))
    assert caught.value.where == {"file": str(path)}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (RecountMetric("m", "cauchy", {"value": "x"}), "No recount for 'cauchy'"),
        (RecountMetric("m", "normal", {"values": "x"}), "Roles are values"),
        (
            RecountMetric(
                "m",
                "gamma_poisson",
                {"count": {"column": "x", "transform": "log"}, "exposure": "rows"},
            ),
            "count is a count and is transformed",
        ),
    ],
)
def test_metrics_it_cannot_count_are_refused(tmp_path, metric, message):
    with pytest.raises(ConfigError, match=message):
        recount([], spec(metric))


@pytest.mark.parametrize("layout", ["files", "hive", "flat"])
def test_a_simulation_with_every_accident_is_recounted_exactly(tmp_path, layout):
    summary = simulate_events(
        tmp_path,
        first_day=date(2026, 3, 2),
        days=4,
        chains=3,
        stores=9,
        events_per_day=600,
        seed=5,
        layout=layout,
        late=0.05,
        bad=0.1,
        repeated=0.1,
        row_group_rows=250,
    )
    value = RecountMetric("value", "normal", {"value": "amount"}, transform="log")
    settings = spec(
        RecountMetric("conversion", "beta_binomial", {"successes": "converted", "trials": "rows"}),
        value,
        RecountMetric("revenue", "hurdle_lognormal", {"value": "amount", "trials": "rows"}),
        levels=("chain_id", "store_id"),
        event_id=("event_id",),
    )
    result = recount(summary.events_path.rglob("*.parquet"), settings)
    files = list(result.files.values())
    total = {
        name: sum(getattr(file, name) for file in files)
        for name in ("rows", "accepted", "rejected", "repeated", "conflicting")
    }
    rejections = sum((file.rejections for file in files), Counter())
    faults = summary.faults
    assert rejections == {
        ("", "ts", "missing time"): faults["missing time"],
        ("", "ts", "day out of range"): faults["time out of range"],
        ("", "chain_id", "missing level"): faults["missing chain"],
        ("", "store_id", "missing level"): faults["missing store"],
        ("", "store_id", "empty level"): faults["empty store"],
        ("", "event_id", "missing event id"): faults["missing event id"],
        ("value", "amount", "not a number"): faults["NaN amount"],
        ("value", "amount", "infinite"): faults["infinite amount"],
        ("value", "amount", "logarithm of a value not above zero"): faults["negative amount"],
        ("revenue", "amount", "not a number"): faults["NaN amount"],
        ("revenue", "amount", "infinite"): faults["infinite amount"],
        ("revenue", "amount", "negative"): faults["negative amount"],
    }
    assert total["rows"] == summary.rows == sum(total[k] for k in list(total)[1:4])
    assert total["repeated"] == summary.repeated
    assert total["conflicting"] == summary.conflicting
    assert result.accepted.total() == total["accepted"]
    for metric in ("conversion", "value", "revenue"):
        refused = sum(n for (name, _, _), n in rejections.items() if name == metric)
        skipped = sum(file.skipped[metric] for file in files)
        assert result.counted[metric].total() == total["accepted"] - refused - skipped
    for file in files:
        without_day = sum(n for (_, column, _), n in file.rejections.items() if column == "ts")
        assert sum(today.rows for today in file.days.values()) == file.rows - without_day
        for today in file.days.values():
            assert today.rows == today.accepted + today.rejected + today.repeated


def test_every_family_has_a_recount():
    """Or `hbpipe verify --full` would stop at a metric that `hbpipe run` has released."""
    known = rules._ROLES
    # The days of a level that drifts are laid out by the window: what is measured is ``normal``.
    measured = {name: one for name, one in FAMILIES.items() if one.is_measured}
    assert known.keys() == measured.keys()
    for name, family in measured.items():
        assert known[name] == tuple(role.name for role in family.roles)
        several = tuple(role.name for role in family.roles if role.several)
        assert set(several) <= set(rules._SEVERAL)


def test_it_shares_no_code_with_the_kernel():
    folder = Path(hbpipe.data.__path__[0])
    modules = sorted((folder / "recount").glob("*.py"))
    assert len(modules) >= 4
    imported = {
        node.module
        for module in modules
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hbpipe")
    }
    own = {f"hbpipe.data.recount.{module.stem}" for module in modules}
    assert imported - own == {"hbpipe.errors"}
