"""AWS Organizations, as the worker uses it: which SCPs an account carries, and attaching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from handlers.aws.errors import organizations_errors
from schemas.outcome import AttachmentResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_organizations import OrganizationsClient

    from schemas.ids import AccountId, PolicyId


class OrganizationsApi:
    """Read and attach the service control policies of an account."""

    def __init__(self, client: OrganizationsClient) -> None:
        self._client = client

    def attached_policies(self, account_id: AccountId) -> frozenset[PolicyId]:
        """Return the SCPs attached to the account itself."""
        return attached_policies(self._client, account_id)

    def attach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Attach a policy to an account; a policy that is already attached is not an error."""
        with organizations_errors():
            try:
                self._client.attach_policy(PolicyId=policy_id, TargetId=account_id)
            except self._client.exceptions.DuplicatePolicyAttachmentException:
                return AttachmentResult.ALREADY_ATTACHED
        return AttachmentResult.ATTACHED


def attached_policies(client: OrganizationsClient, account_id: AccountId) -> frozenset[PolicyId]:
    """Return the SCPs attached to the account itself, without those that it inherits.

    Makes one call for up to 20 policies; an account can carry 10. An empty page can be followed by others.
    """
    pages = client.get_paginator("list_policies_for_target").paginate(
        TargetId=account_id, Filter="SERVICE_CONTROL_POLICY"
    )
    with organizations_errors():
        return frozenset(policy["Id"] for page in pages for policy in _policies(page))


def _policies(page: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """Return a page's policies; an answer without a list of policies is corrupted."""
    if "Policies" not in page:
        raise ResponseParserError("the answer lists no policies")
    policies: Sequence[Mapping[str, str]] = page["Policies"]
    return policies
