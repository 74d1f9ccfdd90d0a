"""An account leaves: its record is closed, and nothing of a later membership is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from handlers.core.errors import NotYetEffectiveError, RetryableError, fault
from handlers.core.joins.run import FIRST_RECEIVES
from infra.local.events import account_closed, account_departed, account_removed
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION, POLICIES, World, joined, of_age
from tests.messages import found_missing
from tests.removals import BASE, TwoWorkers

CLOSED, FAILED, RETRYING = OutcomeStatus.CLOSED, OutcomeStatus.FAILED, OutcomeStatus.RETRYING
#: Seconds before noon: the account joined, left, and joined again.
JOINED, LEFT, BACK = 7200, 3600, 900
LATER = 3600


def departed(age: float = LEFT, *, event_id: str = "departure-1", **details: object) -> dict[str, Any]:
    return of_age(age, account_departed(ACCOUNT, ORGANIZATION, MANAGEMENT, **details), event_id=event_id)


def leave(world: World) -> None:
    """Let the account leave, which takes its policies off."""
    del world.organizations.attached[ACCOUNT]


def come_back(world: World, age: float = BACK) -> None:
    """Let the account join again some seconds before noon."""
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess"]
    world.organizations.joined_at[ACCOUNT] = NOON - timedelta(seconds=age)


def failed_join(world: World, *, event_id: str = "event-1", age: float = JOINED) -> None:
    """Leave a join that failed for a lasting cause."""
    error = NotYetEffectiveError(fault("AccessDeniedException", "no"))
    world.steps.fail("attach", error, error)
    world.handle(joined(event_id=event_id, age=age), receives=FIRST_RECEIVES + 1)
    assert world.ledger.outcome(event_id).status is FAILED


def test_what_an_account_that_left_leaves_open_is_closed_with_time_and_cause() -> None:
    world = World()
    failed_join(world)
    leave(world)

    handled = world.handle(departed())

    outcome = world.ledger.outcome("event-1")
    assert handled.status is CLOSED
    assert outcome.status is CLOSED
    assert outcome.departed is not None
    assert outcome.departed.cause == "removed"
    assert outcome.departed.left_at == NOON - timedelta(seconds=LEFT)
    assert outcome.departed.event_id == "departure-1"
    assert outcome.fault, "why it had failed stays"
    assert outcome.fault.code == "AccessDeniedException"


def test_the_departure_has_an_outcome_and_evidence_of_its_own() -> None:
    world = World()
    leave(world)

    world.handle(departed())

    outcome, [evidence] = world.ledger.outcome("departure-1"), world.evidence()
    assert outcome.status is evidence.status is CLOSED
    assert outcome.fault
    assert outcome.fault.code == "ACCOUNT_LEFT"
    assert "it was removed" in outcome.fault.message
    assert evidence.departure
    assert (evidence.departure.cause, evidence.departure.event_id) == ("removed", "departure-1")
    assert evidence.account
    assert ACCOUNT not in evidence.model_dump_json()
    assert not world.dead_letters.dead_letters


def test_a_repeated_departure_changes_nothing_and_asks_nobody() -> None:
    world = World()
    failed_join(world)
    leave(world)
    world.handle(departed())
    rows, evidence = str(world.ledger.rows), dict(world.archive.bodies)
    world.steps.log.clear()

    handled = world.handle(departed())

    assert handled.status is CLOSED
    assert world.steps.log == ["pseudonym", "begin"]
    assert (str(world.ledger.rows), world.archive.bodies) == (rows, evidence)


def test_both_events_of_one_departure_end_well() -> None:
    world = World()
    failed_join(world)
    leave(world)

    first = world.handle(departed())
    second = world.handle(of_age(LEFT, account_removed(ACCOUNT, MANAGEMENT), event_id="departure-2"))

    assert first.status is second.status is CLOSED


def test_nothing_is_closed_while_organizations_still_lists_the_account() -> None:
    world = World()
    failed_join(world)

    young = world.handle(departed(age=60))
    world.clock.advance(LATER)
    old = world.handle(departed(age=60), receives=9)

    assert young.status is RETRYING
    assert old.status is OutcomeStatus.IGNORED
    assert old.fault
    assert old.fault.code == "STILL_A_MEMBER"
    assert world.ledger.outcome("event-1").status is FAILED


@pytest.mark.parametrize("error", [RetryableError(fault("ServiceException", "down"), soon=False), "denied"])
def test_nothing_is_closed_if_organizations_does_not_answer(error: Any) -> None:
    world = World()
    failed_join(world)
    leave(world)
    denied = NotYetEffectiveError(fault("AccessDeniedException", "no"))
    world.steps.fail("member", denied if error == "denied" else error)

    handled = world.handle(departed())

    assert handled.status is RETRYING
    assert world.ledger.outcome("event-1").status is FAILED


def test_a_lasting_refusal_to_answer_is_a_dead_letter_and_closes_nothing() -> None:
    world = World()
    failed_join(world)
    leave(world)
    world.steps.fail("member", NotYetEffectiveError(fault("AccessDeniedException", "no")))

    handled = world.handle(departed(), receives=FIRST_RECEIVES + 1)

    assert handled.status is FAILED
    assert world.ledger.outcome("event-1").status is FAILED


def test_a_late_departure_closes_nothing_of_the_membership_after_it() -> None:
    world = World()
    failed_join(world)
    come_back(world)
    failed_join(world, event_id="event-2", age=BACK)

    handled = world.handle(departed())

    assert world.ledger.outcome("event-1").status is CLOSED
    assert world.ledger.outcome("event-2").status is FAILED
    assert handled.fault
    assert "joined again" in handled.fault.message


def test_a_report_of_the_sweep_that_the_account_has_outrun_closes_nothing() -> None:
    """The account came back after the sweep had read the accounts, and before it sent the report."""
    world = World()
    come_back(world, age=60)
    failed_join(world, event_id="event-2", age=60)

    world.handle(found_missing(requested_at=NOON.isoformat()))

    assert world.ledger.outcome("event-2").status is FAILED


def test_what_the_sweep_finds_is_closed_too() -> None:
    world = World()
    failed_join(world)
    leave(world)

    handled = world.handle(found_missing(requested_at=NOON.isoformat()))

    outcome = world.ledger.outcome("event-1")
    assert handled.status is outcome.status is CLOSED
    assert outcome.departed
    assert outcome.departed.cause == "missing"


def test_a_running_attempt_is_respected_and_its_outcome_closed_later() -> None:
    world = World()
    failed_join(world)
    leave(world)
    row = world.ledger.rows[ACCOUNT, "event-1"]
    row |= {"status": RETRYING, "lease_until": NOON + timedelta(seconds=60)}

    during = world.handle(departed())
    status = row["status"]
    world.clock.advance(120)
    after = world.handle(departed(), receives=2)

    assert during.status is status is RETRYING
    assert after.status is world.ledger.outcome("event-1").status is CLOSED


def test_the_outcome_of_a_departure_that_failed_is_not_closed_by_another_one() -> None:
    """Its message is in the dead letters, and a redrive decides it."""
    world = World()
    leave(world)
    world.steps.fail("member", NotYetEffectiveError(fault("AccessDeniedException", "no")))
    world.handle(departed(age=LEFT + 1), receives=FIRST_RECEIVES + 1)

    world.handle(departed(event_id="departure-2"))

    assert world.ledger.outcome("departure-1").status is FAILED


@pytest.mark.parametrize("state", ["SUSPENDED", "PENDING_CLOSURE", "CLOSED"])
def test_a_closed_account_is_left_although_it_is_listed(state: str) -> None:
    world = World()
    failed_join(world)
    world.organizations.states[ACCOUNT] = state
    closure = of_age(LEFT, account_closed(ACCOUNT, MANAGEMENT), event_id="departure-1")

    handled = world.handle(closure)

    assert handled.status is world.ledger.outcome("event-1").status is CLOSED


def test_a_closure_closes_nothing_if_the_account_is_active() -> None:
    world = World()
    failed_join(world)

    handled = world.handle(of_age(LEFT, account_closed(ACCOUNT, MANAGEMENT), event_id="departure-1"))

    assert handled.status is OutcomeStatus.IGNORED
    assert world.ledger.outcome("event-1").status is FAILED


def test_a_removed_account_is_not_left_because_it_is_suspended() -> None:
    """Only after a closure, a listed account has left: the read may be older than the removal."""
    world = World()
    world.organizations.states[ACCOUNT] = "SUSPENDED"

    assert world.handle(departed(age=60)).status is RETRYING


@pytest.mark.parametrize(
    ("change", "code"),
    [({"organization_id": "o-someoneelse"}, "WRONG_ORGANIZATION"), ({"account_id": MANAGEMENT}, "MANAGEMENT_ACCOUNT")],
)
def test_a_report_about_somebody_else_is_refused(change: dict[str, str], code: str) -> None:
    world = World()

    handled = world.handle(found_missing(**change))

    assert handled.status is FAILED
    assert handled.fault
    assert handled.fault.code == code


def test_an_attempt_at_a_join_of_an_account_that_has_left_ends_as_closed() -> None:
    """Today's join of an account that left again at once, and whose departure is known before the join is tried."""
    world = World()
    leave(world)
    world.handle(departed(age=10))

    handled = world.handle(joined(age=20))

    assert handled.status is world.ledger.outcome("event-1").status is CLOSED
    assert handled.fault
    assert handled.fault.code == "ACCOUNT_LEFT"
    assert not world.dead_letters.dead_letters
    assert world.evidence()[-1].status is CLOSED


def test_an_account_that_leaves_while_policies_are_attached_ends_as_closed() -> None:
    world = World()

    def on_call(name: str, when: str) -> None:
        if (name, when) == ("attach", "before") and ACCOUNT in world.organizations.attached:
            world.steps.on_call = lambda _name, _when: None
            leave(world)
            world.handle(departed(age=1))

    world.steps.on_call = on_call
    world.handle(joined())
    world.clock.advance(60)
    departure = world.handle(departed(age=1), receives=2)
    join = world.handle(joined(), receives=2)

    assert departure.status is join.status is CLOSED


def test_a_join_that_is_not_found_waits_for_a_departure_that_is_being_handled() -> None:
    """Otherwise it could end as FAILED after the departure has looked for it."""
    world = World()
    leave(world)
    world.steps.fail("member", RetryableError(fault("ServiceException", "down")))
    world.handle(departed())

    handled = world.handle(joined(age=JOINED), receives=FIRST_RECEIVES + 1)

    assert handled.status is RETRYING
    world.handle(departed(), receives=2)
    assert world.handle(joined(age=JOINED), receives=FIRST_RECEIVES + 2).status is CLOSED


def test_without_a_known_departure_an_account_that_is_not_found_still_fails() -> None:
    world = World()
    leave(world)

    assert world.handle(joined(age=JOINED)).status is FAILED


def test_a_departure_before_the_join_does_not_excuse_it() -> None:
    world = World()
    leave(world)
    world.handle(departed())

    assert world.handle(joined(event_id="event-2", age=BACK)).status is RETRYING, "it is young, and may appear"
    world.clock.advance(LATER)
    assert world.handle(joined(event_id="event-2", age=BACK), receives=9).status is FAILED


def test_a_healthy_join_reads_no_departures() -> None:
    world = World()

    world.handle(joined())

    assert not {"outcomes", "member"} & set(world.steps.log)


def test_an_account_that_comes_back_is_new_work_whatever_its_old_rows_say() -> None:
    world = World()
    world.handle(joined(age=JOINED))
    leave(world)
    world.handle(departed())
    come_back(world)

    handled = world.handle(joined(event_id="event-2", age=BACK))

    assert handled.status is OutcomeStatus.ENFORCED
    assert [each.result for each in handled.policies] == [AttachmentResult.ATTACHED] * len(POLICIES)
    assert world.attached() == set(POLICIES)


def test_a_closed_join_that_comes_again_is_new_work() -> None:
    world = World()
    failed_join(world)
    leave(world)
    world.handle(departed())
    come_back(world)

    handled = world.handle(joined(age=JOINED))

    outcome = world.ledger.outcome("event-1")
    assert handled.status is outcome.status is OutcomeStatus.ENFORCED
    assert outcome.departed is None


def test_what_was_attached_before_the_departure_is_not_removed_after_it() -> None:
    """The account came back, and somebody else attached the same policy."""
    world = TwoWorkers()
    world.join()
    leave(world)
    world.handle(departed(age=-60))
    world.clock.advance(600)
    come_back(world, age=-300)
    world.organizations.attached[ACCOUNT] += [BASE, "p-regions11"]
    world.retire(event_id="event-2")

    handled = world.remove()

    assert [(each.policy_id, each.result) for each in handled.policies] == [("p-regions11", AttachmentResult.KEPT)]


def test_the_worker_that_removes_policies_refuses_departures() -> None:
    world = TwoWorkers()

    handled = world.remove(str(found_missing()).replace("'", '"'))

    assert handled.fault
    assert handled.fault.code == "INVALID_EVENT"
