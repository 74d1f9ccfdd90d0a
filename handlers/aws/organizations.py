"""AWS Organizations: which SCPs an account carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.parsers import ResponseParserError

from handlers.aws.errors import organizations_faults
from schemas.outcome import AttachmentResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_organizations import OrganizationsClient

    from schemas.ids import AccountId, PolicyId


class OrganizationsDirectory:
    """Read and attach the service control policies of an account."""

    def __init__(self, client: OrganizationsClient) -> None:
        self._client = client

    def attached_policies(self, account_id: AccountId) -> frozenset[PolicyId]:
        """Return the SCPs attached to the account itself, inherited ones not among them.

        One call for up to 20 policies; an account can carry 10. An empty page may still have a successor.
        """
        pages = self._client.get_paginator("list_policies_for_target").paginate(
            TargetId=account_id, Filter="SERVICE_CONTROL_POLICY"
        )
        with organizations_faults():
            return frozenset(policy["Id"] for page in pages for policy in _policies(page))

    def attach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Attach a policy to an account; a policy that is attached already is no error."""
        with organizations_faults():
            try:
                self._client.attach_policy(PolicyId=policy_id, TargetId=account_id)
            except self._client.exceptions.DuplicatePolicyAttachmentException:
                return AttachmentResult.ALREADY_ATTACHED
        return AttachmentResult.ATTACHED


def _policies(page: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """Return a page's policies; an answer without any list of them was garbled on its way."""
    if "Policies" not in page:
        raise ResponseParserError("the answer lists no policies")
    policies: Sequence[Mapping[str, str]] = page["Policies"]
    return policies
