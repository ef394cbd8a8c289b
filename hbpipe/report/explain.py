"""The explanation of one business day, for a terminal."""

from __future__ import annotations

from hbpipe.report.tables import text_table
from hbpipe.run.explain import Explanation


def explain_text(found: Explanation) -> str:
    """Write an explanation for a terminal."""
    runs = [{**run, "releases": ", ".join(run["releases"])} for run in found.runs]
    parts = [f"{found.day}: {found.state}\n{'Due' if found.due else 'Not due'}: {found.reason}"]
    for title, rows in (
        ("Made from", found.fingerprints),
        ("Files with rows of the day", found.files),
        ("Runs that made it", runs),
        ("Releases that rest on it", found.releases),
    ):
        parts.append(f"{title}\n{text_table(rows)}")
    return "\n\n".join(parts)
