"""A few days of simulated events with every fault, where a pipeline's settings expect them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from hbpipe.run.simulate import simulate_events

FIRST = date(2026, 1, 1)


def simulate(folder: Path, days: int) -> None:
    """Write events of some days of 30 stores in 3 chains, their truth and their table of stores."""
    simulate_events(
        folder,
        first_day=FIRST,
        days=days,
        chains=3,
        stores=30,
        events_per_day=800,
        seed=7,
        late=0.01,
        bad=0.01,
        repeated=0.02,
    )
