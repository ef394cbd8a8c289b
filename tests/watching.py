"""Looking at what readers see before something happens, all the while, and after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Sight = TypeVar("Sight")


@contextmanager
def watching(look: Callable[[], Sight], period_s: float = 0.05) -> Iterator[list[Sight]]:
    """Look again and again in a thread; gives what was seen, each change once, in order."""
    sights = [look()]
    ended = threading.Event()

    def look_once() -> None:
        sight = look()
        if sights[-1] != sight:
            sights.append(sight)

    def look_on() -> None:
        while not ended.is_set():
            look_once()
            time.sleep(period_s)

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield sights
    finally:
        ended.set()
        thread.join()
        look_once()  # the last look may have begun before the last change
