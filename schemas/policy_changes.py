"""Find what a call did to a policy, and who made it: DetachPolicy, UpdatePolicy, DeletePolicy, DisablePolicyType.

The request holds it, under the names of botocore's model of Organizations (2016-11-28).
"""

import re
from dataclasses import dataclass
from typing import Final

from schemas.document import InvalidEventError, Node
from schemas.naming import account_id, is_ou_id

#: The calls that change a policy or a policy type for the whole organization.
ORGANIZATION_CALLS: Final = frozenset({"DeletePolicy", "DisablePolicyType", "UpdatePolicy"})
_POLICY_ID: Final = re.compile("p-[0-9a-zA-Z_]{8,128}")
_POLICY_TYPE: Final = re.compile("[A-Z][A-Z0-9_]{0,63}")
_TARGET_RULE: Final = "must be the id of an account, an OU or the root"
#: The longest ARN that IAM knows, with room to spare.
_MAX_ARN: Final = 2048


@dataclass(frozen=True)
class Detachment:
    """A policy that was detached from something."""

    policy_id: str
    #: None if it was detached from an OU or the root.
    account_id: str | None


def detachment(record: Node) -> Detachment:
    """Return which policy was detached from what; raise InvalidEventError if the record does not name both."""
    parameters = record["requestParameters"]
    policy_id, target = _policy(parameters["policyId"]), parameters["targetId"]
    if is_ou_id(target.string):
        return Detachment(policy_id, None)
    account = account_id(target)
    if account is None:
        raise InvalidEventError((target.path, _TARGET_RULE))
    return Detachment(policy_id, account)


def changed_policy(name: str, record: Node) -> dict[str, str]:
    """Return the id of the policy, or the policy type, that a call of ORGANIZATION_CALLS changed.

    Raises InvalidEventError if the record does not name it.
    """
    parameters = record["requestParameters"]
    if name != "DisablePolicyType":
        return {"policy_id": _policy(parameters["policyId"])}
    policy_type = parameters["policyType"]
    if not _POLICY_TYPE.fullmatch(policy_type.string or ""):
        raise InvalidEventError((policy_type.path, "must be a policy type: capitals and underscores"))
    return {"policy_type": policy_type.string or ""}


def caller(record: Node) -> str | None:
    """Return the ARN of who made a call, which decides nothing: whatever is missing or ambiguous is left out."""
    try:
        arn = record["userIdentity"]["arn"].string
    except InvalidEventError:
        return None
    return arn if arn and arn.startswith("arn:") and len(arn) <= _MAX_ARN else None


def _policy(node: Node) -> str:
    if not _POLICY_ID.fullmatch(node.string or ""):
        raise InvalidEventError((node.path, "must be a policy id: p- and letters, digits or underscores"))
    return node.string or ""
