"""Adapt the template's IAM policies to what the AWS stand-in enforces, with as few changes as possible."""

from __future__ import annotations

import copy
from typing import Any, Final

#: Statements that the stand-in cannot satisfy: it has no TLS and ignores the condition key s3:if-none-match.
REMOVED_SIDS: Final = frozenset({"OnlyOverTls", "EachKeyIsWrittenOnce"})
_ACTIONS_WITH_BATCH: Final = frozenset({"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"})


def adapt_role_policy(document: Any, account_id: str) -> Any:
    """Return a role's policy with the permissions that the stand-in checks.

    The stand-in checks every Organizations call against one invented ARN and iam:SimulatePrincipalPolicy without a
    resource. For SQS batch calls it checks actions of its own (sqs:SendMessageBatch), for GetEventSourceMapping it
    checks lambda:ListEventSourceMappings, and it checks rules and log groups under ARNs of its own. It does not
    know the condition keys of events:PutEvents.
    """
    invented_arn = f"arn:aws:organizations::{account_id}:organization/*"
    changed = copy.deepcopy(document)
    for statement in changed["Statement"]:
        actions, resources = _as_list(statement["Action"]), _as_list(statement["Resource"])
        if all(action.startswith("organizations:") for action in actions) and invented_arn not in resources:
            statement["Resource"] = [*resources, invented_arn]
        if actions == ["iam:SimulatePrincipalPolicy"]:
            statement["Resource"] = "*"
        if "lambda:GetEventSourceMapping" in actions and "lambda:ListEventSourceMappings" not in actions:
            statement["Action"] = [*actions, "lambda:ListEventSourceMappings"]
        if actions == ["events:PutEvents"]:
            statement.pop("Condition", None)
        if "events:DescribeRule" in actions:
            statement["Resource"] = "*"
        if actions == ["logs:FilterLogEvents"]:
            without_streams = [each.removesuffix(":*") for each in resources]
            statement["Resource"] = list(dict.fromkeys([*resources, *without_streams]))
        _add_batch_actions(statement)
    return changed


def adapt_resource_policy(document: Any, account_id: str) -> Any:
    """Return the policy of a bucket, queue or key without the statements that the stand-in cannot satisfy.

    The stand-in compares aws:PrincipalArn with a session's ARN, where AWS compares it with the role's. So each role
    that a Deny excepts gets its sessions as exceptions too. The account's root user becomes an exception as well,
    because users send events to the queues with its keys.
    """
    changed = copy.deepcopy(document)
    changed["Statement"] = [each for each in changed["Statement"] if each.get("Sid") not in REMOVED_SIDS]
    for statement in changed["Statement"]:
        _add_batch_actions(statement)
        excepted = statement.get("Condition", {}).get("ArnNotEquals", {})
        if "aws:PrincipalArn" in excepted:
            principals = _as_list(excepted["aws:PrincipalArn"])
            added = [*map(_sessions_of, principals), f"arn:aws:iam::{account_id}:root"]
            excepted["aws:PrincipalArn"] = list(dict.fromkeys([*principals, *added]))
    return changed


def _sessions_of(principal: str) -> str:
    """Return the ARN pattern of a role's sessions, which has no path, and any other ARN unchanged."""
    head, role, path_and_name = principal.partition(":role/")
    name = path_and_name.rpartition("/")[2]
    return f"{head.replace(':iam:', ':sts:')}:assumed-role/{name}/*" if role else principal


def _add_batch_actions(statement: dict[str, Any]) -> None:
    actions = _as_list(statement["Action"])
    if batches := [f"{action}Batch" for action in actions if action in _ACTIONS_WITH_BATCH]:
        statement["Action"] = [*actions, *(each for each in batches if each not in actions)]


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
