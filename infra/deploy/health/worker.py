"""Check the worker: the function's configuration and the event source mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import matches, property_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed

#: The template's properties under the names that GetFunctionConfiguration uses.
_FUNCTION: Final = ("Runtime", "Architectures", "Handler", "Role", "MemorySize", "Timeout", "LoggingConfig")
_MAPPING: Final = ("EventSourceArn", "BatchSize", "FunctionResponseTypes", "ScalingConfig")


def function(lambda_client: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check a function's state and last update, and compare its configuration and environment."""
    declared = stack.properties(name)
    actual = lambda_client.get_function_configuration(FunctionName=stack.short_id(name))
    differences = [*property_differences(declared, actual, _FUNCTION)]
    if declared.get("KmsKeyArn", "") != actual.get("KMSKeyArn", ""):
        differences.append("the key of its environment was changed")
    differences += _environment(declared["Environment"]["Variables"], actual.get("Environment", {}))
    state, update = actual.get("State", "Active"), actual.get("LastUpdateStatus", "Successful")
    if state not in {"Active", "Pending", "Inactive"}:
        differences.append(f"it is {state}: {actual.get('StateReason', 'no reason given')}")
    if update == "Failed":
        differences.append(f"its last update failed: {actual.get('LastUpdateStatusReason', 'no reason given')}")
    yield compared("function", f"{state}, last update {update}{_observes(stack)}", differences)


def _observes(stack: Deployed) -> str:
    attach_to = stack.parameters.get("AttachTo", "all")
    if attach_to == "all":
        return ""
    return (
        "; it only observes" if attach_to == "none" else f"; it attaches to {len(attach_to.split(','))} accounts only"
    )


def _environment(declared: dict[str, Any], actual: dict[str, Any]) -> Iterator[str]:
    if "Error" in actual:
        yield f"its environment cannot be decrypted ({actual['Error'].get('ErrorCode', 'no reason given')})"
        return
    variables = actual.get("Variables", {})
    for name in sorted(declared.keys() | variables.keys()):
        if name not in variables:
            yield f"environment variable {name} is missing"
        elif name not in declared:
            yield f"environment variable {name} is not in the template"
        elif not matches(declared[name], variables[name]):
            yield f"environment variable {name} was changed"


def mapping(lambda_client: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check that an event source mapping is enabled and as declared."""
    actual = lambda_client.get_event_source_mapping(UUID=stack.id(name))
    state = actual.get("State", "unknown")
    differences = [*property_differences(stack.properties(name), actual, _MAPPING)]
    if state not in {"Enabled", "Enabling", "Updating", "Creating"}:
        differences.insert(0, state)
    yield compared("mapping", state, differences)
