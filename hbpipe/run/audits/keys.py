"""The release gate: what is written once for each pool stands there once."""

from __future__ import annotations

from collections.abc import Mapping

from hbpipe.run.audits.checks import Check, at_most


def check_keys(repeated: Mapping[str, Mapping[str, int]]) -> list[Check]:
    """Check that no key of a table stands twice: table -> metric -> rows of which another has it.

    Units are counted by the workers that write them (``check_posteriors``).
    """
    return [
        at_most(
            "release",
            f"{table}_keys",
            metric,
            rows,
            0,
            f"{rows} rows of {table} stand twice",
            "fail",
        )
        for table, by_metric in repeated.items()
        for metric, rows in sorted(by_metric.items())
    ]
