"""One night in a process whose workers are up already: prints what it cost from then on."""

from __future__ import annotations

import json
import sys
import time

from distributed import Client, LocalCluster

from hbpipe.config import load_settings
from hbpipe.run.nightly import run_night


def main(config: str) -> None:
    """Start threads as workers in this process, then run the night on them."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1)
        wall, cpu = time.perf_counter(), time.process_time()
        cluster_up = ["cluster.kind=address", f"cluster.address={cluster.scheduler_address}"]
        report = run_night(load_settings(config, overrides=cluster_up))
        cost = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**cost, "answer": str(report.rows["accepted"])}))


if __name__ == "__main__":
    main(sys.argv[1])
