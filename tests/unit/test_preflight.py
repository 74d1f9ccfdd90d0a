"""What would fail again is known before it is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers.core.errors import JoinguardError, PermanentError, RetryableError, fault
from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.redrive.preflight import MAX_ACCOUNTS, Preflight
from handlers.core.redrive.reasons import Explanation
from handlers.operate.advice import sentence
from schemas.events import JoinRequest
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION, POLICIES, joined
from tests.operator_cli import FakeOrganization, FakePermissions, preflight


def said(explanation: Explanation | None) -> str | None:
    return sentence(explanation) if explanation else None


def filled(number: int) -> list[str]:
    return [f"p-other{n:04d}" for n in range(number)]


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({}, None),
        ({"state": "PENDING_ACTIVATION"}, None),
        ({"enabled": False}, "not enabled"),
        ({"policies": POLICIES[:1]}, f"policy {POLICIES[1]} does not exist"),
        ({"state": None}, "not a member"),
        ({"state": "SUSPENDED"}, "SUSPENDED"),
        ({"attached": filled(8)}, None),
        ({"attached": filled(9)}, "carries 9 policies and has no room for 2 more"),
        ({"attached": [*filled(8), *POLICIES]}, None),
    ],
)
def test_each_cause_is_looked_for(told: dict[str, Any], problem: str | None) -> None:
    found = preflight(FakeOrganization(**told)).would_fail(dead_letter())

    assert said(found) is None if problem is None else problem in str(said(found))


def test_how_many_policies_fit_is_a_setting() -> None:
    assert preflight(FakeOrganization(attached=filled(4)), max_policies=5).would_fail(dead_letter()) is not None
    assert preflight(FakeOrganization(attached=filled(4)), max_policies=6).would_fail(dead_letter()) is None


@pytest.mark.parametrize(
    ("refused", "named"), [(f"arn:policy/{POLICIES[0]}", POLICIES[0]), (f"arn:account/{ACCOUNT}", "the account")]
)
def test_the_role_must_be_allowed_to_attach_each_policy_to_the_account(refused: str, named: str) -> None:
    permissions = FakePermissions(refused=[refused])
    asked = preflight(permissions=permissions)

    assert f"may not attach ({named})" in str(said(asked.would_fail(dead_letter(1))))
    assert asked.would_fail(dead_letter(2, account="333333333333"))
    [(action, resources)] = permissions.calls
    assert action == "organizations:AttachPolicy"
    assert resources == (*(f"arn:policy/{each}" for each in POLICIES), f"arn:account/{ACCOUNT}")


@pytest.mark.parametrize(
    "error",
    [RetryableError(fault("TooManyRequestsException", "slow")), PermanentError(fault("AccessDeniedException", "no"))],
)
def test_what_organizations_does_not_tell_is_said_once_and_keeps_nothing_back(error: JoinguardError) -> None:
    asked = preflight(FakeOrganization(error=error))

    assert [asked.would_fail(dead_letter(number, account=f"{number:012d}")) for number in range(3)] == [None] * 3
    [unknown] = asked.unknown
    assert f"Organizations does not answer: {error.fault.code}" in sentence(unknown)


@pytest.mark.parametrize("permissions", [None, FakePermissions(error=RetryableError(fault("IAM.AccessDenied", "no")))])
def test_what_iam_does_not_tell_is_said_and_keeps_nothing_back(permissions: FakePermissions | None) -> None:
    asked = Preflight(FakeOrganization(), permissions, Guardrails(POLICIES), ORGANIZATION, MANAGEMENT, 10)

    assert asked.would_fail(dead_letter()) is None
    [unknown] = asked.unknown
    assert "whether the worker's role may attach" in sentence(unknown)


def test_bodies_that_can_never_be_enforced_are_known_without_asking_anybody() -> None:
    organization = FakeOrganization()
    asked = preflight(organization)
    request = JoinRequest(
        source="joinguard.operator",
        event_id="e-1",
        requested_at=NOON,
        account_id=ACCOUNT,
        organization_id="o-anotherone1",
        reason="x",
    )

    assert "unreadable" in str(said(asked.would_fail(dead_letter(body="{broken"))))
    assert "management account" in str(said(asked.would_fail(dead_letter(account=MANAGEMENT))))
    assert "another organization" in str(said(asked.would_fail(dead_letter(body=request.model_dump_json()))))
    no_join = json.dumps(joined(action="APPROVE_ALL_FEATURES"))
    assert asked.would_fail(dead_letter(body=no_join)) is None
    assert not organization.calls


def test_the_organization_is_asked_once_and_each_account_once() -> None:
    organization = FakeOrganization()
    asked = preflight(organization)

    for number in range(30):
        asked.would_fail(dead_letter(number, account=f"{number % 3:012d}"))

    assert organization.calls == {"enabled": 1, "policy": 2, "account": 3, "attached": 3}


def test_of_many_accounts_only_the_first_are_asked_about_and_those_whose_state_was_the_reason() -> None:
    """Organizations allows five such looks a second, and the worker needs them too."""
    organization = FakeOrganization()
    asked = preflight(organization)
    for number in range(MAX_ACCOUNTS + 50):
        asked.would_fail(dead_letter(number, account=f"{number:012d}"))
    assert organization.calls["account"] == MAX_ACCOUNTS

    asked.would_fail(dead_letter(code="ConstraintViolationException", account="999999999999"))

    assert organization.calls["account"] == MAX_ACCOUNTS + 1
