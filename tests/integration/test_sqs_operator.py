"""Both queues in an operator's hands: in batches of ten, byte for byte."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.stub import Stubber

from handlers.aws.sqs_operator import SqsDeadLetterQueues
from handlers.core.errors import RetryableError
from handlers.core.redrive.backup import backup_line, read_backup
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import InFlight, call_once
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.tracker import OutcomeTracker
from tests.fake_queues import dead_letter
from tests.fakes import FakeClock
from tests.integration.conftest import client

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from schemas.outcome import Outcome

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
def dead_letter_queues(queues: dict[str, str]) -> SqsDeadLetterQueues:
    urls: Any = {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}
    return SqsDeadLetterQueues(client("sqs"), urls, queues["joins"], poll=0)


def fill(queues: dict[str, str], visible: int, name: str = "dead") -> None:
    sqs = client("sqs")
    for number in range(visible):
        body = f'{{"n": {number}, "odd": "\u2603 \\u2603"}}\t'
        sqs.send_message(QueueUrl=queues[name], MessageBody=body, MessageAttributes=ATTRIBUTES)


def all_of(url: str) -> list[dict[str, Any]]:
    sqs, found = client("sqs"), []
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
    ).get("Messages"):
        found += messages
    return found


class NoOutcomes:
    def of_events(self, keys: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Outcome]:
        assert keys
        return {}


def browsed(dead_letter_queues: SqsDeadLetterQueues) -> list[DeadLetter]:
    return list(chain.from_iterable(dead_letter_queues.receive_all()))


def back_home(dead_letter_queues: SqsDeadLetterQueues) -> Redrive:
    """Do with all letters as the command does."""
    clock = FakeClock()
    with InFlight(dead_letter_queues, clock) as in_flight:
        engine = Redrive(in_flight, OutcomeTracker(NoOutcomes()), clock, call_once, breaker=1000)
        engine.run(list(in_flight.receive_all()), lambda _: None)
    return engine


def test_both_queues_are_one_list_and_what_is_released_is_there_again(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    fill(queues, 23)
    fill(queues, 4, "undelivered")

    dead_letters = browsed(dead_letter_queues)

    assert [each.queue for each in dead_letters].count("undelivered") == 4
    assert len({each.message_id for each in dead_letters}) == 27
    assert browsed(dead_letter_queues) == []
    assert dead_letter_queues.in_flight() == 27
    dead_letter_queues.release([each.receipt for each in dead_letters])
    again = browsed(dead_letter_queues)
    assert {each.body for each in again} == {each.body for each in dead_letters}


def test_a_look_counts_as_a_receive_and_no_more_than_one(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    """Nine letters: of more, several calls are made at once, and moto's queues are not safe for threads."""
    fill(queues, 9)
    dead_letter_queues.release([each.receipt for each in browsed(dead_letter_queues)])

    assert {each.receives for each in browsed(dead_letter_queues)} == {2}


def test_a_letter_knows_when_sqs_deletes_it(dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]) -> None:
    client("sqs").set_queue_attributes(QueueUrl=queues["dead"], Attributes={"MessageRetentionPeriod": "1209600"})
    fill(queues, 1)

    [each] = browsed(dead_letter_queues)

    assert each.deleted_at == each.sent_at + timedelta(days=14)


def test_a_short_answer_without_a_letter_is_not_believed(queues: dict[str, str]) -> None:
    """Stubber: a short poll asks some of SQS's servers and may come back empty; moto and the stand-in ask all."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=7)
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "b",
        "Attributes": {"SentTimestamp": "1795521600000", "ApproximateReceiveCount": "1"},
    }
    asked: list[int] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.ReceiveMessage", lambda params, **_: asked.append(params["WaitTimeSeconds"])
    )
    with Stubber(sqs) as stub:
        # The digest of the body is not looked at here.
        sqs.meta.events.unregister("after-call.sqs.ReceiveMessage")
        stub.add_response("get_queue_attributes", {"Attributes": {"MessageRetentionPeriod": "1209600"}})
        for answer in ({}, {"Messages": [message]}, {}, {}):
            stub.add_response("receive_message", answer)

        found = browsed(dead_letter_queues)

        stub.assert_no_pending_responses()
    assert [each.message_id for each in found] == ["m"]
    assert asked == [0, 7, 0, 7], "the last answer is that of all servers"


def test_what_is_not_held_any_more_is_told(queues: dict[str, str]) -> None:
    """Stubber: SQS lets a letter be in hand for twelve hours in all; moto and the stand-in for ever."""
    sqs = client("sqs")
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)
    failed = {"Id": "0", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "Total VisibilityTimeout"}
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", {"Successful": [{"Id": "1"}], "Failed": [failed]})

        assert dead_letter_queues.extend_visibility([dead_letter(1).receipt, dead_letter(2).receipt]) == [
            dead_letter(2).receipt
        ]


def test_of_a_batch_too_heavy_for_one_call_what_was_sent_is_told(queues: dict[str, str]) -> None:
    heavy = [dead_letter(number, body="x" * 400_000, attributes=ATTRIBUTES) for number in range(4)]
    sqs, calls = client("sqs"), 0

    def cut(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionClosedError(endpoint_url="https://sqs")

    sqs.meta.events.register("before-send.sqs.SendMessageBatch", cut)
    sent = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0).send("joins", heavy)

    assert sent.accepted == heavy[:2]
    assert set(sent.refused) == {"m-2", "m-3"}
    assert len(all_of(queues["joins"])) == 2


def test_what_goes_back_is_the_same_but_for_the_count(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    fill(queues, 12)
    bodies = sorted(each.body for each in browsed(dead_letter_queues))
    client("sqs").purge_queue(QueueUrl=queues["dead"])
    fill(queues, 12)

    engine = back_home(dead_letter_queues)

    back = all_of(queues["joins"])
    assert sorted(each["Body"] for each in back) == bodies
    for each in back:
        values = {
            name: value.get("StringValue", value.get("BinaryValue"))
            for name, value in each["MessageAttributes"].items()
        }
        assert values == {"ERROR_CODE": "AccessDeniedException", "REDRIVES": "2", "raw": b"\x00\xff"}
    assert all_of(queues["dead"]) == []
    assert (engine.sent, engine.deleted) == (12, 12)


def test_a_letter_keeps_its_trace_header_wherever_it_goes(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    """Back to the joins, and from a backup to where it lay. moto forgets it of a batch: this is what SQS is asked."""
    sqs = client("sqs")
    system: Any = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sqs.send_message(QueueUrl=queues["dead"], MessageBody="x", MessageSystemAttributes=system)
    sqs.send_message(QueueUrl=queues["dead"], MessageBody="y")
    dead_letters = browsed(dead_letter_queues)
    asked: list[dict[str, Any]] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.SendMessageBatch",
        lambda params, **_: asked.append(
            {each["MessageBody"]: each.get("MessageSystemAttributes") for each in params["Entries"]}
        ),
    )
    sending = SqsDeadLetterQueues(sqs, {"undelivered": queues["undelivered"]}, queues["joins"], poll=0)

    sending.send("joins", [each.redriven() for each in dead_letters])
    sending.send("undelivered", read_backup("\n".join(map(backup_line, dead_letters)).encode()))

    assert asked == [{"x": system, "y": None}] * 2


def test_what_sqs_itself_has_moved_is_not_dead_for_the_reason_that_it_carries(queues: dict[str, str]) -> None:
    """Stubber: moto does not tell where SQS has moved a message from."""
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

        codes = {each.message_id: each.code for each in browsed(dead_letter_queues)}

    assert codes == {"m": "ALL_IS_WELL", "n": "RETRIES_EXHAUSTED"}


def test_many_letters_are_received_by_several_calls_at_once(queues: dict[str, str]) -> None:
    fill(queues, 95)
    sqs, sizes = client("sqs"), list[int]()
    sqs.meta.events.register(
        "after-call.sqs.ReceiveMessage", lambda parsed, **_: sizes.append(len(parsed.get("Messages", [])))
    )

    batches = list(SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"]).receive_all())

    assert len({each.message_id for batch in batches for each in batch}) == 95
    assert [len(batch) for batch in batches[:1]] == [10], "the first call goes alone"
    assert len(batches) < 95 / 10
    assert len(sizes) < 3 * 95 / 10


def test_a_call_that_fails_gives_back_what_its_neighbours_received(queues: dict[str, str]) -> None:
    fill(queues, 95)
    sqs, calls = client("sqs"), 0

    def fail(**_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise ConnectionClosedError(endpoint_url="https://sqs")

    sqs.meta.events.register("before-send.sqs.ReceiveMessage", fail)
    dead_letter_queues = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)
    with pytest.raises(RetryableError), InFlight(dead_letter_queues, FakeClock()) as in_flight:
        list(in_flight.receive_all())

    assert dead_letter_queues.in_flight() == 0
    assert dead_letter_queues.visible("dead letters") == 95


def test_heavy_letters_go_in_as_many_batches_as_sqs_wants(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    """All messages of a batch together may weigh 1 MiB."""
    heavy = [dead_letter(number, body="x" * 400_000, attributes=ATTRIBUTES) for number in range(5)]
    sqs = client("sqs")
    sizes: list[int] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.SendMessageBatch",
        lambda params, **_: sizes.append(sum(len(each["MessageBody"]) for each in params["Entries"])),
    )
    counted = SqsDeadLetterQueues(sqs, {"dead letters": queues["dead"]}, queues["joins"], poll=0)

    sent = counted.send("joins", heavy)

    assert sent.accepted == heavy
    assert sizes == [800_000, 800_000, 400_000]
    assert len(all_of(queues["joins"])) == 5
    assert dead_letter_queues.backlog() == 0


def test_letters_of_both_queues_are_deleted_and_sent_to_either(
    dead_letter_queues: SqsDeadLetterQueues, queues: dict[str, str]
) -> None:
    fill(queues, 11)
    fill(queues, 2, "undelivered")
    dead_letters = browsed(dead_letter_queues)

    assert len(dead_letter_queues.delete([each.receipt for each in dead_letters])) == 13
    assert dead_letter_queues.send("undelivered", dead_letters[:3]).accepted == dead_letters[:3]

    assert dead_letter_queues.visible("undelivered") == 3
    assert dead_letter_queues.visible("dead letters") == 0


def test_what_sqs_does_not_take_stays_where_it_is_and_the_reason_is_told(queues: dict[str, str]) -> None:
    """Stubber: moto takes everything."""
    dead_letters = [dead_letter(0), dead_letter(1), dead_letter(2)]
    sqs = client("sqs")
    failed = {"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "try again"}
    sent = [{"Id": each, "MessageId": "x", "MD5OfMessageBody": "x"} for each in ("0", "2")]
    half = SqsDeadLetterQueues(
        sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"], poll=0
    )
    with Stubber(sqs) as stub:
        # The answer's digests are not those of the bodies; that is not what is looked at here.
        sqs.meta.events.unregister("after-call.sqs.SendMessageBatch")
        stub.add_response("send_message_batch", {"Successful": sent, "Failed": [failed]})
        answer = half.send("joins", dead_letters)

    assert answer.accepted == [dead_letters[0], dead_letters[2]]
    assert answer.refused == {"m-1": "InternalError: try again"}


@pytest.mark.parametrize("operation", ["send_message_batch", "delete_message_batch", "change_message_visibility_batch"])
@pytest.mark.parametrize(("code", "status", "soon"), [("ServiceUnavailable", 503, True), ("AccessDenied", 403, False)])
def test_what_sqs_does_not_do_says_whether_it_is_worth_another_try(
    queues: dict[str, str],
    operation: str,
    code: str,
    status: int,
    soon: bool,  # noqa: FBT001 - pytest passes it so
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
    """As little to be caught as a SIGKILL, but for what `finally` does."""


@pytest.mark.parametrize("dies_at", range(1, 20))
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
    dying = SqsDeadLetterQueues(
        sqs, {"dead letters": queues["dead"], "undelivered": queues["undelivered"]}, queues["joins"], poll=0
    )
    with suppress(Killed):
        back_home(dying)

    back = [each["Body"] for each in all_of(queues["joins"])]
    backlog = client("sqs").get_queue_attributes(QueueUrl=queues["dead"], AttributeNames=["All"])["Attributes"]
    in_flight = int(backlog["ApproximateNumberOfMessagesNotVisible"])
    left = int(backlog["ApproximateNumberOfMessages"]) + in_flight
    assert len(back) == len(set(back)), "sent twice"
    assert 23 <= len(back) + left <= 23 + 10, "no more than one batch is in both queues"
    # What was received in the call that died is hidden for a while; everything else is given back.
    assert in_flight <= 10
