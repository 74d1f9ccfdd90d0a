"""The process is killed at any point, and SQS delivers the message again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, POLICIES, Killed, World, joined

#: The calls of one join: pseudonym, begin, read, intend, attach, attach, pseudonym, announce, record, settle.
CALLS = 10
AFTER_THE_LEASE = 60 + 10 + 1


def kill(world: World, call: int, when: str) -> None:
    """Kill the process before or after its n-th call to any port."""
    left = call

    def on_call(_name: str, now: str) -> None:
        nonlocal left
        if now == "before":
            left -= 1
        if left == 0 and now == when:
            raise Killed

    world.steps.on_call = on_call


def deliver_until_handled(world: World, *kills: tuple[int, str]) -> None:
    """Deliver the join once for each kill, then once without."""
    for receive, (call, when) in enumerate(kills, start=1):
        kill(world, call, when)
        try:
            world.handle(joined(), receives=receive)
        except Killed:
            world.clock.advance(AFTER_THE_LEASE)
    world.steps.on_call = lambda _name, _when: None
    world.handle(joined(), receives=len(kills) + 1)


def assert_enforced_and_recorded(world: World) -> None:
    outcome = world.ledger.outcome("event-1")
    assert outcome.status is OutcomeStatus.ENFORCED
    assert outcome.intents == {}
    assert outcome.evidence_key in world.archive.objects
    assert world.attached() == set(POLICIES)
    assert len(world.organizations.attached[ACCOUNT]) == 1 + len(POLICIES), "a policy is attached twice"
    claims = Counter(
        policy.policy_id
        for evidence in world.evidence()
        for policy in evidence.policies
        if policy.result is AttachmentResult.ATTACHED
    )
    assert claims == Counter(POLICIES), "each change is claimed once"


def test_the_tests_below_kill_every_call_of_a_join() -> None:
    world = World()
    world.handle(joined())
    assert len(world.steps.log) == CALLS


@pytest.mark.parametrize(("call", "when"), list(product(range(1, CALLS + 1), ("before", "after"))))
def test_the_next_delivery_repairs_a_kill_at_any_point(call: int, when: str) -> None:
    world = World()

    deliver_until_handled(world, (call, when))

    assert_enforced_and_recorded(world)


kills = st.lists(st.tuples(st.integers(1, CALLS + 4), st.sampled_from(["before", "after"])), max_size=4)


@settings(max_examples=150)
@given(kills)
def test_any_series_of_kills_is_repaired(kills: list[tuple[int, str]]) -> None:
    world = World()

    deliver_until_handled(world, *kills)

    assert_enforced_and_recorded(world)


FAULTS: dict[str, Callable[[], RetryableError | None]] = {
    "success": lambda: None,
    "time-out": lambda: RetryableError(fault("ReadTimeoutError", "no answer"), soon=True, ambiguous=True),
    "throttle": lambda: RetryableError(fault("TooManyRequestsException", "slow down")),
}

faults = st.lists(st.sampled_from(sorted(FAULTS)), max_size=6)


@settings(max_examples=200)
@given(faults, faults, kills, st.integers(20, 60))
def test_ambiguous_attachments_are_claimed_exactly_once(
    faults: list[str], reads: list[str], kills: list[tuple[int, str]], seconds: int
) -> None:
    """The fake raises a time-out after the effect, so that the next attempt finds our own attachment."""
    world = World()
    world.steps.fail("attach", *(FAULTS[name]() for name in faults))
    world.steps.fail("read", *(FAULTS[name]() for name in reads))

    deliver_until_handled(world, *kills)
    for receive in range(2, 30):
        world.clock.advance(AFTER_THE_LEASE)
        world.handle(joined(), receives=receive, seconds=seconds)

    assert_enforced_and_recorded(world)
