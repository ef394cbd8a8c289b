"""Find a Chromium on this machine, or say what to install."""

from __future__ import annotations

import os
import shutil
import sys

#: What it is called by Debian, by Fedora and Arch, and by Google.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """Return the path of a Chromium: $CHROMIUM, or else the first that is on the PATH."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":
    if chromium() is None:
        sys.exit(
            "No Chromium is on this machine. Debian and Ubuntu: apt install chromium; "
            "or name one: CHROMIUM=/path/to/chrome make test-browser"
        )
