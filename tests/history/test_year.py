"""A year of 2,000 stores backfilled, killed three times on the way, against an undisturbed twin.

The disturbed one measures the newest days first, the twin in the order of time; both must end with
the same tables, and with one release for each day.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from hbpipe.cli import main
from hbpipe.config import load_settings
from hbpipe.data.lake import Lake
from hbpipe.run.night import open_lake
from hbpipe.run.releases import releases
from hbpipe.run.verification.verify import verify
from tests.interrupted import Moment, killed

pytestmark = pytest.mark.history

FIRST, DAYS, STORES = date(2025, 7, 1), 365, 2000
LAST = FIRST + timedelta(days=DAYS - 1)
RANGE = ["--start", str(FIRST), "--end", str(LAST), "--yes", "--quiet"]
#: Columns that tell of the run and not of the events.
OF_THE_RUN = {"run_id", "processed_at", "modified_ns", "statistics_version"}
KEYS = {
    "statistics": ["day", "metric", "chain_id", "store_id"],
    "posteriors": ["as_of", "metric", "chain_id", "store_id", "term"],
    "hyperparameters": ["as_of", "metric", "pool", "parameter"],
    "fits": ["as_of", "metric", "pool"],
    "days": ["day"],
    "files": ["path"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated events: for each day about two visits of a store, some delivered a day late."""
    folder = tmp_path_factory.mktemp("year")
    simulated = ["simulate", str(folder), "--first-day", str(FIRST), "--days", str(DAYS)]
    size = ["--stores", str(STORES), "--chains", "20", "--events-per-day", str(2 * STORES)]
    assert main([*simulated, *size, "--late", "0.002", "--quiet"]) == 0
    return folder


def config(folder: Path, lake: str) -> Path:
    settings = {
        "pipeline": "year",
        "events": {
            "path": str(folder / "events"),
            "time": "ts",
            "levels": ["chain_id", "store_id"],
            "event_id": "event_id",
        },
        "metrics": {
            "conversion": {"family": "beta_binomial", "successes": "converted", "trials": "rows"}
        },
        "inference": {"window": "28d", "uncertainty": "first_order"},
        "lake": {"path": str(folder / lake)},
    }
    path = folder / f"{lake}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def contents(lake: Lake, name: str) -> pa.Table:
    table = lake.read(name)
    kept = [column for column in table.column_names if column not in OF_THE_RUN]
    return table.select(kept).sort_by([(key, "ascending") for key in KEYS[name]]).combine_chunks()


def test_a_year_killed_three_times_is_that_of_its_undisturbed_twin(folder: Path) -> None:
    disturbed, twin = config(folder, "disturbed"), config(folder, "twin")
    newest_first = ("backfill", "--config", str(disturbed), *RANGE, "--newest-first")
    # The first while statistics are committed, the others while nights are released.
    for commits in (20, 150, 1000):
        killed(Moment(commits), *newest_first, timeout_s=3600)
    assert main([*newest_first]) == 0
    assert main(["backfill", "--config", str(twin), *RANGE]) == 0

    settings = load_settings(disturbed)
    lake, other = open_lake(settings), open_lake(load_settings(twin))
    once = [f"{FIRST + timedelta(days=number)}.1" for number in range(DAYS)]
    assert sorted(row["release"] for row in releases(lake, "prod")) == once
    assert sorted(row["release"] for row in releases(other, "prod")) == once
    for name in KEYS:
        assert contents(lake, name).equals(contents(other, name)), name
    assert all(one.fine for one in verify(settings, lake, full=True, sample=5))
    assert main(["backfill", "--config", str(disturbed), *RANGE, "--dry-run"]) == 0
