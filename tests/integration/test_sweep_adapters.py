"""The sweep's state in DynamoDB and its requests in SQS."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.dynamodb_outcomes import DynamoOutcomes
from handlers.aws.dynamodb_sweep import DynamoSweepStore
from handlers.aws.sqs_repairs import SqsRepairs
from handlers.core.errors import RetryableError
from schemas.events import JoinRequest
from schemas.sweep import SweepInProgress, SweepMode, SweepState
from tests.fakes import NOON, ORGANIZATION
from tests.integration.conftest import RESOURCES, TABLE, client

LATER = NOON + timedelta(minutes=15)
SWEEP = "sweep-abc"


@pytest.fixture
def dynamodb(aws: None) -> Any:  # noqa: ARG001 - used for its effect
    made = client("dynamodb")
    properties = RESOURCES["Reconciliation"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    made.create_table(TableName="reconciliation", **{name: properties[name] for name in names})
    return made


def stores(dynamodb: Any) -> tuple[DynamoSweepStore, DynamoSweepStore]:
    return DynamoSweepStore(dynamodb, "reconciliation"), DynamoSweepStore(dynamodb, "reconciliation")


def state(**changes: Any) -> SweepState:
    current = SweepInProgress(sweep_id=SWEEP, begun_at=NOON, mode=SweepMode.REPORT, guardrails="a" * 64, **changes)
    return SweepState(current=current, since=NOON)


def test_before_the_first_sweep_the_state_is_empty(dynamodb: Any) -> None:
    store, _ = stores(dynamodb)

    assert store.read() is None
    assert store.acquire(NOON, LATER) == SweepState(since=NOON)


def test_what_is_saved_is_read_again(dynamodb: Any) -> None:
    first, second = stores(dynamodb)
    first.acquire(NOON, LATER)
    first.save(state(parts=3))
    first.release()

    assert second.read() == second.acquire(NOON, LATER) == state(parts=3)


def test_only_one_invocation_holds_the_state(dynamodb: Any) -> None:
    first, second = stores(dynamodb)
    assert first.acquire(NOON, LATER)

    assert second.acquire(NOON + timedelta(minutes=14), LATER) is None
    assert second.acquire(NOON + timedelta(minutes=16), NOON + timedelta(minutes=30))


def test_a_hold_of_a_clock_that_is_far_ahead_does_not_last(dynamodb: Any) -> None:
    first, second = stores(dynamodb)
    first.acquire(NOON + timedelta(days=1), LATER + timedelta(days=1))

    assert second.acquire(NOON, LATER)


def test_an_invocation_whose_hold_was_taken_saves_nothing_and_does_not_end_the_hold(dynamodb: Any) -> None:
    first, second = stores(dynamodb)
    first.acquire(NOON, LATER)
    second.acquire(LATER + timedelta(minutes=1), LATER + timedelta(minutes=10))
    second.save(state(parts=2))

    with pytest.raises(RetryableError, match="SWEEP_LEASE"):
        first.save(state(parts=1))
    first.release()

    assert second.read() == state(parts=2)
    assert stores(dynamodb)[0].acquire(LATER + timedelta(minutes=5), LATER + timedelta(minutes=9)) is None


@pytest.mark.parametrize("kept", ["", "{}", "[]", '{"since": 1}', "not JSON"])
def test_a_state_that_nobody_wrote_of_ours_counts_as_none(dynamodb: Any, kept: str) -> None:
    store, _ = stores(dynamodb)
    dynamodb.put_item(TableName="reconciliation", Item={"name": {"S": "Sweep"}, "kept": {"S": kept}})

    assert store.read() is None
    assert store.acquire(NOON, LATER) == SweepState(since=NOON)


def test_pieces_are_returned_in_order_or_not_at_all(dynamodb: Any) -> None:
    store, other = stores(dynamodb)
    store.acquire(NOON, LATER)
    for number in range(12):
        store.put(SWEEP, "read", number, bytes([number]))
    store.put(SWEEP, "read", 3, b"again")

    expected = [b"again" if number == 3 else bytes([number]) for number in range(12)]
    assert other.get(SWEEP, "read", 12) == expected
    assert other.get(SWEEP, "read", 13) is None
    assert other.get(SWEEP, "decided", 1) is None
    assert other.get(SWEEP, "decided", 0) == []

    store.delete(SWEEP, "read", 12)
    assert other.get(SWEEP, "read", 1) is None
    assert dynamodb.scan(TableName="reconciliation")["Count"] == 1


def test_a_piece_expires_if_nobody_deletes_it(dynamodb: Any) -> None:
    store, _ = stores(dynamodb)
    store.acquire(NOON, LATER)
    store.put(SWEEP, "read", 0, b"x")

    [item] = [each for each in dynamodb.scan(TableName="reconciliation")["Items"] if "content" in each]

    assert int(item["expires_at"]["N"]) == int((NOON + timedelta(days=30)).timestamp())
    attribute = RESOURCES["Reconciliation"]["Properties"]["TimeToLiveSpecification"]["AttributeName"]
    assert attribute in item


# The queue


def request(number: int) -> JoinRequest:
    return JoinRequest(
        source="joinguard.sweep",
        event_id=f"sweep-{number}",
        requested_at=NOON,
        account_id=f"{200000000000 + number}",
        organization_id=ORGANIZATION,
        reason="sweep",
    )


def test_requests_are_sent_ten_in_a_call(aws: None) -> None:  # noqa: ARG001 - used for its effect
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="repairs")["QueueUrl"]
    repairs = SqsRepairs(sqs, url)
    assert repairs.is_empty()

    repairs.send([request(number) for number in range(10)])

    assert not repairs.is_empty()
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert {json.loads(each["Body"])["event_id"] for each in received} == {f"sweep-{number}" for number in range(10)}
    # In flight, they still count.
    assert not repairs.is_empty()


def test_what_sqs_refuses_of_a_batch_is_sent_again(aws: None) -> None:  # noqa: ARG001 - used for its effect
    sqs = client("sqs")
    refused = {"Id": "1", "SenderFault": False, "Code": "InternalError"}
    sent = {"MessageId": "m", "MD5OfMessageBody": "x"}
    bodies = [request(number).model_dump_json() for number in range(2)]
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    with Stubber(sqs) as stub:
        stub.add_response(
            "send_message_batch",
            {"Successful": [{"Id": "0", **sent}], "Failed": [refused]},
            {"QueueUrl": "https://q", "Entries": entries},
        )
        stub.add_response(
            "send_message_batch",
            {"Successful": [{"Id": "1", **sent}], "Failed": []},
            {"QueueUrl": "https://q", "Entries": entries[1:]},
        )
        SqsRepairs(sqs, "https://q").send([request(0), request(1)])
        stub.assert_no_pending_responses()


def test_requests_that_sqs_refuses_each_time_are_an_error(aws: None) -> None:  # noqa: ARG001 - used for its effect
    sqs = client("sqs")
    with Stubber(sqs) as stub:
        for _ in range(3):
            refused = {"Id": "0", "SenderFault": False, "Code": "InternalError"}
            stub.add_response("send_message_batch", {"Successful": [], "Failed": [refused]})
        with pytest.raises(RetryableError, match="1 of 1"):
            SqsRepairs(sqs, "https://q").send([request(0)])


# The outcomes


def test_the_outcomes_of_many_accounts_come_in_the_order_of_the_accounts(table: Any) -> None:
    accounts = [f"{200000000000 + number}" for number in range(450)]
    for each in accounts[::7]:
        table.put_item(Item={"account_id": each, "event_id": "x"})

    found = list(DynamoOutcomes(client("dynamodb"), TABLE).of_accounts(accounts))

    assert [account_id for account_id, _ in found] == accounts
    assert [account_id for account_id, rows in found if rows] == accounts[::7]
