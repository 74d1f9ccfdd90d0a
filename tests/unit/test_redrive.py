"""The redrive: each selected message is sent once or stays in its queue, and all others stay unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from handlers.core.redrive.dead_letter import DeadLetter, Receipt
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.core.redrive.selection import Filter, make_plan
from schemas.outcome import OutcomeStatus
from tests.fake_queues import FakeQueues, dead_letter, make_redrive, new_in_flight, outcome, run_redrive
from tests.fakes import NOON, Killed, joined

messages_ = st.lists(
    st.builds(
        dead_letter,
        st.integers(1, 400),
        code=st.sampled_from(["AccessDeniedException", "INVALID_EVENT", "PolicyNotFoundException"]),
        account=st.sampled_from(["222222222222", "333333333333"]),
        redrives=st.integers(0, 4),
        queue=st.sampled_from(["dead letters", "undelivered"]),
        body=st.one_of(st.just("{broken"), st.text(), st.just(json.dumps(joined()))),
    ),
    unique_by=lambda each: each.message_id,
    max_size=40,
)
filters = st.builds(
    Filter,
    codes=st.sets(st.sampled_from(["AccessDeniedException", "INVALID_EVENT"])),
    accounts=st.sets(st.sampled_from(["222222222222", "333333333333"])),
    ids=st.sets(st.sampled_from([f"m-{number}" for number in range(100, 120)])),
    older_than=st.none() | st.timedeltas(timedelta(0), timedelta(days=10)),
    limit=st.none() | st.integers(1, 50),
)


def lost_connection() -> RetryableError:
    return RetryableError(fault("SQS.ConnectionClosedError", "the connection was lost"), soon=True)


def redrive_selected(queues: FakeQueues, criteria: Filter, *, force: bool) -> None:
    """Select and redrive messages as the command does."""
    with new_in_flight(queues) as in_flight:
        plan = make_plan(
            in_flight.receive_all(), criteria, now=NOON, max_redrives=3, would_fail=lambda _: (), force=force
        )
        in_flight.release_all_but(plan.chosen)
        make_redrive(queues, in_flight, breaker=1000).run(plan.chosen, lambda _: None)


@settings(max_examples=300)
@given(messages_, filters, st.booleans(), st.none() | st.integers(1, 14), st.sets(st.integers(1, 14), max_size=3))
def test_selected_messages_are_sent_once_or_stay_and_the_others_are_unchanged(
    dead_letters: list[DeadLetter],
    criteria: Filter,
    force: bool,  # noqa: FBT001 - hypothesis passes it by position
    killed_at: int | None,
    lost_at: set[int],
) -> None:
    """The process may be killed and the connection be lost before or after any call."""
    queues, steps = FakeQueues(list(dead_letters)), 0

    def kill_or_lose_connection(step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise Killed
        if steps in lost_at and step != "before receiving":
            raise lost_connection()

    queues.on_step = kill_or_lose_connection
    killed = False
    try:
        redrive_selected(queues, criteria, force=force)
    except Killed:
        killed = True
    chosen = make_plan(dead_letters, criteria, now=NOON, max_redrives=3, would_fail=lambda _: (), force=force).chosen

    assert all(criteria.matches(each, NOON) for each in chosen)
    assert criteria.limit is None or len(chosen) <= criteria.limit
    assert force or all(each.redrives < 3 for each in chosen)
    left = {each.message_id: each for each in queues.messages}
    sent = [each.message_id for each in queues.joins]
    assert not queues.in_flight_ids & set(left), "messages stay in flight"
    assert_nothing_lost({each.message_id: each for each in chosen}, dead_letters, queues)
    if not lost_at:
        assert len(sent) == len(set(sent)), "a message was sent twice"
        assert len(set(sent) & set(left)) <= 10, "more than a batch is in both queues"
    if not killed:
        assert set(sent) == {each.message_id for each in chosen}
        assert not set(sent) & set(left)


def assert_nothing_lost(chosen: dict[str, DeadLetter], dead_letters: list[DeadLetter], queues: FakeQueues) -> None:
    """Assert that no message is lost, that the others are unchanged, and that sent messages differ in REDRIVES only."""
    left = {each.message_id: each for each in queues.messages}
    sent = {each.message_id for each in queues.joins}
    assert {each.message_id for each in dead_letters} <= set(left) | sent, "a message is lost"
    assert [each for each in dead_letters if each.message_id not in chosen] == [
        each for each in queues.messages if each.message_id not in chosen
    ]
    assert sent <= set(chosen)
    for each in queues.joins:
        before = chosen[each.message_id]
        counted = {"REDRIVES": {"DataType": "Number", "StringValue": str(before.redrives + 1)}}
        assert (each.body, each.attributes) == (before.body, dict(before.attributes) | counted)


@settings(max_examples=100)
@given(messages_, st.integers(1, 14))
def test_a_second_redrive_completes_one_that_was_killed(dead_letters: list[DeadLetter], killed_at: int) -> None:
    queues, steps = FakeQueues(list(dead_letters)), 0

    def kill(_step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise Killed

    queues.on_step = kill
    for _ in range(2):
        try:
            redrive_selected(queues, Filter(), force=True)
        except Killed:
            continue

    assert queues.messages == []
    assert {each.message_id for each in queues.joins} == {each.message_id for each in dead_letters}
    assert len(queues.joins) <= len(dead_letters) + 10


def test_a_redriven_message_keeps_its_attributes_and_counts_the_redrive() -> None:
    attributes = dead_letter(redrives=2).redriven().attributes

    assert attributes["REDRIVES"] == {"DataType": "Number", "StringValue": "3"}
    assert attributes["foreign"] == {"DataType": "Binary", "BinaryValue": b"\x00\x01"}
    assert attributes["ERROR_CODE"]["StringValue"] == "AccessDeniedException"


def test_a_message_without_room_for_the_redrive_count_is_left_out_even_with_force() -> None:
    """SQS accepts ten attributes and one MiB. Redrives that are not counted could repeat forever."""
    full = dead_letter(1, attributes={f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(10)})
    long = dead_letter(2, attributes={}, body="x" * 1_048_570)

    plan = make_plan([full, long], Filter(), now=NOON, max_redrives=3, would_fail=lambda _: (), force=True)

    assert plan.chosen == ()
    assert [problem.reason for _, [problem] in plan.left_out] == [Reason.TOO_LARGE, Reason.TOO_MANY_ATTRIBUTES]


@pytest.mark.parametrize("rate", [1.0, 100.0, None])
def test_the_redrive_stops_after_the_first_messages_if_they_fail_again(rate: float | None) -> None:
    queues = FakeQueues(
        [dead_letter(number) for number in range(1, 101)],
        fails_again=lambda _: True,
        handling_time=timedelta(seconds=20),
    )
    for each in queues.messages:
        queues.add_failure(each)

    redrive = run_redrive(queues, breaker=5, rate=rate)

    assert redrive.sent == 5
    assert redrive.stopped == Explanation(Reason.CAUSE_REMAINS, (5, "AccessDeniedException 5", 5))
    assert len(queues.messages) == 95
    assert queues.in_flight_ids == set()


def test_the_redrive_stops_after_the_first_messages_if_none_is_handled() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 101)], handling_time=timedelta(days=1))
    notices: list[Explanation] = []

    redrive = run_redrive(queues, breaker=5, rate=2.0, notify=notices.append)

    assert redrive.sent == 5
    assert redrive.stopped == Explanation(Reason.NOTHING_DECIDED, (5,))
    assert queues.clock.now() - NOON < timedelta(minutes=6)
    assert notices == [Explanation(Reason.FIRST_MESSAGES, (5,))]


def test_a_few_failures_do_not_stop_the_redrive() -> None:
    queues = FakeQueues(
        [dead_letter(number) for number in range(1, 41)], fails_again=lambda each: each.message_id in {"m-3", "m-30"}
    )
    with new_in_flight(queues) as in_flight:
        redrive = make_redrive(queues, in_flight, breaker=5, rate=1.0)
        redrive.run(list(in_flight.receive_all()), lambda _: None)
        redrive.wait_for_all(timedelta(seconds=30), lambda _: None)

    assert redrive.stopped is None
    assert redrive.results == {"sent": 40, "deleted": 40, "refused": 0, "enforced": 38, "failed": 2}
    assert redrive.final_results["m-3"] == "deleted, failed"


def test_a_failure_before_the_redrive_is_not_counted() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 21)], handling_time=timedelta(seconds=40))
    for each in queues.messages:
        queues.add_failure(each, attempts=3)

    redrive = run_redrive(queues, breaker=1, rate=10.0)

    assert redrive.stopped is None
    assert redrive.sent == 20


def test_a_running_attempt_is_not_a_failure() -> None:
    """`begin` leaves FAILED in the row; only the lease shows that a new attempt runs."""
    queues = FakeQueues([dead_letter()])
    [each] = queues.messages
    redrive = run_redrive(queues)
    key = each.outcome_key
    assert key
    running = outcome(key, OutcomeStatus.FAILED, attempts=1, lease_until=NOON + timedelta(minutes=1))
    queues.rows[key] = [(NOON, running)]

    redrive.wait_for_all(timedelta(seconds=5), lambda _: None)

    assert redrive.tracker.undecided == 1
    assert redrive.failed == 0


def test_messages_with_unreadable_bodies_are_counted_as_untracked() -> None:
    redrive = run_redrive(FakeQueues([dead_letter(1, body="{broken"), dead_letter(2)]))

    assert redrive.untracked == 1
    assert redrive.tracker.undecided == 1


def test_outcomes_are_read_a_hundred_at_a_time() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 1001)])

    redrive = run_redrive(queues, rate=None)
    before = queues.outcome_reads
    redrive.wait_for_all(timedelta(seconds=60), lambda _: None)

    assert before <= 16, "reading outcomes slows the redrive down"
    assert redrive.results["enforced"] == 1000


def test_a_message_that_sqs_refuses_stays_and_its_result_has_the_code() -> None:
    queues = FakeQueues([dead_letter(1), dead_letter(2)], refused_ids=["m-2"])

    redrive = run_redrive(queues)

    assert [each.message_id for each in queues.messages] == ["m-2"]
    assert redrive.results == {"sent": 1, "deleted": 1, "refused": 1}
    assert redrive.final_results["m-2"] == "refused: InternalError"
    assert "m-2" not in queues.in_flight_ids


def test_messages_whose_visibility_cannot_be_extended_are_not_sent() -> None:
    """SQS allows twelve hours in flight in all. After that, another process may have received the message."""
    queues = FakeQueues([dead_letter(number) for number in range(1, 701)], expired_ids=["m-700"])

    redrive = run_redrive(queues, rate=1.0, breaker=1000)

    assert redrive.final_results["m-700"] == "refused: NOT_IN_FLIGHT"
    assert "m-700" not in {each.message_id for each in queues.joins}
    assert redrive.sent == 699


def test_a_call_is_retried_after_a_lost_connection_but_not_forever() -> None:
    queues, minutes = FakeQueues([dead_letter()]), 0

    def lose_connection(step: str) -> None:
        if step == "before sending" and queues.clock.now() < NOON + timedelta(minutes=minutes):
            raise lost_connection()

    queues.on_step, minutes = lose_connection, 1
    run_redrive(queues)
    assert len(queues.joins) == 1

    queues.messages, minutes = [dead_letter()], 60
    with pytest.raises(RetryableError, match="lost"):
        run_redrive(queues)
    assert queues.in_flight_ids == set()


def test_an_interrupt_ends_the_redrive_without_waiting_for_a_lost_connection() -> None:
    class Offline(FakeQueues):
        def release(self, dead_letters: Sequence[Receipt]) -> None:
            assert dead_letters
            raise lost_connection()

    queues = Offline([dead_letter()])

    def interrupt(step: str) -> None:
        if step == "before sending":
            raise KeyboardInterrupt

    queues.on_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_redrive(queues)

    assert queues.clock.slept == []


def test_a_denied_call_is_not_retried() -> None:
    queues = FakeQueues([dead_letter()])

    def deny(step: str) -> None:
        if step != "before receiving":
            raise RetryableError(fault("SQS.AccessDenied", "no"))

    queues.on_step = deny
    with pytest.raises(RetryableError, match="AccessDenied"):
        run_redrive(queues)

    assert queues.clock.slept == []


def test_the_redrive_waits_until_few_live_joins_are_left() -> None:
    queues, notices = FakeQueues([dead_letter()], backlogs={"joins": [500, 200, 51, 50]}), list[Explanation]()

    run_redrive(queues, rate=10.0, notify=notices.append)

    assert queues.clock.slept[:3] == [2, 2, 2]
    assert len(queues.joins) == 1
    assert notices == [Explanation(Reason.OTHERS_FIRST, (50,))]


def test_the_redrive_stops_if_live_joins_never_become_few() -> None:
    queues = FakeQueues([dead_letter()], backlogs={"joins": [500] * 10_000})

    redrive = run_redrive(queues, rate=10.0)

    assert redrive.sent == 0
    assert redrive.stopped == Explanation(Reason.OTHERS_DELAYED)


def test_the_redrive_keeps_to_the_rate_and_extends_the_visibility_of_the_remaining_messages() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 701)])

    run_redrive(queues, rate=1.0)

    assert (queues.clock.now() - NOON).total_seconds() == pytest.approx(700, abs=3)
    # Once every five minutes, for the messages left at that time.
    assert queues.extended == pytest.approx(400 + 100, abs=8)
    assert len(queues.joins) == 700


def test_a_message_that_is_delivered_twice_is_deleted_by_its_later_receipt() -> None:
    """On a standard queue an older receipt deletes nothing, although SQS reports success."""
    used: list[str] = []

    class DeliversTwice(FakeQueues):
        def receive_all(self) -> Iterator[Sequence[DeadLetter]]:
            yield [dead_letter(1, receipt_handle="old"), dead_letter(2)]
            yield [dead_letter(1, receipt_handle="new")]

        def delete(self, dead_letters: Sequence[Receipt]) -> Sequence[Receipt]:
            used.extend(each.receipt_handle for each in dead_letters)
            return dead_letters

    queues = DeliversTwice([])
    with new_in_flight(queues) as in_flight:
        received = list(in_flight.receive_all())
        in_flight.delete(received)

    assert [each.message_id for each in received] == ["m-1", "m-2"]
    assert used == ["new", "r-2"]
