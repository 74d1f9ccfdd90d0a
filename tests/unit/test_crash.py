"""The process dies, anywhere, and the message is delivered again."""

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

#: The path of one join: pseudonym, begin, read, intend, attach, attach, pseudonym, announce, record, settle.
CALLS = 10
AFTER_THE_LEASE = 60 + 10 + 1


def kill(world: World, call: int, when: str) -> None:
    """Let the process die before or after its n-th call to anything."""
    left = call

    def at(_name: str, now: str) -> None:
        nonlocal left
        if now == "before":
            left -= 1
        if left == 0 and now == when:
            raise Killed

    world.steps.on_call = at


def live_and_die(world: World, *deaths: tuple[int, str]) -> None:
    """Deliver the join again and again: it dies so many times, then lives."""
    for receive, (call, when) in enumerate(deaths, start=1):
        kill(world, call, when)
        try:
            world.handle(joined(), receives=receive)
        except Killed:
            world.clock.advance(AFTER_THE_LEASE)
    world.steps.on_call = lambda _name, _when: None
    world.handle(joined(), receives=len(deaths) + 1)


def assert_all_is_well(world: World) -> None:
    outcome = world.ledger.outcome("event-1")
    assert outcome.status is OutcomeStatus.ENFORCED
    assert outcome.intents == {}
    assert outcome.evidence_key in world.archive.objects
    assert world.attached() == set(POLICIES)
    assert len(world.organizations.attached[ACCOUNT]) == 1 + len(POLICIES), "attached twice"
    ours = Counter(
        policy.policy_id
        for evidence in world.evidence()
        for policy in evidence.policies
        if policy.result is AttachmentResult.ATTACHED
    )
    assert ours == Counter(POLICIES), "each change is on record, once"


def test_the_path_has_as_many_calls_as_are_killed_here() -> None:
    world = World()
    world.handle(joined())
    assert len(world.steps.log) == CALLS


@pytest.mark.parametrize(("call", "when"), list(product(range(1, CALLS + 1), ("before", "after"))))
def test_a_death_anywhere_is_repaired_by_the_next_delivery(call: int, when: str) -> None:
    world = World()

    live_and_die(world, (call, when))

    assert_all_is_well(world)


deaths = st.lists(st.tuples(st.integers(1, CALLS + 4), st.sampled_from(["before", "after"])), max_size=4)


@settings(max_examples=150)
@given(deaths)
def test_any_row_of_deaths_is_repaired(deaths: list[tuple[int, str]]) -> None:
    world = World()

    live_and_die(world, *deaths)

    assert_all_is_well(world)


FAULTS: dict[str, Callable[[], RetryableError | None]] = {
    "through": lambda: None,
    "time-out": lambda: RetryableError(fault("ReadTimeoutError", "no answer"), soon=True, ambiguous=True),
    "throttle": lambda: RetryableError(fault("TooManyRequestsException", "slow down")),
}

faults = st.lists(st.sampled_from(sorted(FAULTS)), max_size=6)


@settings(max_examples=200)
@given(faults, faults, deaths, st.integers(20, 60))
def test_attachments_of_unclear_effect_are_claimed_exactly_once(
    faults: list[str], reads: list[str], deaths: list[tuple[int, str]], seconds: int
) -> None:
    """A time-out comes after the effect here: the next try finds the policy attached, by us."""
    world = World()
    world.steps.fail("attach", *(FAULTS[name]() for name in faults))
    world.steps.fail("read", *(FAULTS[name]() for name in reads))

    live_and_die(world, *deaths)
    for receive in range(2, 30):
        world.clock.advance(AFTER_THE_LEASE)
        world.handle(joined(), receives=receive, seconds=seconds)

    assert_all_is_well(world)
