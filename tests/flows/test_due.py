"""Which day a scheduled run works for, whatever the hour at which it starts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import due
from tests.nights import settings_for


@pytest.mark.parametrize(
    ("complete_after", "expected"),
    [("0h", date(2026, 1, 27)), ("4h", date(2026, 1, 27)), ("6h", date(2026, 1, 26))],
)
def test_a_scheduled_run_leaves_a_day_that_is_awaited_to_the_next(
    complete_after: str, expected: date, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(
        deployment_id="one", expected_start_time=datetime(2026, 1, 28, 4, tzinfo=UTC)
    )
    monkeypatch.setattr(due, "this_run", lambda: run)
    settings = settings_for(tmp_path, events={"complete_after": complete_after})
    assert due.scheduled_day(settings) == expected


def test_a_run_by_hand_has_no_day_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(deployment_id=None, expected_start_time=datetime(2026, 1, 28, tzinfo=UTC))
    monkeypatch.setattr(due, "this_run", lambda: run)
    assert due.scheduled_day(settings_for(tmp_path)) is None
