"""Is the cause of a dead letter gone? What would fail again is not sent again."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

from handlers.core.errors import JoinguardError
from handlers.core.redrive.dead_letter import DeadLetter
from schemas.ids import AccountId, OrganizationId, PolicyId

#: So many accounts are looked at one by one, the oldest letters' first: Organizations allows five such looks a
#: second, and the worker needs them too. Beyond, only accounts whose own state was the reason.
LOOKED_AT: Final = 100
_ABOUT_THE_ACCOUNT: Final = frozenset({"ConstraintViolationException", "TargetNotFoundException"})
_MEMBER: Final = frozenset({"ACTIVE", "PENDING_ACTIVATION"})


@dataclass(frozen=True)
class Account:
    """An account as Organizations knows it."""

    arn: str
    state: str


class Organization(Protocol):
    """AWS Organizations as an operator asks it."""

    def scps_enabled(self) -> bool:
        """Tell whether service control policies are switched on."""

    def policy_arn(self, policy_id: PolicyId) -> str | None:
        """Return a policy's ARN; None where there is none."""

    def account(self, account_id: AccountId) -> Account | None:
        """Return a member account; None where it is no member."""

    def attached_policies(self, account_id: AccountId) -> frozenset[PolicyId]:
        """Return the SCPs attached to the account itself."""


class Permissions(Protocol):
    """IAM as an operator asks it."""

    def denied(self, action: str, resources: Sequence[str]) -> Collection[str]:
        """Return the resources on which the worker may not do something."""


@dataclass
class Preflight:
    """Tell why a letter would only come back."""

    organization: Organization
    permissions: Permissions | None
    policy_ids: Sequence[PolicyId]
    organization_id: OrganizationId
    management_account_id: AccountId
    #: How many policies fit on an account.
    places: int
    #: What could not be found out, in words.
    unknown: list[str] = field(default_factory=list, init=False)
    _accounts: dict[AccountId, str | None] = field(default_factory=dict, init=False)
    _policy_arns: list[str] = field(default_factory=list, init=False)
    _denied: tuple[str, ...] | None = field(default=None, init=False)

    def would_fail(self, letter: DeadLetter) -> str | None:
        """Return why a letter would fail again; None where nothing speaks against it."""
        if letter.event is None:
            return "its body cannot be read; see `show`, then `edit` or `drop`"
        if not letter.account_id:
            return None
        if getattr(letter.event, "organization_id", None) not in {None, self.organization_id}:
            return "it is about another organization: drop it"
        close = len(self._accounts) < LOOKED_AT or letter.code in _ABOUT_THE_ACCOUNT
        return self.of_account(letter.account_id, close=close)

    def of_account(self, account_id: AccountId, *, close: bool = True) -> str | None:
        """Return why nothing can be attached to an account; None where nothing speaks against it.

        `close` for asking about the account itself, where that is not known yet.
        """
        if account_id == self.management_account_id:
            return "it is the management account, which no SCP binds: drop the letter"
        if self.cannot_attach:
            return self.cannot_attach
        if close and account_id not in self._accounts:
            self._accounts[account_id] = self._asked(lambda: self._look_at(account_id))
        return self._accounts.get(account_id)

    @cached_property
    def cannot_attach(self) -> str | None:
        """Why nothing can be attached to any account; None where nothing speaks against it."""
        return self._asked(self._look_at_organization)

    def _asked(self, ask: Callable[[], str | None]) -> str | None:
        """Ask; what Organizations does not tell speaks against nothing, for the first letters go alone."""
        try:
            return ask()
        except JoinguardError as error:
            self._does_not_know(f"Organizations does not answer: {error}")
            return None

    def _does_not_know(self, what: str) -> None:
        if what not in self.unknown:
            self.unknown.append(what)

    def _look_at_organization(self) -> str | None:
        if not self.organization.scps_enabled():
            return "service control policies are not enabled in the organization; enable them"
        for policy_id in self.policy_ids:
            arn = self.organization.policy_arn(policy_id)
            if arn is None:
                return f"policy {policy_id} does not exist; correct PolicyIds in the stage and deploy"
            self._policy_arns.append(arn)
        return None

    def _look_at(self, account_id: AccountId) -> str | None:
        account = self.organization.account(account_id)
        if account is None:
            return "the account is no member: drop the letter, or invite the account again"
        if account.state not in _MEMBER:
            return f"the account is {account.state}: drop the letter"
        carried = self.organization.attached_policies(account_id)
        missing = set(self.policy_ids) - carried
        if len(carried) + len(missing) > self.places:
            return f"the account carries {len(carried)} policies and has no place for {len(missing)} more; detach some"
        return self._may_not(account.arn)

    def _may_not(self, account_arn: str) -> str | None:
        """Return why the worker's role may not attach; asked once, for its permissions do not differ by account."""
        if self._denied is None:
            try:
                self._denied = self._ask_permissions(account_arn)
            except JoinguardError as error:
                self._does_not_know(f"whether the worker's role may attach: {error}")
                self._denied = ()
        if self._denied:
            return f"the worker's role may not attach ({', '.join(self._denied)}); deploy to restore it"
        return None

    def _ask_permissions(self, account_arn: str) -> tuple[str, ...]:
        if self.permissions is None:
            self._does_not_know("whether the worker's role may attach: the stack does not name it yet; deploy")
            return ()
        denied = self.permissions.denied("organizations:AttachPolicy", [*self._policy_arns, account_arn])
        return tuple("the account" if arn == account_arn else arn.rpartition("/")[2] for arn in denied)
