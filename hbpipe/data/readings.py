"""A *reading*: the pieces that are read together and added up before anything leaves the worker.

Up to some hundred pieces of the same days, each is a reading of its own. Where there are more,
several make one, so that what is left to merge grows no further. Which pieces go together follows
from the footers of the files of those days, and from nothing else: a day has the same sums
whichever other days are read with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hbpipe.data.events import EventFormat, FileState, Piece
from hbpipe.data.survey import RowGroup, cut_pieces

#: Readings of the same days, at most.
MOST_READINGS = 128


@dataclass(frozen=True)
class Reading:
    """Pieces in their order, and the due days of which they may hold rows."""

    pieces: tuple[Piece, ...]
    days: tuple[int, ...]

    @property
    def key(self) -> tuple[str, int]:
        """The place in the fixed order of merging: that of the first piece."""
        return self.pieces[0].key


@dataclass(frozen=True)
class Source:
    """A file to be read: its row groups, all days of its rows, and those of them that are due."""

    file: FileState
    row_groups: tuple[RowGroup, ...]
    days: tuple[int, ...]
    due: tuple[int, ...]

    def pieces(self) -> Iterator[tuple[tuple[int, ...], Piece]]:
        """Give the pieces that may hold due days, each with all days of which it may hold rows."""
        groups = {group.index: group for group in self.row_groups}
        for whole in cut_pieces(self.file, self.row_groups, self.days):
            mine = tuple(groups[index] for index in whole.row_groups)
            days = tuple(
                day for day in self.days if any(g.first_day <= day <= g.last_day for g in mine)
            )
            for piece in cut_pieces(self.file, mine, self.due):  # one, or none
                yield days, piece


def plan_readings(form: EventFormat, sources: Iterable[Source]) -> list[Reading]:
    """Cut files into readings of what can hold the due days, in the order of their pieces.

    Only pieces that may hold rows of the same days, due or not, are read together. Pieces whose
    event ids are compared stay alone: the ids of several would not fit into memory.
    """
    alike: dict[tuple[int, ...], list[Piece]] = {}
    due = set[int]()
    for source in sorted(sources, key=lambda source: source.file.path):
        due.update(source.due)
        for days, piece in source.pieces():
            alike.setdefault(days, []).append(piece)
    readings = []
    for days, pieces in alike.items():
        wanted = tuple(day for day in days if day in due)
        size = 1 if form.event_id else pieces_together(len(pieces))
        for first in range(0, len(pieces), size):
            readings.append(Reading(tuple(pieces[first : first + size]), wanted))
    return sorted(readings, key=lambda reading: reading.key)


def pieces_together(pieces: int) -> int:
    """Return how many of the pieces of the same days make a reading: a power of two."""
    size = 1
    while pieces > size * MOST_READINGS:
        size *= 2
    return size
