"""Messages that are made to take long: each becomes a dead letter, and no join beside it needs a second receive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from infra.local.events import Event
    from tests.e2e.conftest import Pipeline

LARGE: Final = 180_000


def announced(**details: Any) -> str:
    """Return an event with an unknown layout, so that the worker searches all of it."""
    detail = {
        "eventSource": "organizations.amazonaws.com",
        "eventName": "AccountJoinedOrganization",
        "eventID": "hostile-1",
        "serviceEventDetails": details,
    }
    return json.dumps({"source": "aws.organizations", "detail": detail})


def nested(levels: int, width: int) -> dict[str, Any]:
    """Return nested objects; the innermost one has many values."""
    inner: dict[str, Any] = {f"accountId{number}": "x" for number in range(width)}
    for _ in range(levels):
        inner = {"management-account-name": inner}
    return inner


HOSTILE: Final = {
    "a long word that could begin an address": json.dumps({"source": "a" * LARGE}),
    "many at signs": json.dumps({"source": "a@" * (LARGE // 2)}),
    "180,000 digits": "1" * LARGE,
    "180,000 brackets": "[" * LARGE,
    "an unterminated string": '"' + "\\" * LARGE,
    "many values at depth 90": announced(a=nested(90, 15_000)),
    "one key many times": '{"source": 1' + ', "source": 1' * (LARGE // 13) + "}",
    "the largest message that SQS accepts": json.dumps({"source": "x" * 1_048_000}),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_message_costs_no_other_message_a_receive(pipeline: Pipeline, body: str) -> None:
    accounts = [pipeline.account() for _ in range(4)]
    events = [pipeline.invited(account_id) for account_id in accounts]

    messages: list[Event | str] = [*events[:2], body, *events[2:]]
    for each in messages:
        pipeline.watch.put(each)
    pipeline.watch.until_quiet()

    outcomes = [pipeline.outcome(event["detail"]["eventID"]) for event in events]
    assert [outcome.status for outcome in outcomes] == [OutcomeStatus.ENFORCED] * 4
    assert [outcome.attempts for outcome in outcomes] == [1] * 4
    [dead_letter] = pipeline.watch.dead_letters()
    assert dead_letter["Body"] == body
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "INVALID_EVENT"
    assert dead_letter["MessageAttributes"]["ATTEMPTS"]["StringValue"] == "1"
