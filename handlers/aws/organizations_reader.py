"""AWS Organizations as operators ask it; apart from what the function loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.aws.errors import organizations_faults
from handlers.aws.organizations import OrganizationsDirectory
from handlers.core.redrive.preflight import Account

if TYPE_CHECKING:
    from schemas.ids import AccountId, PolicyId


class OrganizationsReader(OrganizationsDirectory):
    """Ask what an operator wants to know before letters go back."""

    def scps_enabled(self) -> bool:
        """Tell whether service control policies are switched on in the root."""
        with organizations_faults():
            types = [kind for root in self._client.list_roots()["Roots"] for kind in root["PolicyTypes"]]
        return ("SERVICE_CONTROL_POLICY", "ENABLED") in [(each["Type"], each["Status"]) for each in types]

    def policy_arn(self, policy_id: PolicyId) -> str | None:
        """Return a policy's ARN; None where there is none."""
        with organizations_faults():
            try:
                return self._client.describe_policy(PolicyId=policy_id)["Policy"]["PolicySummary"]["Arn"]
            except self._client.exceptions.PolicyNotFoundException:
                return None

    def account(self, account_id: AccountId) -> Account | None:
        """Return a member account; None where it is no member."""
        with organizations_faults():
            try:
                found = self._client.describe_account(AccountId=account_id)["Account"]
            except self._client.exceptions.AccountNotFoundException:
                return None
            # `Status` was retired in September 2026.
            return Account(arn=found["Arn"], state=str(found.get("State") or found.get("Status")))
