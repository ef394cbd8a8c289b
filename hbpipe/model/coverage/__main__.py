"""The coverage study as a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context

from hbpipe.model import coverage
from hbpipe.model.coverage.study import HEADER, METHODS, STUDIED, Cell, study


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per cell and method; 1 when ``auto`` covers less than ``--floor``."""
    options = _parser().parse_args(arguments)
    low: list[Cell] = []
    print(HEADER, flush=True)
    for cells in _studied(options):
        print("\n".join(cell.line() for cell in cells), flush=True)
        low += [cell for cell in cells if _is_below(cell, options.floor)]
    if low:
        print(f"{len(low)} cell(s) of auto cover less than {options.floor}", file=sys.stderr)
    return 1 if low else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hbpipe.model.coverage", description=str(coverage.__doc__).split("\n", 1)[0]
    )
    parser.add_argument("--families", default=",".join(STUDIED), help="comma-separated names")
    parser.add_argument("--groups", default="10,50,200", help="stores of a pool")
    parser.add_argument("--ratios", default="0.05,0.25,1,4", help="signal ratios")
    parser.add_argument("--replicates", type=int, default=200, help="most pools in a cell")
    parser.add_argument("--error", type=float, default=0.0, help="standard error that will do")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated names")
    parser.add_argument("--floor", type=float, help="least coverage of auto, beyond two errors")
    parser.add_argument("--jobs", type=int, default=1, help="cells worked on at a time")
    return parser


def _studied(options: argparse.Namespace) -> Iterator[list[Cell]]:
    """Yield the cells, family by family; their numbers do not depend on ``--jobs``."""
    one = partial(
        study,
        replicates=options.replicates,
        seed=options.seed,
        methods=options.methods.split(","),
        error=options.error,
    )
    groups = [int(part) for part in options.groups.split(",")]
    ratios = [float(part) for part in options.ratios.split(",")]
    wanted = zip(*product(options.families.split(","), groups, ratios), strict=True)
    if options.jobs == 1:
        yield from map(one, *wanted)
        return
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, *wanted)


def _is_below(cell: Cell, floor: float | None) -> bool:
    """Tell whether a cell of ``auto`` misses the floor by more than two Monte Carlo errors."""
    return floor is not None and cell.method == "auto" and cell.coverage + 2 * cell.error < floor


if __name__ == "__main__":
    sys.exit(main())
