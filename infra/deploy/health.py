"""Check an installation: stack, queues, event source mapping, rule, alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.deploy.stack import DeployError, outputs

if TYPE_CHECKING:
    from infra.deploy.stages import Target


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    what: str
    found: str
    well: bool
    #: What to do if it is not well.
    next_step: str = ""


def checks(target: Target) -> list[Check]:
    """Check whether the installation works; raise DeployError if there is no stack."""
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
    of_stack = Check("stack", status, well, "read its events in CloudFormation, then deploy again")
    return [of_stack, *_queues(target, at), *_worker(target, at), *_alarms(target)]


def _queues(target: Target, at: dict[str, str]) -> list[Check]:
    sqs = target.client("sqs")

    def backlog(queue: str) -> int:
        name = "ApproximateNumberOfMessages"
        return int(sqs.get_queue_attributes(QueueUrl=at[queue], AttributeNames=[name])["Attributes"][name])

    dead, undelivered = backlog("DeadLetterQueueUrl"), backlog("UndeliveredQueueUrl")
    return [
        Check("joins waiting", str(backlog("QueueUrl")), well=True),
        Check("dead letters", str(dead), not dead, "handlers/operate/RUNBOOK.md#dead-letters"),
        Check("undelivered", str(undelivered), not undelivered, "handlers/operate/RUNBOOK.md#undelivered"),
    ]


def _worker(target: Target, at: dict[str, str]) -> list[Check]:
    client = target.client("lambda")
    mappings = client.list_event_source_mappings(FunctionName=at["FunctionName"])["EventSourceMappings"]
    state = mappings[0].get("State", "unknown") if mappings else "missing"
    rule = target.client("events").describe_rule(Name=at["RuleName"].rpartition("/")[2])
    return [
        Check("mapping", state, state in {"Enabled", "Enabling", "Updating"}, "enable it or deploy again"),
        Check("rule", rule["State"], rule["State"] == "ENABLED", "enable it or deploy again"),
    ]


def _alarms(target: Target) -> list[Check]:
    pages = (
        target.client("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNamePrefix=f"{target.stage.stack}-", AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    )
    alarms = [alarm for page in pages for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]]
    on = [alarm for alarm in alarms if alarm["StateValue"] == "ALARM"]
    step = "follow the rows below" if alarms else "deploy again: the stack has no alarms"
    summary = Check("alarms", f"{len(on)} of {len(alarms)} in ALARM", bool(alarms) and not on, step)
    return [summary, *(Check(a["AlarmName"], "ALARM", well=False, next_step=a.get("AlarmDescription", "")) for a in on)]
