"""Which column says when, and whether rows are totals of days."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.data.suggest.profile import Profile, iso_share
from hbpipe.data.suggest.writing import percent
from hbpipe.errors import EventsError

_UNREPEATED = 0.98  # of the rows: a feed repeats some


def choose_time(profiles: Sequence[Profile], root: str) -> tuple[Profile, str]:
    """Return the best time column and why; times of day before dates, typed before text.

    Raises
    ------
    EventsError
        No column holds times.
    """
    times = [profile for profile in profiles if profile.kind == "time" and profile.distinct]
    if not times:
        raise EventsError(
            "No column holds times",
            where={"path": root, "columns": ", ".join(profile.name for profile in profiles)},
            expected="a timestamp, a date, or text such as 2026-01-31T18:45:00",
            remedy="add the time of each event, or the day of each row, to the files",
        )
    best = max(times, key=lambda profile: (has_clock(profile), -profile.null_share))
    others = [profile.name for profile in times if profile is not best]
    also = f"; other times: {', '.join(others)}" if others else ""
    return best, f"{_time_kind(best)}, {percent(best.null_share)} null{also}"


def _time_kind(profile: Profile) -> str:
    if _typed(profile):
        return str(profile.column.type)
    unreadable = 1 - iso_share(profile.column.drop_null())
    return "ISO text" + (f", {percent(unreadable)} unreadable" if unreadable else "")


def has_clock(profile: Profile) -> bool:
    """Tell whether a time column says more than the day."""
    if _typed(profile):
        return bool(pa.types.is_timestamp(profile.column.type))
    return len(profile.column.drop_null()[0].as_py()) > 10


def is_aware(profile: Profile) -> bool:
    """Tell whether times carry a zone or an offset; of text the first value decides."""
    if _typed(profile):
        return zone(profile) is not None
    first = profile.column.drop_null()[0].as_py()
    return bool(re.search(r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$", first))


def zone(profile: Profile) -> str | None:
    """Return the zone that the type of a time column names."""
    return getattr(profile.column.type, "tz", None)


def _typed(profile: Profile) -> bool:
    kind = profile.column.type
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def row_per_unit_and_day(time: Profile, levels: Sequence[Profile]) -> bool:
    """Tell whether rows are totals: one for each unit and day, and no time of day among them.

    Copies of some rows are forgiven; ``levels`` are all of them, for stores may be numbered
    within their chain.
    """
    columns = {str(k): level.column for k, level in enumerate(levels)}
    table = pa.table({**columns, "time": time.column}).drop_null()
    days, clocks = _days_and_clocks(table["time"], time)
    if pc.count_distinct(clocks).as_py() > 2:  # midnight of a zone is two times of day in UTC
        return False
    keys = table.set_column(table.num_columns - 1, "time", days)
    different = int(keys.group_by(keys.column_names).aggregate([]).num_rows)
    return different >= _UNREPEATED * len(keys) > 0


def _days_and_clocks(
    times: pa.ChunkedArray, profile: Profile
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return days and times of day; aware times in UTC, where days stay as different."""
    if not _typed(profile):
        return pc.utf8_slice_codeunits(times, 0, 10), pc.utf8_slice_codeunits(times, 10)
    moments = times.cast(pa.timestamp("us"), safe=False)
    return moments.cast(pa.date32(), safe=False), moments.cast(pa.time64("us"), safe=False)
