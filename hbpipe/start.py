"""What the command line does before it loads a library that computes, so that nights cost less.

None of it changes a result: threads, memory, and what Python does with what it has imported.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

#: Numbers of glibc's ``mallopt`` (malloc.h), and what they are set to: larger arrays are given
#: back to the system at once, and of the smaller ones what is free beyond so much.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST_KEPT = 256 << 20, 32 << 20


def prepare() -> None:
    """Say how memory and threads are used; libraries ask once, when they are loaded."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: sums are single-threaded
    # Before pyarrow: its own allocator gives memory back so soon that a scan waits for it again.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Before pydantic, which else reads what every installed package says of itself to find some.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    _keep_memory()


def _keep_memory() -> None:
    """Let the C library keep the pages of an array for the next one.

    Else the system clears a page again for each array of a batch: a tenth of a night.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries than glibc have ways of their own
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)


def load(name: str) -> ModuleType:
    """Import a module, and all that it needs, for the life of this process.

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
    def find_spec(self, name: str, *_: object) -> None:
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
