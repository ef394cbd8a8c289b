"""A release is promoted while upkeep ends it: it stays whole, or nobody is pointed to it.

Each test lets the promote decide, or land, at one moment of the upkeep, and looks at what readers
see after everything that nothing needs has been deleted.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.run import keeping, promotion
from hbpipe.run.forget import forget
from hbpipe.run.history import read_releases
from hbpipe.run.promotion import promote
from hbpipe.run.releases import RELEASED, read
from hbpipe.run.retention import maintain
from tests.nights import day, lake_of, night, rows_of, settings_for, visits, write, write_days

OLD, NEW = f"{day(0)}.1", f"{day(1)}.1"
LATER = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    for number in range(2):
        write_days(folder, 1, first=number)
        night(settings_for(folder))
    return folder


@pytest.fixture
def settings(nights: Path, tmp_path: Path) -> Settings:
    """Two releases, of which retention keeps one."""
    shutil.copytree(nights, tmp_path, dirs_exist_ok=True)
    return settings_for(tmp_path, retention={"releases": {"keep_last": 1}})


def upkeep(settings: Settings) -> list[str]:
    """Expire, and delete at once what nothing needs; returns the releases that went."""
    gone = maintain(settings, now=LATER, keep_hours=0).releases
    maintain(settings, now=LATER + timedelta(days=1), keep_hours=0)
    return [one["release"] for one in gone]


def shown(lake: Lake, **of: Any) -> dict[str, list[str]]:
    return {table: rows_of(read(lake, table, **of)) for table in RELEASED}


def at(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, do: Callable[[], Any]) -> None:
    """Do something once, just before a function is called."""
    function = getattr(place, name)

    def first(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(place, name, function)
        do()
        return function(*arguments, **options)

    monkeypatch.setattr(place, name, first)


def promoted(lake: Lake) -> None:
    promote(lake, OLD, to="shadow", reason="to compare with")


def test_what_is_promoted_before_upkeep_begins_stays_whole(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(settings)
    whole = shown(lake, release=OLD)
    at(monkeypatch, keeping, "rewrite_releases", lambda: promoted(lake))
    assert upkeep(settings) == []
    assert shown(lake, environment="shadow") == whole
    assert [row["expiring_since"] for row in read_releases(lake)] == [None, None]


def test_what_was_decided_before_and_lands_while_upkeep_looks_stays_whole(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(settings)
    whole, decided, land = shown(lake, release=OLD), threading.Event(), threading.Event()

    def waits() -> None:
        decided.set()
        assert land.wait(timeout=60)

    after_decision(monkeypatch, waits)
    with ThreadPoolExecutor(1) as pool:
        move = pool.submit(promoted, lake)
        assert decided.wait(timeout=60)

        def lands() -> None:
            land.set()
            move.result(timeout=60)

        at(monkeypatch, keeping, "outdate", lands)
        assert upkeep(settings) == []
    assert shown(lake, environment="shadow") == whole
    assert [row["expiring_since"] for row in read_releases(lake)] == [None, None]


def test_what_was_decided_before_and_would_land_after_is_decided_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(settings)
    seen, gone = shown(lake), list[str]()
    after_decision(monkeypatch, lambda: gone.extend(upkeep(settings)))
    with pytest.raises(LakeError, match=rf"release {OLD} expired on .*backfill --start"):
        promoted(lake)
    assert gone == [OLD]
    assert read(lake, "pointers").num_rows == 0
    assert shown(lake) == seen


def test_what_is_about_to_expire_is_refused_and_still_readable(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(settings)
    whole = shown(lake, release=OLD)

    def asks() -> None:
        with pytest.raises(LakeError, match=rf"release {OLD} is about to expire"):
            promoted(lake)
        assert shown(lake, release=OLD) == whole

    at(monkeypatch, keeping, "outdate", asks)
    assert upkeep(settings) == [OLD]


def test_an_upkeep_that_is_cut_off_is_ended_by_the_next(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(settings)
    whole = shown(lake, release=OLD)
    at(monkeypatch, keeping, "outdate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        upkeep(settings)
    assert shown(lake, release=OLD) == whole
    assert upkeep(settings_for(tmp_path)) == [OLD], "whatever retention says by now"


def interrupted() -> None:
    raise KeyboardInterrupt


def test_a_store_is_not_forgotten_behind_the_back_of_readers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first release of the second day has been replaced; just then it is promoted."""
    write(tmp_path / "events" / "late.parquet", visits(1, seed=1))
    night(settings)
    lake = lake_of(settings)
    whole = shown(lake, release=NEW)
    move = partial(promote, lake, to="shadow", reason="to compare with")
    at(monkeypatch, keeping, "rewrite_releases", partial(move, NEW))
    with pytest.raises(LakeError, match=rf"pointed to release {NEW} meanwhile"):
        forget(settings, "s4", reason="asked")
    assert shown(lake, environment="shadow") == whole
    move(f"{day(1)}.2")
    assert forget(settings, "s4", reason="asked").traces == ()
    assert "s4" not in read(lake, "posteriors", environment="shadow")["store_id"].to_pylist()


def after_decision(monkeypatch: pytest.MonkeyPatch, do: Callable[[], Any]) -> None:
    """Do something once, when a promote has decided and its pointer has not landed."""
    append = promotion.append_pointer

    def appending(lake: Lake, decide: Callable[[Any], Any]) -> Any:
        left = [do]

        def decided(pointers: Any) -> Any:
            pointer = decide(pointers)
            if left:
                left.pop()()
            return pointer

        return append(lake, decided)

    monkeypatch.setattr(promotion, "append_pointer", appending)
