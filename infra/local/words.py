"""Say IAM policies as the embedded AWS reads them; what AWS reads in them stays, where it can be fulfilled."""

from __future__ import annotations

import copy
from typing import Any, Final

#: What it cannot fulfil: it has no TLS, and does not know the condition on If-None-Match.
UNFULFILLED: Final = frozenset({"OnlyOverTls", "EachKeyIsWrittenOnce"})
_BATCHED: Final = frozenset({"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"})


def of_a_role(document: Any, account_id: str) -> Any:
    """Return a role's policy as the stand-in asks for permissions.

    It checks every call to Organizations against one made-up ARN, the policy simulator against none, and asks for
    batch actions of SQS by names that AWS does not have.
    """
    made_up = f"arn:aws:organizations::{account_id}:organization/*"
    changed = copy.deepcopy(document)
    for statement in changed["Statement"]:
        actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
        if all(action.startswith("organizations:") for action in actions) and made_up not in resources:
            statement["Resource"] = [*resources, made_up]
        if actions == ["iam:SimulatePrincipalPolicy"]:
            statement["Resource"] = "*"
        _name_batches(statement)
    return changed


def of_a_resource(document: Any, account_id: str) -> Any:
    """Return a bucket's or queue's policy without what the stand-in cannot fulfil.

    A principal that is excepted by its role's ARN is excepted by its session's too, which is all that the stand-in
    sees. So is the account's root user, whose keys people use to put events on a queue by hand.
    """
    changed = copy.deepcopy(document)
    changed["Statement"] = [each for each in changed["Statement"] if each.get("Sid") not in UNFULFILLED]
    for statement in changed["Statement"]:
        _name_batches(statement)
        excepted = statement.get("Condition", {}).get("ArnNotEquals", {})
        if "aws:PrincipalArn" in excepted:
            named = _listed(excepted["aws:PrincipalArn"])
            ours = [*map(_session_of, named), f"arn:aws:iam::{account_id}:root"]
            excepted["aws:PrincipalArn"] = list(dict.fromkeys([*named, *ours]))
    return changed


def _session_of(principal: str) -> str:
    """Return what the stand-in calls the sessions of a role; any other ARN as it is."""
    head, role, name = principal.partition(":role/")
    return f"{head.replace(':iam:', ':sts:')}:assumed-role/{name}/*" if role else principal


def _name_batches(statement: dict[str, Any]) -> None:
    actions = _listed(statement["Action"])
    if batches := [f"{action}Batch" for action in actions if action in _BATCHED]:
        statement["Action"] = [*actions, *(each for each in batches if each not in actions)]


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
