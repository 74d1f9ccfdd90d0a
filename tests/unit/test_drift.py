"""`make revert-drift` plans a drift-aware change set, which the embedded AWS does not have."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from infra.deploy.drift import NOTHING_DIFFERS, plan_restore
from infra.deploy.stack import DeployError, Plan

STACK = {
    "StackName": "joinguard",
    "StackStatus": "UPDATE_COMPLETE",
    "CreationTime": "2026-11-25T00:00:00Z",
    "Parameters": [{"ParameterKey": "PolicyIds", "ParameterValue": "p-1"}],
}
ASKED = {
    "StackName": "joinguard",
    "ChangeSetName": ANY,
    "ChangeSetType": "UPDATE",
    "UsePreviousTemplate": True,
    "Parameters": [{"ParameterKey": "PolicyIds", "UsePreviousValue": True}],
    "Capabilities": ["CAPABILITY_IAM"],
    "DeploymentMode": "REVERT_DRIFT",
}
CHANGE_SET = {"StackName": "joinguard", "ChangeSetName": "id"}


def planned(*described: dict[str, Any]) -> Plan | None:
    client = boto3.client("cloudformation", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")  # noqa: S106 - a placeholder
    with Stubber(client) as stub:
        stub.add_response("describe_stacks", {"Stacks": [STACK]}, {"StackName": "joinguard"})
        stub.add_response("create_change_set", {"Id": "id"}, ASKED)
        for each in described:
            stub.add_response("describe_change_set", each, CHANGE_SET)
        if described[0]["Status"] == "FAILED":
            stub.add_response("delete_change_set", {}, CHANGE_SET)
        result = plan_restore(client, "joinguard", poll_seconds=1)
        stub.assert_no_pending_responses()
    return result


def test_the_plan_names_what_was_changed_by_hand() -> None:
    change = {"Action": "Modify", "LogicalResourceId": "JoinsPolicy", "ResourceType": "AWS::SQS::QueuePolicy"}
    done = {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": change}]}

    found = planned(done, done)

    assert found == Plan("joinguard", "UPDATE", "id", (("Modify", "JoinsPolicy", "AWS::SQS::QueuePolicy", ""),))


def test_without_a_difference_there_is_no_plan() -> None:
    failed = {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}

    assert planned(failed, failed) is None


def test_without_a_difference_the_other_suspects_are_named_instead_of_another_command() -> None:
    """`make status` sends people here, so sending them back would be a circle."""
    for suspect in ("permissions boundary", "SCP", "delegation policy"):
        assert suspect in NOTHING_DIFFERS
    assert "make " not in NOTHING_DIFFERS


def test_a_failed_comparison_gives_cloudformations_reason() -> None:
    failed = {"Status": "FAILED", "StatusReason": "drift detection is denied"}

    with pytest.raises(DeployError, match="drift detection is denied"):
        planned(failed, failed)
