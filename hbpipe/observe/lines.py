"""Files of lines that several processes append to, and that may be rotated underneath."""

from __future__ import annotations

import os
from pathlib import Path


def append_line(path: str, line: str) -> None:
    """Append one line in one write, so that lines of two processes never mix.

    The file is opened for each line: after a rotation the next line starts the new file.

    Raises
    ------
    OSError
        The folder does not exist, or may not be written to.
    """
    descriptor = os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
