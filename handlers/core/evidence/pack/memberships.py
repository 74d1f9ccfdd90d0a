"""Who was a member in a period, and when: from the events of joins and departures, sweeps, and Organizations' list.

Several events can report one join, and a sweep reports a departure that an event reported before. So a join that
follows a join, without a departure between them, begins no other membership, and a departure that follows a departure
ends none.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from handlers.core.evidence.pack.ports import KnownMember
from handlers.core.evidence.pack.reading import begin, end
from handlers.core.evidence.pack.rows import Row
from handlers.core.evidence.pack.sweeps import SweepRecords
from schemas.events import JOINS, DepartureCause
from schemas.evidence import Evidence
from schemas.outcome import OutcomeStatus
from schemas.pack import Period

#: `joined_by` of a join that only Organizations' list tells of, and of one that only a sweep found.
ORGANIZATION: Final = "organization"
SWEEP: Final = "sweep"
#: The codes of events that name an account which did not join.
_NO_JOIN: Final = frozenset({"MANAGEMENT_ACCOUNT", "WRONG_ORGANIZATION"})
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass
class Membership:
    """From when until when an account was a member."""

    account: str
    joined_at: datetime | None = None
    joined_by: str | None = None
    left_at: datetime | None = None
    left_by: DepartureCause | None = None
    #: Whether it is over, although nobody knows since when.
    is_over: bool = False

    @property
    def since(self) -> datetime:
        """When it began, or the earliest moment if that is not known."""
        return self.joined_at or _EARLIEST

    def overlaps(self, period: Period) -> bool:
        """Return whether the account was a member at any time in a period."""
        if self.is_over and self.left_at is None:
            return False
        return self.since < end(period) and (self.left_at is None or self.left_at >= begin(period.first))

    def holds(self, at: datetime) -> bool:
        """Return whether a moment is in it."""
        return self.since <= at and (self.left_at is None or at < self.left_at)


@dataclass(frozen=True)
class _Fact:
    """What one record says; at the same moment, departures come first."""

    at: datetime
    kind: Literal["left", "joined", "seen"]
    by: str | None = None
    cause: DepartureCause | None = None


class Memberships:
    """Collects what the records say about joins and departures."""

    def __init__(self) -> None:
        self._facts: dict[str, set[_Fact]] = {}

    def add_evidence(self, evidence: Iterable[Evidence]) -> None:
        """Take what the events of the period say."""
        for each in evidence:
            if each.account is None:
                continue
            account = each.account.value
            if each.departure:
                self._add(account, _Fact(each.departure.left_at, "left", cause=each.departure.cause))
            elif is_join(each):
                self._add(account, _Fact(each.event_time, "joined", each.event_name))
            elif each.event_name not in JOINS:
                self._add(account, _Fact(each.event_time, "seen"))

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Take what the outcomes of all times say."""
        for each in rows:
            if each.account is None:
                continue
            if each.left_at:
                self._add(each.account, _Fact(each.left_at, "left"))
            if _reports_join(each.event_name, each.status, each.code):
                self._add(each.account, _Fact(each.event_time, "joined", each.event_name))

    def add_sweeps(self, sweeps: SweepRecords) -> None:
        """Take what sweeps found."""
        for account, at, is_first in sweeps.appeared:
            self._add(account, _Fact(at, "seen") if is_first else _Fact(at, "joined", SWEEP))
        for account, at in sweeps.departed:
            self._add(account, _Fact(at, "left", cause="missing"))
        for account, at in sweeps.with_gaps.items():
            self._add(account, _Fact(at, "seen"))

    def within(self, period: Period, now: Mapping[str, KnownMember]) -> list[Membership]:
        """Return the memberships in a period, by account and in order; `now` is Organizations' list."""
        found: list[Membership] = []
        for account in sorted({*self._facts, *now}):
            each = _memberships(account, sorted(self._facts.get(account, ()), key=_order))
            if account in now:
                each = list(_compared(account, each, now[account]))
            found += (one for one in each if one.overlaps(period))
        return found

    def _add(self, account: str, fact: _Fact) -> None:
        self._facts.setdefault(account, set()).add(fact)


def is_join(evidence: Evidence) -> bool:
    """Return whether evidence is about an account that joined."""
    return _reports_join(evidence.event_name, evidence.status, evidence.fault.code if evidence.fault else None)


def _reports_join(event_name: str, status: OutcomeStatus, code: str | None) -> bool:
    return event_name in JOINS and status is not OutcomeStatus.IGNORED and code not in _NO_JOIN


def _order(fact: _Fact) -> tuple[datetime, str, str, str]:
    return fact.at, {"left": "0", "joined": "1", "seen": "2"}[fact.kind], fact.by or "", fact.cause or "~"


def _memberships(account: str, facts: Sequence[_Fact]) -> list[Membership]:
    found: list[Membership] = []
    for each in facts:
        current = found[-1] if found and found[-1].left_at is None else None
        if each.kind == "left":
            if current:
                current.left_at, current.left_by = each.at, each.cause
            elif not found:
                found.append(Membership(account, left_at=each.at, left_by=each.cause))
            elif found[-1].left_at == each.at:
                found[-1].left_by = found[-1].left_by or each.cause
        elif current is None and (each.kind == "joined" or not found):
            joined_at = each.at if each.kind == "joined" else None
            found.append(Membership(account, joined_at, each.by))
        elif current and current.joined_at is None and each.kind == "joined" and each.by != SWEEP:
            # It was seen before that, so it left and nobody noticed.
            current.joined_at, current.joined_by = each.at, each.by
    return found


def _compared(account: str, known: list[Membership], now: KnownMember) -> Iterator[Membership]:
    """Yield memberships as Organizations' list adds to them: when the last one began, and whether it is over."""
    last = known[-1] if known else None
    if last is None or (last.left_at and now.is_active and now.joined_at and now.joined_at > last.left_at):
        yield from known
        yield Membership(account, now.joined_at, ORGANIZATION, is_over=not now.is_active)
        return
    # A sweep says when it found an account, and Organizations when it joined.
    is_dated = last.joined_by not in {None, SWEEP}
    known_times = [each for each in (last.left_at, last.joined_at) if each]
    if now.joined_at and not is_dated and all(now.joined_at <= each for each in known_times):
        last.joined_at, last.joined_by = now.joined_at, ORGANIZATION
    last.is_over = last.is_over or (not now.is_active and last.left_at is None)
    yield from known
