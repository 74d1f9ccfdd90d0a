"""AWS Organizations, as operators read it. It attaches nothing, and the function does not load it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.aws.errors import organizations_errors
from handlers.aws.organizations import attached_policies
from handlers.core.redrive.ports import Account

if TYPE_CHECKING:
    from mypy_boto3_organizations import OrganizationsClient

    from schemas.ids import AccountId, PolicyId


class OrganizationsReaderApi:
    """Read what pre-flight and the outcomes of an account need."""

    def __init__(self, client: OrganizationsClient) -> None:
        self._client = client

    def scps_enabled(self) -> bool:
        """Return whether service control policies are enabled in the root."""
        with organizations_errors():
            types = [kind for root in self._client.list_roots()["Roots"] for kind in root["PolicyTypes"]]
        return ("SERVICE_CONTROL_POLICY", "ENABLED") in [(each["Type"], each["Status"]) for each in types]

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

    def attached_policies(self, account_id: AccountId) -> frozenset[PolicyId]:
        """Return the SCPs attached to the account itself."""
        return attached_policies(self._client, account_id)
