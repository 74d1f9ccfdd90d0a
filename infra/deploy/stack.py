"""Deploy a template with CloudFormation change sets."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from botocore.exceptions import ClientError, WaiterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import (
        ParameterTypeDef,
        ResourceToImportTypeDef,
        StackEventTypeDef,
        WaiterConfigTypeDef,
    )

#: CloudFormation's status reasons for a change set without changes.
NOTHING_TO_DO: Final = ("didn't contain changes", "No updates are to be performed")

#: A changed resource: action, logical id, type, replacement.
Change = tuple[str, str, str, str]
Kind = Literal["CREATE", "UPDATE", "IMPORT"]
#: What a deployment does with a stack that exists.
Step = Literal["update", "replace", "create", "wait", "stop"]


class DeployError(Exception):
    """A deployment step failed; the message says why and what to do."""


def listed(title: str, problems: Iterable[str]) -> str:
    """Return a message with one problem a line."""
    return "\n".join([title, *(f"  - {each}" for each in problems)])


class Meaning(NamedTuple):
    """What a stack's status means, and what a deployment does about it."""

    step: Step
    words: str
    #: For a person; `{stack}` is the stack's name.
    next_step: str = ""


_WAIT: Final = "wait until it has ended, then try again"
EVENTS: Final = "aws cloudformation describe-stack-events --stack-name {stack}"
_DELETE: Final = "aws cloudformation delete-stack --stack-name {stack}"
_ROLL_BACK: Final = "roll it back (aws cloudformation rollback-stack --stack-name {stack}), then deploy again"
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
MEANINGS: Final[Mapping[str, Meaning]] = {
    "CREATE_COMPLETE": Meaning("update", "it was created"),
    "UPDATE_COMPLETE": Meaning("update", "it was updated"),
    "IMPORT_COMPLETE": Meaning("update", "it has adopted existing resources"),
    "UPDATE_ROLLBACK_COMPLETE": Meaning("update", "its last update failed and was undone"),
    "IMPORT_ROLLBACK_COMPLETE": Meaning("update", "its last adoption of resources failed and was undone"),
    "DELETE_COMPLETE": Meaning("create", "it was deleted"),
    "ROLLBACK_COMPLETE": Meaning("replace", "its creation failed, and what it had made was deleted"),
    "REVIEW_IN_PROGRESS": Meaning("replace", "it has only a change set that nobody executed"),
    "CREATE_FAILED": Meaning("stop", "its creation failed and was not undone", _ROLL_BACK),
    "UPDATE_FAILED": Meaning("stop", "its update failed and was not undone", _ROLL_BACK),
    "ROLLBACK_FAILED": Meaning(
        "stop",
        "its creation failed, and some of what it had made could not be deleted",
        f"see which resources and why ({EVENTS}), remove the cause, delete the stack ({_DELETE}), and delete those "
        "resources if they are empty; then deploy again",
    ),
    "DELETE_FAILED": Meaning(
        "stop",
        "its deletion failed",
        f"see which resources and why ({EVENTS}), remove the cause, and run `make destroy` again",
    ),
    "UPDATE_ROLLBACK_FAILED": Meaning(
        "stop",
        "its last update failed and could not be undone",
        f"see which resources and why ({EVENTS}), remove the cause, and continue (aws cloudformation "
        "continue-update-rollback --stack-name {stack}); then deploy again",
    ),
    "IMPORT_ROLLBACK_FAILED": Meaning(
        "stop",
        "its last adoption of resources failed and could not be undone",
        f"see which resources and why ({EVENTS}) and remove the cause. If the stack holds only adopted resources, "
        f"delete it, which keeps them ({_DELETE}); then deploy again",
    ),
    "CREATE_IN_PROGRESS": Meaning("wait", "it is being created", _WAIT),
    "UPDATE_IN_PROGRESS": Meaning("wait", "it is being updated", _WAIT),
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Meaning(
        "wait", "it was updated, and replaced resources are being deleted", _WAIT
    ),
    "UPDATE_ROLLBACK_IN_PROGRESS": Meaning("wait", "its last update failed and is being undone", _WAIT),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Meaning(
        "wait", "its last update was undone, and what it had made is being deleted", _WAIT
    ),
    "ROLLBACK_IN_PROGRESS": Meaning("wait", "its creation failed, and what it had made is being deleted", _WAIT),
    "DELETE_IN_PROGRESS": Meaning("wait", "it is being deleted", _WAIT),
    "IMPORT_IN_PROGRESS": Meaning("wait", "it is adopting existing resources", _WAIT),
    "IMPORT_ROLLBACK_IN_PROGRESS": Meaning("wait", "its last adoption of resources failed and is being undone", _WAIT),
}
_UNKNOWN: Final = Meaning("stop", "this version does not know the status", f"look at the stack ({EVENTS})")


@dataclass(frozen=True)
class Stack:
    """A stack that exists, also one that was never created completely."""

    name: str
    stack_id: str
    status: str
    protected: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> Meaning:
        """What the status means."""
        return MEANINGS.get(self.status, _UNKNOWN)

    @property
    def next_step(self) -> str:
        """What a person has to do before a deployment; empty if nothing."""
        return self.meaning.next_step.replace("{stack}", self.name)

    def __str__(self) -> str:
        """Return the stack's name, status, and what the status means."""
        return f"stack {self.name} is {self.status}: {self.meaning.words}"


def find(cloudformation: CloudFormationClient, stack: str) -> Stack | None:
    """Return a stack by its name, or None if there is none."""
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    if MEANINGS.get(found["StackStatus"], _UNKNOWN).step == "create":
        return None
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    return Stack(
        stack, found["StackId"], found["StackStatus"], found.get("EnableTerminationProtection", False), parameters
    )


def is_missing(error: ClientError) -> bool:
    """Return whether an error of CloudFormation means that there is no such stack."""
    # Invalid input has the same code.
    return error.response["Error"]["Code"] == "ValidationError" and "does not exist" in error.response["Error"].get(
        "Message", ""
    )


def prepare(
    cloudformation: CloudFormationClient, stack: str, *, log: Callable[[str], None], poll_seconds: int = 5
) -> Literal["CREATE", "UPDATE"]:
    """Delete what a failed creation left, and return which kind of change set the stack needs.

    Raises DeployError with the next step if the stack's status allows no deployment.
    """
    found = find(cloudformation, stack)
    if found is None:
        return "CREATE"
    if found.meaning.step == "update":
        return "UPDATE"
    if found.meaning.step != "replace":
        raise DeployError(f"{found}; {found.next_step}")
    log(f"{found}. Deleting it before the new creation; its events remain under {found.stack_id}")
    delete(cloudformation, found.stack_id, poll_seconds=poll_seconds)
    return "CREATE"


@dataclass(frozen=True)
class Plan:
    """A change set that is ready for execution."""

    stack: str
    kind: Kind
    change_set: str
    changes: tuple[Change, ...]
    description: str = ""
    #: If it was made here, without those that keep the stack's present values.
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a change set is made of.

    Without a template, and for parameters that are None, it has the stack's present ones.
    """

    stack: str
    kind: Kind
    parameters: Mapping[str, str | None]
    #: The template's text, of at most 51,200 bytes, or the URL of a template in S3.
    template: str | None = None
    template_url: str | None = None
    imports: tuple[ResourceToImportTypeDef, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    role_arn: str | None = None
    description: str = ""


def plan(cloudformation: CloudFormationClient, request: Request, *, poll_seconds: int = 5) -> Plan | None:
    """Create a change set for a stack; return None if it would change nothing.

    Raises DeployError with CloudFormation's reason if CloudFormation rejects the template or the parameters.
    """
    given = {
        "TemplateBody": request.template,
        "TemplateURL": request.template_url,
        "ResourcesToImport": list(request.imports),
        "RoleARN": request.role_arn,
        "Description": request.description,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    change_set = cloudformation.create_change_set(
        StackName=request.stack,
        ChangeSetName=f"joinguard-{uuid.uuid4()}",
        ChangeSetType=request.kind,
        UsePreviousTemplate=not (request.template or request.template_url),
        Parameters=[_parameter(name, value) for name, value in request.parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
        Tags=[{"Key": key, "Value": value} for key, value in request.tags.items()],
        **options,
    )["Id"]
    given_parameters = {name: value for name, value in request.parameters.items() if value is not None}
    planned = Plan(request.stack, request.kind, change_set, (), request.description, given_parameters)
    if not _has_changes(cloudformation, planned, poll_seconds):
        return None
    return replace(planned, changes=changes_of(cloudformation, planned.stack, change_set))


def _parameter(name: str, value: str | None) -> ParameterTypeDef:
    if value is None:
        return {"ParameterKey": name, "UsePreviousValue": True}
    return {"ParameterKey": name, "ParameterValue": value}


def _has_changes(cloudformation: CloudFormationClient, planned: Plan, poll_seconds: int) -> bool:
    """Wait for a change set; delete it if it changes nothing or CloudFormation rejects it."""
    stack, change_set = planned.stack, planned.change_set
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=stack, ChangeSetName=change_set, WaiterConfig=waiter_config(poll_seconds)
        )
    except WaiterError as error:
        reason = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change_set).get("StatusReason", "")
        discard(cloudformation, planned)
        if any(text in reason for text in NOTHING_TO_DO):
            return False
        raise DeployError(f"CloudFormation rejected the change to stack {stack}: {reason or error}") from error
    return True


def changes_of(cloudformation: CloudFormationClient, stack: str, change_set: str) -> tuple[Change, ...]:
    """Return the changes of a change set, one for each resource."""
    pages = cloudformation.get_paginator("describe_change_set").paginate(StackName=stack, ChangeSetName=change_set)
    changes = [each["ResourceChange"] for page in pages for each in page["Changes"]]
    return tuple((c["Action"], c["LogicalResourceId"], c["ResourceType"], c.get("Replacement", "")) for c in changes)


def read_plan(cloudformation: CloudFormationClient, stack: str, change_set: str) -> Plan:
    """Return a change set that was made earlier; raise DeployError if it is not of this stack or cannot be executed."""
    try:
        found = cloudformation.describe_change_set(StackName=stack, ChangeSetName=change_set)
    except ClientError as error:
        # A change set is deleted with its stack, and when another one of the stack is executed.
        if error.response["Error"]["Code"] not in {
            "ChangeSetNotFound",
            "ChangeSetNotFoundException",
            "ValidationError",
        }:
            raise
        raise DeployError(f"stack {stack} has no change set {change_set}; make a new one with --plan-only") from error
    # An id finds the change sets of other stacks too.
    if found["StackName"] != stack:
        raise DeployError(f"change set {change_set} is of stack {found['StackName']}, not of {stack}; choose its stage")
    if found.get("ExecutionStatus") != "AVAILABLE":
        raise DeployError(
            f"change set {change_set} cannot be executed: {found['Status']}, {found.get('ExecutionStatus')} "
            f"{found.get('StatusReason', '')}; make a new one with --plan-only"
        )
    changes = changes_of(cloudformation, stack, change_set)
    there = find(cloudformation, stack)
    kind: Kind = "UPDATE"
    if there is None or there.status == "REVIEW_IN_PROGRESS":
        kind = "IMPORT" if changes and all(action == "Import" for action, *_ in changes) else "CREATE"
    # A parameter that keeps its value may come without it.
    given = (each for each in found.get("Parameters", []) if "ParameterValue" in each)
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in given}
    return Plan(stack, kind, found["ChangeSetId"], changes, found.get("Description", ""), parameters)


def execute(cloudformation: CloudFormationClient, plan: Plan, *, poll_seconds: int = 5) -> None:
    """Execute a plan and wait; raise DeployError naming the first resource that failed, why, and the next step."""
    # The id, because a stack that is deleted on failure is found by its id only.
    before = find(cloudformation, plan.stack)
    stack = before.stack_id if before else plan.stack
    cloudformation.execute_change_set(StackName=plan.stack, ChangeSetName=plan.change_set)
    config = waiter_config(poll_seconds)
    try:
        if plan.kind == "UPDATE":
            cloudformation.get_waiter("stack_update_complete").wait(StackName=stack, WaiterConfig=config)
        elif plan.kind == "CREATE":
            cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig=config)
        else:
            cloudformation.get_waiter("stack_import_complete").wait(StackName=stack, WaiterConfig=config)
    except WaiterError as error:
        cause = cause_of_failure(cloudformation, stack) or error
        after = _settled(cloudformation, plan.stack, poll_seconds)
        state = f". Now {after}" if after else ""
        step = (after.next_step if after else "") or "correct the cause, then deploy again"
        raise DeployError(f"{plan.kind.lower()} of stack {plan.stack} failed: {cause}{state}; {step}") from error


def _settled(cloudformation: CloudFormationClient, stack: str, poll_seconds: int) -> Stack | None:
    """Wait until a failed operation is undone, up to an hour, and return the stack."""
    # The waiters end when the operation fails, which is before its rollback ends.
    for _ in range(3600 // poll_seconds):
        found = find(cloudformation, stack)
        if found is None or found.meaning.step != "wait":
            return found
        time.sleep(poll_seconds)
    return find(cloudformation, stack)


def delete(
    cloudformation: CloudFormationClient,
    stack_id: str,
    *,
    token: str | None = None,
    role_arn: str | None = None,
    poll_seconds: int = 5,
) -> None:
    """Delete a stack and wait; raise DeployError naming the first resource that could not be deleted."""
    given = {"ClientRequestToken": token, "RoleARN": role_arn}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    cloudformation.delete_stack(StackName=stack_id, **options)
    try:
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=stack_id, WaiterConfig=waiter_config(poll_seconds)
        )
    except WaiterError as error:
        name = name_of(stack_id)
        cause = cause_of_failure(cloudformation, stack_id) or error
        step = MEANINGS["DELETE_FAILED"].next_step.replace("{stack}", name)
        raise DeployError(f"deletion of stack {name} failed: {cause}; {step}") from error


def name_of(stack_id: str) -> str:
    """Return the name in a stack's id."""
    return stack_id.split("/")[1]


def discard(cloudformation: CloudFormationClient, plan: Plan) -> None:
    """Delete a change set, and the empty stack that a first change set has created."""
    cloudformation.delete_change_set(StackName=plan.stack, ChangeSetName=plan.change_set)
    found = find(cloudformation, plan.stack)
    if found and found.status == "REVIEW_IN_PROGRESS":
        cloudformation.delete_stack(StackName=found.stack_id)


def outputs(cloudformation: CloudFormationClient, stack: str) -> dict[str, str]:
    """Return a stack's outputs by name."""
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def waiter_config(seconds: int) -> WaiterConfigTypeDef:
    """Return a waiter's settings: poll every so many seconds, for an hour."""
    return {"Delay": seconds, "MaxAttempts": 3600 // seconds}


def events(cloudformation: CloudFormationClient, stack: str) -> Iterator[StackEventTypeDef]:
    """Yield a stack's events, the latest first; a deleted stack is found by its id."""
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack):
        yield from page["StackEvents"]


def cause_of_failure(cloudformation: CloudFormationClient, stack: str) -> str | None:
    """Return the first resource that failed in the stack's last operation, with the reason."""
    last = takewhile(lambda event: not _begins_an_operation(event), events(cloudformation, stack))
    failed = [event for event in last if event.get("ResourceStatus", "").endswith("FAILED")]
    # The others are cancelled because of the first one.
    own = [event for event in failed if "cancelled" not in event.get("ResourceStatusReason", "")] or failed
    if not own:
        return None
    return f"{own[-1]['LogicalResourceId']}: {own[-1].get('ResourceStatusReason', 'no reason given')}"


def _begins_an_operation(event: StackEventTypeDef) -> bool:
    begins = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}
    return event.get("PhysicalResourceId") == event["StackId"] and event.get("ResourceStatus") in begins
