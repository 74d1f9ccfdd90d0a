"""Is the cause of a dead letter gone? Organizations is asked, once for each question."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from handlers.aws.faults import error_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_organizations import OrganizationsClient

    from handlers.core.letters import DeadLetter
    from schemas.ids import AccountId, OrganizationId, PolicyId

#: Policies that fit on an account (AWS, since May 2026).
_MAX_ATTACHED: Final = 10


class Preflight:
    """Tell why a letter would only come back."""

    def __init__(
        self,
        client: OrganizationsClient,
        policy_ids: Sequence[PolicyId],
        organization_id: OrganizationId,
        management_account_id: AccountId,
    ) -> None:
        self._client = client
        self._policy_ids = policy_ids
        self._organization_id = organization_id
        self._management_account_id = management_account_id
        self._organization: Callable[[], str | None] = cache(self._ask_organization)
        self._account: Callable[[AccountId], str | None] = cache(self._ask_account)

    def would_fail(self, letter: DeadLetter) -> str | None:
        """Return why a letter would fail again; None where nothing speaks against it."""
        if letter.event is None:
            return "its body cannot be read; see `show`, then `edit` or `drop`"
        if not letter.account_id:
            return None
        organization_id = getattr(letter.event, "organization_id", None)
        if organization_id not in {None, self._organization_id}:
            return "it is about another organization; `drop` it"
        if letter.account_id == self._management_account_id:
            return "it names the management account, which no SCP binds; `drop` it"
        return self._organization() or self._account(letter.account_id)

    def _ask_organization(self) -> str | None:
        try:
            types = [kind for root in self._client.list_roots()["Roots"] for kind in root["PolicyTypes"]]
            if ("SERVICE_CONTROL_POLICY", "ENABLED") not in [(each["Type"], each["Status"]) for each in types]:
                return "service control policies are not enabled in the organization; enable them"
            for policy_id in self._policy_ids:
                self._client.describe_policy(PolicyId=policy_id)
        except ClientError as error:
            if error_code(error) == "PolicyNotFoundException":
                return f"policy {policy_id} does not exist; correct PolicyIds in the stage and deploy"
            return f"Organizations cannot be asked ({error_code(error)}); look at your permissions"
        return None

    def _ask_account(self, account_id: AccountId) -> str | None:
        try:
            account = self._client.describe_account(AccountId=account_id)["Account"]
            # `Status` was retired in September 2026.
            state = str(account.get("State") or account.get("Status"))
            if state not in {"ACTIVE", "PENDING_ACTIVATION"}:
                return f"the account is {state}; `drop` it"
            pages = self._client.get_paginator("list_policies_for_target").paginate(
                TargetId=account_id, Filter="SERVICE_CONTROL_POLICY"
            )
            carried = {policy["Id"] for page in pages for policy in page["Policies"]}
        except ClientError as error:
            if error_code(error) in {"AccountNotFoundException", "TargetNotFoundException"}:
                return "the account is no member; `drop` it, or invite the account again"
            return f"the account cannot be looked at ({error_code(error)}); look at your permissions"
        missing = set(self._policy_ids) - carried
        if len(carried) + len(missing) > _MAX_ATTACHED:
            return f"the account carries {len(carried)} policies and has no place for {len(missing)} more; detach some"
        return None
