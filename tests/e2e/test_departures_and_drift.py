"""Departures and detached policies, end to end: real template, real zip, IAM enforced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from infra.local.events import account_departed, account_removed, policy_detached, policy_updated
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from infra.local.events import Event
    from tests.e2e.conftest import Pipeline

REFUSED = (400, "ConstraintViolationException")


def event_id(event: Event) -> str:
    return str(event["detail"]["eventID"])


def earlier(event: Event, seconds: int) -> Event:
    """Return an event as one that happened earlier."""
    time = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return event | {"detail": event["detail"] | {"eventTime": time}}


def detach(pipeline: Pipeline, account_id: str) -> Event:
    """Detach a policy as others do, and return the event."""
    policy_id = pipeline.at.policy_ids[0]
    pipeline.client("organizations").detach_policy(PolicyId=policy_id, TargetId=account_id)
    return policy_detached(account_id, pipeline.at.management_account_id, policy_id)


def test_an_account_that_leaves_has_its_record_closed(pipeline: Pipeline) -> None:
    account_id, at = pipeline.account(), pipeline.at
    join = earlier(pipeline.invited(account_id), 10)
    pipeline.relay.fail_next("AttachPolicy", REFUSED)
    pipeline.handle(join)
    assert pipeline.outcome(event_id(join)).status is OutcomeStatus.FAILED
    departure = account_departed(account_id, at.organization_id, at.management_account_id)

    # The stand-in cannot remove accounts, so the relay answers as AWS does after that.
    for event in (departure, account_removed(account_id, at.management_account_id)):
        pipeline.relay.fail_next("DescribeAccount", (400, "AccountNotFoundException"))
        pipeline.handle(event)

    own, joined = pipeline.outcome(event_id(departure)), pipeline.outcome(event_id(join))
    assert own.status is joined.status is OutcomeStatus.CLOSED
    assert joined.departed is not None
    assert joined.departed.event_id == event_id(departure)
    assert event_id(join) not in pipeline.watch.failing()
    [evidence] = pipeline.watch.evidence(event_id(departure))
    assert evidence.departure is not None
    assert account_id not in evidence.model_dump_json()


def test_a_late_departure_closes_nothing_of_the_membership_after_it(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    join = earlier(pipeline.invited(account_id), 10)
    pipeline.relay.fail_next("AttachPolicy", REFUSED)
    pipeline.handle(join)
    departure = earlier(account_removed(account_id, pipeline.at.management_account_id), 3600)

    pipeline.handle(departure)

    assert pipeline.outcome(event_id(departure)).status is OutcomeStatus.CLOSED
    assert pipeline.outcome(event_id(join)).status is OutcomeStatus.FAILED


def test_a_policy_that_somebody_detaches_again_and_again_is_left_off(pipeline: Pipeline) -> None:
    account_id, policies = pipeline.account(), set(pipeline.at.policy_ids)
    pipeline.handle(pipeline.invited(account_id))
    for _ in range(3):
        pipeline.handle(detach(pipeline, account_id))
        assert pipeline.watch.attached(account_id) == policies

    last = detach(pipeline, account_id)
    pipeline.handle(last)

    outcome = pipeline.outcome(event_id(last))
    [letter] = pipeline.watch.dead_letters()
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.called is not None
    assert outcome.called.principal is not None
    assert pipeline.watch.attached(account_id) == policies - {pipeline.at.policy_ids[0]}
    why = letter["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "RESTORES_STOPPED"
    assert outcome.called.principal.value in why

    pipeline.watch.redrive(letter)
    pipeline.watch.until_quiet()

    assert pipeline.watch.attached(account_id) == policies, "a person decided that"


def test_a_change_of_the_guardrails_is_one_dead_letter(pipeline: Pipeline) -> None:
    event = policy_updated(pipeline.at.policy_ids[0], pipeline.at.management_account_id)

    pipeline.handle(event)

    outcome = pipeline.outcome(event_id(event))
    assert (outcome.account_id, outcome.status) == ("none", OutcomeStatus.FAILED)
    [letter] = pipeline.watch.dead_letters()
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "GUARDRAILS_CHANGED"
    assert not [line for line in pipeline.log() if "arn:" in line or "OrganizationAdmin" in line]
