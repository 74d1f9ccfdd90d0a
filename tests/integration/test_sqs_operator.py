"""The operator's queues: messages are received, sent and deleted in batches of ten, byte for byte."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.stub import Stubber

from handlers.aws.sqs_operator import SqsDeadLetterQueues
from handlers.core.errors import RetryableError
from handlers.core.redrive.backup import backup_line, read_backup
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.tracker import OutcomeTracker
from tests.fake_queues import dead_letter
from tests.fakes import FakeClock
from tests.integration.conftest import client, intercepted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from schemas.outcome import Outcome

ATTRIBUTES: dict[str, Any] = {
    "ERROR_CODE": {"DataType": "String", "StringValue": "AccessDeniedException"},
    "REDRIVES": {"DataType": "Number", "StringValue": "1"},
    "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
}


@pytest.fixture
def queues(aws: None) -> dict[str, str]:  # noqa: ARG001 - used for its effect
    sqs = client("sqs")
    return {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("joins", "dead", "undelivered")}


@pytest.fixture
def dead_letter_queues(queues: dict[str, str]) -> SqsDeadLetterQueues:
    urls: Any = {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}
    return SqsDeadLetterQueues(client("sqs"), urls, queues["joins"], poll=0)


def test_requests_are_sent_to_a_queue_of_their_own_and_counted_there(queues: dict[str, str]) -> None:
    urls: Any = {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}
    repairs = client("sqs").create_queue(QueueName="repairs")["QueueUrl"]
    sender = SqsDeadLetterQueues(client("sqs"), urls, queues["joins"], repairs_url=repairs, poll=0)

    assert len(sender.send("repairs", [dead_letter(1), dead_letter(2)]).accepted) == 2

    assert [sender.visible(each) for each in ("repairs", "joins", "dead letters")] == [2, 0, 0]


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


T = TypeVar("T")


def once(call: Callable[[], T]) -> T:
    return call()


class NoOutcomes:
    def of_events(self, keys: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Outcome]:
        assert keys
        return {}


def received(dead_letter_queues: SqsDeadLetterQueues) -> list[DeadLetter]:
    return list(chain.from_iterable(dead_letter_queues.receive_all()))


def redrive_all(dead_letter_queues: SqsDeadLetterQueues) -> Redrive:
    """Redrive all messages as the command does."""
    clock = FakeClock()
    with InFlight(dead_letter_queues, clock, once) as in_flight:
        engine = Redrive(in_flight, OutcomeTracker(NoOutcomes()), clock, once, breaker=1000)
        engine.run(list(in_flight.receive_all()), lambda _: None)
    return engine


def test_both_queues_are_one_list_and_released_messages_are_visible_again(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    fill(queues, 23)
    fill(queues, 4, "undelivered")

    dead_letters = received(dead_letter_queues)

    assert [each.queue for each in dead_letters].count("undelivered") == 4
    assert len({each.message_id for each in dead_letters}) == 27
    assert received(dead_letter_queues) == []
    assert dead_letter_queues.in_flight() == 27
    dead_letter_queues.release([each.receipt for each in dead_letters])
    again = received(dead_letter_queues)
    assert {each.body for each in again} == {each.body for each in dead_letters}


def test_each_look_adds_one_to_the_receive_count(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    """Nine messages: with more, several threads receive at once, and moto's queues are not safe for threads."""
    fill(queues, 9)
    dead_letter_queues.release([each.receipt for each in received(dead_letter_queues)])

    assert {each.receives for each in received(dead_letter_queues)} == {2}


def test_a_message_has_the_time_when_sqs_deletes_it(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    client("sqs").set_queue_attributes(QueueUrl=queues["dead"], Attributes={"MessageRetentionPeriod": "1209600"})
    fill(queues, 1)

    [each] = received(dead_letter_queues)

    assert each.deleted_at == each.sent_at + timedelta(days=14)


def test_an_empty_short_poll_is_followed_by_a_long_poll(queues: dict[str, str]) -> None:
    """Use Stubber: a short poll of SQS asks some servers and can be empty; moto and the stand-in ask all of them."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=7)
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "b",
        "Attributes": {"SentTimestamp": "1795521600000", "ApproximateReceiveCount": "1"},
    }
    waits: list[int] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.ReceiveMessage", lambda params, **_: waits.append(params["WaitTimeSeconds"])
    )
    with Stubber(sqs) as stub:
        # The digest of the body is not checked here.
        sqs.meta.events.unregister("after-call.sqs.ReceiveMessage")
        stub.add_response("get_queue_attributes", {"Attributes": {"MessageRetentionPeriod": "1209600"}})
        for answer in ({}, {"Messages": [message]}, {}, {}):
            stub.add_response("receive_message", answer)

        found = received(dead_letter_queues)

        stub.assert_no_pending_responses()
    assert [each.message_id for each in found] == ["m"]
    assert waits == [0, 7, 0, 7], "the last poll asks all servers"


def test_messages_that_are_no_longer_in_flight_are_left_out(queues: dict[str, str]) -> None:
    """Use Stubber: in SQS a message is in flight for at most twelve hours; in moto and the stand-in without limit."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)
    failed = {"Id": "0", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "Total VisibilityTimeout"}
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", {"Successful": [{"Id": "1"}], "Failed": [failed]})

        assert dead_letter_queues.extend_visibility([dead_letter(1).receipt, dead_letter(2).receipt]) == [
            dead_letter(2).receipt
        ]


def test_if_one_of_several_calls_fails_the_sent_messages_are_known(queues: dict[str, str]) -> None:
    large = [dead_letter(number, body="x" * 400_000, attributes=ATTRIBUTES) for number in range(4)]
    sqs, calls = client("sqs"), 0

    def cut(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionClosedError(endpoint_url="https://sqs")

    sqs.meta.events.register("before-send.sqs.SendMessageBatch", cut)
    sent = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0).send("joins", large)

    assert sent.accepted == large[:2]
    assert set(sent.refused) == {"m-2", "m-3"}
    assert len(all_of(queues["joins"])) == 2


def test_a_redriven_message_is_unchanged_except_for_its_count(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    fill(queues, 12)
    bodies = sorted(each.body for each in received(dead_letter_queues))
    client("sqs").purge_queue(QueueUrl=queues["dead"])
    fill(queues, 12)

    engine = redrive_all(dead_letter_queues)

    joins = all_of(queues["joins"])
    assert sorted(each["Body"] for each in joins) == bodies
    for each in joins:
        values = {
            name: value.get("StringValue", value.get("BinaryValue"))
            for name, value in each["MessageAttributes"].items()
        }
        assert values == {"ERROR_CODE": "AccessDeniedException", "REDRIVES": "2", "raw": b"\x00\xff"}
    assert all_of(queues["dead"]) == []
    assert (engine.sent, engine.deleted) == (12, 12)


def test_a_message_keeps_its_trace_header_when_redriven_or_restored(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    """Check the requests, because moto ignores the trace headers of a batch."""
    sqs = client("sqs")
    system: Any = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sqs.send_message(QueueUrl=queues["dead"], MessageBody="x", MessageSystemAttributes=system)
    sqs.send_message(QueueUrl=queues["dead"], MessageBody="y")
    dead_letters = received(dead_letter_queues)
    requests: list[dict[str, Any]] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.SendMessageBatch",
        lambda params, **_: requests.append(
            {each["MessageBody"]: each.get("MessageSystemAttributes") for each in params["Entries"]}
        ),
    )
    sending = SqsDeadLetterQueues(sqs, {"undelivered": queues["undelivered"]}, queues["joins"], poll=0)

    sending.send("joins", [each.redriven() for each in dead_letters])
    sending.send("undelivered", read_backup("\n".join(map(backup_line, dead_letters)).encode()))

    assert requests == [{"x": system, "y": None}] * 2


def test_a_message_that_sqs_moved_has_the_code_of_exhausted_retries(queues: dict[str, str]) -> None:
    """Use Stubber, because moto does not return the queue from which a message was moved."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)
    message: dict[str, Any] = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "b",
        "Attributes": {"SentTimestamp": "1795521600000", "ApproximateReceiveCount": "1"},
        "MessageAttributes": {"ERROR_CODE": {"DataType": "String", "StringValue": "ALL_IS_WELL"}},
    }
    source = {"DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:111111111111:joins"}
    moved = message | {"MessageId": "n", "Attributes": message["Attributes"] | source}
    with Stubber(sqs) as stub:
        sqs.meta.events.unregister("after-call.sqs.ReceiveMessage")
        stub.add_response("get_queue_attributes", {"Attributes": {"MessageRetentionPeriod": "1209600"}})
        for answer in ({"Messages": [message, moved]}, {}, {}):
            stub.add_response("receive_message", answer)

        codes = {each.message_id: each.code for each in received(dead_letter_queues)}

    assert codes == {"m": "ALL_IS_WELL", "n": "RETRIES_EXHAUSTED"}


def test_a_pass_ends_while_messages_keep_arriving(queues: dict[str, str]) -> None:
    fill(queues, 25)
    sqs, sender = client("sqs"), client("sqs")
    until = monotonic() + 20

    def arrive(**_: object) -> None:
        if monotonic() < until:
            sender.send_message(QueueUrl=queues["dead"], MessageBody="late")
            sleep(0.05)

    sqs.meta.events.register("before-call.sqs.ReceiveMessage", arrive)
    urls: Any = {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}
    dead_letter_queues = SqsDeadLetterQueues(sqs, urls, queues["joins"], poll=1)
    with InFlight(dead_letter_queues, FakeClock(), once) as in_flight:
        found = list(in_flight.receive_all())

        assert monotonic() < until, "the pass ends only when no message arrives"
        assert len([each for each in found if each.body != "late"]) == 25
        assert in_flight.late
        assert dead_letter_queues.in_flight() == len(found), "later messages are released"


def answer_at(date: str, **answer: Any) -> dict[str, Any]:
    return answer | {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}


def message_sent_at(number: int, sent_at: datetime) -> dict[str, Any]:
    system = {"SentTimestamp": str(round(sent_at.timestamp() * 1000)), "ApproximateReceiveCount": "1"}
    return {"MessageId": f"m-{number}", "ReceiptHandle": "r", "Body": "b", "Attributes": system}


def test_messages_sent_after_the_first_answer_of_sqs_are_late_and_hide_no_earlier_ones(queues: dict[str, str]) -> None:
    """Use Stubber, because moto's clock and its order of messages cannot be set."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=1)
    began = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    within, after = began + timedelta(seconds=0.999), began + timedelta(seconds=1)
    many = [message_sent_at(number, after) for number in range(10)]
    answers: list[list[dict[str, Any]]] = [
        [message_sent_at(11, within), message_sent_at(12, after)],
        [message_sent_at(13, after)],
        # Ten later messages can hide an earlier one.
        many,
        [],
        [message_sent_at(14, within)],
        [],
        many[:9],
    ]
    with Stubber(sqs) as stub:
        sqs.meta.events.unregister("after-call.sqs.ReceiveMessage")
        attributes = {"MessageRetentionPeriod": "1209600"}
        stub.add_response("get_queue_attributes", answer_at("Mon, 03 Feb 2020 04:05:06 GMT", Attributes=attributes))
        for messages in answers:
            stub.add_response("receive_message", {"Messages": messages})

        found = received(dead_letter_queues)

        stub.assert_no_pending_responses()
    assert {each.message_id for each in found if not each.late} == {"m-11", "m-14"}


def test_a_pass_ends_even_if_every_receive_is_full_of_later_messages(queues: dict[str, str]) -> None:
    """Use Stubber, because moto's clock and its order of messages cannot be set."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=1)
    after = datetime(2020, 2, 3, 4, 5, 7, tzinfo=UTC)
    with Stubber(sqs) as stub:
        sqs.meta.events.unregister("after-call.sqs.ReceiveMessage")
        attributes = {"MessageRetentionPeriod": "1209600"}
        stub.add_response("get_queue_attributes", answer_at("Mon, 03 Feb 2020 04:05:06 GMT", Attributes=attributes))
        for call in range(10):
            full = [message_sent_at(call * 10 + number, after) for number in range(10)]
            stub.add_response("receive_message", {"Messages": full})

        assert all(each.late for each in received(dead_letter_queues))


def test_many_messages_are_received_by_concurrent_calls(queues: dict[str, str]) -> None:
    fill(queues, 95)
    sqs, sizes = client("sqs"), list[int]()
    sqs.meta.events.register(
        "after-call.sqs.ReceiveMessage", lambda parsed, **_: sizes.append(len(parsed.get("Messages", [])))
    )

    batches = list(SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"]).receive_all())

    assert len({each.message_id for batch in batches for each in batch}) == 95
    assert [len(batch) for batch in batches[:1]] == [10], "the first call is made alone"
    assert len(batches) < 95 / 10
    assert len(sizes) < 3 * 95 / 10


def test_a_failed_receive_releases_what_concurrent_calls_received(queues: dict[str, str]) -> None:
    fill(queues, 95)
    sqs, calls = client("sqs"), 0

    def fail(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise ConnectionClosedError(endpoint_url="https://sqs")

    sqs.meta.events.register("before-send.sqs.ReceiveMessage", fail)
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)
    with pytest.raises(RetryableError), InFlight(dead_letter_queues, FakeClock(), once) as in_flight:
        list(in_flight.receive_all())

    assert dead_letter_queues.in_flight() == 0
    assert dead_letter_queues.visible("dead letters") == 95


def test_large_messages_are_sent_in_several_batches(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    """SQS limits a batch to 1 MiB."""
    large = [dead_letter(number, body="x" * 400_000, attributes=ATTRIBUTES) for number in range(5)]
    sqs = client("sqs")
    sizes: list[int] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.SendMessageBatch",
        lambda params, **_: sizes.append(sum(len(each["MessageBody"]) for each in params["Entries"])),
    )
    sender = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)

    sent = sender.send("joins", large)

    assert sent.accepted == large
    assert sizes == [800_000, 800_000, 400_000]
    assert len(all_of(queues["joins"])) == 5
    assert dead_letter_queues.visible("joins") == 0


def test_messages_of_both_queues_are_deleted_and_sent_to_either_queue(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    fill(queues, 11)
    fill(queues, 2, "undelivered")
    dead_letters = received(dead_letter_queues)

    assert len(dead_letter_queues.delete([each.receipt for each in dead_letters])) == 13
    assert dead_letter_queues.send("undelivered", dead_letters[:3]).accepted == dead_letters[:3]

    assert dead_letter_queues.visible("undelivered") == 3
    assert dead_letter_queues.visible("dead letters") == 0


def test_a_message_that_sqs_rejects_is_returned_with_the_reason(queues: dict[str, str]) -> None:
    """Use Stubber, because moto accepts every message."""
    dead_letters = [dead_letter(0), dead_letter(1), dead_letter(2)]
    sqs = client("sqs")
    failed = {"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "try again"}
    sent = [{"Id": each, "MessageId": "x", "MD5OfMessageBody": "x"} for each in ("0", "2")]
    half = SqsDeadLetterQueues(
        sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"], poll=0
    )
    with Stubber(sqs) as stub:
        # The digests in the answer do not match the bodies; they are not checked here.
        sqs.meta.events.unregister("after-call.sqs.SendMessageBatch")
        stub.add_response("send_message_batch", {"Successful": sent, "Failed": [failed]})
        answer = half.send("joins", dead_letters)

    assert answer.accepted == [dead_letters[0], dead_letters[2]]
    assert answer.refused == {"m-1": "InternalError: try again"}


@pytest.mark.parametrize("operation", ["send_message_batch", "delete_message_batch", "change_message_visibility_batch"])
@pytest.mark.parametrize(("code", "status", "soon"), [("ServiceUnavailable", 503, True), ("AccessDenied", 403, False)])
def test_an_error_of_sqs_is_marked_if_a_retry_within_seconds_can_help(
    queues: dict[str, str],
    operation: str,
    code: str,
    status: int,
    soon: bool,  # noqa: FBT001 - pytest passes a parameter
) -> None:
    dead_letters = [dead_letter()]
    sqs = client("sqs")
    broken = SqsDeadLetterQueues(
        sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"], poll=0
    )
    calls: dict[str, Any] = {
        "send_message_batch": lambda: broken.send("joins", dead_letters),
        "delete_message_batch": lambda: broken.delete([dead_letters[0].receipt]),
        "change_message_visibility_batch": lambda: broken.release([dead_letters[0].receipt]),
    }
    with Stubber(sqs) as stub:
        stub.add_client_error(operation, code, http_status_code=status)
        with pytest.raises(RetryableError, match=rf"SQS\.{code}") as raised:
            calls[operation]()

    assert raised.value.soon is soon


class Killed(BaseException):
    """Not caught by any handler, as after a SIGKILL; only `finally` blocks run."""


@pytest.mark.parametrize("killed_at", range(1, 20))
def test_an_interrupt_at_any_call_loses_nothing(queues: dict[str, str], killed_at: int) -> None:
    """Interrupt each call to SQS in turn: receive, send, delete, release."""
    fill(queues, 23)
    sqs, calls = client("sqs"), 0

    def kill(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise Killed

    sqs.meta.events.register("before-call.sqs", kill)
    interrupted = SqsDeadLetterQueues(
        sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"], poll=0
    )
    with suppress(Killed):
        redrive_all(interrupted)

    sent = [each["Body"] for each in all_of(queues["joins"])]
    backlog = client("sqs").get_queue_attributes(QueueUrl=queues["dead"], AttributeNames=["All"])["Attributes"]
    in_flight = int(backlog["ApproximateNumberOfMessagesNotVisible"])
    left = int(backlog["ApproximateNumberOfMessages"]) + in_flight
    assert len(sent) == len(set(sent)), "sent twice"
    assert 23 <= len(sent) + left <= 23 + 10, "no more than one batch is in both queues"
    # Messages received by the interrupted call stay in flight for a while; all others are released.
    assert in_flight <= 10


def test_no_messages_are_sent_without_a_request(queues: dict[str, str]) -> None:
    sqs, requests = intercepted("sqs", lambda **_: None)
    urls: Any = {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}

    sent = SqsDeadLetterQueues(sqs, urls, queues["joins"], poll=0).send("joins", [])

    assert (sent.accepted, sent.refused, requests) == ([], {}, [])
