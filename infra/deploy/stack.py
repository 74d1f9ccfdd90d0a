"""Put the template into CloudFormation."""

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

#: How CloudFormation says that a change set would change nothing.
_NOTHING_TO_DO: Final = ("didn't contain changes", "No updates are to be performed")


class DeployError(Exception):
    """The stack is not as it should be; the message says why."""


def upload_code(s3: S3Client, bucket: str, package: Path) -> str:
    """Upload the zip under a key that names its content, and return the key."""
    content = package.read_bytes()
    key = f"joinguard/{hashlib.sha256(content).hexdigest()}.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")
    return key


@dataclass(frozen=True)
class Plan:
    """A change set that is ready to be executed."""

    stack: str
    kind: Literal["CREATE", "UPDATE"]
    change_set: str
    #: What happens to each resource: action, logical id, type, replacement.
    changes: tuple[tuple[str, str, str, str], ...]


def plan(
    cloudformation: CloudFormationClient,
    *,
    stack: str,
    template: str,
    parameters: Mapping[str, str],
    seconds_between_looks: int = 5,
) -> Plan | None:
    """Make a change set that brings a stack to a template; None where nothing would change.

    Raises DeployError with CloudFormation's own words where it refuses the template or the parameters.
    """
    kind: Literal["CREATE", "UPDATE"] = "UPDATE" if _exists(cloudformation, stack) else "CREATE"
    change = cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName=f"joinguard-{uuid.uuid4()}",
        ChangeSetType=kind,
        TemplateBody=without_comments(template),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )["Id"]
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=stack, ChangeSetName=change, WaiterConfig=_looks(seconds_between_looks)
        )
    except WaiterError as error:
        reason = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change).get("StatusReason", "")
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=change)
        if any(words in reason for words in _NOTHING_TO_DO):
            return None
        raise DeployError(f"CloudFormation refuses the change to stack {stack}: {reason or error}") from error
    found = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change)["Changes"]
    changes = [each["ResourceChange"] for each in found]
    return Plan(
        stack,
        kind,
        change,
        tuple((c["Action"], c["LogicalResourceId"], c["ResourceType"], c.get("Replacement", "")) for c in changes),
    )


def execute(cloudformation: CloudFormationClient, plan: Plan, *, seconds_between_looks: int = 5) -> None:
    """Execute a plan and wait; raise DeployError with the first resource that failed and why."""
    cloudformation.execute_change_set(StackName=plan.stack, ChangeSetName=plan.change_set)
    looks = _looks(seconds_between_looks)
    try:
        if plan.kind == "UPDATE":
            cloudformation.get_waiter("stack_update_complete").wait(StackName=plan.stack, WaiterConfig=looks)
        else:
            cloudformation.get_waiter("stack_create_complete").wait(StackName=plan.stack, WaiterConfig=looks)
    except WaiterError as error:
        cause = _cause(cloudformation, plan.stack) or error
        raise DeployError(f"{plan.kind.lower()} of stack {plan.stack} failed: {cause}") from error


def discard(cloudformation: CloudFormationClient, plan: Plan) -> None:
    """Throw a plan away, and the empty stack with it that a first plan has left."""
    cloudformation.delete_change_set(StackName=plan.stack, ChangeSetName=plan.change_set)
    if plan.kind == "CREATE":
        cloudformation.delete_stack(StackName=plan.stack)


def outputs(cloudformation: CloudFormationClient, stack: str) -> dict[str, str]:
    """Return a stack's outputs by name."""
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def _looks(seconds: int) -> WaiterConfigTypeDef:
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
    return next(
        (
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in failed[::-1]
        ),
        None,
    )
