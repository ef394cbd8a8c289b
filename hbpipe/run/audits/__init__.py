"""The two gates: checks of each day before its statistics are committed, and of the release.

A check gives a value, a threshold, and a sentence. ``fail`` stops what the gate guards; readers
stay on the old release. Every result, passed or not, becomes a row of ``audits``. README.md beside
this file lists all checks.
"""

from hbpipe.run.audits.acceptance import Acceptance, AcceptRequest, read_acceptances
from hbpipe.run.audits.checks import (
    Check,
    at_most,
    banded,
    by_severity,
    failures,
    left_on,
    to_table,
)
from hbpipe.run.audits.coverage import check_coverage
from hbpipe.run.audits.days import (
    NEW_FILES,
    Past,
    check_columns,
    check_day,
    check_measured,
    check_rows,
    check_undated,
    total_account,
)
from hbpipe.run.audits.fits import EarlierFits, check_bounds, check_drift, check_fits
from hbpipe.run.audits.keys import check_keys
from hbpipe.run.audits.models import Finding, check_models
from hbpipe.run.audits.posteriors import PosteriorTally, check_posteriors
from hbpipe.run.audits.recorded import recorded_checks
from hbpipe.run.audits.window import check_left_out, check_window

__all__ = [
    "NEW_FILES",
    "AcceptRequest",
    "Acceptance",
    "Check",
    "EarlierFits",
    "Finding",
    "Past",
    "PosteriorTally",
    "at_most",
    "banded",
    "by_severity",
    "check_bounds",
    "check_columns",
    "check_coverage",
    "check_day",
    "check_drift",
    "check_fits",
    "check_keys",
    "check_left_out",
    "check_measured",
    "check_models",
    "check_posteriors",
    "check_rows",
    "check_undated",
    "check_window",
    "failures",
    "left_on",
    "read_acceptances",
    "recorded_checks",
    "to_table",
    "total_account",
]
