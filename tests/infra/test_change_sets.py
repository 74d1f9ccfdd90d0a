"""Change sets that CloudFormation rejects, fails to execute, or that are declined."""

from __future__ import annotations

from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from infra.deploy.stack import DeployError, Plan, Request, discard, execute, plan, prepare
from tests.stubs import StubbedSession

STACK: Final = "joinguard-test"
UPDATE: Final = Plan(STACK, "UPDATE", "change-set", ())
CREATE: Final = Plan(STACK, "CREATE", "change-set", ())
CLOUDFORMATION: Final = "cloudformation"
TIMES: Final = {"CreationTime": "2026-11-24T12:00:00Z"}


def described(status: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": STACK, "StackId": f"arn:x/{STACK}/1", "StackStatus": status} | TIMES]}


def planned(session: StubbedSession) -> Plan | None:
    client = session.client(CLOUDFORMATION)
    return plan(client, Request(STACK, "CREATE", {}, template="Resources: {}"), poll_seconds=1)


@pytest.mark.parametrize(("reason", "expected"), [("Unresolved resource dependency", "Unresolved"), ("", "Waiter")])
def test_a_change_that_cloudformation_rejects_is_an_error_with_the_reason(reason: str, expected: str) -> None:
    session = StubbedSession()
    session.answer(CLOUDFORMATION, "create_change_set", {"Id": "change-set"})
    for _ in ("by the waiter", "for the reason"):
        failed = {"Status": "FAILED", "StatusReason": reason}
        session.answer(CLOUDFORMATION, "describe_change_set", failed)
    session.answer(CLOUDFORMATION, "delete_change_set", {}, StackName=STACK, ChangeSetName="change-set")
    session.fail(CLOUDFORMATION, "describe_stacks", "ValidationError", "does not exist")

    with pytest.raises(DeployError, match=f"rejected the change to stack {STACK}: {expected}"):
        planned(session)
    session.assert_used()


def test_a_stack_that_cannot_be_read_is_not_created() -> None:
    session = StubbedSession()
    session.fail(CLOUDFORMATION, "describe_stacks", "AccessDenied")

    with pytest.raises(ClientError, match="AccessDenied"):
        prepare(session.client(CLOUDFORMATION), STACK, log=pytest.fail)


def event(resource: str, status: str, reason: str | None = None) -> dict[str, Any]:
    why = {"ResourceStatusReason": reason} if reason else {}
    fields = {"StackId": "x", "EventId": "x", "StackName": STACK, "Timestamp": "2026-11-24T12:00:00Z"}
    return {**fields, "LogicalResourceId": resource, "ResourceStatus": status, **why}


LATEST_FIRST: Final = [
    event(STACK, "UPDATE_ROLLBACK_COMPLETE"),
    event("Joins", "UPDATE_FAILED", "Resource update cancelled"),
    event("Evidence", "UPDATE_FAILED", "the bucket exists"),
    event("Evidence", "UPDATE_IN_PROGRESS"),
]


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        (LATEST_FIRST, "Evidence: the bucket exists"),
        ([event("Joins", "CREATE_FAILED")], "Joins: no reason given"),
        (LATEST_FIRST[:1], "Waiter"),
    ],
    ids=["several", "without a reason", "none"],
)
@pytest.mark.parametrize(
    ("change", "status"),
    [(UPDATE, "UPDATE_ROLLBACK_COMPLETE"), (CREATE, "ROLLBACK_COMPLETE")],
    ids=["U", "C"],
)
def test_a_failed_execution_names_the_resource_that_failed_first(
    change: Plan, status: str, events: list[dict[str, Any]], cause: str
) -> None:
    session = StubbedSession()
    session.answer(CLOUDFORMATION, "describe_stacks", described("REVIEW_IN_PROGRESS"))
    session.answer(CLOUDFORMATION, "execute_change_set", {}, StackName=STACK, ChangeSetName="change-set")
    session.answer(CLOUDFORMATION, "describe_stacks", described(status))
    session.answer(CLOUDFORMATION, "describe_stack_events", {"StackEvents": events})
    session.answer(CLOUDFORMATION, "describe_stacks", described(status))

    with pytest.raises(DeployError, match=f"{change.kind.lower()} of stack {STACK} failed: {cause}"):
        execute(session.client(CLOUDFORMATION), change, poll_seconds=1)


def test_a_declined_update_keeps_the_stack_and_a_declined_creation_deletes_it() -> None:
    for change in (UPDATE, CREATE):
        session = StubbedSession()
        session.answer(CLOUDFORMATION, "delete_change_set", {}, StackName=STACK, ChangeSetName="change-set")
        status = "REVIEW_IN_PROGRESS" if change is CREATE else "UPDATE_COMPLETE"
        session.answer(CLOUDFORMATION, "describe_stacks", described(status))
        if change is CREATE:
            session.answer(CLOUDFORMATION, "delete_stack", {}, StackName=f"arn:x/{STACK}/1")

        # A call without an answer would fail.
        discard(session.client(CLOUDFORMATION), change)

        session.assert_used()
