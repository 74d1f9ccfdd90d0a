"""The sweep's role allows exactly what the sweep uses: each action is removed once, and each call is tried."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from tests.e2e.test_guardrails import Organization, organization
from tests.e2e.test_least_privilege import ITEM, MAC, Worker, actions, another_key, replace_process
from tests.sweeps import Sweeps, enforcing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Pipeline

__all__ = ["organization"]

ROLE: Final = "SweepRole"
POLICY: Final = "sweep"
#: Of the Lambda service, and of the key, under which the stand-in does not encrypt.
BY_THE_SERVICES: Final = {"kms:Decrypt", "kms:GenerateDataKey", "logs:CreateLogStream", "logs:PutLogEvents"}
BY_THE_CODE: Final = {
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
    "kms:GenerateMac",
    "organizations:DescribeOrganization",
    "organizations:ListAccounts",
    "organizations:ListPolicies",
    "organizations:ListRoots",
    "organizations:ListTargetsForPolicy",
    "s3:PutObject",
    "sqs:GetQueueAttributes",
    "sqs:SendMessage",
}
#: Reads an object only if its key is taken, which no sweep can know in advance.
IF_THE_KEY_IS_TAKEN: Final = {"s3:GetObject"}
#: What only rules of a guardrails document need. The stand-in has no `Paths`, so the OUs of accounts are listed. Tags
#: are read by one call or, where that is denied, by the other.
FOR_GUARDRAILS: Final = {
    "organizations:DescribePolicy",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
}
FOR_TAGS: Final = {"organizations:ListTagsForResource", "tag:GetResources"}


@contextmanager
def without(pipeline: Pipeline, *denied: str) -> Iterator[None]:
    """Take actions from the role, and replace the function's process, until the block ends."""
    iam, name = pipeline.client("iam"), pipeline.resource(ROLE)
    before = iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"]
    less = json.loads(json.dumps(before))
    for statement in less["Statement"]:
        listed = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = [each for each in listed if each.removesuffix("Batch") not in denied]
    less["Statement"] = [each for each in less["Statement"] if each["Action"]]
    assert less != before
    iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(less))
    replace_process(pipeline, "Sweeper")
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(before))
        replace_process(pipeline, "Sweeper")


@pytest.fixture
def sweeps(pipeline: Pipeline) -> Iterator[Sweeps]:
    made = Sweeps(pipeline)
    made.forget()
    yield made
    made.until_quiet()
    made.forget()


@pytest.fixture(scope="class")
def enforces(shared: Pipeline) -> Iterator[None]:
    with enforcing(shared):
        yield


def works(sweeps: Sweeps) -> bool:
    """Whether two sweeps in a row find everything out, and the first one requests what is missing."""
    sweeps.pipeline.account()
    if sweeps.invoke().get("state") != "complete":
        return False
    first = sweeps.report()
    return first.requested > 0 and first.unclear == 0 and sweeps.invoke().get("state") == "complete"


def statements(pipeline: Pipeline, effect: str) -> set[str]:
    found = pipeline.client("iam").get_role_policy(RoleName=pipeline.resource(ROLE), PolicyName=POLICY)
    document: dict[str, Any] = found["PolicyDocument"]
    return set(actions({"Statement": [each for each in document["Statement"] if each["Effect"] == effect]}))


def test_a_stage_that_reports_is_denied_to_send_and_to_read_what_only_guardrails_need(pipeline: Pipeline) -> None:
    assert statements(pipeline, "Allow") == (BY_THE_CODE | IF_THE_KEY_IS_TAKEN | BY_THE_SERVICES) - {"sqs:SendMessage"}
    assert statements(pipeline, "Deny") == FOR_GUARDRAILS | FOR_TAGS | {"sqs:SendMessage", "s3:GetObject"}


@pytest.mark.usefixtures("enforces")
class TestWithoutGuardrails:
    """A stage with the short form that enforces."""

    def test_it_works_with_all_actions(self, sweeps: Sweeps) -> None:
        assert works(sweeps)

    @pytest.mark.parametrize("action", sorted(BY_THE_CODE))
    def test_it_fails_without_any_single_action(self, sweeps: Sweeps, action: str) -> None:
        with without(sweeps.pipeline, action):
            assert not works(sweeps)


class TestWithGuardrails:
    """A stage with a document whose rules depend on OUs and tags."""

    def decides(self, sweeps: Sweeps, made: Organization) -> bool:
        """Whether a sweep finds out that an account in an OU lacks what the OU's rule attaches."""
        made.account("/Workloads/Prod")
        before = sweeps.invoke()
        if before.get("state") != "complete":
            return False
        found = sweeps.report()
        return found.with_gaps > 0 and found.unclear == 0 and not found.faults

    def test_it_decides_with_all_actions(self, sweeps: Sweeps, organization: Organization) -> None:
        assert self.decides(sweeps, organization)
        assert sweeps.pipeline.relay.counted()["ListOrganizationalUnitsForParent"] >= 1

    @pytest.mark.parametrize("action", [*sorted(FOR_GUARDRAILS), "s3:GetObject"])
    def test_it_does_not_decide_without_any_single_action(
        self,
        sweeps: Sweeps,
        organization: Organization,
        action: str,
    ) -> None:
        with without(sweeps.pipeline, action):
            assert not self.decides(sweeps, organization)

    def test_tags_are_read_one_by_one_where_the_call_for_all_is_denied(
        self,
        sweeps: Sweeps,
        organization: Organization,
    ) -> None:
        sweeps.pipeline.relay.counted()
        with without(sweeps.pipeline, "tag:GetResources"):
            assert self.decides(sweeps, organization)
        assert sweeps.pipeline.relay.counted()["ListTagsForResource"] >= 1
        sweeps.forget()

        with without(sweeps.pipeline, *FOR_TAGS):
            assert not self.decides(sweeps, organization)


ALLOWED: Final[dict[str, Callable[[Worker], object]]] = {
    "write a report, and read it to compare it": lambda w: (
        w("s3").put_object(Bucket=w.at.evidence_bucket, Key="sweeps/x", Body=b"x"),
        w("s3").head_object(Bucket=w.at.evidence_bucket, Key="sweeps/x", ChecksumMode="ENABLED"),
    ),
    "count its requests": lambda w: w("sqs").get_queue_attributes(
        QueueUrl=w.pipeline.resource("Repairs"), AttributeNames=["ApproximateNumberOfMessages"]
    ),
    "list accounts": lambda w: w("organizations").list_accounts(),
}

REFUSED: Final[dict[str, Callable[[Worker], object]]] = {
    "attach a policy": lambda w: w("organizations").attach_policy(
        PolicyId=w.at.policy_ids[0], TargetId=w.at.account_ids[0]
    ),
    "detach a policy": lambda w: w("organizations").detach_policy(
        PolicyId=w.at.policy_ids[0], TargetId=w.at.account_ids[0]
    ),
    "remove an account": lambda w: w("organizations").remove_account_from_organization(AccountId=w.at.account_ids[0]),
    "disable a policy type": lambda w: w("organizations").disable_policy_type(
        RootId="r-aaaa", PolicyType="SERVICE_CONTROL_POLICY"
    ),
    "request policies in a stage that reports": lambda w: w("sqs").send_message(
        QueueUrl=w.pipeline.resource("Repairs"), MessageBody="x"
    ),
    "send to the joins queue": lambda w: w("sqs").send_message(QueueUrl=w.at.queue_url, MessageBody="x"),
    "send a dead letter": lambda w: w("sqs").send_message(QueueUrl=w.at.dead_letter_queue_url, MessageBody="x"),
    "receive requests": lambda w: w("sqs").receive_message(QueueUrl=w.pipeline.resource("Repairs")),
    "purge its requests": lambda w: w("sqs").purge_queue(QueueUrl=w.pipeline.resource("Repairs")),
    "write an outcome": lambda w: w("dynamodb").put_item(TableName=w.at.outcomes_table, Item=ITEM),
    "scan outcomes": lambda w: w("dynamodb").scan(TableName=w.at.outcomes_table),
    "delete an outcome": lambda w: w("dynamodb").delete_item(TableName=w.at.outcomes_table, Key=ITEM),
    "scan its table": lambda w: w("dynamodb").scan(TableName=w.pipeline.resource("Reconciliation")),
    "take turns of the pace": lambda w: w("dynamodb").update_item(
        TableName=w.pipeline.resource("Pace"), Key={"name": {"S": "AttachPolicy"}}
    ),
    "write evidence of an attempt": lambda w: w("s3").put_object(
        Bucket=w.at.evidence_bucket, Key="evidence/x", Body=b"x"
    ),
    "read evidence of an attempt": lambda w: w("s3").get_object(Bucket=w.at.evidence_bucket, Key="evidence/x"),
    "write an audit record": lambda w: w("s3").put_object(Bucket=w.at.evidence_bucket, Key="acts/x", Body=b"x"),
    "list evidence": lambda w: w("s3").list_objects_v2(Bucket=w.at.evidence_bucket),
    "delete a report": lambda w: w("s3").delete_object(Bucket=w.at.evidence_bucket, Key="sweeps/x"),
    "use another HMAC key": lambda w: w("kms").generate_mac(KeyId=another_key(w), **MAC),
    "invoke itself": lambda w: w("lambda").invoke(FunctionName=w.pipeline.resource("Sweeper")),
    "change its own role": lambda w: w("iam").put_role_policy(
        RoleName=w.pipeline.resource(ROLE), PolicyName="more", PolicyDocument="{}"
    ),
    "change its schedule": lambda w: w("scheduler").delete_schedule(Name=w.pipeline.resource("SweepSchedule")),
}


@pytest.mark.parametrize("call", ALLOWED.values(), ids=ALLOWED)
def test_the_role_allows_the_call(pipeline: Pipeline, call: Callable[[Worker], object]) -> None:
    call(Worker(pipeline, pipeline.resource(ROLE)))


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_role_denies_the_call(pipeline: Pipeline, call: Callable[[Worker], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call(Worker(pipeline, pipeline.resource(ROLE)))

    assert "AccessDenied" in refused.value.response["Error"]["Code"]


def test_the_schedules_role_invokes_the_sweep_and_nothing_else(pipeline: Pipeline) -> None:
    schedules = Worker(pipeline, pipeline.resource("SweepScheduleRole"))

    with pytest.raises(ClientError, match="AccessDenied"):
        schedules("lambda").invoke(FunctionName=pipeline.resource("AttachPolicies"), InvocationType="DryRun")
    schedules("lambda").invoke(FunctionName=pipeline.resource("Sweeper"), InvocationType="DryRun")
