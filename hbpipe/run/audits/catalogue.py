"""The names of all checks, and which of them a person may accept."""

from __future__ import annotations

from hbpipe.audit_sections import OPTIONAL

#: What fails only where this code is wrong, or a file was damaged. Nobody can accept that.
INTEGRITY = (
    "rows_conserved",
    "statistics_conserved",
    "metrics_conserved",
    "statistics_identities",
    "statistics_keys",
    "posteriors_conserved",
    "posteriors_finite",
    "posteriors_between",
    "posteriors_keys",
    "hyperparameters_keys",
    "fits_keys",
    "new_stores_keys",
    "diagnostics_keys",
    "quantiles_ordered",
    "intervals_open",
)

#: The rest: they cannot be left out, but what they find may be right.
_NEEDED = ("one_definition", "days_left_out")

NAMES = (*OPTIONAL, *_NEEDED, *INTEGRITY)
