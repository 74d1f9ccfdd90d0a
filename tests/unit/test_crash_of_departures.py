"""The process that closes the record of an account is killed at any point, and SQS delivers the event again."""

from __future__ import annotations

from contextlib import suppress
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from schemas.outcome import OutcomeStatus
from tests.fakes import ACCOUNT, Killed, World, joined
from tests.unit.test_crash import AFTER_THE_LEASE, kill
from tests.unit.test_departures import BACK, JOINED, come_back, departed, failed_join, leave

#: The calls of one departure with two open outcomes: pseudonym, begin, member, close, close, pseudonym, record, settle.
CALLS = 8
CLOSED, FAILED = OutcomeStatus.CLOSED, OutcomeStatus.FAILED


def left_behind(*, is_back: bool = False) -> World:
    """Return a world in which an account left two open outcomes, and perhaps came back and has another."""
    world = World()
    failed_join(world)
    failed_join(world, event_id="event-2", age=JOINED - 60)
    leave(world)
    if is_back:
        come_back(world)
        failed_join(world, event_id="event-3", age=BACK)
    world.steps.log.clear()
    return world


def deliver_until_handled(world: World, *kills: tuple[int, str]) -> None:
    """Deliver the departure once for each kill, then once without."""
    for receive, (call, when) in enumerate(kills, start=1):
        kill(world, call, when)
        try:
            world.handle(departed(), receives=receive)
        except Killed:
            world.clock.advance(AFTER_THE_LEASE)
    world.steps.on_call = lambda _name, _when: None
    world.handle(departed(), receives=len(kills) + 1)


def assert_closed_and_recorded(world: World) -> None:
    outcome = world.ledger.outcome("departure-1")
    assert outcome.status is CLOSED
    assert outcome.evidence_key in world.archive.objects
    assert world.archive.objects[outcome.evidence_key or ""].status is CLOSED
    assert world.ledger.outcome("event-1").status is world.ledger.outcome("event-2").status is CLOSED
    later = world.ledger.rows.get((ACCOUNT, "event-3"))
    assert later is None or later["status"] is FAILED, "nothing of the later membership is closed"


def test_the_tests_below_kill_every_call_of_a_departure() -> None:
    world = left_behind()
    world.handle(departed())

    assert len(world.steps.log) == CALLS


@pytest.mark.parametrize("is_back", [False, True])
@pytest.mark.parametrize(("call", "when"), list(product(range(1, CALLS + 1), ("before", "after"))))
def test_the_next_delivery_repairs_a_kill_at_any_point(call: int, when: str, *, is_back: bool) -> None:
    world = left_behind(is_back=is_back)

    deliver_until_handled(world, (call, when))

    assert_closed_and_recorded(world)


kills = st.lists(st.tuples(st.integers(1, CALLS), st.sampled_from(["before", "after"])), max_size=4)


@settings(max_examples=150)
@given(kills, st.booleans())
def test_any_series_of_kills_is_repaired(kills: list[tuple[int, str]], is_back: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
    world = left_behind(is_back=is_back)

    deliver_until_handled(world, *kills)

    assert_closed_and_recorded(world)


@settings(max_examples=300)
@given(
    kills,
    kills,
    st.lists(st.sampled_from(["join", "departure"]), min_size=1, max_size=6),
    st.lists(st.booleans(), max_size=4),
)
def test_a_join_and_a_departure_in_any_order_end_as_closed(
    kills_of_join: list[tuple[int, str]],
    kills_of_departure: list[tuple[int, str]],
    order: list[str],
    outages: list[bool],
) -> None:
    """The account joined and left. Both events come in any order and repeatedly, and processes die."""
    world = World()
    leave(world)
    world.steps.fail(
        "member", *(RetryableError(fault("ServiceException", "down")) if each else None for each in outages)
    )
    events = {"join": joined(age=JOINED), "departure": departed()}
    left = {"join": list(kills_of_join), "departure": list(kills_of_departure)}

    def deliver(name: str, receive: int) -> None:
        if left[name]:
            kill(world, *left[name].pop())
        with suppress(Killed):
            world.handle(events[name], receives=receive)
        world.steps.on_call = lambda _name, _when: None
        world.clock.advance(AFTER_THE_LEASE)

    for receive, name in enumerate(order, start=1):
        deliver(name, receive)
    left = {"join": [], "departure": []}
    # Each is delivered until SQS has no reason to deliver it again.
    for receive in range(7, 13):
        for name in ("departure", "join"):
            deliver(name, receive)

    assert world.ledger.outcome("departure-1").status is CLOSED
    assert world.ledger.outcome("event-1").status is CLOSED
