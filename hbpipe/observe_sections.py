"""The sections ``observe`` and ``notify``: who is told of a run. Nothing is sent by default.

They decide nothing of what is computed, and are part of no fingerprint.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hbpipe.sections import Section
from hbpipe.typed import Name

_URL = r"^https?://[^@\s]+$"


def _address(value: str) -> str:
    if not re.match(_URL, value):
        raise ValueError("expected an address such as http://host:9091, without user and password")
    return value


#: An address on the web; credentials have keys of their own, and never stand in an address.
Url = Annotated[str, AfterValidator(_address), Field(json_schema_extra={"pattern": _URL})]
#: A value to keep to oneself: ``env:NAME`` or ``file:PATH`` names where it stands.
Secret = Annotated[str, Field(min_length=1)]


class LogSettings(Section):
    """The log of events."""

    path: Name | None = Field(
        None,
        description="a file that gets one JSON object per event of a run, or stderr; null: none",
    )


class PrometheusSettings(Section):
    """Gauges for Prometheus."""

    textfile: Annotated[str, Field(pattern=r"\.prom$")] | None = Field(
        None,
        description="a file that ends in .prom, in the folder of the node exporter's textfile "
        "collector; one for each pipeline and environment",
    )
    push: Url | None = Field(
        None, description="the Pushgateway that gets the gauges, such as http://pushgateway:9091"
    )


class OpenLineageSettings(Section):
    """Events of OpenLineage."""

    path: Name | None = Field(
        None, description="a file that gets one OpenLineage event per line; null: none"
    )
    url: Url | None = Field(
        None,
        description="where OpenLineage events are posted, such as "
        "http://marquez:5000/api/v1/lineage; null: nowhere",
    )
    api_key: Secret | None = Field(
        None, repr=False, description="the bearer token of that address, as env:NAME or file:PATH"
    )
    namespace: Name = Field(
        "hbpipe", description="the namespace of the job, whose name is PIPELINE.ENVIRONMENT"
    )


class ReportSettings(Section):
    """The page that each night leaves for people."""

    folder: Name | None = Field(
        None,
        description="a local folder that gets the report of each release, PIPELINE-RELEASE.html; "
        "null: none but those that `hbpipe report` writes. A report names stores, and is out of "
        "the lake: forget does not reach it",
    )
    url: Url | None = Field(
        None,
        description="where that folder is served, such as https://reports.example.com/hbpipe; the "
        "nightly flow then links to it and not to the file",
    )

    @model_validator(mode="after")
    def _local(self) -> ReportSettings:
        if self.folder is not None and "://" in self.folder:
            raise ValueError(f"folder is on this machine's disk, found {self.folder!r}")
        if self.url is not None and self.folder is None:
            raise ValueError("url is where folder is served: give folder too")
        return self


class Observe(Section):
    """Who watches the runs; no watcher can fail or delay one."""

    log: LogSettings = LogSettings()
    prometheus: PrometheusSettings = PrometheusSettings()
    openlineage: OpenLineageSettings = OpenLineageSettings()
    opentelemetry: bool = Field(
        False,
        description="whether a run and its stages become spans; the standard variables OTEL_* say "
        "where they go. Needs the extra otel",
    )
    report: ReportSettings = ReportSettings()


class Smtp(Section):
    """The server that takes e-mail."""

    host: Name | None = Field(None, description="the mail server; null: no e-mail")
    port: int = Field(587, ge=1, le=65535, description="its port")
    starttls: bool = Field(True, description="whether the connection is encrypted by STARTTLS")
    user: Secret | None = Field(
        None, repr=False, description="the user to log in as, as env:NAME or file:PATH"
    )
    password: Secret | None = Field(
        None, repr=False, description="the password, as env:NAME or file:PATH"
    )
    sender: Annotated[str, Field(pattern=r"^\S+@\S+$")] | None = Field(
        None, description="the address that e-mail comes from"
    )
    to: tuple[Annotated[str, Field(pattern=r"^\S+@\S+$")], ...] = Field(
        (), description="the addresses that e-mail goes to"
    )

    @model_validator(mode="after")
    def _complete(self) -> Smtp:
        faults = []
        if self.host is not None and not (self.sender and self.to):
            faults.append("a host needs sender and to: who e-mail comes from, and who gets it")
        if (self.user is None) != (self.password is None):
            faults.append("user and password go together")
        if self.user is not None and not self.starttls:
            faults.append("a password is sent over an encrypted connection only: set starttls")
        if faults:
            raise ValueError("\n".join(faults))
        return self


class Notify(Section):
    """Who is told when a run needs a person."""

    on: tuple[Literal["failure", "warning", "late"], ...] = Field(
        ("failure", "late"),
        description="what is told: failure (a run ended with an error or a failed gate), warning "
        "(it published, but a check warns or a day is held), late (the as-of day is not complete)",
    )
    webhook: Secret | None = Field(
        None,
        repr=False,
        description="the address of an incoming webhook of Slack, Mattermost or Teams, as env:NAME "
        "or file:PATH",
    )
    payload: Literal["text", "adaptive_card"] = Field(
        "text",
        description="what the webhook takes: text (Slack, Mattermost) or adaptive_card (Workflows "
        "of Teams)",
    )
    smtp: Smtp = Smtp()
