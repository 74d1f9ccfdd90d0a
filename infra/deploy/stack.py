"""Deploy a template with CloudFormation change sets."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from botocore.exceptions import ClientError, WaiterError

from infra.deploy.template import without_comments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import WaiterConfigTypeDef
    from mypy_boto3_s3 import S3Client

#: CloudFormation's status reasons for a change set without changes.
_NOTHING_TO_DO: Final = ("didn't contain changes", "No updates are to be performed")


#: A changed resource: action, logical id, type, replacement.
Change = tuple[str, str, str, str]


class DeployError(Exception):
    """A deployment step failed; the message says why and what to do."""


def upload_code(s3: S3Client, bucket: str, package: Path) -> str:
    """Upload the zip under a key with its SHA-256 and return the key."""
    content = package.read_bytes()
    key = f"joinguard/{hashlib.sha256(content).hexdigest()}.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")
    return key


@dataclass(frozen=True)
class Plan:
    """A change set that is ready for execution."""

    stack: str
    kind: Literal["CREATE", "UPDATE"]
    change_set: str
    changes: tuple[Change, ...]


def plan(
    cloudformation: CloudFormationClient,
    *,
    stack: str,
    template: str,
    parameters: Mapping[str, str],
    poll_seconds: int = 5,
) -> Plan | None:
    """Create a change set for a stack; return None if it would change nothing.

    Raises DeployError with CloudFormation's reason if CloudFormation rejects the template or the parameters.
    """
    kind: Literal["CREATE", "UPDATE"] = "UPDATE" if _exists(cloudformation, stack) else "CREATE"
    change_set = cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName=f"joinguard-{uuid.uuid4()}",
        ChangeSetType=kind,
        TemplateBody=without_comments(template),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )["Id"]
    if not _has_changes(cloudformation, stack, change_set, poll_seconds):
        return None
    return Plan(stack, kind, change_set, _changes(cloudformation, stack, change_set))


def _has_changes(cloudformation: CloudFormationClient, stack: str, change_set: str, poll_seconds: int) -> bool:
    """Wait for a change set; delete it if it changes nothing or CloudFormation rejects it."""
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=stack, ChangeSetName=change_set, WaiterConfig=waiter_config(poll_seconds)
        )
    except WaiterError as error:
        reason = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change_set).get("StatusReason", "")
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=change_set)
        if any(text in reason for text in _NOTHING_TO_DO):
            return False
        raise DeployError(f"CloudFormation rejected the change to stack {stack}: {reason or error}") from error
    return True


def _changes(cloudformation: CloudFormationClient, stack: str, change_set: str) -> tuple[Change, ...]:
    found = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change_set)["Changes"]
    changes = [each["ResourceChange"] for each in found]
    return tuple((c["Action"], c["LogicalResourceId"], c["ResourceType"], c.get("Replacement", "")) for c in changes)


def execute(cloudformation: CloudFormationClient, plan: Plan, *, poll_seconds: int = 5) -> None:
    """Execute a plan and wait; raise DeployError naming the first resource that failed and the reason."""
    cloudformation.execute_change_set(StackName=plan.stack, ChangeSetName=plan.change_set)
    config = waiter_config(poll_seconds)
    try:
        if plan.kind == "UPDATE":
            cloudformation.get_waiter("stack_update_complete").wait(StackName=plan.stack, WaiterConfig=config)
        else:
            cloudformation.get_waiter("stack_create_complete").wait(StackName=plan.stack, WaiterConfig=config)
    except WaiterError as error:
        cause = _cause(cloudformation, plan.stack) or error
        raise DeployError(f"{plan.kind.lower()} of stack {plan.stack} failed: {cause}") from error


def discard(cloudformation: CloudFormationClient, plan: Plan) -> None:
    """Delete a change set, and the empty stack that a first change set has created."""
    cloudformation.delete_change_set(StackName=plan.stack, ChangeSetName=plan.change_set)
    if plan.kind == "CREATE":
        cloudformation.delete_stack(StackName=plan.stack)


def outputs(cloudformation: CloudFormationClient, stack: str) -> dict[str, str]:
    """Return a stack's outputs by name."""
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def waiter_config(seconds: int) -> WaiterConfigTypeDef:
    """Return a waiter's settings: poll every so many seconds, for an hour."""
    return {"Delay": seconds, "MaxAttempts": 3600 // seconds}


def _exists(cloudformation: CloudFormationClient, stack: str) -> bool:
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return False
        raise
    return any(each["StackStatus"] != "REVIEW_IN_PROGRESS" for each in found)


def _cause(cloudformation: CloudFormationClient, stack: str) -> str | None:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [event for event in events if event.get("ResourceStatus", "").endswith("FAILED")]
    if not failed:
        return None
    # CloudFormation lists the latest event first.
    first = failed[-1]
    return f"{first['LogicalResourceId']}: {first.get('ResourceStatusReason', 'no reason given')}"
