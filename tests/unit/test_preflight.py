"""The pre-flight finds out why a message would fail again, before it is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers.core.errors import JoinguardError, PermanentError, RetryableError, fault
from handlers.core.redrive.explanations import Explanation
from handlers.core.redrive.preflight import MAX_ACCOUNTS, Preflight
from handlers.operate.advice import sentence
from schemas.events import JoinRequest
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, POLICIES, joined
from tests.operator_cli import REQUIREMENTS, FakeOrganization, FakePermissions, preflight


def text(explanation: Explanation | None) -> str | None:
    return sentence(explanation) if explanation else None


def other_policies(number: int) -> list[str]:
    return [f"p-other{n:04d}" for n in range(number)]


@pytest.mark.parametrize(
    ("organization", "problem"),
    [
        ({}, None),
        ({"state": "PENDING_ACTIVATION"}, None),
        ({"enabled": False}, "not enabled"),
        ({"policies": POLICIES[:1]}, f"policy {POLICIES[1]} does not exist"),
        ({"state": None}, "not a member"),
        ({"state": "SUSPENDED"}, "SUSPENDED"),
        ({"attached": other_policies(8)}, None),
        ({"attached": other_policies(9)}, "carries 9 policies and has no room for 2 more"),
        ({"attached": [*other_policies(8), *POLICIES]}, None),
    ],
)
def test_each_cause_is_found(organization: dict[str, Any], problem: str | None) -> None:
    explanation = preflight(FakeOrganization(**organization)).would_fail(dead_letter())

    assert text(explanation) is None if problem is None else problem in str(text(explanation))


def test_the_maximum_number_of_policies_is_a_setting() -> None:
    assert preflight(FakeOrganization(attached=other_policies(4)), max_policies=5).would_fail(dead_letter()) is not None
    assert preflight(FakeOrganization(attached=other_policies(4)), max_policies=6).would_fail(dead_letter()) is None


@pytest.mark.parametrize(
    ("refused", "name"), [(f"arn:policy/{POLICIES[0]}", POLICIES[0]), (f"arn:account/{ACCOUNT}", "the account")]
)
def test_the_role_must_be_allowed_to_attach_each_policy_to_the_account(refused: str, name: str) -> None:
    permissions = FakePermissions(refused=[refused])
    checks = preflight(permissions=permissions)

    assert f"may not attach ({name})" in str(text(checks.would_fail(dead_letter(1))))
    assert checks.would_fail(dead_letter(2, account="333333333333"))
    [(action, resources)] = permissions.calls
    assert action == "organizations:AttachPolicy"
    assert resources == (*(f"arn:policy/{each}" for each in POLICIES), f"arn:account/{ACCOUNT}")


@pytest.mark.parametrize(
    "error",
    [RetryableError(fault("TooManyRequestsException", "slow")), PermanentError(fault("AccessDeniedException", "no"))],
)
def test_an_error_of_organizations_is_reported_once_and_holds_no_message_back(error: JoinguardError) -> None:
    checks = preflight(FakeOrganization(error=error))

    assert [checks.would_fail(dead_letter(number, account=f"{number:012d}")) for number in range(3)] == [None] * 3
    [unknown] = checks.unknown
    assert f"Organizations does not answer: {error.fault.code}" in sentence(unknown)


@pytest.mark.parametrize("permissions", [None, FakePermissions(error=RetryableError(fault("IAM.AccessDenied", "no")))])
def test_unknown_permissions_are_reported_and_hold_no_message_back(permissions: FakePermissions | None) -> None:
    checks = Preflight(FakeOrganization(), permissions, REQUIREMENTS, 10)

    assert checks.would_fail(dead_letter()) is None
    [unknown] = checks.unknown
    assert "whether the worker's role may attach" in sentence(unknown)


def test_messages_that_can_never_succeed_are_found_without_a_call() -> None:
    organization = FakeOrganization()
    checks = preflight(organization)
    request = JoinRequest(
        source="joinguard.operator",
        event_id="e-1",
        requested_at=NOON,
        account_id=ACCOUNT,
        organization_id="o-anotherone1",
        reason="x",
    )

    assert "unreadable" in str(text(checks.would_fail(dead_letter(body="{broken"))))
    assert "management account" in str(text(checks.would_fail(dead_letter(account=MANAGEMENT))))
    assert "another organization" in str(text(checks.would_fail(dead_letter(body=request.model_dump_json()))))
    not_a_join = json.dumps(joined(action="APPROVE_ALL_FEATURES"))
    assert checks.would_fail(dead_letter(body=not_a_join)) is None
    assert not organization.calls


def test_the_organization_and_each_account_are_read_once() -> None:
    organization = FakeOrganization()
    checks = preflight(organization)

    for number in range(30):
        checks.would_fail(dead_letter(number, account=f"{number % 3:012d}"))

    assert organization.calls == {"enabled": 1, "policy": 2, "account": 3, "attached": 3}


def test_after_the_first_accounts_only_those_whose_own_state_was_the_cause_are_read() -> None:
    """Organizations allows five such reads a second, and the worker needs them too."""
    organization = FakeOrganization()
    checks = preflight(organization)
    for number in range(MAX_ACCOUNTS + 50):
        checks.would_fail(dead_letter(number, account=f"{number:012d}"))
    assert organization.calls["account"] == MAX_ACCOUNTS

    checks.would_fail(dead_letter(code="ConstraintViolationException", account="999999999999"))

    assert organization.calls["account"] == MAX_ACCOUNTS + 1
