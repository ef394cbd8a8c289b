"""The command line: verbs, options, exit codes. What the verbs do is in ``commands``.

Exit codes: 0 done or nothing to do, 1 error, 2 usage, 3 a gate or verification failed, 4 another
run holds the lease, 5 the as-of day is not complete, 10 (``plan``) there is work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import date

from hbpipe.errors import HbpipeError

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: sums are single-threaded
    arguments = _parser().parse_args(argv)
    from hbpipe import commands

    verb: Callable[[Arguments], int] = getattr(commands, arguments.verb)
    try:
        return verb(arguments)
    except HbpipeError as error:
        return _complain(error, as_json=arguments.json)
    except KeyboardInterrupt:
        print("hbpipe: interrupted; the next run takes up what is missing", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        return _complain(_of_the_system(error), as_json=arguments.json)


def _of_the_system(error: OSError) -> HbpipeError:
    """Say what the operating system refused in the form of every other error."""
    return HbpipeError(
        error.strerror or str(error),
        where={} if error.filename is None else {"path": error.filename},
        remedy="check that the path exists, that this user may use it, and the space of its disk",
    )


def _complain(error: HbpipeError, *, as_json: bool) -> int:
    if as_json:
        fields = {
            "kind": type(error).__name__,
            "found": error.found,
            "where": {key: str(value) for key, value in error.where.items()},
            "expected": error.expected,
            "remedy": error.remedy,
        }
        print(json.dumps({"error": fields}))
    print(f"hbpipe: {error}", file=sys.stderr)
    return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hbpipe",
        description="Nightly hierarchical Bayesian estimates for chains with many stores.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_suggest(verbs)
    _add_simulate(verbs)
    plan = _verb(verbs, "plan", "list the days to process and why; exit 10 when there is work")
    run = _verb(verbs, "run", "bring the window of one day up to date and publish a release")
    for one in (plan, run):
        one.add_argument("--as-of", type=_day, metavar="DAY", help="the last business day included")
        one.add_argument(
            "--full-scan", action="store_true", help="look for late input beyond events.horizon"
        )
        one.add_argument(
            "--accept-missing",
            action="store_true",
            help="take out the rows of files that have vanished",
        )
    _verb(verbs, "status", "show the current release, and which days are done, held or gone")
    _add_verify(verbs)
    config = _verb(verbs, "config", "show every setting and where it comes from", required=False)
    config.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the settings instead"
    )
    config.add_argument(
        "--keys", action="store_true", help="print a table of all keys and what they mean instead"
    )
    _verb(verbs, "doctor", "check this machine, the events and the lake before the first run")
    _add_read(verbs)
    return parser


def _verb(
    verbs: argparse._SubParsersAction,  # type: ignore[type-arg]
    name: str,
    purpose: str,
    *,
    required: bool = True,
) -> argparse.ArgumentParser:
    verb = _bare_verb(verbs, name, purpose)
    verb.add_argument("--config", required=required, metavar="FILE", help="the settings, in YAML")
    verb.add_argument("--env", metavar="NAME", help="overlay env/NAME.yaml beside the settings")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one setting; may be repeated",
    )
    return verb


def _bare_verb(
    verbs: argparse._SubParsersAction,  # type: ignore[type-arg]
    name: str,
    purpose: str,
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=purpose, description=purpose)
    verb.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    verb.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return verb


def _add_suggest(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    suggest = _bare_verb(verbs, "suggest", "draft a configuration from a Parquet file or folder")
    suggest.add_argument("events", metavar="EVENTS", help="a Parquet file, or a folder of them")


def _add_simulate(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    simulate = _bare_verb(verbs, "simulate", "write realistic events and their true parameters")
    simulate.add_argument("out", metavar="FOLDER", help="receives events/, truth/, stores.parquet")
    simulate.add_argument("--first-day", type=_day, default=date(2026, 9, 1), metavar="DAY")
    simulate.add_argument("--days", type=int, default=28)
    simulate.add_argument("--chains", type=int, default=8)
    simulate.add_argument("--stores", type=int, default=400)
    simulate.add_argument("--events-per-day", type=int, default=20_000)
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--layout", choices=("files", "hive", "flat"), default="files")
    simulate.add_argument("--late", type=float, default=0.0, help="share of late rows")
    simulate.add_argument("--bad", type=float, default=0.0, help="share of faulty rows")
    simulate.add_argument("--repeated", type=float, default=0.0, help="share delivered twice")


def _add_verify(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    verify = _verb(verbs, "verify", "check that ledger, statistics and posteriors add up")
    verify.add_argument("--full", action="store_true", help="recount the raw files, row by row")
    verify.add_argument("--days", metavar="FIRST..LAST", help="only these business days")
    verify.add_argument(
        "--sample", type=_at_least(1), metavar="N", help="recount N days, evenly spread"
    )


def _add_read(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    read = _verb(verbs, "read", "read a table of the current release")
    read.add_argument("table", nargs="?", default="posteriors")
    read.add_argument("--release", metavar="NAME", help="another release than the current one")
    read.add_argument("--columns", metavar="A,B,...", help="only these columns")
    read.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    read.add_argument("--limit", type=_at_least(0), metavar="N", help="at most so many rows")
    read.add_argument("--out", metavar="FILE", help="write .parquet or .csv instead of printing")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-01-31") from None


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return number

    return parse


if __name__ == "__main__":
    sys.exit(main())
