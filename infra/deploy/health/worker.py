"""Check the workers: each function's configuration, event source mapping, and role; and the operators' roles."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final

from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import matches, policy_differences, property_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from infra.deploy.health.deployed import Deployed

#: The template's properties under the names that GetFunctionConfiguration uses.
_FUNCTION: Final = ("Runtime", "Architectures", "Handler", "Role", "MemorySize", "Timeout", "LoggingConfig")
#: `make deploy` names a zip by its SHA-256.
_ZIP: Final = re.compile(r"joinguard/([0-9a-f]{64})\.zip")
_MAPPING: Final = ("EventSourceArn", "BatchSize", "FunctionResponseTypes", "ScalingConfig")


def function(lambda_client: Any, stack: Deployed, name: str, what: str = "function") -> Iterator[Check]:
    """Check a function's state and last update, and compare its code, configuration and environment."""
    declared = stack.properties(name)
    actual = lambda_client.get_function_configuration(FunctionName=stack.short_id(name))
    differences = [*_code(declared["Code"]["S3Key"], actual), *property_differences(declared, actual, _FUNCTION)]
    if declared.get("KmsKeyArn", "") != actual.get("KMSKeyArn", ""):
        differences.append("the key of its environment was changed")
    differences += _environment(declared["Environment"]["Variables"], actual.get("Environment", {}))
    state, update = actual.get("State", "Active"), actual.get("LastUpdateStatus", "Successful")
    if state not in {"Active", "Pending", "Inactive"}:
        differences.append(f"it is {state}: {actual.get('StateReason', 'no reason given')}")
    if update == "Failed":
        differences.append(f"its last update failed: {actual.get('LastUpdateStatusReason', 'no reason given')}")
    yield compared(what, f"{state}, last update {update}{_observes(stack)}", differences)


def _code(key: str, actual: Any) -> Iterator[str]:
    named = _ZIP.fullmatch(key)
    if named and base64.b64decode(actual["CodeSha256"]).hex() != named[1]:
        yield "its code is not that of the zip that was deployed"


def _observes(stack: Deployed) -> str:
    attach_to = stack.parameters.get("AttachTo", "all")
    if attach_to == "all":
        return ""
    return "; it only observes" if attach_to == "none" else f"; it changes {len(attach_to.split(','))} accounts only"


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


def mapping(lambda_client: Any, stack: Deployed, name: str, what: str = "mapping") -> Iterator[Check]:
    """Check that an event source mapping is enabled and as declared."""
    actual = lambda_client.get_event_source_mapping(UUID=stack.id(name))
    state = actual.get("State", "unknown")
    differences = [*property_differences(stack.properties(name), actual, _MAPPING)]
    if state not in {"Enabled", "Enabling", "Updating", "Creating"}:
        differences.insert(0, state)
    yield compared(what, state, differences)


def role(iam: Any, stack: Deployed, name: str, what: str) -> Iterator[Check]:
    """Compare the policies inside and attached to a role with those that the template gives it."""
    declared, physical = stack.properties(name), stack.id(name)
    inline = {each["PolicyName"]: each["PolicyDocument"] for each in _inline(stack, name)}
    found = _collected(iam, "list_role_policies", physical, "PolicyNames")
    differences = [*_lacks_or_adds(inline, found, "the policy")]
    for each in inline.keys() & set(found):
        actual = iam.get_role_policy(RoleName=physical, PolicyName=each)["PolicyDocument"]
        differences += policy_differences(inline[each], json.dumps(actual))
    attached = [
        each["PolicyArn"] for each in _collected(iam, "list_attached_role_policies", physical, "AttachedPolicies")
    ]
    differences += _lacks_or_adds(declared.get("ManagedPolicyArns", []), attached, "the managed policy")
    yield compared(what, "as in the template", sorted(differences))


def _inline(stack: Deployed, role_name: str) -> list[Any]:
    """Return the inline policies that the template gives a role, in its own declaration or in one of theirs."""
    own = stack.properties(role_name).get("Policies", [])
    others = map(stack.properties, stack.of_type("AWS::IAM::Policy"))
    return [*own, *(each for each in others if stack.id(role_name) in each["Roles"])]


def _collected(iam: Any, operation: str, role_name: str, name: str) -> list[Any]:
    return [each for page in iam.get_paginator(operation).paginate(RoleName=role_name) for each in page[name]]


def _lacks_or_adds(declared: Iterable[str], actual: Iterable[str], kind: str) -> Iterator[str]:
    """Yield the policies that a role lacks, and those that the template does not give it."""
    expected, found = set(declared), set(actual)
    yield from (f"it lacks {kind} {each}" for each in expected - found)
    yield from (f"it has another policy, {each}" for each in found - expected)


def boundary(iam: Any, stack: Deployed, name: str, what: str = "permissions boundary") -> Iterator[Check]:
    """Ask IAM's simulator whether a role's permissions boundary allows what the template allows the role.

    Without a boundary, the simulator says nothing about it.
    https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    """
    arn = stack.resolve({"Fn::GetAtt": [name, "Arn"]})
    allowed: dict[str, bool] = {}
    for policy in _inline(stack, name):
        for statement in policy["PolicyDocument"]["Statement"]:
            for action, allows in _by_the_boundary(iam, arn, statement):
                allowed[action] = allows and allowed.get(action, True)
    denied = [f"it denies {action}" for action, allows in sorted(allowed.items()) if not allows]
    found = "allows what the worker does" if allowed else "none"
    step = "have it allow these actions; infra/README.md lists what the roles need"
    yield compared(what, found, denied, next_step=step)


def _by_the_boundary(iam: Any, role_arn: str, statement: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each action of a statement and whether the boundary allows it, for each resource."""
    operands = [each for operator in statement.get("Condition", {}).values() for each in operator.items()]
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=role_arn,
        ActionNames=_listed(statement["Action"]),
        # Any account or key that matches the pattern, because the simulator is asked about resources.
        ResourceArns=[each.replace("*", "111122223333") for each in _listed(statement["Resource"])],
        ContextEntries=[
            {"ContextKeyName": key, "ContextKeyValues": _listed(value), "ContextKeyType": "string"}
            for key, value in operands
        ],
    )
    for page in pages:
        for result in page["EvaluationResults"]:
            # For several resources, each has its own decision.
            for decision in result.get("ResourceSpecificResults") or [result]:
                if detail := decision.get("PermissionsBoundaryDecisionDetail"):
                    yield result["EvalActionName"], detail["AllowedByPermissionsBoundary"]


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
