"""AWS Organizations, as the workers use it: what an account carries, its facts, attaching and removing policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from handlers.aws.errors import organizations_errors
from handlers.aws.organizations_facts import described, tagged
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.joins.ports import Membership
from schemas.outcome import AttachmentResult

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mypy_boto3_organizations import OrganizationsClient

    from handlers.core.guardrails.facts import Facts
    from schemas.compiled_guardrails import PolicyType
    from schemas.ids import AccountId, PolicyId


class OrganizationsApi:
    """Read an account and change its policies; the role of each worker allows only its own changes."""

    def __init__(self, client: OrganizationsClient) -> None:
        self._client = client

    def attached_policies(self, account_id: AccountId, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        """Return the policies of these types that are attached to the account itself."""
        return attached_policies(self._client, account_id, types)

    def described(self, facts: Facts) -> Facts:
        """Return the facts with name, e-mail address, join method and OUs."""
        return described(self._client, facts)

    def tagged(self, facts: Facts) -> Facts:
        """Return the facts with tags."""
        return tagged(self._client, facts)

    def attach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Attach a policy to an account; a policy that is already attached is not an error."""
        with organizations_errors():
            try:
                self._client.attach_policy(PolicyId=policy_id, TargetId=account_id)
            except self._client.exceptions.DuplicatePolicyAttachmentException:
                return AttachmentResult.ALREADY_ATTACHED
        return AttachmentResult.ATTACHED

    def detach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Detach a policy from an account; a policy that is not attached is not an error.

        Raises PermanentError with Cause.LAST_POLICY if AWS requires the account to carry it.
        """
        with organizations_errors():
            try:
                self._client.detach_policy(PolicyId=policy_id, TargetId=account_id)
            except self._client.exceptions.PolicyNotAttachedException:
                return AttachmentResult.ALREADY_REMOVED
        return AttachmentResult.REMOVED

    def membership(self, account_id: AccountId) -> Membership:
        """Return since when an account is a member; raise AccountNotFoundError if it is none."""
        with organizations_errors():
            account: Mapping[str, Any] = self._client.describe_account(AccountId=account_id)["Account"]
            state = str(account.get("State") or account.get("Status"))
            return Membership(since=account["JoinedTimestamp"], state=state)


def attached_policies(
    client: OrganizationsClient, account_id: AccountId, types: Collection[PolicyType]
) -> tuple[AttachedPolicy, ...]:
    """Return the policies of these types that are attached to the account itself, without those that it inherits.

    Makes one call a type for up to 20 policies; an account can carry 10 SCPs. An empty page can be followed by others.
    """
    paginator = client.get_paginator("list_policies_for_target")
    with organizations_errors():
        return tuple(
            AttachedPolicy(policy["Id"], each, aws_managed=policy.get("AwsManaged", False))
            for each in types
            # The stubs do not know every type.
            for page in paginator.paginate(TargetId=account_id, Filter=each)  # type: ignore[arg-type]
            for policy in _policies(page)
        )


def _policies(page: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return a page's policies; an answer without a list of policies is corrupted."""
    if "Policies" not in page:
        raise ResponseParserError("the answer lists no policies")
    policies: Sequence[Mapping[str, Any]] = page["Policies"]
    return policies
