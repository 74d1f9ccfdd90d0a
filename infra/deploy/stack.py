"""Put the template into CloudFormation."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError, WaiterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

_CAPABILITIES: Final = ["CAPABILITY_IAM"]


class DeployError(Exception):
    """The stack is not as it should be; the message says why."""


def upload_code(s3: S3Client, bucket: str, package: Path) -> str:
    """Upload the zip under a key that names its content, and return the key."""
    content = package.read_bytes()
    key = f"joinguard/{hashlib.sha256(content).hexdigest()}.zip"
    s3.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")
    return key


def deploy(
    cloudformation: CloudFormationClient,
    *,
    stack: str,
    template: str,
    parameters: Mapping[str, str],
    seconds_between_looks: int = 5,
) -> dict[str, str]:
    """Create or update a stack through a change set, wait for it, and return its outputs.

    Raises DeployError with the first resource that failed and why.
    """
    kind = "UPDATE" if _exists(cloudformation, stack) else "CREATE"
    looks = {"Delay": seconds_between_looks, "MaxAttempts": 600}
    change = cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName=f"joinguard-{kind.lower()}",
        ChangeSetType="UPDATE" if kind == "UPDATE" else "CREATE",
        TemplateBody=template,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=stack, ChangeSetName=change["Id"], WaiterConfig=looks
        )
        cloudformation.execute_change_set(StackName=stack, ChangeSetName=change["Id"])
        waiter = "stack_update_complete" if kind == "UPDATE" else "stack_create_complete"
        cloudformation.get_waiter(waiter).wait(StackName=stack, WaiterConfig=looks)  # type: ignore[call-overload]
    except WaiterError as error:
        message = f"{kind.lower()} of stack {stack} failed: {_cause(cloudformation, stack) or error}"
        raise DeployError(message) from error
    return outputs(cloudformation, stack)


def outputs(cloudformation: CloudFormationClient, stack: str) -> dict[str, str]:
    """Return a stack's outputs by name."""
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


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
        (f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}" for event in failed[::-1]),
        None,
    )
