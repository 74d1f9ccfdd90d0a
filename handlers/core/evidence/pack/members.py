"""Each member of a period: when it was guarded, what it had to carry and carried, and its state at the end."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from handlers.core.evidence.pack.memberships import SWEEP, Membership
from handlers.core.evidence.pack.ports import KnownMember
from handlers.core.evidence.pack.reading import end, within
from handlers.core.evidence.pack.rows import Row
from handlers.core.evidence.pack.sweeps import SweepRecords
from schemas.events import DEPARTURES, REMOVAL
from schemas.evidence import Evidence
from schemas.ids import PolicyId
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.pack import Member, MemberState, NoProof, Period

#: The results with which an account carries a policy.
ATTACHED: Final = frozenset({AttachmentResult.ATTACHED, AttachmentResult.ALREADY_ATTACHED})
_REMOVED: Final = frozenset({AttachmentResult.REMOVED, AttachmentResult.ALREADY_REMOVED})
#: The statuses of an attempt that compared the account with what it must carry.
_COMPARED: Final = frozenset(
    {OutcomeStatus.ENFORCED, OutcomeStatus.FAILED, OutcomeStatus.OBSERVED, OutcomeStatus.RETRYING}
)


@dataclass
class AccountRecords:
    """What the records say about one account."""

    #: The evidence of the period about what the account must carry, by when it was recorded.
    evaluations: list[tuple[str, Evidence]] = field(default_factory=list)
    removals: list[Evidence] = field(default_factory=list)
    #: The outcomes of evaluations, of all times; alone, they prove nothing.
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """What an account had to carry, and carried, at a moment."""

    at: datetime
    status: OutcomeStatus
    required: tuple[PolicyId, ...]
    carried: tuple[PolicyId, ...]
    exceptions: tuple[str, ...]
    key: str

    @property
    def is_covered(self) -> bool:
        return set(self.required) <= set(self.carried)


def by_account(evidence: Iterable[tuple[str, Evidence]], rows: Iterable[Row]) -> Mapping[str, AccountRecords]:
    """Return what valid evidence and the outcomes say about each account."""
    found: dict[str, AccountRecords] = defaultdict(AccountRecords)
    for key, each in sorted(evidence, key=lambda each: (each[1].recorded_at, each[0])):
        if each.account is None or each.departure:
            continue
        if each.source == REMOVAL:
            found[each.account.value].removals.append(each)
        elif each.status in _COMPARED and each.course != "interrupted":
            found[each.account.value].evaluations.append((key, each))
    for row in rows:
        if row.account and row.source != REMOVAL and row.event_name not in DEPARTURES and row.status in _COMPARED:
            found[row.account].rows.append(row)
    return found


@dataclass(frozen=True)
class Describer:
    """Describes memberships as the pack shows them."""

    period: Period
    #: The end of the period, or now if it is not over.
    until: datetime
    records: Mapping[str, AccountRecords]
    sweeps: SweepRecords
    shown: Callable[[str], str]
    #: Organizations' list by pseudonym.
    members_now: Mapping[str, KnownMember]
    #: The keys of objects that prove nothing.
    wrong: frozenset[str]
    #: The times of the events of each account of whose evidence something is missing or wrong.
    doubted: Mapping[str, Sequence[datetime]]

    def members(self, memberships: Iterable[Membership]) -> Iterator[Member]:
        """Yield each membership as a member of the pack: new ones first, then by account."""
        open_gaps = self.sweeps.open_gaps
        described = [self._member(each, open_gaps.get(each.account, set())) for each in memberships]
        yield from sorted(described, key=lambda each: (not each.is_new, each.joined_at or self.until, each.account))

    def _member(self, membership: Membership, gaps: set[PolicyId]) -> Member:
        records = self.records.get(membership.account, AccountRecords())
        is_new = membership.joined_at is not None and within(self.period, membership.joined_at)
        guarded_at, key = _guarded(membership, records) if membership.joined_at else (None, None)
        known = self._known(membership, records)
        state = self._state(membership, known, gaps)
        carried = known.carried if known else None
        last = self.sweeps.last
        if known and last and last.decided_at > known.at and state is MemberState.GAP:
            carried = tuple(each for each in known.carried if each not in gaps)
        exact = membership.joined_at if membership.joined_by != SWEEP else None
        now = self.members_now.get(membership.account) if membership.left_at is None else None
        clear = now if now and now.is_clear else None
        return Member(
            account=self.shown(membership.account),
            joined_at=membership.joined_at,
            joined_by=membership.joined_by,
            is_new=is_new,
            guarded_at=guarded_at,
            no_proof=self._no_proof(membership, records) if is_new and guarded_at is None else None,
            # Clocks differ, so a negative time counts as none.
            seconds=max(0.0, (guarded_at - exact).total_seconds()) if guarded_at and exact and is_new else None,
            left_at=membership.left_at,
            left_by=membership.left_by,
            state=state,
            required=known.required if known else None,
            carried=carried,
            exceptions=known.exceptions if known else (),
            known_at=known.at if known else None,
            required_now=clear.required if clear else None,
            carried_now=clear.carried if clear else None,
            evidence_key=key or (known.key if known else None),
        )

    def _known(self, membership: Membership, records: AccountRecords) -> _Known | None:
        """Return what the newest evidence of the period says."""
        for key, each in reversed(records.evaluations):
            if each.recorded_at < self.until and membership.holds(each.recorded_at):
                return _of_evidence(key, each, records.removals)
        return None

    def _no_proof(self, membership: Membership, records: AccountRecords) -> NoProof:
        """Return why no record shows that an account got all its policies."""
        if any(map(membership.holds, self.doubted.get(membership.account, ()))):
            return NoProof.EVIDENCE_WRONG
        said = [each for each in records.rows if membership.holds(each.updated_at)]
        done = [each for each in said if each.status is OutcomeStatus.ENFORCED]
        if done:
            is_later = all(each.event_time >= end(self.period) for each in done)
            return NoProof.AFTER_PERIOD if is_later else NoProof.EVIDENCE_UNREAD
        known = self._known(membership, records)
        if known and known.status is OutcomeStatus.OBSERVED:
            return NoProof.OBSERVED
        if membership.left_at:
            return NoProof.LEFT
        return NoProof.FAILED if known or said else NoProof.NO_RECORD

    def _state(self, membership: Membership, known: _Known | None, gaps: set[PolicyId]) -> MemberState:
        if membership.left_at and membership.left_at < self.until:
            return MemberState.LEFT
        last = self.sweeps.last
        if gaps and not (known and last and known.at > last.decided_at and known.is_covered):
            return MemberState.GAP
        if known and known.status is OutcomeStatus.OBSERVED:
            return MemberState.OBSERVED
        if (known and known.status is OutcomeStatus.ENFORCED) or self._swept(membership, known):
            return MemberState.COVERED
        return MemberState.GAP if known else MemberState.UNCLEAR

    def _swept(self, membership: Membership, known: _Known | None) -> bool:
        """Return whether the last sweep looked at the account after all that is known, and all of it was clear."""
        last = self.sweeps.last
        if last is None or last.evidence_key in self.wrong:
            return False
        if last.unclear or last.observed or not self.sweeps.names_all:
            return False
        return last.decided_at > max(membership.since, known.at if known else membership.since)


def _guarded(membership: Membership, records: AccountRecords) -> tuple[datetime | None, str | None]:
    """Return when an attempt first ended after which the account carried everything, and the key of its evidence."""
    for key, each in records.evaluations:
        if each.status is OutcomeStatus.ENFORCED and membership.holds(each.recorded_at):
            return each.recorded_at, key
    return None, None


def _of_evidence(key: str, evidence: Evidence, removals: Iterable[Evidence]) -> _Known:
    removed = {
        policy.policy_id
        for each in removals
        if each.recorded_at > evidence.recorded_at
        for policy in each.policies
        if policy.result in _REMOVED
    }
    carried = [each.policy_id for each in evidence.policies if each.result in ATTACHED]
    exceptions = {name for each in evidence.policies for name in each.exceptions or ()}
    return _Known(
        evidence.recorded_at,
        evidence.status,
        evidence.required,
        tuple(each for each in carried if each not in removed),
        tuple(sorted(exceptions)),
        key,
    )
