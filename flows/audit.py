"""The audit flow: whether events, ledger and releases still add up, and are young enough.

The checks are those of ``hbpipe verify``, ``hbpipe freshness`` and, where it is asked for,
``hbpipe audit``; they change nothing that readers of numbers see.
"""

# Annotations are not postponed here, as in nightly.py.

from functools import partial
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows.due import this_run
from flows.observer import PrefectObserver
from flows.parameters import Config, Env, Overrides, Told
from flows.tasks import run_as_task
from hbpipe.config import Settings, load_settings
from hbpipe.data.lake import Lake
from hbpipe.errors import GateError
from hbpipe.run.audits import by_severity
from hbpipe.run.freshness import freshness
from hbpipe.run.full_bayes.audit import audit_release
from hbpipe.run.night import open_lake
from hbpipe.run.releases import current_release
from hbpipe.run.verification.findings import Finding
from hbpipe.run.verification.verify import verify


@flow(name="audit", flow_run_name="audit", persist_result=False)
def audit(
    config: Config,
    env: Env = None,
    sample: Annotated[
        int, Field(ge=1), Told("how many days are recounted, evenly spread over all")
    ] = 3,
    full_bayes: Annotated[
        bool, Told("also compare the release with full Bayes, which may take minutes")
    ] = False,
    overrides: Overrides = (),
) -> None:
    """Verify the current release and its age, and recount some days from the raw files.

    Raises
    ------
    GateError
        When something does not add up, or what readers see is too old; the table ``findings``
        says what. Also when full Bayes says something else: see the table ``full-bayes``.
    LakeError
        When there is no release.
    """
    settings = load_settings(config, env, overrides)
    prefect = PrefectObserver(settings.pipeline, get_run_logger())
    lake = open_lake(settings)
    findings = run_as_task("verify", partial(verify, settings, lake, full=True, sample=sample))
    findings.append(run_as_task("freshness", partial(_age, settings, lake)))
    release = current_release(lake, settings.environment)
    if release is not None:
        prefect.name_run(this_run().id, f"audit {release['as_of']}")
    if full_bayes:
        findings.append(run_as_task("full_bayes", partial(_full_bayes, settings, prefect)))
    failed = [finding for finding in findings if not finding.fine]
    passed = [finding for finding in findings if finding.fine]
    prefect.table("findings", [vars(finding) for finding in (*failed, *passed)])
    if failed:
        raise GateError(
            f"{len(failed)} of {len(findings)} checks failed: {failed[0].name}",
            where={"lake": lake.uri},
            expected="files, ledger, statistics and posteriors that add up, and a release in time",
            remedy="read the artifact findings, or run hbpipe verify, hbpipe freshness and hbpipe "
            "audit",
        )


def _age(settings: Settings, lake: Lake) -> Finding:
    """Say what readers see; a fault when its day ended longer ago than ``audits.max_age``."""
    seen = freshness(lake, settings)[0]
    told = f"readers see {seen.as_of or 'nothing'}; {seen.expected} is the last day that is over"
    return Finding("freshness", not seen.late, told)


def _full_bayes(settings: Settings, prefect: PrefectObserver) -> Finding:
    """Compare the release with full Bayes, and show every comparison."""
    found = audit_release(settings, observer=prefect)
    prefect.table("full-bayes", [vars(check) for check in by_severity(found.checks)])
    told = f"{len(found.failed)} of {len(found.checks)} comparisons with full Bayes disagree"
    if found.unrecorded is not None:
        told += f"; not recorded: {found.unrecorded}"
    return Finding("full_bayes", not found.failed, told)
