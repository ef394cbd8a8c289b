"""The verb that audits: a release against full Bayes, or the checks that runs recorded."""

from __future__ import annotations

from argparse import Namespace

from hbpipe.commands.common import print_json, settings_of
from hbpipe.errors import ConfigError, LeaseError
from hbpipe.observe import observers_of
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.tables import text_table
from hbpipe.report.terminal import show
from hbpipe.run.audits import by_severity, recorded_checks
from hbpipe.run.full_bayes.audit import AuditReport, Request, audit_release
from hbpipe.run.night import open_lake
from hbpipe.run.observe import Observers

_TOLD = ("status", "name", "subject", "value", "threshold", "message")
#: Options of one form of the verb, and what they are when they are not given.
_OF_CHECKS = ("run_id", "as_of")
_OF_FULL_BAYES = ("release", "metric", "pools", "stores", "seed", "by")


def audit(arguments: Namespace) -> int:
    """Compare the release with full Bayes, or print recorded checks; 3 when one failed."""
    _refuse_others(arguments)
    return _recorded(arguments) if arguments.checks else _full_bayes(arguments)


def _refuse_others(arguments: Namespace) -> None:
    """Refuse options of the other form of the verb."""
    foreign = _OF_FULL_BAYES if arguments.checks else _OF_CHECKS
    for name in foreign:
        if getattr(arguments, name) is not None:
            option = "--" + name.removesuffix("_id").replace("_", "-")
            raise ConfigError(
                f"{option} {'beside' if arguments.checks else 'without'} --checks",
                expected="--checks with --run and --as-of; --release, --metric, --pools, --stores, "
                "--seed and --by without it",
            )


def _full_bayes(arguments: Namespace) -> int:
    settings = settings_of(arguments)
    given = {name: getattr(arguments, name) for name in _OF_FULL_BAYES if name != "release"}
    request = Request(**{name: value for name, value in given.items() if value is not None})
    with ConsoleObserver(arguments.quiet or arguments.json) as console:
        observer = Observers(console, observers_of(settings))
        found = audit_release(settings, request, release=arguments.release, observer=observer)
    if arguments.json:
        print_json(found.to_dict())
    else:
        show(_text(found))
    if found.failed:
        return 3
    return 0 if found.unrecorded is None else LeaseError.exit_code


def _text(found: AuditReport) -> str:
    lines = [
        f"release {found.release} against full Bayes: {len(found.failed)} of "
        f"{len(found.checks)} comparisons disagree",
        text_table(
            [{name: vars(one)[name] for name in _TOLD} for one in by_severity(found.checks)]
        ),
    ]
    if found.unrecorded is not None:
        lines.append(f"not recorded: {found.unrecorded}")
    return "\n".join(lines)


def _recorded(arguments: Namespace) -> int:
    """Print the checks of a run, whether or not it published."""
    rows = recorded_checks(
        open_lake(settings_of(arguments)), run_id=arguments.run_id, as_of=arguments.as_of
    )
    run_id, failed = rows[0]["run_id"], sum(row["status"] == "fail" for row in rows)
    if arguments.json:
        print_json({"run_id": run_id, "failed": failed, "checks": rows})
    else:
        told = ("status", "as_of", *_TOLD[1:])
        show(f"run {run_id}: {failed} of {len(rows)} checks failed")
        show(text_table([{name: row[name] for name in told} for row in rows]))
    return 3 if failed else 0
