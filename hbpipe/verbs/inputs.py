"""Verbs before the first night."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from hbpipe.verbs.common import add_bare_verb, add_verb, day

if TYPE_CHECKING:
    from hbpipe.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs of this group."""
    _add_suggest(verbs)
    _add_simulate(verbs)
    _add_config(verbs)


def _add_suggest(verbs: Verbs) -> None:
    suggest = add_bare_verb(
        verbs, "inputs", "suggest", "draft a configuration from a Parquet file or folder"
    )
    suggest.add_argument("events", metavar="EVENTS", help="a Parquet file, or a folder of them")


def _add_simulate(verbs: Verbs) -> None:
    simulate = add_bare_verb(
        verbs, "inputs", "simulate", "write realistic events and their true parameters"
    )
    simulate.add_argument("out", metavar="FOLDER", help="receives events/, truth/, stores.parquet")
    simulate.add_argument("--first-day", type=day, default=date(2026, 9, 1), metavar="DAY")
    simulate.add_argument("--days", type=int, default=28)
    simulate.add_argument("--chains", type=int, default=8)
    simulate.add_argument("--stores", type=int, default=400)
    simulate.add_argument("--events-per-day", type=int, default=20_000)
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--layout", choices=("files", "hive", "flat"), default="files")
    simulate.add_argument("--late", type=float, default=0.0, help="share of late rows")
    simulate.add_argument("--bad", type=float, default=0.0, help="share of faulty rows")
    simulate.add_argument("--repeated", type=float, default=0.0, help="share delivered twice")


def _add_config(verbs: Verbs) -> None:
    purpose = "show every setting and where it comes from"
    config = add_verb(verbs, "inputs", "config", purpose, needs_config=False)
    config.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the settings instead"
    )
    config.add_argument(
        "--keys", action="store_true", help="print a table of all keys and what they mean instead"
    )
