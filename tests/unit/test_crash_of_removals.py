"""The process of the worker that removes policies is killed at any point, and SQS delivers the request again."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.joins.claims import attached_by_us
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, NOON, Killed
from tests.removals import BASE, EDGE, KEPT, REGIONS, TwoWorkers
from tests.unit.test_crash import AFTER_THE_LEASE, FAULTS, faults, kill

#: The calls of one removal: pseudonym, begin, read, tags, member, claims, limit, limit, intend, detach, detach,
#: pseudonym, announce, record, request evaluation, settle.
CALLS = 16


def retired() -> TwoWorkers:
    world = TwoWorkers()
    world.join()
    world.retire()
    world.steps.log.clear()
    return world


def deliver_until_handled(world: TwoWorkers, *kills: tuple[int, str]) -> None:
    """Deliver the request once for each kill, then once without."""
    for receive, (call, when) in enumerate(kills, start=1):
        kill(world, call, when)
        try:
            world.remove(receives=receive)
        except Killed:
            world.clock.advance(AFTER_THE_LEASE)
    world.steps.on_call = lambda _name, _when: None
    world.remove(receives=len(kills) + 1)


def assert_removed_and_recorded(world: TwoWorkers) -> None:
    outcome = world.ledger.outcome(world.request_id())
    assert outcome.status is OutcomeStatus.ENFORCED
    assert outcome.intents == {}
    assert outcome.evidence_key in world.archive.objects
    assert world.attached() == {BASE, KEPT}
    claims = Counter(
        policy.policy_id
        for evidence in world.evidence()
        for policy in evidence.policies
        if policy.result is AttachmentResult.REMOVED
    )
    assert claims == Counter((REGIONS, EDGE)), "each removal is claimed once"
    ours = attached_by_us(ACCOUNT, world.ledger.of(ACCOUNT), NOON, world.enforcer.dependencies.pseudonyms)
    assert ours == {BASE, KEPT}, "what was removed is not ours any more"
    assert world.evaluations.bodies, "the account is evaluated again"
    assert [len(each) for each in world.limit.counted.values()] == [2], "each removal counts once"


def test_the_tests_below_kill_every_call_of_a_removal() -> None:
    world = retired()
    world.remove()

    assert len(world.steps.log) == CALLS


@pytest.mark.parametrize(("call", "when"), list(product(range(1, CALLS + 1), ("before", "after"))))
def test_the_next_delivery_repairs_a_kill_at_any_point(call: int, when: str) -> None:
    world = retired()

    deliver_until_handled(world, (call, when))

    assert_removed_and_recorded(world)


kills = st.lists(st.tuples(st.integers(1, CALLS + 4), st.sampled_from(["before", "after"])), max_size=4)


@settings(max_examples=150)
@given(kills)
def test_any_series_of_kills_is_repaired(kills: list[tuple[int, str]]) -> None:
    world = retired()

    deliver_until_handled(world, *kills)

    assert_removed_and_recorded(world)


@settings(max_examples=200)
@given(faults, faults, kills, st.integers(20, 60))
def test_ambiguous_removals_are_claimed_exactly_once(
    faults: list[str], reads: list[str], kills: list[tuple[int, str]], seconds: int
) -> None:
    """The fake raises a time-out after the effect, so that the next attempt finds the policy removed by us."""
    world = retired()
    world.steps.fail("detach", *(FAULTS[name]() for name in faults))
    world.steps.fail("read", *(FAULTS[name]() for name in reads))

    deliver_until_handled(world, *kills)
    for receive in range(2, 30):
        world.clock.advance(AFTER_THE_LEASE)
        world.remove(receives=receive, seconds=seconds)

    assert_removed_and_recorded(world)
