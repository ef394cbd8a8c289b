"""Promote and rollback: what readers see after each, and after the nights that follow."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, HbpipeError, LakeError
from hbpipe.run import history, promotion
from hbpipe.run.history import read_history
from hbpipe.run.pointers import whoami
from hbpipe.run.promotion import promote, rollback
from hbpipe.run.releases import current_release, latest_release, read
from tests.nights import day
from tests.published import empty_lake, publish, word

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Releases of three days."""
    lake = empty_lake(tmp_path)
    for number in range(3):
        publish(lake, day(number), f"day {number}")
    return lake


def test_a_rollback_pins_readers_until_the_next_promote(lake: Lake) -> None:
    move = rollback(lake, "prod", reason="wrong prices", now=AT)
    assert (move.before["release"], move.after["release"]) == (f"{day(2)}.1", f"{day(1)}.1")
    assert "moves back by 1 day" in move.text()
    assert word(lake) == "day 1"
    publish(lake, day(3), "unseen")
    publish(lake, day(1), "unseen too")
    assert word(lake) == "day 1"
    assert word(lake, release=f"{day(3)}.1") == "unseen"
    assert word(lake, as_of=day(1)) == "unseen too", "asked by its day it is there"
    promote(lake, f"{day(3)}.1", to="prod", reason="mended")
    assert word(lake) == "unseen"
    publish(lake, day(4), "after")
    assert word(lake) == "after"


def test_a_pointer_says_who_when_and_why(lake: Lake) -> None:
    rollback(lake, "prod", reason="wrong prices", now=AT)
    (row,) = read(lake, "pointers").to_pylist()
    assert row == {
        "number": 1,
        "environment": "prod",
        "release": f"{day(1)}.1",
        "action": "rollback",
        "pinned": True,
        "at": AT,
        "by": whoami(),
        "reason": "wrong prices",
        "replaces": f"{day(2)}.1",
        "published": 3,
    }
    assert read(lake, "pointers", columns=["by"]).column_names == ["by"]


def test_a_lake_without_pointers_reads_as_none(lake: Lake) -> None:
    assert read(lake, "pointers").num_rows == 0
    assert lake.version("pointers") is None, "reading writes nothing"


def test_a_promoted_release_is_seen_until_a_later_day_is_published(lake: Lake) -> None:
    publish(lake, day(5), "of dev", environment="dev")
    move = promote(lake, f"{day(5)}.1", to="prod", reason="tried in dev")
    assert move.recorded
    assert word(lake) == "of dev"
    publish(lake, day(4), "older")
    assert word(lake) == "of dev", "an as-of day never moves backward by itself"
    publish(lake, day(5), "the same day again")
    assert word(lake) == "the same day again"
    assert word(lake, environment="dev") == "of dev"


def test_a_promoted_older_release_stays_until_something_is_published(lake: Lake) -> None:
    promote(lake, f"{day(0)}.1", to="prod", reason="start again")
    assert word(lake) == "day 0", "what was published before the promote does not come back"
    publish(lake, day(1), "day 1 again")
    assert word(lake) == "day 1 again"


def test_a_promoted_release_belongs_to_the_environment(lake: Lake) -> None:
    name = publish(lake, day(4), "of dev", environment="dev")
    promote(lake, "current", source="dev", to="prod", reason="tried")
    assert word(lake, release=name) == "of dev"
    found = latest_release(lake, "prod", day(4))
    assert found is not None
    assert found["release"] == name
    publish(lake, day(5), "day 5")
    rollback(lake, "prod", reason="back to it")
    assert word(lake) == "of dev"


def test_a_release_that_was_rolled_back_from_does_not_come_back_unasked(lake: Lake) -> None:
    rollback(lake, "prod", reason="day 2 is wrong")
    publish(lake, day(3), "day 3")
    promote(lake, f"{day(3)}.1", to="prod", reason="mended")
    rollback(lake, "prod", reason="day 3 is wrong too")
    assert word(lake) == "day 1"
    rollback(lake, "prod", reason="further")
    assert word(lake) == "day 0"
    with pytest.raises(LakeError, match="no previous release in environment 'prod'"):
        rollback(lake, "prod", reason="further still")


def test_a_rollback_to_the_current_release_pins_it(lake: Lake) -> None:
    assert rollback(lake, "prod", "current", reason="hold still").recorded
    publish(lake, day(3), "day 3")
    assert word(lake) == "day 2"
    again = rollback(lake, "prod", f"{day(2)}.1", reason="hold still")
    assert not again.changes
    assert not again.recorded
    assert "Nothing changes" in again.text()
    loose = promote(lake, f"{day(2)}.1", to="prod", reason="go on")
    assert f"The pin of {whoami()}" in loose.text()
    assert loose.to_dict()["unpinned"] is True
    publish(lake, day(3), "day 3 again")
    assert word(lake) == "day 3 again"
    assert not promote(lake, "current", source="prod", to="prod", reason="twice").recorded


def test_a_dry_run_records_nothing(lake: Lake) -> None:
    move = rollback(lake, "prod", reason="look", dry_run=True)
    assert move.to_dict() == {
        "environment": "prod",
        "action": "rollback",
        "from": {
            "release": f"{day(2)}.1",
            "as_of": str(day(2)),
            "released_at": "2026-02-01T00:00:00+00:00",
            "published_in": "prod",
        },
        "to": {
            "release": f"{day(1)}.1",
            "as_of": str(day(1)),
            "released_at": "2026-02-01T00:00:00+00:00",
            "published_in": "prod",
        },
        "pinned": True,
        "unpinned": False,
        "changes": True,
        "recorded": False,
    }
    assert "dry run" in move.text()
    assert word(lake) == "day 2"
    assert lake.version("pointers") is None


def test_a_first_release_by_promotion(lake: Lake) -> None:
    move = promote(lake, f"{day(1)}.1", to="shadow", reason="begin")
    assert move.before is None
    assert "Readers of shadow: no release → " in move.text()
    assert word(lake, environment="shadow") == "day 1"
    publish(lake, day(3), "of prod")
    assert word(lake, environment="shadow") == "day 1"


OLD = f"{day(1)}.1"


@pytest.mark.parametrize(
    ("action", "kind", "message"),
    [
        (partial(promote, name=f"{day(2)}.2", to="prod"), LakeError, f"mean '{day(2)}.1'"),
        (partial(promote, name="nothing", to="prod"), LakeError, f"newest is '{day(2)}.1'"),
        (partial(promote, name="current", to="prod"), LakeError, "no release 'current'"),
        (partial(promote, name=OLD, to="prd"), LakeError, "mean 'prod'.*--create"),
        (partial(promote, name=OLD, to="Prod"), ConfigError, "no name of an environment"),
        (partial(promote, name=OLD, to="prod", source="dve"), LakeError, "'dve'; known: prod"),
        (partial(promote, name=OLD, to="prod", reason=" "), ConfigError, "--reason"),
        (partial(rollback, environment="prot"), LakeError, "mean 'prod'"),
        (partial(rollback, environment="prod", name=f"{day(8)}.1"), LakeError, "no release '2026"),
        (partial(rollback, environment="prod", reason=""), ConfigError, "--reason"),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(
    lake: Lake, action: partial[Any], kind: type[HbpipeError], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        action(lake, **{"reason": "x", **action.keywords})
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert lake.version("pointers") is None


def test_a_name_near_another_can_be_a_new_environment(lake: Lake) -> None:
    promote(lake, f"{day(1)}.1", to="preprod", create=True, reason="begin")
    assert word(lake, environment="preprod") == "day 1"


def test_readers_are_not_pointed_to_files_that_have_gone(lake: Lake) -> None:
    schema = pa.schema([("as_of", pa.date32()), ("mean", pa.float64())])
    lake.create("posteriors", schema, ["as_of"])
    rows = pa.table({"mean": [0.5]})
    lake.replace("posteriors", rows, run_id="run", partition={"as_of": str(day(5))})
    row = read_history(lake).releases[0]
    (file,) = lake.files("posteriors")
    Path(lake.path("posteriors", file.path)).unlink()
    gone = {**row, "as_of": day(5), "versions": [("posteriors", lake.version("posteriors"))]}
    with pytest.raises(LakeError, match=r"1 file\(s\) of the release .* are not there"):
        promotion.require_readable(lake, gone)


def test_a_pointer_to_nothing_is_an_error_and_not_another_release(lake: Lake) -> None:
    rollback(lake, "prod", reason="x")
    seen = read_history(lake)
    cut = replace(seen, releases=seen.releases[2:])
    with pytest.raises(LakeError, match=f"pointer 1 of 'prod' names the release '{day(1)}.1'"):
        cut.current("prod")


def test_a_promote_is_the_way_out_of_a_pointer_to_nothing(lake: Lake) -> None:
    rollback(lake, "prod", reason="x")
    lake.replace("releases", lake.read("releases").slice(2), run_id="somebody")
    with pytest.raises(LakeError, match="what to do: promote another release"):
        word(lake)
    move = promote(lake, f"{day(2)}.1", to="prod", reason="that one is lost")
    assert move.before is None
    assert word(lake) == "day 2"


def test_a_promoted_release_may_expire_once_a_later_one_is_seen(lake: Lake) -> None:
    promote(lake, publish(lake, day(4), environment="dev"), to="prod", reason="x")
    publish(lake, day(5), "day 5")
    kept = lake.read("releases")
    lake.replace("releases", kept.slice(kept.num_rows - 1), run_id="retention")
    assert word(lake) == "day 5"


# --- races --------------------------------------------------------------------------------------


def test_of_many_who_promote_at_once_no_pointer_is_lost(lake: Lake) -> None:
    names = [publish(lake, day(k), f"dev {k}", environment="dev") for k in range(6, 12)]
    barrier = threading.Barrier(len(names))

    def run(name: str) -> None:
        barrier.wait()
        promote(lake, name, to="prod", reason=name)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(run, names))
    pointers = read(lake, "pointers").to_pylist()
    assert [row["number"] for row in pointers] == list(range(1, len(names) + 1))
    assert {row["release"] for row in pointers} == set(names)
    # Each replaced exactly what the one before it had shown.
    assert [row["replaces"] for row in pointers[1:]] == [row["release"] for row in pointers[:-1]]
    current = current_release(lake, "prod")
    assert current is not None
    assert current["release"] == pointers[-1]["release"]


def test_two_who_roll_back_at_once_do_not_go_back_twice(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = promotion.append_pointer

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(promotion, "append_pointer", append)
        rollback(lake, "prod", reason="the faster one")
        return append(*arguments)

    monkeypatch.setattr(promotion, "append_pointer", overtaken)
    with pytest.raises(LakeError, match=f"moved from {day(2)}.1 to {day(1)}.1 meanwhile"):
        rollback(lake, "prod", reason="the slower one")
    assert word(lake) == "day 1"
    assert read(lake, "pointers")["reason"].to_pylist() == ["the faster one"]


def test_a_night_that_publishes_while_somebody_rolls_back_stays_unseen(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a reader's look at pointers and at releases both a pin and a night land."""
    read_releases, left = history.read_releases, [1]

    def slowly(*arguments: Any) -> Any:
        if left:
            left.pop()
            rollback(lake, "prod", reason="wrong prices")
            publish(lake, day(3), "never seen")
        return read_releases(*arguments)

    monkeypatch.setattr(history, "read_releases", slowly)
    assert word(lake) == "day 1"


def test_a_night_that_publishes_during_a_promote_counts_as_after_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = publish(lake, day(5), "of dev", environment="dev")
    append = promotion.append_pointer

    def overtaken(target: Lake, decide: Any) -> Any:
        def slowly(pointers: Any) -> Any:
            pointer = decide(pointers)
            publish(lake, day(6), "the night")
            return pointer

        return append(target, slowly)

    monkeypatch.setattr(promotion, "append_pointer", overtaken)
    promote(lake, name, to="prod", reason="x")
    assert word(lake) == "the night"


# --- the past -----------------------------------------------------------------------------------


def test_what_was_believed_then_knows_the_pointers_of_then(tmp_path: Path) -> None:
    lake = empty_lake(tmp_path)

    def at(number: int, hour: int = 4) -> datetime:
        return datetime(2026, 1, number, hour, tzinfo=UTC)

    for number in range(3):
        publish(lake, day(number), f"day {number}", at=at(number + 2))
    rollback(lake, "prod", reason="day 2 is wrong", now=at(4, 9))
    publish(lake, day(3), "day 3", at=at(5))
    promote(lake, f"{day(3)}.1", to="prod", reason="mended", now=at(5, 9))
    believed = {
        (2, 5): "day 0",
        (4, 4): "day 1",  # before means before
        (4, 5): "day 2",
        (4, 10): "day 1",
        (5, 5): "day 1",  # day 3 was there, and unseen
        (5, 10): "day 3",
    }
    assert {moment: word(lake, published_before=at(*moment)) for moment in believed} == believed
