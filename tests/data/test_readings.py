"""Which pieces are read together: by the footers of the files of a day alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel import event_format

from hbpipe.data import readings, survey
from hbpipe.data.events import FileState
from hbpipe.data.readings import Reading, Source, plan_readings
from hbpipe.data.survey import RowGroup

FORM = event_format("events")


def source(name: str, spans: list[tuple[int, int]], due: list[int] | None = None) -> Source:
    """Return a file of row groups of ten rows, each with rows on all days of its span."""
    groups = tuple(RowGroup(k, 10 * k, 10, 100, *span) for k, span in enumerate(spans))
    days = sorted({day for first, last in spans for day in range(first, last + 1)})
    wanted = days if due is None else [day for day in days if day in due]
    return Source(FileState(name, 1, 1), groups, tuple(days), tuple(wanted))


def shown(found: list[Reading]) -> list[tuple[list[tuple[str, tuple[int, ...]]], tuple[int, ...]]]:
    return [([(p.file.path, p.row_groups) for p in one.pieces], one.days) for one in found]


@pytest.fixture
def small(monkeypatch):
    """A piece is a row group, and more than two readings of the same days are too many."""
    monkeypatch.setattr(survey, "PIECE_ROWS", 10)
    monkeypatch.setattr(readings, "MOST_READINGS", 2)


@pytest.mark.parametrize(
    ("pieces", "together"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8)]
)
def test_a_power_of_two_of_pieces_is_read_together(small, pieces, together):
    """The more pieces the days have, the more of them make a reading; over files, in order."""
    sources = [source(f"{k:02d}", [(7, 7)]) for k in reversed(range(pieces))]
    found = plan_readings(FORM, sources)
    assert {len(one.pieces) for one in found[:-1]} <= {together}
    paths = [piece.file.path for one in found for piece in one.pieces]
    assert paths == [f"{k:02d}" for k in range(pieces)]
    assert len(found) == -(-pieces // together) <= 2


def test_up_to_128_pieces_are_read_one_by_one():
    found = plan_readings(FORM, [source(f"{k:03d}", [(7, 7)]) for k in range(128)])
    assert [len(one.pieces) for one in found] == [1] * 128


def test_only_pieces_of_the_same_days_are_read_together(small):
    days = [(1, 1), (1, 1), (1, 1), (1, 2), (2, 2), (2, 2), (2, 2)]
    assert shown(plan_readings(FORM, [source("a", days)])) == [
        ([("a", (0,)), ("a", (1,))], (1,)),
        ([("a", (2,))], (1,)),
        ([("a", (3,))], (1, 2)),
        ([("a", (4,)), ("a", (5,))], (2,)),
        ([("a", (6,))], (2,)),
    ]


def test_event_ids_are_compared_piece_by_piece(small):
    found = plan_readings(replace(FORM, event_id=("id",)), [source("a", [(1, 1)] * 9)])
    assert [len(one.pieces) for one in found] == [1] * 9


@given(
    files=st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=6),
        min_size=1,
        max_size=6,
    ),
    asked=st.sets(st.integers(1, 6), min_size=1),
)
def test_a_day_is_read_alike_whatever_else_is_due(files, asked):
    """The row groups of a day are added up in the same groups, whichever days are read with it."""

    def of_day(due: set[int], day: int) -> list[list[tuple[str, int]]]:
        sources = [
            source(f"{k}", [(first, first + more) for first, more in spans], sorted(due))
            for k, spans in enumerate(files)
        ]
        held = {
            (one.file.path, group.index): group.first_day <= day <= group.last_day
            for one in sources
            for group in one.row_groups
        }
        found = [
            [(p.file.path, g) for p in one.pieces for g in p.row_groups if held[p.file.path, g]]
            for one in plan_readings(FORM, [one for one in sources if one.due])
            if day in one.days
        ]
        return [groups for groups in found if groups]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "PIECE_ROWS", 20)
        patch.setattr(readings, "MOST_READINGS", 2)
        for day in asked:
            assert of_day(asked, day) == of_day({day}, day)
