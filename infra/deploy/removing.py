"""Stop the worker that removes policies before a change set deletes it.

CloudFormation first takes its permissions to write evidence, and deletes it last. In between, it could remove policies
without evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from infra.deploy.queues import messages_in
from infra.deploy.stack import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.deploy.stack import Plan
    from infra.deploy.stages import Target

_MAPPING: Final = "DetachPoliciesMapping"
_FUNCTION: Final = "DetachPolicies"
_QUEUE: Final = "Removals"
#: How many times the state is read until Lambda must have stopped polling the queue.
_POLLS: Final = 60


def stop_before(target: Target, planned: Plan, sleep: Callable[[float], None], note: Callable[[str], None]) -> None:
    """Stop the worker if a change set deletes it, and wait until its last invocation has ended; say so first.

    Raises DeployError if Lambda does not stop polling the queue; then nothing else was changed.
    """
    if not any(action == "Remove" and name == _MAPPING for action, name, *_ in planned.changes):
        return
    functions = target.client("lambda")
    mapping, function = (_physical_id(target, planned.stack, each) for each in (_MAPPING, _FUNCTION))
    note(
        "stopping the worker that removes policies, and waiting until its last invocation has ended, which takes a few "
        f"minutes. {_waiting(target, planned.stack)}; they are deleted with the queue, and what they name stays "
        "attached"
    )
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    for _ in range(_POLLS):
        if functions.get_event_source_mapping(UUID=mapping)["State"] == "Disabled":
            break
        sleep(target.poll_seconds)
    else:
        raise DeployError(
            "Lambda does not stop polling the queue of the worker that removes policies; nothing else was changed. "
            f"Look at it with aws lambda get-event-source-mapping --uuid {mapping}, then deploy again"
        )
    # Invocations that run go on until they end.
    sleep(functions.get_function_configuration(FunctionName=function)["Timeout"])


def _waiting(target: Target, stack: str) -> str:
    """Say how many requests wait in the worker's queue."""
    try:
        number = messages_in(target.client("sqs"), _physical_id(target, stack, _QUEUE))
    except ClientError as error:
        # The number is only information.
        return f"How many requests wait in its queue could not be read ({error.response['Error']['Code']})"
    return f"Requests that wait in its queue: {number:,}"


def _physical_id(target: Target, stack: str, name: str) -> str:
    found = target.client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=name)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])
