"""The command line: from arguments to an exit code.

The verbs and their options are in ``verbs``, what they do in ``commands``.

Exit codes: 0 done or nothing to do, 1 error, 2 usage, 3 a gate or verification failed, 4 another
run holds the lease, 5 the as-of day is not complete, or what readers see is late, 10 (``plan`` and
dry runs) there is work.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from hbpipe.errors import HbpipeError
from hbpipe.start import load, prepare
from hbpipe.verbs import inputs, nights, releases, upkeep


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = _parser().parse_args(argv)
    prepare()
    commands = load(f"hbpipe.commands.{arguments.group}")
    verb: Callable[[argparse.Namespace], int] = getattr(commands, arguments.verb)
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
    for group in (inputs, nights, releases, upkeep):
        group.add(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
