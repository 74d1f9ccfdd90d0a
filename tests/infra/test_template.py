"""Properties that the template must keep."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from moto.events.models import EventPattern

from handlers.core.joins.yielding import YIELDS_FOR
from handlers.core.timing import MAX_BACKOFF, RESERVE, backoff
from handlers.settings import RemoverSettings, SealSettings, Settings, SweepSettings
from infra.deploy.build import ROOT
from infra.deploy.health.deployed import Deployed
from infra.deploy.installing import watch_parameters
from infra.deploy.stages import Stage
from infra.deploy.template import dump, load
from infra.local.events import rehearsal
from schemas.compiled_guardrails import CompiledGuardrails, CompiledPolicy, CompiledRule, CompiledSelector, OuRange
from schemas.events import JoinRequest
from schemas.keys import event_prefix, rehearsal_prefix
from schemas.outcome import OutcomeStatus
from tests.messages import (
    Event,
    announced,
    closed,
    created,
    deleted,
    departed,
    detached,
    disabled,
    invited,
    left,
    moved,
    removed,
    tagged,
    untagged,
    updated,
    with_detail,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT = (ROOT / "infra" / "template.yaml").read_text()
TEMPLATE = load(TEXT)
FORWARDER = load((ROOT / "infra" / "forwarder.yaml").read_text())
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


#: Actions that support no resource according to AWS's service authorization reference. DescribeAlarms supports alarms,
#: but returns composite alarms only if the resource is "*" (DescribeAlarms in CloudWatch's API reference).
WITHOUT_RESOURCES = {
    "access-analyzer:ValidatePolicy",
    "cloudtrail:DescribeTrails",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetMetricData",
    "lambda:GetAccountSettings",
    "lambda:ListEventSourceMappings",
    "organizations:DescribeOrganization",
    "organizations:ListAccounts",
    "organizations:ListPolicies",
    "organizations:ListRoots",
    "tag:GetResources",
}


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    found = {name: each.get("Properties", {}) for name, each in RESOURCES.items() if each["Type"] == kind}
    assert found, f"the template has no {kind}"
    return found


def resolved(value: Any, template: Mapping[str, Any], changes: Mapping[str, str]) -> Any:
    """Return a part of a template as CloudFormation resolves it with the parameters' defaults and these changes."""
    return stack_of(template, changes).resolve(value)


def stack_of(template: Mapping[str, Any], changes: Mapping[str, str]) -> Deployed:
    defaults = {name: str(each.get("Default", "")) for name, each in template["Parameters"].items()}
    return Deployed(
        name="joinguard",
        stack_id="arn:aws:cloudformation:us-east-1:111111111111:stack/joinguard/1",
        status="CREATE_COMPLETE",
        reason="",
        parameters=defaults | dict(changes),
        template=template,
        ids={name: f"{name}-1" for name in template["Resources"]},
    )


def statements() -> list[tuple[str, dict[str, Any]]]:
    """Return each role's name with each statement of its inline and attached policies."""
    found = []
    for role, properties in of_type("AWS::IAM::Role").items():
        attached = [RESOURCES[arn["Ref"]]["Properties"] for arn in properties.get("ManagedPolicyArns", [])]
        attached += [each for each in of_type("AWS::IAM::Policy").values() if {"Ref": role} in each["Roles"]]
        documents = [policy["PolicyDocument"] for policy in [*properties.get("Policies", []), *attached]]
        found += [(role, statement) for document in documents for statement in document["Statement"]]
    return found


def test_the_visibility_timeout_is_six_times_the_functions_timeout() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    for mapping in of_type("AWS::Lambda::EventSourceMapping").values():
        queue = RESOURCES[mapping["EventSourceArn"]["Fn::GetAtt"][0]]["Properties"]
        function = RESOURCES[mapping["FunctionName"]["Ref"]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]


def test_dead_letters_outlive_their_source() -> None:
    """SQS counts a message's age from when it was first sent, even in the dead-letter queue."""
    for queue in of_type("AWS::SQS::Queue").values():
        if "RedrivePolicy" in queue:
            dead_letters = RESOURCES[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]["Properties"]
            assert dead_letters["MessageRetentionPeriod"] == 14 * 24 * 3600 > queue["MessageRetentionPeriod"]


def test_the_retries_of_a_message_last_at_least_two_hours() -> None:
    """The least pauses that the worker's backoff can draw; the last receive needs no pause after it."""
    for name in ("Joins", "Repairs", "Removals"):
        queue = RESOURCES[name]["Properties"]
        pauses = [backoff(number, Shortest()) for number in range(1, queue["RedrivePolicy"]["maxReceiveCount"])]

        assert timedelta(hours=2) <= timedelta(seconds=sum(pauses)) <= timedelta(hours=3)
        assert sum(pauses) + MAX_BACKOFF < queue["MessageRetentionPeriod"]


class Shortest(Random):
    """Draws the lower bound."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the signature of the random generator
        return a


def test_an_alarm_counts_retries_itself_and_leaves_time_to_act() -> None:
    """SQS's age metric leaves out messages that were received three times or more."""
    alarm = ALARMS["JoinsRetried"]
    receives = RESOURCES["Joins"]["Properties"]["RedrivePolicy"]["maxReceiveCount"]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("Joinguard", "ReceivesOfRetriedMessages")
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Maximum", "GreaterThanThreshold")
    assert 3 < alarm["Threshold"] < receives / 2


def test_a_record_fails_alone_and_at_most_two_workers_run() -> None:
    for mapping in of_type("AWS::Lambda::EventSourceMapping").values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"]["MaximumConcurrency"] == 2


def pattern_of(
    changes: Mapping[str, str], template: Mapping[str, Any] = TEMPLATE, rule: str = "MemberAccountInitialization"
) -> Any:
    """Return a rule's pattern with the parameters' defaults and these changes."""
    return resolved(template["Resources"][rule]["Properties"]["EventPattern"], template, changes)


def matches(pattern: Any, event: Any) -> bool:
    """Return whether a rule with this pattern matches an event."""
    return bool(EventPattern.load(json.dumps(pattern)).matches_event(event))


def test_the_rule_matches_the_events_name_and_never_its_detail_type() -> None:
    """Without guardrails that depend on OUs or tags, it matches neither moves nor tags."""
    assert pattern_of({}) == {
        "source": ["aws.organizations", "joinguard.rehearsal"],
        "detail": {
            "eventSource": ["organizations.amazonaws.com"],
            "eventName": [
                "AcceptHandshake",
                "AccountJoinedOrganization",
                "CreateAccountResult",
                "AccountDepartedOrganization",
                "CloseAccountResult",
                "LeaveOrganization",
                "RemoveAccountFromOrganization",
                "DeletePolicy",
                "DetachPolicy",
                "DisablePolicyType",
                "UpdatePolicy",
                "Rehearsal",
            ],
            "errorCode": [{"exists": False}],
        },
    }


#: What is matched in every stage.
ALWAYS = {
    "invited": invited(),
    "created": created(),
    "announced": announced(),
    "departed": departed(),
    "removed": removed(),
    "left": left(),
    "closed": closed(),
    "detached": detached(),
    "detached from an OU": detached("ou-exam-12345678"),
    "updated": updated(),
    "deleted": deleted(),
    "disabled": disabled(),
}
#: Each with the parameter that makes the rule match it.
CHANGES: dict[str, tuple[str, Event]] = {
    "moved": ("WatchMoves", moved()),
    "tagged": ("WatchTags", tagged()),
    "untagged": ("WatchTags", untagged()),
    "an account whose id begins with a zero": ("WatchTags", tagged(resourceId="012345678901")),
    "an account whose id begins with a nine": ("WatchTags", untagged(resourceId="912345678901")),
}
UNRELATED: dict[str, Event] = {
    "tags of an OU": tagged(resourceId="ou-exam-12345678"),
    "tags of the root": untagged(resourceId="r-exam"),
    "tags of a policy": tagged(resourceId="p-aaaaaaaa"),
    "tags of the resource policy": untagged(resourceId="rp-aaaaaaaa"),
    "a call that failed": with_detail(moved(), errorCode="AccountNotFoundException"),
    "a removal that failed": with_detail(removed(), errorCode="AccessDenied"),
    "a join that failed": with_detail(invited(), errorCode="AccessDenied"),
    "a closed account": with_detail(moved(), eventName="CloseAccount"),
    "another service's event of this name": with_detail(tagged(), eventSource="kms.amazonaws.com"),
}
WATCHED = [{"WatchMoves": moves, "WatchTags": tags} for moves in ("false", "true") for tags in ("false", "true")]


@pytest.mark.parametrize("watched", WATCHED, ids=lambda each: f"moves {each['WatchMoves']}, tags {each['WatchTags']}")
def test_the_rule_matches_changes_of_accounts_only_where_they_are_watched(
    watched: dict[str, str],
) -> None:
    pattern: Any = EventPattern.load(json.dumps(pattern_of(watched)))

    assert all(map(pattern.matches_event, ALWAYS.values()))
    found = {name: pattern.matches_event(event) for name, (_, event) in CHANGES.items()}
    assert found == {name: watched[parameter] == "true" for name, (parameter, _) in CHANGES.items()}
    assert not [name for name, event in UNRELATED.items() if pattern.matches_event(event)]


@pytest.mark.parametrize("watched", WATCHED, ids=lambda each: f"moves {each['WatchMoves']}, tags {each['WatchTags']}")
def test_the_rule_matches_what_the_schedule_puts_on_the_bus(watched: dict[str, str]) -> None:
    """The rehearsal has every key that the pattern requires, so a pattern that matches no joins loses it."""
    pattern: Any = pattern_of(watched)
    target = RESOURCES["Rehearsal"]["Properties"]["Target"]
    detail = json.loads(target["Input"])
    event = rehearsal("111111111111", source=target["EventBridgeParameters"]["Source"], detail=detail)

    assert matches(pattern, event)
    assert detail == rehearsal("111111111111")["detail"]
    for name in ("eventSource", "eventName"):
        changed = pattern | {"detail": pattern["detail"] | {name: ["another"]}}
        assert not matches(changed, event), name


@pytest.mark.parametrize("watched", WATCHED, ids=lambda each: f"moves {each['WatchMoves']}, tags {each['WatchTags']}")
def test_no_event_of_another_source_matches_because_of_rehearsals(watched: dict[str, str]) -> None:
    """AWS has no event that is named Rehearsal."""
    pattern: Any = pattern_of(watched)
    names = [each for each in pattern["detail"]["eventName"] if each != "Rehearsal"]
    before = pattern | {"source": ["aws.organizations"], "detail": pattern["detail"] | {"eventName": names}}
    events = [*ALWAYS.values(), *(event for _, event in CHANGES.values()), *UNRELATED.values(), rehearsal("1" * 12)]
    sources = ("aws.organizations", "aws.kms", "joinguard.operator", "joinguard.rehearsals", "joinguard", "")

    for event in events:
        for source in sources:
            named = event | {"source": source}
            if (source, event["detail"]["eventName"]) != ("aws.organizations", "Rehearsal"):
                assert matches(pattern, named) == matches(before, named), named


PUT_REHEARSALS = {"StringEquals": {"events:source": "joinguard.rehearsal", "events:detail-type": "Joinguard Rehearsal"}}


def test_only_the_schedule_and_operators_put_events_and_only_rehearsals() -> None:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridge.html"""
    may = [(role, each) for role, each in statements() if "events:PutEvents" in _listed(each["Action"])]
    schedule = RESOURCES["Rehearsal"]["Properties"]

    assert sorted(role for role, _ in may) == ["OperatorActs", "RehearsalRole"]
    assert all(each["Action"] == "events:PutEvents" and each["Condition"] == PUT_REHEARSALS for _, each in may)
    assert [each["Sid"] for role, each in statements() if role == "RehearsalRole"] == ["PutRehearsalsOnTheBus"]
    assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": ["RehearsalRole", "Arn"]}
    assert schedule["Target"]["EventBridgeParameters"] == {
        "Source": "joinguard.rehearsal",
        "DetailType": "Joinguard Rehearsal",
    }
    [bus] = {json.dumps(each["Resource"]) for role, each in may if role == "RehearsalRole"}
    assert json.loads(bus) == schedule["Target"]["Arn"]


def test_three_lost_rehearsals_set_off_an_alarm_and_so_does_a_worker_that_publishes_nothing() -> None:
    alarm, schedule = ALARMS["NoRehearsals"], RESOURCES["Rehearsal"]["Properties"]

    assert schedule["ScheduleExpression"] == f"rate({alarm['Period'] // 60} minutes)"
    assert (alarm["Period"] * alarm["EvaluationPeriods"], alarm.get("DatapointsToAlarm", 3)) == (45 * 60, 3)
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AttachPolicies"}}]


def test_the_evidence_of_rehearsals_is_deleted_when_its_lock_ends() -> None:
    rules = RESOURCES["Evidence"]["Properties"]["LifecycleConfiguration"]["Rules"]
    [rule] = [each for each in rules if each["Id"] == "rehearsals"]

    assert rehearsal_prefix(datetime.now(UTC), "event").startswith(rule["Prefix"])
    assert not event_prefix(datetime.now(UTC), "event").startswith(rule["Prefix"])
    assert (rule["ExpirationInDays"], rule["NoncurrentVersionExpiration"]) == (
        {"Ref": "RetentionDays"},
        {"NoncurrentDays": 1},
    )


@pytest.mark.parametrize(
    ("match", "watched"),
    [
        ("all", []),
        ((CompiledSelector(name=("web*",), joined=("INVITED",)),), []),
        ((CompiledSelector(ou=(OuRange(id="r-exam", max_levels=None),)),), ["WatchMoves"]),
        ((CompiledSelector(tags={"environment": ("prod",)}),), ["WatchTags"]),
    ],
    ids=["everyone", "name and join method", "OU", "tag"],
)
def test_the_rule_watches_only_what_the_guardrails_depend_on(match: Any, watched: list[str]) -> None:
    policy = CompiledPolicy(id="p-aaaaaaaa", type="SERVICE_CONTROL_POLICY")
    rules = (CompiledRule(id="rule", attach=(policy.id,), match=match),)

    parameters = watch_parameters(CompiledGuardrails(policies=(policy,), rules=rules))

    assert [name for name, value in parameters.items() if value == "true"] == watched
    assert watch_parameters(None) == {}, "then the stage decides"
    for template in (TEMPLATE, FORWARDER):
        assert all(value in template["Parameters"][name]["AllowedValues"] for name, value in parameters.items())


def test_an_undeliverable_event_is_retried_for_a_day_and_then_kept() -> None:
    rule = RESOURCES["MemberAccountInitialization"]["Properties"]
    [target] = rule["Targets"]

    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": ["Undelivered", "Arn"]}


def test_evidence_is_locked_versioned_private_and_never_deleted() -> None:
    bucket = RESOURCES["Evidence"]["Properties"]

    assert bucket["ObjectLockEnabled"] is True
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert TEMPLATE["Parameters"]["RetentionDays"]["Default"] >= 7 * 365.25
    policy = RESOURCES["EvidencePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    denied = [action for each in policy if each["Effect"] == "Deny" for action in each["Action"]]
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion"} <= set(denied)


def test_no_key_of_the_evidence_is_written_twice() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html"""
    policy = RESOURCES["EvidencePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [once] = [each for each in policy if each["Sid"] == "EachKeyIsWrittenOnce"]

    assert (once["Effect"], once["Principal"], once["Action"]) == ("Deny", "*", "s3:PutObject")
    assert once["Condition"] == {"Null": {"s3:if-none-match": "true"}}


def test_roles_read_and_write_s3_only_in_our_own_account() -> None:
    for role, statement in statements():
        actions = _listed(statement["Action"])
        # Copies of checkpoints are best kept in another account.
        if statement["Sid"] == "CopyCheckpointsToTheBucket":
            continue
        if any(action.startswith(("s3:Get", "s3:Put")) for action in actions):
            ours = {"StringEquals": {"s3:ResourceAccount": {"Ref": "AWS::AccountId"}}}
            assert statement["Condition"] == ours, (role, statement["Sid"])


def test_resources_with_records_or_messages_survive_the_stack() -> None:
    for name in (
        "DeadLetters",
        "DataKey",
        "AccessLogs",
        "TrailLogs",
        "Undelivered",
        "Outcomes",
        "Evidence",
        "PseudonymKey",
        "AttachPoliciesLogs",
    ):
        assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate", name
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain", name


def test_no_role_has_wildcard_actions_or_resources() -> None:
    for role, statement in statements():
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action], (role, statement["Sid"])
        assert statement["Resource"] != "*" or set(actions) <= WITHOUT_RESOURCES, (role, statement["Sid"])


def test_the_worker_may_attach_only_the_named_policies_and_nothing_if_it_only_observes() -> None:
    accounts, policies = [s for _, s in statements() if s["Action"] == "organizations:AttachPolicy"]
    condition, named, other = policies["Resource"]["Fn::If"]
    creates, created, none = other["Fn::If"]

    assert accounts["Resource"]["Fn::Sub"].endswith(":account/${OrganizationId}/*")
    assert (condition, named, creates) == ("NamesPolicies", {"Ref": "PolicyArns"}, "CreatesPolicies")
    assert none["Fn::Sub"].endswith("/service_control_policy/-")
    prefix = (
        "arn:${AWS::Partition}:organizations::${ManagementAccountId}:policy/${OrganizationId}/service_control_policy"
    )
    assert [each["Fn::Sub"] for each in created] == [f"{prefix}/${{DenyCdnPurchase}}", f"{prefix}/${{DenyLeave}}"]
    assert [each["Effect"] for each in (accounts, policies)] == [{"Fn::If": ["Attaches", "Allow", "Deny"]}] * 2


def test_the_worker_reads_facts_and_guardrails_only_where_there_are_guardrails() -> None:
    worker = {s["Sid"]: s for role, s in statements() if role == "AttachPoliciesRole"}

    assert worker["ReadMembership"]["Action"] == "organizations:DescribeAccount", "departures are everywhere"
    for sid in ("ReadFacts", "ReadGuardrails"):
        assert worker[sid]["Effect"] == {"Fn::If": ["HasGuardrails", "Allow", "Deny"]}
    assert worker["ReadGuardrails"]["Resource"]["Fn::Sub"].endswith(":s3:::${CodeBucket}/${GuardrailsKey}")


#: The resources that exist only in a stage that removes policies.
OF_REMOVALS = {name for name, each in RESOURCES.items() if each.get("Condition") == "Removes"}


def test_without_remove_policies_nothing_of_the_second_worker_exists() -> None:
    assert TEMPLATE["Parameters"]["RemovePolicies"]["Default"] == "false"
    assert {name for name in RESOURCES if re.search("Remov|Detach", name)} == OF_REMOVALS
    # Then a reference to one of them raises MissingError.
    stack = stack_of(TEMPLATE, {})
    without = replace(stack, ids={name: each for name, each in stack.ids.items() if name not in OF_REMOVALS})
    properties = {name: without.properties(name) for name in without.declared()}
    outputs = [without.resolve(each) for each in TEMPLATE["Outputs"].values()]

    assert not OF_REMOVALS & properties.keys()
    text = json.dumps([properties, outputs])
    assert not re.findall(r"DetachPolicies\w*|detach_policies|-removals", text)
    assert properties["AttachPolicies"]["Environment"]["Variables"]["REMOVALS_QUEUE_URL"] == ""


def test_removing_policies_needs_a_guardrails_document() -> None:
    rule = TEMPLATE["Rules"]["RemovalsNeedGuardrails"]

    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "RemovePolicies"}, "true"]}
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "GuardrailsKey"}, ""]}]}


def test_the_second_worker_has_the_settings_of_the_first() -> None:
    """Its queue, function and mapping differ in their names, roles and code alone."""
    joins, removals = (dict(RESOURCES[each]["Properties"]) for each in ("Joins", "Removals"))
    attaching, removing = (dict(RESOURCES[f"{each}Policies"]["Properties"]) for each in ("Attach", "Detach"))
    mappings = [dict(RESOURCES[f"{each}PoliciesMapping"]["Properties"]) for each in ("Attach", "Detach")]

    assert joins | {"QueueName": 0} == removals | {"QueueName": 0}
    own = dict.fromkeys(("Description", "Environment", "FunctionName", "Handler", "Role"))
    assert attaching | own == removing | own
    assert mappings[0] | {"EventSourceArn": 0, "FunctionName": 0} == mappings[1] | {
        "EventSourceArn": 0,
        "FunctionName": 0,
    }
    services = [each["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] for each in (attaching, removing)]
    assert services[0] == services[1] == attaching["FunctionName"]
    shared = attaching["Environment"]["Variables"].keys() & removing["Environment"]["Variables"].keys() - {"QUEUE_URL"}
    for name in shared:
        assert attaching["Environment"]["Variables"][name] == removing["Environment"]["Variables"][name], name


def test_requests_wait_in_a_queue_like_that_of_joins_which_the_same_function_handles_one_at_a_time() -> None:
    """Then a request gets the whole time of an invocation, most of which it can spend on letting others go first."""
    joins, repairs = (dict(RESOURCES[each]["Properties"]) for each in ("Joins", "Repairs"))
    mappings = [dict(RESOURCES[f"{each}Mapping"]["Properties"]) for each in ("AttachPolicies", "Repairs")]
    timeout = timedelta(seconds=RESOURCES["AttachPolicies"]["Properties"]["Timeout"])

    assert joins | {"QueueName": 0} == repairs | {"QueueName": 0}
    assert mappings[0] | {"EventSourceArn": {"Fn::GetAtt": ["Repairs", "Arn"]}, "BatchSize": 1} == mappings[1]
    assert timeout - RESERVE >= 4 * YIELDS_FOR


def test_an_alarm_says_that_requests_are_not_handled_and_not_that_many_wait() -> None:
    """A backlog may take hours. SQS deletes what waits longer than the retention."""
    alarm = ALARMS["RepairsDoNotProgress"]
    [expression] = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
    read = {each["Id"]: each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each}

    assert expression == "IF((FILL(waiting, 0) > 0 AND FILL(handled, 0) == 0) OR FILL(age, 0) > 259200, 1, 0)"
    assert RESOURCES["Repairs"]["Properties"]["MessageRetentionPeriod"] > 259_200
    assert {name: each["MetricName"] for name, each in read.items()} == {
        "waiting": "ApproximateNumberOfMessagesVisible",
        "handled": "NumberOfMessagesDeleted",
        "age": "ApproximateAgeOfOldestMessage",
    }
    assert {json.dumps(each["Dimensions"]) for each in read.values()} == {
        '[{"Name": "QueueName", "Value": {"Fn::GetAtt": ["Repairs", "QueueName"]}}]'
    }
    # Longer than the longest pause of a message between two receives.
    assert alarm["EvaluationPeriods"] * 300 >= 2 * MAX_BACKOFF
    assert "DatapointsToAlarm" not in alarm


def test_the_dashboard_shows_the_requests_that_wait() -> None:
    text = json.dumps(dashboard(RemovePolicies="false"))

    for metric in ("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"):
        assert f'"{metric}", "QueueName", "Repairs-1"' in text


def test_operators_see_and_send_requests() -> None:
    queue = "arn:aws:sqs:us-east-1:111111111111:Repairs-1"
    mapping = "arn:aws:lambda:us-east-1:111111111111:event-source-mapping:RepairsMapping-1"

    for role in ("OperatorReads", "OperatorActs"):
        assert queue in allowed(role)["sqs:GetQueueAttributes"]
        assert mapping in allowed(role)["lambda:GetEventSourceMapping"]
        assert queue not in allowed(role)["sqs:ReceiveMessage"] | allowed(role).get("sqs:DeleteMessage", set())
    assert queue in allowed("OperatorActs")["sqs:SendMessage"]
    assert TEMPLATE["Outputs"]["RepairsQueueUrl"]["Value"] == {"Ref": "Repairs"}


def allowed(role: str, **parameters: str) -> dict[str, set[str]]:
    """Return the resources of each action that a role allows, without those that it denies."""
    found: dict[str, set[str]] = {}
    for name, statement in statements():
        if name == role:
            each = resolved(statement, TEMPLATE, parameters)
            assert each["Effect"] in {"Allow", "Deny"}
            for action in _listed(each["Action"]) if each["Effect"] == "Allow" else ():
                found.setdefault(action, set()).update(_listed(each["Resource"]))
    return found


REMOVING = {
    "RemovePolicies": "true",
    "GuardrailsKey": "joinguard/guardrails/1.json",
    "OrganizationId": "o-1",
    "ManagementAccountId": "111111111111",
    "CodeBucket": "code",
    "PolicyArns": "arn:1,arn:2",
}


def test_one_worker_never_detaches_and_the_other_never_attaches() -> None:
    attaching, removing = (allowed(f"{each}PoliciesRole", **REMOVING) for each in ("Attach", "Detach"))
    everything = {"arn:aws:organizations::111111111111:account/o-1/*", "arn:1", "arn:2"}

    assert attaching["organizations:AttachPolicy"] == removing["organizations:DetachPolicy"] == everything
    assert "organizations:DetachPolicy" not in attaching
    assert "organizations:AttachPolicy" not in removing
    for only_observes in ("AttachPoliciesRole", "DetachPoliciesRole"):
        changes = allowed(only_observes, **REMOVING, AttachTo="none").keys()
        assert not changes & {"organizations:AttachPolicy", "organizations:DetachPolicy"}
    nothing = REMOVING | {"PolicyArns": ""}
    assert (
        "arn:aws:organizations::111111111111:policy/o-1/service_control_policy/-"
        in (allowed("DetachPoliciesRole", **nothing)["organizations:DetachPolicy"])
    )


def test_each_worker_sends_only_dead_letters_and_requests_to_the_other() -> None:
    names = ("Joins", "Repairs", "Removals", "DeadLetters")
    queues = {name: f"arn:aws:sqs:us-east-1:111111111111:{name}-1" for name in names}

    def sends(role: str, **parameters: str) -> set[str]:
        return {name for name, arn in queues.items() if arn in allowed(role, **parameters)["sqs:SendMessage"]}

    assert sends("AttachPoliciesRole") == {"DeadLetters"}
    assert sends("AttachPoliciesRole", **REMOVING) == {"DeadLetters", "Removals"}
    assert sends("DetachPoliciesRole", **REMOVING) == {"DeadLetters", "Joins"}
    assert allowed("AttachPoliciesRole", **REMOVING)["sqs:ReceiveMessage"] == {queues["Joins"], queues["Repairs"]}
    assert allowed("DetachPoliciesRole", **REMOVING)["sqs:ReceiveMessage"] == {queues["Removals"]}


def test_the_removing_worker_reads_its_guardrails_the_approved_plan_and_what_was_attached() -> None:
    code = "arn:aws:s3:::code"
    plan = {"ApprovedPlanKey": "joinguard/plans/2.json"}
    evidence = "arn:aws:s3:::Evidence-1/evidence/*"
    table = "arn:aws:dynamodb:us-east-1:111111111111:table"

    assert allowed("DetachPoliciesRole", **REMOVING)["s3:GetObject"] == {
        f"{code}/joinguard/guardrails/1.json",
        evidence,
    }
    assert allowed("DetachPoliciesRole", **REMOVING, **plan)["s3:GetObject"] == {
        f"{code}/joinguard/guardrails/1.json",
        f"{code}/joinguard/plans/2.json",
        evidence,
    }
    role = allowed("DetachPoliciesRole", **REMOVING)
    assert role["dynamodb:Query"] == role["dynamodb:PutItem"] == {f"{table}/Outcomes-1"}
    assert role["dynamodb:UpdateItem"] == {f"{table}/Outcomes-1", f"{table}/Pace-1"}
    assert role["s3:PutObject"] == {evidence}
    assert {each for each in role if each.startswith("organizations:")} == {
        "organizations:DescribeAccount",
        "organizations:DetachPolicy",
        "organizations:ListParents",
        "organizations:ListPoliciesForTarget",
        "organizations:ListTagsForResource",
    }


ENFORCING = {"Sweep": "enforce"}
#: What the sweep may do in each stage; with guardrails and the permission to request, also the others.
OF_THE_SWEEP = {
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:GenerateMac",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "organizations:DescribeOrganization",
    "organizations:ListAccounts",
    "organizations:ListPolicies",
    "organizations:ListRoots",
    "organizations:ListTargetsForPolicy",
    "s3:GetObject",
    "s3:PutObject",
    "sqs:GetQueueAttributes",
}
OF_THE_SWEEPS_GUARDRAILS = {
    "organizations:DescribePolicy",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
    "organizations:ListTagsForResource",
    "tag:GetResources",
}


def test_the_sweep_reads_the_organization_and_a_stage_that_reports_sends_nothing() -> None:
    queue = {"arn:aws:sqs:us-east-1:111111111111:Repairs-1"}

    assert allowed("SweepRole").keys() == OF_THE_SWEEP
    enforcing = allowed("SweepRole", **ENFORCING, **REMOVING)
    assert enforcing.keys() == OF_THE_SWEEP | OF_THE_SWEEPS_GUARDRAILS | {"sqs:SendMessage"}
    assert enforcing["sqs:SendMessage"] == enforcing["sqs:GetQueueAttributes"] == queue
    effects = {s["Sid"]: resolved(s["Effect"], TEMPLATE, {}) for role, s in statements() if role == "SweepRole"}
    assert effects["RequestPolicies"] == "Deny", "whatever else would allow it"
    assert TEMPLATE["Parameters"]["Sweep"]["Default"] == "report"


def test_the_sweep_writes_only_its_own_state_and_its_own_reports() -> None:
    role = {s["Sid"]: resolved(s, TEMPLATE, {}) for name, s in statements() if name == "SweepRole"}
    table = "arn:aws:dynamodb:us-east-1:111111111111:table"
    writing = {action for action in OF_THE_SWEEP if re.search("(Put|Update|Delete)Item", action)}

    assert {action: resources for action, resources in allowed("SweepRole").items() if action in writing} == (
        {action: {f"{table}/Reconciliation-1"} for action in writing}
    )
    assert role["KeepItsState"]["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["Sweep*"]}}
    assert role["ReadPauses"]["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["Pauses"]}}
    assert role["ReadPauses"]["Action"] == "dynamodb:GetItem"
    assert allowed("SweepRole")["s3:PutObject"] == {"arn:aws:s3:::Evidence-1/sweeps/*"}


def test_the_schedule_invokes_the_sweep_alone() -> None:
    schedule = stack_of(TEMPLATE, {}).properties("SweepSchedule")
    function = "arn:aws:lambda:us-east-1:111111111111:function:Sweeper-1"

    assert schedule["Target"]["Arn"] == function
    assert schedule["ScheduleExpression"] == "rate(5 minutes)"
    assert json.loads(schedule["Target"]["Input"]) == {"source": "joinguard.schedule"}
    assert allowed("SweepScheduleRole") == {"lambda:InvokeFunction": {function}}
    trust = stack_of(TEMPLATE, {}).properties("SweepScheduleRole")["AssumeRolePolicyDocument"]["Statement"]
    assert [each["Principal"] for each in trust] == [{"Service": "scheduler.amazonaws.com"}]
    assert trust[0]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "111111111111"},
        "ArnEquals": {"aws:SourceArn": "arn:aws:scheduler:us-east-1:111111111111:schedule-group/default"},
    }
    assert allowed("OperatorActs")["lambda:InvokeFunction"] == {function}
    assert "lambda:InvokeFunction" not in allowed("OperatorReads")


def test_lambda_keeps_no_invocation_of_the_sweep_for_later() -> None:
    """Otherwise invocations of an outage would follow each other, although each goes on where the last one stopped."""
    settings = RESOURCES["SweepInvocations"]["Properties"]

    assert (settings["MaximumRetryAttempts"], settings["MaximumEventAgeInSeconds"]) == (0, 60)
    assert RESOURCES["Sweeper"]["Properties"]["Timeout"] == 900


def test_the_age_of_the_last_sweep_pages_after_three_intervals_and_if_nothing_publishes_it() -> None:
    alarm = ALARMS["SweepTooOld"]

    assert alarm["MetricName"] == "IntervalsSinceSweep"
    assert (alarm["Threshold"], alarm["TreatMissingData"]) == (3, "breaching")


def test_gaps_page_only_where_the_sweep_requests_their_policies() -> None:
    assert "GapsRemain" not in stack_of(TEMPLATE, {}).declared()
    assert "GapsRemain" in stack_of(TEMPLATE, ENFORCING).declared()


@pytest.mark.parametrize("parameters", [{}, REMOVING], ids=["off", "on"])
def test_operators_see_each_part_of_the_second_worker(parameters: dict[str, str]) -> None:
    role = allowed("OperatorReads", **parameters)
    on = bool(parameters)
    account = "us-east-1:111111111111"
    sees = {
        "lambda:GetFunctionConfiguration": f"arn:aws:lambda:{account}:function:DetachPolicies-1",
        "lambda:GetEventSourceMapping": f"arn:aws:lambda:{account}:event-source-mapping:DetachPoliciesMapping-1",
        "sqs:GetQueueAttributes": f"arn:aws:sqs:{account}:Removals-1",
        "iam:SimulatePrincipalPolicy": "arn:aws:iam::111111111111:role/DetachPoliciesRole-1",
        "iam:GetRolePolicy": "arn:aws:iam::111111111111:role/DetachPoliciesRole-1",
    }

    assert {action: resource in role[action] for action, resource in sees.items()} == dict.fromkeys(sees, on)


def test_the_alarms_on_aws_metrics_cover_both_workers() -> None:
    """Those on Joinguard's own metrics do by the name of the service."""
    pairs = {
        "RemovalsWaitTooLong": ("JoinsWaitTooLong", "Joins", "Removals"),
        "RemovingWorkerFails": ("WorkerFails", "AttachPolicies", "DetachPolicies"),
        "RemovingWorkerThrottled": ("WorkerThrottled", "AttachPolicies", "DetachPolicies"),
    }
    assert set(pairs) == OF_REMOVALS & set(ALARMS)
    for name, (other, first, second) in pairs.items():
        without = {"AlarmDescription": 0}
        text = json.dumps(ALARMS[other] | without).replace(f'"{first}"', f'"{second}"')
        assert json.loads(text) == ALARMS[name] | without


def test_no_partition_region_or_account_is_written_down() -> None:
    text = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))

    assert not re.findall(r"arn:aws[:-]", text)
    assert not re.findall(r"\b(us|eu|ap|cn)-[a-z]+-[0-9]\b", text)
    assert not re.findall(r"\b[0-9]{12}\b", text)


def test_the_functions_environment_matches_its_settings() -> None:
    """Each function has what its worker reads, and nothing else."""
    variables = {
        name: {each for each in function["Environment"]["Variables"] if not each.startswith("POWERTOOLS_")}
        for name, function in of_type("AWS::Lambda::Function").items()
    }

    assert variables == {
        "AttachPolicies": {name.upper() for name in Settings.model_fields},
        # It needs a guardrails document, requests no removals, and puts nothing back.
        "DetachPolicies": {name.upper() for name in RemoverSettings.model_fields}
        - {"MAX_RESTORES", "POLICY_IDS", "REMOVALS_QUEUE_URL"},
        "Sweeper": {name.upper() for name in SweepSettings.model_fields},
        "Sealer": {name.upper() for name in SealSettings.model_fields},
    }


@pytest.mark.parametrize(
    ("name", "action"),
    [("deny-cdn-purchase", "cloudfront:CreateDistribution"), ("deny-leave", "organizations:LeaveOrganization")],
)
def test_the_predefined_policies_deny_what_their_names_say(name: str, action: str) -> None:
    text = (ROOT / "infra" / "policies" / f"{name}.json").read_text()
    [statement] = json.loads(text)["Statement"]

    assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Deny", action, "*")
    assert len(json.dumps(json.loads(text), separators=(",", ":"))) <= 10_240


def test_the_rule_does_not_match_our_own_join_requests() -> None:
    """The sweep and operators use sources of their own."""
    rule = RESOURCES["MemberAccountInitialization"]["Properties"]

    assert not set(JoinRequest.model_json_schema()["properties"]["source"]["enum"]) & set(
        rule["EventPattern"]["source"]
    )


ALARMS = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
BUCKETS = of_type("AWS::S3::Bucket")


@pytest.mark.parametrize("queue", ["DeadLetters", "Undelivered"])
def test_both_queues_of_failed_messages_have_an_alarm_on_the_first_message(queue: str) -> None:
    """Both metrics are added up, because a message that an operator looks at is in flight."""
    alarm = ALARMS[f"{queue}Wait"]
    expression, *metrics = alarm["Metrics"]

    assert (alarm["ComparisonOperator"], alarm["Threshold"], alarm["EvaluationPeriods"]) == (
        "GreaterThanThreshold",
        0,
        1,
    )
    assert expression["Expression"] == "FILL(visible, 0) + FILL(in_flight, 0)"
    for metric, name in zip(metrics, ("Visible", "NotVisible"), strict=True):
        found = metric["MetricStat"]["Metric"]
        assert found["MetricName"] == f"ApproximateNumberOfMessages{name}"
        assert found["Dimensions"][0]["Value"] == {"Fn::GetAtt": [queue, "QueueName"]}
        assert (metric["MetricStat"]["Period"], metric["MetricStat"]["Stat"]) == (60, "Maximum")
    assert {each["Id"] for each in metrics if not each["ReturnData"]} == {"visible", "in_flight"}


def test_a_failed_join_pages_although_the_queues_metrics_may_be_late() -> None:
    """SQS publishes the metrics of a queue that was idle up to 15 minutes late, and the page must not end before."""
    alarm = ALARMS["JoinsFail"]

    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ("Joinguard", "Failed", 0)
    assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AttachPolicies"}}]
    assert (alarm["Period"] * alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (15 * 60, 1)


def test_whoever_compares_pseudonyms_may_use_the_key_in_force_and_the_former_ones_and_no_other() -> None:
    named, *former = (f"arn:aws:kms:us-east-1:111111111111:key/{each * 36}" for each in "abc")
    changed = {"PseudonymKeyArn": named, "FormerPseudonymKeyArns": ",".join(former)}
    own = "arn:aws:kms:us-east-1:111111111111:key/PseudonymKey-1"
    derive = {role: each["Resource"] for role, each in statements() if each["Action"] == "kms:GenerateMac"}

    people = {"OperatorReads", "OperatorActs", "Resolver"}
    assert set(derive) == people | {"AttachPoliciesRole", "DetachPoliciesRole", "SweepRole"}
    for resource in derive.values():
        assert resolved(resource, TEMPLATE, {}) == [own]
        assert resolved(resource, TEMPLATE, changed) == [named, *former]
    # The sealer compares no pseudonyms.
    for name in set(of_type("AWS::Lambda::Function")) - {"Sealer"}:
        variables = stack_of(TEMPLATE, changed).properties(name)["Environment"]["Variables"]
        assert variables["PSEUDONYM_KEY_ID"] == "a" * 36
        assert variables["FORMER_PSEUDONYM_KEYS"] == ",".join(former)


def test_the_resolver_reads_the_keys_of_rows_writes_audit_records_and_touches_no_message() -> None:
    role = {each["Sid"]: each for name, each in statements() if name == "Resolver"}

    assert role["ListAccountsOfOutcomes"]["Action"] == "dynamodb:Scan"
    assert role["ListAccountsOfOutcomes"]["Condition"] == {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["account_id", "event_id"]},
        "StringEquals": {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"},
    }
    assert role["RecordEachUse"]["Resource"] == {"Fn::Sub": "${Evidence.Arn}/acts/*"}
    used = {action.split(":")[0] for each in role.values() for action in _listed(each["Action"])}
    assert used == {"cloudformation", "dynamodb", "kms", "organizations", "s3"}


PAGING_RULES = {
    name: each for name, each in of_type("AWS::Events::Rule").items() if each["Targets"][0]["Arn"] == {"Ref": "Pages"}
}


def test_the_page_does_not_depend_on_the_keys_that_it_watches() -> None:
    """A message to a topic whose key is disabled is lost."""
    assert "KmsMasterKeyId" not in RESOURCES["Pages"]["Properties"]
    watched = PAGING_RULES["KeysAtRisk"]["EventPattern"]["detail"]["resources"]["ARN"]

    expected = {resolved({"Fn::GetAtt": [each, "Arn"]}, TEMPLATE, {}) for each in of_type("AWS::KMS::Key")}
    assert set(resolved(watched, TEMPLATE, {})) == {*expected, ""}
    named, *former = (f"arn:aws:kms:us-east-1:111111111111:key/{each * 36}" for each in "abc")
    parameters = {"PseudonymKeyArn": named, "FormerPseudonymKeyArns": ",".join(former)}
    assert set(resolved(watched, TEMPLATE, parameters)) == {*expected, named, *former}


def test_each_rule_that_pages_may_publish_names_nobody_and_links_to_the_runbook() -> None:
    """The topic is not encrypted with our key, so its messages name nobody."""
    assert set(PAGING_RULES) == {"EvidenceAtRisk", "KeysAtRisk"}
    publishers = RESOURCES["PagesPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [allowed] = [each for each in publishers if each["Principal"] == {"Service": "events.amazonaws.com"}]
    arns = [{"Fn::GetAtt": [name, "Arn"]} for name in sorted(PAGING_RULES)]
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": arns}}
    for rule in PAGING_RULES.values():
        [target] = rule["Targets"]
        message = target["InputTransformer"]
        assert set(message["InputPathsMap"].values()) == {"$.detail.eventName", "$.detail.eventID", "$.time"}
        assert re.search(r"\${RunbookUrl}#[a-z-]+\"$", message["InputTemplate"]["Fn::Sub"])
        # A call that failed changed nothing.
        assert rule["EventPattern"]["detail"]["errorCode"] == [{"exists": False}]


def test_the_break_glass_role_is_one_role_and_by_default_there_is_none() -> None:
    """The policies of the keys compare it by ArnNotEquals, which takes * and ? as wildcards."""
    declared = TEMPLATE["Parameters"]["BreakGlassRoleArn"]
    arn = "arn:aws:iam::111111111111:role/"

    assert declared["Default"] == ""
    for valid in ("", f"{arn}break-glass", f"{arn}team/a/Break.Glass@1"):
        assert re.fullmatch(declared["AllowedPattern"], valid)
    for wrong in ("*", f"{arn}*", f"{arn}a?", f"{arn}${{aws:username}}", arn, "arn:aws:iam::111111111111:root"):
        assert not re.fullmatch(declared["AllowedPattern"], wrong)


#: What happens without data, if it does not mean that all is well. Nothing else shows that rehearsals stopped, and what
#: the last sweep found holds until the next one.
WITHOUT_DATA = {
    "NoRehearsals": "breaching",
    "SweepTooOld": "breaching",
    "NotSealed": "breaching",
    **dict.fromkeys(
        ("GapsRemain", "SweepHalted", "OrganizationAtFault", "EvidenceAltered", "CheckpointsNotCopied"), "ignore"
    ),
}


def test_every_alarm_pages_and_has_a_next_step_and_a_link_to_the_runbook() -> None:
    """Only the composite alarm sends notifications, so its rule must contain every other alarm."""
    page = RESOURCES["Page"]["Properties"]

    for removes, sweep, bucket in product(("true", "false"), ("report", "enforce"), ("", "copies")):
        parameters = {"RemovePolicies": removes, "Sweep": sweep, "CheckpointBucket": bucket}
        rule = resolved(page["AlarmRule"], TEMPLATE, parameters)
        there = ALARMS.keys() & stack_of(TEMPLATE, parameters).declared()
        assert re.fullmatch(r'ALARM\("[\w-]+"\)( OR ALARM\("[\w-]+"\))*', " ".join(rule.split()))
        assert set(re.findall(r'ALARM\("(\w+)-1"\)', rule)) == there
    assert page["AlarmActions"] == [{"Ref": "Pages"}]
    for name, alarm in ALARMS.items():
        text = alarm["AlarmDescription"]["Fn::Sub"]
        assert text.count(". ") >= 1, f"{name} has no next step"
        assert re.search(r"\${RunbookUrl}#[a-z-]+$", text), f"{name} has no link to a section of the runbook"
        assert alarm["TreatMissingData"] == WITHOUT_DATA.get(name, "notBreaching")


def test_alarms_link_to_the_runbook_of_the_public_repository_by_default() -> None:
    default = TEMPLATE["Parameters"]["RunbookUrl"]["Default"]

    assert default == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Runbook"]
    assert (ROOT / default.partition("/blob/main/")[2]).is_file()


def test_alarms_and_dashboard_use_only_metrics_that_the_function_publishes() -> None:
    code = "".join((ROOT / "handlers" / name).read_text() for name in ("batch.py", "sealing.py", "sweeping.py"))
    used = set(re.findall(r'"Joinguard", ?"(\w+)"', json.dumps(dashboard(RemovePolicies="true"))))
    used |= {
        each["MetricStat"]["Metric"]["MetricName"]
        for alarm in ALARMS.values()
        for each in alarm.get("Metrics", [])
        if each.get("MetricStat", {}).get("Metric", {}).get("Namespace") == "Joinguard"
    }
    used |= {alarm["MetricName"] for alarm in ALARMS.values() if alarm.get("Namespace") == "Joinguard"}

    statuses = {each.value.capitalize() for each in OutcomeStatus}
    assert not {name for name in used - statuses if f'"{name}"' not in code}


def dashboard(**parameters: str) -> Any:
    """Return the dashboard's body with these parameters."""
    return json.loads(resolved(RESOURCES["Dashboard"]["Properties"]["DashboardBody"], TEMPLATE, parameters))


@pytest.mark.parametrize("name", ["EvidenceDiffers", "RowsReplaced"])
def test_one_record_that_somebody_else_may_have_written_sets_off_an_alarm(name: str) -> None:
    alarm = ALARMS[name]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("Joinguard", name)
    assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AttachPolicies"}}]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "GreaterThanThreshold", 0)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (300, 1)
    [widget] = [each for each in dashboard()["widgets"] if each["properties"]["title"] == "Evidence written"]
    assert name in [metric[1] for metric in widget["properties"]["metrics"]]


def test_the_worker_reads_only_evidence_and_replaces_only_rows_of_outcomes() -> None:
    worker = [statement for role, statement in statements() if role == "AttachPoliciesRole"]
    [reads] = [each for each in worker if "s3:GetObject" in _listed(each["Action"]) and each["Sid"] != "ReadGuardrails"]
    [puts] = [each for each in worker if "dynamodb:PutItem" in _listed(each["Action"])]

    assert reads["Resource"] == {"Fn::Sub": "${Evidence.Arn}/evidence/*"}
    assert puts["Resource"] == {"Fn::GetAtt": ["Outcomes", "Arn"]}


@pytest.mark.parametrize("removes", ["false", "true"])
def test_the_dashboard_is_valid_json(removes: str) -> None:
    titles = [widget["properties"]["title"] for widget in dashboard(RemovePolicies=removes)["widgets"]]

    assert len(titles) == len(set(titles)) >= 6


def test_the_dashboard_shows_what_is_removed_and_what_waits_to_be_removed() -> None:
    without, with_removals = (json.dumps(dashboard(RemovePolicies=each)) for each in ("false", "true"))

    assert '"PoliciesRemoved"' in with_removals
    for metric in ("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"):
        assert f'"{metric}", "QueueName", "Removals-1"' in with_removals
    for metric in ("Errors", "Throttles"):
        assert f'"{metric}", "FunctionName", "DetachPolicies-1"' in with_removals
    assert "emov" not in without


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_bucket_is_private_versioned_encrypted_and_requires_tls(bucket: str) -> None:
    properties = BUCKETS[bucket]
    policies = [
        each["PolicyDocument"]["Statement"]
        for each in of_type("AWS::S3::BucketPolicy").values()
        if each["Bucket"] == {"Ref": bucket}
    ]

    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert properties["BucketEncryption"]
    [statements] = policies
    assert {
        "Sid": "OnlyOverTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    } in statements


def test_every_queue_is_encrypted_and_requires_tls() -> None:
    with_tls = [
        queue["Ref"]
        for policy in of_type("AWS::SQS::QueuePolicy").values()
        for queue in policy["Queues"]
        if any(each["Sid"] == "OnlyOverTls" for each in policy["PolicyDocument"]["Statement"])
    ]

    assert sorted(with_tls) == sorted(of_type("AWS::SQS::Queue"))
    assert all(queue["SqsManagedSseEnabled"] is True for queue in of_type("AWS::SQS::Queue").values())


@pytest.mark.parametrize(
    ("removes", "sources"), [("false", ["Joins", "Repairs"]), ("true", ["Joins", "Repairs", "Removals"])]
)
def test_only_the_workers_queues_may_use_the_dead_letter_queue(removes: str, sources: list[str]) -> None:
    declared = RESOURCES["DeadLetters"]["Properties"]["RedriveAllowPolicy"]
    allowed = resolved(declared, TEMPLATE, {"RemovePolicies": removes})

    assert allowed["redrivePermission"] == "byQueue"
    names = [resolved(RESOURCES[each]["Properties"]["QueueName"], TEMPLATE, {}) for each in sources]
    assert [each.rpartition(":")[2] for each in allowed["sourceQueueArns"]] == names


def test_records_environment_and_log_are_encrypted_under_a_rotated_customer_key() -> None:
    key = {"Fn::GetAtt": ["DataKey", "Arn"]}

    assert RESOURCES["DataKey"]["Properties"]["EnableKeyRotation"] is True
    assert RESOURCES["Outcomes"]["Properties"]["SSESpecification"]["KMSMasterKeyId"] == key
    for function in of_type("AWS::Lambda::Function").values():
        assert function["KmsKeyArn"] == key
    assert RESOURCES["AttachPoliciesLogs"]["Properties"]["KmsKeyId"] == key
    [rule] = RESOURCES["Evidence"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key},
        "BucketKeyEnabled": True,
    }


def test_the_table_has_point_in_time_recovery_and_deletion_protection() -> None:
    table = RESOURCES["Outcomes"]["Properties"]

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}
    assert TEMPLATE["Parameters"]["DeletionProtection"]["Default"] == "true"
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_evidence_does_not_move_to_an_archive_from_which_it_has_to_be_restored_before_it_is_verified() -> None:
    rules = RESOURCES["Evidence"]["Properties"]["LifecycleConfiguration"]["Rules"]

    assert not any("Transition" in action for rule in rules for action in rule)


def test_backups_are_deleted_when_their_lock_ends_because_they_contain_account_ids() -> None:
    """The tool sets the lock, because the bucket's default retention is seven years."""
    [rule] = [
        rule
        for rule in RESOURCES["Evidence"]["Properties"]["LifecycleConfiguration"]["Rules"]
        if rule["Id"] == "backups"
    ]

    assert (rule["Prefix"], rule["ExpirationInDays"]) == ("backups/", {"Ref": "BackupDays"})
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert TEMPLATE["Outputs"]["BackupDays"]["Value"] == {"Ref": "BackupDays"}
    assert TEMPLATE["Parameters"]["BackupDays"]["Default"] == 90


def test_the_trail_logs_management_events_in_all_regions_and_is_off_by_default() -> None:
    trail = RESOURCES["Trail"]

    assert trail["Condition"] == "CreatesTrail"
    assert TEMPLATE["Parameters"]["CreateTrail"]["Default"] == "false"
    properties = trail["Properties"]
    assert properties["TrailName"] == {"Fn::Sub": "eventsTrail${NameSuffix}"}
    assert properties["IsMultiRegionTrail"] is properties["EnableLogFileValidation"] is properties["IsLogging"] is True
    assert properties["EventSelectors"] == [{"ReadWriteType": "All", "IncludeManagementEvents": True}]
    assert BUCKETS["TrailLogs"]["BucketName"]["Fn::Sub"].startswith("aws-cloudtrail-logs-")
    assert BUCKETS["TrailLogs"]["ObjectLockEnabled"] is True


@pytest.mark.parametrize(("resource", "name"), [("DenyCdnPurchase", "deny-cdn-purchase"), ("DenyLeave", "deny-leave")])
def test_the_stacks_policies_have_the_content_of_the_files_and_no_targets(resource: str, name: str) -> None:
    policy = RESOURCES[resource]

    assert policy["Condition"] == "CreatesPolicies"
    assert policy["Properties"]["Content"] == json.loads((ROOT / "infra" / "policies" / f"{name}.json").read_text())
    assert "TargetIds" not in policy["Properties"]


def test_names_that_others_rely_on_do_not_change() -> None:
    assert RESOURCES["MemberAccountInitialization"]["Properties"]["Name"]["Fn::Sub"] == (
        "MemberAccountInitialization${NameSuffix}"
    )
    function = RESOURCES["AttachPolicies"]["Properties"]
    assert function["FunctionName"]["Fn::Sub"] == "MemberAccountInitialization${NameSuffix}"
    assert function["Handler"] == "handlers.attach_policies.lambda_handler"
    assert (function["Runtime"], function["MemorySize"]) == ("python3.13", 512)
    sweep = RESOURCES["Sweeper"]["Properties"]
    assert sweep["FunctionName"]["Fn::Sub"] == "MemberAccountSweep${NameSuffix}"
    assert (sweep["Handler"], sweep["MemorySize"]) == ("handlers.sweep.lambda_handler", 512)
    removing = RESOURCES["DetachPolicies"]["Properties"]
    assert removing["FunctionName"]["Fn::Sub"] == "MemberAccountRemovals${NameSuffix}"
    assert removing["Handler"] == "handlers.detach_policies.lambda_handler"
    assert TEMPLATE["Parameters"]["Architecture"]["Default"] == "arm64"


@pytest.mark.parametrize("template", [TEMPLATE, FORWARDER], ids=["main", "forwarder"])
def test_every_role_has_the_boundary_and_path_of_the_parameters(template: dict[str, Any]) -> None:
    """Organizations that require them refuse to create a role without. A managed policy has no boundary."""
    boundary = {"Fn::If": ["HasBoundary", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]}
    carriers = {name: each for name, each in template["Resources"].items() if each["Type"].startswith("AWS::IAM::")}

    # An inline policy has no path.
    for name in [name for name, each in carriers.items() if each["Type"] == "AWS::IAM::Policy"]:
        del carriers[name]
    assert {each["Type"] for each in carriers.values()} <= {"AWS::IAM::Role", "AWS::IAM::ManagedPolicy"}
    for name, each in carriers.items():
        assert each["Properties"]["Path"] == {"Ref": "RolePath"}, name
        if each["Type"] == "AWS::IAM::Role":
            assert each["Properties"]["PermissionsBoundary"] == boundary, name
    assert template["Conditions"]["HasBoundary"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "PermissionsBoundaryArn"}, ""]}]
    }
    defaults = [template["Parameters"][name]["Default"] for name in ("PermissionsBoundaryArn", "RolePath")]
    assert defaults == ["", "/"]


#: Names and values that IAM accepts or not, and paths that it accepts but whose characters mean something in policies.
VALUES = {
    "PermissionsBoundaryArn": (
        ["", "arn:aws:iam::111111111111:policy/team/boundary", "arn:aws-us-gov:iam::aws:policy/PowerUserAccess"],
        ["boundary", "arn:aws:iam::111111111111:role/boundary", "arn:aws:iam::1:policy/boundary"],
    ),
    "RolePath": (
        ["/", "/team/", "/a/b/c/d/e/f/g/", "/a+b=c,d.e@f_g-h/", "/" + "x" * 64 + "/"],
        ["", "team", "/team", "team/", "//", "/a b/", "/*/", "/a?/", "/${aws:username}/", "/a/b/c/d/e/f/g/h/"],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_boundary_or_path_is_refused_before_anything_is_created(name: str) -> None:
    accepted, refused = VALUES[name]
    declared = [template["Parameters"][name] for template in (TEMPLATE, FORWARDER)]

    assert declared[0]["AllowedPattern"] == declared[1]["AllowedPattern"]
    assert declared[0]["ConstraintDescription"] == declared[1]["ConstraintDescription"]
    assert [each for each in accepted if not re.fullmatch(declared[0]["AllowedPattern"], each)] == []
    assert [each for each in refused if re.fullmatch(declared[0]["AllowedPattern"], each)] == []


def test_the_longest_path_fits_iam() -> None:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html"""
    longest = "/" + 7 * ("x" * 64 + "/")

    assert re.fullmatch(TEMPLATE["Parameters"]["RolePath"]["AllowedPattern"], longest)
    assert len(longest) <= 512


def test_each_alarm_of_the_forwarder_notifies_the_forwarders_own_topic() -> None:
    """An alarm cannot publish to a topic in another Region, where the main stack is."""
    alarms = {name: each["Properties"] for name, each in FORWARDER["Resources"].items() if "::Alarm" in each["Type"]}
    topic = [{"Ref": "ForwarderPages"}]

    for name, alarm in alarms.items():
        assert (alarm["AlarmActions"], alarm["OKActions"], alarm["TreatMissingData"]) == (topic, topic, "notBreaching")
        assert re.search(r"\. \${RunbookUrl}#[a-z-]+$", alarm["AlarmDescription"]["Fn::Sub"]), name
    watched = {(alarm["MetricName"], str(alarm["Dimensions"][0]["Value"])) for alarm in alarms.values()}
    rule = str({"Ref": "Forwarder"})
    assert watched == {
        ("FailedInvocations", rule),
        ("InvocationsFailedToBeSentToDlq", rule),
        ("ApproximateNumberOfMessagesVisible", str({"Fn::GetAtt": ["Unforwarded", "QueueName"]})),
    }
    mail = FORWARDER["Resources"]["ForwarderPagesByMail"]
    assert (mail["Condition"], mail["Properties"]["Endpoint"]) == ("HasAlarmEmail", {"Ref": "AlarmEmail"})
    assert FORWARDER["Outputs"]["Topic"]["Value"] == topic[0]


def sizes_of_policies(parameters: dict[str, str], *, name: str, partition: str, region: str) -> dict[str, int]:
    """Return the characters of each role's inline policies together, and of each managed policy, as IAM counts them."""
    stack = Deployed(
        name=name,
        stack_id=f"arn:{partition}:cloudformation:{region}:111111111111:stack/{name}/1",
        status="CREATE_COMPLETE",
        reason="",
        parameters={key: str(each.get("Default", "")) for key, each in TEMPLATE["Parameters"].items()} | parameters,
        template=TEMPLATE,
        # CloudFormation's names are at most this long, and those of keys and mappings have 36 characters.
        ids={logical: f"{name}-{logical}-{'x' * 13}" for logical in RESOURCES},
    )
    documents = {
        key: [each["PolicyDocument"] for each in properties.get("Policies", [properties])]
        for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
        for key in of_type(kind)
        if "PolicyDocument" in (properties := stack.properties(key)) or "Policies" in properties
    }
    return {key: sum(len(re.sub(r"\s", "", json.dumps(each))) for each in found) for key, found in documents.items()}


#: The parameters that name keys, at their longest.
KEY = f"arn:aws-us-gov:kms:us-gov-west-1:111111111111:key/{'0' * 36}"
LONGEST_KEYS = {"PseudonymKeyArn": KEY, "FormerPseudonymKeyArns": f"{KEY},{KEY}", "ResolverPrincipalArn": "a" * 2048}


def test_the_policies_fit_in_what_iam_accepts_whatever_the_stage_and_region_are() -> None:
    """IAM does not count white space (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).

    The embedded AWS accepts any size.
    """
    stage = Stage(name="a" * 19, region="us-gov-west-1")
    longest = {
        "NameSuffix": stage.suffix,
        "ManagementAccountId": "1" * 12,
        "OrganizationId": f"o-{'a' * 32}",
        "CodeBucket": "b" * 63,
        "GuardrailsKey": f"joinguard/guardrails/{'0' * 64}.json",
        "ApprovedPlanKey": f"joinguard/plans/{'0' * 64}.json",
        "RemovePolicies": "true",
        "RolePath": f"/{'p' * 62}/",
        "PolicyArns": "a" * 4096,
        **LONGEST_KEYS,
    }

    sizes = sizes_of_policies(longest, name=stage.stack, partition="aws-us-gov", region=stage.region)

    of_roles = {"AttachPoliciesRole", "DetachPoliciesRole", "OperatorActs", "Resolver"}
    of_roles |= {"RehearsalRole", "SweepRole", "SweepScheduleRole", "SealRole", "SealScheduleRole"}
    assert sizes.keys() == of_roles | {"OperatorsRead", "OperatorsSee", "OperatorsVerify"}
    for name in ("OperatorsRead", "OperatorsSee", "OperatorsVerify"):
        assert sizes[name] <= 6_144, name
    for name in of_roles:
        assert sizes[name] <= 10_240, name


@pytest.mark.parametrize(
    ("function", "more"),
    [
        ("AttachPolicies", {}),
        ("AttachPolicies", {"GuardrailsKey": f"joinguard/guardrails/{'0' * 64}.json", "RemovePolicies": "true"}),
        ("DetachPolicies", {"GuardrailsKey": f"joinguard/guardrails/{'0' * 64}.json", "RemovePolicies": "true"}),
        ("Sweeper", {}),
    ],
    ids=["without guardrails", "with guardrails", "that removes", "that sweeps"],
)
def test_the_longest_environment_of_a_function_is_what_lambda_accepts(function: str, more: dict[str, str]) -> None:
    """4 KB of JSON, as Lambda's error message shows what it measures. The embedded AWS accepts any size."""
    stage = Stage(name="a" * 19, region="us-gov-west-1")
    accounts = [f"{number:012}" for number in range(130)]
    policies = [f"p-{number}{'x' * 127}" for number in range(9)]
    assert re.fullmatch(TEMPLATE["Parameters"]["AttachTo"]["AllowedPattern"], ",".join(accounts))
    assert not re.fullmatch(TEMPLATE["Parameters"]["AttachTo"]["AllowedPattern"], ",".join([*accounts, "1" * 12]))
    given = {
        "NameSuffix": stage.suffix,
        "AttachTo": ",".join(accounts),
        "PolicyIds": ",".join(policies),
        "ApprovedPlanKey": f"joinguard/plans/{'0' * 64}.json",
        "CodeBucket": "b" * 63,
        "ManagementAccountId": "1" * 12,
        "OrganizationId": f"o-{'a' * 32}",
        **LONGEST_KEYS,
        **more,
    }
    stack = Deployed(
        name=stage.stack,
        stack_id=f"arn:aws-us-gov:cloudformation:{stage.region}:111111111111:stack/{stage.stack}/1",
        status="CREATE_COMPLETE",
        reason="",
        parameters={key: str(each.get("Default", "")) for key, each in TEMPLATE["Parameters"].items()} | given,
        template=TEMPLATE,
        ids={
            logical: f"https://sqs.{stage.region}.amazonaws.com/111111111111/{stage.stack}-{logical}-{'x' * 13}"
            if each["Type"] == "AWS::SQS::Queue"
            else f"{stage.stack}-{logical}-{'x' * 13}"
            for logical, each in RESOURCES.items()
        },
    )

    variables = stack.properties(function)["Environment"]["Variables"]

    assert len(json.dumps(variables, separators=(",", ":"))) <= 4_096


def test_operators_may_read_the_parts_of_the_forwarder_that_status_checks() -> None:
    """They are in the Region of the events. Their names begin with the stack's; the rule's is fixed."""
    see = RESOURCES["OperatorsSee"]["Properties"]["PolicyDocument"]["Statement"]
    reads = {"sns:GetTopicAttributes": "sns", "sqs:GetQueueAttributes": "sqs", "sqs:ReceiveMessage": "sqs"}

    for action, service in reads.items():
        pattern = {
            "Fn::Sub": f"arn:${{AWS::Partition}}:{service}:*:${{AWS::AccountId}}:${{AWS::StackName}}-forwarder-*"
        }
        resources = [each["Resource"] for each in see if action in _listed(each["Action"])]
        assert pattern in [item for each in resources for item in (each if isinstance(each, list) else [each])], action
    assert Stage(name="x", region="us-east-1").forwarder == f"{Stage(name='x', region='us-east-1').stack}-forwarder"


def test_the_forwarder_has_the_main_stacks_parameters_under_their_names() -> None:
    """`make forwarder` passes the parameters of the stage that the forwarder's template has, too."""
    own = FORWARDER["Parameters"].keys() - TEMPLATE["Parameters"].keys()

    assert own == {"TargetBusArn"}
    for name in FORWARDER["Parameters"].keys() - own:
        assert FORWARDER["Parameters"][name]["Default"] == TEMPLATE["Parameters"][name]["Default"], name


def test_the_forwarder_forwards_the_events_that_the_rule_matches() -> None:
    forwarder = FORWARDER["Resources"]["Forwarder"]["Properties"]
    rule = RESOURCES["MemberAccountInitialization"]["Properties"]

    assert forwarder["EventPattern"] == rule["EventPattern"]
    for watched in WATCHED:
        assert pattern_of(watched, FORWARDER, "Forwarder") == pattern_of(watched)
    assert forwarder["Targets"][0]["DeadLetterConfig"]


def test_the_templates_are_within_cloudformations_limits() -> None:
    """The main template goes through S3, the forwarder's is part of the request.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    """
    assert len(TEXT.encode()) <= 1_000_000
    assert len((ROOT / "infra" / "forwarder.yaml").read_bytes()) <= 51_200
    assert load(dump(TEMPLATE)) == TEMPLATE


@pytest.mark.parametrize("name", ["template.yaml", "forwarder.yaml"])
def test_every_resource_has_a_comment_with_its_purpose(name: str) -> None:
    """`make destroy` prints the comments of the resources that it keeps."""
    text = (ROOT / "infra" / name).read_text()
    lines = text.splitlines()
    uncommented = [
        each for each in load(text)["Resources"] if not lines[lines.index(f"  {each}:") - 1].startswith("  #")
    ]

    # One comment covers two resources.
    assert set(uncommented) <= {"DenyLeave"}


@pytest.mark.parametrize("name", of_type("AWS::IAM::ManagedPolicy"))
def test_a_managed_policy_is_not_longer_than_iam_allows_whatever_the_stages_name(name: str) -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html, white space not counted."""
    stack = Stage(name="a" * 19, region="us-east-1").stack
    account = f"arn:aws:cloudformation:us-east-1:{'1' * 12}:stack/{stack}/1"
    ids = {each: f"{stack}-{each}-ABCDEFGHIJKL" for each in RESOURCES}
    ids |= dict.fromkeys(of_type("AWS::KMS::Key"), "12345678-1234-1234-1234-123456789012")
    ids |= {each: f"arn:aws:sns:us-east-1:{'1' * 12}:{ids[each]}" for each in of_type("AWS::SNS::Topic")}
    parameters = {each: str(declared.get("Default", "")) for each, declared in TEMPLATE["Parameters"].items()}
    parameters |= {"OrganizationId": "o-exampleorg", "ManagementAccountId": "1" * 12, "CodeBucket": "c" * 63}
    parameters |= {"RemovePolicies": "true"}
    deployed = Deployed(stack, account, "", "", parameters, TEMPLATE, ids)

    document = deployed.properties(name)["PolicyDocument"]

    assert len(json.dumps(document, separators=(",", ":"))) <= 6144


def test_operator_reads_changes_nothing_and_operator_acts_writes_audit_records() -> None:
    reads, acts = (
        {action for name, each in statements() if name == role for action in _listed(each["Action"])}
        for role in ("OperatorReads", "OperatorActs")
    )

    assert not {each for each in reads if re.search(":(Send|Delete|Put|Start|Update|Attach|Detach)", each)}
    assert reads < acts
    assert {"dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:Scan"} <= reads
    assert "s3:PutObject" in acts
    assert not {each for each in acts if each.startswith("organizations:") and "Attach" in each}
    # Closing an outcome is an update on a condition; of rows, operators can put only the one that holds the pauses.
    assert {each for each in acts - reads if each.startswith("dynamodb:")} == {
        "dynamodb:UpdateItem",
        "dynamodb:PutItem",
    }
    of_pauses = [
        each
        for name, each in statements()
        if name.startswith("Operator") and {"dynamodb:PutItem", "dynamodb:GetItem"} & {*_listed(each["Action"])}
    ]
    assert {name["Fn::GetAtt"][0] for name in (each["Resource"] for each in of_pauses)} == {"Reconciliation"}
    keys = {_listed(each["Action"])[0]: each["Condition"]["ForAllValues:StringEquals"] for each in of_pauses}
    assert keys == {
        "dynamodb:GetItem": {"dynamodb:LeadingKeys": ["Pauses", "Sweep"]},
        "dynamodb:PutItem": {"dynamodb:LeadingKeys": ["Pauses"]},
    }
    [closes] = [
        each
        for name, each in statements()
        if name == "OperatorActs" and "dynamodb:UpdateItem" in _listed(each["Action"])
    ]
    assert closes["Resource"] == {"Fn::GetAtt": ["Outcomes", "Arn"]}
    # Almost every command begins with these calls.
    assert {"sqs:ReceiveMessage", "cloudformation:DescribeStacks"} <= reads


def test_operator_reads_cannot_read_backups_because_they_contain_account_ids() -> None:
    readable = {
        resource["Fn::Sub"]
        for role, each in statements()
        if role == "OperatorReads" and "s3:GetObject" in _listed(each["Action"])
        for resource in ([each["Resource"]] if isinstance(each["Resource"], dict) else each["Resource"])
    }

    deployed = {f"arn:${{AWS::Partition}}:s3:::${{CodeBucket}}/joinguard/{each}/*" for each in ("guardrails", "plans")}
    records = {f"${{Evidence.Arn}}/{each}/*" for each in ("acts", "configuration", "evidence", "log", "sweeps")}
    assert readable == {*records, *deployed}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
