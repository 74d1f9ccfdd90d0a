"""Putting letters back: what was meant goes back exactly once or is still there, what was not meant is untouched."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from handlers.core.hand import Hand
from handlers.core.letters import DeadLetter
from handlers.core.redrive import Filter, make_plan
from schemas.outcome import OutcomeStatus
from tests.desk import Desk, Killed, engine, letter, outcome
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
    with Hand(desk, desk.clock) as hand:
        plan = make_plan(hand.browse(), wanted, now=NOON, max_redrives=3, would_fail=lambda _: None, force=force)
        chosen = {each.message_id for each in plan.chosen}
        hand.release_all_but(plan.chosen)
        engine(desk, hand).run(plan.chosen, lambda _: None)
    return chosen


@settings(deadline=None, max_examples=300)
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


@settings(deadline=None, max_examples=100)
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
    """SQS takes ten attributes with a message, and a redrive that is not counted never ends."""
    full = letter(attributes={f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(10)})

    plan = make_plan([full], Filter(), now=NOON, max_redrives=3, would_fail=lambda _: None, force=True)

    assert plan.chosen == ()
    assert "ten attributes" in plan.left_out[0][1]


def test_the_first_go_alone_and_when_they_come_back_dead_no_more_follow() -> None:
    desk = Desk([letter(number) for number in range(1, 101)], dies=lambda _: True, takes=timedelta(seconds=20))
    for each in desk.lying:
        desk.failed_before(each)
    with Hand(desk, desk.clock) as hand:
        redriver = engine(desk, hand, breaker=5, rate=1.0)
        redriver.run(list(hand.browse()), lambda _: None)

    assert redriver.sent == 5
    assert "5 letters came back dead (AccessDeniedException 5) after 5 were sent" in redriver.stopped
    assert len(desk.lying) == 95
    assert desk.in_hand & {each.message_id for each in desk.lying} == set()


def test_one_that_dies_now_and_then_does_not_stop_the_others() -> None:
    desk = Desk([letter(number) for number in range(1, 41)], dies=lambda each: each.message_id in {"m-3", "m-30"})
    with Hand(desk, desk.clock) as hand:
        redriver = engine(desk, hand, breaker=5, rate=1.0)
        redriver.run(list(hand.browse()), lambda _: None)
        redriver.await_all(timedelta(seconds=30), lambda _: None)

    assert redriver.stopped == ""
    assert redriver.results == {"sent": 40, "deleted": 40, "refused": 0, "enforced": 38, "failed": 2}
    assert redriver.fates["m-3"] == "failed"


def test_a_failure_of_before_is_not_taken_for_one_of_now() -> None:
    desk = Desk([letter(number) for number in range(1, 21)], takes=timedelta(hours=1))
    for each in desk.lying:
        desk.failed_before(each, attempts=3)

    redriver = engine(desk, breaker=1, rate=10.0)
    redriver.run(desk.lying, lambda _: None)

    assert redriver.stopped == ""
    assert redriver.sent == 20


def test_an_attempt_that_still_runs_is_no_failure() -> None:
    """`begin` leaves FAILED in the row while the new attempt runs; only its lease tells."""
    [each] = desk_letters = [letter()]
    desk = Desk(list(desk_letters))
    redriver = engine(desk, rate=None)
    redriver.run(desk_letters, lambda _: None)
    key = each.outcome_key
    assert key
    running = outcome(key, OutcomeStatus.FAILED, attempts=1, lease_until=NOON + timedelta(minutes=1))
    desk.rows[key] = [(NOON, running)]

    redriver.await_all(timedelta(seconds=5), lambda _: None)

    assert redriver.following.undecided == 1
    assert redriver.dead == 0


def test_outcomes_are_asked_for_a_hundred_at_a_time() -> None:
    desk = Desk([letter(number) for number in range(1, 1001)])

    redriver = engine(desk, rate=None)
    redriver.run(desk.lying, lambda _: None)
    before = desk.asked
    redriver.await_all(timedelta(seconds=60), lambda _: None)

    assert before <= 12, "as fast as SQS is not slowed down by looking"
    assert redriver.results["enforced"] == 1000


def test_what_sqs_refuses_stays_and_is_told() -> None:
    desk = Desk([letter(1), letter(2)], refuses=["m-2"])
    with Hand(desk, desk.clock) as hand:
        redriver = engine(desk, hand)
        redriver.run(list(hand.browse()), lambda _: None)

    assert [each.message_id for each in desk.lying] == ["m-2"]
    assert redriver.results == {"sent": 1, "deleted": 1, "refused": 1}
    assert redriver.fates["m-2"] == "refused: InternalError"
    assert "m-2" not in desk.in_hand


def test_a_lost_connection_is_waited_for_and_in_the_end_given_up() -> None:
    desk, lost = Desk([letter()]), 0

    def at(step: str) -> None:
        nonlocal lost
        if step == "before sending" and desk.clock.now() < NOON + timedelta(minutes=lost):
            raise cut()

    desk.at, lost = at, 1
    engine(desk).run(desk.lying, lambda _: None)
    assert len(desk.joins) == 1

    desk.lying, lost = [letter()], 60
    with pytest.raises(RetryableError, match="lost"):
        engine(desk).run(desk.lying, lambda _: None)


def test_a_refusal_is_not_waited_for() -> None:
    desk = Desk([letter()])

    def at(_step: str) -> None:
        raise RetryableError(fault("SQS.AccessDenied", "no"))

    desk.at = at
    with pytest.raises(RetryableError, match="AccessDenied"):
        engine(desk).run(desk.lying, lambda _: None)

    assert desk.clock.slept == []


def test_live_joins_go_first() -> None:
    desk = Desk([letter()], waits=[500, 200, 51, 50])

    engine(desk, rate=10.0).run(desk.lying, lambda _: None)

    assert desk.clock.slept[:3] == [2, 2, 2]
    assert len(desk.joins) == 1


def test_it_keeps_to_the_rate_and_holds_on_to_what_is_left() -> None:
    desk = Desk([letter(number) for number in range(1, 701)])
    with Hand(desk, desk.clock) as hand:
        engine(desk, hand, rate=1.0).run(list(hand.browse()), lambda _: None)

    assert (desk.clock.now() - NOON).total_seconds() == pytest.approx(700, abs=2)
    # Every five minutes once, what is left then.
    assert desk.held == pytest.approx(400 + 100, abs=5)
    assert len(desk.joins) == 700


@pytest.mark.parametrize(
    ("name", "meant"),
    [("11111111", True), ("11111111-2222", True), ("1111111", False), ("22222222", False), ("event-77", True)],
)
def test_eight_characters_of_an_id_will_do(name: str, meant: bool) -> None:  # noqa: FBT001 - pytest passes it so
    each = letter(77, message_id="11111111-2222-3333")

    assert Filter(ids=[name]).matches(each, NOON) is meant
