"""Rows that are decided on the rows already there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from hbpipe.data.journal import extend
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError

SCHEMA = pa.schema([("number", pa.int64()), ("word", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path))
    lake.create("words", SCHEMA)
    return lake


def say(lake: Lake, word: str) -> int:
    def decide(present: pa.Table) -> pa.Table:
        return pa.table({"number": [present.num_rows + 1], "word": [word]})

    return extend(lake, "words", decide, run_id="run")


def test_rows_join_in_their_order_and_the_table_stays_one_file(lake: Lake) -> None:
    for word in ("one", "two", "three"):
        say(lake, word)
    assert lake.read("words").to_pylist() == [
        {"number": k, "word": word} for k, word in enumerate(("one", "two", "three"), start=1)
    ]
    assert len(lake.files("words")) == 1
    assert lake.history("words", 1)[0]["metadata"]["run_id"] == "run"


def test_writers_that_race_each_decide_on_what_the_others_wrote(lake: Lake) -> None:
    barrier = threading.Barrier(6)

    def run(word: str) -> None:
        barrier.wait()
        say(lake, word)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, "abcdef"))
    found = lake.read("words")
    assert found["number"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert sorted(found["word"].to_pylist()) == list("abcdef")


def test_nothing_to_append_is_no_commit(lake: Lake) -> None:
    before = lake.version("words")
    assert extend(lake, "words", lambda _: None, run_id="run") == before
    assert lake.version("words") == before


def test_what_the_decision_raises_ends_it(lake: Lake) -> None:
    def refuse(_: pa.Table) -> pa.Table:
        raise LakeError("not like this")

    with pytest.raises(LakeError, match="not like this"):
        extend(lake, "words", refuse, run_id="run")
    assert lake.read("words").num_rows == 0
