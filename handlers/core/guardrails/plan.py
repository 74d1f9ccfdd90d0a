"""What deploying guardrails would do to an organization: pure, from two guardrails, a snapshot and a moment.

For each policy, the accounts that must carry it are divided into those that carry it, those that get it, and those
that have no place for it. An account loses a policy only if it is attached, is not required, is not one of AWS's own,
and all of its rules say remove or an exception in force names it. Whether Joinguard attached it, only its records know,
so losses are the most that can happen. Accounts that are only observed neither get nor lose anything.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias

from handlers.core.guardrails.carried import Attached
from handlers.core.guardrails.evaluate import Decision, Guardrails, Ruling
from handlers.core.guardrails.facts import Fact
from handlers.core.guardrails.organizational_units import Hint, Units
from handlers.core.guardrails.places import AttachedPolicy, NoPlace, places
from handlers.core.guardrails.scope import Scope
from handlers.core.guardrails.snapshot import ACTIVE, facts_of
from schemas.compiled_guardrails import CompiledException, CompiledGuardrails, PolicyType, RuleId
from schemas.ids import AccountId, OrganizationId, PolicyId, Sha256
from schemas.plan import ApprovedPlan
from schemas.snapshot import Snapshot, SnapshotAccount, Unread

Accounts: TypeAlias = tuple[AccountId, ...]

#: How the management account is counted among those that are left out.
MANAGEMENT: Final = "MANAGEMENT"
ENDS_SOON: Final = timedelta(days=30)


@dataclass
class PolicyPlan:
    """What happens with one policy. Accounts are in order."""

    id: PolicyId
    type: PolicyType
    #: False if it is only in the guardrails in force: nothing attaches it any more, and it stays where it is.
    in_guardrails: bool = True
    #: Whether it is known where it is attached; if not, nobody can say who gets it.
    is_read: bool = True
    carry: list[AccountId] = field(default_factory=list)
    get: list[AccountId] = field(default_factory=list)
    #: Of those that get it, those for which the guardrails in force require it too: it is missing today.
    missing_today: list[AccountId] = field(default_factory=list)
    lose: list[AccountId] = field(default_factory=list)
    #: Required by the guardrails in force, not by the new ones, and kept.
    stay: list[AccountId] = field(default_factory=list)
    #: The accounts that would get it, or lose it, if they were not only observed.
    would_get: list[AccountId] = field(default_factory=list)
    would_lose: list[AccountId] = field(default_factory=list)
    no_place: dict[AccountId, NoPlace] = field(default_factory=dict)
    undecided: dict[AccountId, frozenset[Fact]] = field(default_factory=dict)
    #: Of those that must carry it, those that inherit it from an OU or the root too.
    inherit: list[AccountId] = field(default_factory=list)
    #: The OUs where one attachment would do the same.
    hints: tuple[Hint, ...] = ()

    @property
    def required(self) -> int:
        """The number of accounts that must carry it."""
        return len(self.carry) + len(self.get) + len(self.would_get) + len(self.no_place)


class RulePlan(NamedTuple):
    """How many accounts a rule selects."""

    id: RuleId
    selects: int
    #: The accounts of which a fact that decides is not known.
    undecided: int


class ExceptionPlan(NamedTuple):
    """What an exception does."""

    exception: CompiledException
    state: Literal["not begun", "in force", "ends soon", "over"]
    #: How many attachments it takes away now.
    waives: int
    #: Of an exception that is over: how many attachments come back.
    returns: int
    #: The accounts that are not in the organization, or are left out.
    elsewhere: Accounts


@dataclass(frozen=True)
class Plan:
    """What deploying guardrails would do."""

    organization_id: OrganizationId
    before: Sha256 | None
    after: Sha256
    read_at: datetime
    #: The accounts that are evaluated.
    accounts: int
    #: Of those, the ones that neither get nor lose a policy, because the stage does not attach to them.
    only_observed: int
    #: The most important first; then those that are no longer in the guardrails.
    policies: tuple[PolicyPlan, ...]
    rules: tuple[RulePlan, ...]
    exceptions: tuple[ExceptionPlan, ...]
    #: The number of accounts that are left out, by their state.
    left_out: Mapping[str, int]
    #: The policy types of which every attached policy is known, others' too. Of other types, only those that the
    #: guardrails name are known, and one of AWS's own is assumed.
    types_in_full: frozenset[PolicyType]
    #: The policy types that are not enabled in the root.
    disabled_types: tuple[PolicyType, ...]
    unread: tuple[Unread, ...]
    #: How many policies may be removed in a day without approval.
    max_removals: int
    attachments_per_second: float

    @cached_property
    def attachments(self) -> int:
        """The number of policies that would be attached."""
        return sum(len(each.get) for each in self.policies)

    @cached_property
    def removals(self) -> int:
        """The number of policies that would be removed, at most."""
        return sum(len(each.lose) for each in self.policies)

    @property
    def exceeds_limit(self) -> bool:
        """Whether it removes more than may be removed in a day without approval."""
        return self.removals > self.max_removals

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be attached or removed."""
        return not self.attachments and not self.removals

    @property
    def is_decided(self) -> bool:
        """Whether everything that decides could be read."""
        return all((each.is_read or not each.in_guardrails) and not each.undecided for each in self.policies)

    @property
    def duration(self) -> timedelta:
        """How long the attachments take at the organization's pace."""
        return timedelta(seconds=self.attachments / self.attachments_per_second)

    @cached_property
    def changes(self) -> ApprovedPlan:
        """What would be done, as an approval covers it."""
        return ApprovedPlan.of(
            self.organization_id,
            self.after,
            attach={each.id: each.get for each in self.policies},
            remove={each.id: each.lose for each in self.policies},
        )

    @cached_property
    def digest(self) -> Sha256:
        """The SHA-256 over what would be done, by which people approve it."""
        return self.changes.sha256()


def make_plan(  # noqa: PLR0913 - what a plan depends on
    before: CompiledGuardrails | None,
    after: CompiledGuardrails,
    snapshot: Snapshot,
    at: datetime,
    attachments_per_second: float,
    *,
    scope: Scope,
) -> Plan:
    """Plan a change of guardrails, from those in force to new ones."""
    planning = _Planning(before, after, snapshot, at, scope)
    for account in planning.members:
        planning.add(account)
    return Plan(
        organization_id=snapshot.organization_id,
        before=planning.before.sha256 if planning.before else None,
        after=planning.after.sha256,
        read_at=snapshot.begun_at,
        accounts=len(planning.members),
        only_observed=sum(not scope.attaches_to(each.id) for each in planning.members),
        policies=planning.policies(),
        rules=planning.rules(),
        exceptions=tuple(planning.exceptions()),
        left_out=left_out(snapshot),
        types_in_full=planning.attached.types_in_full,
        disabled_types=tuple(sorted({each.type for each in after.policies}.difference(snapshot.enabled_types))),
        unread=snapshot.unread,
        max_removals=after.max_removals,
        attachments_per_second=attachments_per_second,
    )


def members(snapshot: Snapshot) -> tuple[SnapshotAccount, ...]:
    """Return the accounts that policies are attached to: the active ones, without the management account."""
    return tuple(
        each for each in snapshot.accounts if each.state == ACTIVE and each.id != snapshot.management_account_id
    )


def left_out(snapshot: Snapshot) -> dict[str, int]:
    """Return how many accounts no policies are attached to, by their state."""
    states = (MANAGEMENT if each.id == snapshot.management_account_id else each.state for each in snapshot.accounts)
    return {state: number for state, number in sorted(Counter(states).items()) if state != ACTIVE}


class _Planning:
    """One plan while it is made."""

    def __init__(
        self,
        before: CompiledGuardrails | None,
        after: CompiledGuardrails,
        snapshot: Snapshot,
        at: datetime,
        scope: Scope,
    ) -> None:
        self.before = Guardrails(before) if before else None
        self.after = Guardrails(after)
        self.members = members(snapshot)
        self._at = at
        self._scope = scope
        self._of_aws = {each.id for each in snapshot.policies if each.aws_managed}
        self._units = Units(self.members)
        dropped = [each for each in (before.policies if before else ()) if each.id not in self.after.policy_ids]
        self._plans = {each.id: PolicyPlan(each.id, each.type) for each in after.policies}
        self._plans |= {each.id: PolicyPlan(each.id, each.type, in_guardrails=False) for each in dropped}
        self.attached = Attached(snapshot)
        for each in self._plans.values():
            each.is_read = each.id in self.attached.targets
        self._selected: Counter[RuleId] = Counter()
        self._open: Counter[RuleId] = Counter()
        self._waived: Counter[RuleId] = Counter()

    def add(self, account: SnapshotAccount) -> None:
        """Evaluate an account."""
        facts = facts_of(account)
        decision = self.after.evaluate(facts, self._at)
        required_before = set(self.before.evaluate(facts, self._at).required) if self.before else set()
        attached = self.attached.to(account.id)
        carried = {each.id for each in attached}
        self._count(decision)
        self._place(account.id, decision, attached, required_before)
        removable = [each for each in decision.removable(carried) if each not in self._of_aws]
        for each in removable:
            plan = self._plans[each]
            (plan.lose if self._scope.attaches_to(account.id) else plan.would_lose).append(account.id)
        for each in (required_before & carried).difference(decision.required, decision.undecided, removable):
            self._plans[each].stay.append(account.id)
        for policy in decision.policies:
            if policy.ruling is Ruling.UNDECIDED:
                self._plans[policy.policy_id].undecided[account.id] = policy.needs

    def _place(
        self,
        account_id: AccountId,
        decision: Decision,
        attached: Collection[AttachedPolicy],
        required_before: Collection[PolicyId],
    ) -> None:
        required = frozenset(each for each in decision.required if self._plans[each].is_read)
        fit = places(self.after.document.policies, required, attached, self.after.document.policies_per_account)
        for each in fit.attached:
            self._plans[each].carry.append(account_id)
        for each in fit.to_attach:
            plan = self._plans[each]
            if not self._scope.attaches_to(account_id):
                plan.would_get.append(account_id)
                continue
            plan.get.append(account_id)
            if each in required_before:
                plan.missing_today.append(account_id)
        for refused in fit.no_place:
            self._plans[refused.policy_id].no_place[account_id] = refused

    def _count(self, decision: Decision) -> None:
        self._selected.update({rule for policy in decision.policies for rule in policy.demanded_by})
        self._open.update({rule for policy in decision.policies for rule in policy.undecided_by})
        self._waived.update(exception for policy in decision.policies for exception in policy.waived_by)

    def policies(self) -> tuple[PolicyPlan, ...]:
        """Return the plans of all policies, with what their OUs say."""
        for each in self._plans.values():
            required = [*each.carry, *each.get, *each.would_get, *each.no_place]
            targets = frozenset(self.attached.targets.get(each.id, ()))
            each.inherit = [account for account in required if self._units.is_below(account, targets)]
            if each.is_read:
                each.hints = self._units.hints(required, targets, each.type)
        return tuple(self._plans.values())

    def rules(self) -> tuple[RulePlan, ...]:
        """Return how many accounts each rule selects."""
        ids = [each.id for each in self.after.document.rules]
        return tuple(RulePlan(each, self._selected[each], self._open[each]) for each in ids)

    def exceptions(self) -> Iterator[ExceptionPlan]:
        """Yield what each exception does."""
        today = self._at.astimezone(UTC).date()
        known = {each.id for each in self.members}
        for each in self.after.document.exceptions:
            state: Literal["not begun", "in force", "ends soon", "over"] = "in force"
            if each.expires < today:
                state = "over"
            elif each.starts and each.starts > today:
                state = "not begun"
            elif each.expires - today < ENDS_SOON:
                state = "ends soon"
            elsewhere = tuple(account for account in each.accounts if account not in known)
            returns = self._returning(each) if state == "over" else 0
            yield ExceptionPlan(each, state, self._waived[each.id], returns, elsewhere)

    def _returning(self, exception: CompiledException) -> int:
        taken = [each.get for each in self._plans.values() if each.id in exception.policies]
        return sum(len(set(each).intersection(exception.accounts)) for each in taken)
