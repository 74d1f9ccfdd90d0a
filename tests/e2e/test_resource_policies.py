"""The real policies of queues and evidence, enforced: IAM alone lets nobody send a message or write a record."""

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
QUEUES: Final = ("Joins", "Undelivered", "DeadLetters")
SENDS: Final[dict[str, Callable[[Any, str], object]]] = {
    "one": lambda sqs, url: sqs.send_message(QueueUrl=url, MessageBody="x"),
    "a batch": lambda sqs, url: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "x"}]),
}


@pytest.fixture
def administrator(pipeline: Pipeline) -> Iterator[dict[str, str]]:
    """Yield the keys of a user whom IAM allows everything."""
    iam, name = pipeline.aws.client("iam"), f"administrator-{os.urandom(4).hex()}"
    everything = {"Effect": "Allow", "Action": ["sqs:*", "*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="everything", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName=name, PolicyName="everything")
    iam.delete_user(UserName=name)


@pytest.fixture
def quiet(pipeline: Pipeline) -> Iterator[None]:
    """Keep the worker away from the queues, and leave them empty."""
    mapping = {"UUID": pipeline.resource("AttachPoliciesMapping")}
    pipeline.aws.client("lambda").update_event_source_mapping(**mapping, Enabled=False)
    yield
    for queue in QUEUES:
        pipeline.aws.client("sqs").purge_queue(QueueUrl=pipeline.resource(queue))
    pipeline.aws.client("lambda").update_event_source_mapping(**mapping, Enabled=True)


def taking(pipeline: Pipeline, role: str) -> dict[str, str]:
    """Return a session of one of the template's operator roles."""
    arn = pipeline.aws.client("iam").get_role(RoleName=pipeline.resource(role))["Role"]["Arn"]
    taken = pipeline.aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="night-shift")["Credentials"]
    return {
        "aws_access_key_id": taken["AccessKeyId"],
        "aws_secret_access_key": taken["SecretAccessKey"],
        "aws_session_token": taken["SessionToken"],
    }


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("queue", QUEUES)
def test_who_may_do_everything_by_iam_sends_to_no_queue(
    pipeline: Pipeline, administrator: dict[str, str], queue: str, send: Callable[[Any, str], object]
) -> None:
    sqs = pipeline.aws.client("sqs", **administrator)

    with pytest.raises(ClientError) as refused:
        send(sqs, pipeline.resource(queue))

    assert "AccessDenied" in refused.value.response["Error"]["Code"]
    assert sqs.get_queue_attributes(QueueUrl=pipeline.resource(queue))["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("queue", QUEUES)
def test_an_operator_who_acts_sends_to_every_queue(
    pipeline: Pipeline, queue: str, send: Callable[[Any, str], object]
) -> None:
    send(pipeline.aws.client("sqs", **taking(pipeline, "OperatorActs")), pipeline.resource(queue))

    sqs = pipeline.aws.client("sqs")
    assert len(sqs.receive_message(QueueUrl=pipeline.resource(queue))["Messages"]) == 1


@pytest.mark.parametrize("queue", QUEUES)
def test_an_operator_who_looks_sends_to_no_queue(pipeline: Pipeline, queue: str) -> None:
    with pytest.raises(ClientError) as refused:
        SENDS["one"](pipeline.aws.client("sqs", **taking(pipeline, "OperatorReads")), pipeline.resource(queue))

    assert "AccessDenied" in refused.value.response["Error"]["Code"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("queue", QUEUES)
def test_with_the_keys_that_make_local_prints_messages_are_sent_by_hand(pipeline: Pipeline, queue: str) -> None:
    SENDS["one"](pipeline.aws.client("sqs"), pipeline.resource(queue))


@pytest.mark.parametrize("folder", ["evidence", "acts", "backups"])
def test_who_may_do_everything_by_iam_writes_no_record(
    pipeline: Pipeline, administrator: dict[str, str], folder: str
) -> None:
    """Least of all before the worker does, under a key that can be foretold."""
    s3 = pipeline.aws.client("s3", **administrator)

    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=pipeline.at.evidence_bucket, Key=f"{folder}/x", Body=b"x", IfNoneMatch="*")

    assert refused.value.response["Error"]["Code"] == "AccessDenied"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("act", [["redrive", "--all"], ["enforce", "ACCOUNT"]], ids=["redrive", "enforce"])
def test_an_administrator_is_told_to_take_the_role(
    pipeline: Pipeline, administrator: dict[str, str], act: list[str]
) -> None:
    account_id = pipeline.account()
    dead_letter = json.dumps(pipeline.invited(account_id))
    pipeline.aws.client("sqs").send_message(QueueUrl=pipeline.at.dead_letter_queue_url, MessageBody=dead_letter)
    arguments = [account_id if word == "ACCOUNT" else word for word in act]

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
def test_a_queue_that_refuses_nobody_is_not_taken_for_the_templates(pipeline: Pipeline, queue: str) -> None:
    """As where the stand-in drops a part of the template."""
    sqs, url = pipeline.aws.client("sqs"), pipeline.resource(queue)
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    open_to_all = json.loads(before)
    open_to_all["Statement"] = [each for each in open_to_all["Statement"] if each["Effect"] == "Allow"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(open_to_all)})
    try:
        with pytest.raises(IncompleteError, match=f"{queue}'s policy"):
            complete(pipeline.aws, STACK)
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": before})
