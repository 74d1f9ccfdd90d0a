"""Evaluate the templates' resource policies as AWS does: who may send, publish, write records, end keys, assume roles.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-logic-multiple-context-keys-or-values.html
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import pytest

from handlers.core.evidence.actor import GENERATED_NAMES
from infra.deploy.build import ROOT
from infra.deploy.health.deployed import Deployed
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT: Final = "111111111111"
ANOTHER: Final = "222222222222"
QUEUES: Final = ("Joins", "Repairs", "Removals", "Undelivered", "DeadLetters", "Unforwarded", "Announcements")
RESOURCES: Final[dict[str, dict[str, Any]]] = {
    name: resource
    for file in ("template.yaml", "forwarder.yaml")
    for name, resource in load((ROOT / "infra" / file).read_text())["Resources"].items()
}


def arn_of(logical_id: str) -> str:
    """Return an ARN of the resource's type."""
    return {
        "AWS::S3::Bucket": f"arn:aws:s3:::{logical_id.lower()}",
        "AWS::SNS::Topic": f"arn:aws:sns:us-east-1:{ACCOUNT}:{logical_id}",
        "AWS::SQS::Queue": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{logical_id}",
        # With a path, because the condition keys contain it.
        "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/team/a/{logical_id}",
        "AWS::Events::Rule": f"arn:aws:events:us-east-1:{ACCOUNT}:rule/{logical_id}",
    }[RESOURCES[logical_id]["Type"]]


def resolved(value: Any, *, without: str = "") -> Any:
    """Return a part of a template as CloudFormation resolves it if all conditions are true, or all but one."""
    if isinstance(value, list):
        values = [resolved(each, without=without) for each in value]
        return [each for each in values if each is not None]
    if not isinstance(value, dict):
        return value
    if "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        assert condition in {"NamesResolvers", "Removes"}
        assert otherwise == {"Ref": "AWS::NoValue"}
        return resolved(then, without=without) if condition != without else None
    found = of_function(value)
    return found or {name: resolved(each, without=without) for name, each in value.items()}


def of_function(value: dict[str, Any]) -> str | None:
    """Return the value of a function that names a resource; None if it is not one."""
    if "Fn::GetAtt" in value:
        return arn_of(value["Fn::GetAtt"][0])
    if "Ref" in value:
        # The reference of a topic is its ARN.
        return ACCOUNT if value["Ref"] == "AWS::AccountId" else arn_of(value["Ref"])
    if "Fn::Sub" in value:
        return re.sub(r"\${(\w+)\.Arn}", lambda found: arn_of(found[1]), value["Fn::Sub"])
    return None


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def are_met(conditions: Mapping[str, Mapping[str, str | list[str]]], context: Mapping[str, str]) -> bool:
    """Return whether all keys of all operators match; an absent key matches a negated operator only."""

    def matches(operator: str, actual: str | None, wanted: list[str]) -> bool:
        negated = "Not" in operator
        if operator == "Null":
            return wanted == [str(actual is None).lower()]
        if actual is None:
            return negated
        assert operator in {"ArnEquals", "ArnNotEquals", "Bool", "StringEquals", "StringNotLike"}
        return any(fnmatchcase(actual, each) for each in wanted) != negated

    return all(
        matches(operator, context.get(key), listed(wanted))
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def matches_principal(principal: str | Mapping[str, str], caller: str) -> bool:
    return principal == "*" or (isinstance(principal, dict) and caller in principal.values())


def statements_of(logical_id: str, *, without: str = "") -> list[dict[str, Any]]:
    """Return the statements of a queue's, topic's or bucket's policy."""
    [statements] = [
        resolved(each["Properties"]["PolicyDocument"]["Statement"], without=without)
        for each in RESOURCES.values()
        if each["Type"] in {"AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy"}
        and {"Ref": logical_id}
        in [each["Properties"].get("Bucket"), *each["Properties"].get("Queues", each["Properties"].get("Topics", []))]
    ]
    found: list[dict[str, Any]] = statements
    return found


def allowed_callers(
    logical_id: str, action: str, context: Mapping[str, str], key: str = "", *, without: str = ""
) -> set[str]:
    """Return the callers whose request is allowed, with this context added to each caller's own.

    Within one account, AWS denies a request if any statement denies it, and otherwise allows it if the resource's
    policy or IAM allows it.
    """
    statements, resource = statements_of(logical_id, without=without), arn_of(logical_id) + key
    found = set()
    for name, (caller, own, by_iam) in CALLERS.items():
        effects = {
            statement["Effect"]
            for statement in statements
            if matches_principal(statement["Principal"], caller)
            and any(fnmatchcase(action, each) for each in listed(statement["Action"]))
            and any(fnmatchcase(resource, each) for each in listed(statement["Resource"]))
            and are_met(statement.get("Condition", {}), {**own, **context})
        }
        if "Deny" not in effects and ("Allow" in effects or by_iam):
            found.add(name)
    return found


def principal(arn: str) -> tuple[str, dict[str, str], bool]:
    """Return a caller with full access in IAM. For a session of a role, `aws:PrincipalArn` is the role's ARN."""
    return arn, {"aws:PrincipalArn": arn}, True


def service(name: str, source: str) -> tuple[str, dict[str, str], bool]:
    """Return an AWS service, which has no IAM principal."""
    return name, {"aws:SourceArn": source, "aws:SourceAccount": source.split(":")[4]}, False


CALLERS: Final = {
    "the rule": service("events.amazonaws.com", arn_of("MemberAccountInitialization")),
    "the forwarder's rule": service("events.amazonaws.com", arn_of("Forwarder")),
    "the rule on evidence": service("events.amazonaws.com", arn_of("EvidenceWritten")),
    "another rule": service("events.amazonaws.com", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/another"),
    "another account's rule": service(
        "events.amazonaws.com", arn_of("MemberAccountInitialization").replace(ACCOUNT, ANOTHER)
    ),
    "the rule on the keys": service("events.amazonaws.com", arn_of("KeysAtRisk")),
    "the rule on the evidence": service("events.amazonaws.com", arn_of("EvidenceAtRisk")),
    "an alarm": service("cloudwatch.amazonaws.com", f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:x"),
    "another account's alarm": service("cloudwatch.amazonaws.com", f"arn:aws:cloudwatch:us-east-1:{ANOTHER}:alarm:x"),
    "a topic": service("sns.amazonaws.com", f"arn:aws:sns:us-east-1:{ACCOUNT}:topic"),
    "OperatorActs": principal(arn_of("OperatorActs")),
    "OperatorReads": principal(arn_of("OperatorReads")),
    "Resolver": principal(arn_of("Resolver")),
    "the worker": principal(arn_of("AttachPoliciesRole")),
    "the removing worker": principal(arn_of("DetachPoliciesRole")),
    "the sweep": principal(arn_of("SweepRole")),
    "the sealer": principal(arn_of("SealRole")),
    "the forwarder": principal(arn_of("ForwarderRole")),
    "an administrator": principal(f"arn:aws:iam::{ACCOUNT}:role/Administrator"),
    "a user": principal(f"arn:aws:iam::{ACCOUNT}:user/somebody"),
    "the root user": principal(f"arn:aws:iam::{ACCOUNT}:root"),
    "a role with the same name in another account": principal(arn_of("OperatorActs").replace(ACCOUNT, ANOTHER)),
    "a role with a longer name": principal(f"{arn_of('OperatorActs')}2"),
}
WITH_FULL_ACCESS: Final = {name for name, (_, _, by_iam) in CALLERS.items() if by_iam}
OVER_TLS: Final = {"aws:SecureTransport": "true"}
SENDERS: Final = {
    "Joins": {"the rule", "OperatorActs", "the removing worker"},
    "Repairs": {"the sweep", "OperatorActs"},
    "Removals": {"the worker"},
    "Undelivered": {"the rule", "OperatorActs"},
    "DeadLetters": {"the worker", "the removing worker", "OperatorActs"},
    "Unforwarded": {"the forwarder's rule"},
    "Announcements": {"the rule on evidence"},
}


def test_these_tests_cover_every_queue() -> None:
    assert (
        {name for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"} == set(QUEUES) == set(SENDERS)
    )


@pytest.mark.parametrize("queue", QUEUES)
def test_only_the_named_callers_can_send_even_with_full_access_in_iam(queue: str) -> None:
    assert allowed_callers(queue, "sqs:SendMessage", OVER_TLS) == SENDERS[queue]


@pytest.mark.parametrize("queue", ["Joins", "Undelivered", "DeadLetters"])
def test_without_removals_no_policy_names_the_removing_worker(queue: str) -> None:
    senders = allowed_callers(queue, "sqs:SendMessage", OVER_TLS, without="Removes")

    assert senders == SENDERS[queue] - {"the removing worker"}


@pytest.mark.parametrize("queue", QUEUES)
def test_nobody_can_send_without_tls(queue: str) -> None:
    assert not allowed_callers(queue, "sqs:SendMessage", {"aws:SecureTransport": "false"})


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"])
def test_iam_decides_about_all_other_actions(queue: str, action: str) -> None:
    assert allowed_callers(queue, action, OVER_TLS) == WITH_FULL_ACCESS


@pytest.mark.parametrize(
    ("topic", "publishers"),
    [
        ("Pages", {"an alarm", "the rule on the keys", "the rule on the evidence"}),
        ("ForwarderPages", {"an alarm"}),
    ],
)
def test_only_alarms_of_this_account_publish_to_a_topic_and_only_over_tls(topic: str, publishers: set[str]) -> None:
    """Besides whom IAM allows."""
    assert allowed_callers(topic, "sns:Publish", OVER_TLS) == publishers | WITH_FULL_ACCESS
    assert not allowed_callers(topic, "sns:Publish", {"aws:SecureTransport": "false"})


@pytest.mark.parametrize(
    ("key", "writers"),
    [
        ("/evidence/2026/11/25/x/0001.json", {"the worker", "the removing worker"}),
        ("/sweeps/2026/11/25/x.json", {"the sweep"}),
        ("/acts/2026/11/25/x.json", {"OperatorActs", "Resolver"}),
        ("/backups/2026/11/25/x.json", {"OperatorActs"}),
    ],
)
def test_only_its_roles_can_write_each_kind_of_record_and_each_key_once(key: str, writers: set[str]) -> None:
    once = OVER_TLS | {"s3:if-none-match": "*"}

    assert allowed_callers("Evidence", "s3:PutObject", once, key) == writers
    for condition, role in (("Removes", "the removing worker"), ("NamesResolvers", "Resolver")):
        without = allowed_callers("Evidence", "s3:PutObject", once, key, without=condition)
        assert without == writers - {role}
    assert not allowed_callers("Evidence", "s3:PutObject", OVER_TLS, key)
    assert not allowed_callers("Evidence", "s3:DeleteObject", OVER_TLS, key)
    assert allowed_callers("Evidence", "s3:GetObject", OVER_TLS, key) == WITH_FULL_ACCESS


def test_whoever_deploys_writes_configurations_each_once_and_nobody_deletes_them() -> None:
    key, once = "/configuration/2026/11/25/x.json", OVER_TLS | {"s3:if-none-match": "*"}

    assert allowed_callers("Evidence", "s3:PutObject", once, key) == WITH_FULL_ACCESS
    for action, context in (("s3:PutObject", OVER_TLS), ("s3:DeleteObject", once), ("s3:DeleteObjectVersion", once)):
        assert not allowed_callers("Evidence", action, context, key)


def test_the_sending_roles_exist_in_every_installation() -> None:
    for role in ("AttachPoliciesRole", "OperatorActs", "OperatorReads", "OperatorsRead", "OperatorsSee"):
        assert "Condition" not in RESOURCES[role]


def deployed(**parameters: str) -> Deployed:
    """Return a stack with these parameters, and otherwise the defaults."""
    template = load((ROOT / "infra" / "template.yaml").read_text())
    return Deployed(
        name="joinguard",
        stack_id=f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/joinguard/1",
        status="CREATE_COMPLETE",
        reason="",
        parameters={name: str(each.get("Default", "")) for name, each in template["Parameters"].items()} | parameters,
        template=template,
        ids={"SealRole": "SealRole"},
    )


KEYS: Final = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::KMS::Key"]
ENDING: Final = ("kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:DeleteImportedKeyMaterial")
BREAK_GLASS: Final = f"arn:aws:iam::{ACCOUNT}:role/team/a/BreakGlass"
#: Who may do with a key what its policy leaves to IAM: principals of its account, with full access there.
OF_THE_ACCOUNT: Final = {
    name: context["aws:PrincipalArn"]
    for name, (_, context, by_iam) in CALLERS.items()
    if by_iam and context["aws:PrincipalArn"].split(":")[4] == ACCOUNT
} | {"break glass": BREAK_GLASS, "a role with a longer name than break glass": f"{BREAK_GLASS}2"}


def allowed_on_key(key: str, action: str, **parameters: str) -> set[str]:
    """Return which principals of the account may call an action on a key, of those whom IAM allows everything."""
    statements = deployed(**parameters).properties(key)["KeyPolicy"]["Statement"]
    found = set()
    for name, arn in OF_THE_ACCOUNT.items():
        effects = {
            each["Effect"]
            for each in statements
            # An account as principal means that its IAM policies decide.
            if each["Principal"] in ("*", {"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
            and any(fnmatchcase(action, wanted) for wanted in listed(each["Action"]))
            and are_met(each.get("Condition", {}), {"aws:PrincipalArn": arn})
        }
        if effects == {"Allow"}:
            found.add(name)
    return found


@pytest.mark.parametrize("action", ENDING)
@pytest.mark.parametrize("key", KEYS)
def test_nobody_can_end_a_key_neither_an_administrator_nor_the_root_user(key: str, action: str) -> None:
    assert allowed_on_key(key, action) == set()


@pytest.mark.parametrize("action", ENDING)
@pytest.mark.parametrize("key", KEYS)
def test_only_the_break_glass_role_can_end_a_key_if_the_stage_names_one(key: str, action: str) -> None:
    assert allowed_on_key(key, action, BreakGlassRoleArn=BREAK_GLASS) == {"break glass"}


@pytest.mark.parametrize("action", ENDING)
@pytest.mark.parametrize("key", KEYS)
def test_iam_decides_who_ends_the_keys_of_a_temporary_stage(key: str, action: str) -> None:
    """`make destroy --delete-keys` schedules their deletion, and a failed creation deletes them."""
    for role in ("", BREAK_GLASS):
        assert allowed_on_key(key, action, DeletionProtection="false", BreakGlassRoleArn=role) == set(OF_THE_ACCOUNT)


@pytest.mark.parametrize("action", ["kms:PutKeyPolicy", "kms:CancelKeyDeletion", "kms:EnableKey", "kms:DescribeKey"])
@pytest.mark.parametrize("key", KEYS)
def test_what_ends_no_key_stays_possible_so_that_its_policy_can_be_changed(key: str, action: str) -> None:
    assert allowed_on_key(key, action) == set(OF_THE_ACCOUNT)


def test_only_the_sealer_signs_checkpoints_whatever_iam_allows_others() -> None:
    assert allowed_on_key("SealKey", "kms:Sign", RolePath="/team/a/") == {"the sealer"}
    assert allowed_on_key("SealKey", "kms:CreateGrant", RolePath="/team/a/") == {"the sealer"}
    assert allowed_on_key("SealKey", "kms:GetPublicKey") == set(OF_THE_ACCOUNT)


def principal_of(role: str, **parameters: str) -> str:
    """Return who may assume a role with these parameters, by default with none."""
    [statement] = RESOURCES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    return str(deployed(**parameters).resolve(statement["Principal"]["AWS"]))


@pytest.mark.parametrize("role", ["OperatorReads", "OperatorActs"])
def test_without_a_principal_iam_decides_who_assumes_the_operator_roles(role: str) -> None:
    assert principal_of(role) == "arn:aws:iam::111111111111:root"


def test_one_principal_may_read_and_another_one_may_act() -> None:
    assert principal_of("OperatorReads", OperatorPrincipalArn="acts", ReaderPrincipalArn="reads") == "reads"
    assert principal_of("OperatorActs", OperatorPrincipalArn="acts", ReaderPrincipalArn="reads") == "acts"
    assert principal_of("OperatorReads", OperatorPrincipalArn="acts") == "acts"
    assert principal_of("OperatorActs", ReaderPrincipalArn="reads") == "arn:aws:iam::111111111111:root"


def test_nobody_resolves_pseudonyms_by_default_and_then_only_the_named_principal() -> None:
    assert RESOURCES["Resolver"]["Condition"] == "NamesResolvers"
    assert principal_of("Resolver", ResolverPrincipalArn="resolves", OperatorPrincipalArn="acts") == "resolves"


#: Names of sessions that the CLI and the SDKs generated.
GENERATED: Final = (
    "botocore-session-1743902759",
    "AWS-CLI-session-1523566057",
    "aws-sdk-js-1743902759123",
    "aws-go-sdk-1722511821294449000",
    "aws-dotnet-sdk-session-636238288466144357",
    "assume-role-from-profile-1632246085998",
    "default_session",
    "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
    "1722511821294449000",
)
CHOSEN: Final = ("jane@example.com", "jane", "night-shift", "u1234567")


def may_assume(role: str, *actions: str, **context: str) -> bool:
    """Return whether the trust policy allows all actions of a request; the embedded AWS ignores their conditions.

    STS needs sts:SetSourceIdentity too if the request or the caller's session has a source identity. That action has
    no key sts:RoleSessionName.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html
    """
    statements = RESOURCES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    keys = {f"sts:{name}": value for name, value in context.items()}

    def is_allowed(action: str) -> bool:
        of_action = {name: value for name, value in keys.items() if action == "sts:AssumeRole" or "Source" in name}
        return any(
            each["Effect"] == "Allow"
            and action in listed(each["Action"])
            and are_met(each.get("Condition", {}), of_action)
            for each in statements
        )

    return all(map(is_allowed, actions))


#: The roles that people assume.
OF_PEOPLE: Final = ("OperatorReads", "OperatorActs", "Resolver")


@pytest.mark.parametrize("role", OF_PEOPLE)
def test_whoever_assumes_a_role_has_chosen_the_name_of_the_session(role: str) -> None:
    assert [name for name in GENERATED if may_assume(role, "sts:AssumeRole", RoleSessionName=name)] == []
    assert all(may_assume(role, "sts:AssumeRole", RoleSessionName=name) for name in CHOSEN)


@pytest.mark.parametrize("role", OF_PEOPLE)
def test_a_source_identity_is_allowed_and_replaces_no_name(role: str) -> None:
    both = ("sts:AssumeRole", "sts:SetSourceIdentity")

    assert may_assume(role, *both, RoleSessionName="jane", SourceIdentity="jane@example.com")
    assert not may_assume(role, *both, RoleSessionName=GENERATED[0], SourceIdentity="jane@example.com")


@pytest.mark.parametrize("role", OF_PEOPLE)
def test_the_roles_refuse_the_names_that_the_tool_refuses(role: str) -> None:
    [statement] = RESOURCES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    assert statement["Condition"] == {"StringNotLike": {"sts:RoleSessionName": list(GENERATED_NAMES)}}


@pytest.mark.parametrize("role", OF_PEOPLE)
def test_a_session_lasts_no_longer_than_one_that_comes_from_another_role(role: str) -> None:
    """Role chaining limits a session to one hour."""
    assert RESOURCES[role]["Properties"]["MaxSessionDuration"] == 3600
