"""The sealer's role allows exactly what sealing uses: each action is removed once, and each call is tried."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from infra.local.installation import configure
from tests.e2e.test_least_privilege import ITEM, MAC, Worker, actions, replace_process
from tests.seals import Seals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Pipeline

ROLE: Final = "SealRole"
#: Of the Lambda service, and of the key, under which the stand-in does not encrypt.
BY_THE_SERVICES: Final = {"kms:Decrypt", "kms:GenerateDataKey", "logs:CreateLogStream", "logs:PutLogEvents"}
BY_THE_CODE: Final = {
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "kms:GetPublicKey",
    "kms:Sign",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:PutObject",
    "sqs:DeleteMessage",
    "sqs:ReceiveMessage",
}
#: In AWS, HEAD of a version needs s3:GetObjectVersion, and it leaves out the lock without s3:GetObjectRetention. The
#: stand-in checks s3:GetObject for it.
IN_AWS: Final = {"s3:GetObjectRetention", "s3:GetObjectVersion"}
COPIES: Final = {"sns:Publish"}


@contextmanager
def without(pipeline: Pipeline, denied: str) -> Iterator[None]:
    """Take an action from the role's policies, and replace the function's process, until the block ends."""
    iam, role = pipeline.client("iam"), pipeline.resource(ROLE)
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    before = {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}
    less: dict[str, Any] = json.loads(json.dumps(before))
    for document in less.values():
        for statement in document["Statement"]:
            listed = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            statement["Action"] = [each for each in listed if each.removesuffix("Batch") != denied] or [
                "sts:TagSession"
            ]
    assert less != before
    for name, document in less.items():
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    replace_process(pipeline, "Sealer")
    try:
        yield
    finally:
        for name, document in before.items():
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
        replace_process(pipeline, "Sealer")


@pytest.fixture
def seals(pipeline: Pipeline) -> Iterator[Seals]:
    made = Seals(pipeline)
    yield made
    # What an invocation without permissions left is completed.
    made.seal()


def works(seals: Seals) -> bool:
    """Whether an object that was written and announced is sealed, and its message deleted."""
    pipeline = seals.pipeline
    pipeline.handle(pipeline.invited(pipeline.account()))
    seals.compare_anew()
    return "size" in seals.invoke()


def test_these_are_the_actions_of_the_role(pipeline: Pipeline) -> None:
    iam, role = pipeline.client("iam"), pipeline.resource(ROLE)
    allowed: set[str] = set()
    denied: set[str] = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        for statement in iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]:
            (allowed if statement["Effect"] == "Allow" else denied).update(actions({"Statement": [statement]}))

    assert allowed == BY_THE_CODE | BY_THE_SERVICES | IN_AWS
    assert denied == {"s3:GetObject", "s3:PutObject", "sns:Publish"}


def test_it_works_with_all_actions(seals: Seals) -> None:
    assert works(seals)


@pytest.mark.parametrize("action", sorted(BY_THE_CODE))
def test_it_fails_without_any_single_action(seals: Seals, action: str) -> None:
    with without(seals.pipeline, action):
        assert not works(seals)


def test_it_may_publish_on_the_topic_of_the_stage_and_on_no_other(seals: Seals) -> None:
    pipeline = seals.pipeline
    sns = pipeline.client("sns")
    topic, another = (sns.create_topic(Name=name)["TopicArn"] for name in ("checkpoints", "another"))
    configure(pipeline.aws, {"CheckpointTopicArn": topic})
    replace_process(pipeline, "Sealer")
    try:
        seals.seal()
        sealer = Worker(pipeline, pipeline.resource(ROLE))
        sealer("sns").publish(TopicArn=topic, Message="x")
        with pytest.raises(ClientError):
            sealer("sns").publish(TopicArn=another, Message="x")
    finally:
        configure(pipeline.aws, {"CheckpointTopicArn": ""})
        replace_process(pipeline, "Sealer")


def log(worker: Worker, key: str) -> dict[str, Any]:
    return {"Bucket": worker.at.evidence_bucket, "Key": key, "Body": b"x"}


REFUSED: Final[dict[str, Callable[[Worker], object]]] = {
    "write evidence": lambda w: w("s3").put_object(**log(w, "evidence/x")),
    "write an audit record": lambda w: w("s3").put_object(**log(w, "acts/x")),
    "write a backup": lambda w: w("s3").put_object(**log(w, "backups/x")),
    "write a configuration": lambda w: w("s3").put_object(**log(w, "configuration/x")),
    "write a report": lambda w: w("s3").put_object(**log(w, "sweeps/x")),
    "write anywhere else": lambda w: w("s3").put_object(**log(w, "joinguard/x")),
    "read a backup": lambda w: w("s3").get_object(Bucket=w.at.evidence_bucket, Key="backups/x"),
    "delete a part of the log": lambda w: w("s3").delete_object(Bucket=w.at.evidence_bucket, Key="log/tile/0/000"),
    "shorten a lock": lambda w: w("s3").put_object_retention(
        Bucket=w.at.evidence_bucket, Key="log/tile/0/000", Retention={"Mode": "GOVERNANCE"}
    ),
    "change the bucket's policy": lambda w: w("s3").delete_bucket_policy(Bucket=w.at.evidence_bucket),
    "send an announcement": lambda w: w("sqs").send_message(
        QueueUrl=w.pipeline.resource("Announcements"), MessageBody="x"
    ),
    "send a join": lambda w: w("sqs").send_message(QueueUrl=w.at.queue_url, MessageBody="x"),
    "read outcomes": lambda w: w("dynamodb").scan(TableName=w.at.outcomes_table),
    "write an outcome": lambda w: w("dynamodb").put_item(TableName=w.at.outcomes_table, Item=ITEM),
    "scan its table": lambda w: w("dynamodb").scan(TableName=w.pipeline.resource("Sealed")),
    "delete its state": lambda w: w("dynamodb").delete_item(
        TableName=w.pipeline.resource("Sealed"), Key={"version": {"S": "state"}}
    ),
    "derive pseudonyms": lambda w: w("kms").generate_mac(KeyId=w.pipeline.resource("PseudonymKey"), **MAC),
    "disable its key": lambda w: w("kms").disable_key(KeyId=w.pipeline.resource("SealKey")),
    "delete its key": lambda w: w("kms").schedule_key_deletion(KeyId=w.pipeline.resource("SealKey")),
    "list accounts": lambda w: w("organizations").list_accounts(),
    "attach a policy": lambda w: w("organizations").attach_policy(
        PolicyId=w.at.policy_ids[0], TargetId=w.at.account_ids[0]
    ),
    "invoke a function": lambda w: w("lambda").invoke(FunctionName=w.pipeline.resource("Sweeper")),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_role_denies_the_call(pipeline: Pipeline, call: Callable[[Worker], object]) -> None:
    with pytest.raises(ClientError) as refused:
        call(Worker(pipeline, pipeline.resource(ROLE)))

    assert refused.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}


@pytest.mark.parametrize("role", ["AttachPoliciesRole", "SweepRole", "OperatorReads", "OperatorActs"])
def test_nobody_else_signs_even_with_the_permission_in_iam(pipeline: Pipeline, role: str) -> None:
    iam, name = pipeline.client("iam"), pipeline.resource(role)
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="everything", PolicyDocument=json.dumps(everything))
    try:
        with pytest.raises(ClientError, match="resource-based policy"):
            Worker(pipeline, name)("kms").sign(
                KeyId=pipeline.resource("SealKey"),
                Message=b"forged",
                MessageType="RAW",
                SigningAlgorithm="ED25519_SHA_512",
            )
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="everything")


def test_the_schedules_role_invokes_the_sealer_and_nothing_else(pipeline: Pipeline) -> None:
    schedules = Worker(pipeline, pipeline.resource("SealScheduleRole"))

    with pytest.raises(ClientError, match="AccessDenied"):
        schedules("lambda").invoke(FunctionName=pipeline.resource("Sweeper"), InvocationType="DryRun")
    schedules("lambda").invoke(FunctionName=pipeline.resource("Sealer"), InvocationType="DryRun")
