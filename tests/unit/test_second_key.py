"""A second key for pseudonyms: nothing is attached twice, lost, or called tampered. Then the first key is deleted.

The key changes with a deployment, so between any two messages and between any two steps of a sweep.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Final

import pytest

from handlers.core.evidence.checks import CheckedEvidence, EvidenceChecker, Verdict
from handlers.core.reconcile.sweep import Step
from infra.local.events import policy_detached
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.sweep import NotRequested
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, POLICIES, FakePseudonyms, Killed, Steps, World, joined
from tests.operator_cli import CONFIRM, FakeBucket, OperatorCli, operator_cli
from tests.pauses import FakePauses
from tests.removals import BASE, EDGE, KEPT, REGIONS, TwoWorkers
from tests.unit.test_crash import AFTER_THE_LEASE, CALLS, kill
from tests.unit.test_sweep import BARE, COVERED, HALF, attached, world

if TYPE_CHECKING:
    from tests.sweeping import SweepWorld

#: What the workers are deployed with before and after the change, and after the first key is deleted.
FIRST: Final = FakePseudonyms(Steps())
SECOND: Final = replace(FIRST, key_version="key-2", former=("key-1",))
ALONE: Final = replace(SECOND, lost_keys=("key-1",))
DIGITS: Final = "event-222222222222"


def change_key(workers: World, pseudonyms: FakePseudonyms = SECOND) -> None:
    """Deploy all workers with these pseudonyms."""
    given = replace(pseudonyms, steps=workers.steps)
    enforcer = workers.enforcer
    workers.enforcer = replace(enforcer, dependencies=replace(enforcer.dependencies, pseudonyms=given))
    if isinstance(workers, TwoWorkers):
        remover = workers.remover
        workers.remover = replace(remover, dependencies=replace(remover.dependencies, pseudonyms=given))


def checked(workers: World, event_id: str = "event-1", pseudonyms: FakePseudonyms = SECOND) -> list[CheckedEvidence]:
    """Return the checks of an event's evidence, as operators see them."""
    bucket = FakeBucket(objects=dict(workers.archive.bodies))
    return EvidenceChecker(bucket, pseudonyms).of(workers.ledger.outcome(event_id, ACCOUNT))


# Attaching


@pytest.mark.parametrize("event_id", ["event-1", DIGITS])
@pytest.mark.parametrize(("call", "when"), list(product(range(1, CALLS + 1), ("before", "after"))))
def test_the_key_may_change_between_two_attempts_at_an_event(call: int, when: str, event_id: str) -> None:
    workers = World()
    kill(workers, call, when)
    with pytest.raises(Killed):
        workers.handle(joined(event_id=event_id))
    workers.steps.on_call = lambda _name, _when: None
    workers.clock.advance(AFTER_THE_LEASE)
    change_key(workers)

    handled = workers.handle(joined(event_id=event_id), receives=2)

    assert handled.status is OutcomeStatus.ENFORCED
    assert sorted(each for _, each, _ in workers.organizations.changes) == sorted(POLICIES), "attached once"
    found = checked(workers, event_id)
    assert [each.key for each in found if each.named and each.verdict is Verdict.VALID]
    assert not [each for each in found if each.wrong]
    said = {
        policy.policy_id
        for each in found
        if each.evidence
        for policy in each.evidence.policies
        if policy.result is AttachmentResult.ATTACHED
    }
    assert said == set(POLICIES), "the evidence says that both were attached by us"


def test_evidence_of_another_account_under_the_former_key_is_still_found_wrong() -> None:
    workers, others = World(), World()
    workers.handle(joined())
    others.organizations.attached["333333333333"] = []
    others.handle(joined("333333333333"))
    [key], [body] = workers.archive.bodies, others.archive.bodies.values()
    workers.archive.bodies[key] = body

    [found] = checked(workers)

    assert (found.verdict, found.wrong) == (Verdict.ANOTHER_ACCOUNT, True)


def test_a_policy_that_was_put_back_under_the_former_key_counts() -> None:
    """Otherwise somebody who detaches it again and again gets as many restores as there are keys."""
    workers = World()
    workers.handle(joined())

    def lose(number: int) -> OutcomeStatus:
        workers.clock.advance(3600)
        workers.organizations.attached[ACCOUNT].remove(POLICIES[0])
        event = policy_detached(ACCOUNT, MANAGEMENT, POLICIES[0])
        detail = {"eventID": f"detach-{number}", "eventTime": workers.clock.now().isoformat()}
        return workers.handle(event | {"detail": event["detail"] | detail}, receives=4).status

    assert [lose(number) for number in range(3)] == [OutcomeStatus.ENFORCED] * 3
    change_key(workers)

    assert lose(3) is OutcomeStatus.FAILED


# Removing


@pytest.mark.parametrize("moment", ["between join and evaluation", "between request and removal"])
def test_the_key_may_change_between_join_and_removal(moment: str) -> None:
    workers = TwoWorkers()
    workers.join()
    if moment == "between join and evaluation":
        change_key(workers)
    workers.retire()
    change_key(workers)

    assert workers.remove().status is OutcomeStatus.ENFORCED

    assert workers.attached() == {BASE, KEPT}


def test_an_attempt_that_requests_a_removal_again_under_the_second_key_removes_nothing_twice() -> None:
    workers = TwoWorkers()
    workers.join()
    workers.steps.on_call = lambda name, when: kill_if(name == "settle" and when == "before")
    with pytest.raises(Killed):
        workers.retire()
    workers.steps.on_call = lambda _name, _when: None
    workers.clock.advance(AFTER_THE_LEASE)
    change_key(workers)
    workers.retire()

    assert len(set(workers.removals.bodies)) == 2
    results = [workers.remove(body).status for body in workers.removals.bodies]

    assert results == [OutcomeStatus.ENFORCED, OutcomeStatus.ENFORCED]
    assert sorted(each for _, each, _ in workers.organizations.removals) == sorted((REGIONS, EDGE))
    assert workers.dead_letters.dead_letters == []


def kill_if(condition: object) -> None:
    if condition:
        raise Killed


def test_a_claim_under_neither_key_is_still_refused() -> None:
    workers = TwoWorkers()
    change_key(workers, FakePseudonyms(Steps(), "somebody's key"))
    workers.join()
    change_key(workers)
    workers.retire()

    handled = workers.remove()

    assert {each.fault.code for each in handled.policies if each.fault} == {"CLAIMS_UNREADABLE"}
    assert workers.organizations.removals == []


# Sweeping


def change_key_of(sweep: SweepWorld, pseudonyms: FakePseudonyms = SECOND) -> None:
    sweep.pseudonyms = replace(pseudonyms, steps=sweep.steps)


def test_a_request_that_was_handled_does_not_wait_after_the_key_has_changed() -> None:
    sweep = world()
    sweep.sweep()
    change_key_of(sweep)
    [sent] = [each for each in sweep.repairs.sent if each.account_id == BARE]
    handled = attached(BARE, *POLICIES, event_id=sent.event_id, source="joinguard.sweep", event_name="JoinRequest")
    sweep.outcomes.rows[BARE] = [handled]
    sweep.clock.advance(1800)

    report = sweep.sweep()

    assert report.not_requested == {NotRequested.WAITING: 1}, "of the other account"
    assert sweep.requested() == [BARE, HALF, BARE]


@pytest.mark.parametrize("step", ["put", "save", "record", "send"])
def test_the_key_may_change_between_a_sweep_and_its_requests(step: str) -> None:
    sweep = world()
    sweep.steps.on_call = lambda name, when: kill_if(name == step and when == "after")
    with pytest.raises(Killed):
        sweep.invoke()
    sweep.steps.on_call = lambda _name, _when: None
    sweep.clock.advance(1200)
    change_key_of(sweep)

    assert sweep.sweep()
    assert sweep.result
    assert (sweep.result.step, sweep.result.conflict) == (Step.COMPLETE, None)

    assert {*sweep.requested()} == {BARE, HALF}
    assert COVERED not in sweep.requested()
    sweep.clock.advance(1800)
    assert sweep.sweep().not_requested == {NotRequested.WAITING: 2}, "nobody is requested anew"


# What operators see


def operated() -> OperatorCli:
    """Return a tool after a drop and a pause under the first key; the second one is in force."""
    # Only the digest of its body links an unreadable message to the records.
    unreadable = dead_letter(1, body="{broken")
    tool = operator_cli(unreadable)
    tool.pauses = FakePauses()
    assert tool.run("drop", "--id", "m-1", *CONFIRM).exit_code == 0
    until = ("--until", "4h", "--owner", "network team")
    assert tool.run("pause", "--organization", *until, *CONFIRM).exit_code == 0
    tool.queues.messages = [unreadable]
    tool.pseudonyms = SECOND
    return tool


def test_what_the_caller_did_under_the_former_key_is_the_callers() -> None:
    tool = operated()

    assert all(each["you"] for each in json.loads(tool.run("actions", "--json").stdout))
    assert len(json.loads(tool.run("actions", "--json", "--by", "X").stdout)) == 2
    [shown] = json.loads(tool.run("show", "m-1", "--json").stdout)["history"]
    assert (shown["action"], shown["you"]) == ("drop", True)


def test_a_pause_of_before_is_compared_with_the_former_key() -> None:
    tool = operated()

    result = tool.run("pauses", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["in_force"][0]["record"] == "valid"
    assert tool.pauses
    [made] = tool.pauses.known.in_force(tool.now())
    tool.pauses.known = replace(tool.pauses.known, readable=(made.model_copy(update={"owner": "somebody else"}),))
    assert json.loads(tool.run("pauses", "--json").stdout)["in_force"][0]["record"] == "differs"


# After the first key is deleted


def test_workers_go_on_and_earlier_evidence_is_compared_as_far_as_that_is_possible() -> None:
    workers = World()
    workers.handle(joined(event_id=DIGITS))
    change_key(workers, ALONE)
    workers.clock.advance(60)

    assert workers.handle(joined(event_id="event-2")).status is OutcomeStatus.ENFORCED

    [earlier] = checked(workers, DIGITS, ALONE)
    assert (earlier.verdict, earlier.wrong) == (Verdict.VALID, False), "the row has the SHA-256 of its bytes"
    [later] = checked(workers, "event-2", ALONE)
    assert later.verdict is Verdict.VALID
    row = workers.ledger.rows[ACCOUNT, DIGITS]
    row.pop("evidence_sha256")
    [without] = checked(workers, DIGITS, ALONE)
    assert (without.verdict, without.wrong) == (Verdict.NOT_COMPARED, False)


def test_evidence_that_was_changed_is_found_also_without_its_key() -> None:
    workers = World()
    workers.handle(joined())
    [key] = workers.archive.bodies
    workers.archive.bodies[key] += b"\n"

    [found] = checked(workers, pseudonyms=ALONE)

    assert (found.verdict, found.wrong) == (Verdict.DIFFERS, True)


def test_policies_that_were_claimed_with_the_lost_key_are_kept_and_nobody_is_paged() -> None:
    workers = TwoWorkers()
    workers.join()
    change_key(workers, ALONE)
    workers.retire()

    handled = workers.remove()

    assert handled.status is OutcomeStatus.ENFORCED
    assert {each.result for each in handled.policies} == {AttachmentResult.KEPT}
    assert {each.fault.code for each in handled.policies if each.fault} == {"CLAIMS_NOT_COMPARED"}
    assert workers.dead_letters.dead_letters == []
    assert workers.organizations.removals == []


def test_policies_of_an_account_that_joins_later_are_removed_as_always() -> None:
    workers = TwoWorkers()
    change_key(workers, ALONE)
    workers.join()
    workers.retire()

    assert workers.remove().status is OutcomeStatus.ENFORCED
    assert workers.attached() == {BASE, KEPT}


def test_operators_see_what_cannot_be_compared_any_more_and_none_of_it_as_tampered() -> None:
    tool = operated()
    tool.pseudonyms = ALONE

    named = tool.run("actions", "--json", "--by", "x")
    assert json.loads(named.stdout) == []
    assert "2 left out: their names were made with a key that does not exist any more" in named.stderr
    assert not any(each["you"] for each in json.loads(tool.run("actions", "--json").stdout))
    assert json.loads(tool.run("pauses", "--json").stdout)["in_force"][0]["record"] == "not_compared"
    said = " ".join(tool.run("pauses").output.split())
    assert "its terms cannot be compared" in said
    assert "not as its audit record says" not in said


def test_a_request_that_was_made_with_the_lost_key_waits_no_longer_than_the_queue_keeps_it() -> None:
    sweep = world()
    sweep.sweep()
    change_key_of(sweep, ALONE)
    sweep.clock.advance(1800)
    assert sweep.sweep().not_requested == {NotRequested.WAITING: 2}

    sweep.clock.time += timedelta(days=4)

    sweep.sweep()
    assert sweep.requested() == [BARE, HALF, BARE, HALF]
