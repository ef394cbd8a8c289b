"""The maintenance flow: what retention no longer keeps goes, and how old what readers see is.

The work is that of ``hbpipe vacuum`` and ``hbpipe freshness``. No kept release loses a file.
"""

# Annotations are not postponed here, as in nightly.py.

from functools import partial
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows.due import this_run
from flows.observer import PrefectObserver, everyone
from flows.parameters import Config, Env, Overrides, Told
from flows.tasks import run_as_task
from hbpipe.config import load_settings
from hbpipe.report.tables import cell
from hbpipe.report.upkeep import upkeep_text
from hbpipe.run.freshness import freshness, freshness_rows
from hbpipe.run.night import open_lake
from hbpipe.run.retention import maintain


@flow(name="maintenance", flow_run_name="maintenance", persist_result=False)
def maintenance(
    config: Config,
    env: Env = None,
    keep_hours: Annotated[
        float | None,
        Field(ge=0),
        Told("how long files stay that no release needs; by default retention.staging"),
    ] = None,
    overrides: Overrides = (),
) -> None:
    """Expire what ``retention`` says, delete what nothing needs, and tell how fresh readers are.

    Raises
    ------
    LeaseError
        When a run holds the lease.
    LakeError
        When a table cannot be read or written. What is left, the next maintenance does.
    """
    settings = load_settings(config, env, overrides)
    prefect, run = PrefectObserver(settings.pipeline, get_run_logger()), this_run()
    observer = everyone(settings, prefect, run)
    found = run_as_task(
        "vacuum", partial(maintain, settings, keep_hours=keep_hours, observer=observer)
    )
    seen = run_as_task("freshness", partial(freshness, open_lake(settings), settings))
    if seen[0].as_of is not None:
        prefect.name_run(run.id, f"maintenance {seen[0].as_of}")
    prefect.report(upkeep_text(found, done=True))
    prefect.table("deleted", found.to_dict()["tables"])
    rows = [{name: cell(value) for name, value in row.items()} for row in freshness_rows(seen)]
    prefect.table("freshness", rows)
