"""What a sweep decides about a whole snapshot: which accounts lack what, and for which of them a request helps."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from pydantic import TypeAdapter

from handlers.core.evidence.references import request_id
from handlers.core.guardrails.evaluate import Requirements
from handlers.core.guardrails.limits import at_once
from handlers.core.guardrails.plan import left_out, members
from handlers.core.guardrails.ports import Pauses
from handlers.core.ports import Pseudonyms
from handlers.core.reconcile.coverage import (
    LASTING,
    AccountPolicy,
    Covering,
    GapCause,
    Status,
    explained,
    last_claim,
    of_membership,
    was_attached,
)
from handlers.core.reconcile.journal import packed, unpacked
from handlers.core.reconcile.ports import OutcomesOfAccounts, Repairs
from handlers.core.timing import KEPT, RECEIVED_AGAIN
from schemas.events import JOINS, REMOVAL
from schemas.ids import AccountId, EventId, PolicyId
from schemas.outcome import FAILING, AttachmentResult, Outcome, OutcomeStatus
from schemas.snapshot import Snapshot, SnapshotAccount, Unread
from schemas.sweep import (
    MAX_NAMED,
    FaultOfOrganization,
    NamedGap,
    NotRequested,
    SweepEvidence,
    SweepInProgress,
    SweepMode,
    SweepReport,
)

#: How long after a join its event may still be on its way: CloudTrail delivers within about 5 minutes on average
#: (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html).
ON_ITS_WAY: Final = timedelta(minutes=15)
#: The retention of the other queues.
RETAINED: Final = timedelta(days=4)
_AWS: Final = "aws.organizations"
#: The codes of policies that the worker leaves off: until a person decides, and because somebody fights.
_HALTED: Final = "RESTORES_HALTED"
_STOPPED: Final = "RESTORES_STOPPED"


class Sources(Protocol):
    """What a decision asks besides the snapshot."""

    @property
    def outcomes(self) -> OutcomesOfAccounts:
        """The outcomes table."""

    @property
    def repairs(self) -> Repairs:
        """The queue of the requests."""

    @property
    def pauses(self) -> Pauses:
        """The pauses."""

    @property
    def pseudonyms(self) -> Pseudonyms:
        """The pseudonyms of accounts."""


#: When a sweep sent requests, in seconds of the epoch, and for which accounts.
Sent: TypeAlias = tuple[float, list[AccountId]]


@dataclass(frozen=True)
class Decided:
    """What a sweep decided about a whole snapshot."""

    #: The evidence of the sweep, as JSON.
    evidence: str
    #: The accounts that left, and of which the worker is told.
    departures: Sequence[AccountId]
    #: The accounts for which an evaluation is requested, in order.
    requests: Sequence[AccountId]
    #: The accounts that the next sweep knows.
    members: Sequence[AccountId]
    #: Those of them whose events may still be on their way, so that the next sweep looks for them.
    young: Sequence[AccountId]
    #: The requests that may wait in the queue, by the sweep that sent them.
    requested: Mapping[str, Sent]

    @staticmethod
    def of(pieces: Iterable[bytes]) -> "Decided | None":
        """Return a decision that was kept in pieces; None if they are unreadable."""
        try:
            return _DECIDED.validate_json(unpacked(pieces))
        except ValueError:
            return None

    def pieces(self) -> list[bytes]:
        """Return the pieces that the state's store keeps."""
        return packed(_DECIDED.dump_json(self))


_DECIDED: Final = TypeAdapter(Decided)


@dataclass
class _Compared:
    """The members by what they carry, as far as the snapshot says."""

    with_gaps: list[AccountId] = field(default_factory=list)
    #: Those that carry something that may be removed.
    with_removable: list[AccountId] = field(default_factory=list)
    unclear: int = 0
    covered: int = 0
    observed: int = 0


class Deciding:
    """The decision about one snapshot."""

    def __init__(  # noqa: PLR0913 - what a decision depends on
        self,
        requirements: Requirements,
        sources: Sources,
        current: SweepInProgress,
        snapshot: Snapshot,
        *,
        last: SweepReport | None,
        remembered: Decided | None,
        now: datetime,
    ) -> None:
        """Take what is known, also of the last sweep, if there was one: its report, and what it decided."""
        self._last = last
        self._requirements = requirements
        self._sources = sources
        self._current = current
        self._snapshot = snapshot
        self._now = now
        self._is_first = remembered is None
        self._known = frozenset(remembered.members if remembered else ())
        self._young = frozenset(remembered.young if remembered else ())
        self._requested_before = frozenset(remembered.requests if remembered else ())
        #: The sweep that sent the last request for an account, if that may still wait.
        self._waiting = self._may_wait(remembered.requested if remembered else {})
        self._members = {each.id: each for each in members(snapshot)}
        self._covering = Covering(
            self._requirements.guardrails,
            snapshot,
            now,
            self._requirements.guardrails.document.policies_per_account,
            removes=self._requirements.removes,
        )
        self._pauses = sources.pauses.read()
        self._left: Counter[NotRequested] = Counter()
        self._causes: Counter[str] = Counter()
        self._named: list[tuple[AccountId, AccountPolicy]] = []
        self._drifted: set[AccountId] = set()
        self._excess: set[AccountId] = set()
        self._with_gaps: set[AccountId] = set()
        #: The members that lacked something when the sweep read it, and got it meanwhile.
        self._attached_meanwhile = 0
        self._missed = 0
        self._still_waiting: dict[str, Sent] = {}

    def decide(self) -> tuple[Decided, SweepReport]:
        """Compare every member with its guardrails, and decide for which of them an evaluation is requested."""
        compared = self._compared()
        present = {each.id for each in self._snapshot.accounts}
        appeared = [each for each in self._members if each not in self._known]
        departed = sorted(self._known - present)
        young = [each for each in self._members if self._joined_just_now(each)]
        unchecked = () if self._is_first else self._young.union(appeared).intersection(self._members).difference(young)
        chosen = self._chosen(compared, frozenset(unchecked))
        halted = self._halted()
        if halted:
            self._left[NotRequested.HALTED] += len(chosen)
        elif self._current.mode is SweepMode.REPORT:
            self._left[NotRequested.REPORT_ONLY] += len(chosen)
        acts = self._current.mode is SweepMode.ENFORCE
        requests = chosen if acts and not halted else []
        # Telling of many at once does no harm: the worker asks Organizations before it closes anything.
        told = departed if acts else []
        report = SweepReport(
            sweep_id=self._current.sweep_id,
            organization_id=self._snapshot.organization_id,
            guardrails=self._current.guardrails,
            mode=self._current.mode,
            begun_at=self._current.begun_at,
            decided_at=self._now,
            members=len(self._members),
            observed=compared.observed,
            left_out=left_out(self._snapshot),
            covered=compared.covered + self._attached_meanwhile,
            with_gaps=len(self._with_gaps),
            unclear=compared.unclear,
            gaps={cause.value: self._causes[cause.value] for cause in GapCause},
            drifted=len(self._drifted),
            with_excess=len(self._excess),
            requested=len(requests),
            requested_again=len(self._requested_before.intersection(requests, self._with_gaps)),
            not_requested={why: self._left[why] for why in NotRequested if self._left[why]},
            faults=tuple(self._faults()),
            halted=halted,
            is_first=self._is_first,
            missed_events=self._missed,
            departed=len(departed),
        )
        of = self._sources.pseudonyms.of
        evidence = SweepEvidence(
            report=report,
            appeared=tuple(map(of, appeared)),
            departed=tuple(map(of, departed)),
            gaps=tuple(
                NamedGap(account=of(account_id), policy_id=line.policy_id, cause=line.cause or GapCause.UNKNOWN)
                for account_id, line in self._named
            ),
        )
        sent = {self._current.sweep_id: (self._now.timestamp(), requests)} if requests else {}
        requested = self._still_waiting | sent
        return Decided(
            evidence.model_dump_json(exclude_none=True), told, requests, sorted(present), young, requested
        ), report

    def _may_wait(self, requested: Mapping[str, Sent]) -> dict[AccountId, tuple[str, float]]:
        """Return the sweep that sent the last request for an account, and when, if that may still wait in the queue."""
        oldest = (self._now - RETAINED).timestamp()
        recent = {sweep_id: (at, accounts) for sweep_id, (at, accounts) in requested.items() if at >= oldest}
        if not recent or self._sources.repairs.is_empty():
            return {}
        return {each: (sweep_id, at) for sweep_id, (at, accounts) in recent.items() for each in accounts}

    def _compared(self) -> _Compared:
        found = _Compared()
        for account_id in sorted(self._members):
            if not self._requirements.scope.attaches_to(account_id):
                found.observed += 1
                continue
            account = self._members[account_id]
            statuses = {each.status for each in self._covering.lines(account)}
            is_unclear = not statuses.isdisjoint({Status.UNDECIDED, Status.UNREAD})
            if Status.MISSING in statuses:
                found.with_gaps.append(account_id)
            elif not is_unclear:
                found.covered += 1
            if self._covering.removable(account):
                found.with_removable.append(account_id)
            found.unclear += is_unclear
        return found

    def _chosen(self, compared: _Compared, unchecked: Collection[AccountId]) -> list[AccountId]:
        """Return the accounts that a request would help, and count the others with the reason.

        `unchecked` are the members that are new, so that an event should have told of them.
        """
        asked = sorted({*compared.with_gaps, *compared.with_removable, *unchecked})
        chosen = []
        for account_id, rows in self._sources.outcomes.of_accounts(asked):
            account = self._members[account_id]
            current = list(of_membership(rows, account.joined_at))
            if account_id in unchecked and self._is_missed(account, current):
                self._missed += 1
            if not self._requirements.scope.attaches_to(account_id):
                continue
            missing = [each for each in self._covering.lines(account) if each.status is Status.MISSING]
            lines = [
                explained(each, rows, joined_at=account.joined_at)
                for each in missing
                if not self._was_attached_meanwhile(current, each.policy_id)
            ]
            self._attached_meanwhile += bool(missing) and not lines
            self._count(account, lines, current)
            excess = self._has_excess(current, self._covering.removable(account), account.joined_at)
            if excess:
                self._excess.add(account_id)
            if not lines and not excess:
                continue
            why = self._left_out(account_id, lines, current, excess=excess)
            if why:
                self._left[why] += 1
            else:
                chosen.append(account_id)
        return chosen

    def _is_missed(self, account: SnapshotAccount, rows: Sequence[Outcome]) -> bool:
        """Return whether an account joined since the last sweep, and no event told of it."""
        # The list of accounts can leave one out while it changes.
        if account.joined_at and self._last and account.joined_at < self._last.begun_at - ON_ITS_WAY:
            return False
        return not any(each.source == _AWS and each.event_name in JOINS for each in rows)

    def _was_attached_meanwhile(self, rows: Sequence[Outcome], policy_id: PolicyId) -> bool:
        """Return whether a worker found or attached a policy while the sweep was reading: the snapshot is older."""
        return any(row.updated_at >= self._current.begun_at and was_attached(row, policy_id) for row in rows)

    def _count(self, account: SnapshotAccount, lines: Sequence[AccountPolicy], rows: Sequence[Outcome]) -> None:
        self._causes.update((each.cause or GapCause.UNKNOWN).value for each in lines)
        self._named += [(account.id, each) for each in lines[: max(0, MAX_NAMED - len(self._named))]]
        if lines:
            self._with_gaps.add(account.id)
        if any(_is_lost(each, rows, account.joined_at) for each in lines):
            self._drifted.add(account.id)

    def _left_out(
        self, account_id: AccountId, lines: Sequence[AccountPolicy], rows: Sequence[Outcome], *, excess: bool
    ) -> NotRequested | None:
        """Return why a request for an account would be of no use; None if it would be."""
        if self._joined_just_now(account_id):
            return NotRequested.JOINED_JUST_NOW
        helped = [each for each in lines if each.cause not in LASTING]
        if not helped and not excess:
            return NotRequested.LASTING
        if self._pauses.of(account_id, self._members[account_id].ous, self._now):
            return NotRequested.PAUSED
        if self._waits(account_id, rows):
            return NotRequested.WAITING
        # Another request would only fail again, unless something else is missing, too; or a person decides.
        is_failing = all(each.cause is GapCause.FAILED for each in helped) and not excess
        is_halted = any(each.code == _HALTED for each in lines)
        return NotRequested.DEAD_LETTER if (is_failing or is_halted) and self._has_dead_letter(rows) else None

    def _waits(self, account_id: AccountId, rows: Sequence[Outcome]) -> bool:
        """Return whether a message of an account is in a queue, as far as is known."""
        retried = [each for each in rows if each.status is OutcomeStatus.RETRYING and each.source != REMOVAL]
        if any(self._is_within(each, RECEIVED_AGAIN) for each in retried):
            return True
        if (sent := self._waiting.get(account_id)) is None:
            return False
        sweep_id, at = sent
        # The key may have changed since that sweep, or while it sent its requests.
        known = {each.event_id for each in rows}
        if any(event_id(each, sweep_id, account_id) in known for each in self._sources.pseudonyms.under_each_key()):
            return False
        self._still_waiting.setdefault(sweep_id, (at, []))[1].append(account_id)
        return True

    def _has_dead_letter(self, rows: Sequence[Outcome]) -> bool:
        return any(each.status is OutcomeStatus.FAILED and self._is_within(each, KEPT) for each in rows)

    def _is_within(self, row: Outcome, age: timedelta) -> bool:
        """Return whether a row was written within a time; a row of the future was not written by a worker."""
        return self._now - age <= row.updated_at <= self._now + ON_ITS_WAY

    def _has_excess(self, rows: Sequence[Outcome], removable: Sequence[PolicyId], joined_at: datetime | None) -> bool:
        """Return whether Joinguard attached something that may be removed, and did not decide yet to keep it."""
        for policy_id in removable:
            claim = last_claim(rows, policy_id, joined_at)
            if claim is None or claim.result is not AttachmentResult.ATTACHED:
                continue
            later = [each for each in rows if each.updated_at >= claim.at]
            # A request that was handled since is decided: the account may have needed the policy then.
            decided = [each.updated_at for each in later if each.source == REMOVAL and each.status not in FAILING]
            handled_at = max(decided, default=claim.at)
            if not any(self._settles(each, policy_id, handled_at) for each in later):
                return True
        return False

    def _joined_just_now(self, account_id: AccountId) -> bool:
        member = self._members.get(account_id)
        joined_at = member.joined_at if member else None
        return joined_at is not None and joined_at > self._now - ON_ITS_WAY

    def _settles(self, row: Outcome, policy_id: PolicyId, handled_at: datetime) -> bool:
        """Return whether the removal of a policy is requested or handled, failed, or found a reason to keep it."""
        results = {each.result for each in row.policies if each.policy_id == policy_id}
        if AttachmentResult.REMOVAL_REQUESTED in results:
            return row.updated_at > handled_at and self._is_within(row, RETAINED)
        if row.source != REMOVAL:
            return False
        return (row.status in FAILING and self._is_within(row, KEPT)) or AttachmentResult.KEPT in results

    def _halted(self) -> str | None:
        """Return why nothing is requested, if more accounts lost policies at once than people change."""
        if len(self._drifted) <= at_once(len(self._members)):
            return None
        return f"{len(self._drifted)} of {len(self._members)} members lack policies that Joinguard attached"

    def _faults(self) -> Iterator[FaultOfOrganization]:
        """Yield what is wrong for the whole organization."""
        document, snapshot = self._requirements.guardrails.document, self._snapshot
        listed = {each.id: each for each in snapshot.policies}
        for each in document.policies:
            if each.type not in snapshot.enabled_types:
                continue
            found = listed.get(each.id)
            if found is None:
                yield FaultOfOrganization(kind="NO_POLICY", what=each.id)
            elif each.sha256 and found.sha256 and each.sha256 != found.sha256:
                yield FaultOfOrganization(kind="POLICY_CHANGED", what=each.id)
            elif each.sha256 and not found.sha256:
                yield FaultOfOrganization(kind="POLICY_UNREAD", what=each.id)
        for kind in sorted({each.type for each in document.policies}.difference(snapshot.enabled_types)):
            yield FaultOfOrganization(kind="TYPE_DISABLED", what=kind)
        yield from map(_unread, (each for each in snapshot.unread if each.part != "content"))


def _unread(part: Unread) -> FaultOfOrganization:
    """Return the fault about a part of the organization that could not be read; contents have one of their own."""
    what = f"{part.part} of {part.policy}" if part.policy else part.part
    return FaultOfOrganization(kind="UNREAD", what=f"{what}: {part.code}")


def _is_lost(line: AccountPolicy, rows: Sequence[Outcome], joined_at: datetime | None) -> bool:
    """Return whether an account lost a policy that Joinguard attached, unless somebody fights about it."""
    if line.cause in LASTING or line.code == _STOPPED:
        return False
    claim = last_claim(rows, line.policy_id, joined_at)
    return claim is not None and claim.result is AttachmentResult.ATTACHED


def departure_id(pseudonyms: Pseudonyms, sweep_id: str, account_id: AccountId) -> EventId:
    """Return the event id of the message that an account left."""
    return request_id(pseudonyms, "departure", sweep_id, account_id)


def event_id(pseudonyms: Pseudonyms, sweep_id: str, account_id: AccountId) -> EventId:
    """Return the event id of the request for an account: the same one whenever a sweep sends it."""
    return request_id(pseudonyms, "sweep", sweep_id, account_id)
