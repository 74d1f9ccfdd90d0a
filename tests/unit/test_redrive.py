"""Putting letters back: what was meant goes back exactly once or is still there, what was not meant is untouched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from handlers.core.redrive.dead_letter import DeadLetter, Held
from handlers.core.redrive.selection import Filter, make_plan
from schemas.outcome import OutcomeStatus
from tests.desk import Desk, Killed, empty_hand, engine, letter, outcome, run
from tests.fakes import NOON, joined

letters_ = st.lists(
    st.builds(
        letter,
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


def back_home(desk: Desk, wanted: Filter, *, force: bool) -> set[str]:
    """Do as the command does; return the ids of the letters that are meant."""
    chosen: set[str] = set()
    with empty_hand(desk) as hand:
        plan = make_plan(hand.browse(), wanted, now=NOON, max_redrives=3, would_fail=lambda _: None, force=force)
        chosen = {each.message_id for each in plan.chosen}
        hand.release_all_but(plan.chosen)
        engine(desk, hand, breaker=1000).run(plan.chosen, lambda _: None)
    return chosen


@settings(max_examples=300)
@given(letters_, filters, st.booleans(), st.none() | st.integers(1, 14), st.sets(st.integers(1, 14), max_size=3))
def test_what_is_meant_goes_back_once_or_is_still_there_and_the_rest_is_untouched(
    letters: list[DeadLetter],
    wanted: Filter,
    force: bool,  # noqa: FBT001 - hypothesis passes it so
    dies_at: int | None,
    cut_at: set[int],
) -> None:
    """The process may die before or after any call, and the connection be cut before or after any other."""
    desk, steps = Desk(list(letters)), 0

    def at(step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise Killed
        if steps in cut_at and step != "before receiving":
            raise cut()

    desk.at = at
    died = False
    try:
        back_home(desk, wanted, force=force)
    except Killed:
        died = True
    meant = make_plan(letters, wanted, now=NOON, max_redrives=3, would_fail=lambda _: None, force=force).chosen

    assert all(wanted.matches(each, NOON) for each in meant)
    assert wanted.limit is None or len(meant) <= wanted.limit
    assert force or all(each.redrives < 3 for each in meant)
    lying = {each.message_id: each for each in desk.lying}
    sent = [each.message_id for each in desk.joins]
    assert not desk.in_hand & set(lying), "letters stay in hand"
    assert_kept({each.message_id: each for each in meant}, letters, desk)
    if not cut_at:
        assert len(sent) == len(set(sent)), "a letter was sent twice"
        assert len(set(sent) & set(lying)) <= 10, "more than a batch is in both queues"
    if not died:
        assert set(sent) == {each.message_id for each in meant}
        assert not set(sent) & set(lying)


def assert_kept(chosen: dict[str, DeadLetter], letters: list[DeadLetter], desk: Desk) -> None:
    """Hold that nothing is lost, and that what is not meant, and what goes back, is as it was."""
    lying = {each.message_id: each for each in desk.lying}
    sent = {each.message_id for each in desk.joins}
    assert {each.message_id for each in letters} <= set(lying) | sent, "a letter is lost"
    assert [each for each in letters if each.message_id not in chosen] == [
        each for each in desk.lying if each.message_id not in chosen
    ]
    assert sent <= set(chosen)
    for each in desk.joins:
        was = chosen[each.message_id]
        counted = {"REDRIVES": {"DataType": "Number", "StringValue": str(was.redrives + 1)}}
        assert (each.body, each.attributes) == (was.body, dict(was.attributes) | counted)


@settings(max_examples=100)
@given(letters_, st.integers(1, 14))
def test_what_was_interrupted_is_finished_by_doing_it_again(letters: list[DeadLetter], dies_at: int) -> None:
    desk, steps = Desk(list(letters)), 0

    def at(_step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise Killed

    desk.at = at
    for _ in range(2):
        try:
            back_home(desk, Filter(), force=True)
        except Killed:
            continue

    assert desk.lying == []
    assert {each.message_id for each in desk.joins} == {each.message_id for each in letters}
    assert len(desk.joins) <= len(letters) + 10


def test_all_attributes_go_back_and_the_redrive_is_counted() -> None:
    back = letter(redrives=2).redriven().attributes

    assert back["REDRIVES"] == {"DataType": "Number", "StringValue": "3"}
    assert back["foreign"] == {"DataType": "Binary", "BinaryValue": b"\x00\x01"}
    assert back["ERROR_CODE"]["StringValue"] == "AccessDeniedException"


def test_a_letter_without_room_for_the_count_is_left_out_even_where_forced() -> None:
    """SQS takes ten attributes with a message and a MiB; a redrive that is not counted never ends."""
    full = letter(1, attributes={f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(10)})
    long = letter(2, attributes={}, body="x" * 1_048_570)

    plan = make_plan([full, long], Filter(), now=NOON, max_redrives=3, would_fail=lambda _: None, force=True)

    assert plan.chosen == ()
    assert sorted(why.partition(",")[0] for _, why in plan.left_out) == [
        "it carries ten attributes",
        "it is as long as SQS allows",
    ]


@pytest.mark.parametrize("rate", [1.0, 100.0, None])
def test_the_first_go_alone_and_when_they_come_back_dead_no_more_follow(rate: float | None) -> None:
    desk = Desk([letter(number) for number in range(1, 101)], dies=lambda _: True, takes=timedelta(seconds=20))
    for each in desk.lying:
        desk.failed_before(each)

    redriver = run(desk, breaker=5, rate=rate)

    assert redriver.sent == 5
    assert "5 letters came back dead (AccessDeniedException 5) of 5" in redriver.stopped
    assert len(desk.lying) == 95
    assert desk.in_hand == set()


def test_where_nobody_handles_the_first_no_more_follow() -> None:
    desk = Desk([letter(number) for number in range(1, 101)], takes=timedelta(days=1))
    told: list[str] = []

    redriver = run(desk, breaker=5, rate=2.0, tell=told.append)

    assert redriver.sent == 5
    assert "is the worker on?" in redriver.stopped
    assert desk.clock.now() - NOON < timedelta(minutes=6)
    assert told == ["waiting for what becomes of the first 5"]


def test_one_that_dies_now_and_then_does_not_stop_the_others() -> None:
    desk = Desk([letter(number) for number in range(1, 41)], dies=lambda each: each.message_id in {"m-3", "m-30"})
    with empty_hand(desk) as hand:
        redriver = engine(desk, hand, breaker=5, rate=1.0)
        redriver.run(list(hand.browse()), lambda _: None)
        redriver.await_all(timedelta(seconds=30), lambda _: None)

    assert redriver.stopped == ""
    assert redriver.results == {"sent": 40, "deleted": 40, "refused": 0, "enforced": 38, "failed": 2}
    assert redriver.fates["m-3"] == "deleted, failed"


def test_a_failure_of_before_is_not_taken_for_one_of_now() -> None:
    desk = Desk([letter(number) for number in range(1, 21)], takes=timedelta(seconds=40))
    for each in desk.lying:
        desk.failed_before(each, attempts=3)

    redriver = run(desk, breaker=1, rate=10.0)

    assert redriver.stopped == ""
    assert redriver.sent == 20


def test_an_attempt_that_still_runs_is_no_failure() -> None:
    """`begin` leaves FAILED in the row while the new attempt runs; only its lease tells."""
    desk = Desk([letter()])
    [each] = desk.lying
    redriver = run(desk)
    key = each.outcome_key
    assert key
    running = outcome(key, OutcomeStatus.FAILED, attempts=1, lease_until=NOON + timedelta(minutes=1))
    desk.rows[key] = [(NOON, running)]

    redriver.await_all(timedelta(seconds=5), lambda _: None)

    assert redriver.following.undecided == 1
    assert redriver.dead == 0


def test_what_cannot_be_read_cannot_be_followed_and_is_counted() -> None:
    redriver = run(Desk([letter(1, body="{broken"), letter(2)]))

    assert redriver.unfollowed == 1
    assert redriver.following.undecided == 1


def test_outcomes_are_asked_for_a_hundred_at_a_time() -> None:
    desk = Desk([letter(number) for number in range(1, 1001)])

    redriver = run(desk, rate=None)
    before = desk.asked
    redriver.await_all(timedelta(seconds=60), lambda _: None)

    assert before <= 16, "as fast as SQS is not slowed down by looking"
    assert redriver.results["enforced"] == 1000


def test_what_sqs_refuses_stays_and_is_told() -> None:
    desk = Desk([letter(1), letter(2)], refuses=["m-2"])

    redriver = run(desk)

    assert [each.message_id for each in desk.lying] == ["m-2"]
    assert redriver.results == {"sent": 1, "deleted": 1, "refused": 1}
    assert redriver.fates["m-2"] == "refused: InternalError"
    assert "m-2" not in desk.in_hand


def test_what_sqs_does_not_let_be_held_is_not_sent() -> None:
    """Twelve hours in all: whoever has it in hand then may be at it too."""
    desk = Desk([letter(number) for number in range(1, 701)], lost=["m-700"])

    redriver = run(desk, rate=1.0, breaker=1000)

    assert redriver.fates["m-700"] == "refused: no longer in hand"
    assert "m-700" not in {each.message_id for each in desk.joins}
    assert redriver.sent == 699


def test_a_lost_connection_is_waited_for_and_in_the_end_given_up() -> None:
    desk, lost = Desk([letter()]), 0

    def at(step: str) -> None:
        nonlocal lost
        if step == "before sending" and desk.clock.now() < NOON + timedelta(minutes=lost):
            raise cut()

    desk.at, lost = at, 1
    run(desk)
    assert len(desk.joins) == 1

    desk.lying, lost = [letter()], 60
    with pytest.raises(RetryableError, match="lost"):
        run(desk)
    assert desk.in_hand == set()


def test_who_is_interrupted_while_the_connection_is_lost_waits_no_more() -> None:
    class Offline(Desk):
        def release(self, letters: Sequence[Held]) -> None:
            assert letters
            raise cut()

    desk = Offline([letter()])

    def at(step: str) -> None:
        if step == "before sending":
            raise KeyboardInterrupt

    desk.at = at
    with pytest.raises(KeyboardInterrupt):
        run(desk)

    assert desk.clock.slept == []


def test_a_refusal_is_not_waited_for() -> None:
    desk = Desk([letter()])

    def at(step: str) -> None:
        if step != "before receiving":
            raise RetryableError(fault("SQS.AccessDenied", "no"))

    desk.at = at
    with pytest.raises(RetryableError, match="AccessDenied"):
        run(desk)

    assert desk.clock.slept == []


def test_live_joins_go_first() -> None:
    desk, told = Desk([letter()], waits=[500, 200, 51, 50]), list[str]()

    run(desk, rate=10.0, tell=told.append)

    assert desk.clock.slept[:3] == [2, 2, 2]
    assert len(desk.joins) == 1
    assert told == ["more than 50 joins wait, and they go first"]


def test_live_joins_that_never_go_stop_it() -> None:
    desk = Desk([letter()], waits=[500] * 10_000)

    redriver = run(desk, rate=10.0)

    assert redriver.sent == 0
    assert "is the worker on?" in redriver.stopped


def test_it_keeps_to_the_rate_and_holds_on_to_what_is_left() -> None:
    desk = Desk([letter(number) for number in range(1, 701)])

    run(desk, rate=1.0)

    assert (desk.clock.now() - NOON).total_seconds() == pytest.approx(700, abs=3)
    # Every five minutes once, what is left then.
    assert desk.held == pytest.approx(400 + 100, abs=8)
    assert len(desk.joins) == 700


def test_a_letter_that_is_handed_out_twice_is_one_and_its_later_receipt_counts() -> None:
    """On a standard queue an old receipt deletes nothing, and SQS says that it did."""
    desk = Desk([])
    used: list[str] = []

    class Twice(Desk):
        def browse(self) -> Iterator[Sequence[DeadLetter]]:
            yield [letter(1, receipt="old"), letter(2)]
            yield [letter(1, receipt="new")]

        def delete(self, letters: Sequence[Held]) -> Sequence[Held]:
            used.extend(each.receipt for each in letters)
            return letters

    desk = Twice([])
    with empty_hand(desk) as hand:
        found = list(hand.browse())
        hand.delete(found)

    assert [each.message_id for each in found] == ["m-1", "m-2"]
    assert used == ["new", "r-2"]


def test_a_letter_is_as_old_as_its_join_and_not_as_its_last_death() -> None:
    first = {"FIRST_SEEN": {"DataType": "String", "StringValue": (NOON - timedelta(days=9)).isoformat()}}
    each = letter(1, attributes=first)

    assert Filter(older_than=timedelta(days=8)).matches(each, NOON)
    assert not Filter(newer_than=timedelta(days=8)).matches(each, NOON)


@pytest.mark.parametrize(
    ("event", "meant"), [("event-7", True), ("AcceptHandshake", True), ("CreateAccountResult", False)]
)
def test_an_event_is_meant_by_its_id_or_its_name(event: str, meant: bool) -> None:  # noqa: FBT001 - pytest passes it so
    assert Filter(events=[event]).matches(letter(7), NOON) is meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [("11111111", True), ("11111111-2222", True), ("1111111", False), ("22222222", False), ("event-77", True)],
)
def test_eight_characters_of_an_id_will_do(name: str, meant: bool) -> None:  # noqa: FBT001 - pytest passes it so
    each = letter(77, message_id="11111111-2222-3333")

    assert Filter(ids=[name]).matches(each, NOON) is meant
