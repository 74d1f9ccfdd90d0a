"""The worker that removes policies is stopped before a change set deletes it."""

from __future__ import annotations

from typing import Any

import pytest

from infra.deploy.removing import stop_before
from infra.deploy.stack import DeployError, Plan
from infra.deploy.stages import Stage, Target
from tests.stubs import StubbedSession

MAPPING = "11111111-2222-4333-8444-555555555555"
REMOVES = ("Remove", "DetachPoliciesMapping", "AWS::Lambda::EventSourceMapping", "")


def target(session: StubbedSession) -> Target:
    any_session: Any = session
    return Target(any_session, Stage(name="prod", region="us-east-1"), poll_seconds=1)


def plan(*changes: tuple[str, str, str, str]) -> Plan:
    return Plan("joinguard", "UPDATE", "arn:change-set", changes)


def prepared(*states: str) -> StubbedSession:
    """Return a session of a stack with the worker, whose mapping has these states one after the other."""
    session = StubbedSession()
    for name, physical in (("DetachPoliciesMapping", MAPPING), ("DetachPolicies", "MemberAccountRemovals")):
        detail = {
            "LogicalResourceId": name,
            "PhysicalResourceId": physical,
            "ResourceType": "x",
            "LastUpdatedTimestamp": 0,
            "ResourceStatus": "CREATE_COMPLETE",
        }
        session.answer("cloudformation", "describe_stack_resource", {"StackResourceDetail": detail})
    session.answer("lambda", "update_event_source_mapping", {}, UUID=MAPPING, Enabled=False)
    for state in states:
        session.answer("lambda", "get_event_source_mapping", {"State": state}, UUID=MAPPING)
    return session


def test_the_worker_is_stopped_and_its_last_invocation_ends_first() -> None:
    session, slept = prepared("Disabling", "Disabled"), list[float]()
    session.answer("lambda", "get_function_configuration", {"Timeout": 60}, FunctionName="MemberAccountRemovals")

    stop_before(target(session), plan(("Modify", "Joins", "AWS::SQS::Queue", ""), REMOVES), slept.append)

    assert slept == [1, 60]
    session.assert_used()


@pytest.mark.parametrize(
    "changes", [(), (("Modify", "DetachPoliciesMapping", "x", ""),), (("Add", "DetachPoliciesMapping", "x", ""),)]
)
def test_nothing_is_stopped_that_stays(changes: tuple[tuple[str, str, str, str], ...]) -> None:
    slept: list[float] = []

    stop_before(target(StubbedSession()), plan(*changes), slept.append)

    assert slept == []


def test_a_worker_that_does_not_stop_is_not_deleted() -> None:
    session = prepared(*["Disabling"] * 60)

    with pytest.raises(DeployError, match=f"nothing else was changed.*{MAPPING}"):
        stop_before(target(session), plan(REMOVES), lambda _seconds: None)
