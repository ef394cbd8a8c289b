"""Which releases are stale, and why: told from fingerprints, so a repair ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.config import Settings
from hbpipe.data.clock import to_number
from hbpipe.report.status import describe_status, status_text
from hbpipe.run import fingerprints
from hbpipe.run.describe import describe_plan
from hbpipe.run.engine import SerialEngine
from hbpipe.run.ledger import read_days
from hbpipe.run.plan import make_plan
from hbpipe.run.releases import releases
from hbpipe.run.stale import StaleRelease, affected, stale_releases, summary
from tests.nights import (
    CONVERSION,
    NOW,
    day,
    first_night,
    lake_of,
    night,
    settings_for,
    visits,
    write,
    write_days,
)

INFERENCE = {"window": "3d", "uncertainty": "plug_in"}


def stale(settings: Settings) -> list[StaleRelease]:
    lake = lake_of(settings)
    return stale_releases(lake, settings, read_days(lake))


def nights(folder: Path, **sections: Any) -> Settings:
    """Six days of events, and releases of the last four."""
    write_days(folder, 6)
    settings = settings_for(folder, inference=INFERENCE, **sections)
    for number in range(2, 6):
        night(settings, as_of=day(number))
    return settings


def test_a_late_file_makes_stale_what_its_day_is_in(tmp_path: Path) -> None:
    settings = nights(tmp_path)
    assert stale(settings) == []
    write(tmp_path / "events" / "late.parquet", visits(3, rows=25, seed=8))
    plan = make_plan(settings, lake_of(settings), SerialEngine(), now=NOW)
    assert [one.day for one in plan.days] == [to_number(day(3))]
    assert describe_plan(plan, lake_of(settings))["affects"] == [str(day(3)), str(day(4))]
    assert stale(settings) == [], "until a night has read the file nothing is known of its rows"

    report = night(settings)
    assert report.release == f"{day(5)}.2"
    assert [one["release"] for one in report.stale] == [f"{day(3)}.1", f"{day(4)}.1"]
    assert any(
        "2 release(s) of other as-of days are stale now (2026-01-04.1, 2026-01-05.1)" in note
        for note in report.notes
    )
    reason = f"1 of its days changed since: {day(3)}"
    expected = [StaleRelease(f"{day(k)}.1", day(k), "input", reason, (day(3),)) for k in (3, 4)]
    assert stale(settings) == expected
    found = describe_status(lake_of(settings), settings)
    assert [one["release"] for one in found["stale"]] == [f"{day(3)}.1", f"{day(4)}.1"]
    assert f"stale {day(3)}.1: {reason}" in status_text(found)

    night(settings, as_of=day(3))
    assert [one.release for one in stale(settings)] == [f"{day(4)}.1"]
    assert night(settings, as_of=day(4)).stale == [], "what was stale before is not told again"
    assert stale(settings) == []


def test_settings_code_and_stores_are_counted_and_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "stores.parquet"
    listed = {"chain_id": ["near"], "store_id": ["s0"]}
    pq.write_table(pa.table(listed), table)
    settings = nights(tmp_path, stores={"path": str(table)})
    assert stale(settings) == []

    longer = settings_for(tmp_path, inference={**INFERENCE, "quantiles": [0.1, 0.9]})
    longer = longer.model_copy(update={"stores": settings.stores})
    assert {one.kind for one in stale(longer)} == {"settings"}
    assert summary(stale(longer)) == [
        f"4 release(s) of {day(2)} to {day(5)}: inference settings changed since"
    ]
    assert describe_status(lake_of(longer), longer)["stale"] == []

    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "MODEL_VERSION", -1)
        assert [one.kind for one in stale(settings)] == ["code"] * 4

    pq.write_table(pa.table({"chain_id": ["near", "far"], "store_id": ["s0", "s9"]}), table)
    assert [one.kind for one in stale(settings)] == ["stores"] * 4
    write(tmp_path / "events" / "late.parquet", visits(2, rows=5, seed=8))
    night(settings, as_of=day(2))
    assert [(one.as_of, one.kind) for one in stale(settings)] == [
        (day(3), "input"),
        (day(4), "input"),
        (day(5), "stores"),
    ], "a new table of stores does not hide which days changed"


@pytest.mark.parametrize(
    ("window", "days", "touched"),
    [
        ("3d", [0], [2]),
        ("3d", [3], [3, 4, 5]),
        ("3d", [1, 5], [2, 3, 5]),
        ("all", [0], [2, 3, 4, 5]),
        ("all", [4, 5], [4, 5]),
        ("3d", [], []),
        ("3d", [9], []),
    ],
)
def test_the_window_tells_which_releases_a_day_touches(
    window: str, days: list[int], touched: list[int], tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, inference={"window": window})
    rows = [{"as_of": day(k)} for k in (2, 3, 4, 5)]
    numbers = [to_number(day(k)) for k in days]
    assert affected(rows, settings, numbers) == tuple(day(k) for k in touched)


def test_a_count_of_days_since_first_seen_rests_on_all_history(tmp_path: Path) -> None:
    orders = {"family": "gamma_poisson", "count": "converted", "exposure": "days"}
    settings = settings_for(
        tmp_path, metrics={**CONVERSION, "orders": orders}, inference={"window": "2d"}
    )
    rows = [{"as_of": day(k)} for k in (2, 9)]
    assert affected(rows, settings, [to_number(day(1))]) == (day(2), day(9))


def test_only_the_newest_release_of_a_day_can_be_stale(tmp_path: Path) -> None:
    settings = first_night(tmp_path, 2, inference=INFERENCE)
    write(tmp_path / "events" / "late.parquet", visits(1, rows=5, seed=8))
    night(settings)
    assert len(releases(lake_of(settings), "prod")) == 2
    assert stale(settings) == []
