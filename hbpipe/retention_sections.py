"""The section ``retention``: how long `hbpipe vacuum` keeps what.

By default nothing expires but the record of runs, which tells of nothing that is published.
It decides nothing of what is computed, and is part of no fingerprint.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hbpipe.sections import Section
from hbpipe.typed import Days


class ReleaseRetention(Section):
    """How long releases stay readable; one that either key keeps is kept."""

    keep_last: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None,
        description="so many of the newest releases of each environment are kept; null: as days "
        "says, or all",
    )
    days: Days | None = Field(
        None,
        description="releases published within so many days are kept; null: as keep_last says, or "
        "all",
    )


class Retention(Section):
    """How long `hbpipe vacuum` keeps what; null: for ever.

    Rows go by the age of their day, from the newest version of their table; a release keeps what it
    names until it expires itself. What readers of an environment see now is always kept.
    """

    staging: Days = Field(
        7,
        description="how long files that no release needs stay, for readers under way and runs "
        "that wrote them: longer than any run",
    )
    statistics: Days | None = Field(
        None, description="how long the statistics of a day are kept; at least the window"
    )
    hyperparameters: Days | None = Field(
        None, description="how long the hyperparameters of an as-of day are kept"
    )
    fits: Days | None = Field(
        None, description="how long the fits and diagnostics of an as-of day are kept"
    )
    posteriors: Days | None = Field(
        None,
        description="how long posteriors and new_stores of an as-of day are kept; their files go "
        "with the releases that name them",
    )
    quarantine: Days | None = Field(None, description="how long examples of rejected rows are kept")
    audits: Days | None = Field(None, description="how long the results of checks are kept")
    runs: Days | None = Field(
        400, description="how long the record of runs is kept, with their plans"
    )
    releases: ReleaseRetention = ReleaseRetention()
