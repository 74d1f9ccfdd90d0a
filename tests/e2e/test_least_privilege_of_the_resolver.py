"""The role Resolver allows exactly what its commands use: each action is removed once, and each call is tried."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import boto3
import pytest
from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import row_of
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from infra.deploy.health import worker
from infra.deploy.health.check import attempt
from infra.deploy.health.deployed import read_contents, read_stack
from infra.local.installation import STACK
from schemas.audit import AuditRecord
from schemas.outcome import OutcomeStatus
from tests.e2e.test_least_privilege import ITEM, MAC, Worker, actions, another_key
from tests.e2e.test_operate import operate, session_of
from tests.fake_queues import outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Pipeline

ROLE: Final = "Resolver"
POLICY: Final = "resolve"
#: The stand-in encrypts the table and the bucket without the key, so only the list of actions is tested.
BY_THE_SERVICES: Final = {"kms:Decrypt", "kms:GenerateDataKey"}
BY_THE_CODE: Final = {
    "cloudformation:DescribeStacks",
    "dynamodb:Scan",
    "kms:GenerateMac",
    "organizations:ListAccounts",
    "s3:PutObject",
}
WHY: Final = ("--reason", "INC-123")
#: An account that has left, of which only an outcome tells.
LEFT: Final = "987654321098"


@pytest.fixture(autouse=True)
def _an_account_that_left(pipeline: Pipeline) -> Iterator[None]:
    table = pipeline.aws.resource("dynamodb").Table(pipeline.at.outcomes_table)
    table.put_item(Item=row_of(outcome((LEFT, "event-1"), OutcomeStatus.CLOSED)))
    yield
    table.delete_item(Key={"account_id": LEFT, "event_id": "event-1"})


def works(pipeline: Pipeline) -> bool:
    """Whether an account's pseudonym is shown, and that of one that left is resolved, each on record."""
    keys, member = session_of(pipeline, ROLE), pipeline.at.account_ids[0]
    made = operate(pipeline, "pseudonym", member, LEFT, "--json", *WHY, **keys)
    if made.returncode:
        assert made.stdout == ""
        return False
    values = [each["pseudonym"] for each in json.loads(made.stdout)]
    resolved = operate(pipeline, "resolve", *values, "--json", *WHY, **keys)
    return resolved.returncode == 0 and [each["name"] for each in json.loads(resolved.stdout)] == [member, LEFT]


@contextmanager
def without(pipeline: Pipeline, denied: str) -> Iterator[None]:
    iam, name = pipeline.client("iam"), pipeline.resource(ROLE)
    before = iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"]
    less = json.loads(json.dumps(before))
    for statement in less["Statement"]:
        statement["Action"] = [each for each in actions({"Statement": [statement]}) if each != denied]
    less["Statement"] = [each for each in less["Statement"] if each["Action"]]
    iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(less))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(before))


def test_the_role_allows_exactly_the_actions_of_the_code_and_the_services(pipeline: Pipeline) -> None:
    iam, name = pipeline.client("iam"), pipeline.resource(ROLE)
    document = iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"]

    assert set(actions(document)) == BY_THE_CODE | BY_THE_SERVICES
    assert iam.list_role_policies(RoleName=name)["PolicyNames"] == [POLICY]
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []


def test_it_works_with_all_actions_and_names_who_asked_and_nobody_else(pipeline: Pipeline) -> None:
    assert works(pipeline)

    bucket, s3 = pipeline.at.evidence_bucket, pipeline.client("s3")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="acts/")["Contents"]
    bodies = [s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in listed]
    records = [each for each in map(AuditRecord.model_validate_json, bodies) if each.action in {"pseudonym", "resolve"}]
    names = KmsPseudonyms(pipeline.client("kms"), pipeline.resource("PseudonymKey"), pipeline.at.organization_id)
    assert {(each.action, each.phase) for each in records} == {
        ("pseudonym", "intended"),
        ("pseudonym", "done"),
        ("resolve", "intended"),
        ("resolve", "done"),
    }
    assert {each.actor_name for each in records} == {names.name("night-shift")}
    for body in bodies:
        assert LEFT.encode() not in body


@pytest.mark.parametrize("action", sorted(BY_THE_CODE))
def test_it_fails_without_any_single_action(pipeline: Pipeline, action: str) -> None:
    with without(pipeline, action):
        assert not works(pipeline)


def test_the_operators_role_that_acts_may_resolve_and_the_one_that_reads_shows_nothing(pipeline: Pipeline) -> None:
    account = pipeline.at.account_ids[0]

    done = operate(pipeline, "pseudonym", account, *WHY, **session_of(pipeline, "OperatorActs"))
    refused = operate(pipeline, "pseudonym", account, *WHY, **session_of(pipeline, "OperatorReads"))

    assert (done.returncode, account in done.stdout) == (0, True)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_status_reads_the_role_with_the_operators_permissions(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It differs from the template where the stand-in does."""
    for name, value in session_of(pipeline, "OperatorReads").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", pipeline.aws.endpoint)
    cloudformation = pipeline.client("cloudformation")
    stack = read_contents(cloudformation, read_stack(cloudformation, STACK))

    [found] = attempt(
        "role Resolver",
        lambda: worker.role(boto3.client("iam", region_name=pipeline.aws.region), stack, ROLE, "role Resolver"),
    )

    assert "denied" not in found.found
    assert found.state != "unknown"


REFUSED: Final[dict[str, Callable[[Worker], object]]] = {
    "attach a policy": lambda w: w("organizations").attach_policy(
        PolicyId=w.at.policy_ids[0], TargetId=w.at.account_ids[0]
    ),
    "read an account": lambda w: w("organizations").describe_account(AccountId=w.at.account_ids[0]),
    "list policies": lambda w: w("organizations").list_policies(Filter="SERVICE_CONTROL_POLICY"),
    "read an outcome": lambda w: w("dynamodb").get_item(TableName=w.at.outcomes_table, Key=ITEM),
    "read whole rows": lambda w: w("dynamodb").scan(TableName=w.at.outcomes_table),
    "read another attribute of rows": lambda w: w("dynamodb").scan(
        TableName=w.at.outcomes_table, Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="account_id, evidence_key"
    ),
    "find outcomes": lambda w: w("dynamodb").query(
        TableName=w.at.outcomes_table,
        KeyConditionExpression="account_id = :a",
        ExpressionAttributeValues={":a": {"S": "none"}},
    ),
    "write an outcome": lambda w: w("dynamodb").put_item(TableName=w.at.outcomes_table, Item=ITEM),
    "read the pauses": lambda w: w("dynamodb").get_item(
        TableName=w.pipeline.resource("Reconciliation"), Key={"name": {"S": "Pauses"}}
    ),
    "read an audit record": lambda w: w("s3").get_object(Bucket=w.at.evidence_bucket, Key="acts/x"),
    "list audit records": lambda w: w("s3").list_objects_v2(Bucket=w.at.evidence_bucket),
    "delete an audit record": lambda w: w("s3").delete_object(Bucket=w.at.evidence_bucket, Key="acts/x"),
    "write evidence": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="evidence/x", Body=b"x"),
    "write a backup": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="backups/x", Body=b"x"),
    "read evidence": lambda w: w("s3").get_object(Bucket=w.at.evidence_bucket, Key="evidence/x"),
    "receive dead letters": lambda w: w("sqs").receive_message(QueueUrl=w.at.dead_letter_queue_url),
    "send to the joins queue": lambda w: w("sqs").send_message(QueueUrl=w.at.queue_url, MessageBody="x"),
    "read the log": lambda w: w("logs").filter_log_events(logGroupName=w.pipeline.resource("AttachPoliciesLogs")),
    "look up events of CloudTrail": lambda w: w("cloudtrail").lookup_events(),
    "use another HMAC key": lambda w: w("kms").generate_mac(KeyId=another_key(w), **MAC),
    "delete the pseudonym key": lambda w: w("kms").schedule_key_deletion(KeyId=w.key()),
    "change its own role": lambda w: w("iam").put_role_policy(
        RoleName=w.pipeline.resource(ROLE), PolicyName="more", PolicyDocument="{}"
    ),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_role_denies_the_call(pipeline: Pipeline, call: Callable[[Worker], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call(Worker(pipeline, pipeline.resource(ROLE)))

    assert "AccessDenied" in refused.value.response["Error"]["Code"]
