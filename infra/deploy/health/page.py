"""Check what pages a person: each alarm by its name, the topic, and its confirmed subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from infra.deploy.health.check import RESTORE, Check, compared
from infra.deploy.health.deployed import MissingError
from infra.deploy.health.difference import policy_differences, property_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed

_KINDS: Final = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
_COMPARED: Final = (
    "AlarmRule",
    "AlarmActions",
    "OKActions",
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistic",
    "Metrics",
    "Period",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "ComparisonOperator",
    "Threshold",
    "TreatMissingData",
)
#: DescribeAlarms accepts at most 100 names.
_BATCH: Final = 100
_NOBODY: Final = (
    "set AlarmEmail in the stage and run `make {command}`, or run aws sns subscribe; the owner of a mail address has "
    "to confirm"
)


def alarms(cloudwatch: Any, stack: Deployed, what: str = "alarms") -> Iterator[Check]:
    """Check that each alarm of the template exists, is as declared, and is not on. Other stages' do not count."""
    names = [name for kind in _KINDS for name in stack.of_type(kind)]
    actual = _read(cloudwatch, [stack.ids[name] for name in names if name in stack.ids])
    faulty = [check for name in names for check in _alarm(stack, name, actual)]
    on = sum(1 for each in actual.values() if each["StateValue"] == "ALARM")
    found = f"{on} of {len(names)} in ALARM"
    if len(actual) < len(names):
        found += f", {len(names) - len(actual)} missing"
    yield Check(what, found, "wrong" if faulty else "ok", "follow the rows below")
    yield from faulty


def _read(cloudwatch: Any, ids: list[str]) -> dict[str, Any]:
    """Return the alarms with these names."""
    found: dict[str, Any] = {}
    for start in range(0, len(ids), _BATCH):
        page = cloudwatch.describe_alarms(
            AlarmNames=ids[start : start + _BATCH], AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=_BATCH
        )
        listed = [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]
        found |= {each["AlarmName"]: each for each in listed}
    return found


def _alarm(stack: Deployed, name: str, actual: dict[str, Any]) -> Iterator[Check]:
    try:
        physical = stack.id(name)
        declared = stack.properties(name)
    except MissingError as error:
        yield Check(f"alarm {name}", str(error), "wrong", RESTORE)
        return
    alarm = actual.get(physical)
    if alarm is None:
        yield Check(physical, "was deleted", "wrong", RESTORE)
        return
    if alarm["StateValue"] == "ALARM":
        yield Check(physical, "ALARM", "wrong", declared.get("AlarmDescription", ""))
    differences = [*property_differences(declared, alarm, _COMPARED)]
    if not alarm.get("ActionsEnabled", True):
        differences.append("its actions are disabled")
    if differences:
        yield compared(physical, "", differences)


def topic(sns: Any, stack: Deployed, name: str, whose: str = "") -> Iterator[Check]:
    """Check that somebody gets the page, and that the topic's key and policy are as declared.

    `whose` begins the names of the checks: empty, or "forwarder's ".
    """
    arn = stack.id(name)
    attributes = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    yield subscribers(attributes, whose)
    differences = []
    if attributes.get("KmsMasterKeyId", "") != stack.properties(name).get("KmsMasterKeyId", ""):
        differences.append("its key was changed")
    for policy in stack.of_type("AWS::SNS::TopicPolicy"):
        differences += policy_differences(stack.properties(policy)["PolicyDocument"], attributes.get("Policy"))
    yield compared(f"{whose}topic", arn.rpartition(":")[2], differences)


def subscribers(attributes: dict[str, str], whose: str = "") -> Check:
    """Count the confirmed subscriptions of a topic."""
    confirmed, pending = (int(attributes.get(f"Subscriptions{each}", 0)) for each in ("Confirmed", "Pending"))
    found = f"{confirmed} confirmed" + (f", {pending} not confirmed" if pending else "")
    if not confirmed:
        found = f"nobody gets the page: {found}"
    step = _NOBODY.format(command="forwarder" if whose else "deploy")
    return Check(f"{whose}subscribers", found, "ok" if confirmed else "wrong", step)
