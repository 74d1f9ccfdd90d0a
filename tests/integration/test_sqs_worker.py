"""The worker's queues: a dead letter keeps its message unchanged and carries the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.aws.sqs_worker import SqsDeadLetters, SqsEvaluations, SqsInbox, SqsRemovals
from handlers.core.errors import RetryableError, fault
from handlers.core.joins.ports import Message
from handlers.core.joins.requests import evaluation_request, removal_request
from schemas.events import Change, Join
from schemas.intake import read_event
from tests.fakes import ACCOUNT, NOON, ORGANIZATION, FakePseudonyms, Steps
from tests.integration.conftest import FAILURES, SECRETS, Hook, client, intercepted

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
#: The text that SQS accepts (`SendMessage`, https://www.w3.org/TR/REC-xml/#charsets). moto accepts every text.
ACCEPTED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


@pytest.fixture
def queue(aws: None) -> str:  # noqa: ARG001 - used for its effect
    return str(client("sqs").create_queue(QueueName="dead", Attributes={"VisibilityTimeout": "0"})["QueueUrl"])


def message(body: str = "{}", **attributes: str) -> Message:
    typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    return Message(body, "message-1", "receipt-1", 3, NOON, typed)


def sent(queue: str, dead_letter: Message) -> tuple[str, dict[str, Any]]:
    """Send a dead letter; return the body and the attributes that the queue then holds."""
    sqs = client("sqs")
    SqsDeadLetters(sqs, queue).send(dead_letter, WHY)
    [found] = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    values = found["MessageAttributes"].items()
    return found["Body"], {name: value.get("StringValue", value.get("BinaryValue")) for name, value in values}


def request_for(dead_letter: Message, **why: str) -> dict[str, Any]:
    """Return the request that sends a dead letter."""
    sqs, requests = client("sqs"), []
    sqs.meta.events.register("before-parameter-build.sqs", lambda params, **_: requests.append(params))
    with Stubber(sqs) as stub:
        stub.add_response("send_message", {"MessageId": "1"})
        SqsDeadLetters(sqs, "https://queue").send(dead_letter, fault(**why) if why else WHY)
    [request] = requests
    return dict(request)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_dead_letter_keeps_its_body_and_carries_the_reason(queue: str, body: str) -> None:
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


def test_counters_have_the_type_number_so_that_tools_can_compare_them() -> None:
    attributes = request_for(message())["MessageAttributes"]

    assert [attributes[name]["DataType"] for name in OURS] == ["String", "String", "String", "Number", "Number"]


def test_a_redriven_message_keeps_its_first_time_and_its_counters(queue: str) -> None:
    before = (NOON - timedelta(days=2)).isoformat()

    _, attributes = sent(queue, message(FIRST_SEEN=before, ATTEMPTS="5", REDRIVES="2", ERROR_CODE="Other"))

    assert attributes["FIRST_SEEN"] == "2026-11-22T12:00:00Z"
    assert (attributes["ATTEMPTS"], attributes["REDRIVES"], attributes["ERROR_CODE"]) == (
        "8",
        "2",
        "PolicyNotFoundException",
    )


def test_attributes_over_the_limit_of_sqs_are_carried_in_one(queue: str) -> None:
    nine = {f"other-{number}": str(number) for number in range(9)}

    _, attributes = sent(queue, message(**nine, REDRIVES="1"))

    assert set(attributes) == {*OURS, "CARRIED"}
    carried = {name: each["StringValue"] for name, each in json.loads(attributes["CARRIED"]).items()}
    assert carried == nine | {"REDRIVES": "1"}, "a counter of the type String is not ours"
    assert attributes["REDRIVES"] == "1"


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.mark.parametrize("header", [TRACE, None])
def test_a_dead_letter_keeps_its_trace_header(queue: str, header: str | None) -> None:
    sqs = client("sqs")

    SqsDeadLetters(sqs, queue).send(replace(message(), trace_header=header), WHY)

    [found] = sqs.receive_message(QueueUrl=queue, MessageSystemAttributeNames=["All"])["Messages"]
    assert found["Attributes"].get("AWSTraceHeader") == header


def test_foreign_attributes_keep_their_type(queue: str) -> None:
    others: dict[str, dict[str, Any]] = {
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        "price": {"DataType": "Number.float", "StringValue": "1.50"},
    }
    dead_letter = replace(message(), attributes=others)

    assert sent(queue, dead_letter)[1]["raw"] == b"\x00\x01"
    attributes = request_for(dead_letter)["MessageAttributes"]
    assert {name: attributes[name] for name in others} == others


@pytest.mark.parametrize(
    ("malformed", "expected"),
    [
        ({"FIRST_SEEN": "yesterday"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"FIRST_SEEN": "2026-11-20T12:00:00"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"FIRST_SEEN": "9999-12-31T23:59:59-12:00"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"ATTEMPTS": "many", "REDRIVES": "2"}, ("2026-11-24T12:00:00Z", "3", "2")),
        ({"ATTEMPTS": "5", "REDRIVES": "-1"}, ("2026-11-24T12:00:00Z", "8", "0")),
        ({"ATTEMPTS": "1.5", "REDRIVES": "٣"}, ("2026-11-24T12:00:00Z", "3", "0")),
        ({"ATTEMPTS": "9" * 5000}, ("2026-11-24T12:00:00Z", "3", "0")),
    ],
    ids=[
        "not a date",
        "no time zone",
        "out of range in UTC",
        "not a number",
        "negative",
        "a fraction, and digits other than ASCII",
        "5,000 digits",
    ],
)
def test_malformed_attributes_do_not_lose_the_message(
    queue: str, malformed: dict[str, str], expected: tuple[str, ...]
) -> None:
    body, attributes = sent(queue, message("the body", **malformed))

    assert body == "the body"
    assert (attributes["FIRST_SEEN"], attributes["ATTEMPTS"], attributes["REDRIVES"]) == expected
    assert attributes["ERROR_CODE"] == "PolicyNotFoundException"


def test_our_attributes_in_binary_form_do_not_lose_the_message(queue: str) -> None:
    binary = {name: {"DataType": "Binary", "BinaryValue": b"\x00"} for name in OURS}

    body, attributes = sent(queue, replace(message("the body"), attributes=binary))

    assert (body, attributes["FIRST_SEEN"], attributes["ATTEMPTS"]) == ("the body", "2026-11-24T12:00:00Z", "3")


ANY_TEXT = st.text(st.characters(categories=None) | st.sampled_from("0123456789-:T+Z@"), min_size=1, max_size=40)


@settings(max_examples=60)
@example("\ufffe", "\x00\ud800\uffff" + "m" * 5000, "x", "x")
@example("C" * 5000, "", "0001-01-01T00:00:00+00:00", "999999999")
@given(code=ANY_TEXT, why=st.text(st.characters(categories=None)), seen=ANY_TEXT, count=ANY_TEXT)
def test_sqs_accepts_a_dead_letter_with_any_reason_and_any_attributes(
    code: str, why: str, seen: str, count: str
) -> None:
    dead_letter = message("the body", FIRST_SEEN=seen, ATTEMPTS=count, REDRIVES=count, ERROR_MESSAGE=seen)

    request = request_for(dead_letter, code=code, message=why)

    assert request["MessageBody"] == "the body"
    texts = [request["MessageAttributes"][name]["StringValue"] for name in OURS]
    assert all(ACCEPTED.fullmatch(text) and len(text) <= 1024 for text in texts)
    assert all(text.isascii() and text.isdecimal() for text in texts[3:])


@pytest.mark.parametrize("seconds", [30, 217, 900])
def test_a_postponed_message_is_hidden_for_the_given_time(queue: str, seconds: int) -> None:
    sqs, requests = client("sqs"), []
    sqs.meta.events.register(
        "before-parameter-build.sqs.ChangeMessageVisibility", lambda params, **_: requests.append(params)
    )
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [found] = sqs.receive_message(QueueUrl=queue)["Messages"]

    SqsInbox(sqs, queue).postpone(replace(message(), receipt_handle=found["ReceiptHandle"]), seconds)

    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    assert requests == [{"QueueUrl": queue, "ReceiptHandle": found["ReceiptHandle"], "VisibilityTimeout": seconds}]


def test_a_message_postponed_by_0_seconds_is_visible_at_once(queue: str) -> None:
    sqs = client("sqs")
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    [found] = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600)["Messages"]

    SqsInbox(sqs, queue).postpone(replace(message(), receipt_handle=found["ReceiptHandle"]), 0)

    assert [again["Body"] for again in sqs.receive_message(QueueUrl=queue)["Messages"]] == ["x"]


def test_a_missing_queue_is_transient(queue: str) -> None:
    sqs = client("sqs")

    with pytest.raises(RetryableError, match=r"^SQS\."):
        SqsDeadLetters(sqs, queue + "-gone").send(message(), WHY)
    with pytest.raises(RetryableError, match=r"^SQS\."):
        SqsInbox(sqs, queue + "-gone").postpone(message(), 30)


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_every_failure_of_sqs_is_transient(hook: Hook) -> None:
    sqs, calls = intercepted("sqs", hook)

    with pytest.raises(RetryableError, match=r"^SQS\.") as sending:
        SqsDeadLetters(sqs, "https://queue").send(message(), WHY)
    with pytest.raises(RetryableError, match=r"^SQS\.") as postponing:
        SqsInbox(sqs, "https://queue").postpone(message(), 30)

    assert calls == ["SendMessage", "ChangeMessageVisibility"]
    assert not any(secret in f"{sending.value} {postponing.value}" for secret in SECRETS)


JOIN = Join(
    event_id="event-1", event_name="AcceptHandshake", event_time=NOON, source="aws.organizations", account_id=ACCOUNT
)
CHANGE = Change(parent_id="ou-root-aaaaaaaa", tags={"set": "x", "removed": None})
PSEUDONYMS = FakePseudonyms(Steps())
CHANGED = JOIN.model_copy(update={"change": CHANGE})
REMOVAL = removal_request(CHANGED, ["p-aaaaaaaa"], ORGANIZATION, NOON, PSEUDONYMS)
EVALUATION = evaluation_request(JOIN, 1, ORGANIZATION, NOON, PSEUDONYMS)


def received(queue: str) -> dict[str, Any]:
    [found] = client("sqs").receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
    return dict(found)


def test_a_request_to_remove_policies_is_read_as_one(queue: str) -> None:
    SqsRemovals(client("sqs"), queue).request(REMOVAL)

    event = read_event(received(queue)["Body"], sent_at=NOON)
    assert isinstance(event, Join)
    assert (event.cause, event.account_id, event.event_id) == ("removal", ACCOUNT, REMOVAL.event_id)
    assert event.change == CHANGE, "the other worker knows what must be readable"


def test_a_redriven_request_goes_on_with_its_attributes(queue: str) -> None:
    redriven = message(REMOVAL.model_dump_json(), REDRIVES="1")
    SqsRemovals(client("sqs"), queue).pass_on(redriven)

    found = received(queue)
    assert found["Body"] == redriven.body
    assert found["MessageAttributes"]["REDRIVES"]["StringValue"] == "1"


def test_an_evaluation_comes_five_minutes_later() -> None:
    sqs = client("sqs")
    requests: list[dict[str, Any]] = []
    sqs.meta.events.register("before-parameter-build.sqs", lambda params, **_: requests.append(params))
    with Stubber(sqs) as stub:
        stub.add_response("send_message", {"MessageId": "1"})
        SqsEvaluations(sqs, "https://queue").request(EVALUATION)

    [sent_] = requests
    assert sent_["DelaySeconds"] == 300
    event = read_event(sent_["MessageBody"], sent_at=NOON)
    assert isinstance(event, Join)
    assert (event.cause, event.source) == ("requested", "joinguard.worker")


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_a_request_that_is_not_sent_is_tried_again(hook: Hook) -> None:
    sqs, _ = intercepted("sqs", hook)
    removals, evaluations = SqsRemovals(sqs, "https://queue"), SqsEvaluations(sqs, "https://queue")
    calls: list[Callable[[], None]] = [
        lambda: removals.request(REMOVAL),
        lambda: removals.pass_on(message()),
        lambda: evaluations.request(EVALUATION),
    ]
    for call in calls:
        with pytest.raises(RetryableError) as raised:
            call()
        assert not [each for each in SECRETS if each in str(raised.value)]
