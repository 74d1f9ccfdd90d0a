"""The resource policies of the queues and the evidence, enforced: full access in IAM is not enough to send or write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from infra.deploy.build import ROOT
from infra.local.complete import IncompleteError, complete
from infra.local.installation import STACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Pipeline

COMMAND: Final = (sys.executable, "-m", "handlers.operate", "--stack", STACK, "--poll", "0")
QUEUES: Final = ("Joins", "Repairs", "Undelivered", "DeadLetters")
SENDS: Final[dict[str, Callable[[Any, str], object]]] = {
    "one message": lambda sqs, url: sqs.send_message(QueueUrl=url, MessageBody="x"),
    "a batch": lambda sqs, url: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "x"}]),
}


@pytest.fixture
def administrator(pipeline: Pipeline) -> Iterator[dict[str, str]]:
    """Yield the keys of a user with full access in IAM."""
    iam, name = pipeline.aws.client("iam"), f"administrator-{os.urandom(4).hex()}"
    full_access = {"Effect": "Allow", "Action": ["sqs:*", "*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [full_access]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="full-access", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName=name, PolicyName="full-access")
    iam.delete_user(UserName=name)


@pytest.fixture
def no_worker(pipeline: Pipeline) -> Iterator[None]:
    """Disable the worker during the test, and empty the queues after it."""
    functions = pipeline.aws.client("lambda")
    mappings = [pipeline.resource(each) for each in ("AttachPoliciesMapping", "RepairsMapping")]
    for each in mappings:
        functions.update_event_source_mapping(UUID=each, Enabled=False)
    yield
    for queue in QUEUES:
        pipeline.aws.client("sqs").purge_queue(QueueUrl=pipeline.resource(queue))
    for each in mappings:
        functions.update_event_source_mapping(UUID=each, Enabled=True)


def session_of(pipeline: Pipeline, role: str) -> dict[str, str]:
    """Return the credentials of a session of one of the template's operator roles."""
    arn = pipeline.aws.client("iam").get_role(RoleName=pipeline.resource(role))["Role"]["Arn"]
    found = pipeline.aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="night-shift")["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("queue", QUEUES)
def test_an_administrator_can_send_to_no_queue(
    pipeline: Pipeline, administrator: dict[str, str], queue: str, send: Callable[[Any, str], object]
) -> None:
    sqs = pipeline.aws.client("sqs", **administrator)

    with pytest.raises(ClientError) as refused:
        send(sqs, pipeline.resource(queue))

    assert "AccessDenied" in refused.value.response["Error"]["Code"]
    assert sqs.get_queue_attributes(QueueUrl=pipeline.resource(queue))["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("queue", QUEUES)
def test_operator_acts_can_send_to_every_queue(
    pipeline: Pipeline, queue: str, send: Callable[[Any, str], object]
) -> None:
    send(pipeline.aws.client("sqs", **session_of(pipeline, "OperatorActs")), pipeline.resource(queue))

    sqs = pipeline.aws.client("sqs")
    assert len(sqs.receive_message(QueueUrl=pipeline.resource(queue))["Messages"]) == 1


@pytest.mark.parametrize("queue", QUEUES)
def test_operator_reads_can_send_to_no_queue(pipeline: Pipeline, queue: str) -> None:
    with pytest.raises(ClientError) as refused:
        SENDS["one message"](
            pipeline.aws.client("sqs", **session_of(pipeline, "OperatorReads")), pipeline.resource(queue)
        )

    assert "AccessDenied" in refused.value.response["Error"]["Code"]


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize("queue", QUEUES)
def test_the_keys_that_make_local_prints_can_send_to_every_queue(pipeline: Pipeline, queue: str) -> None:
    SENDS["one message"](pipeline.aws.client("sqs"), pipeline.resource(queue))


@pytest.mark.parametrize("folder", ["evidence", "acts", "backups"])
def test_an_administrator_can_write_no_record(pipeline: Pipeline, administrator: dict[str, str], folder: str) -> None:
    """Otherwise an administrator could write evidence before the worker does, because its keys are predictable."""
    s3 = pipeline.aws.client("s3", **administrator)

    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=pipeline.at.evidence_bucket, Key=f"{folder}/x", Body=b"x", IfNoneMatch="*")

    assert refused.value.response["Error"]["Code"] == "AccessDenied"


#: How somebody ends a key.
ENDS: Final[dict[str, Callable[[Any, str], object]]] = {
    "disable": lambda kms, key: kms.disable_key(KeyId=key),
    "delete": lambda kms, key: kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=30),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("name", ["DataKey", "PseudonymKey"])
def test_an_administrator_can_end_no_key_and_must_change_its_policy_first(
    pipeline: Pipeline, administrator: dict[str, str], name: str, end: Callable[[Any, str], object]
) -> None:
    """The stand-in excepts the root user, whom AWS denies it too, and compares roles by the ARNs of their sessions."""
    kms, key = pipeline.aws.client("kms", **administrator), pipeline.resource(name)

    with pytest.raises(ClientError) as refused:
        end(kms, key)

    assert "AccessDenied" in refused.value.response["Error"]["Code"]
    policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    document = json.loads(policy)
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != "NobodyEndsTheKey"]
    kms.put_key_policy(KeyId=key, Policy=json.dumps(document))
    try:
        end(kms, key)
    finally:
        kms.put_key_policy(KeyId=key, Policy=policy)
        if kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion":
            kms.cancel_key_deletion(KeyId=key)
        kms.enable_key(KeyId=key)


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize("command", [["redrive", "--all"], ["enforce", "ACCOUNT"]], ids=["redrive", "enforce"])
def test_the_tool_names_the_role_that_an_administrator_must_assume(
    pipeline: Pipeline, administrator: dict[str, str], command: list[str]
) -> None:
    account_id = pipeline.account()
    dead_letter = json.dumps(pipeline.invited(account_id))
    pipeline.aws.client("sqs").send_message(QueueUrl=pipeline.at.dead_letter_queue_url, MessageBody=dead_letter)
    arguments = [account_id if word == "ACCOUNT" else word for word in command]

    refused = subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, *arguments, "--confirm", "--reason", "x"],
        cwd=ROOT,
        env=os.environ
        | {name.upper(): value for name, value in administrator.items()}
        | {
            "AWS_ENDPOINT_URL": pipeline.aws.endpoint,
            "AWS_DEFAULT_REGION": pipeline.aws.region,
            "AWS_CONFIG_FILE": "/dev/null",
            "XDG_CONFIG_HOME": str(pipeline.aws.log.parent),
            "XDG_CACHE_HOME": str(pipeline.aws.log.parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 1, refused.stdout
    assert "AccessDenied" in refused.stderr
    assert "Use the stack's role OperatorReads to read and OperatorActs to act" in refused.stderr
    assert pipeline.watch.dead_letter_count() == 1


@pytest.mark.parametrize("queue", QUEUES)
def test_completing_the_installation_fails_if_a_queues_policy_is_incomplete(pipeline: Pipeline, queue: str) -> None:
    """The stand-in can drop a part of the template."""
    sqs, url = pipeline.aws.client("sqs"), pipeline.resource(queue)
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    without_denials = json.loads(before)
    without_denials["Statement"] = [each for each in without_denials["Statement"] if each["Effect"] == "Allow"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(without_denials)})
    try:
        with pytest.raises(IncompleteError, match=f"{queue}'s policy"):
            complete(pipeline.aws, STACK)
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": before})
