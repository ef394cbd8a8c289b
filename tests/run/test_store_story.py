"""A store's story: what a release says of it, in numbers and in words."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from hbpipe.errors import ConfigError, LakeError
from hbpipe.report.store_story import store_text
from hbpipe.run.history import read_history
from hbpipe.run.store_story import StoreStory, explain_store
from tests.nights import (
    BOTH,
    day,
    first_night,
    lake_of,
    night,
    settings_for,
    write,
    write_config,
    write_days,
)
from tests.verbs import verbs_of

LEVELS = ("chain_id", "store_id")
NOON = datetime(2026, 1, 1, 12)
INFERENCE = {"window": "7d", "uncertainty": "auto"}


def stories(folder: Path, store: str, *, nights: int = 2) -> list[StoreStory]:
    settings = first_night(folder, 3, metrics=BOTH, inference=INFERENCE)
    if nights > 1:
        write_days(folder, 1, first=3)
        night(settings)
    lake = lake_of(settings)
    history = read_history(lake)
    release = history.find("prod", "current")
    return explain_store(lake, release, history.preceding("prod", release), LEVELS, store)


def test_the_numbers_are_those_of_the_release(tmp_path: Path) -> None:
    [story] = stories(tmp_path, "s0")
    assert (story.levels, story.as_of) == ({"chain_id": "near", "store_id": "s0"}, str(day(3)))
    assert story.previous == f"{day(2)}.1"
    assert [one.metric for one in story.metrics] == ["basket", "conversion"]
    conversion = story.metrics[1]
    assert conversion.posterior.coverage == 0.9
    assert conversion.posterior.low == conversion.row["q0.05"]
    assert conversion.before is not None
    assert conversion.before["n"] < conversion.row["n"]
    assert conversion.stores == 4
    assert conversion.new_store is not None
    assert json.loads(json.dumps(story.to_dict(), default=str))["metrics"][1]["before"]["n"]


def test_the_story_is_told_in_words(tmp_path: Path) -> None:
    [story] = stories(tmp_path, "s0")
    text = store_text(story)
    row = story.metrics[1].row
    assert text.startswith(f"store_id s0, chain_id near, as of {day(3)} (release {day(3)}.1)")
    assert f"Its own events say {row['raw']:.5g}, from n = {row['n']}." in text
    assert "Its pool near, learnt from 4 stores, expects" in text
    assert f"Weighed: {100 * row['weight']:.3g} % its own events" in text
    assert f"Both together say {row['mean']:.5g}: {row['q0.05']:.5g} to {row['q0.95']:.5g}" in text
    assert f"Since release {day(2)}.1 it went from" in text


def test_a_first_release_has_nothing_to_compare(tmp_path: Path) -> None:
    [story] = stories(tmp_path, "s0", nights=1)
    assert story.previous is None
    assert "Since release" not in store_text(story)


def test_one_id_in_two_chains_is_two_stores(tmp_path: Path) -> None:
    rows = [
        {"event_id": f"{chain}{k}", "ts": NOON, "chain_id": chain, "store_id": 7, "converted": True}
        for chain in ("a", "b")
        for k in range(3)
    ]
    write(tmp_path / "events" / "day.parquet", rows)
    settings = settings_for(tmp_path)
    night(settings)
    lake = lake_of(settings)
    release = read_history(lake).find("prod", "current")
    found = explain_store(lake, release, None, LEVELS, "7")
    assert [story.levels["chain_id"] for story in found] == ["a", "b"]
    with pytest.raises(ConfigError, match="the id 'seven'; expected: store_id, int64"):
        explain_store(lake, release, None, LEVELS, "seven")


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"no store 's99' in release 2026-01-03.1"):
        stories(tmp_path, "s99", nights=1)


def test_the_verb_tells_days_from_stores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_night(tmp_path, 3)
    run = verbs_of(write_config(tmp_path), capsys)
    assert run("explain", "s1")[1].startswith("store_id s1, chain_id near")
    assert run("explain", str(day(1)))[1].startswith(f"{day(1)}: complete")
    code, _, err = run("explain", "--store", str(day(1)))
    assert (code, "no store '2026-01-02'" in err) == (1, True)
    assert run("explain")[0] == run("explain", "s1", "--store", "s1")[0] == 2
    assert run("explain", str(day(1)), "--release", "current")[0] == 2
    [story] = json.loads(run("explain", "s1", "--json")[1])["stores"]
    assert story["levels"] == {"chain_id": "near", "store_id": "s1"}
