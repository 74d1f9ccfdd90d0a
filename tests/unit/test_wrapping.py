"""Wrapped events are read if the wrapping is certain; other bodies are rejected with a message that names them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import Join, NoJoin
from schemas.intake import InvalidEventError, read_event
from tests.messages import ACCOUNT, announced, changed, created, invited, requested, with_detail

EVENT = json.dumps(invited())
RECORD = invited()["detail"]


def notification(message: str) -> str:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html"""
    fields = {"Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:us-east-1:111111111111:joins"}
    return json.dumps(fields | {"Message": message, "Timestamp": "2026-11-24T12:00:00.000Z", "SignatureVersion": "1"})


def looked_up(record: dict[str, Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/cli/latest/reference/cloudtrail/lookup-events.html"""
    return {
        "EventId": record["eventID"],
        "EventName": record["eventName"],
        "EventSource": record["eventSource"],
        "EventTime": 1795608000.0,
        "Username": "root",
        "Resources": [],
        "CloudTrailEvent": json.dumps(record),
    }


WRAPPED = {
    "a byte order mark": f"\ufeff{EVENT}",
    "a byte order mark in bytes": b"\xef\xbb\xbf" + EVENT.encode(),
    "spaces and line ends": f"\r\n\t {EVENT}\n\n",
    "a string with JSON": json.dumps(EVENT),
    "a string with a string with JSON": json.dumps(json.dumps(EVENT)),
    "a notification": notification(EVENT),
    "a notification with a string": notification(json.dumps(EVENT)),
    "a notification with a bare record": notification(json.dumps(RECORD)),
    "a bare record": json.dumps(RECORD),
    "a bare record of a service event": json.dumps(created()["detail"]),
    "a bare record of an announcement": json.dumps(announced()["detail"]),
    "a log file with one record": json.dumps({"Records": [RECORD]}),
    "the output of lookup-events with one event": json.dumps({"Events": [looked_up(RECORD)], "NextToken": None}),
    "one event from the output of lookup-events": json.dumps(looked_up(RECORD)),
    "a detail that is a string": json.dumps(invited() | {"detail": json.dumps(RECORD)}),
    "a request in a notification": notification(json.dumps(requested())),
}


@pytest.mark.parametrize("body", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_event_is_read(body: str | bytes) -> None:
    found = read_event(body)

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
    assert found.source in {"aws.organizations", "joinguard.operator"}


def test_a_bare_record_that_is_not_a_join_is_recognized() -> None:
    found = read_event(json.dumps(RECORD | {"eventName": "CloseAccount"}))

    assert isinstance(found, NoJoin)


SNS = {"Token": "x", "TopicArn": "arn:aws:sns:us-east-1:111111111111:joins", "SubscribeURL": "https://x"}
NOT_EVENTS = {
    "a log file with three records": (
        {"Records": [RECORD] * 3},
        "is a CloudTrail log file with 3 records; send the records",
    ),
    "a log file without records": ({"Records": []}, "is a CloudTrail log file with 0 records"),
    "the output of lookup-events with two events": (
        {"Events": [looked_up(RECORD)] * 2},
        "lookup-events with 2 records",
    ),
    "an S3 notification": (
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]},
        "is an S3 notification",
    ),
    "an S3 notification of two objects": ({"Records": [{"eventSource": "aws:s3"}] * 2}, "is an S3 notification"),
    "an S3 test notification": (
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"},
        "is an S3 test notification",
    ),
    "a notification of CloudTrail": (
        {"s3Bucket": "b", "s3ObjectKey": ["k"]},
        "is a notification that CloudTrail wrote a log file",
    ),
    "a batch for Lambda": ({"Records": [{"eventSource": "aws:sqs", "body": EVENT}]}, "messages of SQS"),
    "a batch of SNS messages": ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "messages of SNS"),
    "an SNS subscription": (SNS | {"Type": "SubscriptionConfirmation"}, "is an SNS subscription confirmation"),
    "an SNS unsubscribe confirmation": (
        SNS | {"Type": "UnsubscribeConfirmation"},
        "is an SNS unsubscribe confirmation",
    ),
    "a CloudWatch Logs subscription": ({"awslogs": {"data": "H4sI"}}, "CloudWatch Logs"),
    "received messages": ({"Messages": [{"Body": EVENT}]}, "is the output of SQS ReceiveMessage"),
    "a received message": ({"MessageId": "m", "Body": EVENT}, "send only its body"),
    "an entry for PutEvents": ({"Source": "x", "DetailType": "x", "Detail": "{}"}, "is an entry for PutEvents"),
    "an alarm": ({"AlarmName": "x"}, "is a CloudWatch alarm"),
    "a list": ([invited()], "body: must be a JSON object, not an array"),
    "a number": (7, "body: must be a JSON object, not a single value"),
    "null": (None, "body: must be a JSON object, not null"),
    "creation is unknown": ({"hello": "world"}, "source: is missing"),
    "another service's bare record": (RECORD | {"eventSource": "iam.amazonaws.com"}, "eventSource: must be"),
    "a bare record without a source": ({"eventName": "AcceptHandshake", "eventID": "e"}, "eventSource: must be"),
    "a bare record without an id": ({k: v for k, v in RECORD.items() if k != "eventID"}, "eventID: "),
    "another service's event": (invited() | {"source": "aws.s3"}, "source: must be one of aws.organizations"),
    "an event with another service's record": (
        with_detail(invited(), eventSource="s3.amazonaws.com"),
        "detail.eventSource",
    ),
    "a string without JSON": ("hello", "body: is not JSON: line 1, column 1"),
    "a notification without JSON": ({"Type": "Notification", "Message": "hello"}, "Message: is not JSON"),
    "a notification without a message": ({"Type": "Notification"}, "Message: is not JSON"),
}


@pytest.mark.parametrize(("body", "message"), NOT_EVENTS.values(), ids=NOT_EVENTS)
def test_a_body_that_is_not_an_event_is_named_in_the_error(body: object, message: str) -> None:
    with pytest.raises(InvalidEventError) as error:
        read_event(json.dumps(body))

    assert message in str(error.value)


def test_an_event_wrapped_more_than_three_times_is_rejected() -> None:
    body = EVENT
    for _ in range(4):
        body = json.dumps(body)

    with pytest.raises(InvalidEventError, match="wrapped more than 3 times"):
        read_event(body)


def test_a_wrapping_with_a_duplicate_key_is_rejected() -> None:
    with pytest.raises(InvalidEventError, match="Message: must not appear more than once"):
        read_event(notification(EVENT).replace("{", '{"Message": "{}", ', 1))


def test_paths_in_a_bare_record_begin_in_the_record() -> None:
    record = changed({"x": RECORD}, ("x", "responseElements", "handshake", "action"), None)["x"]

    with pytest.raises(InvalidEventError, match=r"^responseElements\.handshake\.action: "):
        read_event(json.dumps(record))
