"""The services of infra/compose.yaml as processes of this machine, without containers.

Their commands, environments and secrets are those of the file, so the file itself is tested. What
must differ, addresses and folders, is named; a name that the file lacks is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.services.processes import ROOT, Running, running

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text("utf-8"))


@dataclass
class Composed:
    """Services that run, each with a log and a home in ``folder``, until ``stack`` is closed.

    ``site`` is what their settings say beyond the file, as a site's own ``env/prod.yaml`` would.
    """

    folder: Path
    stack: ExitStack
    site: dict[str, str]
    secrets: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.secrets = write_secrets(self.folder / "secrets")

    def secret(self, name: str) -> str:
        return Path(self.secrets[f"/run/secrets/{name}"]).read_text()

    def start(
        self, service: str, words: Mapping[str, str], *, name: str | None = None, **variables: str
    ) -> Running:
        """Start a service; ``words`` of its command and ``variables`` differ on this machine."""
        environment = self.environment_of(service, **variables)
        name = name or service
        return self.stack.enter_context(
            running(
                name,
                command_of(service, words),
                {"PREFECT_HOME": str(self.folder / f"{name}-home"), **environment},
                self.folder,
            )
        )

    def environment_of(self, service: str, **variables: str) -> dict[str, str]:
        """Return the environment of a service, with its secrets' files and what differs here."""
        given: dict[str, str] = COMPOSE["services"][service]["environment"]
        unknown = variables.keys() - given.keys()
        assert not unknown, f"{service} has no {unknown}"
        named = {n: self.secrets.get(v, v) for n, v in {**given, **variables}.items()}
        return {**named, **self.site}


def command_of(service: str, here: Mapping[str, str]) -> list[str]:
    """Return the command of a service as its container would start it.

    Parameters
    ----------
    here
        What stands in the file, whole or as the end of a word, and what it is on this machine.
    """
    command = [str(word) for word in COMPOSE["services"][service]["command"]]
    for there in here:
        assert any(word.endswith(there) for word in command), f"{service}: no {there} in {command}"
    return ["sh", str(ROOT / "infra/entrypoint.sh"), *(_replaced(word, here) for word in command)]


def _replaced(word: str, here: Mapping[str, str]) -> str:
    there = max((end for end in here if word.endswith(end)), key=len, default="")
    return word.removesuffix(there) + here.get(there, "")


def write_secrets(folder: Path) -> dict[str, str]:
    """Write the secrets; returns the files by what their containers call them."""
    folder.mkdir(mode=0o700)
    files = {}
    for name in COMPOSE["secrets"]:
        file = folder / name
        # Not only letters: what is glued into an address unquoted would break.
        file.write_text(f"admin:{name}/@%20'\"$x" if name == "prefect_auth" else f"{name}/@%20'\"$")
        files[f"/run/secrets/{name}"] = str(file)
    return files
