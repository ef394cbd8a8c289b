"""What a Prefect server does by itself: it ends runs that fell silent, and tells of bad ends.

    python -m flows.alerts [--webhook env:NAME|file:PATH]

hbpipe tells of its own failures (``notify`` in the settings). A process that was killed tells
nothing; its heartbeat stops, and a run that the server holds to be running would keep the only
place in the work pool.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from hbpipe.config import resolve_secrets
from hbpipe.errors import HbpipeError

#: Three heartbeats and a bit; a run sends one in three minutes.
SILENCE = timedelta(minutes=10)
_ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")
_BAD_ENDS = ("Failed", "Crashed", "TimedOut")
#: Of the deployments in infra/prefect.yaml alone; other pipelines may share the server.
_OURS: dict[str, Any] = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {"prefect.resource.id": "prefect.tag.hbpipe"},
    "for_each": {"prefect.resource.id"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the automations, or bring them up to date; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.alerts", description=__doc__)
    parser.add_argument("--webhook", help="where to tell of bad ends, as env:NAME or file:PATH")
    webhook = parser.parse_args(arguments).webhook
    try:
        block = None if webhook is None else _keep_webhook(webhook)
    except HbpipeError as error:
        print(f"hbpipe: {error}", file=sys.stderr)
        return error.exit_code
    with get_client(sync_client=True) as client:
        for automation in automations(block):
            _put(client, automation)
            print(automation.name)
    return 0


def automations(block: UUID | None) -> Iterator[AutomationCore]:
    """Give the automations; ``block`` is the notification block to use, None for none."""
    yield AutomationCore(
        name="hbpipe: end runs that fell silent",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={_event("heartbeat")},
            expect={_event("heartbeat"), *map(_event, _ENDS)},
            threshold=1,
            within=SILENCE,
            **_OURS,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {SILENCE}. What it committed is kept; the next run "
                "takes up what is missing.",
            )
        ],
    )
    if block is not None:
        yield AutomationCore(
            name="hbpipe: tell of bad ends",
            trigger=EventTrigger(
                posture=Posture.Reactive,
                expect={_event(end) for end in _BAD_ENDS},
                threshold=1,
                within=timedelta(0),
                **_OURS,
            ),
            actions=[
                SendNotification(
                    block_document_id=block,
                    subject="hbpipe: {{ flow_run.name }} {{ flow_run.state.name }}",
                    body="{{ flow_run.state.message }}\n{{ flow_run|ui_url }}",
                )
            ],
        )


def _event(name: str) -> str:
    return f"prefect.flow-run.{name}"


def _keep_webhook(reference: str) -> UUID:
    """Keep the webhook's address on the server, encrypted; returns the block's id."""
    address = resolve_secrets({"webhook": reference})["webhook"]
    block = CustomWebhookNotificationBlock(
        name="hbpipe",
        url="{{webhook}}",
        json_data={"text": "{{subject}}\n{{body}}"},  # what Slack, Mattermost and Teams take
        secrets={"webhook": address},
    )
    saved: Any = block.save("hbpipe", overwrite=True)
    return UUID(str(saved))


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    found = client.read_automations_by_name(automation.name)
    if found:
        client.update_automation(found[0].id, automation)
    else:
        client.create_automation(automation)


if __name__ == "__main__":
    sys.exit(main())
