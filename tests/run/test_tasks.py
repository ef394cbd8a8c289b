"""Warnings of tasks name the task, wherever it runs."""

from __future__ import annotations

import logging
import warnings

import pytest

from hbpipe.config import Cluster
from hbpipe.run.engine import open_engine
from hbpipe.run.tasks import WARNINGS, current_task

CLUSTERS = {
    "serial": Cluster(kind="serial"),
    "threads": Cluster(workers=2, processes=False),
    "processes": Cluster(workers=1, processes=True),
}


def overflow(number: int) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # pytest makes errors of them in this process
        warnings.warn(f"overflow in {number}", RuntimeWarning, stacklevel=1)
    return current_task()


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("RuntimeWarning: ")[2].splitlines()[0]
        self.lines.append((text, getattr(record, "task", None) or current_task()))


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_warning_reaches_the_driver_with_its_task(kind: str) -> None:
    kept, logger = Kept(), logging.getLogger(WARNINGS)
    logger.addHandler(kept)
    logging.captureWarnings(True)
    try:
        with open_engine(CLUSTERS[kind]) as engine:
            tasks = [engine.submit(overflow, 7, label="chunk 7 of a.parquet")]
            assert engine.gather(tasks) == ["chunk 7 of a.parquet"]
    finally:
        logging.captureWarnings(False)
        logger.removeHandler(kept)
    assert kept.lines == [("overflow in 7", "chunk 7 of a.parquet")]
    assert current_task() is None
