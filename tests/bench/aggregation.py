"""The first stage of one night, its workers up before it: prints what that stage alone cost."""

from __future__ import annotations

import json
import sys
import time

from hbpipe.config import load_settings
from hbpipe.run.night import open_night
from hbpipe.run.stages import aggregate


def main(config: str) -> None:
    """Plan a night, wait for its workers, then turn its events into statistics on the clock."""
    with open_night(load_settings(config)) as night:
        assert night.engine.workers  # asking waits until they are there
        wall, cpu = time.perf_counter(), time.process_time()
        found = aggregate(night)
        cost = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**cost, "answer": str(found["accepted"])}))


if __name__ == "__main__":
    main(sys.argv[1])
