"""Whole nights of hbpipe as contenders: their configuration, their lakes, and their clocks."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.contest import Contender
from tests.bench.cost import Cost, cost_of, inner_cost_of

CONFIG = """
pipeline: bench
events: {{path: {events}, time: ts, levels: [chain_id, store_id]}}
metrics:
  conversion: {{family: beta_binomial, successes: converted, trials: rows}}
  basket_value: {{family: normal, value: amount, transform: log, where: [[converted, "==", true]]}}
  orders: {{family: gamma_poisson, count: converted, exposure: days}}
inference: {{window: 30d, uncertainty: {uncertainty}}}
lake: {{path: {lake}}}
cluster: {{kind: {kind}, workers: {workers}}}
"""


@dataclass(frozen=True)
class Nights:
    """Nights over a folder of events, ``rows`` in words; their lakes are in ``folder``."""

    folder: Path
    events: Path
    rows: str
    uncertainty: str = "auto"
    kind: str = "local"
    workers: int = 2

    def first(self, name: str, as_of: str | None = None) -> Contender:
        """Run a night in an empty lake, start-up of the process included."""
        options = ["--as-of", as_of] if as_of else []
        return Contender(name, lambda: self._night(self._configure(name), options))

    def next(self, name: str, lake_of: str, as_of: str) -> Contender:
        """Run the night after, in a copy of the lake that contender ``lake_of`` has left."""

        def run() -> Cost:
            config = self._configure(name)
            shutil.copytree(self._lake(lake_of), self._lake(name))
            return self._night(config, ["--as-of", as_of])

        return Contender(name, run)

    def with_workers_up(self, name: str) -> Contender:
        """Run a first night, counted from the moment its workers are up."""
        return Contender(name, self._by_its_own_clock(name, "workers_up"))

    def aggregation(self, name: str) -> Contender:
        """Run the first stage of a first night, alone and with its workers up."""
        return Contender(name, self._by_its_own_clock(name, "aggregation"))

    def _by_its_own_clock(self, name: str, module: str) -> Callable[[], Cost]:
        def run() -> Cost:
            config = self._configure(name)
            return inner_cost_of([sys.executable, "-m", f"tests.bench.{module}", str(config)])

        return run

    def _night(self, config: Path, options: list[str]) -> Cost:
        hbpipe = str(Path(sys.executable).parent / "hbpipe")
        cost = cost_of([hbpipe, "run", "--json", "--config", str(config), *options])
        return replace(cost, answer=str(json.loads(cost.answer)["rows"]["accepted"]))

    def _lake(self, name: str) -> Path:
        return self.folder / f"lake-{name.replace(' ', '-')}"

    def _configure(self, name: str) -> Path:
        """Write the configuration of a contender, whose lake begins empty."""
        lake = self._lake(name)
        shutil.rmtree(lake, ignore_errors=True)
        config = lake.with_suffix(".yaml")
        text = CONFIG.format(
            events=self.events,
            lake=lake,
            uncertainty=self.uncertainty,
            kind=self.kind,
            workers=self.workers,
        )
        config.write_text(text, encoding="utf-8")
        return config
