"""The kernel against the recount, which shares no code with it: counts equal, floats to 1e-12."""

from __future__ import annotations

import math
import tempfile
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel import (
    DAY,
    NOON,
    assert_same,
    event_format,
    parse,
    recount_spec,
    run_kernel,
    survey_all,
    write,
)

from hbpipe.data import readings, stretches, survey, units
from hbpipe.data.aggregate import summarise_piece
from hbpipe.data.clock import Calendar
from hbpipe.data.recount import recount
from hbpipe.data.survey import cut_pieces
from hbpipe.errors import StatisticsError
from hbpipe.run.simulate import simulate_events

NAN, INFINITY = float("nan"), float("inf")
RETAIL = {
    "conversion": {"family": "beta_binomial", "successes": "converted", "trials": "rows"},
    "basket": {
        "family": "normal",
        "value": "amount",
        "transform": "log",
        "where": [["converted", "==", True]],
    },
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"},
    "active": {"family": "gamma_poisson", "count": "converted", "exposure": "active_days"},
    "big": {
        "family": "beta_binomial",
        "successes": {"where": [["amount", ">", 20], ["store_id", "not_null"]]},
        "trials": {"where": [["amount", "not_null"]]},
    },
    "slope": {
        "family": "normal_regression",
        "response": {"column": "amount", "transform": "log"},
        "predictors": [1, "converted"],
    },
}


def check(root: Path, metrics: dict, lake: Path, **changes):
    """Run the kernel on a folder, compare it with the recount, and return it."""
    form = event_format(root, **changes)
    counted = run_kernel(form, metrics, lake)
    assert_same(
        form, metrics, counted, recount(root.rglob("*.parquet"), recount_spec(form, metrics))
    )
    return counted


def check_rows(tmp_path: Path, rows: list[dict], metrics: dict, size: int = 1000, **types):
    write(tmp_path / "events" / "a.parquet", rows, size, **types)
    return check(tmp_path / "events", metrics, tmp_path / "lake")


# --- simulated retail events --------------------------------------------------------------------


@pytest.mark.parametrize("piece_rows", [1, 700, 10**6])
@pytest.mark.parametrize("layout", ["files", "hive", "flat"])
def test_a_simulation_with_every_accident(tmp_path, monkeypatch, layout, piece_rows):
    monkeypatch.setattr(survey, "PIECE_ROWS", piece_rows)
    simulation = simulate_events(
        tmp_path,
        first_day=date(2026, 3, 2),
        days=4,
        chains=3,
        stores=12,
        events_per_day=500,
        seed=11,
        layout=layout,
        late=0.05,
        bad=0.1,
        repeated=0.1,
        row_group_rows=200,
    )
    counted = check(
        simulation.events_path,
        RETAIL,
        tmp_path / "lake",
        levels=("chain_id", "store_id"),
        event_id=("event_id",),
    )
    assert sum(a.repeated for a in counted.accounts.values()) == simulation.repeated
    assert sum(a.conflicting for a in counted.accounts.values()) == simulation.conflicting
    assert sum(one.rows for one in counted.surveys) == simulation.rows


def test_duckdb_counts_the_same(tmp_path):
    simulation = simulate_events(
        tmp_path,
        first_day=date(2026, 3, 2),
        days=3,
        chains=3,
        stores=20,
        events_per_day=3000,
        seed=12,
        row_group_rows=1000,
    )
    counted = run_kernel(
        event_format(simulation.events_path, levels=("chain_id", "store_id")),
        RETAIL,
        tmp_path / "lake",
    )
    rows = duckdb.sql(
        f"""select ts::date, chain_id, store_id, count(*), count(*) filter (converted),
                   avg(ln(amount)) filter (converted), var_pop(ln(amount)) filter (converted)
            from read_parquet('{simulation.events_path}/*.parquet') group by all"""
    ).fetchall()
    assert len(rows) == len(counted.accepted)
    for *key, events, converted, mean, variance in rows:
        key = tuple(key)
        assert counted.accepted[key] == events
        assert counted.statistics["conversion"][key] == {"successes": converted, "trials": events}
        basket = counted.statistics["basket"][key]
        assert basket["n"] == converted
        if converted:
            assert basket["mean"] == pytest.approx(mean, rel=1e-12)
            assert basket["m2"] == pytest.approx(variance * converted, rel=1e-9, abs=1e-12)


# --- any table ----------------------------------------------------------------------------------

MEASURES = {
    "share": {"family": "beta_binomial", "successes": "hits", "trials": "tries"},
    "flags": {"family": "beta_binomial", "successes": "flag", "trials": "rows"},
    "rate": {"family": "gamma_poisson", "count": "tries", "exposure": "x"},
    "value": {"family": "normal", "value": "x", "where": [["flag", "!=", False]]},
    "log": {"family": "normal", "value": {"column": "x", "transform": "log1p"}},
    "effect": {"family": "normal_known_variance", "estimate": "x", "variance": "hits"},
    "slopes": {
        "family": "normal_regression",
        "response": {"column": "x", "transform": "log1p"},
        "predictors": [1, "flag", "hits", {"column": "tries", "transform": "log"}],
    },
    "named": {
        "family": "beta_binomial",
        "successes": {"where": [["store", "in", ["a", "b"]], ["x", "<", 0.5]]},
        "trials": {"where": [["store", ">=", "a"], ["tries", "<=", 2.5]]},
    },
}
ROW = st.fixed_dictionaries(
    {
        "ts": st.one_of(
            st.none(),
            st.sampled_from([NOON, NOON + timedelta(hours=13), datetime(1970, 1, 1)]),
        ),
        "chain": st.sampled_from(["A", "B", None, ""]),
        "store": st.sampled_from(["a", "b", "c", "ä", None, ""]),
        "id": st.sampled_from(["1", "2", "3", "4", "5", "", None]),
        "hits": st.one_of(st.none(), st.integers(-1, 4), st.just(2**40)),
        "tries": st.sampled_from([None, 0.0, 1.0, 3.0, 2.5, -1.0, NAN, INFINITY, 2.0**53 + 2]),
        "flag": st.sampled_from([None, True, False]),
        "x": st.sampled_from([None, 0.0, 0.125, 1.5, -0.25, -1.0, 1e6, NAN, -INFINITY]),
    }
)
TYPES = {
    "ts": pa.timestamp("us"),
    "chain": pa.string(),
    "store": pa.string(),
    "id": pa.string(),
    "hits": pa.int64(),
    "tries": pa.float64(),
    "flag": pa.bool_(),
    "x": pa.float64(),
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 7), min_size=3, max_size=3),
    piece_rows=st.sampled_from([1, 5, 1000]),
    stretch_rows=st.sampled_from([1, 4, 1000]),
    ids=st.booleans(),
    shard_rows=st.sampled_from([1, 3, 1000]),
)
def test_any_table_in_any_cut(rows, cuts, piece_rows, stretch_rows, ids, shard_rows):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "PIECE_ROWS", piece_rows)
        patch.setattr(stretches, "STRETCH_ROWS", stretch_rows)
        patch.setattr(units, "SHARD_ROWS", shard_rows)
        patch.setattr(readings, "MOST_READINGS", 2)
        root = Path(folder) / "events"
        for number, size in enumerate(cuts):
            write(root / f"{number}.parquet", rows[number::3] or rows[:1], size, **TYPES)
        check(root, MEASURES, Path(folder) / "lake", event_id=("id",) if ids else ())


def bits(counted) -> dict:
    return {
        (metric, key, name): repr(value)
        for metric, found in counted.statistics.items()
        for key, values in found.items()
        for name, value in values.items()
    }


def test_the_days_asked_for_do_not_change_a_bit(tmp_path):
    simulation = simulate_events(
        tmp_path,
        first_day=date(2026, 3, 2),
        days=5,
        chains=2,
        stores=9,
        events_per_day=400,
        seed=13,
        layout="flat",
        late=0.2,
        row_group_rows=150,
    )
    form = event_format(simulation.events_path, levels=("chain_id", "store_id"))
    together = run_kernel(form, RETAIL, tmp_path / "together")
    alone = {}
    for day in together.results:
        alone |= bits(run_kernel(form, RETAIL, tmp_path / day.isoformat(), [day]))
    assert alone == bits(together)


# --- one thing at a time ------------------------------------------------------------------------

SHARE = {"share": {"family": "beta_binomial", "successes": "a", "trials": "b"}}
VALUE = {"value": {"family": "normal", "value": "x"}}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int8(), [1, 0, None, 3]),
        (pa.uint64(), [1, 0, None, 3]),
        (pa.uint64(), [2**53 + 1, 2**53, None, 3]),
        (pa.float16(), [1.5, 0.25, None, 3.0]),
        (pa.float32(), [0.1, 0.25, None, 3.0]),
        (pa.decimal128(12, 2), [Decimal("1.25"), Decimal("0.10"), None, Decimal("7.00")]),
        (pa.bool_(), [True, False, None, True]),
        (pa.bool_(), [True, False, False, True]),
    ],
)
def test_measures_of_any_numeric_type(tmp_path, kind, values):
    metrics = {
        **VALUE,
        "rate": {"family": "gamma_poisson", "count": "rows", "exposure": "x"},
        "known": {"family": "normal_known_variance", "estimate": "x", "variance": "x"},
    }
    if kind != pa.decimal128(12, 2) and not pa.types.is_floating(kind):
        metrics["count"] = {"family": "beta_binomial", "successes": "x", "trials": "x"}
    if kind != pa.bool_():
        metrics["some"] = {**VALUE["value"], "where": [["x", ">=", 1]]}
        metrics["log"] = {**VALUE["value"], "transform": "log"}
    rows = [{"x": value, "store": f"S{number % 2}"} for number, value in enumerate(values)]
    check_rows(tmp_path, rows, metrics, 2, x=kind)


def test_whole_decimals_are_whole(tmp_path):
    rows = [{"a": Decimal(number), "b": Decimal(number)} for number in range(1, 2000, 7)]
    counted = check_rows(tmp_path, rows, SHARE, a=pa.decimal128(18, 6), b=pa.decimal128(18, 2))
    total = sum(range(1, 2000, 7))
    assert counted.statistics["share"][DAY, "A", "A1"] == {"successes": total, "trials": total}


def test_conditions_on_large_whole_numbers_are_exact(tmp_path):
    big = 2**53
    signs = ["==", "!=", "<", "<=", ">", ">="]
    bounds = [float(big), big + 1, 2.5, -1, 2**63]
    metrics = {
        f"m{number}": {
            "family": "beta_binomial",
            "successes": {"where": [["x", sign, bound]]},
            "trials": "rows",
        }
        for number, (sign, bound) in enumerate((s, b) for s in signs for b in bounds)
    }
    metrics["among"] = {
        "family": "beta_binomial",
        "successes": {"where": [["x", "in", [2, 2.5, big + 1]]]},
        "trials": "rows",
    }
    values = [big - 1, big, big + 1, 2, 3, None]
    check_rows(tmp_path / "signed", [{"x": v} for v in values], metrics, x=pa.int64())
    check_rows(
        tmp_path / "unsigned", [{"x": v} for v in [*values, 2**64 - 1]], metrics, x=pa.uint64()
    )


def test_rejected_values_and_their_reasons(tmp_path):
    rows = [
        {"a": 1.0, "b": 2.0},
        {"a": -1.0, "b": 2.0},
        {"a": 3.0, "b": 2.0},
        {"a": 0.5, "b": 2.0},
        {"a": NAN, "b": 2.0},
        {"a": 1.0, "b": INFINITY},
        {"a": 2.0**53 + 2, "b": 2.0},
        {"a": None, "b": -1.0},
    ]
    counted = check_rows(tmp_path, rows, SHARE, 3)
    assert counted.rejections["a.parquet"] == {
        ("share", "a", "negative"): 1,
        ("share", "a", "successes exceed trials"): 1,
        ("share", "a", "not whole"): 2,
        ("share", "a", "not a number"): 1,
        ("share", "b", "infinite"): 1,
    }
    examples = {
        (one.reason, e.row_group, e.row, e.value)
        for one in counted.results[DAY].rejections
        for e in one.examples
    }
    assert examples == {
        ("negative", 0, 1, "-1.0"),
        ("successes exceed trials", 0, 2, "3.0"),
        ("not whole", 1, 3, "0.5"),
        ("not a number", 1, 4, "nan"),
        ("infinite", 1, 5, "inf"),
        ("not whole", 2, 6, "9007199254740994.0"),
    }


@pytest.mark.parametrize("faulty", [{"store": None}, {"store": ""}, {"chain": None}])
def test_a_day_whose_rows_are_all_rejected_has_no_units(tmp_path, faulty):
    rows = [{"x": 1.0, **faulty}, {"x": 2.0, "store": None, "chain": None}]
    counted = check_rows(tmp_path, rows, VALUE, 1, chain=pa.string(), store=pa.string())
    result = counted.results[DAY]
    assert (result.units, result.n_events, result.receipts) == (0, 0, ())
    assert result.accounts["a.parquet"].rejected == 2


def test_a_piece_without_accepted_rows_beside_one_with(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "PIECE_ROWS", 2)
    bad = {"x": 9.0, "store": None}
    rows = [bad, bad, {"x": 1.0}, bad, {"x": 2.0, "store": "A2"}, {"x": NAN}]
    counted = check_rows(tmp_path, rows, VALUE, 2)
    assert counted.results[DAY].units == 2


def test_ids_of_whole_numbers_and_levels_in_three_tiers(tmp_path):
    rows = [{"chain": n % 3, "area": n % 2, "store": n % 5, "x": n / 4} for n in range(90)]
    write(tmp_path / "events" / "a.parquet", rows, 7, chain=pa.int16(), store=pa.int64())
    counted = check(
        tmp_path / "events", VALUE, tmp_path / "lake", levels=("chain", "area", "store")
    )
    assert counted.results[DAY].units == 30
    assert counted.results[DAY].shared_ids == 5


def test_text_levels_of_every_encoding_are_one_type(tmp_path):
    rows = [{"store": s, "x": 1.0} for s in ["a", "b", None, "a"]]
    plain = write(tmp_path / "events" / "a.parquet", rows)
    write(tmp_path / "events" / "b.parquet", rows, store=pa.large_string())
    table = pq.read_table(plain)
    coded = table.column("store").cast(pa.large_string()).dictionary_encode()
    pq.write_table(table.set_column(2, "store", coded), tmp_path / "events" / "c.parquet")
    counted = check(tmp_path / "events", VALUE, tmp_path / "lake")
    assert counted.accepted == {(DAY, "A", "a"): 6, (DAY, "A", "b"): 3}


def test_levels_and_day_from_the_path(tmp_path):
    root = tmp_path / "events"
    for folder in ("chain=A%20B/ts=2026-03-02", "chain=__HIVE_DEFAULT_PARTITION__/ts=2026-03-02"):
        path = write(root / folder / "a.parquet", [{"x": 1.0}, {"x": 2.0, "store": "A2"}])
        table = pq.ParquetFile(path).read().drop_columns(["chain", "ts"])
        pq.write_table(table, path, row_group_size=1)
    metrics = {**VALUE, "named": {**VALUE["value"], "where": [["chain", "==", "A B"]]}}
    counted = check(root, metrics, tmp_path / "lake")
    assert counted.accepted == {(DAY, "A B", "A1"): 1, (DAY, "A B", "A2"): 1}
    assert sum(account.rejected for account in counted.accounts.values()) == 2


def test_active_days_are_one_a_day_however_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "PIECE_ROWS", 1)
    metrics = {"rate": {"family": "gamma_poisson", "count": "n", "exposure": "active_days"}}
    rows = [{"n": 1}, {"n": 2}, {"n": None, "store": "A2"}, {"n": 3, "ts": NOON + timedelta(1)}]
    counted = check_rows(tmp_path, rows, metrics, 1)
    assert counted.statistics["rate"] == {
        (DAY, "A", "A1"): {"count": 3, "exposure": 1.0},
        (DAY, "A", "A2"): {"count": 0, "exposure": 0.0},  # its only event has no count
        (date(2026, 3, 3), "A", "A1"): {"count": 3, "exposure": 1.0},
    }


def test_moments_far_from_zero_keep_their_digits_in_any_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "PIECE_ROWS", 10)
    rows = [{"x": 1e9 + (n % 17) / 8} for n in range(200)]
    check_rows(tmp_path, rows, VALUE, 10)


@pytest.mark.parametrize(
    ("kind", "values", "metric"),
    [
        (pa.int64(), [2**62, 2**62, 1], SHARE),
        (pa.uint64(), [2**64 - 1], SHARE),
        (pa.float64(), [1.7e308, 1.7e308], VALUE),
        (pa.float64(), [1e300, -1e300], VALUE),
    ],
)
def test_sums_that_overflow_name_file_and_metric(tmp_path, kind, values, metric):
    rows = [{"a": v, "b": v, "x": v} for v in values]
    write(tmp_path / "a.parquet", rows, a=kind, b=kind, x=kind)
    with pytest.raises(StatisticsError) as caught:
        run_kernel(event_format(tmp_path), metric, tmp_path / "lake")
    assert caught.value.where["file"] == str(tmp_path / "a.parquet")
    assert caught.value.where["metric"] == next(iter(metric))


def test_a_sum_that_overflows_over_pieces_names_day_and_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "PIECE_ROWS", 1)
    write(tmp_path / "a.parquet", [{"a": 2**62, "b": 2**62}] * 3, 1)
    with pytest.raises(StatisticsError, match="does not fit") as caught:
        run_kernel(event_format(tmp_path), SHARE, tmp_path / "lake")
    assert caught.value.where["day"] == DAY
    assert caught.value.where["metric"] == "share"


def test_huge_counts_that_fit_are_exact(tmp_path):
    rows = [{"a": 2**61 + 1, "b": 2**61 + 1}, {"a": 2**61 + 2, "b": 2**61 + 2}]
    counted = check_rows(tmp_path, rows, SHARE)
    assert counted.statistics["share"][DAY, "A", "A1"]["successes"] == 2**62 + 3


def test_late_closing_tills_feed_the_day_before(tmp_path):
    rows = [{"x": 1.0, "ts": datetime(2026, 3, 3, hour)} for hour in (0, 1, 2, 3)]
    write(tmp_path / "events" / "a.parquet", rows, 1)
    counted = check(tmp_path / "events", VALUE, tmp_path / "lake", calendar=Calendar(day_start=120))
    assert counted.accepted == {(DAY, "A", "A1"): 2, (date(2026, 3, 3), "A", "A1"): 2}


def test_a_part_counts_only_the_days_asked_for(tmp_path):
    rows = [{"x": 1.0}, {"x": 2.0, "ts": NOON + timedelta(1)}]
    write(tmp_path / "a.parquet", rows)
    form, metrics = event_format(tmp_path), parse(VALUE)
    (found,) = survey_all(form, metrics)
    first, second = found.days
    (piece,) = cut_pieces(found.file, found.row_groups, [first])
    part = summarise_piece(form, piece, metrics, (first,))
    assert list(part.accounts) == [first]
    assert part.n_events.tolist() == [1]
    assert part.ids is None
    assert math.isclose(part.statistics["value"]["mean"][0], 1.0)
    assert second not in part.days


def test_level_text_that_is_not_utf8_is_rejected_and_shown_as_bytes(tmp_path):
    raw = pa.array([b"s1", b"caf\xe9", None, b"s1", b"caf\xe9", "café".encode()])
    stores = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    table = pa.table({"ts": [NOON] * 6, "chain": ["c"] * 6, "store": stores})
    (tmp_path / "events").mkdir()
    pq.write_table(table, tmp_path / "events" / "a.parquet")
    metrics = {"rows": {"family": "gamma_poisson", "count": "rows", "exposure": "days"}}
    counted = check(tmp_path / "events", metrics, tmp_path / "lake")
    assert counted.rejections["a.parquet"] == {
        ("", "store", "missing level"): 1,
        ("", "store", "unreadable level"): 2,
    }
    [found] = [r for r in counted.results[DAY].rejections if r.reason == "unreadable level"]
    assert [example.value for example in found.examples] == ["caf\\xe9"] * 2
