"""Nights that are watched: by a pipeline's settings, through every way in which one ends."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hbpipe.errors import GateError, LateError
from hbpipe.observe import observers_of
from hbpipe.report.night import NightReport
from hbpipe.run.lease import Lease
from hbpipe.run.observe import Opening
from tests.nights import day, lake_of, night, settings_for, visits, write, write_days


def watched_night(folder: Path, **sections: Any) -> NightReport:
    """Run a night of two days, watched as the settings say."""
    if not (folder / "events").exists():
        write_days(folder, 2)
    settings = settings_for(folder, **sections)
    return night(settings, observer=observers_of(settings))


def held_night(folder: Path, **sections: Any) -> GateError:
    """Run a night whose newest day fails the data gate."""
    rows = [{**row, "chain_id": None} for row in visits(2)[:20]] + visits(2)[20:]
    write(folder / "events" / f"{day(2)}.parquet", rows)
    settings = settings_for(folder, **sections)
    with pytest.raises(GateError) as caught:
        night(settings, observer=observers_of(settings))
    return caught.value


def late_night(folder: Path, **sections: Any) -> LateError:
    """Run a night of a day that has no events yet."""
    settings = settings_for(folder, **sections)
    with pytest.raises(LateError) as caught:
        night(settings, observer=observers_of(settings), as_of=day(9))
    return caught.value


def ended(
    folder: Path, error: BaseException | None, *, kind: str = "night", **sections: Any
) -> None:
    """End a run that never had a plan."""
    watch = observers_of(settings_for(folder, **sections))
    watch.run_opened(Opening("20260201T030000-one", "tiny", "prod", datetime.now(UTC), kind))
    watch.run_ended(error)


def warned_night(folder: Path, **sections: Any) -> NightReport:
    """Run a night on which a check warns: most days of its window have no events."""
    write(folder / "events" / f"{day(0)}.parquet", visits(0))
    write(folder / "events" / f"{day(6)}.parquet", visits(6))
    settings = settings_for(folder, **sections)
    return night(settings, observer=observers_of(settings))


def refused_night(folder: Path, **sections: Any) -> None:
    """Run a night while another run holds the lease."""
    settings = settings_for(folder, **sections)
    with (
        Lease(lake_of(settings)).acquire(run_id="another"),
        pytest.raises(Exception, match="lease"),
    ):
        night(settings, observer=observers_of(settings))
