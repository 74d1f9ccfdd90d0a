"""Check the path of an event: the trail, the rule and its target, the bus policy, the queues and their policies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import matches, policy_differences, property_differences
from infra.deploy.preflight import EVENT_REGIONS
from infra.deploy.trail import read_trails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.deploy.health.deployed import Deployed

#: Properties of a queue that GetQueueAttributes returns, apart from JSON documents.
_OF_SCHEDULES: Final = ("State", "ScheduleExpression", "FlexibleTimeWindow", "Target")
_OF_QUEUES: Final = ("VisibilityTimeout", "MessageRetentionPeriod", "SqsManagedSseEnabled")
_DOCUMENTS: Final = ("RedrivePolicy", "RedriveAllowPolicy")
#: A stack, and the logical id of a rule in it.
Rule: TypeAlias = "tuple[Deployed, str]"


def trail(client: Callable[..., Any], *, account: str, management_account: str, partition: str) -> Iterator[Check]:
    """Check that a trail of the management account logs the events, in the Region where they are."""
    region = EVENT_REGIONS.get(partition)
    if region is None:
        yield Check("trail", f"cannot be read: the event Region of {partition} is not known", "unknown")
    elif account != management_account:
        found = f"cannot be read from account {account}: join events need a trail in account {management_account}"
        step = "in the management account, run aws cloudtrail describe-trails and get-trail-status"
        yield Check("trail", found, "unknown", step, needs_operator=False)
    else:
        trails = read_trails(lambda home: client("cloudtrail", region=home), region)
        step = "handlers/operate/RUNBOOK.md#no-trail"
        yield Check("trail", trails.found, "ok" if trails.working else "wrong", step)


def trail_of_pages(client: Callable[..., Any], stack: Deployed, name: str, management_account: str) -> Iterator[Check]:
    """Check that a trail logs the events that a rule that pages matches, in the stack's account and Region."""
    what = f"trail of {name}"
    if stack.account != management_account:
        found = f"cannot be read from account {stack.account} if it is the organization's"
        step = f"in account {management_account}, see that no trail leaves out the events of KMS and S3"
        yield Check(what, found, "unknown", step, needs_operator=False)
        return
    [source] = stack.properties(name)["EventPattern"]["detail"]["eventSource"]
    trails = read_trails(lambda home: client("cloudtrail", region=home), stack.region, source)
    step = "handlers/operate/RUNBOOK.md#no-trail"
    yield Check(what, trails.found, "ok" if trails.working else "wrong", step)


def rule(events: Any, stack: Deployed, name: str, what: str = "rule") -> Iterator[Check]:
    """Check a rule's state and pattern."""
    declared = stack.properties(name)
    actual = events.describe_rule(Name=stack.short_id(name))
    differences = []
    if actual["State"] != "ENABLED":
        differences.append(actual["State"])
    if not _same_pattern(declared["EventPattern"], json.loads(actual.get("EventPattern", "{}"))):
        differences.append("the pattern was changed")
    yield compared(what, actual["State"], differences)


def forwarded(forwarder: Rule, rule: Rule, what: str, step: str) -> Iterator[Check]:
    """Check that the forwarder's rule was deployed with the pattern of the main stack's rule."""
    patterns = [
        stack.resolve(stack.declaration(name)["Properties"]["EventPattern"]) for stack, name in (forwarder, rule)
    ]
    differences = [] if _same_pattern(*patterns) else ["it was deployed for other events than the rule"]
    yield compared(what, "that of the rule", differences, next_step=step)


def target(events: Any, stack: Deployed, name: str, what: str = "target") -> Iterator[Check]:
    """Check that a rule has its declared target, and no other."""
    declared = stack.properties(name)["Targets"]
    actual = {each["Id"]: each for each in events.list_targets_by_rule(Rule=stack.short_id(name))["Targets"]}
    differences = []
    for each in declared:
        found = actual.pop(each["Id"], None)
        if found is None:
            differences.append(f"the rule has no target {each['Id']}")
        else:
            differences += property_differences(each, found, each)
    differences += [f"the rule has another target {each}" for each in actual]
    yield compared(what, ", ".join(each["Id"] for each in declared), differences)


def bus_policy(events: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check that the forwarder's account may put events on the default bus."""
    declared = stack.properties(name)
    policy = json.loads(events.describe_event_bus().get("Policy") or '{"Statement": []}')
    # The bus has one policy for everybody, so only our statement is compared.
    ours = [each for each in policy["Statement"] if each.get("Sid") == declared["StatementId"]]
    expected = {"Statement": [declared["Statement"] | {"Sid": declared["StatementId"]}]}
    document = json.dumps({"Statement": ours}) if ours else None
    yield compared("bus policy", declared["StatementId"], policy_differences(expected, document))


def schedule(scheduler: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Compare a schedule with the declared one."""
    actual = scheduler.get_schedule(Name=stack.short_id(name))
    differences = property_differences(stack.properties(name), actual, _OF_SCHEDULES)
    yield compared(f"schedule {name}", f"{actual['State']}, {actual['ScheduleExpression']}", differences)


def queue(sqs: Any, stack: Deployed, name: str, what: str, *, needs_operator: str = "") -> Iterator[Check]:
    """Count a queue's messages and compare its settings; `needs_operator` is the next step if it is not empty."""
    attributes = sqs.get_queue_attributes(QueueUrl=stack.id(name), AttributeNames=["All"])["Attributes"]
    visible = int(attributes["ApproximateNumberOfMessages"])
    # A message that somebody looks at is in flight, and still there.
    in_flight = int(attributes["ApproximateNumberOfMessagesNotVisible"])
    found = f"{visible + in_flight} ({in_flight} of them in flight)" if in_flight else str(visible)
    waits = bool(needs_operator) and visible + in_flight > 0
    yield Check(what, found, "wrong" if waits else "ok", needs_operator)
    declared = stack.properties(name)
    differences = [*property_differences(declared, attributes, _OF_QUEUES)]
    differences += [
        f"{each} was changed"
        for each in _DOCUMENTS
        if each in declared and not matches(declared[each], json.loads(attributes.get(each, "{}")))
    ]
    if differences:
        yield compared(f"queue {name}", "", differences)


def queue_policy(sqs: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Compare the policies of the queues to which a queue policy belongs."""
    document = stack.properties(name)["PolicyDocument"]
    for reference in stack.declaration(name)["Properties"]["Queues"]:
        queue_name = reference["Ref"]
        url = stack.id(queue_name)
        actual = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {}).get("Policy")
        yield compared(f"policy of queue {queue_name}", "as in the template", policy_differences(document, actual))


def _same_pattern(declared: Any, actual: Any) -> bool:
    """Whether two event patterns are equal; AWS adds nothing to a pattern, so both have to match each other."""
    return matches(declared, actual) and matches(actual, declared)
