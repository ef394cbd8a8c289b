"""What readers see while a vacuum deletes in another process, and what freshness says of it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.run.promotion import promote
from hbpipe.run.releases import RELEASED, current_release, read
from tests.interrupted import command
from tests.nights import FIRST, day, lake_of, night, rows_of, settings_for, write_config, write_days
from tests.watching import watching

INFERENCE = {"window": "2d", "uncertainty": "plug_in"}

Sight = tuple[str, dict[str, list[str]]]


def seen(lake: Lake, environment: str) -> Sight:
    """The release that readers see, and every table of it."""
    row = current_release(lake, environment)
    assert row is not None
    name = row["release"]
    return name, {table: rows_of(read(lake, table, release=name)) for table in RELEASED}


def test_a_vacuum_is_never_seen(tmp_path: Path) -> None:
    """Two of four releases are seen, by one environment each; the others go with their files."""
    for number in range(4):
        write_days(tmp_path, 1, first=number)
        night(settings_for(tmp_path, inference=INFERENCE))
    lake = lake_of(settings_for(tmp_path))
    promote(lake, f"{day(0)}.1", to="staging", reason="to look at", create=True)
    config = write_config(tmp_path, inference=INFERENCE, retention={"releases": {"keep_last": 1}})
    files = len(list(Path(lake.uri).rglob("*")))
    vacuum = ("vacuum", "--config", str(config), "--keep-hours", "0", "--json")
    with ExitStack() as readers:
        sights = {
            name: readers.enter_context(watching(partial(seen, lake, name)))
            for name in ("prod", "staging")
        }
        # The first ends releases, whose files have a grace; the second finds it over.
        for releases in (2, 0):
            with command(*vacuum) as done:
                assert done.wait() == 0, done.said()
                assert len(json.loads(done.said())["releases"]["expired"]) == releases
    assert {name: [sight[0] for sight in story] for name, story in sights.items()} == {
        "prod": [f"{day(3)}.1"],
        "staging": [f"{day(0)}.1"],
    }
    assert len(list(Path(lake.uri).rglob("*"))) < files
    with pytest.raises(LakeError, match=rf"release {day(1)}.1 expired on"):
        read(lake, "posteriors", release=f"{day(1)}.1")


def test_freshness_is_that_of_what_readers_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the real clock; a day that ended within two days is fresh, whenever the test runs."""
    yesterday = (datetime.now(UTC).date() - FIRST).days - 1
    config = str(write_config(tmp_path, inference=INFERENCE))

    def late(*options: str) -> Any:
        """The state of the own environment, which the exit code tells too."""
        code = main(["freshness", "--config", config, "--max-age", "2d", "--json", *options])
        found = json.loads(capsys.readouterr().out)
        assert code == (5 if found["late"] else 0)
        return found["late"], found["environments"][0]["as_of"]

    def done(verb: str, *options: str) -> None:
        assert main([verb, "--config", config, "--json", *options]) == 0
        capsys.readouterr()

    assert late() == (True, None), "nothing is published yet"
    write_days(tmp_path, 1, first=yesterday - 3)
    done("run")
    assert late() == (True, str(day(yesterday - 3)))
    write_days(tmp_path, 1, first=yesterday)
    done("run")
    assert late() == (False, str(day(yesterday)))
    done("rollback", "--reason", "yesterday is wrong")
    assert late() == (True, str(day(yesterday - 3))), "readers are pinned to an old day"
    done("promote", f"{day(yesterday)}.1", "--to", "prod", "--reason", "it is right")
    assert late() == (False, str(day(yesterday)))
