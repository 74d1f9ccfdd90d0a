"""The role of the worker that removes policies allows exactly what that worker uses.

Accounts carry a policy that a row claims for Joinguard, so that these tests need no other worker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import row_of
from handlers.core.joins.claims import claims_of
from infra.local.waiting import until
from schemas.outcome import AttachmentResult, Outcome, OutcomeStatus
from tests.e2e.test_least_privilege import BY_THE_SERVICES, ITEM, MAC, Worker, actions, another_key, line_about
from tests.removing import removing_stage

if TYPE_CHECKING:
    from schemas.events import RemovalRequest
    from tests.e2e.conftest import Pipeline
    from tests.removing import Removing

ROLE, POLICY = "DetachPoliciesRole", "detach-policies"
BY_THE_CODE: Final = {
    "organizations:ListPoliciesForTarget",
    "organizations:DetachPolicy",
    "organizations:DescribeAccount",
    "organizations:ListParents",
    "organizations:ListTagsForResource",
    "sqs:ChangeMessageVisibility",
    "sqs:SendMessage",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
    "dynamodb:PutItem",
    "s3:PutObject",
    "s3:GetObject",
    "kms:GenerateMac",
}
ALL: Final = {"removed", "postponed", "dead letter", "compared", "recognized", "replaced"}


@pytest.fixture(scope="module")
def stage(shared: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Removing]:
    with removing_stage(shared, tmp_path_factory.mktemp("removing")) as made:
        yield made


@pytest.fixture
def removing(pipeline: Pipeline, stage: Removing) -> Iterator[Removing]:
    """Yield the stage, and empty its queue afterwards: messages that failed would come again during another test."""
    yield stage
    pipeline.client("sqs").purge_queue(QueueUrl=pipeline.resource("Removals"))


def replace_process(pipeline: Pipeline) -> None:
    """Make the next message start a new process without caches; updating the code stops the old process."""
    stacks = pipeline.client("cloudformation").describe_stacks(StackName="joinguard")["Stacks"]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stacks[0]["Parameters"]}
    pipeline.client("lambda").update_function_code(
        FunctionName=pipeline.resource("DetachPolicies"), S3Bucket=parameters["CodeBucket"], S3Key=parameters["CodeKey"]
    )


def request_for_a_claimed_policy(stage: Removing, kind: str = "member", **tags: str) -> RemovalRequest:
    """Return a request about an account with a policy that a row claims for Joinguard, and that it does not need."""
    account_id, now = stage.account(kind, **tags), datetime.now(UTC)
    stage.attach(stage.lock, account_id)
    claims = claims_of(account_id, {stage.lock: now}, AttachmentResult.ATTACHED, stage.pseudonyms())
    put_row(stage, account_id, "attached", OutcomeStatus.ENFORCED, now, done_at=now, claims=claims)
    return stage.request(account_id)


def put_row(stage: Removing, account_id: str, event_id: str, status: OutcomeStatus, at: datetime, **more: Any) -> None:
    row = Outcome(
        account_id=account_id,
        event_id=event_id,
        event_name="x",
        source="x",
        status=status,
        attempts=1,
        event_time=at,
        received_at=at,
        updated_at=at,
        **more,
    )
    table(stage).put_item(Item=row_of(row))


def put_evidence(stage: Removing, request: RemovalRequest, body: bytes) -> None:
    """Put an object under the key of the request's first evidence."""
    pseudonym = stage.pseudonyms().of(request.account_id).value
    key = f"evidence/{request.requested_at:%Y/%m/%d}/{request.event_id}/{pseudonym}/0001.json"
    bucket = stage.pipeline.at.evidence_bucket
    stage.pipeline.client("s3").put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")


def table(stage: Removing) -> Any:
    return stage.pipeline.aws.resource("dynamodb").Table(stage.pipeline.at.outcomes_table)


def working_cases(stage: Removing) -> set[str]:
    """Try each way in which a request can be handled; return those that succeed."""
    pipeline, now = stage.pipeline, time.time()
    removed, retried, compared, recognized = (request_for_a_claimed_policy(stage) for _ in range(4))
    # Only the name of this one decides.
    replaced = request_for_a_claimed_policy(stage, "excluded", environment="prod")
    put_evidence(stage, compared, b"foreign")
    # An attempt that was interrupted between its evidence and its outcome.
    body = b"evidence of the first attempt"
    put_evidence(stage, recognized, body)
    begun: dict[str, Any] = {"intents": {1: (stage.lock,)}, "announced": {1: (sha256(body).hexdigest(),)}}
    at = recognized.requested_at
    put_row(stage, recognized.account_id, recognized.event_id, OutcomeStatus.RETRYING, at, **begun)
    unreadable = {"account_id": replaced.account_id, "event_id": replaced.event_id, "attempts": "many"}
    table(stage).put_item(Item=unreadable)
    # `retried` is sent alone, later, because the relay fails the next read.
    sent = [removed, compared, replaced, recognized]
    for request in sent:
        stage.send(request.model_dump_json())
    malformed = stage.send("{")
    lines = [line_about(pipeline, text, since=now) for text in (*(each.event_id for each in sent), malformed)]
    pipeline.relay.fail_next("ListPoliciesForTarget", (400, "FinalizingOrganizationException"))
    stage.send(retried.model_dump_json())
    postponed = line_about(pipeline, retried.event_id, since=now)
    pipeline.relay.reset()
    results = {
        "removed": lines[0].get("policies") == {stage.lock: "REMOVED"} and lines[0]["status"] == "ENFORCED",
        "compared": "evidence_conflicts" in lines[1],
        "replaced": lines[2]["status"] == "ENFORCED" and "row_replaced" in lines[2],
        "recognized": lines[3]["status"] == "ENFORCED" and "evidence_conflicts" not in lines[3],
        "dead letter": lines[4]["status"] == "FAILED",
        "postponed": "again_in_seconds" in postponed,
    }
    return {name for name, succeeded in results.items() if succeeded}


def test_the_role_allows_exactly_the_actions_of_the_code_and_the_service(
    pipeline: Pipeline, removing: Removing
) -> None:
    assert removing
    document = pipeline.client("iam").get_role_policy(RoleName=pipeline.resource(ROLE), PolicyName=POLICY)
    statements = document["PolicyDocument"]["Statement"]

    assert {each["Effect"] for each in statements} == {"Allow"}
    assert set(actions({"Statement": statements})) == BY_THE_CODE | BY_THE_SERVICES


def test_every_case_works_with_all_actions(removing: Removing) -> None:
    assert working_cases(removing) == ALL


@pytest.mark.parametrize("action", sorted(BY_THE_CODE))
def test_a_case_fails_without_any_single_action(removing: Removing, action: str) -> None:
    # Without the guardrails, no case works; that is the next test.
    sid = "ReadEvidence" if action == "s3:GetObject" else ""
    with removing.policy_without(ROLE, POLICY, action=action, sid=sid):
        replace_process(removing.pipeline)

        assert working_cases(removing) < ALL


def test_without_reading_the_guardrails_the_worker_does_not_start_and_says_so(removing: Removing) -> None:
    now, request = time.time(), request_for_a_claimed_policy(removing)
    with removing.policy_without(ROLE, POLICY, action="s3:GetObject", sid="ReadGuardrails"):
        replace_process(removing.pipeline)
        removing.send(request.model_dump_json())

        until(lambda: any("GUARDRAILS_KEY: cannot read" in line for line in removing.pipeline.log(now)), "the error")
    assert removing.attached(request.account_id) == {removing.lock}
    replace_process(removing.pipeline)


ALLOWED: Final[dict[str, Callable[[Worker], object]]] = {
    "read what an account carries": lambda w: w("organizations").list_policies_for_target(
        TargetId=w.at.account_ids[0], Filter="SERVICE_CONTROL_POLICY"
    ),
    "request an evaluation": lambda w: w("sqs").send_message(
        QueueUrl=w.at.queue_url, MessageBody="x", DelaySeconds=900
    ),
    "send a dead letter": lambda w: w("sqs").send_message(QueueUrl=w.at.dead_letter_queue_url, MessageBody="x"),
    "write evidence": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="evidence/z", Body=b"x"),
    "find what was attached": lambda w: w("dynamodb").query(
        TableName=w.at.outcomes_table,
        KeyConditionExpression="account_id = :account",
        ExpressionAttributeValues={":account": {"S": "none"}},
    ),
    "derive a pseudonym": lambda w: w("kms").generate_mac(KeyId=w.key(), **MAC),
}

REFUSED: Final[dict[str, Callable[[Worker], object]]] = {
    "attach a policy": lambda w: w("organizations").attach_policy(
        PolicyId=w.at.policy_ids[0], TargetId=w.at.account_ids[0]
    ),
    "delete a policy": lambda w: w("organizations").delete_policy(PolicyId=w.at.policy_ids[0]),
    "list accounts": lambda w: w("organizations").list_accounts(),
    "move an account": lambda w: w("organizations").move_account(
        AccountId=w.at.account_ids[0], SourceParentId="r-aaaa", DestinationParentId="r-bbbb"
    ),
    "request a removal": lambda w: w("sqs").send_message(QueueUrl=w.pipeline.resource("Removals"), MessageBody="x"),
    "receive joins": lambda w: w("sqs").receive_message(QueueUrl=w.at.queue_url),
    "read dead letters": lambda w: w("sqs").receive_message(QueueUrl=w.at.dead_letter_queue_url),
    "write to undelivered": lambda w: w("sqs").send_message(QueueUrl=w.at.undelivered_queue_url, MessageBody="x"),
    "scan outcomes": lambda w: w("dynamodb").scan(TableName=w.at.outcomes_table),
    "delete an outcome": lambda w: w("dynamodb").delete_item(TableName=w.at.outcomes_table, Key=ITEM),
    "replace the count of removals": lambda w: w("dynamodb").put_item(
        TableName=w.pipeline.resource("Pace"), Item={"name": {"S": "Removals"}}
    ),
    "list evidence": lambda w: w("s3").list_objects_v2(Bucket=w.at.evidence_bucket),
    "delete evidence": lambda w: w("s3").delete_object(Bucket=w.at.evidence_bucket, Key="evidence/x"),
    "write an audit record": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="acts/x", Body=b"x"),
    "approve a plan": lambda w: w("s3").put_object(Bucket="joinguard-code", Key="joinguard/plans/x.json", Body=b"x"),
    "use another HMAC key": lambda w: w("kms").generate_mac(KeyId=another_key(w), **MAC),
    "change its own role": lambda w: w("iam").put_role_policy(
        RoleName=w.pipeline.resource(ROLE), PolicyName="more", PolicyDocument=json.dumps({})
    ),
}


@pytest.fixture
def worker(pipeline: Pipeline, removing: Removing) -> Worker:
    assert removing
    return Worker(pipeline, pipeline.resource(ROLE))


@pytest.mark.parametrize("call", ALLOWED.values(), ids=ALLOWED)
def test_the_role_allows_the_call(worker: Worker, call: Callable[[Worker], object]) -> None:
    call(worker)


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_role_denies_the_call(worker: Worker, call: Callable[[Worker], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call(worker)

    assert "AccessDenied" in refused.value.response["Error"]["Code"]


def test_the_worker_that_attaches_may_not_detach_and_may_request_removals(
    pipeline: Pipeline, removing: Removing
) -> None:
    attaching = Worker(pipeline, pipeline.resource("AttachPoliciesRole"))

    with pytest.raises(ClientError, match="AccessDenied"):
        attaching("organizations").detach_policy(PolicyId=removing.lock, TargetId=pipeline.at.account_ids[0])
    attaching("sqs").send_message(QueueUrl=pipeline.resource("Removals"), MessageBody="{", DelaySeconds=900)
