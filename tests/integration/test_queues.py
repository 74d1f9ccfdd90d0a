"""The queues: a dead letter keeps everything and says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from handlers.aws.queues import SqsDeadLetters, SqsInbox
from handlers.core.errors import RetryableError, fault
from handlers.core.ports import Message
from tests.fakes import NOON
from tests.integration.conftest import client

WHY = fault("PolicyNotFoundException", "p-aaaaaaaa: there is no such policy")
BODIES = ['{"a": 1}', " \t\r\n", "\u2603 \U0001f600 détail", "x" * 200_000, '{"a": "\\u0000"}']


@pytest.fixture
def queue(aws: None) -> str:  # noqa: ARG001 - a fixture that is needed for its effect
    return str(client("sqs").create_queue(QueueName="dead", Attributes={"VisibilityTimeout": "0"})["QueueUrl"])


def message(body: str = "{}", **attributes: str) -> Message:
    typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    return Message(body, "message-1", "receipt-1", 3, NOON, typed)


def sent(queue: str, letter: Message) -> tuple[str, dict[str, Any]]:
    """Send a letter and return what lies in the queue: body and attributes."""
    sqs = client("sqs")
    SqsDeadLetters(sqs, queue).send(letter, WHY)
    [found] = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    values = found["MessageAttributes"].items()
    return found["Body"], {name: value.get("StringValue", value.get("BinaryValue")) for name, value in values}


@pytest.mark.parametrize("body", BODIES, ids=["json", "blanks", "unicode", "long", "escaped"])
def test_a_letter_keeps_its_body_and_says_why(queue: str, body: str) -> None:
    assert sent(queue, message(body)) == (
        body,
        {
            "ERROR_CODE": "PolicyNotFoundException",
            "ERROR_MESSAGE": "p-aaaaaaaa: there is no such policy",
            "FIRST_SEEN": "2026-11-24T12:00:00Z",
            "ATTEMPTS": "3",
            "REDRIVES": "0",
        },
    )


def test_a_redriven_letter_remembers_its_life(queue: str) -> None:
    before = (NOON - timedelta(days=2)).isoformat()

    _, says = sent(queue, message(FIRST_SEEN=before, ATTEMPTS="5", REDRIVES="2", ERROR_CODE="Other"))

    assert says["FIRST_SEEN"] == "2026-11-22T12:00:00Z"
    assert (says["ATTEMPTS"], says["REDRIVES"], says["ERROR_CODE"]) == ("8", "2", "PolicyNotFoundException")


def test_attributes_of_others_are_kept_as_far_as_there_is_room(queue: str) -> None:
    _, says = sent(queue, message(**{f"other-{number}": str(number) for number in range(9)}))

    assert len(says) == 10
    assert [says[f"other-{number}"] for number in range(5)] == ["0", "1", "2", "3", "4"]


def test_binary_attributes_are_kept(queue: str) -> None:
    letter = replace(message(), attributes={"raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"}})

    assert sent(queue, letter)[1]["raw"] == b"\x00\x01"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"FIRST_SEEN": "yesterday"},
        {"FIRST_SEEN": "2026-11-24T12:00:00"},
        {"ATTEMPTS": "many"},
        {"REDRIVES": "-1"},
        {"REDRIVES": "٣"},
        {"ATTEMPTS": "9" * 500},
    ],
    ids=str,
)
def test_attributes_that_somebody_spoilt_cost_no_letter(queue: str, spoilt: dict[str, str]) -> None:
    body, says = sent(queue, message("the body", **spoilt))

    assert body == "the body"
    assert says["ERROR_CODE"] == "PolicyNotFoundException"
    assert says["FIRST_SEEN"] == "2026-11-24T12:00:00Z"
    assert int(says["ATTEMPTS"]) >= 3


def test_the_longest_reason_fits(queue: str) -> None:
    sqs = client("sqs")
    odd = fault("C" * 5000, "\x00\ufffe\U0001f600" + "m" * 5000)

    SqsDeadLetters(sqs, queue).send(message(), odd)

    assert len(sqs.receive_message(QueueUrl=queue)["Messages"]) == 1


def test_postponing_hides_a_message(queue: str) -> None:
    sqs = client("sqs")
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [found] = sqs.receive_message(QueueUrl=queue)["Messages"]

    SqsInbox(sqs, queue).postpone(replace(message(), receipt_handle=found["ReceiptHandle"]), 900)

    assert "Messages" not in sqs.receive_message(QueueUrl=queue)


def test_a_queue_that_is_gone_is_passing(queue: str) -> None:
    sqs = client("sqs")

    with pytest.raises(RetryableError):
        SqsDeadLetters(sqs, queue + "-gone").send(message(), WHY)
    with pytest.raises(RetryableError):
        SqsInbox(sqs, queue + "-gone").postpone(message(), 30)
