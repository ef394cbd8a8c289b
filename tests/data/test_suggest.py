"""Drafted configurations: they load, they run, and they see what a person would see."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hbpipe.config import load_settings
from hbpipe.data.recount import RecountMetric, RecountSpec, recount
from hbpipe.data.suggest import suggest
from hbpipe.errors import EventsError
from hbpipe.run.simulate import simulate_events

N = 600
START = datetime(2026, 3, 2, 8)


def base(rng) -> dict[str, object]:
    """Columns that every draft needs: a time and a store."""
    return {
        "ts": [START + timedelta(minutes=7 * k) for k in range(N)],
        "store_id": [f"s{k}" for k in rng.integers(12, size=N)],
    }


def write(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=200)
    return path


def draft(tmp_path: Path, columns: dict[str, object], seed: int = 1) -> tuple[dict, str]:
    """Suggest for the base columns and these; check that the draft loads and counts rows."""
    rng = np.random.default_rng(seed)
    path = write(tmp_path / "sales.parquet", {**base(rng), **columns})
    text = suggest(path)
    check(tmp_path, text, [path])
    return yaml.safe_load(text), text


def check(tmp_path: Path, text: str, files: list[Path]) -> None:
    """A draft must load as settings, and its metrics must find rows in the files."""
    config = tmp_path / "draft.yaml"
    config.write_text(text, encoding="utf-8")
    settings = load_settings(config)
    raw, events = yaml.safe_load(text), settings.events
    spec = RecountSpec(
        time=str(events.time or events.day),
        time_kind="timestamp" if events.time else "day",
        timezone=events.timezone,
        day_start_minutes=events.day_start,
        levels=events.levels,
        event_id=events.event_id,
        earliest=events.earliest,
        latest=events.latest,
        metrics=tuple(
            RecountMetric(
                name=name,
                family=metric["family"],
                roles={
                    key: value
                    for key, value in metric.items()
                    if key not in ("family", "where", "transform", "per")
                },
                where=metric.get("where", ()),
                transform=metric.get("transform"),
            )
            for name, metric in raw["metrics"].items()
        ),
    )
    result = recount(files, spec)
    for metric in raw["metrics"]:
        assert result.counted[metric].total() > 0, metric


def numbers(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    return {
        "flag": lambda: rng.random(N) < 0.3,
        "zero_one": lambda: rng.integers(2, size=N),
        "count": lambda: rng.poisson(3.0, N),
        "whole_floats": lambda: rng.poisson(3.0, N).astype(float),
        "skewed": lambda: np.exp(rng.normal(3, 1, N)),
        "symmetric": lambda: rng.normal(100, 5, N),
        "signed": lambda: rng.normal(0, 5, N),
        "cents": lambda: np.round(np.exp(rng.normal(8, 1, N))).astype(int),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "name", "metric"),
    [
        ("flag", "x_rate", {"family": "beta_binomial", "successes": "x", "trials": "rows"}),
        ("zero_one", "x_rate", {"family": "beta_binomial", "successes": "x", "trials": "rows"}),
        (
            "count",
            "x_per_day",
            {"family": "gamma_poisson", "count": "x", "exposure": "days", "per": "1d"},
        ),
        (
            "whole_floats",
            "x_per_day",
            {"family": "gamma_poisson", "count": "x", "exposure": "days", "per": "1d"},
        ),
        ("skewed", "x", {"family": "normal", "value": "x", "transform": "log"}),
        ("symmetric", "x", {"family": "normal", "value": "x"}),
        ("signed", "x", {"family": "normal", "value": "x"}),
        ("cents", "x", {"family": "normal", "value": "x", "transform": "log"}),
    ],
)
def test_a_column_gets_the_family_of_its_values(tmp_path, kind, name, metric):
    config, _ = draft(tmp_path, {"x": numbers(kind)})
    events = {"family": "gamma_poisson", "count": "rows", "exposure": "days", "per": "1d"}
    assert config["metrics"] == {"events": events, name: metric}


def test_evidence_stands_beside_each_choice(tmp_path):
    x = numbers("skewed")
    x[:30] = 0.0
    values = pa.array(x, mask=np.arange(N) >= 540)
    config, text = draft(tmp_path, {"x": values})
    assert config["metrics"]["x"]["where"] == [["x", ">", 0]]
    comments = " ".join(text.replace("\n  #", "").split())
    assert "10% null, skipped" in comments
    assert "5.56% zeros left out" in comments
    assert "sample: 600 of the 600 rows in 1 of 1 file(s)" in comments
    assert "12 different values, 50.0 rows each, 0% null or empty" in comments
    assert "times without a zone are taken as local" in comments
    assert max(map(len, (line for line in text.split("\n") if line.strip()[:1] == "#"))) <= 100


def test_stray_faults_of_amounts_stay_to_be_counted(tmp_path):
    x = numbers("skewed")
    x[:3], x[3:6], x[6:9] = -5.0, np.nan, 0.0
    config, text = draft(tmp_path, {"x": x})
    assert config["metrics"]["x"]["where"] == [["x", "!=", 0]]
    comments = " ".join(text.replace("\n  #", "").split())
    assert "0.50% not finite will be rejected and counted" in comments
    assert "0.50% below zero will be rejected and counted" in comments


def test_mostly_zero_amounts_are_a_share_and_a_value(tmp_path):
    config, _ = draft(tmp_path, {"coupon": np.where(numbers("flag"), numbers("skewed"), 0.0)})
    assert config["metrics"]["coupon_use"] == {
        "family": "beta_binomial",
        "successes": {"where": [["coupon", ">", 0]]},
        "trials": {"where": [["coupon", "not_null"]]},
    }
    assert config["metrics"]["coupon"]["where"] == [["coupon", ">", 0]]


def test_a_small_category_is_the_share_of_its_most_frequent_value(tmp_path):
    brands = np.random.default_rng(4).choice(["Own", "No: 1", "x"], N, p=[0.2, 0.7, 0.1])
    config, text = draft(tmp_path, {"brand": brands})
    assert config["metrics"]["brand_no_1_share"] == {
        "family": "beta_binomial",
        "successes": {"where": [["brand", "==", "No: 1"]]},
        "trials": {"where": [["brand", "not_null"]]},
    }
    assert "3 categories" in text


def test_successes_and_trials_are_paired(tmp_path):
    rng = np.random.default_rng(5)
    visits = rng.poisson(30, N) + 1
    columns = {"orders": rng.binomial(visits, 0.1), "visits": visits}
    config, _ = draft(tmp_path, columns)
    assert config["metrics"]["orders_per_visits"] == {
        "family": "beta_binomial",
        "successes": "orders",
        "trials": "visits",
    }
    assert config["metrics"]["visits_per_day"]["family"] == "gamma_poisson"
    assert "orders_per_day" not in config["metrics"]
    columns["orders"] = columns["orders"].copy()
    columns["orders"][7] = visits[7] + 1  # once is enough
    config, _ = draft(tmp_path, columns)
    assert set(config["metrics"]) == {"events", "orders_per_day", "visits_per_day"}


def test_levels_are_found_by_nesting_from_coarse_to_fine(tmp_path):
    rng = np.random.default_rng(6)
    store = rng.integers(24, size=N)
    columns = {
        "product_id": [f"p{k}" for k in rng.integers(40, size=N)],
        "store_id": [f"s{k}" for k in store],
        "chain_id": [f"c{k // 3}" for k in store],
        "country": [f"l{k // 12}" for k in store],
    }
    config, text = draft(tmp_path, columns)
    assert config["events"]["levels"] == ["country", "chain_id", "store_id"]
    assert config["inference"]["pool_by"] == ["country", "chain_id"]
    assert "each store_id lies in one of 8 chain_id; each chain_id lies in one of 2" in (
        text.replace("\n  # ", " ")
    )


def test_a_column_that_varies_within_the_store_is_no_level(tmp_path):
    rng = np.random.default_rng(7)
    config, _ = draft(tmp_path, {"region": [f"r{k}" for k in rng.integers(3, size=N)]})
    assert config["events"]["levels"] == ["store_id"]
    assert config["inference"]["pool_by"] == []
    assert "region_r" in "".join(config["metrics"])


def test_stores_numbered_within_their_chain(tmp_path):
    rng = np.random.default_rng(8)
    columns = {"chain": rng.choice(["a", "b", "c"], N), "store_id": rng.integers(1, 9, N)}
    config, _ = draft(tmp_path, columns)
    assert config["events"]["levels"] == ["chain", "store_id"]
    assert config["events"]["unit_ids"] == "within_parent"


def test_without_telling_names_structure_decides(tmp_path):
    rng = np.random.default_rng(9)
    unit = rng.integers(30, size=N)
    path = write(
        tmp_path / "a.parquet",
        {
            "c1": [START] * N,
            "c2": [f"g{k // 6}" for k in unit],
            "c3": [f"u{k}" for k in unit],
            "c4": rng.choice(["x", "y"], N),
        },
    )
    text = suggest(path)
    check(tmp_path, text, [path])
    assert yaml.safe_load(text)["events"]["levels"] == ["c2", "c3"]


def test_an_event_id_is_a_label_that_rows_hardly_share(tmp_path):
    labels = [f"e{k}" for k in range(N)]
    labels[5] = labels[4]
    config, _ = draft(tmp_path, {"id": labels})
    assert config["events"]["event_id"] == "id"
    baskets = [f"b{k // 3}" for k in range(N)]
    lines = [f"l{k % 3}" for k in range(N)]
    config, text = draft(tmp_path, {"basket": baskets, "line": lines})
    assert "event_id" not in config["events"]
    assert "# event_id: [basket, line]" in text
    _, text = draft(tmp_path, {"basket": baskets})
    assert "repeated deliveries will not be recognised" in text
    assert "event_id:" not in text


@pytest.mark.parametrize(
    ("times", "key", "note"),
    [
        ([START] * N, "time", "times without a zone"),
        (pa.array([START.replace(tzinfo=UTC)] * N), "time", "instants"),
        (["2026-03-02T08:00:00"] * N, "time", "ISO text, 0% null"),
        (["2026-03-02T08:00:00+01:00"] * N, "time", "instants"),
        (["2026-03-02"] * N, "day", "whole days"),
        ([date(2026, 3, 2)] * N, "day", "whole days"),
        (["2026-03-02T08:00:00"] * (N - 6) + ["?"] * 6, "time", "ISO text, 1.00% unreadable"),
    ],
)
def test_times(tmp_path, times, key, note):
    config, text = draft(tmp_path, {"ts": times})
    assert config["events"][key] == "ts"
    assert {"time", "day"} & set(config["events"]) == {key}
    assert note in text


def test_a_time_of_day_is_preferred_to_a_date(tmp_path):
    config, text = draft(tmp_path, {"a_day": [date(2026, 3, 2)] * N})
    assert config["events"]["time"] == "ts"
    assert "other times: a_day" in text


def test_what_is_left_out_is_said(tmp_path):
    columns = {
        "till": [1] * N,
        "postcode": pa.array(np.arange(N) % 50),
        "week": pa.array(np.arange(N) % 9),
        "remark": [f"r{k % 100}" for k in range(N)],
        "nothing": pa.nulls(N, pa.float64()),
        "broken": [float("nan")] * N,
        "tags": [["a"]] * N,
    }
    config, text = draft(tmp_path, columns)
    assert list(config["metrics"]) == ["events"]
    for line in (
        "- till: one value only: 1",
        "- postcode: named like a label, 50 different numbers",
        "- week: named like a part of a date",
        "- remark: text with 100 different values",
        "- nothing: no value in the sample",
        "- broken: no finite number in the sample",
        "- tags: list<element: string> is neither",
    ):
        assert line in text


def test_names_may_hold_anything(tmp_path):
    names = ["rows", "yes", "a: b", "a # b", "ä\n- x", "1", "'\"", "días", "On", "a_b"]
    columns = {name: numbers("symmetric") + k for k, name in enumerate(names)}
    config, _ = draft(tmp_path, columns)
    values = [metric["value"] for metric in config["metrics"].values() if "value" in metric]
    assert values == [{"column": "rows"}, *names[1:]]
    assert {"m_1", "yes", "on", "a_b", "a_b_2", "a_b_3"} <= set(config["metrics"])


def test_huge_numbers_give_no_warning(tmp_path):
    config, _ = draft(tmp_path, {"x": np.where(numbers("flag"), 1e120, 1.0)})
    assert config["metrics"]["x"]["family"] == "normal"


def daily_totals(units: int, days: int) -> dict[str, object]:
    """One row for each of some stores, nested in chains by their numbers, and day."""
    rng = np.random.default_rng(21)
    store = np.tile(np.arange(units), days)
    visits = rng.poisson(40, len(store)) + 1
    return {
        "business_date": [
            date(2026, 3, 2) + timedelta(k) for k in range(days) for _ in range(units)
        ],
        "chain": pa.array(store // 5, pa.int16()),
        "store": pa.array(store + 1000, pa.int32()),
        "visits": visits,
        "purchases": rng.binomial(visits, 0.2),
        "revenue": np.exp(rng.normal(6, 1, len(store))),
    }


def draft_of(tmp_path: Path, columns: dict[str, object]) -> tuple[dict, str]:
    path = write(tmp_path / "totals.parquet", columns)
    text = suggest(path)
    check(tmp_path, text, [path])
    return yaml.safe_load(text), " ".join(text.replace("\n  #", "").split())


def test_daily_totals_with_numbered_chains_and_stores(tmp_path):
    config, text = draft_of(tmp_path, daily_totals(units=20, days=30))
    assert config["events"]["levels"] == ["chain", "store"]
    assert config["inference"]["pool_by"] == ["chain"]
    assert config["metrics"] == {
        "visits_per_day": {
            "family": "gamma_poisson",
            "count": "visits",
            "exposure": "days",
            "per": "1d",
        },
        "purchases_per_visits": {
            "family": "beta_binomial",
            "successes": "purchases",
            "trials": "visits",
        },
        "revenue": {"family": "normal", "value": "revenue", "transform": "log"},
    }
    assert "rows per day would say 1: the sample has one row per unit and day" in text


@pytest.mark.parametrize(
    "as_time",
    [
        lambda day: datetime(day.year, day.month, day.day),
        lambda day: day.isoformat(),
        lambda day: f"{day}T00:00:00+00:00",
        lambda day: datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
)
def test_totals_are_known_by_any_kind_of_day(tmp_path, as_time):
    columns = daily_totals(units=10, days=40)  # across the change to summer time
    columns["business_date"] = [as_time(day) for day in columns["business_date"]]
    config, _ = draft_of(tmp_path, columns)
    assert "events" not in config["metrics"]


def test_rows_at_times_of_day_are_events_even_when_they_are_rare(tmp_path):
    columns = daily_totals(units=10, days=40)
    columns["business_date"] = [
        datetime(day.year, day.month, day.day, 8 + k % 9)
        for k, day in enumerate(columns["business_date"])
    ]
    config, _ = draft_of(tmp_path, columns)
    assert config["metrics"]["events"]["count"] == "rows"


def test_totals_of_nothing_keep_a_metric_and_say_what_it_is_worth(tmp_path):
    columns = daily_totals(units=20, days=30)
    config, text = draft_of(tmp_path, {k: columns[k] for k in ("business_date", "chain", "store")})
    assert list(config["metrics"]) == ["events"]
    assert "so this says 1: replace it" in text


def test_numbers_that_name_places_or_things_are_no_measures(tmp_path):
    rng = np.random.default_rng(22)
    store = rng.integers(12, size=N)
    columns = {
        "store_id": [f"s{k}" for k in store],
        "store_type": store % 3,
        "region": rng.integers(5, size=N),
        "brand": rng.integers(9, size=N),
        "CUSTOMER_ID": rng.integers(90, size=N),
        "item_nbr": rng.integers(90, size=N),
        "store_visits": rng.poisson(9, N),
        "items_in_store": rng.poisson(3, N),
    }
    config, text = draft(tmp_path, columns)
    assert config["events"]["levels"] == ["store_id"]
    assert set(config["metrics"]) == {"events", "store_visits_per_day", "items_in_store_per_day"}
    assert "- region: named like a label, 5 different numbers" in text
    assert "- store_type: one value for each store_id: a trait of it" in text


@pytest.mark.parametrize("name", ["region", "brand", "banner", "format", "country", "district"])
def test_coarse_numbers_are_a_level_when_stores_nest_in_them(tmp_path, name):
    store = np.random.default_rng(23).integers(24, size=N)
    config, _ = draft(tmp_path, {"store_id": store, name: store // 6})
    assert config["events"]["levels"] == [name, "store_id"]


@pytest.mark.parametrize(
    ("brand", "levels"),
    [({}, ["chain", "store_id"]), ({"brand": 4}, ["chain", "brand", "store_id"])],
)
def test_a_format_across_chains_does_not_displace_the_chain(tmp_path, brand, levels):
    store = np.random.default_rng(24).integers(24, size=N)
    finer = {name: store // size for name, size in brand.items()}
    columns = {"store_id": store, "chain": store // 12, "format": store % 3, **finer}
    config, _ = draft(tmp_path, columns)
    assert config["events"]["levels"] == levels


def test_numbered_stores_are_not_numbered_within_the_brands_they_sell(tmp_path):
    rng = np.random.default_rng(29)
    columns = {"store_id": rng.integers(12, size=N), "brand": rng.choice(["Own", "Other"], N)}
    config, _ = draft(tmp_path, columns)
    assert config["events"]["levels"] == ["store_id"]


def test_stores_numbered_within_numbered_chains(tmp_path):
    rng = np.random.default_rng(25)
    config, _ = draft(
        tmp_path, {"chain": rng.integers(3, size=N), "store_id": rng.integers(1, 9, N)}
    )
    assert config["events"]["levels"] == ["chain", "store_id"]
    assert config["events"]["unit_ids"] == "within_parent"


def estimates(**columns: object) -> dict[str, object]:
    """One row for each of 60 outlets, of 6 brands."""
    rng = np.random.default_rng(26)
    return {
        "effect": rng.normal(0, 1, 60),
        **columns,
        "outlet": [f"o{k}" for k in range(60)],
        "brand": [f"b{k // 10}" for k in range(60)],
        "day": [date(2026, 3, 2)] * 60,
    }


SPREAD = np.random.default_rng(27).uniform(0.5, 2, 60)


@pytest.mark.parametrize("name", ["variance", "var", "effect_var", "var_effect", "Variance"])
def test_estimates_with_their_variances(tmp_path, name):
    config, text = draft_of(tmp_path, estimates(**{name: SPREAD, "std_err": np.sqrt(SPREAD)}))
    assert config["events"]["levels"] == ["brand", "outlet"]
    assert "event_id" not in config["events"]
    assert "event_id:" not in text
    assert "by its name: too few repeat to prove it" in text
    assert config["metrics"] == {
        "effect": {"family": "normal_known_variance", "estimate": "effect", "variance": name}
    }
    assert "- std_err: a standard error; the variance beside it says the same" in text


@pytest.mark.parametrize("name", ["se", "std_err", "std_error", "stderr", "effect_se"])
def test_a_standard_error_cannot_be_squared(tmp_path, name):
    config, text = draft_of(tmp_path, estimates(**{name: np.sqrt(SPREAD)}))
    assert config["metrics"] == {"effect": {"family": "normal", "value": "effect"}}
    assert f"- {name}: a standard error" in text
    assert "cannot square a column" in text


def test_each_variance_goes_to_the_estimate_that_it_is_named_after(tmp_path):
    rng = np.random.default_rng(28)
    columns = estimates(lift=rng.normal(0, 1, 60), lift_var=SPREAD, variance_effect=2 * SPREAD)
    config, _ = draft_of(tmp_path, columns)
    family = "normal_known_variance"
    assert config["metrics"] == {
        "effect": {"family": family, "estimate": "effect", "variance": "variance_effect"},
        "lift": {"family": family, "estimate": "lift", "variance": "lift_var"},
    }


@pytest.mark.parametrize(
    ("others", "estimate"),
    [
        (("y",), "y"),
        (("y", "mean"), "mean"),
        (("y", "x"), None),
        (("lift", "delta"), None),
    ],
)
def test_a_bare_variance_needs_one_column_that_it_can_belong_to(tmp_path, others, estimate):
    rng = np.random.default_rng(30)
    columns = estimates(**{name: rng.normal(0, 1, 60) for name in others}, variance=SPREAD)
    config, _ = draft_of(tmp_path, {k: v for k, v in columns.items() if k != "effect"})
    known = [m for m in config["metrics"].values() if m["family"] == "normal_known_variance"]
    assert [metric["estimate"] for metric in known] == ([estimate] if estimate else [])


def test_a_variance_and_an_estimate_of_one_thing_belong_together(tmp_path):
    columns = estimates(lift_mean=np.random.default_rng(31).normal(0, 1, 60), lift_var=SPREAD)
    config, _ = draft_of(tmp_path, columns)
    assert config["metrics"]["lift_mean"]["variance"] == "lift_var"
    assert config["metrics"]["effect"]["family"] == "normal"


def test_a_variance_of_nothing_that_is_here_is_a_value(tmp_path):
    config, _ = draft_of(tmp_path, estimates(price_var=SPREAD))
    assert {name: metric["family"] for name, metric in config["metrics"].items()} == {
        "effect": "normal",
        "price_var": "normal",
    }


@pytest.mark.parametrize(
    ("zone", "drafted"),
    [("America/New_York", "America/New_York"), ("UTC", "UTC"), ("+05:30", "UTC")],
)
def test_the_zone_of_a_time_column_is_the_zone_of_the_draft(tmp_path, zone, drafted):
    times = pa.array([START.replace(tzinfo=UTC)] * N, pa.timestamp("us", tz=zone))
    config, text = draft(tmp_path, {"ts": times})
    assert config["events"]["timezone"] == drafted
    assert ("the column's own" in text) == (zone == drafted)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("sample/events", "sample"),
        ("sample/events.parquet", "sample"),
        ("Sample Data/events/", "sample_data"),
        ("2026/sales.parquet", "sales"),
        ("a/2026", "m_2026"),
    ],
)
def test_each_draft_has_a_name_and_a_lake_of_its_own(tmp_path, monkeypatch, place, name):
    path = tmp_path / place
    file = path if path.suffix else path / "0.parquet"
    file.parent.mkdir(parents=True)
    write(file, base(np.random.default_rng(1)))
    monkeypatch.chdir(path.parent)
    for root in (str(path), path.name, f"./{path.name}"):
        text = suggest(root)
        check(tmp_path, text, [file])
        config = yaml.safe_load(text)
        assert config["pipeline"] == name
        assert config["lake"] == {"path": f"{name}-lake"}


def test_a_simulation_is_understood(tmp_path):
    summary = simulate_events(
        tmp_path / "sim",
        first_day=date(2026, 3, 2),
        days=5,
        chains=5,
        stores=60,
        events_per_day=2000,
        seed=11,
        layout="hive",
        late=0.02,
        bad=0.02,
        repeated=0.02,
    )
    text = suggest(summary.events_path)
    check(tmp_path, text, list(summary.events_path.rglob("*.parquet")))
    config = yaml.safe_load(text)
    assert config["events"]["time"] == "ts"
    assert config["events"]["levels"] == ["chain_id", "store_id"]
    assert config["events"]["event_id"] == "event_id"
    assert {name: metric["family"] for name, metric in config["metrics"].items()} == {
        "events": "gamma_poisson",
        "converted_rate": "beta_binomial",
        "amount": "normal",
    }
    assert config["metrics"]["amount"]["transform"] == "log"


def test_the_sample_is_bounded_and_spread(tmp_path, monkeypatch):
    rng = np.random.default_rng(12)
    for k in range(40):
        write(tmp_path / f"{k:02d}.parquet", {**base(rng), "x": np.full(N, k)})
    monkeypatch.setattr("hbpipe.data.suggest.MAX_ROWS", 800)
    text = suggest(tmp_path)
    assert "a sample: 768 of the 9,600 rows in 16 of 40 file(s)" in text.replace("\n# ", " ")
    assert "mean 19.1, largest 39" in text


def test_files_of_several_kinds_are_refused(tmp_path):
    rng = np.random.default_rng(13)
    write(tmp_path / "a.parquet", {**base(rng), "x": numbers("count")})
    write(tmp_path / "b.parquet", {**base(rng), "x": ["text"] * N})
    with pytest.raises(EventsError, match="do not agree on their columns"):
        suggest(tmp_path)


def test_doubled_columns_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(EventsError, match="more than once: a"):
        suggest(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ts": ["yesterday"] * N}, "No column holds times"),
        ({"store_id": pa.nulls(N, pa.string())}, "No column looks like a store"),
        ({"store_id": np.linspace(0, 1, N)}, "No column looks like a store"),
    ],
)
def test_no_time_or_no_store_is_an_error_that_names_the_columns(tmp_path, columns, message):
    path = write(tmp_path / "a.parquet", {**base(np.random.default_rng(1)), **columns})
    with pytest.raises(EventsError, match=message) as caught:
        suggest(path)
    assert "store_id" in caught.value.where["columns"]
    assert caught.value.remedy


def test_paths_that_are_no_events(tmp_path):
    with pytest.raises(EventsError, match="what to do"):
        suggest(tmp_path / "missing.parquet")
    with pytest.raises(EventsError, match="what to do"):
        suggest(tmp_path)
    for content in (b"", b"PAR1", b"a,b\n1,2\n"):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(EventsError, match=r"a\.parquet.*what to do"):
            suggest(tmp_path)
    write(tmp_path / "a.parquet", {"a": pa.array([], pa.int64())})
    with pytest.raises(EventsError, match="no rows to look at"):
        suggest(tmp_path)
