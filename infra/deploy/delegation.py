"""Merge our statements into the organization's resource policy, of which an organization has only one.

https://docs.aws.amazon.com/organizations/latest/userguide/orgs_delegate_policies.html
"""

from __future__ import annotations

import json
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from infra.deploy.guardrails import policy_arns
from infra.deploy.stack import DeployError
from schemas.compiled_guardrails import SCP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_organizations import OrganizationsClient

    from infra.deploy.preflight import Account
    from infra.deploy.stages import Stage
    from schemas.compiled_guardrails import CompiledGuardrails

#: Characters of a resource policy, according to Organizations' API.
MAX_LENGTH: Final = 40_000
#: What the worker, the sweep, the operators and `make deploy` read in a member account.
_READS: Final = (
    "organizations:DescribeAccount",
    "organizations:DescribeOrganization",
    "organizations:DescribePolicy",
    "organizations:ListAccounts",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
    "organizations:ListParents",
    "organizations:ListPolicies",
    "organizations:ListPoliciesForTarget",
    "organizations:ListRoots",
    "organizations:ListTagsForResource",
    "organizations:ListTargetsForPolicy",
)


def statements(
    account: Account, stage: Stage, administrator_id: str, guardrails: CompiledGuardrails | None = None
) -> list[dict[str, Any]]:
    """Return statements that let a member account attach only the stage's policies; each stage has its own Sids.

    A stage that removes policies may detach these, too. The same statement says so, because it is replaced by its Sid:
    one of its own would stay when the stage stops removing.
    """
    prefix = f"arn:{account.partition}:organizations::{account.management_account_id}"
    accounts = f"{prefix}:account/{account.organization_id}/*"
    types = sorted({each.type for each in guardrails.policies} if guardrails else {SCP})
    allow = {"Effect": "Allow", "Principal": {"AWS": f"arn:{account.partition}:iam::{administrator_id}:root"}}
    # A Sid has only letters and digits.
    suffix = "".join(part.capitalize() for part in stage.suffix.split("-"))
    reads = {"Sid": f"JoinguardReads{suffix}", **allow, "Action": list(_READS), "Resource": "*"}
    attaches = {
        "Sid": f"JoinguardAttaches{suffix}",
        **allow,
        "Action": ["organizations:AttachPolicy", "organizations:DetachPolicy"]
        if stage.removes
        else "organizations:AttachPolicy",
        "Resource": [accounts, *policy_arns(account, stage, guardrails)],
        "Condition": {"StringLikeIfExists": {"organizations:PolicyType": types if len(types) > 1 else types[0]}},
    }
    return [reads, attaches]


def read_policy(organizations: OrganizationsClient) -> dict[str, Any] | None:
    """Return the organization's resource policy, or None if it has none.

    Raises DeployError if it cannot be read, since a policy without its statements would remove them.
    """
    try:
        content = organizations.describe_resource_policy()["ResourcePolicy"]["Content"]
    except organizations.exceptions.ResourcePolicyNotFoundException:
        return None
    except ClientError as error:
        raise DeployError(
            f"cannot read the organization's resource policy: {error}. Use credentials of the management account "
            "that may call organizations:DescribeResourcePolicy"
        ) from error
    policy: dict[str, Any] = json.loads(content)
    return policy


def merge(present: Mapping[str, Any] | None, ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the present policy with our statements: each replaces the one with its Sid, the others are added."""
    if present is None:
        return {"Version": "2012-10-17", "Statement": ours}
    there = present.get("Statement", [])
    replaced = {each["Sid"]: each for each in ours}
    merged = [replaced.pop(each.get("Sid"), each) for each in (there if isinstance(there, list) else [there])]
    return {**present, "Statement": [*merged, *replaced.values()]}


def text_of(policy: Mapping[str, Any]) -> str:
    """Return a policy as JSON, indented if it fits; raise DeployError if it is too long for Organizations."""
    readable = json.dumps(policy, indent=2)
    # A file of it ends in a newline, which counts too.
    if len(readable) < MAX_LENGTH:
        return readable
    compact = json.dumps(policy, separators=(",", ":"))
    if len(compact) >= MAX_LENGTH:
        raise DeployError(
            f"the organization's resource policy would have {len(compact):,} characters, and AWS allows "
            f"{MAX_LENGTH:,}. Remove statements that nobody needs from the present policy (aws organizations "
            "describe-resource-policy), or name fewer policies"
        )
    return compact


def difference(present: Mapping[str, Any] | None, merged: Mapping[str, Any]) -> list[str]:
    """Return the lines of a unified diff from the present policy to the merged one; empty if nothing changes."""
    before = json.dumps(present, indent=2).splitlines() if present is not None else []
    return list(unified_diff(before, json.dumps(merged, indent=2).splitlines(), "present", "merged", lineterm=""))
