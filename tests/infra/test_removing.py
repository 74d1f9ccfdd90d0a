"""The worker that removes policies is stopped before a change set deletes it."""

from __future__ import annotations

from typing import Any

import pytest

from infra.deploy.removing import stop_before
from infra.deploy.stack import DeployError, Plan
from infra.deploy.stages import Stage, Target
from tests.stubs import StubbedSession

MAPPING = "11111111-2222-4333-8444-555555555555"
QUEUE = "https://sqs.us-east-1.amazonaws.com/111111111111/MemberAccountRemovals"
REMOVES = ("Remove", "DetachPoliciesMapping", "AWS::Lambda::EventSourceMapping", "")


def target(session: StubbedSession) -> Target:
    any_session: Any = session
    return Target(any_session, Stage(name="prod", region="us-east-1"), poll_seconds=1)


def plan(*changes: tuple[str, str, str, str]) -> Plan:
    return Plan("joinguard", "UPDATE", "arn:change-set", changes)


def prepared(*states: str, reads_queue: bool = True) -> StubbedSession:
    """Return a session of a stack with the worker, whose mapping has these states one after the other."""
    session = StubbedSession()
    resources = (("DetachPoliciesMapping", MAPPING), ("DetachPolicies", "MemberAccountRemovals"), ("Removals", QUEUE))
    for name, physical in resources:
        detail = {
            "LogicalResourceId": name,
            "PhysicalResourceId": physical,
            "ResourceType": "x",
            "LastUpdatedTimestamp": 0,
            "ResourceStatus": "CREATE_COMPLETE",
        }
        session.answer("cloudformation", "describe_stack_resource", {"StackResourceDetail": detail})
    if reads_queue:
        counts = {"ApproximateNumberOfMessages": "1200", "ApproximateNumberOfMessagesNotVisible": "34"}
        session.answer("sqs", "get_queue_attributes", {"Attributes": counts})
    else:
        session.fail("sqs", "get_queue_attributes", "AccessDenied")
    session.answer("lambda", "update_event_source_mapping", {}, UUID=MAPPING, Enabled=False)
    for state in states:
        session.answer("lambda", "get_event_source_mapping", {"State": state}, UUID=MAPPING)
    return session


def test_the_worker_is_stopped_and_its_last_invocation_ends_first() -> None:
    session, slept, said = prepared("Disabling", "Disabled"), list[float](), list[str]()
    session.answer("lambda", "get_function_configuration", {"Timeout": 60}, FunctionName="MemberAccountRemovals")

    stop_before(target(session), plan(("Modify", "Joins", "AWS::SQS::Queue", ""), REMOVES), slept.append, said.append)

    assert slept == [1, 60]
    [text] = said
    assert "stopping the worker that removes policies, and waiting until its last invocation has ended" in text
    assert "Requests that wait in its queue: 1,234; they are deleted with the queue" in text
    session.assert_used()


@pytest.mark.parametrize(
    "changes", [(), (("Modify", "DetachPoliciesMapping", "x", ""),), (("Add", "DetachPoliciesMapping", "x", ""),)]
)
def test_nothing_is_stopped_that_stays(changes: tuple[tuple[str, str, str, str], ...]) -> None:
    slept: list[float] = []

    stop_before(target(StubbedSession()), plan(*changes), slept.append, pytest.fail)

    assert slept == []


def test_a_worker_that_does_not_stop_is_not_deleted() -> None:
    session = prepared(*["Disabling"] * 60)

    with pytest.raises(DeployError, match=f"nothing else was changed.*{MAPPING}"):
        stop_before(target(session), plan(REMOVES), lambda _seconds: None, lambda _text: None)


def test_a_queue_that_cannot_be_read_does_not_keep_the_worker_from_being_stopped() -> None:
    session, said = prepared("Disabled", reads_queue=False), list[str]()
    session.answer("lambda", "get_function_configuration", {"Timeout": 60}, FunctionName="MemberAccountRemovals")

    stop_before(target(session), plan(REMOVES), lambda _seconds: None, said.append)

    assert "could not be read (AccessDenied); they are deleted" in said[0]
    session.assert_used()


def test_the_operator_reads_that_the_worker_is_stopped_before_it_is() -> None:
    session, calls = prepared(*["Disabling"] * 60), list[str]()
    session.client("lambda").meta.events.register(
        "before-parameter-build.lambda.UpdateEventSourceMapping", lambda **_: calls.append("stopped")
    )

    with pytest.raises(DeployError):
        stop_before(target(session), plan(REMOVES), lambda _seconds: None, lambda _text: calls.append("said"))

    assert calls == ["said", "stopped"]
