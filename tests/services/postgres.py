"""A PostgreSQL server of the tests' own, on the loopback, with a password.

Run as a script it says what to install where PostgreSQL is missing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Where distributions put what only a database's owner runs, the newest version first.
_FOLDERS = (
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),  # Debian
    *sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True),  # PostgreSQL's own for Fedora
    *sorted(Path("/opt/homebrew/opt").glob("postgresql@*/bin"), reverse=True),
)
MISSING = (
    "make test-services needs a PostgreSQL server, and found no initdb; "
    "Debian and Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server; "
    "macOS: brew install postgresql@17"
)


def find(program: str) -> str | None:
    """Return the path of one of PostgreSQL's programs."""
    path = os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PATH", os.defpath)])
    return shutil.which(program, path=path)


@dataclass(frozen=True)
class Database:
    """How to reach the database."""

    port: int
    user: str
    password: str
    name: str


@contextmanager
def postgres(folder: Path, user: str, password: str, name: str) -> Iterator[Database]:
    """Make a cluster with one user and one database, and serve it until the end."""
    from tests.services.processes import free_port, running, wait_for

    # Whoever owns it must reach it, and folders of tests are closed to all but their user.
    with tempfile.TemporaryDirectory(prefix="hbpipe-postgres-") as data:
        owner = _owner(data)
        _initialise(Path(data), owner, user, password)
        database = Database(free_port(), user, password, name)
        command = [
            _required("postgres"),
            *("-D", f"{data}/cluster", "-p", str(database.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "fsync=off"),  # this machine going down ends the test anyway
        ]
        with running("postgres", command, {}, folder, user=owner) as server:
            wait_for("database", lambda: _create(database), server)
            yield database


def _owner(folder: str) -> str:
    """Give the folder to who may run PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return "-"
    shutil.chown(folder, "postgres", "postgres")
    return "postgres"


def _initialise(folder: Path, owner: str, user: str, password: str) -> None:
    secret = folder / "password"
    secret.write_text(password)
    rights = {} if owner == "-" else {"user": owner, "group": owner, "extra_groups": []}
    if rights:
        shutil.chown(secret, owner, owner)
    command = [_required("initdb"), "--pgdata", str(folder / "cluster"), "--username", user]
    command += ["--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8"]
    command += ["--locale", "C", "--no-sync"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=240, **rights)


def _create(database: Database) -> bool | None:
    """Create the database; None while the server does not take connections."""
    return asyncio.run(_try_to_create(database))


async def _try_to_create(database: Database) -> bool | None:
    import asyncpg

    try:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=database.port,
            user=database.user,
            password=database.password,
            database="postgres",
        )
    except (OSError, asyncpg.CannotConnectNowError):
        return None
    await connection.execute(f'CREATE DATABASE "{database.name}"')
    await connection.close()
    return True


def _required(program: str) -> str:
    found = find(program)
    if found is None:
        raise RuntimeError(MISSING)
    return found


def _missing() -> str | None:
    if find("initdb") is None:
        return MISSING
    if os.geteuid() == 0:
        import pwd

        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root: make a user for it, useradd postgres"
    return None


if __name__ == "__main__":
    sys.exit(_missing())
