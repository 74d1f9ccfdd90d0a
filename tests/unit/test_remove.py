"""Removing: what is removed from which account, what is kept and why, and what both workers do afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import NotYetEffectiveError, PermanentError, RetryableError, fault
from handlers.core.guardrails.facts import Facts, Unknown
from handlers.core.guardrails.scope import Scope
from handlers.core.joins.run import FIRST_RECEIVES
from infra.local.events import rehearsal
from schemas.compiled_guardrails import CompiledException, CompiledSelector, OuRange
from schemas.intake import read_event
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.plan import ApprovedPlan
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION, Killed, joined, message, of_age
from tests.messages import moved, tagged
from tests.removals import BASE, EDGE, KEPT, REGIONS, TwoWorkers, document

if TYPE_CHECKING:
    from handlers.core.joins.worker import Handled

OTHER = "333333333333"
TODAY = NOON.date()
REMOVED, KEEPS = AttachmentResult.REMOVED, AttachmentResult.KEPT


def results(handled: Handled) -> dict[str, tuple[AttachmentResult, str | None]]:
    """Return the result of each policy, and the code of the reason."""
    return {each.policy_id: (each.result, each.fault.code if each.fault else None) for each in handled.policies}


def retired(world: TwoWorkers | None = None) -> TwoWorkers:
    """Return both workers after an account got its policies and lost the tag."""
    made = world or TwoWorkers()
    made.join()
    made.retire()
    return made


def exception(*policies: str, starts: date | None = None, expires: date = TODAY) -> CompiledException:
    return CompiledException(id="EXC-17", accounts=(ACCOUNT,), policies=policies, starts=starts, expires=expires)


def test_what_is_no_longer_needed_is_removed_if_its_rules_say_so() -> None:
    world = retired()

    handled = world.remove()

    assert handled.status is OutcomeStatus.ENFORCED
    assert results(handled) == {EDGE: (REMOVED, None), REGIONS: (REMOVED, None)}
    assert world.attached() == {BASE, KEPT}
    assert world.ledger.outcome(world.request_id()).status is OutcomeStatus.ENFORCED


def test_the_worker_that_attaches_never_removes() -> None:
    world = retired()

    assert world.steps.count("detach") == 0
    assert world.attached() == {BASE, REGIONS, EDGE, KEPT}


def test_an_account_that_needs_its_policies_causes_no_request() -> None:
    world = TwoWorkers()
    world.join()

    assert world.removals.bodies == []


def test_nothing_is_requested_unless_removing_is_switched_on() -> None:
    world = TwoWorkers()
    world.enforcer = replace(world.enforcer, dependencies=replace(world.enforcer.dependencies, removals=None))
    world.join()

    assert world.retire().status is OutcomeStatus.ENFORCED
    assert world.steps.count("request removal") == 0


def test_the_least_important_policy_is_removed_first() -> None:
    world = retired()
    world.remove()

    assert [policy for _, policy, _ in world.organizations.removals] == [EDGE, REGIONS]


def test_the_evidence_of_a_removal_says_what_was_removed_and_is_written_once() -> None:
    world = retired()
    world.remove()

    [evidence] = [each for each in world.evidence() if each.event_id == world.request_id()]
    assert {each.policy_id: each.result for each in evidence.policies} == {EDGE: REMOVED, REGIONS: REMOVED}
    assert evidence.event_name == "RemovalRequest"
    assert evidence.schema_version == "joinguard/evidence/3"
    assert evidence.required == (BASE,)
    assert ACCOUNT not in evidence.model_dump_json()


def test_the_order_of_writes_is_intent_effect_evidence_request_outcome() -> None:
    world = retired()
    world.steps.log.clear()
    world.remove()

    wanted = ["intend", "detach", "detach", "announce", "record", "request evaluation", "settle"]
    assert [each for each in world.steps.log if each in wanted] == wanted


def test_a_policy_that_others_attached_is_kept() -> None:
    world = TwoWorkers()
    world.tag(environment="test")
    world.organizations.attached[ACCOUNT].append(REGIONS)
    world.handle(joined())

    handled = world.remove()

    assert handled.status is OutcomeStatus.ENFORCED
    assert results(handled) == {REGIONS: (KEEPS, "NOT_OURS")}
    assert REGIONS in world.attached()
    assert world.evaluations.bodies == [], "nothing has changed"


def test_a_policy_that_others_attached_again_after_our_removal_is_kept() -> None:
    world = retired()
    world.remove()
    world.clock.advance(60)
    world.organizations.attached[ACCOUNT].append(REGIONS)
    world.handle(joined(event_id="event-3"))

    handled = world.remove(world.removals.bodies[1])

    assert results(handled) == {REGIONS: (KEEPS, "NOT_OURS")}


def test_a_policy_that_we_attached_again_after_our_removal_is_removed_again() -> None:
    world = retired()
    world.remove()
    world.clock.advance(60)
    world.join(event_id="event-3")
    world.clock.advance(60)
    world.retire(event_id="event-4")

    handled = world.remove(world.removals.bodies[1])

    assert results(handled) == {EDGE: (REMOVED, None), REGIONS: (REMOVED, None)}


def test_attachments_before_the_account_left_and_joined_again_are_not_ours() -> None:
    world = TwoWorkers()
    world.join()
    world.clock.advance(3600)
    world.organizations.joined_at[ACCOUNT] = world.clock.now() - timedelta(minutes=10)
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess", REGIONS]
    world.retire()

    assert results(world.remove()) == {REGIONS: (KEEPS, "NOT_OURS")}


def test_a_claim_of_another_account_that_somebody_wrote_into_the_table_removes_nothing() -> None:
    world = TwoWorkers()
    world.join(OTHER)
    [row] = world.ledger.of(OTHER)
    world.tag(environment="test")
    world.organizations.attached[ACCOUNT].append(REGIONS)
    world.handle(joined(event_id="event-2"))
    for each in world.ledger.rows.values():
        each["claims"] = row.claims

    handled = world.remove()

    assert results(handled) == {REGIONS: (AttachmentResult.FAILED, "CLAIMS_UNREADABLE")}
    assert handled.status is OutcomeStatus.FAILED


def test_a_removal_whose_claim_somebody_changed_does_not_make_the_policy_ours_again() -> None:
    world = retired()
    world.remove()
    world.clock.advance(60)
    world.organizations.attached[ACCOUNT].append(REGIONS)
    row = world.ledger.rows[ACCOUNT, world.request_id()]
    row["claims"] = {name: each.model_copy(update={"seal": "0" * 64}) for name, each in row["claims"].items()}
    world.handle(joined(event_id="event-3"))

    assert results(world.remove(world.removals.bodies[1])) == {REGIONS: (AttachmentResult.FAILED, "CLAIMS_UNREADABLE")}
    assert REGIONS in world.attached()


def test_a_policy_that_another_events_attempt_has_just_attached_waits_until_that_is_recorded() -> None:
    world = TwoWorkers()
    requested: list[Handled] = []

    def on_call(name: str, when: str) -> None:
        if (name, when) == ("announce", "before") and not requested:
            # The account loses the tag while the attempt at its join is still running.
            requested.append(world.retire(event_id="event-2"))
            requested.append(world.remove())

    world.steps.on_call = on_call
    world.join()
    world.steps.on_call = lambda _name, _when: None

    assert (requested[1].status, requested[1].fault and requested[1].fault.code) == (
        OutcomeStatus.RETRYING,
        "OPEN_ATTEMPT",
    )
    world.clock.advance(100)
    assert results(world.remove(receives=2)) == {EDGE: (REMOVED, None), REGIONS: (REMOVED, None)}


def test_a_policy_that_an_attempt_never_recorded_is_a_dead_letter_after_the_first_receives() -> None:
    world = TwoWorkers()

    def killed(name: str, when: str) -> None:
        if (name, when) == ("announce", "before"):
            raise Killed

    world.steps.on_call = killed
    with pytest.raises(Killed):
        world.join()
    world.steps.on_call = lambda _name, _when: None
    world.clock.advance(200)
    world.retire()

    for receives in range(1, FIRST_RECEIVES + 2):
        handled = world.remove(receives=receives)
        world.clock.advance(1000)

    assert handled.status is OutcomeStatus.FAILED
    assert {why.code for _, why in world.dead_letters.dead_letters} == {"OPEN_ATTEMPT"}
    # The join is delivered again, and the dead letter is redriven.
    world.handle(joined(), receives=2)
    world.clock.advance(100)
    assert results(world.remove()) == {EDGE: (REMOVED, None), REGIONS: (REMOVED, None)}


def test_what_others_attach_before_a_slow_attempt_is_recorded_is_theirs() -> None:
    """What the attempt attached is removed, and others attach it again, before the attempt is recorded."""
    world = TwoWorkers()
    world.join()
    done: list[str] = []

    def on_call(name: str, when: str) -> None:
        if (name, when) == ("record", "before") and not done:
            done.append(name)
            world.retire(event_id="event-2")
            world.clock.advance(5)
            world.remove()
            world.clock.advance(5)
            world.organizations.attached[ACCOUNT].append(REGIONS)
            world.clock.advance(5)

    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess", BASE, KEPT, EDGE]
    world.steps.on_call = on_call
    world.handle(joined(event_id="event-1b"))
    world.steps.on_call = lambda _name, _when: None
    world.retire(event_id="event-3")

    assert results(world.remove(world.removals.bodies[-1]))[REGIONS] == (KEEPS, "NOT_OURS")


def test_a_policy_of_aws_is_kept_whoever_attached_it() -> None:
    world = retired()
    world.organizations.managed.add(REGIONS)

    assert results(world.remove()) == {EDGE: (REMOVED, None), REGIONS: (KEEPS, "AWS_MANAGED")}


def test_the_last_scp_is_kept_and_it_is_the_most_important_one() -> None:
    world = retired()
    world.organizations.attached[ACCOUNT] = [EDGE, REGIONS]

    assert results(world.remove()) == {REGIONS: (KEEPS, "LAST_POLICY"), EDGE: (REMOVED, None)}
    assert world.attached() == {REGIONS}
    assert world.steps.count("detach") == 1, "AWS is not asked to remove the last one"


def test_the_last_policy_of_another_type_is_removed() -> None:
    world = retired(TwoWorkers(types={EDGE: "TAG_POLICY"}))

    assert results(world.remove())[EDGE] == (REMOVED, None)


def test_a_policy_that_became_the_last_one_after_the_read_is_kept() -> None:
    world = retired()
    world.organizations.attached[ACCOUNT] = [BASE, REGIONS]
    world.steps.on_call = lambda name, when: (
        world.organizations.attached[ACCOUNT].remove(BASE) if (name, when) == ("intend", "after") else None
    )

    handled = world.remove()

    assert handled.status is OutcomeStatus.ENFORCED
    assert results(handled) == {REGIONS: (KEEPS, "LAST_POLICY")}


def test_a_policy_that_others_removed_after_the_read_is_not_our_removal() -> None:
    world = retired()
    world.steps.on_call = lambda name, when: (
        world.organizations.attached[ACCOUNT].remove(EDGE) if (name, when) == ("intend", "after") else None
    )

    assert results(world.remove()) == {
        EDGE: (AttachmentResult.ALREADY_REMOVED, None),
        REGIONS: (REMOVED, None),
    }


def test_what_the_account_needs_again_is_not_removed() -> None:
    world = retired()
    world.tag(environment="prod")

    handled = world.remove()

    assert handled.status is OutcomeStatus.ENFORCED
    assert handled.policies == ()
    assert world.attached() == {BASE, REGIONS, EDGE, KEPT}


CHANGED: dict[str, tuple[CompiledSelector, dict[str, Any], Facts, Facts]] = {
    "tagged": (
        CompiledSelector(tags={"environment": ("prod",)}),
        tagged(tags=[{"key": "environment", "value": "test"}]),
        Facts(ACCOUNT, tags={"environment": "prod"}),
        Facts(ACCOUNT, tags={"environment": "test"}),
    ),
    "moved": (
        CompiledSelector(ou=(OuRange(id="ou-root-prod1111"),)),
        moved(destinationParentId="ou-root-test1111"),
        Facts(ACCOUNT, ous=("r-root", "ou-root-prod1111")),
        Facts(ACCOUNT, ous=("r-root", "ou-root-test1111")),
    ),
}


def changing(selector: CompiledSelector, before: Facts) -> TwoWorkers:
    """Return both workers after an account got a policy because of a fact that an event then changes."""
    world = TwoWorkers()
    rules = document().rules
    world.use(document().model_copy(update={"rules": (rules[0], rules[1].model_copy(update={"match": (selector,)}))}))
    world.organizations.facts[ACCOUNT] = before
    world.handle(joined())
    assert world.attached() == {BASE, REGIONS, EDGE}
    return world


@pytest.mark.parametrize(("selector", "event", "before", "after"), CHANGED.values(), ids=CHANGED)
def test_a_removal_is_requested_although_aws_returns_the_old_facts_first(
    selector: CompiledSelector, event: dict[str, Any], before: Facts, after: Facts
) -> None:
    world = changing(selector, before)
    change = of_age(0, event, event_id="event-2")

    stale = world.handle(change)
    assert (stale.status, stale.fault and stale.fault.code) == (OutcomeStatus.RETRYING, "FACTS_STALE")
    world.clock.advance(100)
    world.organizations.facts[ACCOUNT] = after

    assert world.handle(change, receives=2).status is OutcomeStatus.ENFORCED
    assert results(world.remove(world.removals.bodies[-1])) == {EDGE: (REMOVED, None), REGIONS: (REMOVED, None)}


@pytest.mark.parametrize(("selector", "event", "before", "after"), CHANGED.values(), ids=CHANGED)
def test_nothing_is_removed_by_facts_that_are_older_than_the_event(
    selector: CompiledSelector, event: dict[str, Any], before: Facts, after: Facts
) -> None:
    """Here the event brings the account back to what needs the policies, and AWS still returns what was before."""
    world = changing(selector, before)
    world.organizations.facts[ACCOUNT] = after
    world.handle(of_age(0, event, event_id="event-2"))
    text = world.removals.bodies[-1]
    back = {
        "changed_parent": before.ous[-1] if isinstance(before.ous, tuple) else None,
        "changed_tags": [{"key": "environment", "value": "prod"}] if isinstance(before.tags, dict) else [],
    }

    handled = world.remove(json.dumps(json.loads(text) | back))

    assert (handled.status, handled.fault and handled.fault.code) == (OutcomeStatus.RETRYING, "FACTS_STALE")
    assert world.organizations.removals == []


def test_a_removal_waits_for_facts_that_cannot_be_read() -> None:
    world = TwoWorkers()
    world.join()
    world.tag(environment="test")
    world.steps.fail("tags", RetryableError(fault("TooManyRequestsException", "slow down")))

    assert world.handle(joined(event_id="event-2")).status is OutcomeStatus.RETRYING
    assert world.removals.bodies == []
    world.clock.advance(100)
    assert world.handle(joined(event_id="event-2"), receives=2).status is OutcomeStatus.ENFORCED
    assert len(world.removals.bodies) == 1


def test_a_fact_that_cannot_be_read_removes_nothing_and_the_request_comes_again() -> None:
    world = retired()
    world.steps.fail("tags", PermanentError(fault("AccessDeniedException", "no")))
    world.organizations.facts[ACCOUNT] = Facts(ACCOUNT, tags=Unknown.UNREADABLE)

    handled = world.remove()

    assert handled.status is OutcomeStatus.FAILED
    assert results(handled)[REGIONS] == (AttachmentResult.FAILED, "AccessDeniedException")
    assert world.attached() == {BASE, REGIONS, EDGE, KEPT}
    assert len(world.dead_letters.dead_letters) == 1


# ---------------------------------------------------------------- exceptions


def test_an_exception_that_has_begun_takes_a_policy_off_although_its_rule_keeps_it() -> None:
    world = TwoWorkers()
    world.join()
    world.use(document(exception(KEPT)))
    world.handle(joined(event_id="event-2"))

    handled = world.remove()

    assert results(handled) == {KEPT: (REMOVED, None)}
    assert [each.exceptions for each in handled.policies] == [("EXC-17",)]
    [evidence] = [each for each in world.evidence() if each.event_id == world.request_id()]
    assert [each.exceptions for each in evidence.policies] == [("EXC-17",)]


@pytest.mark.parametrize(
    "excepted",
    [
        exception(KEPT, expires=NOON.date() - timedelta(days=1)),
        exception(KEPT, starts=NOON.date() + timedelta(days=1), expires=NOON.date() + timedelta(days=9)),
    ],
    ids=["over", "not begun"],
)
def test_an_exception_that_is_not_in_force_takes_nothing_off(excepted: CompiledException) -> None:
    world = TwoWorkers()
    world.join()
    world.use(document(excepted))
    world.handle(joined(event_id="event-2"))

    assert world.removals.bodies == []


def test_an_evaluation_after_the_exception_brings_the_policy_back() -> None:
    world = TwoWorkers()
    world.join()
    world.use(document(exception(KEPT)))
    world.handle(joined(event_id="event-2"))
    world.remove()
    assert KEPT not in world.attached()

    world.clock.advance(24 * 3600)
    world.handle(joined(event_id="event-3"))

    assert KEPT in world.attached()


# ---------------------------------------------------------------- the limit


def test_no_more_policies_are_removed_in_a_day_than_the_limit() -> None:
    world = TwoWorkers(removals=1)
    world.join()
    world.retire()

    handled = world.remove()

    assert handled.status is OutcomeStatus.FAILED
    assert results(handled) == {EDGE: (REMOVED, None), REGIONS: (AttachmentResult.FAILED, "REMOVAL_LIMIT")}
    [(dead_letter, why)] = world.dead_letters.dead_letters
    assert dead_letter.body == world.removals.bodies[0]
    assert why.code == "REMOVAL_LIMIT"
    assert "limits.removals allows 1 removal a day (UTC), and they are used up" in why.message


def test_the_rest_is_removed_on_the_next_day() -> None:
    world = TwoWorkers(removals=1)
    world.join()
    world.retire()
    world.remove()
    world.clock.advance(24 * 3600)

    handled = world.remove()

    assert results(handled) == {REGIONS: (REMOVED, None)}
    assert world.attached() == {BASE, KEPT}


def test_the_limit_holds_for_all_accounts_together() -> None:
    world = TwoWorkers(removals=3)
    for number, account_id in enumerate((ACCOUNT, OTHER)):
        world.join(account_id, event_id=f"event-{number}")
        world.retire(account_id, event_id=f"after-{number}")

    world.remove(world.removals.bodies[0])
    world.remove(world.removals.bodies[1])

    assert len(world.organizations.removals) == 3


def test_a_removal_that_is_tried_again_counts_once() -> None:
    world = TwoWorkers(removals=2)
    world.join()
    world.retire()
    world.steps.fail("detach", *[RetryableError(fault("ServiceException", "later"))] * 2)
    assert world.remove().status is OutcomeStatus.RETRYING
    world.clock.advance(100)

    assert world.remove(receives=2).status is OutcomeStatus.ENFORCED
    assert world.attached() == {BASE, KEPT}


def test_the_same_policy_of_an_account_counts_once_a_day_after_whichever_events() -> None:
    world = TwoWorkers(removals=2)
    for number in range(5):
        world.join(event_id=f"event-{number}")
        world.clock.advance(60)
        world.retire(event_id=f"after-{number}")
        assert world.remove(world.removals.bodies[-1]).status is OutcomeStatus.ENFORCED
        world.clock.advance(60)

    assert len(world.organizations.removals) == 10


def test_nothing_is_removed_if_the_count_cannot_be_read() -> None:
    world = retired()
    world.steps.fail("limit", RetryableError(fault("DynamoDB.Unavailable", "no answer")))

    assert world.remove().status is OutcomeStatus.RETRYING
    assert world.organizations.removals == []


def approved_plan(world: TwoWorkers, **remove: tuple[str, ...]) -> ApprovedPlan:
    guardrails = world.enforcer.requirements.guardrails.sha256
    return ApprovedPlan.of(ORGANIZATION, guardrails, {}, {name.replace("_", "-"): ids for name, ids in remove.items()})


def test_what_an_approved_plan_names_does_not_count() -> None:
    world = TwoWorkers(removals=1)
    world.join()
    plan = approved_plan(world, p_regions11=(ACCOUNT,))
    world.use(document(removals=1), plan)
    world.retire()

    handled = world.remove()

    assert results(handled) == {EDGE: (REMOVED, None), REGIONS: (REMOVED, None)}
    [evidence] = [each for each in world.evidence() if each.event_id == world.request_id()]
    assert evidence.approved_plan == plan.sha256()


def test_an_approval_ends_with_its_last_day() -> None:
    world = TwoWorkers(removals=0)
    world.join()
    world.use(document(removals=0), approved_plan(world, p_regions11=(ACCOUNT,), p_edgerules=(ACCOUNT,)), until=TODAY)
    world.retire()
    world.clock.advance(24 * 3600)

    handled = world.remove()

    assert {code for _, code in results(handled).values()} == {"REMOVAL_LIMIT"}
    assert [each.approved_plan for each in world.evidence() if each.event_id == world.request_id()] == [None]


def test_the_evidence_names_the_approved_plan_of_an_interrupted_removal() -> None:
    world = TwoWorkers(removals=0)
    world.join()
    plan = approved_plan(world, p_regions11=(ACCOUNT,), p_edgerules=(ACCOUNT,))
    world.use(document(removals=0), plan)
    world.retire()

    def killed(name: str, when: str) -> None:
        if (name, when) == ("announce", "before"):
            raise Killed

    world.steps.on_call = killed
    with pytest.raises(Killed):
        world.remove()
    world.steps.on_call = lambda _name, _when: None
    world.clock.advance(200)
    world.remove(receives=2)

    found = [each.approved_plan for each in world.evidence() if each.event_id == world.request_id()]
    assert found == [None, plan.sha256()]


@pytest.mark.parametrize("case", ["another account", "another policy", "other guardrails"])
def test_an_approved_plan_holds_only_for_what_it_names(case: str) -> None:
    world = TwoWorkers(removals=0)
    world.join()
    plan = {
        "another account": approved_plan(world, p_regions11=(OTHER,), p_edgerules=(OTHER,)),
        "another policy": approved_plan(world, p_baseline1=(ACCOUNT,)),
        "other guardrails": ApprovedPlan.of(ORGANIZATION, "0" * 64, {}, {REGIONS: (ACCOUNT,), EDGE: (ACCOUNT,)}),
    }[case]
    world.use(document(removals=0), plan)
    world.retire()

    assert {code for _, code in results(world.remove()).values()} == {"REMOVAL_LIMIT"}
    assert world.organizations.removals == []


# ---------------------------------------------------------------- requests


def test_a_removal_is_followed_by_an_evaluation_that_attaches_what_is_needed_again() -> None:
    world = retired()
    # The account moves back after the worker has read its tags.
    world.steps.on_call = lambda name, when: (
        world.tag(environment="prod") if (name, when) == ("intend", "after") else None
    )
    world.remove()
    world.steps.on_call = lambda _name, _when: None
    assert world.attached() == {BASE, KEPT}

    [request] = world.evaluations.bodies
    assert json.loads(request)["source"] == "joinguard.worker"
    assert world.handle(request).status is OutcomeStatus.ENFORCED
    assert world.attached() == {BASE, REGIONS, EDGE, KEPT}


def test_an_evaluation_that_cannot_be_requested_is_requested_by_the_next_attempt() -> None:
    world = retired()
    world.steps.fail("request evaluation", RetryableError(fault("SQS.Unavailable", "no answer")))
    assert world.remove().status is OutcomeStatus.RETRYING
    world.clock.advance(100)

    assert world.remove(receives=2).status is OutcomeStatus.ENFORCED
    assert len(world.evaluations.bodies) == 1
    assert len([each for each in world.evidence() if each.event_id == world.request_id()]) == 2


@pytest.mark.parametrize("call", ["request evaluation", "record"])
def test_an_evaluation_is_requested_however_often_an_attempt_fails(call: str) -> None:
    world = retired()
    # Of the interrupted attempt, and of the next one.
    world.steps.fail("request evaluation", RetryableError(fault("SQS.Unavailable", "no answer")))
    world.remove()
    world.clock.advance(100)
    failure = RetryableError(fault("Cut", "no answer"))
    world.steps.fail(call, *([None, failure] if call == "record" else [failure]))
    assert world.remove(receives=2).status is OutcomeStatus.RETRYING
    assert world.evaluations.bodies == []
    world.clock.advance(200)

    assert world.remove(receives=3).status is OutcomeStatus.ENFORCED
    assert len(world.evaluations.bodies) == 1


def test_a_removal_that_cannot_be_requested_is_requested_by_the_next_attempt() -> None:
    world = TwoWorkers()
    world.join()
    world.steps.fail("request removal", RetryableError(fault("SQS.Unavailable", "no answer")))
    cut = world.retire()
    assert (cut.status, AttachmentResult.REMOVAL_REQUESTED in {each.result for each in cut.policies}) == (
        OutcomeStatus.RETRYING,
        False,
    )
    world.clock.advance(100)

    handled = world.handle(joined(event_id="event-2"), receives=2)

    requested = (AttachmentResult.REMOVAL_REQUESTED, None)
    assert handled.status is OutcomeStatus.ENFORCED
    assert results(handled).items() >= {EDGE: requested, REGIONS: requested}.items()
    assert len(world.removals.bodies) == 1
    # Evidence is written before the request, so it says nothing about it.
    assert {each.result for one in world.evidence() for each in one.policies} == {
        AttachmentResult.ATTACHED,
        AttachmentResult.ALREADY_ATTACHED,
    }


def test_a_policy_that_this_event_attached_and_that_is_removable_now_has_one_result() -> None:
    world = TwoWorkers()
    lost = RetryableError(fault("Cut", "no answer"), ambiguous=True)
    world.steps.fail("attach", *[lost] * 20)
    world.join()
    world.tag(environment="test")
    world.clock.advance(200)

    handled = world.handle(joined(), receives=2)

    assert len(world.removals.bodies) == 1
    assert AttachmentResult.ATTACHED in {each.result for each in handled.policies if each.policy_id in {EDGE, REGIONS}}
    assert len(handled.policies) == len({each.policy_id for each in handled.policies})


def test_a_request_that_is_repeated_has_the_same_id_and_is_handled_once() -> None:
    world = TwoWorkers()
    world.join()
    world.steps.fail("settle", RetryableError(fault("DynamoDB.Unavailable", "no answer")))
    world.retire()
    world.clock.advance(200)
    world.handle(joined(event_id="event-2"), receives=2)
    assert world.request_id(0) == world.request_id(1)

    world.remove(world.removals.bodies[0])
    world.steps.log.clear()
    world.remove(world.removals.bodies[1])

    assert world.steps.log == ["pseudonym", "begin"]


def test_what_a_later_attempt_finds_removable_too_is_requested() -> None:
    world = TwoWorkers()
    world.join()
    world.use(document(exception(KEPT)))
    world.steps.fail("tags", NotYetEffectiveError(fault("AccessDeniedException", "not allowed")))
    world.steps.fail("settle", RetryableError(fault("DynamoDB.Unavailable", "no answer")))
    world.tag(environment="test")
    world.handle(joined(event_id="event-2"))
    world.clock.advance(200)
    world.handle(joined(event_id="event-2"), receives=2)

    assert world.request_id(0) != world.request_id(1)


def test_each_attempt_that_removes_something_is_followed_by_an_evaluation_of_its_own() -> None:
    world = retired()
    world.steps.fail("detach", None, RetryableError(fault("ServiceException", "later")))
    world.remove()
    world.clock.advance(100)
    world.remove(receives=2)

    first, second = (json.loads(each)["event_id"] for each in world.evaluations.bodies)
    assert first != second


def test_an_outage_does_not_multiply_the_requests() -> None:
    """Every answer is lost for an hour: one request is tried again, and nothing else is requested."""
    world = TwoWorkers()
    world.join()
    world.retire()
    lost = RetryableError(fault("ReadTimeoutError", "no answer"), ambiguous=True)
    world.organizations.detach = lambda *_: (_ for _ in ()).throw(lost)  # type: ignore[method-assign]

    for receives in range(1, 25):
        assert world.remove(receives=receives).status is OutcomeStatus.RETRYING
        world.clock.advance(900)

    assert (len(world.removals.bodies), len(world.evaluations.bodies)) == (1, 0)
    assert [len(each) for each in world.limit.counted.values()] == [2]


def test_evidence_says_removed_only_of_policies_whose_type_was_read() -> None:
    world = retired(TwoWorkers(types={EDGE: "TAG_POLICY"}))

    def killed(name: str, when: str) -> None:
        if (name, when) == ("detach", "before"):
            raise Killed

    world.steps.on_call = killed
    with pytest.raises(Killed):
        world.remove()
    world.steps.on_call = lambda _name, _when: None
    without = document()
    rules = tuple(
        each.model_copy(update={"attach": tuple(name for name in each.attach if name != EDGE)})
        for each in without.rules
    )
    policies = tuple(each for each in without.policies if each.id != EDGE)
    world.use(without.model_copy(update={"policies": policies, "rules": rules}))
    world.clock.advance(400)
    world.remove(receives=2)

    claimed = [
        policy.policy_id for evidence in world.evidence() for policy in evidence.policies if policy.result is REMOVED
    ]
    assert claimed == [REGIONS]
    assert EDGE in world.attached()


def test_the_ids_of_requests_hold_no_account_id() -> None:
    world = TwoWorkers()
    for number in range(40):
        world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess"]
        world.join(event_id=f"event-{number}")
        world.retire(event_id=f"after-{number}")

    ids = [json.loads(each)["event_id"] for each in world.removals.bodies]
    assert len(set(ids)) == 40
    assert not [each for each in ids if any(map(str.isdigit, each))]


def test_a_redriven_request_goes_on_to_its_queue() -> None:
    world = retired()
    [request] = world.removals.bodies

    handled = world.handle(request)

    assert (handled.status, handled.fault and handled.fault.code) == (OutcomeStatus.IGNORED, "PASSED_ON")
    assert world.removals.bodies == [request, request]
    assert world.dead_letters.dead_letters == []


def test_a_redriven_request_that_cannot_go_on_comes_again() -> None:
    world = retired()
    world.steps.fail("request removal", RetryableError(fault("SQS.Unavailable", "no answer")))

    assert world.handle(world.removals.bodies[0]).status is OutcomeStatus.RETRYING


def test_a_redriven_request_is_a_dead_letter_while_removing_is_switched_off() -> None:
    world = retired()
    world.enforcer = replace(world.enforcer, dependencies=replace(world.enforcer.dependencies, removals=None))

    world.handle(world.removals.bodies[0])

    [(_, why)] = world.dead_letters.dead_letters
    assert why.code == "REMOVALS_OFF"


@pytest.mark.parametrize(
    "event", [joined(), "no JSON", rehearsal(MANAGEMENT)], ids=["a join", "no JSON", "a rehearsal"]
)
def test_the_queue_of_removals_takes_nothing_else(event: object) -> None:
    world = TwoWorkers()

    handled = world.remove(message(event).body)  # type: ignore[arg-type]

    assert handled.status is OutcomeStatus.FAILED
    [(_, why)] = world.dead_letters.dead_letters
    assert why.code == "INVALID_EVENT"
    assert world.organizations.removals == []


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [("organization_id", "o-anotherorgid", "WRONG_ORGANIZATION"), ("account_id", MANAGEMENT, "MANAGEMENT_ACCOUNT")],
)
def test_a_request_about_something_else_removes_nothing(field: str, value: str, code: str) -> None:
    world = retired()

    handled = world.remove(json.dumps(json.loads(world.removals.bodies[0]) | {field: value}))

    assert handled.fault
    assert handled.fault.code == code
    assert world.organizations.removals == []


def test_nothing_is_removed_from_an_account_that_is_only_observed() -> None:
    world = retired()
    requirements = replace(world.remover.requirements, scope=Scope.parse(OTHER))
    world.remover = replace(world.remover, requirements=requirements)

    assert {code for _, code in results(world.remove()).values()} == {"ONLY_OBSERVED"}
    assert world.organizations.removals == []


def test_no_removal_is_requested_for_an_account_that_is_only_observed() -> None:
    world = TwoWorkers()
    world.join()
    requirements = replace(world.enforcer.requirements, scope=Scope.parse("none"))
    world.enforcer = replace(world.enforcer, requirements=requirements)

    assert world.retire().status is OutcomeStatus.OBSERVED
    assert world.removals.bodies == []


# ---------------------------------------------------------------- places


def test_a_policy_without_a_place_waits_for_the_removal_that_makes_one() -> None:
    world = TwoWorkers()
    full = document().model_copy(update={"policies_per_account": {"SERVICE_CONTROL_POLICY": 4}})
    world.use(full)
    world.tag(environment="prod")
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess"]
    world.handle(joined())
    # BASE, REGIONS and EDGE took the places. Without the tag, others' policy takes the place of BASE.
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess", REGIONS, EDGE, "p-foreign11"]
    world.tag(environment="test")

    handled = world.handle(joined(event_id="event-2"))
    assert (handled.status, handled.fault and handled.fault.code) == (OutcomeStatus.RETRYING, "NO_PLACE")
    world.remove()
    world.clock.advance(100)

    assert world.handle(joined(event_id="event-2"), receives=2).status is OutcomeStatus.ENFORCED
    assert BASE in world.attached()


def test_a_policy_without_a_place_does_not_wait_for_ever() -> None:
    world = TwoWorkers()
    world.use(document().model_copy(update={"policies_per_account": {"SERVICE_CONTROL_POLICY": 2}}))
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess", REGIONS]
    world.tag(environment="test")

    for receives in range(1, FIRST_RECEIVES + 1):
        assert world.handle(joined(), receives=receives).status is OutcomeStatus.RETRYING
        world.clock.advance(1000)

    assert world.handle(joined(), receives=FIRST_RECEIVES + 1).status is OutcomeStatus.FAILED


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "call", ["read", "tags", "member", "claims", "limit", "intend", "announce", "record", "settle"]
)
def test_a_failure_of_any_call_is_tried_again_and_removes_in_the_end(call: str) -> None:
    world = retired()
    world.steps.fail(call, RetryableError(fault("Cut", "no connection")))
    assert world.remove().status is OutcomeStatus.RETRYING
    world.clock.advance(200)

    assert world.remove(receives=2).status is OutcomeStatus.ENFORCED
    assert world.attached() == {BASE, KEPT}


def test_there_is_nothing_to_remove_from_an_account_that_has_left() -> None:
    world = retired()
    del world.organizations.attached[ACCOUNT]

    for receives in range(1, FIRST_RECEIVES + 2):
        handled = world.remove(receives=receives)
        expected = OutcomeStatus.RETRYING if receives <= FIRST_RECEIVES else OutcomeStatus.IGNORED
        assert handled.status is expected
        world.clock.advance(3600)

    assert world.dead_letters.dead_letters == []


def test_a_denied_removal_is_a_dead_letter_after_the_first_receives_and_the_others_are_removed() -> None:
    world = retired()
    denial = NotYetEffectiveError(fault("AccessDeniedException", "no"))
    for receives in range(1, FIRST_RECEIVES + 1):
        world.steps.fail("detach", denial)
        assert world.remove(receives=receives).status is OutcomeStatus.RETRYING
        world.clock.advance(1000)
    world.steps.fail("detach", denial)

    handled = world.remove(receives=FIRST_RECEIVES + 1)

    assert handled.status is OutcomeStatus.FAILED
    assert world.attached() == {BASE, EDGE, KEPT}


def test_a_request_is_read_as_what_it_is() -> None:
    world = retired()

    event = read_event(world.removals.bodies[0])

    assert (event.kind, event.event_name, event.source) == ("join", "RemovalRequest", "joinguard.removal")
