"""How an installation stands: stack, queues, alarms, mapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.deploy.stack import DeployError, outputs

if TYPE_CHECKING:
    from infra.deploy.stages import Target


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at."""

    what: str
    found: str
    well: bool
    #: What to do where it is not well.
    next_step: str = ""


def signs(target: Target) -> list[Sign]:
    """Look at everything that says whether the installation works; raise DeployError where there is none."""
    stage, cloudformation = target.stage, target.client("cloudformation")
    try:
        stack = cloudformation.describe_stacks(StackName=stage.stack)["Stacks"][0]
    except ClientError as error:
        raise DeployError(
            f"there is no stack {stage.stack} in {stage.region}; run `make deploy STAGE={stage.name}`"
        ) from error
    at = outputs(cloudformation, stage.stack)
    status = stack["StackStatus"]
    well = status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
    found = [Sign("stack", status, well, "see its events in CloudFormation, then deploy again")]
    found += _queues(target, at)
    found += _worker(target, at)
    return found + _alarms(target)


def _queues(target: Target, at: dict[str, str]) -> list[Sign]:
    sqs = target.client("sqs")

    def waiting(queue: str) -> int:
        asked = sqs.get_queue_attributes(QueueUrl=at[queue], AttributeNames=["ApproximateNumberOfMessages"])
        return int(asked["Attributes"]["ApproximateNumberOfMessages"])

    dead, undelivered = waiting("DeadLetterQueueUrl"), waiting("UndeliveredQueueUrl")
    return [
        Sign("joins waiting", str(waiting("QueueUrl")), well=True),
        Sign("dead letters", str(dead), not dead, "handlers/operate/RUNBOOK.md#dead-letters"),
        Sign("undelivered", str(undelivered), not undelivered, "handlers/operate/RUNBOOK.md#undelivered"),
    ]


def _worker(target: Target, at: dict[str, str]) -> list[Sign]:
    client = target.client("lambda")
    mappings = client.list_event_source_mappings(FunctionName=at["FunctionName"])["EventSourceMappings"]
    state = mappings[0].get("State", "unknown") if mappings else "missing"
    rule = target.client("events").describe_rule(Name=at["RuleName"].rpartition("/")[2])
    return [
        Sign("mapping", state, state in {"Enabled", "Enabling", "Updating"}, "enable it, or deploy again"),
        Sign("rule", rule["State"], rule["State"] == "ENABLED", "enable it, or deploy again"),
    ]


def _alarms(target: Target) -> list[Sign]:
    pages = (
        target.client("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNamePrefix=f"{target.stage.stack}-", AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    )
    alarms = [alarm for page in pages for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]]
    ringing = [alarm for alarm in alarms if alarm["StateValue"] == "ALARM"]
    found = [Sign("alarms", f"{len(alarms)}, of which {len(ringing)} ring", bool(alarms) and not ringing, "see below")]
    return found + [Sign(a["AlarmName"], "ALARM", well=False, next_step=a.get("AlarmDescription", "")) for a in ringing]
