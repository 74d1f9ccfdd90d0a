"""Outcomes and evidence agree with what happened, despite planted objects, lost answers and killed processes."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from handlers.core.errors import AccountNotFoundError, PermanentError, RetryableError, fault
from handlers.core.joins.worker import Handled
from schemas.evidence import Evidence
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, POLICIES, Killed, World, joined

OTHER = "333333333333"
AFTER_THE_LEASE = 60 + 10 + 1
ATTACHED, UNKNOWN = AttachmentResult.ATTACHED, AttachmentResult.UNKNOWN


def no_answer() -> RetryableError:
    """Return the error of a call that took effect although its answer was lost."""
    return RetryableError(fault("ReadTimeoutError", "no answer"), ambiguous=True)


def denied() -> PermanentError:
    return PermanentError(fault("AccessDeniedException", "not allowed"))


def kill(world: World, step: str, *, when: str = "before") -> None:
    """Kill the process before or after the next call of this name."""

    def on_call(name: str, now: str) -> None:
        if (name, now) == (step, when):
            world.steps.on_call = lambda _name, _when: None
            raise Killed

    world.steps.on_call = on_call


def deliver_again(world: World, event: dict[str, Any] | None = None) -> Handled:
    world.clock.advance(AFTER_THE_LEASE)
    return world.handle(event or joined(), receives=2)


def results(evidence: Evidence) -> dict[str, AttachmentResult]:
    return {policy.policy_id: policy.result for policy in evidence.policies}


def claims(world: World) -> list[str]:
    """Return the policies that the evidence claims as attached by us."""
    return sorted(policy for each in world.evidence() for policy, result in results(each).items() if result is ATTACHED)


def test_events_of_two_accounts_with_one_event_id_each_have_evidence() -> None:
    world = World()
    world.organizations.attached[OTHER] = []

    first, second = world.handle(joined()), world.handle(joined(OTHER))

    assert first.evidence_key != second.evidence_key
    evidence = world.evidence()
    assert {each.account.value for each in evidence if each.account} == {first.account, second.account}
    assert [results(each) for each in evidence] == [dict.fromkeys(POLICIES, ATTACHED)] * 2
    assert not first.conflicts
    assert not second.conflicts


def test_an_ignored_event_does_not_replace_a_join_with_the_same_id() -> None:
    world = World()

    ignored = world.handle(joined(action="ENABLE_ALL_FEATURES"))
    enforced = world.handle(joined())

    assert (ignored.status, enforced.status) == (OutcomeStatus.IGNORED, OutcomeStatus.ENFORCED)
    assert [each.status for each in world.evidence()] == [OutcomeStatus.ENFORCED, OutcomeStatus.IGNORED]


def plant(world: World, body: bytes) -> str:
    """Write another object under the key that the first attempt will use; return the key."""
    other = World()
    key = other.handle(joined()).evidence_key
    assert key
    world.archive.bodies[key] = body
    return key


FOREIGN = {
    "garbage": b"\x00\xff",
    "an empty object": b"",
    "evidence of another account": json.dumps({"attempt": 1}).encode(),
}


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN)
def test_an_object_under_the_evidence_key_is_reported_and_the_evidence_is_written_beside_it(body: bytes) -> None:
    world = World()
    key = plant(world, body)

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert handled.conflicts == (key,)
    assert world.archive.bodies[key] == body
    outcome = world.ledger.outcome("event-1")
    assert outcome.evidence_key == handled.evidence_key != key
    assert handled.evidence_key
    assert handled.evidence_key.startswith(key.removesuffix(".json"))
    assert outcome.evidence_sha256 == sha256(world.archive.bodies[handled.evidence_key]).hexdigest()
    assert claims(world) == sorted(POLICIES)


def test_a_join_is_tried_again_if_the_key_beside_the_evidences_key_is_taken_too() -> None:
    event, other, world = joined(), World(), World()
    for each in (other, world):
        plant(each, b"x")
    beside = other.handle(event).evidence_key
    assert beside
    world.archive.bodies[beside] = b"y"

    handled = world.handle(event)

    assert (handled.status, handled.fault and handled.fault.code) == (OutcomeStatus.RETRYING, "EVIDENCE_CONFLICT")
    assert world.evidence() == []
    assert world.ledger.outcome("event-1").intents, "the intent is lost"
    del world.archive.bodies[beside]
    assert deliver_again(world).status is OutcomeStatus.ENFORCED
    assert claims(world) == sorted(POLICIES)


def test_a_copy_of_another_runs_evidence_is_a_conflict() -> None:
    """It differs from our evidence in its time only."""
    other = World()
    other.clock.advance(1)
    copied = other.handle(joined()).evidence_key
    assert copied
    world = World()
    world.archive.bodies[copied] = other.archive.bodies[copied]

    assert world.handle(joined()).conflicts == (copied,)


def test_an_announced_object_that_was_never_written_does_not_hide_a_conflict() -> None:
    world = World()
    plant(world, b"x")
    kill(world, "record")
    with pytest.raises(Killed):
        world.handle(joined())
    [announced] = world.ledger.outcome("event-1").announced[1]

    handled = deliver_again(world)

    assert handled.status is OutcomeStatus.ENFORCED
    assert len(handled.conflicts) == 1
    assert announced not in {sha256(body).hexdigest() for body in world.archive.bodies.values()}
    assert claims(world) == sorted(POLICIES)


def test_an_outcome_has_the_digest_of_its_evidence() -> None:
    world = World()

    key = world.handle(joined()).evidence_key

    assert key
    assert world.ledger.outcome("event-1").evidence_sha256 == sha256(world.archive.bodies[key]).hexdigest()


@pytest.mark.parametrize("step", ["announce", "record", "settle"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_before_the_outcome_causes_no_conflict(step: str, when: str) -> None:
    world = World()
    kill(world, step, when=when)
    with pytest.raises(Killed):
        world.handle(joined())

    handled = deliver_again(world)

    assert handled.status is OutcomeStatus.ENFORCED
    assert not handled.conflicts
    assert claims(world) == sorted(POLICIES)


def test_a_policy_stays_ambiguous_if_time_runs_out_before_the_retry() -> None:
    """The pace leaves no turn for the retry, so that time runs out while the attachment is ambiguous."""

    class CrowdedPace:
        turns = 0

        def reserve(self, now: datetime) -> datetime:
            self.turns += 1
            return now if self.turns == 1 else now + timedelta(hours=1)

    world = World(policies=POLICIES[:1], pace=CrowdedPace())
    world.steps.fail("attach", RetryableError(fault("ReadTimeoutError", "no answer"), soon=True, ambiguous=True))

    handled = world.handle(joined())

    assert handled.fault
    assert handled.fault.code == "OUT_OF_TIME"
    assert world.ledger.outcome("event-1").unclear == POLICIES[:1]
    assert [results(each) for each in world.evidence()] == [{POLICIES[0]: UNKNOWN}]
    assert deliver_again(world).status is OutcomeStatus.ENFORCED
    assert claims(world) == [POLICIES[0]]


def test_a_policy_stays_ambiguous_after_a_later_permanent_error() -> None:
    world = World()
    world.steps.fail("attach", RetryableError(fault("ReadTimeoutError", "x"), soon=True, ambiguous=True), denied())

    failed = world.handle(joined())

    assert failed.status is OutcomeStatus.FAILED
    assert [results(each) for each in world.evidence()] == [{POLICIES[0]: UNKNOWN, POLICIES[1]: ATTACHED}]
    assert world.ledger.outcome("event-1").unclear == (POLICIES[0],)
    redriven = deliver_again(world)
    assert redriven.status is OutcomeStatus.ENFORCED
    assert claims(world) == sorted(POLICIES)


def test_a_policy_that_is_no_longer_required_keeps_its_claim() -> None:
    world = World()
    world.steps.fail("attach", no_answer(), denied())
    world.handle(joined())

    world.deploy(policies=POLICIES[1:])
    handled = deliver_again(world)

    assert handled.status is OutcomeStatus.ENFORCED
    assert claims(world) == sorted(POLICIES)


@pytest.mark.parametrize(
    "error", [denied(), AccountNotFoundError(fault("TargetNotFoundException", "gone"))], ids=["denied", "gone"]
)
def test_a_killed_attempt_has_evidence_even_if_the_account_cannot_be_read_any_more(error: PermanentError) -> None:
    world = World()
    kill(world, "attach", when="after")
    with pytest.raises(Killed):
        world.handle(joined())
    world.clock.advance(3600)
    world.steps.fail("read", error)

    failed = world.handle(joined(), receives=2)

    assert failed.status is OutcomeStatus.FAILED
    interrupted, last = world.evidence()
    assert (interrupted.course, results(interrupted)) == ("interrupted", dict.fromkeys(POLICIES, UNKNOWN))
    assert (last.status, last.course) == (OutcomeStatus.FAILED, "completed")
    assert deliver_again(world).status is OutcomeStatus.ENFORCED
    assert claims(world) == sorted(POLICIES), "the next attempt claims the attached policies"


def test_policies_of_a_killed_attempt_that_are_not_attached_are_unknown_and_not_failed() -> None:
    """Another principal may have detached them before the next attempt read them."""
    world = World()
    kill(world, "attach", when="after")
    with pytest.raises(Killed):
        world.handle(joined())
    world.organizations.attached[ACCOUNT].remove(POLICIES[0])

    deliver_again(world)

    interrupted, completed = world.evidence()
    assert results(interrupted) == dict.fromkeys(POLICIES, UNKNOWN)
    assert results(completed) == dict.fromkeys(POLICIES, ATTACHED)


def test_a_call_of_a_killed_attempt_may_take_effect_after_the_next_attempt_has_read() -> None:
    world = World()
    kill(world, "attach")
    with pytest.raises(Killed):
        world.handle(joined())

    def take_effect_late(name: str, when: str) -> None:
        if (name, when) == ("read", "after"):
            world.organizations.attached[ACCOUNT].append(POLICIES[0])

    world.steps.on_call = take_effect_late

    assert deliver_again(world).status is OutcomeStatus.ENFORCED
    assert claims(world) == sorted(POLICIES)


def test_an_attempt_that_outlives_its_lease_writes_its_own_evidence() -> None:
    world = World()

    def deliver_meanwhile(name: str, when: str) -> None:
        if (name, when) == ("announce", "before"):
            world.steps.on_call = lambda _name, _when: None
            assert deliver_again(world).status is OutcomeStatus.ENFORCED

    world.steps.on_call = deliver_meanwhile
    handled = world.handle(joined())

    assert (handled.status, handled.fault and handled.fault.code) == (OutcomeStatus.RETRYING, "SUPERSEDED")
    courses = {each.course: results(each) for each in world.evidence()}
    assert set(courses) == {"interrupted", "completed", "late"}
    assert courses["late"] == dict.fromkeys(POLICIES, ATTACHED)
    assert world.ledger.outcome("event-1").status is OutcomeStatus.ENFORCED


def test_a_join_is_handled_although_an_operators_request_had_the_same_id() -> None:
    world = World()
    request = {
        "source": "joinguard.operator",
        "event_id": "event-1",
        "requested_at": "2026-11-24T12:00:00Z",
        "account_id": ACCOUNT,
        "organization_id": "o-exampleorgid",
        "reason": "its event was lost",
    }
    world.handle(request)
    world.organizations.attached[ACCOUNT] = []

    assert world.handle(joined()).status is OutcomeStatus.ENFORCED
    assert world.attached() == set(POLICIES)


ACCOUNT_LIKE_IDS = ("444444444444", "id-4444-4444-4444", "00000000-0000-0000-0000-444444444444")


@pytest.mark.parametrize("event_id", ACCOUNT_LIKE_IDS)
def test_an_event_id_that_may_be_an_account_id_is_stored_as_a_digest(event_id: str) -> None:
    world = World()

    handled = world.handle(joined(event_id=event_id))

    [key] = world.archive.bodies
    stored = key + world.archive.bodies[key].decode() + str(handled)
    assert not re.search("4{4}", stored)
    assert handled.event_id
    assert f"/{handled.event_id}/" in key
    assert world.handle(joined(event_id=event_id)).event_id == handled.event_id


def test_an_unknown_event_name_is_stored_as_a_digest() -> None:
    world = World()
    event = joined()
    event["detail"]["eventName"] = "Account-4444-4444-4444-Joined"

    handled = world.handle(event)

    assert handled.status is OutcomeStatus.IGNORED
    stored = str(handled) + "".join(body.decode() for body in world.archive.bodies.values())
    assert "4444" not in stored
    assert "4444" not in str(world.ledger.rows)


def test_the_digest_of_a_body_cannot_be_found_by_trying_account_ids() -> None:
    world = World()
    event = joined()

    world.handle(event)

    body = json.dumps(event)
    [evidence] = world.evidence()
    assert evidence.body_digest == world.enforcer.dependencies.pseudonyms.digest("body", body)
    assert sha256(body.encode()).hexdigest() not in str(world.archive.bodies)


def test_evidence_has_no_error_messages_of_aws() -> None:
    world = World()
    error = PermanentError(fault("ConstraintViolationException", "Jane Doe of Acme may not", "MAX_POLICY_TYPE"))
    world.steps.fail("attach", error)

    world.handle(joined())

    [evidence] = world.evidence()
    assert "Jane" not in evidence.model_dump_json()
    assert evidence.fault
    assert (evidence.fault.code, evidence.fault.reason) == ("ConstraintViolationException", "MAX_POLICY_TYPE")


def test_the_time_to_guardrail_is_never_negative() -> None:
    assert World().handle(joined(age=-30)).seconds_to_guardrail == 0
