"""Who may send to which queue and write which record, by AWS's rules of evaluation over the templates' policies.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-logic-multiple-context-keys-or-values.html
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import pytest

from infra.deploy.build import ROOT
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT: Final = "111111111111"
ANOTHER: Final = "222222222222"
QUEUES: Final = ("Joins", "Undelivered", "DeadLetters", "Unforwarded")
RESOURCES: Final[dict[str, dict[str, Any]]] = {
    name: resource
    for file in ("template.yaml", "forwarder.yaml")
    for name, resource in load((ROOT / "infra" / file).read_text())["Resources"].items()
}


def arn_of(logical_id: str) -> str:
    """Return an ARN of the kind that the resource has."""
    return {
        "AWS::S3::Bucket": f"arn:aws:s3:::{logical_id.lower()}",
        "AWS::SQS::Queue": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{logical_id}",
        "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{logical_id}",
        "AWS::Events::Rule": f"arn:aws:events:us-east-1:{ACCOUNT}:rule/{logical_id}",
    }[RESOURCES[logical_id]["Type"]]


def resolved(value: Any) -> Any:
    if isinstance(value, list):
        return [resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "Fn::GetAtt" in value:
        return arn_of(value["Fn::GetAtt"][0])
    if "Fn::Sub" in value:
        return re.sub(r"\${(\w+)\.Arn}", lambda found: arn_of(found[1]), value["Fn::Sub"])
    return {name: resolved(each) for name, each in value.items()}


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def met(conditions: Mapping[str, Mapping[str, str | list[str]]], context: Mapping[str, str]) -> bool:
    """Say whether all keys of all operators match; an absent key matches a negated operator only."""

    def matches(operator: str, actual: str | None, wanted: list[str]) -> bool:
        negated = "Not" in operator
        if operator == "Null":
            return wanted == [str(actual is None).lower()]
        if actual is None:
            return negated
        assert operator in {"ArnEquals", "ArnNotEquals", "Bool"}
        return any(fnmatchcase(actual, each) for each in wanted) != negated

    return all(
        matches(operator, context.get(key), listed(wanted))
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def named(principal: str | Mapping[str, str], caller: str) -> bool:
    return principal == "*" or (isinstance(principal, dict) and caller in principal.values())


def statements_of(logical_id: str) -> list[dict[str, Any]]:
    """Return the statements of a queue's or bucket's policy."""
    [statements] = [
        resolved(each["Properties"]["PolicyDocument"]["Statement"])
        for each in RESOURCES.values()
        if each["Type"] in {"AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"}
        and {"Ref": logical_id} in [each["Properties"].get("Bucket"), *each["Properties"].get("Queues", [])]
    ]
    found: list[dict[str, Any]] = statements
    return found


def able(logical_id: str, action: str, more: Mapping[str, str], key: str = "") -> set[str]:
    """Return the callers that may do it, with more context than their own.

    Decides as AWS does in one account: a Deny wins, else one Allow, in the resource's policy or by IAM, is enough.
    """
    statements, resource = statements_of(logical_id), arn_of(logical_id) + key
    found = set()
    for name, (caller, context, by_iam) in CALLERS.items():
        effects = {
            statement["Effect"]
            for statement in statements
            if named(statement["Principal"], caller)
            and any(fnmatchcase(action, each) for each in listed(statement["Action"]))
            and any(fnmatchcase(resource, each) for each in listed(statement["Resource"]))
            and met(statement.get("Condition", {}), {**context, **more})
        }
        if "Deny" not in effects and ("Allow" in effects or by_iam):
            found.add(name)
    return found


def principal(arn: str) -> tuple[str, dict[str, str], bool]:
    """Return a caller that IAM allows everything; the key of an assumed role's session is the role's ARN."""
    return arn, {"aws:PrincipalArn": arn}, True


def service(name: str, source: str) -> tuple[str, dict[str, str], bool]:
    """Return an AWS service, which comes without an IAM principal."""
    return name, {"aws:SourceArn": source}, False


CALLERS: Final = {
    "the rule": service("events.amazonaws.com", arn_of("MemberAccountInitialization")),
    "the forwarder's rule": service("events.amazonaws.com", arn_of("Forwarder")),
    "another rule": service("events.amazonaws.com", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/another"),
    "another account's rule": service(
        "events.amazonaws.com", arn_of("MemberAccountInitialization").replace(ACCOUNT, ANOTHER)
    ),
    "a topic": service("sns.amazonaws.com", f"arn:aws:sns:us-east-1:{ACCOUNT}:topic"),
    "an operator who acts": principal(arn_of("OperatorActs")),
    "an operator who looks": principal(arn_of("OperatorReads")),
    "the worker": principal(arn_of("AttachPoliciesRole")),
    "the forwarder": principal(arn_of("ForwarderRole")),
    "an administrator": principal(f"arn:aws:iam::{ACCOUNT}:role/Administrator"),
    "a user": principal(f"arn:aws:iam::{ACCOUNT}:user/somebody"),
    "the root user": principal(f"arn:aws:iam::{ACCOUNT}:root"),
    "a role of the same name in another account": principal(arn_of("OperatorActs").replace(ACCOUNT, ANOTHER)),
    "a role whose name begins alike": principal(f"{arn_of('OperatorActs')}2"),
}
WITH_ALL_OF_IAM: Final = {name for name, (_, _, by_iam) in CALLERS.items() if by_iam}
OVER_TLS: Final = {"aws:SecureTransport": "true"}
SENDERS: Final = {
    "Joins": {"the rule", "an operator who acts"},
    "Undelivered": {"the rule", "an operator who acts"},
    "DeadLetters": {"the worker", "an operator who acts"},
    "Unforwarded": {"the forwarder's rule"},
}


def test_every_queue_is_looked_at() -> None:
    assert (
        {name for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"} == set(QUEUES) == set(SENDERS)
    )


@pytest.mark.parametrize("queue", QUEUES)
def test_nobody_but_those_who_must_sends_whatever_iam_allows(queue: str) -> None:
    assert able(queue, "sqs:SendMessage", OVER_TLS) == SENDERS[queue]


@pytest.mark.parametrize("queue", QUEUES)
def test_nobody_sends_without_tls(queue: str) -> None:
    assert not able(queue, "sqs:SendMessage", {"aws:SecureTransport": "false"})


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"])
def test_for_everything_else_iam_decides(queue: str, action: str) -> None:
    assert able(queue, action, OVER_TLS) == WITH_ALL_OF_IAM


@pytest.mark.parametrize(
    ("key", "writer"),
    [
        ("/evidence/2026/11/25/x/0001.json", "the worker"),
        ("/acts/2026/11/25/x.json", "an operator who acts"),
        ("/backups/2026/11/25/x.json", "an operator who acts"),
    ],
)
def test_nobody_but_who_must_writes_records_and_each_once(key: str, writer: str) -> None:
    once = OVER_TLS | {"s3:if-none-match": "*"}

    assert able("Evidence", "s3:PutObject", once, key) == {writer}
    assert not able("Evidence", "s3:PutObject", OVER_TLS, key)
    assert not able("Evidence", "s3:DeleteObject", OVER_TLS, key)
    assert able("Evidence", "s3:GetObject", OVER_TLS, key) == WITH_ALL_OF_IAM


def test_those_who_must_send_are_there_in_every_installation() -> None:
    for role in ("AttachPoliciesRole", "OperatorActs", "OperatorReads", "OperatorsSee"):
        assert "Condition" not in RESOURCES[role]


@pytest.mark.parametrize("role", ["OperatorReads", "OperatorActs"])
def test_where_no_operator_is_named_this_accounts_iam_says_who_takes_the_roles(role: str) -> None:
    [statement] = RESOURCES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    condition, one, everybody = statement["Principal"]["AWS"]["Fn::If"]

    conditions = load((ROOT / "infra" / "template.yaml").read_text())["Conditions"]
    assert conditions[condition] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "OperatorPrincipalArn"}, ""]}]}
    assert one == {"Ref": "OperatorPrincipalArn"}
    assert everybody == {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
