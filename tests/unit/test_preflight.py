"""The pre-flight finds out why a message would fail again, before it is sent."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pytest

from handlers.core.errors import JoinguardError, PermanentError, RetryableError, fault
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.redrive.explanations import Problems, Reason
from handlers.core.redrive.preflight import MAX_ACCOUNTS, Preflight
from handlers.operate.advice import sentence, sentences
from schemas.compiled_guardrails import PolicyType
from schemas.events import JoinRequest
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, POLICIES, FakeClock, joined
from tests.operator_cli import REQUIREMENTS, FakeOrganization, FakePermissions, preflight


def text(explanations: Problems) -> str | None:
    return sentences(explanations) or None


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
        # Nothing is missing, so nothing has to be attached.
        ({"attached": [*other_policies(20), *POLICIES]}, None),
        ({"attached": [*other_policies(20), *POLICIES], "state": "SUSPENDED"}, None),
    ],
)
def test_each_cause_is_found(organization: dict[str, Any], problem: str | None) -> None:
    found = text(preflight(FakeOrganization(**organization)).would_fail(dead_letter()))

    assert found is None if problem is None else problem in str(found)


@pytest.mark.parametrize(
    ("code", "message", "reasons"),
    [
        ("PolicyNotFoundException", f"{POLICIES[1]}: We can't find", ["policy 1", "policy 0", "account"]),
        ("PolicyNotFoundException", "We can't find a policy", ["policy 0", "policy 1", "account"]),
        ("TargetNotFoundException", "no such account", ["account", "policy 0", "policy 1"]),
        ("AccessDeniedException", f"{POLICIES[1]}: no", ["policy 0", "policy 1", "account"]),
    ],
)
def test_every_reason_is_found_and_the_messages_own_comes_first(code: str, message: str, reasons: list[str]) -> None:
    checks = preflight(FakeOrganization(policies=(), state=None))

    found = checks.would_fail(dead_letter(code=code, error_message=message))

    names: dict[tuple[Reason, tuple[str | int, ...]], str] = {(Reason.ACCOUNT_NOT_FOUND, ()): "account"}
    names |= {(Reason.POLICY_NOT_FOUND, (each,)): f"policy {number}" for number, each in enumerate(POLICIES)}
    assert [names[each.reason, each.values] for each in found] == reasons


def test_every_reason_about_one_account_is_found() -> None:
    checks = preflight(
        FakeOrganization(enabled=False, state="SUSPENDED", attached=other_policies(9)),
        FakePermissions(refused=[f"arn:policy/{POLICIES[0]}"]),
    )

    assert [each.reason for each in checks.of_account(ACCOUNT)] == [
        Reason.POLICY_TYPE_DISABLED,
        Reason.ACCOUNT_NOT_ACTIVE,
        Reason.TOO_MANY_POLICIES,
        Reason.ACCESS_DENIED,
    ]


def test_a_policy_that_is_attached_needs_no_permission() -> None:
    permissions = FakePermissions(refused=[f"arn:policy/{POLICIES[0]}"])

    assert not preflight(FakeOrganization(attached=POLICIES[:1]), permissions).of_account(ACCOUNT)
    assert preflight(FakeOrganization(attached=POLICIES[1:]), permissions).of_account(ACCOUNT)


def test_an_error_keeps_the_reasons_that_were_found_before() -> None:
    @dataclass
    class Throttled(FakeOrganization):
        def attached_policies(self, account_id: str, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
            assert types
            raise RetryableError(fault("TooManyRequestsException", account_id))

    checks = preflight(Throttled(state="SUSPENDED", policies=POLICIES[:1]))

    assert [each.reason for each in checks.of_account(ACCOUNT)] == [Reason.POLICY_NOT_FOUND, Reason.ACCOUNT_NOT_ACTIVE]
    assert checks.unknown


def test_the_maximum_number_of_policies_is_a_setting() -> None:
    assert preflight(FakeOrganization(attached=other_policies(4)), max_policies=5).would_fail(dead_letter())
    assert not preflight(FakeOrganization(attached=other_policies(4)), max_policies=6).would_fail(dead_letter())


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

    assert [checks.would_fail(dead_letter(number, account=f"{number:012d}")) for number in range(3)] == [()] * 3
    [unknown] = checks.unknown
    assert f"Organizations does not answer: {error.fault.code}" in sentence(unknown)


@pytest.mark.parametrize("permissions", [None, FakePermissions(error=RetryableError(fault("IAM.AccessDenied", "no")))])
def test_unknown_permissions_are_reported_and_hold_no_message_back(permissions: FakePermissions | None) -> None:
    checks = Preflight(FakeOrganization(), permissions, REQUIREMENTS, 10, FakeClock())

    assert not checks.would_fail(dead_letter())
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
    assert not checks.would_fail(dead_letter(body=not_a_join))
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
