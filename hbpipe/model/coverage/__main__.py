"""The coverage study as a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hbpipe.model import coverage
from hbpipe.model.coverage.designs import DESIGNS
from hbpipe.model.coverage.study import HEADER, METHODS, Cell, study


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per cell and method; 1 when ``auto`` covers less than ``--floor``."""
    parser = argparse.ArgumentParser(
        prog="python -m hbpipe.model.coverage", description=str(coverage.__doc__).split("\n", 1)[0]
    )
    parser.add_argument("--families", default=",".join(DESIGNS), help="comma-separated names")
    parser.add_argument("--groups", default="10,50,200", help="stores of a pool")
    parser.add_argument("--ratios", default="0.05,0.25,1,4", help="signal ratios")
    parser.add_argument("--replicates", type=int, default=200, help="most pools in a cell")
    parser.add_argument("--error", type=float, default=0.0, help="standard error that will do")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated names")
    parser.add_argument("--floor", type=float, help="least coverage of auto, beyond two errors")
    options = parser.parse_args(arguments)
    low: list[Cell] = []
    print(HEADER)
    for family in options.families.split(","):
        for groups in _numbers(options.groups):
            for ratio in _numbers(options.ratios):
                cells = study(
                    family,
                    int(groups),
                    ratio,
                    replicates=options.replicates,
                    seed=options.seed,
                    methods=options.methods.split(","),
                    error=options.error,
                )
                print("\n".join(cell.line() for cell in cells), flush=True)
                low += [cell for cell in cells if _is_below(cell, options.floor)]
    if low:
        print(f"{len(low)} cell(s) of auto cover less than {options.floor}", file=sys.stderr)
    return 1 if low else 0


def _is_below(cell: Cell, floor: float | None) -> bool:
    """Tell whether a cell of ``auto`` misses the floor by more than two Monte Carlo errors."""
    return floor is not None and cell.method == "auto" and cell.coverage + 2 * cell.error < floor


if __name__ == "__main__":
    sys.exit(main())
