"""The command line: from arguments to an exit code.

The verbs and their options are in ``verbs``, what they do in ``commands``.

Exit codes: 0 done or nothing to do, 1 error, 2 usage, 3 a gate or verification failed, 4 another
run holds the lease, 5 the as-of day is not complete, or what readers see is late, 10 (``plan`` and
dry runs) there is work.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from hbpipe.errors import HbpipeError
from hbpipe.verbs import inputs, nights, releases, upkeep


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: sums are single-threaded
    # Before pyarrow: its own allocator gives memory back so soon that a scan waits for it again.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    arguments = _parser().parse_args(argv)
    commands = _load(f"hbpipe.commands.{arguments.group}")
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


def _load(name: str) -> ModuleType:
    """Import the module of a group of commands, and all that it needs.

    What is imported stays to the end. The collector of cycles would go through it while it grows,
    with every later collection, and once more at the exit: a tenth of a small night.
    """
    if name not in sys.modules:
        gc.disable()
        try:
            with _without_pandas():
                importlib.import_module(name)
        finally:
            gc.freeze()
            gc.enable()
        atexit.register(gc.freeze)
    return sys.modules[name]


class _NoPandas:
    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("hbpipe works without pandas", name=name)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Hide pandas from Arrow, which asks for it once, and takes half a second to import it."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


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
