"""Pre-flight: whether the cause of a dead letter is corrected. A message that would fail again is not redriven."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from handlers.core.errors import Cause, JoinguardError
from handlers.core.guardrails.evaluate import Requirements
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.core.redrive.ports import OrganizationsReader, Permissions
from schemas.events import Join
from schemas.ids import AccountId

#: The number of accounts that are read one by one, those of the oldest messages first: Organizations allows five such
#: reads a second, which the worker needs too. Beyond it, only accounts whose own state was the cause are read.
MAX_ACCOUNTS: Final = 100
_ACCOUNT_CAUSES: Final = frozenset({Cause.TOO_MANY_POLICIES, Cause.ACCOUNT_NOT_FOUND})
_MEMBER: Final = frozenset({"ACTIVE", "PENDING_ACTIVATION"})
THE_ACCOUNT: Final = "the account"


@dataclass
class Preflight:
    """Find out why a message would fail again."""

    organizations: OrganizationsReader
    #: None if the stack does not name the worker's role.
    permissions: Permissions | None
    requirements: Requirements
    #: The maximum number of policies of an account.
    max_policies: int
    #: What could not be found out.
    unknown: list[Explanation] = field(default_factory=list, init=False)
    _accounts: dict[AccountId, Explanation | None] = field(default_factory=dict, init=False)
    _policy_arns: list[str] = field(default_factory=list, init=False)
    _denied: tuple[str, ...] | None = field(default=None, init=False)

    def would_fail(self, dead_letter: DeadLetter) -> Explanation | None:
        """Return why a message would fail again; None if no reason is found."""
        if dead_letter.event is None:
            return Explanation(Reason.INVALID_EVENT)
        if not isinstance(dead_letter.event, Join):
            return None
        if dead_letter.event.organization_id not in {None, self.requirements.organization_id}:
            return Explanation(Reason.WRONG_ORGANIZATION)
        read_account = len(self._accounts) < MAX_ACCOUNTS or dead_letter.cause in _ACCOUNT_CAUSES
        return self.of_account(dead_letter.account_id, read_account=read_account)

    def of_account(self, account_id: AccountId, *, read_account: bool = True) -> Explanation | None:
        """Return why nothing can be attached to an account; None if no reason is found.

        `read_account`: whether to read the account itself, unless it was read before.
        """
        if account_id == self.requirements.management_account_id:
            return Explanation(Reason.MANAGEMENT_ACCOUNT)
        if self.cannot_attach:
            return self.cannot_attach
        if read_account and account_id not in self._accounts:
            self._accounts[account_id] = self._asked(lambda: self._check_account(account_id))
        return self._accounts.get(account_id)

    @cached_property
    def cannot_attach(self) -> Explanation | None:
        """Why nothing can be attached to any account; None if no reason is found."""
        return self._asked(self._check_organization)

    def _asked(self, check: Callable[[], Explanation | None]) -> Explanation | None:
        """Make a check; if Organizations does not answer, note that and find nothing.

        The message is then redriven: a redrive sends its first messages alone, so that a remaining cause affects few.
        """
        try:
            return check()
        except JoinguardError as error:
            self._add_unknown(Explanation(Reason.ORGANIZATIONS_UNAVAILABLE, (str(error),)))
            return None

    def _add_unknown(self, unknown: Explanation) -> None:
        if unknown not in self.unknown:
            self.unknown.append(unknown)

    def _check_organization(self) -> Explanation | None:
        if not self.organizations.scps_enabled():
            return Explanation(Reason.POLICY_TYPE_DISABLED)
        for policy_id in self.requirements.guardrails.policy_ids:
            arn = self.organizations.policy_arn(policy_id)
            if arn is None:
                return Explanation(Reason.POLICY_NOT_FOUND, (policy_id,))
            self._policy_arns.append(arn)
        return None

    def _check_account(self, account_id: AccountId) -> Explanation | None:
        account = self.organizations.account(account_id)
        if account is None:
            return Explanation(Reason.ACCOUNT_NOT_FOUND)
        if account.state not in _MEMBER:
            return Explanation(Reason.ACCOUNT_NOT_ACTIVE, (account.state,))
        attached = self.organizations.attached_policies(account_id)
        missing = self.requirements.guardrails.missing_policies(account_id, attached)
        if len(attached) + len(missing) > self.max_policies:
            return Explanation(Reason.TOO_MANY_POLICIES, (len(attached), len(missing)))
        return self._check_permissions(account.arn)

    def _check_permissions(self, account_arn: str) -> Explanation | None:
        """Return what the worker's role may not attach; asked once, because its permissions are equal for all."""
        if self._denied is None:
            try:
                self._denied = self._ask_permissions(account_arn)
            except JoinguardError as error:
                self._add_unknown(Explanation(Reason.PERMISSIONS_UNAVAILABLE, (str(error),)))
                self._denied = ()
        return Explanation(Reason.ACCESS_DENIED, self._denied) if self._denied else None

    def _ask_permissions(self, account_arn: str) -> tuple[str, ...]:
        if self.permissions is None:
            self._add_unknown(Explanation(Reason.ROLE_UNKNOWN))
            return ()
        denied = self.permissions.denied("organizations:AttachPolicy", [*self._policy_arns, account_arn])
        return tuple(THE_ACCOUNT if arn == account_arn else arn.rpartition("/")[2] for arn in denied)
