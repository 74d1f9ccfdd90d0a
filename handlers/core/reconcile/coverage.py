"""Whether every account of an organization carries its policies: pure, from guardrails, a snapshot and a moment.

What could not be read is never shown as missing and never as carried. A policy that an account only inherits from an OU
or the root is missing: it is lost when the account moves, and the guardrails attach to accounts.

Why a policy is missing, the snapshot says if no attachment can succeed, and else the outcomes of the account. Whoever
can write to the table of outcomes can make up a cause, but neither hide a gap nor make one.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Final, TypeAlias

from handlers.core.guardrails.carried import Attached
from handlers.core.guardrails.evaluate import Guardrails, PolicyDecision, Ruling
from handlers.core.guardrails.facts import Fact
from handlers.core.guardrails.organizational_units import Units
from handlers.core.guardrails.pauses import KnownPauses, Paused
from handlers.core.guardrails.places import places
from handlers.core.guardrails.plan import left_out, members
from handlers.core.guardrails.scope import Scope
from handlers.core.guardrails.snapshot import facts_of
from handlers.core.ports import UnreadableRow
from schemas.compiled_guardrails import CompiledException, CompiledPolicy, PolicyType
from schemas.events import DEPARTURES, REMOVAL
from schemas.ids import AccountId, OrganizationId, PolicyId, Sha256
from schemas.outcome import FAILING, AttachmentResult, Claim, Outcome, OutcomeStatus
from schemas.snapshot import Snapshot, SnapshotAccount, Unread

#: The outcomes of an account.
Rows: TypeAlias = Sequence[Outcome | UnreadableRow]

#: How accounts that joined before the first day are counted among those that are left out.
JOINED_EARLIER: Final = "JOINED_EARLIER"
_ATTACHED: Final = frozenset({AttachmentResult.ATTACHED, AttachmentResult.ALREADY_ATTACHED})
_NOT_ATTACHED: Final = frozenset({AttachmentResult.FAILED, AttachmentResult.UNKNOWN})


class Status(StrEnum):
    """Whether an account carries a policy."""

    #: The policy is attached to the account itself.
    CARRIED = "CARRIED"
    #: The account must carry it, and it is not attached.
    MISSING = "MISSING"
    #: Facts that could not be read decide whether the account must carry it.
    UNDECIDED = "UNDECIDED"
    #: The account must carry it, or may have to, and nobody could read which accounts carry it.
    UNREAD = "UNREAD"
    #: An exception in force takes it away.
    EXCEPTED = "EXCEPTED"


class GapCause(StrEnum):
    """Why a policy is missing."""

    #: The organization has no such policy.
    NO_POLICY = "NO_POLICY"
    #: The policy type is not enabled in the root.
    TYPE_DISABLED = "TYPE_DISABLED"
    #: The account carries as many policies of the type as it can.
    NO_PLACE = "NO_PLACE"
    #: No event of the account has an outcome.
    NEVER_SEEN = "NEVER_SEEN"
    #: An attempt to attach it is running, or failed and is made again.
    RETRYING = "RETRYING"
    #: The last attempt to attach it failed for good.
    FAILED = "FAILED"
    #: Joinguard attached it, and somebody detached it.
    DRIFTED = "DRIFTED"
    #: There are outcomes, and none explains it; for example, the guardrails have changed since.
    NOT_YET = "NOT_YET"
    #: The outcomes were not read, or not all of them are readable.
    UNKNOWN = "UNKNOWN"


#: The statuses with which an account can inherit the policy, too. An exception does not take that away.
INHERITS: Final = frozenset({Status.CARRIED, Status.MISSING, Status.EXCEPTED})
#: The causes that another request does not help against.
LASTING: Final = frozenset({GapCause.NO_POLICY, GapCause.TYPE_DISABLED, GapCause.NO_PLACE})


@dataclass(frozen=True)
class AccountPolicy:
    """Whether one account carries one policy."""

    account_id: AccountId
    policy_id: PolicyId
    status: Status
    #: Whether the account inherits it from an OU or the root, too; None if that could not be read.
    inherits: bool | None = False
    #: Why it is missing.
    cause: GapCause | None = None
    #: The code of the failure, if the cause is one.
    code: str | None = None
    #: The code of the whole attempt, which its message carries in the dead letters.
    message_code: str | None = None
    #: The exceptions that take it away.
    exceptions: tuple[CompiledException, ...] = ()
    #: The facts that decide, and could not be read.
    needs: frozenset[Fact] = frozenset()


@dataclass(frozen=True)
class PolicyCoverage:
    """How many of the evaluated accounts carry a policy."""

    id: PolicyId
    type: PolicyType
    carried: int
    missing: Mapping[GapCause, int]
    undecided: int
    #: Of those that must carry it, or may have to, those of which it could not be read.
    unread: int
    excepted: int
    #: Of those that carry it or lack it, those that inherit it, too.
    inherited: int

    @property
    def lacking(self) -> int:
        """The number of accounts that lack it."""
        return sum(self.missing.values())

    @property
    def required(self) -> int:
        """The number of accounts of which it is known that they must carry it, and whether they do."""
        return self.carried + self.lacking


@dataclass(frozen=True)
class Coverage:
    """Whether the accounts of an organization carry their policies."""

    organization_id: OrganizationId
    guardrails: Sha256
    policies: tuple[CompiledPolicy, ...]
    read_at: datetime
    #: The number of accounts of the organization; each is evaluated, only observed, or left out.
    accounts: int
    evaluated: tuple[AccountId, ...]
    #: The accounts that the stage does not attach policies to.
    observed: tuple[AccountId, ...]
    #: Of those, the ones that lack a policy.
    observed_lacking: int
    #: The number of accounts that are left out, by their state.
    left_out: Mapping[str, int]
    #: Of the evaluated accounts, each with each policy that it must carry, may have to carry, or is excepted from; the
    #: accounts in order, and the most important policy first.
    lines: tuple[AccountPolicy, ...]
    #: When accounts joined, as far as that is known.
    joined_at: Mapping[AccountId, datetime] = field(repr=False)
    #: What evaluated accounts carry and may lose, as far as the guardrails are concerned.
    removable: Mapping[AccountId, tuple[PolicyId, ...]] = field(repr=False)
    #: The policy types of which every attached policy is known, others' too.
    types_in_full: frozenset[PolicyType]
    unread: tuple[Unread, ...]
    #: Why accounts that lack a policy are paused; the others are not.
    paused: Mapping[AccountId, Paused] = field(default_factory=dict, repr=False)

    @cached_property
    def gaps(self) -> dict[AccountId, tuple[AccountPolicy, ...]]:
        """The missing policies of each account that lacks one."""
        return self._by_account(Status.MISSING)

    @cached_property
    def unclear(self) -> dict[AccountId, tuple[AccountPolicy, ...]]:
        """The policies of which it is not known whether the account must carry them, or does, by account."""
        return self._by_account(Status.UNDECIDED, Status.UNREAD)

    @cached_property
    def covered(self) -> int:
        """The number of evaluated accounts that carry everything that they must carry, and nothing is unclear."""
        return len(set(self.evaluated).difference(self.gaps, self.unclear))

    @property
    def missing(self) -> int:
        """The number of attachments that are missing."""
        return sum(map(len, self.gaps.values()))

    @property
    def missing_paused(self) -> int:
        """The number of attachments that are missing on accounts that are paused."""
        return sum(len(found) for account_id, found in self.gaps.items() if account_id in self.paused)

    @property
    def is_complete(self) -> bool:
        """Whether every evaluated account carries everything that it must carry."""
        return not self.gaps and not self.unclear

    @cached_property
    def by_policy(self) -> tuple[PolicyCoverage, ...]:
        """The numbers of each policy, the most important first."""
        lines: dict[PolicyId, list[AccountPolicy]] = {each.id: [] for each in self.policies}
        for each in self.lines:
            lines[each.policy_id].append(each)
        return tuple(_of_policy(each, lines[each.id]) for each in self.policies)

    def explained(self, outcomes: Mapping[AccountId, Rows]) -> "Coverage":
        """Return the coverage with the causes that the outcomes of the accounts with gaps tell.

        Of an account that is not among them, the causes stay unknown.
        """
        lines = tuple(
            explained(each, outcomes[each.account_id], joined_at=self.joined_at.get(each.account_id))
            if each.account_id in outcomes
            else each
            for each in self.lines
        )
        return replace(self, lines=lines)

    def with_pauses(self, known: KnownPauses, snapshot: Snapshot, at: datetime) -> "Coverage":
        """Return the coverage with the pauses that are in force at a moment. A paused gap is still a gap."""
        ous = {each.id: each.ous for each in snapshot.accounts}
        found = {each: why for each in self.gaps if (why := known.of(each, ous.get(each), at))}
        return replace(self, paused=found)

    def waits(self, account_id: AccountId, rows: Rows) -> bool:
        """Return whether an event of an account is being retried, so that a request would come second."""
        current = of_membership(rows, self.joined_at.get(account_id))
        return any(each.status is OutcomeStatus.RETRYING and each.source != REMOVAL for each in current)

    def _by_account(self, *statuses: Status) -> dict[AccountId, tuple[AccountPolicy, ...]]:
        found: dict[AccountId, list[AccountPolicy]] = {}
        for each in self.lines:
            if each.status in statuses:
                found.setdefault(each.account_id, []).append(each)
        return {account_id: tuple(lines) for account_id, lines in found.items()}


def cover(  # noqa: PLR0913 - what a coverage depends on
    guardrails: Guardrails,
    snapshot: Snapshot,
    at: datetime,
    scope: Scope,
    *,
    policies_per_account: Mapping[PolicyType, int],
    since: datetime | None = None,
    removes: bool = False,
) -> Coverage:
    """Compare what the accounts of an organization must carry with what they carry.

    `since` leaves out the accounts that are known to have joined earlier. `removes`: whether policies are removed, so
    that their places become free.
    """
    covering = Covering(guardrails, snapshot, at, policies_per_account, removes=removes)
    joined_at = {each.id: each.joined_at for each in snapshot.accounts if each.joined_at}
    active = members(snapshot)
    chosen = [each for each in active if since is None or joined_at.get(each.id, since) >= since]
    evaluated = [each for each in chosen if scope.attaches_to(each.id)]
    observed = [each for each in chosen if not scope.attaches_to(each.id)]
    earlier = {JOINED_EARLIER: len(active) - len(chosen)} if len(active) > len(chosen) else {}
    return Coverage(
        organization_id=snapshot.organization_id,
        guardrails=guardrails.sha256,
        policies=guardrails.document.policies,
        read_at=snapshot.begun_at,
        accounts=len(snapshot.accounts),
        evaluated=tuple(each.id for each in evaluated),
        observed=tuple(each.id for each in observed),
        observed_lacking=sum(any(line.status is Status.MISSING for line in covering.lines(each)) for each in observed),
        left_out=left_out(snapshot) | earlier,
        lines=tuple(line for each in evaluated for line in covering.lines(each)),
        joined_at=joined_at,
        removable={each.id: found for each in evaluated if (found := covering.removable(each))},
        types_in_full=covering.attached.types_in_full,
        unread=snapshot.unread,
    )


class Covering:
    """Compares accounts with what they must carry, one at a time."""

    def __init__(
        self,
        guardrails: Guardrails,
        snapshot: Snapshot,
        at: datetime,
        policies_per_account: Mapping[PolicyType, int],
        *,
        removes: bool,
    ) -> None:
        """Take what accounts are compared with; `removes`: whether policies are removed, which makes places free."""
        self._removes = removes
        self.attached = Attached(snapshot)
        self._guardrails = guardrails
        self._at = at
        self._per_account = policies_per_account
        self._root = snapshot.root
        self._units = Units(snapshot.accounts)
        listed = {each.id for each in snapshot.policies}
        types = {each.id: each.type for each in guardrails.document.policies}
        #: Absent and unreadable are different: a policy that its complete list does not have is attached to nothing.
        self._absent = {each for each in types if each not in listed and types[each] in snapshot.read_types}
        self._exist = types.keys() & self.attached.targets.keys()
        self._read = self._absent | self._exist
        self._disabled = {each for each, kind in types.items() if kind not in snapshot.enabled_types}
        self._targets = {each: frozenset(self.attached.targets.get(each, ())) for each in types}
        #: Whether it is attached to an OU, so that accounts without known OUs may inherit it.
        self._above = {each for each, targets in self._targets.items() if not all(map(str.isdigit, targets))}
        self._exceptions = {each.id: each for each in guardrails.document.exceptions}

    def lines(self, account: SnapshotAccount) -> Iterator[AccountPolicy]:
        """Yield whether an account carries each policy that concerns it."""
        decision = self._guardrails.evaluate(facts_of(account), self._at)
        attached = self.attached.to(account.id)
        carried = {each.id for each in attached}
        required = frozenset(each for each in decision.required if each in self._exist)
        fit = places(self._guardrails.document.policies, required, attached, self._per_account)
        leaving = set(decision.removable(carried)) if self._removes else set()
        no_place = {each.policy_id for each in fit.no_place if leaving.isdisjoint(each.held_by)}
        for each in decision.policies:
            if (status := self._status(each, carried)) is None:
                continue
            line = AccountPolicy(account.id, each.policy_id, status)
            if status in INHERITS:
                line = replace(line, inherits=self._inherits(account, each.policy_id))
            if status is Status.MISSING:
                line = replace(line, cause=self._cause(each.policy_id, no_place))
            elif status is Status.UNDECIDED:
                line = replace(line, needs=each.needs)
            elif status is Status.EXCEPTED:
                line = replace(line, exceptions=tuple(self._exceptions[name] for name in each.waived_by))
            yield line

    def removable(self, account: SnapshotAccount) -> tuple[PolicyId, ...]:
        """Return what an account carries and may lose, if policies are removed."""
        if not self._removes:
            return ()
        decision = self._guardrails.evaluate(facts_of(account), self._at)
        return decision.removable({each.id for each in self.attached.to(account.id)})

    def _status(self, decided: PolicyDecision, carried: Collection[PolicyId]) -> Status | None:
        """Return the status of a policy; None if it does not concern the account."""
        if decided.ruling is Ruling.NOT_REQUIRED:
            return Status.EXCEPTED if decided.waived_by else None
        if decided.policy_id not in self._read:
            return Status.UNREAD
        if decided.ruling is Ruling.UNDECIDED:
            return Status.UNDECIDED
        return Status.CARRIED if decided.policy_id in carried else Status.MISSING

    def _cause(self, policy_id: PolicyId, no_place: Collection[PolicyId]) -> GapCause:
        """Return why a policy is missing as far as the snapshot says."""
        if policy_id in self._absent:
            return GapCause.NO_POLICY
        if policy_id in self._disabled:
            return GapCause.TYPE_DISABLED
        return GapCause.NO_PLACE if policy_id in no_place else GapCause.UNKNOWN

    def _inherits(self, account: SnapshotAccount, policy_id: PolicyId) -> bool | None:
        targets = self._targets[policy_id]
        if self._root in targets or self._units.is_below(account.id, targets):
            return True
        return None if account.ous is None and policy_id in self._above else False


def explained(line: AccountPolicy, rows: Rows, *, joined_at: datetime | None) -> AccountPolicy:
    """Return a missing policy with the cause that the outcomes of the account tell.

    `joined_at` is when the account joined, if that is known.
    """
    if line.cause is not GapCause.UNKNOWN:
        return line
    current = list(of_membership(rows, joined_at))
    done = max((each.updated_at for each in current if was_attached(each, line.policy_id)), default=None)
    later = [each for each in current if done is None or each.updated_at > done]
    failing = [each for each in later if each.status in FAILING and _concerns(each, line.policy_id)]
    last = max(failing, key=lambda each: each.updated_at, default=None)
    claim = last_claim(current, line.policy_id, joined_at)
    ours = claim is not None and claim.result is AttachmentResult.ATTACHED
    if claim and ours and (last is None or claim.at >= last.updated_at):
        return replace(line, cause=GapCause.DRIFTED)
    if last:
        whole = last.fault.code if last.fault else None
        code = _code(last, line.policy_id)
        return replace(line, cause=GapCause(last.status.value), code=code, message_code=whole)
    if any(isinstance(each, UnreadableRow) for each in rows):
        return line
    return replace(line, cause=GapCause.NOT_YET if current else GapCause.NEVER_SEEN)


def _concerns(row: Outcome, policy_id: PolicyId) -> bool:
    """Return whether a failing outcome says why a policy is not attached."""
    if row.source == REMOVAL:
        return False
    results = {each.policy_id: each.result for each in row.policies}
    if policy_id in results:
        return results[policy_id] in _NOT_ATTACHED
    # It failed before any policy was tried. A policy that others' results leave out was not required then.
    return not results


def of_membership(rows: Rows, joined_at: datetime | None) -> Iterator[Outcome]:
    """Yield the readable outcomes of evaluations that are not of an earlier membership.

    An account that leaves loses its policies. A departure can be recorded after the account has come back.
    """
    for each in rows:
        if not isinstance(each, Outcome) or each.departed or each.event_name in DEPARTURES:
            continue
        if joined_at is None or each.updated_at >= joined_at:
            yield each


def was_attached(row: Outcome, policy_id: PolicyId) -> bool:
    """Return whether the policy was attached when an attempt ended."""
    return any(each.policy_id == policy_id and each.result in _ATTACHED for each in row.policies)


def last_claim(rows: Iterable[Outcome], policy_id: PolicyId, joined_at: datetime | None) -> Claim | None:
    """Return what Joinguard did last with a policy; of two claims at the same moment, the removal."""
    claims = [row.claims[policy_id] for row in rows if policy_id in row.claims]
    current = [each for each in claims if joined_at is None or each.at >= joined_at]
    return max(current, key=lambda each: (each.at, each.result is AttachmentResult.REMOVED), default=None)


def _code(row: Outcome, policy_id: PolicyId) -> str | None:
    own = next((each.fault for each in row.policies if each.policy_id == policy_id), None)
    fault = own or row.fault
    return fault.code if fault else None


def _of_policy(policy: CompiledPolicy, lines: Sequence[AccountPolicy]) -> PolicyCoverage:
    statuses = Counter(each.status for each in lines)
    causes = Counter(each.cause or GapCause.UNKNOWN for each in lines if each.status is Status.MISSING)
    return PolicyCoverage(
        policy.id,
        policy.type,
        carried=statuses[Status.CARRIED],
        missing={cause: causes[cause] for cause in GapCause if causes[cause]},
        undecided=statuses[Status.UNDECIDED],
        unread=statuses[Status.UNREAD],
        excepted=statuses[Status.EXCEPTED],
        inherited=sum(bool(each.inherits) and each.status is not Status.EXCEPTED for each in lines),
    )
