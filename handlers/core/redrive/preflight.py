"""Pre-flight: whether the cause of a dead letter is corrected. A message that would fail again is not redriven."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property
from typing import Final

from handlers.core.errors import Cause, JoinguardError
from handlers.core.guardrails.evaluate import Requirements
from handlers.core.guardrails.facts import Facts
from handlers.core.guardrails.places import places
from handlers.core.guardrails.reading import decide
from handlers.core.ports import Clock
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation, Problems, Reason
from handlers.core.redrive.ports import OrganizationsReader, Permissions
from schemas.compiled_guardrails import SCP, PolicyType
from schemas.events import Join, PolicyChange
from schemas.ids import AccountId, PolicyId
from schemas.plan import ApprovedPlan

#: The number of accounts that are read one by one, those of the oldest messages first: Organizations allows five such
#: reads a second, which the worker needs too. Beyond it, only accounts whose own state was the cause are read.
MAX_ACCOUNTS: Final = 100
_ACCOUNT_CAUSES: Final = frozenset({Cause.TOO_MANY_POLICIES, Cause.ACCOUNT_NOT_FOUND})
_MEMBER: Final = frozenset({"ACTIVE", "PENDING_ACTIVATION"})
THE_ACCOUNT: Final = "the account"
#: The reasons that mean that the cause of a message is still there.
_OF_CAUSE: Final[Mapping[Cause, frozenset[Reason]]] = {
    Cause.POLICY_NOT_FOUND: frozenset({Reason.POLICY_NOT_FOUND}),
    Cause.POLICY_TYPE_DISABLED: frozenset({Reason.POLICY_TYPE_DISABLED}),
    Cause.TOO_MANY_POLICIES: frozenset({Reason.TOO_MANY_POLICIES}),
    Cause.ACCESS_DENIED: frozenset({Reason.ACCESS_DENIED}),
    Cause.ACCOUNT_NOT_FOUND: frozenset({Reason.ACCOUNT_NOT_FOUND, Reason.ACCOUNT_NOT_ACTIVE}),
    Cause.REMOVALS_OFF: frozenset({Reason.REMOVALS_OFF}),
    Cause.REMOVAL_LIMIT: frozenset({Reason.LIMIT_REACHED, Reason.APPROVAL_MISSING}),
}
#: Why a message fails again whose event is not about the policies of an account; not if it is about a departure.
_OF_OTHERS: Final[Mapping[type, Problems]] = {
    type(None): (Explanation(Reason.INVALID_EVENT),),
    PolicyChange: (Explanation(Reason.GUARDRAILS_CHANGED),),
}


@dataclass
class Preflight:
    """Find out why a message would fail again."""

    organizations: OrganizationsReader
    #: None if the stack does not name the worker's role.
    permissions: Permissions | None
    requirements: Requirements
    #: The maximum number of policies of an account.
    max_policies: int
    clock: Clock
    #: Returns the plan that is approved today.
    approved_plan: Callable[[], ApprovedPlan | None] = lambda: None
    #: What could not be found out.
    unknown: list[Explanation] = field(default_factory=list, init=False)
    _accounts: dict[AccountId, Problems] = field(default_factory=dict, init=False)
    #: The required policies that accounts lack.
    _missing: dict[AccountId, tuple[PolicyId, ...]] = field(default_factory=dict, init=False)
    _policy_arns: list[str] = field(default_factory=list, init=False)
    _denied: tuple[str, ...] | None = field(default=None, init=False)

    def would_fail(self, dead_letter: DeadLetter) -> Problems:
        """Return every reason why a message would fail again, its own cause first; none if no reason is found."""
        event = dead_letter.event
        if not isinstance(event, Join):
            return _OF_OTHERS.get(type(event), ())
        if event.organization_id not in {None, self.requirements.organization_id}:
            return (Explanation(Reason.WRONG_ORGANIZATION),)
        if dead_letter.left_at:
            # Also if it is back: then another event is about the policies that it must carry now.
            return (Explanation(Reason.ACCOUNT_LEFT, (f"{dead_letter.left_at:%Y-%m-%d}",)),)
        if event.cause == "removal":
            return self._of_removal(dead_letter)
        read_account = self.reads_more or dead_letter.cause in _ACCOUNT_CAUSES
        problems = self.of_account(dead_letter.account_id, read_account=read_account)
        return tuple(sorted(problems, key=lambda each: not _is_own(each, dead_letter)))

    def of_account(
        self, account_id: AccountId, *, read_account: bool = True, lacking: Collection[PolicyId] | None = None
    ) -> Problems:
        """Return every reason why nothing can be attached to an account; none if no reason is found.

        `read_account`: whether to read the account itself, unless it was read before. `lacking`: the policies that it
        lacks, if that is known.
        """
        if account_id == self.requirements.management_account_id:
            return (Explanation(Reason.MANAGEMENT_ACCOUNT),)
        of_organization = self.of_organization if self.requirements.scope.attaches_to(account_id) else ()
        if read_account and account_id not in self._accounts:
            self._accounts[account_id] = self._collected(self._check_account(account_id))
        # What the account carries or need not carry cannot fail.
        unread = self.requirements.guardrails.policy_ids if lacking is None else lacking
        missing = self._missing.get(account_id, unread)
        if not missing:
            return ()
        types = {each.type for each in self.requirements.guardrails.document.policies if each.id in missing}
        relevant = tuple(each for each in of_organization if each.values[0] in {*missing, *types})
        return relevant + self._accounts.get(account_id, ())

    def _of_removal(self, dead_letter: DeadLetter) -> Problems:
        """Return every reason why the removal of policies would fail again. If the account has left, it ends well."""
        if not self.requirements.removes:
            return (Explanation(Reason.REMOVALS_OFF),)
        return self._collected(self._check_removal(dead_letter))

    def _check_removal(self, dead_letter: DeadLetter) -> Iterator[Explanation]:
        # Guardrails that could not be read look empty, and raise the reason when they are asked.
        self.requirements.guardrails.evaluate(Facts(dead_letter.account_id), self.clock.now())
        if dead_letter.cause is not Cause.REMOVAL_LIMIT or self._is_approved(dead_letter.account_id):
            return
        # How many removals of today were counted cannot be read.
        if not self.requirements.guardrails.document.max_removals:
            yield Explanation(Reason.APPROVAL_MISSING)
        elif dead_letter.sent_at.astimezone(UTC).date() == self.clock.now().astimezone(UTC).date():
            yield Explanation(Reason.LIMIT_REACHED)

    def _is_approved(self, account_id: AccountId) -> bool:
        """Return whether the approved plan removes a policy from an account, or cannot be read."""
        plan, guardrails = self._plan, self.requirements.guardrails
        if isinstance(plan, JoinguardError):
            self._add_unknown(Explanation(Reason.APPROVAL_UNAVAILABLE, (str(plan),)))
            return True
        return plan is not None and any(
            plan.names(each, account_id, guardrails.sha256) for each in guardrails.policy_ids
        )

    @cached_property
    def _plan(self) -> ApprovedPlan | JoinguardError | None:
        """The approved plan, or why it cannot be read: read once for all messages."""
        try:
            return self.approved_plan()
        except JoinguardError as error:
            return error

    @property
    def reads_more(self) -> bool:
        """Whether fewer accounts were read than are read one by one."""
        return len(self._accounts) < MAX_ACCOUNTS

    @property
    def limits(self) -> Mapping[PolicyType, int]:
        """How many policies of each type an account can carry."""
        return {SCP: self.max_policies} | self.requirements.guardrails.document.policies_per_account

    @cached_property
    def of_organization(self) -> Problems:
        """Every reason why a policy cannot be attached to any account: policy types and policies that are not there."""
        return self._collected(self._check_organization())

    def _collected(self, found: Iterable[Explanation]) -> Problems:
        """Return what a check finds; if Organizations does not answer, note that and return what was found before.

        A message without a reason is redriven: a redrive sends its first messages alone, so that a remaining cause
        affects few.
        """
        problems: list[Explanation] = []
        try:
            problems.extend(found)
        except JoinguardError as error:
            self._add_unknown(Explanation(Reason.ORGANIZATIONS_UNAVAILABLE, (str(error),)))
        return tuple(problems)

    def _add_unknown(self, unknown: Explanation) -> None:
        if unknown not in self.unknown:
            self.unknown.append(unknown)

    def _check_organization(self) -> Iterator[Explanation]:
        enabled = self.organizations.enabled_types()
        for policy_type in self.requirements.guardrails.policy_types:
            if policy_type not in enabled:
                yield Explanation(Reason.POLICY_TYPE_DISABLED, (policy_type,))
        for policy_id in self.requirements.guardrails.policy_ids:
            arn = self.organizations.policy_arn(policy_id)
            if arn is None:
                yield Explanation(Reason.POLICY_NOT_FOUND, (policy_id,))
            else:
                self._policy_arns.append(arn)

    def _check_account(self, account_id: AccountId) -> Iterator[Explanation]:
        account = self.organizations.account(account_id)
        if account is None:
            yield Explanation(Reason.ACCOUNT_NOT_FOUND)
            return
        # Where nothing is attached, only the read can fail.
        if not self.requirements.scope.attaches_to(account_id):
            return
        if account.state not in _MEMBER:
            yield Explanation(Reason.ACCOUNT_NOT_ACTIVE, (account.state,))
        guardrails = self.requirements.guardrails
        attached = self.organizations.attached_policies(account_id, guardrails.policy_types)
        informed = decide(guardrails, account_id, self.clock.now(), self.organizations, lambda read: read())
        if informed.decision.undecided:
            self._add_unknown(Explanation(Reason.ORGANIZATIONS_UNAVAILABLE, (str(informed.error),)))
        carried = {each.id for each in attached}
        missing = self._missing[account_id] = informed.decision.missing(carried)
        if not missing:
            return
        fit = places(guardrails.document.policies, informed.decision.required, attached, self.limits)
        # The worker that removes policies makes places.
        leaving = set(informed.decision.removable(carried)) if self.requirements.removes else set()
        if lasting := [each for each in fit.no_place if leaving.isdisjoint(each.held_by)]:
            used = sum(each.type == lasting[0].type for each in attached)
            yield Explanation(Reason.TOO_MANY_POLICIES, (used, len(missing)))
        if denied := self._denied_of(account.arn, missing):
            yield Explanation(Reason.ACCESS_DENIED, denied)

    def _denied_of(self, account_arn: str, missing: Iterable[PolicyId]) -> tuple[str, ...]:
        """Return what the worker's role may not attach; asked once, because its permissions are equal for all."""
        if self._denied is None:
            try:
                self._denied = self._ask_permissions(account_arn)
            except JoinguardError as error:
                self._add_unknown(Explanation(Reason.PERMISSIONS_UNAVAILABLE, (str(error),)))
                self._denied = ()
        return tuple(each for each in self._denied if each in {THE_ACCOUNT, *missing})

    def _ask_permissions(self, account_arn: str) -> tuple[str, ...]:
        if self.permissions is None:
            self._add_unknown(Explanation(Reason.ROLE_UNKNOWN))
            return ()
        denied = self.permissions.denied("organizations:AttachPolicy", [*self._policy_arns, account_arn])
        return tuple(THE_ACCOUNT if arn == account_arn else arn.rpartition("/")[2] for arn in denied)


def _is_own(problem: Explanation, dead_letter: DeadLetter) -> bool:
    """Return whether a reason is the one for which the message failed before."""
    if problem.reason is Reason.POLICY_NOT_FOUND and dead_letter.policies:
        return dead_letter.cause is Cause.POLICY_NOT_FOUND and problem.values[0] in dead_letter.policies
    return problem.reason in _OF_CAUSE.get(dead_letter.cause, ())
