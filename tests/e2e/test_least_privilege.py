"""The worker's role allows exactly what the worker uses: each action is removed once, and each call is tried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import row_of
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from infra.local.events import policy_detached
from infra.local.installation import STACK
from infra.local.waiting import until
from schemas.outcome import Outcome, OutcomeStatus

if TYPE_CHECKING:
    from infra.local.events import Event
    from tests.e2e.conftest import Pipeline

POLICY: Final = "attach-policies"
#: Actions of the Lambda service. The stand-in polls and logs without IAM and does not encrypt under the key, so only
#: the list of actions is tested.
BY_THE_SERVICES: Final = {
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "kms:Decrypt",
    "kms:GenerateDataKey",
}
#: Denied to a worker without guardrails.
FOR_GUARDRAILS: Final = {
    "organizations:ListParents",
    "organizations:ListTagsForResource",
    "s3:GetObject",
}
BY_THE_CODE: Final = {
    "organizations:ListPoliciesForTarget",
    "organizations:AttachPolicy",
    "organizations:DescribeAccount",
    "sqs:ChangeMessageVisibility",
    "sqs:SendMessage",
    "dynamodb:GetItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
    "dynamodb:PutItem",
    "s3:PutObject",
    "s3:GetObject",
    "kms:GenerateMac",
}
ALL: Final = {
    "enforced",
    "postponed",
    "request postponed",
    "dead letter",
    "compared",
    "recognized",
    "replaced",
    "restored",
}


@pytest.fixture
def role(pipeline: Pipeline) -> Iterator[str]:
    """Yield the role's name; restore the role's policy and empty the queues afterwards."""
    name = pipeline.resource("AttachPoliciesRole")
    iam = pipeline.client("iam")
    before = iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"]
    yield name
    iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(before))
    pipeline.clear()


def replace_process(pipeline: Pipeline, function: str = "AttachPolicies") -> None:
    """Make the next event start a new process without caches; updating the code stops the old process."""
    [stack] = pipeline.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    pipeline.client("lambda").update_function_code(
        FunctionName=pipeline.resource(function),
        S3Bucket=parameters["CodeBucket"],
        S3Key=parameters["CodeKey"],
    )


def actions(document: dict[str, Any]) -> list[str]:
    listed = [each["Action"] for each in document["Statement"]]
    found = [action for each in listed for action in ([each] if isinstance(each, str) else each)]
    # `infra.local.complete` adds batch actions that exist only in the stand-in.
    return [action for action in found if not action.endswith("Batch")]


def line_about(pipeline: Pipeline, text: str, *, since: float) -> dict[str, Any]:
    """Return the log line about a record; wait for it."""
    found: list[dict[str, Any]] = []

    def is_written() -> bool:
        found.extend(json.loads(line) for line in pipeline.log(since) if text in line)
        return bool(found)

    until(is_written, f"a line about {text} in the function's log")
    return found[0]


def working_cases(pipeline: Pipeline) -> set[str]:
    """Try each way in which a record can be handled; return those that succeed."""
    now = time.time()
    account_id = pipeline.account()
    join, retried = pipeline.invited(account_id), pipeline.invited(pipeline.account())
    malformed = json.dumps(pipeline.invited("1"))
    occupied, unreadable = with_foreign_evidence(pipeline), with_unreadable_row(pipeline)
    interrupted = with_evidence_and_no_outcome(pipeline)
    ids = [event["detail"]["eventID"] for event in (join, retried, occupied, unreadable, interrupted)]
    # `retried` and a request are sent alone, later, because the relay fails the next read.
    for event in (join, occupied, unreadable, interrupted):
        pipeline.watch.put(event)
    sent = pipeline.client("sqs").send_message(QueueUrl=pipeline.at.queue_url, MessageBody=malformed)
    enforced, compared, replaced, recognized, failed = (
        line_about(pipeline, text, since=now) for text in (ids[0], *ids[2:], sent["MessageId"])
    )
    pipeline.forget_restores()
    detached = detach(pipeline, account_id)
    pipeline.watch.put(detached)
    restored = line_about(pipeline, detached["detail"]["eventID"], since=now)
    pipeline.relay.fail_next("ListPoliciesForTarget", (400, "FinalizingOrganizationException"))
    pipeline.watch.put(retried)
    postponed = line_about(pipeline, ids[1], since=now)
    request = pipeline.requested(pipeline.account())
    pipeline.relay.fail_next("ListPoliciesForTarget", (400, "FinalizingOrganizationException"))
    pipeline.watch.request(request.model_dump_json())
    request_postponed = line_about(pipeline, request.event_id, since=now)
    results = {
        "enforced": enforced["status"] == "ENFORCED",
        "postponed": "again_in_seconds" in postponed,
        "request postponed": "again_in_seconds" in request_postponed,
        "dead letter": failed["status"] == "FAILED",
        "compared": "evidence_conflicts" in compared,
        "recognized": recognized["status"] == "ENFORCED" and "evidence_conflicts" not in recognized,
        "replaced": replaced["status"] == "ENFORCED" and "row_replaced" in replaced,
        "restored": restored["status"] == "ENFORCED" and "ATTACHED" in restored["policies"].values(),
    }
    pipeline.relay.reset()
    return {name for name, succeeded in results.items() if succeeded}


def detach(pipeline: Pipeline, account_id: str) -> Event:
    """Let somebody detach a policy from an account, if it carries one; return the event."""
    policy_id, organizations = pipeline.at.policy_ids[0], pipeline.client("organizations")
    with suppress(organizations.exceptions.PolicyNotAttachedException):
        organizations.detach_policy(PolicyId=policy_id, TargetId=account_id)
    return policy_detached(account_id, pipeline.at.management_account_id, policy_id)


def with_foreign_evidence(pipeline: Pipeline) -> Event:
    """Return a join with a foreign object under the key of its first evidence."""
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    put_evidence(pipeline, account_id, event, b"foreign")
    return event


def with_evidence_and_no_outcome(pipeline: Pipeline) -> Event:
    """Return a join with an attempt that was interrupted between its evidence and its outcome."""
    account_id, body = pipeline.account(), b"evidence of the first attempt"
    event = pipeline.invited(account_id)
    put_evidence(pipeline, account_id, event, body)
    moment = datetime.fromisoformat(event["detail"]["eventTime"])
    known = Outcome(
        account_id=account_id,
        event_id=event["detail"]["eventID"],
        event_name="AcceptHandshake",
        source="aws.organizations",
        status=OutcomeStatus.RETRYING,
        attempts=1,
        event_time=moment,
        received_at=moment,
        updated_at=moment,
        intents={1: tuple(pipeline.at.policy_ids)},
        announced={1: (sha256(body).hexdigest(),)},
    )
    pipeline.aws.resource("dynamodb").Table(pipeline.at.outcomes_table).put_item(Item=row_of(known))
    return event


def put_evidence(pipeline: Pipeline, account_id: str, event: Event, body: bytes) -> None:
    names = KmsPseudonyms(pipeline.client("kms"), pipeline.resource("PseudonymKey"), pipeline.at.organization_id)
    day = event["detail"]["eventTime"][:10].replace("-", "/")
    key = f"evidence/{day}/{event['detail']['eventID']}/{names.of(account_id).value}/0001.json"
    pipeline.client("s3").put_object(Bucket=pipeline.at.evidence_bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")


def with_unreadable_row(pipeline: Pipeline) -> Event:
    """Return a join with a row that no worker wrote."""
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    row = {"account_id": account_id, "event_id": event["detail"]["eventID"], "attempts": "many", "lease_until": 7}
    pipeline.aws.resource("dynamodb").Table(pipeline.at.outcomes_table).put_item(Item=row)
    return event


def test_the_role_allows_exactly_the_actions_of_the_code_and_the_service(pipeline: Pipeline, role: str) -> None:
    document = pipeline.client("iam").get_role_policy(RoleName=role, PolicyName=POLICY)["PolicyDocument"]

    allowed = {"Statement": [each for each in document["Statement"] if each["Effect"] == "Allow"]}
    assert set(actions(allowed)) == BY_THE_CODE | BY_THE_SERVICES
    # tests/e2e/test_guardrails.py has guardrails, whose facts the worker reads by these.
    denied = {"Statement": [each for each in document["Statement"] if each["Effect"] == "Deny"]}
    assert set(actions(denied)) == FOR_GUARDRAILS


def test_every_case_works_with_all_actions(pipeline: Pipeline, role: str) -> None:
    assert role
    assert working_cases(pipeline) == ALL


@pytest.mark.parametrize("action", sorted(BY_THE_CODE))
def test_a_case_fails_without_any_single_action(pipeline: Pipeline, role: str, action: str) -> None:
    iam = pipeline.client("iam")
    document = iam.get_role_policy(RoleName=role, PolicyName=POLICY)["PolicyDocument"]
    for statement in document["Statement"]:
        statement["Action"] = [each for each in actions({"Statement": [statement]}) if each != action]
    document["Statement"] = [each for each in document["Statement"] if each["Action"]]
    iam.put_role_policy(RoleName=role, PolicyName=POLICY, PolicyDocument=json.dumps(document))
    replace_process(pipeline)

    assert working_cases(pipeline) < ALL


@pytest.mark.parametrize(("queue", "case"), [("Joins", "postponed"), ("Repairs", "request postponed")])
def test_a_case_fails_without_the_permission_on_its_queue(pipeline: Pipeline, role: str, queue: str, case: str) -> None:
    iam = pipeline.client("iam")
    document = iam.get_role_policy(RoleName=role, PolicyName=POLICY)["PolicyDocument"]
    name = pipeline.resource(queue).rpartition("/")[2]
    [receives] = [each for each in document["Statement"] if each.get("Sid") == "ReceiveMessages"]
    receives["Resource"] = [each for each in receives["Resource"] if each.rpartition(":")[2] != name]
    assert len(receives["Resource"]) == 1
    iam.put_role_policy(RoleName=role, PolicyName=POLICY, PolicyDocument=json.dumps(document))
    replace_process(pipeline)

    assert working_cases(pipeline) == ALL - {case}


class Worker:
    """Clients with the role's own credentials."""

    def __init__(self, pipeline: Pipeline, role: str) -> None:
        self.at = pipeline.at
        self.pipeline = pipeline
        iam, sts = pipeline.client("iam"), pipeline.client("sts")
        found = iam.get_role(RoleName=role)["Role"]
        # Only a service may assume the role, so the test adds itself to the trust policy for a moment.
        trust = found["AssumeRolePolicyDocument"]
        anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        ours = trust | {"Statement": [*trust["Statement"], anybody]}
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(ours))
        try:
            self.credentials = sts.assume_role(RoleArn=found["Arn"], RoleSessionName="test")["Credentials"]
        finally:
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))

    def __call__(self, service: str) -> Any:
        return self.pipeline.aws.client(
            service,
            aws_access_key_id=self.credentials["AccessKeyId"],
            aws_secret_access_key=self.credentials["SecretAccessKey"],
            aws_session_token=self.credentials["SessionToken"],
        )

    def key(self) -> str:
        return self.pipeline.resource("PseudonymKey")


ITEM: Final = {"account_id": {"S": "none"}, "event_id": {"S": "x"}}
MAC: Final = {"Message": b"x", "MacAlgorithm": "HMAC_SHA_256"}

ALLOWED: Final[dict[str, Callable[[Worker], object]]] = {
    "read what an account carries": lambda w: w("organizations").list_policies_for_target(
        TargetId=w.at.account_ids[0], Filter="SERVICE_CONTROL_POLICY"
    ),
    "write evidence": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="evidence/x", Body=b"x"),
    "read evidence, to compare it": lambda w: (
        w("s3").put_object(Bucket=w.at.evidence_bucket, Key="evidence/y", Body=b"x"),
        w("s3").head_object(Bucket=w.at.evidence_bucket, Key="evidence/y", ChecksumMode="ENABLED"),
    ),
    "replace a row": lambda w: (
        w("dynamodb").put_item(TableName=w.at.outcomes_table, Item=ITEM),
        w.pipeline.aws.client("dynamodb").delete_item(TableName=w.at.outcomes_table, Key=ITEM),
    ),
    "find the outcomes of an account": lambda w: w("dynamodb").query(
        TableName=w.at.outcomes_table,
        KeyConditionExpression="account_id = :a",
        ExpressionAttributeValues={":a": {"S": "none"}},
    ),
    "ask since when an account is a member": lambda w: w("organizations").describe_account(
        AccountId=w.at.account_ids[0]
    ),
    "derive a pseudonym": lambda w: w("kms").generate_mac(KeyId=w.key(), **MAC),
}

REFUSED: Final[dict[str, Callable[[Worker], object]]] = {
    "detach a policy": lambda w: w("organizations").detach_policy(
        PolicyId=w.at.policy_ids[0], TargetId=w.at.account_ids[0]
    ),
    "delete a policy": lambda w: w("organizations").delete_policy(PolicyId=w.at.policy_ids[0]),
    "list accounts": lambda w: w("organizations").list_accounts(),
    "move an account": lambda w: w("organizations").move_account(
        AccountId=w.at.account_ids[0], SourceParentId="r-aaaa", DestinationParentId="r-bbbb"
    ),
    "send to the joins queue": lambda w: w("sqs").send_message(QueueUrl=w.at.queue_url, MessageBody="x"),
    "send to the repairs queue": lambda w: w("sqs").send_message(QueueUrl=w.at.repairs_queue_url, MessageBody="x"),
    "read dead letters": lambda w: w("sqs").receive_message(QueueUrl=w.at.dead_letter_queue_url),
    "purge dead letters": lambda w: w("sqs").purge_queue(QueueUrl=w.at.dead_letter_queue_url),
    "write to undelivered": lambda w: w("sqs").send_message(QueueUrl=w.at.undelivered_queue_url, MessageBody="x"),
    "find what is failing": lambda w: w("dynamodb").query(
        TableName=w.at.outcomes_table,
        IndexName="failing",
        KeyConditionExpression="failing = :s",
        ExpressionAttributeValues={":s": {"S": "FAILED"}},
    ),
    "read an outcome by its key": lambda w: w("dynamodb").get_item(TableName=w.at.outcomes_table, Key=ITEM),
    "scan outcomes": lambda w: w("dynamodb").scan(TableName=w.at.outcomes_table),
    "delete an outcome": lambda w: w("dynamodb").delete_item(TableName=w.at.outcomes_table, Key=ITEM),
    "write to another table": lambda w: w("dynamodb").update_item(TableName="another", Key=ITEM),
    "replace the pace's row": lambda w: w("dynamodb").put_item(
        TableName=w.pipeline.resource("Pace"), Item={"name": {"S": "x"}}
    ),
    "read an audit record": lambda w: w("s3").get_object(Bucket=w.at.evidence_bucket, Key="acts/x"),
    "read a backup": lambda w: w("s3").get_object(Bucket=w.at.evidence_bucket, Key="backups/x"),
    "list evidence": lambda w: w("s3").list_objects_v2(Bucket=w.at.evidence_bucket),
    "delete evidence": lambda w: w("s3").delete_object(Bucket=w.at.evidence_bucket, Key="evidence/x"),
    "write outside the evidence": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="other/x", Body=b"x"),
    "write to another bucket": lambda w: w("s3").put_object(Bucket="joinguard-code", Key="evidence/x", Body=b"x"),
    "shorten a retention": lambda w: w("s3").put_object_retention(
        Bucket=w.at.evidence_bucket, Key="evidence/x", Retention={"Mode": "GOVERNANCE"}, BypassGovernanceRetention=True
    ),
    "unlock the bucket": lambda w: w("s3").put_object_lock_configuration(Bucket=w.at.evidence_bucket),
    "use another HMAC key": lambda w: w("kms").generate_mac(KeyId=another_key(w), **MAC),
    "delete the pseudonym key": lambda w: w("kms").schedule_key_deletion(KeyId=w.key()),
    "delete the log": lambda w: w("logs").delete_log_group(logGroupName=w.pipeline.resource("AttachPoliciesLogs")),
    "change its own role": lambda w: w("iam").put_role_policy(
        RoleName=w.pipeline.resource("AttachPoliciesRole"), PolicyName="more", PolicyDocument="{}"
    ),
    "change its own code": lambda w: w("lambda").update_function_code(
        FunctionName=w.pipeline.resource("AttachPolicies"), S3Bucket="joinguard-code", S3Key="x"
    ),
}


def another_key(worker: Worker) -> str:
    made = worker.pipeline.client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    return str(made["KeyMetadata"]["KeyId"])


@pytest.mark.parametrize("call", ALLOWED.values(), ids=ALLOWED)
def test_the_role_allows_the_call(pipeline: Pipeline, role: str, call: Callable[[Worker], object]) -> None:
    call(Worker(pipeline, role))


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_role_denies_the_call(pipeline: Pipeline, role: str, call: Callable[[Worker], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call(Worker(pipeline, role))

    assert "AccessDenied" in refused.value.response["Error"]["Code"]
