"""Plan how to restore what somebody changed by hand.

A change set compares the new template with the last one, so it does not see such changes, except in this mode.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from botocore.exceptions import WaiterError

from infra.deploy.stack import NOTHING_TO_DO, DeployError, Plan, changes_of, waiter_config

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

#: What else can keep the worker from its work if no resource differs.
NOTHING_DIFFERS: Final = (
    "nothing to change: CloudFormation finds the resources as the template has them. If AWS still denies something, "
    "the cause is outside the stack: a permissions boundary, an SCP of the worker's account if it is a member, or the "
    "organization's delegation policy (handlers/operate/RUNBOOK.md#accessdeniedexception)"
)


def plan_restore(cloudformation: CloudFormationClient, stack: str, *, poll_seconds: int = 5) -> Plan | None:
    """Create a change set that brings resources in line with the deployed template; None if none differs.

    Raises DeployError with CloudFormation's reason if CloudFormation cannot create it.
    """
    parameters = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Parameters", [])
    change_set = cloudformation.create_change_set(
        StackName=stack,
        ChangeSetName=f"joinguard-{uuid.uuid4()}",
        ChangeSetType="UPDATE",
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": each["ParameterKey"], "UsePreviousValue": True} for each in parameters],
        Capabilities=["CAPABILITY_IAM"],
        DeploymentMode="REVERT_DRIFT",
    )["Id"]
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=stack, ChangeSetName=change_set, WaiterConfig=waiter_config(poll_seconds)
        )
    except WaiterError as error:
        reason = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change_set).get("StatusReason", "")
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=change_set)
        if any(text in reason for text in NOTHING_TO_DO):
            return None
        raise DeployError(f"CloudFormation cannot compare stack {stack} with its resources: {reason}") from error
    return Plan(stack, "UPDATE", change_set, changes_of(cloudformation, stack, change_set))
