"""AWS Organizations, as operators read it. It attaches nothing, and the function does not load it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.aws.errors import organizations_errors
from handlers.aws.organizations import attached_policies
from handlers.aws.organizations_facts import described, tagged
from handlers.core.redrive.ports import Account

if TYPE_CHECKING:
    from collections.abc import Collection

    from mypy_boto3_organizations import OrganizationsClient

    from handlers.core.guardrails.facts import Facts
    from handlers.core.guardrails.places import AttachedPolicy
    from schemas.compiled_guardrails import PolicyType
    from schemas.ids import AccountId, PolicyId


class OrganizationsReaderApi:
    """Read what pre-flight and the outcomes of an account need."""

    def __init__(self, client: OrganizationsClient) -> None:
        self._client = client

    def enabled_types(self) -> frozenset[str]:
        """Return the policy types that are enabled in the root."""
        with organizations_errors():
            types = [kind for root in self._client.list_roots()["Roots"] for kind in root["PolicyTypes"]]
        return frozenset(each["Type"] for each in types if each["Status"] == "ENABLED")

    def policy_arn(self, policy_id: PolicyId) -> str | None:
        """Return a policy's ARN; None if the policy does not exist."""
        with organizations_errors():
            try:
                return self._client.describe_policy(PolicyId=policy_id)["Policy"]["PolicySummary"]["Arn"]
            except self._client.exceptions.PolicyNotFoundException:
                return None

    def account(self, account_id: AccountId) -> Account | None:
        """Return a member account; None if the account is not a member."""
        with organizations_errors():
            try:
                found = self._client.describe_account(AccountId=account_id)["Account"]
            except self._client.exceptions.AccountNotFoundException:
                return None
            # `Status` was retired in September 2026.
            return Account(arn=found["Arn"], state=str(found.get("State") or found.get("Status")))

    def attached_policies(self, account_id: AccountId, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        """Return the policies of these types that are attached to the account itself."""
        return attached_policies(self._client, account_id, types)

    def described(self, facts: Facts) -> Facts:
        """Return the facts with name, e-mail address, join method and OUs."""
        return described(self._client, facts)

    def tagged(self, facts: Facts) -> Facts:
        """Return the facts with tags."""
        return tagged(self._client, facts)
