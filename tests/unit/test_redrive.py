"""Putting letters back: what was meant goes back exactly once or is still there, what was not meant is untouched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from handlers.core.redrive.dead_letter import DeadLetter, Receipt
from handlers.core.redrive.reasons import Explanation, Reason
from handlers.core.redrive.selection import Filter, make_plan
from schemas.outcome import OutcomeStatus
from tests.fake_queues import FakeQueues, Killed, dead_letter, engine, nothing_in_flight, outcome, run
from tests.fakes import NOON, joined

letters_ = st.lists(
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
    ids=st.sets(st.sampled_from([f"m-{number}" for number in range(1, 20)])),
    older_than=st.none() | st.timedeltas(timedelta(0), timedelta(days=10)),
    limit=st.none() | st.integers(1, 50),
)


def cut() -> RetryableError:
    return RetryableError(fault("SQS.ConnectionClosedError", "the connection was lost"), soon=True)


def back_home(queues: FakeQueues, wanted: Filter, *, force: bool) -> set[str]:
    """Do as the command does; return the ids of the letters that are meant."""
    chosen: set[str] = set()
    with nothing_in_flight(queues) as in_flight:
        plan = make_plan(
            in_flight.receive_all(), wanted, now=NOON, max_redrives=3, would_fail=lambda _: None, force=force
        )
        chosen = {each.message_id for each in plan.chosen}
        in_flight.release_all_but(plan.chosen)
        engine(queues, in_flight, breaker=1000).run(plan.chosen, lambda _: None)
    return chosen


@settings(max_examples=300)
@given(letters_, filters, st.booleans(), st.none() | st.integers(1, 14), st.sets(st.integers(1, 14), max_size=3))
def test_what_is_meant_goes_back_once_or_is_still_there_and_the_rest_is_untouched(
    dead_letters: list[DeadLetter],
    wanted: Filter,
    force: bool,  # noqa: FBT001 - hypothesis passes it so
    dies_at: int | None,
    cut_at: set[int],
) -> None:
    """The process may die before or after any call, and the connection be cut before or after any other."""
    queues, steps = FakeQueues(list(dead_letters)), 0

    def at(step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise Killed
        if steps in cut_at and step != "before receiving":
            raise cut()

    queues.at = at
    died = False
    try:
        back_home(queues, wanted, force=force)
    except Killed:
        died = True
    meant = make_plan(dead_letters, wanted, now=NOON, max_redrives=3, would_fail=lambda _: None, force=force).chosen

    assert all(wanted.matches(each, NOON) for each in meant)
    assert wanted.limit is None or len(meant) <= wanted.limit
    assert force or all(each.redrives < 3 for each in meant)
    lying = {each.message_id: each for each in queues.lying}
    sent = [each.message_id for each in queues.joins]
    assert not queues.in_hand & set(lying), "letters stay in hand"
    assert_kept({each.message_id: each for each in meant}, dead_letters, queues)
    if not cut_at:
        assert len(sent) == len(set(sent)), "a letter was sent twice"
        assert len(set(sent) & set(lying)) <= 10, "more than a batch is in both queues"
    if not died:
        assert set(sent) == {each.message_id for each in meant}
        assert not set(sent) & set(lying)


def assert_kept(chosen: dict[str, DeadLetter], dead_letters: list[DeadLetter], queues: FakeQueues) -> None:
    """Hold that nothing is lost, and that what is not meant, and what goes back, is as it was."""
    lying = {each.message_id: each for each in queues.lying}
    sent = {each.message_id for each in queues.joins}
    assert {each.message_id for each in dead_letters} <= set(lying) | sent, "a letter is lost"
    assert [each for each in dead_letters if each.message_id not in chosen] == [
        each for each in queues.lying if each.message_id not in chosen
    ]
    assert sent <= set(chosen)
    for each in queues.joins:
        was = chosen[each.message_id]
        counted = {"REDRIVES": {"DataType": "Number", "StringValue": str(was.redrives + 1)}}
        assert (each.body, each.attributes) == (was.body, dict(was.attributes) | counted)


@settings(max_examples=100)
@given(letters_, st.integers(1, 14))
def test_what_was_interrupted_is_finished_by_doing_it_again(dead_letters: list[DeadLetter], dies_at: int) -> None:
    queues, steps = FakeQueues(list(dead_letters)), 0

    def at(_step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise Killed

    queues.at = at
    for _ in range(2):
        try:
            back_home(queues, Filter(), force=True)
        except Killed:
            continue

    assert queues.lying == []
    assert {each.message_id for each in queues.joins} == {each.message_id for each in dead_letters}
    assert len(queues.joins) <= len(dead_letters) + 10


def test_all_attributes_go_back_and_the_redrive_is_counted() -> None:
    back = dead_letter(redrives=2).redriven().attributes

    assert back["REDRIVES"] == {"DataType": "Number", "StringValue": "3"}
    assert back["foreign"] == {"DataType": "Binary", "BinaryValue": b"\x00\x01"}
    assert back["ERROR_CODE"]["StringValue"] == "AccessDeniedException"


def test_a_letter_without_room_for_the_count_is_left_out_even_where_forced() -> None:
    """SQS takes ten attributes with a message and a MiB; a redrive that is not counted never ends."""
    full = dead_letter(1, attributes={f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(10)})
    long = dead_letter(2, attributes={}, body="x" * 1_048_570)

    plan = make_plan([full, long], Filter(), now=NOON, max_redrives=3, would_fail=lambda _: None, force=True)

    assert plan.chosen == ()
    assert [problem.reason for _, problem in plan.left_out] == [Reason.TOO_LARGE, Reason.TOO_MANY_ATTRIBUTES]


@pytest.mark.parametrize("rate", [1.0, 100.0, None])
def test_the_first_go_alone_and_when_they_come_back_dead_no_more_follow(rate: float | None) -> None:
    queues = FakeQueues(
        [dead_letter(number) for number in range(1, 101)], dies=lambda _: True, takes=timedelta(seconds=20)
    )
    for each in queues.lying:
        queues.failed_before(each)

    redriver = run(queues, breaker=5, rate=rate)

    assert redriver.sent == 5
    assert redriver.stopped == Explanation(Reason.CAUSE_REMAINS, (5, "AccessDeniedException 5", 5))
    assert len(queues.lying) == 95
    assert queues.in_hand == set()


def test_where_nobody_handles_the_first_no_more_follow() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 101)], takes=timedelta(days=1))
    notices: list[Explanation] = []

    redriver = run(queues, breaker=5, rate=2.0, notify=notices.append)

    assert redriver.sent == 5
    assert redriver.stopped == Explanation(Reason.NOTHING_DECIDED, (5,))
    assert queues.clock.now() - NOON < timedelta(minutes=6)
    assert notices == [Explanation(Reason.FIRST_MESSAGES, (5,))]


def test_one_that_dies_now_and_then_does_not_stop_the_others() -> None:
    queues = FakeQueues(
        [dead_letter(number) for number in range(1, 41)], dies=lambda each: each.message_id in {"m-3", "m-30"}
    )
    with nothing_in_flight(queues) as in_flight:
        redriver = engine(queues, in_flight, breaker=5, rate=1.0)
        redriver.run(list(in_flight.receive_all()), lambda _: None)
        redriver.wait_for_all(timedelta(seconds=30), lambda _: None)

    assert redriver.stopped is None
    assert redriver.results == {"sent": 40, "deleted": 40, "refused": 0, "enforced": 38, "failed": 2}
    assert redriver.final_results["m-3"] == "deleted, failed"


def test_a_failure_of_before_is_not_taken_for_one_of_now() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 21)], takes=timedelta(seconds=40))
    for each in queues.lying:
        queues.failed_before(each, attempts=3)

    redriver = run(queues, breaker=1, rate=10.0)

    assert redriver.stopped is None
    assert redriver.sent == 20


def test_an_attempt_that_still_runs_is_no_failure() -> None:
    """`begin` leaves FAILED in the row while the new attempt runs; only its lease tells."""
    queues = FakeQueues([dead_letter()])
    [each] = queues.lying
    redriver = run(queues)
    key = each.outcome_key
    assert key
    running = outcome(key, OutcomeStatus.FAILED, attempts=1, lease_until=NOON + timedelta(minutes=1))
    queues.rows[key] = [(NOON, running)]

    redriver.wait_for_all(timedelta(seconds=5), lambda _: None)

    assert redriver.tracker.undecided == 1
    assert redriver.failed == 0


def test_what_cannot_be_read_cannot_be_followed_and_is_counted() -> None:
    redriver = run(FakeQueues([dead_letter(1, body="{broken"), dead_letter(2)]))

    assert redriver.untracked == 1
    assert redriver.tracker.undecided == 1


def test_outcomes_are_asked_for_a_hundred_at_a_time() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 1001)])

    redriver = run(queues, rate=None)
    before = queues.asked
    redriver.wait_for_all(timedelta(seconds=60), lambda _: None)

    assert before <= 16, "as fast as SQS is not slowed down by looking"
    assert redriver.results["enforced"] == 1000


def test_what_sqs_refuses_stays_and_is_told() -> None:
    queues = FakeQueues([dead_letter(1), dead_letter(2)], refuses=["m-2"])

    redriver = run(queues)

    assert [each.message_id for each in queues.lying] == ["m-2"]
    assert redriver.results == {"sent": 1, "deleted": 1, "refused": 1}
    assert redriver.final_results["m-2"] == "refused: InternalError"
    assert "m-2" not in queues.in_hand


def test_what_sqs_does_not_let_be_held_is_not_sent() -> None:
    """Twelve hours in all: whoever has it in hand then may be at it too."""
    queues = FakeQueues([dead_letter(number) for number in range(1, 701)], lost=["m-700"])

    redriver = run(queues, rate=1.0, breaker=1000)

    assert redriver.final_results["m-700"] == "refused: NOT_IN_FLIGHT"
    assert "m-700" not in {each.message_id for each in queues.joins}
    assert redriver.sent == 699


def test_a_lost_connection_is_waited_for_and_in_the_end_given_up() -> None:
    queues, lost = FakeQueues([dead_letter()]), 0

    def at(step: str) -> None:
        nonlocal lost
        if step == "before sending" and queues.clock.now() < NOON + timedelta(minutes=lost):
            raise cut()

    queues.at, lost = at, 1
    run(queues)
    assert len(queues.joins) == 1

    queues.lying, lost = [dead_letter()], 60
    with pytest.raises(RetryableError, match="lost"):
        run(queues)
    assert queues.in_hand == set()


def test_who_is_interrupted_while_the_connection_is_lost_waits_no_more() -> None:
    class Offline(FakeQueues):
        def release(self, dead_letters: Sequence[Receipt]) -> None:
            assert dead_letters
            raise cut()

    queues = Offline([dead_letter()])

    def at(step: str) -> None:
        if step == "before sending":
            raise KeyboardInterrupt

    queues.at = at
    with pytest.raises(KeyboardInterrupt):
        run(queues)

    assert queues.clock.slept == []


def test_a_refusal_is_not_waited_for() -> None:
    queues = FakeQueues([dead_letter()])

    def at(step: str) -> None:
        if step != "before receiving":
            raise RetryableError(fault("SQS.AccessDenied", "no"))

    queues.at = at
    with pytest.raises(RetryableError, match="AccessDenied"):
        run(queues)

    assert queues.clock.slept == []


def test_live_joins_go_first() -> None:
    queues, notices = FakeQueues([dead_letter()], waits=[500, 200, 51, 50]), list[Explanation]()

    run(queues, rate=10.0, notify=notices.append)

    assert queues.clock.slept[:3] == [2, 2, 2]
    assert len(queues.joins) == 1
    assert notices == [Explanation(Reason.JOINS_FIRST, (50,))]


def test_live_joins_that_never_go_stop_it() -> None:
    queues = FakeQueues([dead_letter()], waits=[500] * 10_000)

    redriver = run(queues, rate=10.0)

    assert redriver.sent == 0
    assert redriver.stopped == Explanation(Reason.JOINS_DELAYED)


def test_it_keeps_to_the_rate_and_holds_on_to_what_is_left() -> None:
    queues = FakeQueues([dead_letter(number) for number in range(1, 701)])

    run(queues, rate=1.0)

    assert (queues.clock.now() - NOON).total_seconds() == pytest.approx(700, abs=3)
    # Every five minutes once, what is left then.
    assert queues.extended == pytest.approx(400 + 100, abs=8)
    assert len(queues.joins) == 700


def test_a_letter_that_is_handed_out_twice_is_one_and_its_later_receipt_counts() -> None:
    """On a standard queue an old receipt deletes nothing, and SQS says that it did."""
    queues = FakeQueues([])
    used: list[str] = []

    class Twice(FakeQueues):
        def receive_all(self) -> Iterator[Sequence[DeadLetter]]:
            yield [dead_letter(1, receipt_handle="old"), dead_letter(2)]
            yield [dead_letter(1, receipt_handle="new")]

        def delete(self, dead_letters: Sequence[Receipt]) -> Sequence[Receipt]:
            used.extend(each.receipt_handle for each in dead_letters)
            return dead_letters

    queues = Twice([])
    with nothing_in_flight(queues) as in_flight:
        found = list(in_flight.receive_all())
        in_flight.delete(found)

    assert [each.message_id for each in found] == ["m-1", "m-2"]
    assert used == ["new", "r-2"]


def test_a_letter_is_as_old_as_its_join_and_not_as_its_last_death() -> None:
    first = {"FIRST_SEEN": {"DataType": "String", "StringValue": (NOON - timedelta(days=9)).isoformat()}}
    each = dead_letter(1, attributes=first)

    assert Filter(older_than=timedelta(days=8)).matches(each, NOON)
    assert not Filter(newer_than=timedelta(days=8)).matches(each, NOON)


@pytest.mark.parametrize(
    ("event", "meant"), [("event-7", True), ("AcceptHandshake", True), ("CreateAccountResult", False)]
)
def test_an_event_is_meant_by_its_id_or_its_name(event: str, meant: bool) -> None:  # noqa: FBT001 - pytest passes it so
    assert Filter(events=[event]).matches(dead_letter(7), NOON) is meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [("11111111", True), ("11111111-2222", True), ("1111111", False), ("22222222", False), ("event-77", True)],
)
def test_eight_characters_of_an_id_will_do(name: str, meant: bool) -> None:  # noqa: FBT001 - pytest passes it so
    each = dead_letter(77, message_id="11111111-2222-3333")

    assert Filter(ids=[name]).matches(each, NOON) is meant
