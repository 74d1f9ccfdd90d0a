"""Somebody changes or deletes a policy of the guardrails, or switches its type off: one fault, and who did it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import Join, NoJoin, PolicyChange
from schemas.intake import InvalidEventError, read_event
from schemas.outcome import OutcomeStatus
from tests.fakes import ACCOUNT, MANAGEMENT, World
from tests.messages import Event, deleted, detached, disabled, read, updated, with_detail

OURS = {
    "changed": (updated(), "policy p-aaaaaaaa, which the guardrails need, was changed by prin-"),
    "deleted": (deleted(), "policy p-aaaaaaaa, which the guardrails need, was deleted by prin-"),
    "switched off": (disabled(), "policy type SERVICE_CONTROL_POLICY, which the guardrails need, was switched off by"),
    "by nobody that the event names": (with_detail(updated(), userIdentity=None), "does not say by whom"),
}
OTHERS = {
    "another policy changed": updated("p-foreign1"),
    "another policy deleted": deleted("p-foreign1"),
    "another type": disabled("TAG_POLICY"),
}


@pytest.mark.parametrize(("event", "why"), OURS.values(), ids=OURS)
def test_a_change_of_the_guardrails_is_one_fault_that_says_who(event: Event, why: str) -> None:
    world = World()

    handled = world.handle(event)

    [(account_id, event_id)] = world.ledger.rows
    outcome = world.ledger.outcome(event_id)
    [evidence] = world.evidence()
    assert account_id == "none"
    assert handled.status is outcome.status is evidence.status is OutcomeStatus.FAILED
    assert outcome.fault
    assert outcome.fault.code == "GUARDRAILS_CHANGED"
    assert why in outcome.fault.message
    assert evidence.fault
    assert evidence.fault.message == outcome.fault.message
    assert evidence.called == outcome.called
    assert "someone" not in evidence.model_dump_json()
    assert "read" not in world.steps.log, "no account is evaluated"
    assert len(world.dead_letters.dead_letters) == 1


@pytest.mark.parametrize("event", OTHERS.values(), ids=OTHERS)
def test_a_change_of_anything_else_is_ignored_with_the_reason(event: Event) -> None:
    world = World()

    handled = world.handle(event)

    assert handled.status is OutcomeStatus.IGNORED
    assert handled.fault
    assert handled.fault.code == "NOT_GUARDED"
    assert not world.dead_letters.dead_letters


def test_a_detached_policy_names_account_policy_and_caller() -> None:
    found = read(detached())

    assert isinstance(found, Join)
    assert (found.cause, found.account_id, found.change.detached) == ("detached", ACCOUNT, "p-aaaaaaaa")
    assert found.caller
    assert found.caller.endswith(":assumed-role/OrganizationAdmin/someone")
    assert "someone" not in repr(found)


@pytest.mark.parametrize("identity", [None, {}, {"arn": 7}, {"arn": "someone"}, {"arn": "arn:" + "x" * 2048}])
@pytest.mark.parametrize("event", [detached(), updated()], ids=["detached", "updated"])
def test_a_caller_that_is_not_readable_is_nobody(event: Event, identity: Any) -> None:
    found = read(with_detail(event, userIdentity=identity))

    assert isinstance(found, Join | PolicyChange)
    assert found.caller is None


@pytest.mark.parametrize("target", ["ou-exam-12345678", "r-exam", MANAGEMENT])
def test_policies_of_ous_of_the_root_and_of_the_management_account_are_ignored(target: str) -> None:
    found = read_event(json.dumps(detached(target)), management_account_id=MANAGEMENT)

    assert isinstance(found, NoJoin)
    assert "guards accounts" in found.reason or "management account" in found.reason


INVALID = {
    "a detachment from nothing": (detached(target=""), "targetId: must be the id of an account, an OU or the root"),
    "a detachment from eleven digits": (detached(target="22222222222"), "targetId: must be an account id"),
    "a detachment of nothing": (detached(policy_id=""), "policyId: must be a policy id"),
    "a change of a name": (updated("deny-leave"), "policyId: must be a policy id"),
    "a deletion without parameters": (with_detail(deleted(), requestParameters=None), "policyId: must be"),
    "a type in another form": (disabled("Service control policy 222222222222"), "policyType: must be a policy type"),
    "a detachment with two targets": (
        json.dumps(detached()).replace('"targetId"', '"targetId": "333333333333", "targetId"'),
        "more than once",
    ),
}


@pytest.mark.parametrize(("event", "message"), INVALID.values(), ids=INVALID)
def test_what_does_not_name_its_policy_and_target_is_rejected(event: Any, message: str) -> None:
    with pytest.raises(InvalidEventError, match=message) as error:
        read_event(event if isinstance(event, str) else json.dumps(event), management_account_id=MANAGEMENT)

    assert "222222222222" not in str(error.value)
