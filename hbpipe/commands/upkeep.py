"""Verbs that check a lake and what it is made from."""

from __future__ import annotations

from argparse import Namespace
from datetime import date
from typing import Any

from hbpipe.commands.common import WORK, confirm, print_findings, print_json, settings_of
from hbpipe.errors import ConfigError
from hbpipe.observe import observers_of
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.terminal import show
from hbpipe.report.upkeep import forget_text, upkeep_text
from hbpipe.run.forget import forget as forget_unit
from hbpipe.run.night import open_lake
from hbpipe.run.observe import Observers
from hbpipe.run.retention import maintain
from hbpipe.run.verification.doctor import examine
from hbpipe.run.verification.verify import verify as verify_lake


def verify(arguments: Namespace) -> int:
    """Check conservation; 3 when something does not add up."""
    settings = settings_of(arguments)
    findings = verify_lake(
        settings,
        open_lake(settings),
        full=arguments.full or arguments.sample is not None,
        days=_day_range(arguments.days),
        sample=arguments.sample,
    )
    failed = [finding for finding in findings if not finding.fine]
    if arguments.json:
        print_json({"fine": not failed, "findings": [vars(finding) for finding in findings]})
    else:
        print_findings(findings)
    return 3 if failed else 0


def _day_range(text: str | None) -> tuple[date, date] | None:
    if text is None:
        return None
    start, _, end = text.partition("..")
    try:
        first, last = date.fromisoformat(start), date.fromisoformat(end or start)
    except ValueError:
        raise ConfigError(f"--days {text!r}", expected="2026-01-01..2026-01-31") from None
    if last < first:
        raise ConfigError(f"--days {text!r} ends before it begins", expected=f"{last}..{first}")
    return first, last


def doctor(arguments: Namespace) -> int:
    """Print what stands in the way of a run; 1 when something does."""
    findings = examine(settings_of(arguments))
    if arguments.json:
        print_json({"findings": [vars(finding) for finding in findings]})
    else:
        print_findings(findings)
    return 0 if all(finding.fine for finding in findings) else 1


def vacuum(arguments: Namespace) -> int:
    """Expire and delete, or show what would go; 10 for a dry run that finds something."""
    settings = settings_of(arguments)
    with ConsoleObserver(arguments.quiet or arguments.json) as console:
        found = maintain(
            settings,
            keep_hours=arguments.keep_hours,
            dry_run=arguments.dry_run,
            observer=Observers(console, observers_of(settings)),
        )
    if arguments.json:
        print_json(found.to_dict())
    else:
        show(upkeep_text(found, done=not arguments.dry_run))
    return WORK if arguments.dry_run and found.work else 0


def forget(arguments: Namespace) -> int:
    """Forget a unit, or show what there is of it; 3 when traces are left."""
    settings = settings_of(arguments)
    options: dict[str, Any] = {
        "level": arguments.level,
        "parents": _parents(arguments.parent),
        "reason": arguments.reason,
    }
    found = forget_unit(settings, arguments.unit, dry_run=True, **options)
    if not arguments.dry_run:
        if not arguments.yes:
            confirm(forget_text(found, done=False), "a unit waits to be forgotten for good")
        found = forget_unit(settings, arguments.unit, **options)
    if arguments.json:
        print_json(found.to_dict())
    else:
        show(forget_text(found, done=not arguments.dry_run))
    return WORK if arguments.dry_run and found.work else 0


def _parents(given: list[str]) -> dict[str, str]:
    parents = {}
    for text in given:
        level, found, value = text.partition("=")
        if not found:
            raise ConfigError(f"--parent {text!r}", expected="LEVEL=VALUE")
        parents[level] = value
    return parents
