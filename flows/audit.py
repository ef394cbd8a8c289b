"""The audit flow: whether events, ledger and what was released still add up.

The checks are those of ``hbpipe verify``; they read, and change nothing.
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
from hbpipe.config import load_settings
from hbpipe.errors import GateError
from hbpipe.run.night import open_lake
from hbpipe.run.releases import current_release
from hbpipe.run.verification.verify import verify


@flow(name="audit", flow_run_name="audit", persist_result=False)
def audit(
    config: Config,
    env: Env = None,
    sample: Annotated[
        int, Field(ge=1), Told("how many days are recounted, evenly spread over all")
    ] = 3,
    overrides: Overrides = (),
) -> None:
    """Verify the current release, and recount some days from the raw files.

    Raises
    ------
    GateError
        When something does not add up; the table ``findings`` says what.
    LakeError
        When there is no release.
    """
    settings = load_settings(config, env, overrides)
    prefect = PrefectObserver(settings.pipeline, get_run_logger())
    lake = open_lake(settings)
    findings = run_as_task("verify", partial(verify, settings, lake, full=True, sample=sample))
    release = current_release(lake, settings.environment)
    if release is not None:
        prefect.name_run(this_run().id, f"audit {release['as_of']}")
    failed = [finding for finding in findings if not finding.fine]
    passed = [finding for finding in findings if finding.fine]
    prefect.table("findings", [vars(finding) for finding in (*failed, *passed)])
    if failed:
        raise GateError(
            f"{len(failed)} of {len(findings)} checks failed: {failed[0].name}",
            where={"lake": lake.uri},
            expected="files, ledger, statistics and posteriors that add up",
            remedy="read the artifact findings, or run hbpipe verify",
        )
