"""The queues: a dead letter keeps everything and says why."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.aws.sqs_worker import SqsDeadLetters, SqsInbox
from handlers.core.errors import RetryableError, fault
from handlers.core.joins.ports import Message
from tests.fakes import NOON
from tests.integration.conftest import SECRETS, TROUBLE, Hook, client, intercepted

WHY = fault("PolicyNotFoundException", "p-aaaaaaaa: there is no such policy")
BODIES = {
    "json": '{"a": 1}',
    "blanks": " \t\r\n",
    "unicode": "\u2603 \U0001f600 détail e\u0301",
    "long": "x" * 200_000,
    "escaped": '{"a": "\\u0000"}',
    "markup": "<a>&amp;]]></a>%00+",
}
OURS = ("ERROR_CODE", "ERROR_MESSAGE", "FIRST_SEEN", "ATTEMPTS", "REDRIVES")
#: What SQS takes as text (`SendMessage`, https://www.w3.org/TR/REC-xml/#charsets). moto takes everything.
TAKEN = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


@pytest.fixture
def queue(aws: None) -> str:  # noqa: ARG001 - a fixture that is needed for its effect
    return str(client("sqs").create_queue(QueueName="dead", Attributes={"VisibilityTimeout": "0"})["QueueUrl"])


def message(body: str = "{}", **attributes: str) -> Message:
    typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    return Message(body, "message-1", "receipt-1", 3, NOON, typed)


def sent(queue: str, dead_letter: Message) -> tuple[str, dict[str, Any]]:
    """Send a letter and return what lies in the queue: body and attributes."""
    sqs = client("sqs")
    SqsDeadLetters(sqs, queue).send(dead_letter, WHY)
    [found] = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    values = found["MessageAttributes"].items()
    return found["Body"], {name: value.get("StringValue", value.get("BinaryValue")) for name, value in values}


def asked(dead_letter: Message, **why: str) -> dict[str, Any]:
    """Return what SQS is asked to take."""
    sqs, requests = client("sqs"), []
    sqs.meta.events.register("before-parameter-build.sqs", lambda params, **_: requests.append(params))
    with Stubber(sqs) as stub:
        stub.add_response("send_message", {"MessageId": "1"})
        SqsDeadLetters(sqs, "https://queue").send(dead_letter, fault(**why) if why else WHY)
    [request] = requests
    return dict(request)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
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


def test_counters_are_numbers_so_that_tools_can_compare_them() -> None:
    attributes = asked(message())["MessageAttributes"]

    assert [attributes[name]["DataType"] for name in OURS] == ["String", "String", "String", "Number", "Number"]


def test_a_redriven_letter_remembers_its_life(queue: str) -> None:
    before = (NOON - timedelta(days=2)).isoformat()

    _, says = sent(queue, message(FIRST_SEEN=before, ATTEMPTS="5", REDRIVES="2", ERROR_CODE="Other"))

    assert says["FIRST_SEEN"] == "2026-11-22T12:00:00Z"
    assert (says["ATTEMPTS"], says["REDRIVES"], says["ERROR_CODE"]) == ("8", "2", "PolicyNotFoundException")


def test_more_attributes_than_sqs_takes_beside_ours_travel_as_one(queue: str) -> None:
    nine = {f"other-{number}": str(number) for number in range(9)}

    _, says = sent(queue, message(**nine, REDRIVES="1"))

    assert set(says) == {*OURS, "CARRIED"}
    carried = {name: each["StringValue"] for name, each in json.loads(says["CARRIED"]).items()}
    assert carried == nine | {"REDRIVES": "1"}, "a counter that is a text is not ours"
    assert says["REDRIVES"] == "1"


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.mark.parametrize("header", [TRACE, None])
def test_a_letter_keeps_its_trace_header(queue: str, header: str | None) -> None:
    sqs = client("sqs")

    SqsDeadLetters(sqs, queue).send(replace(message(), trace_header=header), WHY)

    [found] = sqs.receive_message(QueueUrl=queue, MessageSystemAttributeNames=["All"])["Messages"]
    assert found["Attributes"].get("AWSTraceHeader") == header


def test_attributes_of_others_keep_their_type(queue: str) -> None:
    others: dict[str, dict[str, Any]] = {
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        "price": {"DataType": "Number.float", "StringValue": "1.50"},
    }
    dead_letter = replace(message(), attributes=others)

    assert sent(queue, dead_letter)[1]["raw"] == b"\x00\x01"
    attributes = asked(dead_letter)["MessageAttributes"]
    assert {name: attributes[name] for name in others} == others


@pytest.mark.parametrize(
    ("spoilt", "becomes"),
    [
        ({"FIRST_SEEN": "yesterday"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"FIRST_SEEN": "2026-11-20T12:00:00"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"FIRST_SEEN": "9999-12-31T23:59:59-12:00"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"ATTEMPTS": "many", "REDRIVES": "2"}, ("2026-11-24T12:00:00Z", "3", "2")),
        ({"ATTEMPTS": "5", "REDRIVES": "-1"}, ("2026-11-24T12:00:00Z", "8", "0")),
        ({"ATTEMPTS": "1.5", "REDRIVES": "٣"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"ATTEMPTS": "9" * 5000}, ("2026-11-24T12:00:00Z", "3", "0")),
    ],
    ids=["no date", "no zone", "no UTC form", "no number", "negative", "fraction and other digits", "endless"],
)
def test_attributes_that_somebody_spoilt_cost_no_letter(
    queue: str, spoilt: dict[str, str], becomes: tuple[str, ...]
) -> None:
    body, says = sent(queue, message("the body", **spoilt))

    assert body == "the body"
    assert (says["FIRST_SEEN"], says["ATTEMPTS"], says["REDRIVES"]) == becomes
    assert says["ERROR_CODE"] == "PolicyNotFoundException"


def test_attributes_of_ours_that_somebody_made_binary_cost_no_letter(queue: str) -> None:
    binary = {name: {"DataType": "Binary", "BinaryValue": b"\x00"} for name in OURS}

    body, says = sent(queue, replace(message("the body"), attributes=binary))

    assert (body, says["FIRST_SEEN"], says["ATTEMPTS"]) == ("the body", "2026-11-24T12:00:00Z", "3")


ANY_TEXT = st.text(st.characters(categories=None) | st.sampled_from("0123456789-:T+Z@"), min_size=1, max_size=40)


@settings(max_examples=60)
@example("\ufffe", "\x00\ud800\uffff" + "m" * 5000, "x", "x")
@example("C" * 5000, "", "0001-01-01T00:00:00+00:00", "999999999")
@given(code=ANY_TEXT, why=st.text(st.characters(categories=None)), seen=ANY_TEXT, count=ANY_TEXT)
def test_no_reason_and_no_attribute_makes_a_letter_that_sqs_refuses(code: str, why: str, seen: str, count: str) -> None:
    dead_letter = message("the body", FIRST_SEEN=seen, ATTEMPTS=count, REDRIVES=count, ERROR_MESSAGE=seen)

    request = asked(dead_letter, code=code, message=why)

    assert request["MessageBody"] == "the body"
    texts = [request["MessageAttributes"][name]["StringValue"] for name in OURS]
    assert all(TAKEN.fullmatch(text) and len(text) <= 1024 for text in texts)
    assert all(text.isascii() and text.isdecimal() for text in texts[3:])


@pytest.mark.parametrize("seconds", [30, 217, 900])
def test_a_postponed_message_is_hidden_for_as_long_as_it_is_told(queue: str, seconds: int) -> None:
    sqs, told = client("sqs"), []
    sqs.meta.events.register(
        "before-parameter-build.sqs.ChangeMessageVisibility", lambda params, **_: told.append(params)
    )
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [found] = sqs.receive_message(QueueUrl=queue)["Messages"]

    SqsInbox(sqs, queue).postpone(replace(message(), receipt_handle=found["ReceiptHandle"]), seconds)

    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    assert told == [{"QueueUrl": queue, "ReceiptHandle": found["ReceiptHandle"], "VisibilityTimeout": seconds}]


def test_a_message_can_be_seen_again_at_once(queue: str) -> None:
    sqs = client("sqs")
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [found] = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600)["Messages"]

    SqsInbox(sqs, queue).postpone(replace(message(), receipt_handle=found["ReceiptHandle"]), 0)

    assert [again["Body"] for again in sqs.receive_message(QueueUrl=queue)["Messages"]] == ["x"]


def test_a_queue_that_is_gone_is_passing(queue: str) -> None:
    sqs = client("sqs")

    with pytest.raises(RetryableError, match=r"^SQS\."):
        SqsDeadLetters(sqs, queue + "-gone").send(message(), WHY)
    with pytest.raises(RetryableError, match=r"^SQS\."):
        SqsInbox(sqs, queue + "-gone").postpone(message(), 30)


@pytest.mark.parametrize("hook", TROUBLE.values(), ids=TROUBLE)
def test_a_queue_that_cannot_be_reached_is_passing(hook: Hook) -> None:
    sqs, called = intercepted("sqs", hook)

    with pytest.raises(RetryableError, match=r"^SQS\.") as one:
        SqsDeadLetters(sqs, "https://queue").send(message(), WHY)
    with pytest.raises(RetryableError, match=r"^SQS\.") as two:
        SqsInbox(sqs, "https://queue").postpone(message(), 30)

    assert called == ["SendMessage", "ChangeMessageVisibility"]
    assert not any(secret in f"{one.value} {two.value}" for secret in SECRETS)
