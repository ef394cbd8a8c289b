"""Print the part of requirements.lock that some packages need, hashes included.

The lock holds what developers need too; an image has no use for that. Who needs a package stands
below its hashes, as ``# via``.

    python infra/locked.py                 what hbpipe needs at run time
    python infra/locked.py setuptools      what building it needs
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

#: A pinned package with its hashes, and the comment that says who needs it.
_ENTRY = re.compile(r"^([a-z0-9-]+)==.*(?:\n    --hash=\S+(?: \\)?)+\n((?:    #.*\n?)*)", re.M)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def needed(lock: str, roots: Iterable[str]) -> str:
    """Return the entries of a lock that are roots, or that an entry returned needs.

    Raises
    ------
    ValueError
        When a root is not locked.
    """
    entries = {found[1]: found for found in _ENTRY.finditer(lock)}
    waiting = {_normal(name) for name in roots}
    if missing := waiting - entries.keys():
        raise ValueError(f"not in the lock: {', '.join(sorted(missing))}; run make lock")
    kept: set[str] = set()
    while waiting:
        kept |= waiting
        waiting = {name for name, found in entries.items() if kept & set(_parents(found[2]))} - kept
    return "".join(found[0].rstrip("\n") + "\n" for name, found in entries.items() if name in kept)


def _parents(comment: str) -> Iterator[str]:
    """Give the packages that a comment names: one beside ``via``, or one a line below it."""
    for line in comment.splitlines():
        found = _NAME.match(line.strip(" #").removeprefix("via").strip())
        if found:
            yield found[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_time(project: str) -> list[str]:
    """Return the names of the packages that a ``pyproject.toml`` declares for run time."""
    declared = tomllib.loads(project)["project"]["dependencies"]
    return [found[0] for text in declared if (found := _NAME.match(text))]


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    names = sys.argv[1:] or run_time((root / "pyproject.toml").read_text(encoding="utf-8"))
    print(needed((root / "requirements.lock").read_text(encoding="utf-8"), names), end="")
