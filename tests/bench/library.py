"""Tasks of the library, in a process of their own: ``python -m tests.bench.library TASK STORES``.

Prints what the task cost, without start-up, imports and simulation, and what it found.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from tests.bench import fits, posteriors, sampling  # noqa: E402
from tests.bench.stores import SIMULATED, Statistics, conversions  # noqa: E402

Task = Callable[[], float]
Simulation = Callable[[int], Statistics]

dense = partial(conversions, median=2000.0)
sparse = partial(conversions, median=5.0)

TASKS: dict[str, tuple[Simulation, Callable[[Statistics], Task]]] = {
    **fits.FITS,
    "NUTS, numpyro": (conversions, sampling.by_nuts),
    "integral, hbpipe": (conversions, sampling.by_integral),
    "dense limits, hbpipe": (dense, posteriors.limits),
    "dense limits, scipy": (dense, posteriors.limits_by_scipy),
    "sparse limits, hbpipe": (sparse, posteriors.limits),
    "sparse limits, scipy": (sparse, posteriors.limits_by_scipy),
    "dense ranks, hbpipe": (dense, posteriors.ranks),
    "sparse ranks, hbpipe": (sparse, posteriors.ranks),
    "whole chain": (conversions, posteriors.whole),
    **{
        f"{family}, {uncertainty}{', limits' if levels else ''}": (
            SIMULATED[family],
            posteriors.update(family, uncertainty, levels),
        )
        for family in SIMULATED
        for uncertainty in ("plug_in", "integrated", "auto")
        for levels in ((), posteriors.LEVELS)
    },
}


def main(name: str, stores: int) -> None:
    """Run the task once to warm up where it is small, then once on the clock."""
    simulate, prepare = TASKS[name]
    small = prepare(simulate(300))
    small()
    task = prepare(simulate(stores))
    wall, cpu = time.perf_counter(), time.process_time()
    found = task()
    cost = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**cost, "answer": repr(float(found))}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
