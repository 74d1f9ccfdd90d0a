"""Each status that CloudFormation knows has its own words and next step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.session import get_session
from botocore.stub import ANY
from pydantic import ValidationError

from infra.deploy.installing import plan_main, protect
from infra.deploy.preflight import EVENT_REGIONS
from infra.deploy.stack import (
    MEANINGS,
    DeployError,
    Stack,
    cause_of_failure,
    discard,
    execute,
    find,
    prepare,
    read_plan,
)
from infra.deploy.stack import Plan as Planned
from infra.deploy.stages import Stage
from tests.prepared import ACCOUNT, stub, target

if TYPE_CHECKING:
    from pathlib import Path

    from infra.deploy.stack import Kind
    from tests.prepared import Stub

_MODEL: Any = get_session().get_service_model("cloudformation")
STATUSES: list[str] = _MODEL.shape_for("StackStatus").enum
STACK_ID = "arn:aws:cloudformation:us-east-1:111111111111:stack/joinguard/1"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def described(status: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": "joinguard", "StackId": STACK_ID, "CreationTime": NOON, "StackStatus": status}]}


def missing(cloudformation: Stub, text: str = "Stack with id joinguard does not exist") -> None:
    cloudformation.add_client_error("describe_stacks", "ValidationError", text)


def test_every_status_of_cloudformation_has_a_meaning() -> None:
    assert set(MEANINGS) == set(STATUSES)
    assert len({meaning.words for meaning in MEANINGS.values()}) == len(MEANINGS)


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_that_stops_a_deployment_has_a_next_step_with_the_stacks_name(status: str) -> None:
    stack = Stack("joinguard-test", STACK_ID, status)
    stops = stack.meaning.step in {"wait", "stop"}

    assert bool(stack.next_step) == stops
    assert "{stack}" not in stack.next_step
    assert (stack.meaning.step == "wait") == (status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS")


@pytest.mark.parametrize("status", [status for status in STATUSES if MEANINGS[status].step in {"wait", "stop"}])
def test_a_deployment_stops_with_the_status_and_its_words_and_changes_nothing(status: str) -> None:
    with stub("cloudformation") as cloudformation:
        cloudformation.add_response("describe_stacks", described(status))
        with pytest.raises(DeployError) as raised:
            prepare(cloudformation.client, "joinguard", log=pytest.fail)

    assert f"stack joinguard is {status}: {MEANINGS[status].words}; " in str(raised.value)
    assert "redential" not in str(raised.value)


@pytest.mark.parametrize("status", [status for status in STATUSES if MEANINGS[status].step == "update"])
def test_a_usable_stack_is_updated(status: str) -> None:
    with stub("cloudformation") as cloudformation:
        cloudformation.add_response("describe_stacks", described(status))

        assert prepare(cloudformation.client, "joinguard", log=pytest.fail) == "UPDATE"


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_what_a_failed_creation_left_is_announced_deleted_and_created_anew(status: str) -> None:
    """AWS accepts no change set for a stack in ROLLBACK_COMPLETE; the embedded AWS does."""
    said: list[str] = []
    with stub("cloudformation") as cloudformation:
        cloudformation.add_response("describe_stacks", described(status))
        cloudformation.add_response("delete_stack", {}, {"StackName": STACK_ID})
        cloudformation.add_response("describe_stacks", described("DELETE_COMPLETE"), {"StackName": STACK_ID})

        assert prepare(cloudformation.client, "joinguard", log=said.append, poll_seconds=1) == "CREATE"
        cloudformation.assert_no_pending_responses()

    [line] = said
    assert status in line
    assert STACK_ID in line


def test_a_status_that_a_later_cloudformation_invents_stops_a_deployment() -> None:
    assert Stack("joinguard", STACK_ID, "PAUSED").meaning.step == "stop"


def test_only_a_missing_stack_counts_as_missing() -> None:
    with stub("cloudformation") as cloudformation:
        missing(cloudformation)
        assert find(cloudformation.client, "joinguard") is None
        missing(cloudformation, "1 validation error detected: Value '' at 'stackName'")
        with pytest.raises(ClientError, match="validation error"):
            find(cloudformation.client, "joinguard")
        cloudformation.add_client_error("describe_stacks", "AccessDenied", "no")
        with pytest.raises(ClientError, match="AccessDenied"):
            find(cloudformation.client, "joinguard")


def event(name: str, status: str, reason: str = "", *, minutes: int = 0) -> dict[str, Any]:
    physical = STACK_ID if name == "joinguard" else name
    return {
        "StackId": STACK_ID,
        "EventId": f"{name}-{minutes}",
        "StackName": "joinguard",
        "Timestamp": NOON,
        "LogicalResourceId": name,
        "PhysicalResourceId": physical,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def test_the_cause_is_the_first_failure_of_the_last_operation_only() -> None:
    newest_first = [
        event("joinguard", "UPDATE_ROLLBACK_COMPLETE"),
        event("Cancelled", "CREATE_FAILED", "Resource creation cancelled"),
        event("Rule", "CREATE_FAILED", "limit exceeded"),
        event("Early", "UPDATE_FAILED", "Resource update cancelled"),
        event("joinguard", "UPDATE_IN_PROGRESS"),
        event("Old", "CREATE_FAILED", "last year"),
        event("joinguard", "CREATE_IN_PROGRESS"),
    ]
    with stub("cloudformation") as cloudformation:
        cloudformation.add_response("describe_stack_events", {"StackEvents": newest_first[:3], "NextToken": "more"})
        cloudformation.add_response("describe_stack_events", {"StackEvents": newest_first[3:]})

        assert cause_of_failure(cloudformation.client, "joinguard") == "Rule: limit exceeded"


@pytest.mark.parametrize(("status", "deleted"), [("REVIEW_IN_PROGRESS", True), ("UPDATE_COMPLETE", False)])
def test_a_declined_change_set_takes_only_an_empty_stack_with_it(status: str, *, deleted: bool) -> None:
    with stub("cloudformation") as cloudformation:
        cloudformation.add_response("delete_change_set", {})
        cloudformation.add_response("describe_stacks", described(status))
        if deleted:
            cloudformation.add_response("delete_stack", {}, {"StackName": STACK_ID})

        discard(cloudformation.client, Planned("joinguard", "IMPORT", "set", ()))
        cloudformation.assert_no_pending_responses()


@pytest.mark.parametrize(("kind", "protection"), [("CREATE", "false"), ("UPDATE", "true")])
def test_a_creation_leaves_the_table_deletable_so_that_a_failed_one_can_be_cleaned_up(
    kind: Kind, protection: str, tmp_path: Path
) -> None:
    """The embedded AWS deletes a protected table in a rollback; AWS does not."""
    template = tmp_path / "template.yaml"
    template.write_text("Resources: {}")
    cloudformation = stub("cloudformation")
    described_as = f"guardrails plan {'b' * 64}; commit {'c' * 40}"
    expected = {
        "StackName": "joinguard",
        "ChangeSetName": ANY,
        "ChangeSetType": kind,
        "Description": described_as,
        "UsePreviousTemplate": False,
        "TemplateURL": f"https://s3.amazonaws.com/code/joinguard/{sha256(b'Resources: {}').hexdigest()}.template",
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [],
        "Parameters": [
            {"ParameterKey": "CodeBucket", "ParameterValue": "code"},
            {"ParameterKey": "DeletionProtection", "ParameterValue": protection},
        ],
    }
    s3 = stub("s3")
    s3.add_client_error("head_object", "404")
    s3.add_response("put_object", {})
    cloudformation.add_response("create_change_set", {"Id": "set"}, expected)
    cloudformation.add_response("describe_change_set", {"Status": "CREATE_COMPLETE"})
    cloudformation.add_response("describe_change_set", {"Changes": []})

    planned = plan_main(
        target({"cloudformation": cloudformation, "s3": s3}),
        ACCOUNT,
        {"CodeBucket": "code", "DeletionProtection": "true"},
        kind,
        template,
        "b" * 64,
        "c" * 40,
    )

    parameters = {"CodeBucket": "code", "DeletionProtection": protection}
    assert planned == Planned("joinguard", kind, "set", (), described_as, parameters)
    cloudformation.assert_no_pending_responses()


def test_the_table_is_protected_after_the_creation_and_nothing_else_changes() -> None:
    cloudformation = stub("cloudformation")
    stack = described("CREATE_COMPLETE")
    stack["Stacks"][0]["Parameters"] = [
        {"ParameterKey": "DeletionProtection", "ParameterValue": "false"},
        {"ParameterKey": "CodeKey", "ParameterValue": "k"},
    ]
    # For the stack's own protection, and for the parameters.
    cloudformation.add_response("describe_stacks", stack)
    cloudformation.add_response("describe_stacks", stack)
    expected = {
        "StackName": "joinguard",
        "ChangeSetName": ANY,
        "ChangeSetType": "UPDATE",
        "UsePreviousTemplate": True,
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [],
        "Parameters": [
            {"ParameterKey": "DeletionProtection", "ParameterValue": "true"},
            {"ParameterKey": "CodeKey", "UsePreviousValue": True},
        ],
    }
    cloudformation.add_response("create_change_set", {"Id": "set"}, expected)
    cloudformation.add_response("describe_change_set", {"Status": "CREATE_COMPLETE"})
    cloudformation.add_response("describe_change_set", {"Changes": []})
    cloudformation.add_response("describe_stacks", described("CREATE_COMPLETE"))
    cloudformation.add_response("execute_change_set", {})
    cloudformation.add_response("describe_stacks", described("UPDATE_COMPLETE"))

    protect(target({"cloudformation": cloudformation}))

    cloudformation.assert_no_pending_responses()


def test_a_temporary_stages_table_stays_unprotected() -> None:
    cloudformation = stub("cloudformation")
    cloudformation.add_response("describe_stacks", described("CREATE_COMPLETE"))

    protect(target({"cloudformation": cloudformation}, DeletionProtection="false"))


def test_a_failed_operation_names_the_cause_the_status_after_its_rollback_and_the_next_step() -> None:
    """botocore's waiter for imports ends when the rollback begins."""
    cloudformation = stub("cloudformation")
    cloudformation.add_response("describe_stacks", described("REVIEW_IN_PROGRESS"))
    cloudformation.add_response("execute_change_set", {})
    cloudformation.add_response("describe_stacks", described("IMPORT_ROLLBACK_IN_PROGRESS"))
    failed = [event("Evidence", "IMPORT_FAILED", "was not found"), event("joinguard", "IMPORT_IN_PROGRESS")]
    cloudformation.add_response("describe_stack_events", {"StackEvents": failed})
    cloudformation.add_response("describe_stacks", described("IMPORT_ROLLBACK_IN_PROGRESS"))
    cloudformation.add_response("describe_stacks", described("IMPORT_ROLLBACK_FAILED"))

    with cloudformation, pytest.raises(DeployError) as raised:
        execute(cloudformation.client, Planned("joinguard", "IMPORT", "set", ()), poll_seconds=1)

    text = str(raised.value)
    assert text.startswith("import of stack joinguard failed: Evidence: was not found. Now stack joinguard is IMPORT_")
    assert MEANINGS["IMPORT_ROLLBACK_FAILED"].words in text
    assert "aws cloudformation delete-stack --stack-name joinguard" in text


def test_tags_and_the_role_of_a_stage_go_to_cloudformation_and_the_stack_is_protected() -> None:
    cloudformation = stub("cloudformation")
    role = "arn:aws:iam::111111111111:role/deployer"
    stage = Stage(name="prod", region="us-east-1", tags={"team": "x"}, role_arn=role, termination_protection=True)
    at = replace(target({"cloudformation": cloudformation}), stage=stage)
    cloudformation.add_response("describe_stacks", described("CREATE_COMPLETE"))
    protected = {"StackName": "joinguard", "EnableTerminationProtection": True}
    cloudformation.add_response("update_termination_protection", {}, protected)
    cloudformation.add_response("describe_stacks", described("CREATE_COMPLETE"))
    expected = {
        "StackName": "joinguard",
        "ChangeSetName": ANY,
        "ChangeSetType": "UPDATE",
        "UsePreviousTemplate": True,
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": "team", "Value": "x"}],
        "RoleARN": role,
        "Parameters": ANY,
    }
    cloudformation.add_response("create_change_set", {"Id": "set"}, expected)
    cloudformation.add_response("describe_change_set", {"Status": "FAILED"})
    cloudformation.add_response(
        "describe_change_set", {"StatusReason": "The submitted information didn't contain changes"}
    )
    cloudformation.add_response("delete_change_set", {})
    cloudformation.add_response("describe_stacks", described("CREATE_COMPLETE"))

    protect(at)

    cloudformation.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("stack", "execution", "problem"),
    [
        ("joinguard-test", "AVAILABLE", "is of stack joinguard-test, not of joinguard"),
        ("joinguard", "OBSOLETE", "cannot be executed: CREATE_COMPLETE, OBSOLETE"),
    ],
)
def test_a_plan_of_another_stack_or_an_old_one_is_not_applied(stack: str, execution: str, problem: str) -> None:
    cloudformation = stub("cloudformation")
    found = {"StackName": stack, "Status": "CREATE_COMPLETE", "ExecutionStatus": execution}
    cloudformation.add_response("describe_change_set", found)

    with cloudformation, pytest.raises(DeployError, match=problem):
        read_plan(cloudformation.client, "joinguard", "arn:x")


def test_a_plan_that_is_gone_is_named() -> None:
    cloudformation = stub("cloudformation")
    cloudformation.add_client_error("describe_change_set", "ChangeSetNotFound")

    with cloudformation, pytest.raises(DeployError, match="has no change set arn:x; make a new one with --plan-only"):
        read_plan(cloudformation.client, "joinguard", "arn:x")


@pytest.mark.parametrize(
    ("region", "valid"),
    [("eusc-de-east-1", True), ("us-gov-west-1", True), ("cn-northwest-1", True), ("Europe", False)],
)
def test_the_regions_of_every_partition_are_accepted(region: str, *, valid: bool) -> None:
    if valid:
        assert Stage(name="x", region=region).region == region
    else:
        with pytest.raises(ValidationError):
            Stage(name="x", region=region)


def test_organizations_events_have_a_region_in_every_partition_that_botocore_knows() -> None:
    partitions = [name for name in get_session().get_available_partitions() if not name.startswith("aws-iso")]

    assert set(EVENT_REGIONS) == set(partitions)
