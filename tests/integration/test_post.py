"""Both queues in an operator's hands: in batches of ten, byte for byte."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.post import SqsPost
from handlers.core.errors import RetryableError
from handlers.core.redrive import Redrive
from tests.integration.conftest import client

ATTRIBUTES: dict[str, Any] = {
    "ERROR_CODE": {"DataType": "String", "StringValue": "AccessDeniedException"},
    "REDRIVES": {"DataType": "Number", "StringValue": "1"},
    "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
}


@pytest.fixture
def queues(aws: None) -> dict[str, str]:  # noqa: ARG001 - a fixture that is needed for its effect
    sqs = client("sqs")
    return {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("joins", "dead", "undelivered")}


@pytest.fixture
def post(queues: dict[str, str]) -> SqsPost:
    urls: Any = {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}
    return SqsPost(client("sqs"), urls, queues["joins"])


def fill(queues: dict[str, str], count: int, name: str = "dead") -> None:
    sqs = client("sqs")
    for number in range(count):
        body = f'{{"n": {number}, "odd": "\u2603 \\u2603"}}\t'
        sqs.send_message(QueueUrl=queues[name], MessageBody=body, MessageAttributes=ATTRIBUTES)


def all_of(url: str) -> list[dict[str, Any]]:
    sqs, found = client("sqs"), []
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
    ).get("Messages"):
        found += messages
    return found


def test_both_queues_are_one_list_and_what_is_released_is_there_again(post: SqsPost, queues: dict[str, str]) -> None:
    fill(queues, 23)
    fill(queues, 4, "undelivered")

    letters = list(post.browse())

    assert [each.queue for each in letters].count("undelivered") == 4
    assert len({each.message_id for each in letters}) == 27
    assert list(post.browse()) == []
    post.release(letters)
    again = list(post.browse())
    assert {each.body for each in again} == {each.body for each in letters}
    assert {each.receives for each in again} == {2}, "a look counts as a receive, and no more than one"


def test_what_goes_back_is_the_same_but_for_the_count(post: SqsPost, queues: dict[str, str]) -> None:
    fill(queues, 12)
    letters = list(post.browse())

    engine = Redrive(post, lambda _: None, lambda: 0.0)
    engine.run(letters, lambda _: None)

    back = all_of(queues["joins"])
    assert sorted(each["Body"] for each in back) == sorted(each.body for each in letters)
    for each in back:
        values = {
            name: value.get("StringValue", value.get("BinaryValue"))
            for name, value in each["MessageAttributes"].items()
        }
        assert values == {"ERROR_CODE": "AccessDeniedException", "REDRIVES": "2", "raw": b"\x00\xff"}
    assert all_of(queues["dead"]) == []
    assert (engine.sent, engine.deleted) == (12, 12)


def test_what_sqs_does_not_take_stays_where_it_is(post: SqsPost, queues: dict[str, str]) -> None:
    """Stubber: moto takes everything."""
    fill(queues, 3)
    letters = list(post.browse())
    sqs = client("sqs")
    failed = {"Id": "1", "SenderFault": False, "Code": "InternalError"}
    sent = [{"Id": each, "MessageId": "x", "MD5OfMessageBody": "x"} for each in ("0", "2")]
    half = SqsPost(sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"])
    with Stubber(sqs) as stub:
        # The answer's digests are not those of the bodies; that is not what is looked at here.
        sqs.meta.events.unregister("after-call.sqs.SendMessageBatch")
        stub.add_response("send_message_batch", {"Successful": sent, "Failed": [failed]})
        taken = half.resend(letters)

    assert taken == [letters[0], letters[2]]


@pytest.mark.parametrize("operation", ["send_message_batch", "delete_message_batch", "change_message_visibility_batch"])
def test_a_lost_connection_is_passing(post: SqsPost, queues: dict[str, str], operation: str) -> None:
    fill(queues, 1)
    letters = list(post.browse())
    sqs = client("sqs")
    broken = SqsPost(sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"])
    calls: dict[str, Any] = {
        "send_message_batch": broken.resend,
        "delete_message_batch": broken.delete,
        "change_message_visibility_batch": broken.release,
    }
    with Stubber(sqs) as stub:
        stub.add_client_error(operation, "ServiceUnavailable", http_status_code=503)
        with pytest.raises(RetryableError, match=r"SQS\."):
            calls[operation](letters)


class Killed(BaseException):
    """As little to be caught as a SIGKILL, but for what `finally` does."""


@pytest.mark.parametrize("dies_at", range(1, 16))
def test_an_interrupt_at_any_call_loses_nothing(queues: dict[str, str], dies_at: int) -> None:
    """Each call to SQS in turn: browsing, sending, deleting, releasing."""
    fill(queues, 23)
    sqs, calls = client("sqs"), 0

    def die(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == dies_at:
            raise Killed

    sqs.meta.events.register("before-call.sqs", die)
    dying = SqsPost(sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"])
    with suppress(Killed):
        Redrive(dying, lambda _: None, lambda: 0.0).run(list(dying.browse()), lambda _: None)

    back = [each["Body"] for each in all_of(queues["joins"])]
    # What died in hand is there again when its time in hand is over.
    waiting = client("sqs").get_queue_attributes(QueueUrl=queues["dead"], AttributeNames=["All"])["Attributes"]
    left = int(waiting["ApproximateNumberOfMessages"]) + int(waiting["ApproximateNumberOfMessagesNotVisible"])
    assert len(back) == len(set(back)), "sent twice"
    assert len(back) + left >= 23
    assert len(back) + left <= 23 + 10, "no more than one batch is in both queues"
