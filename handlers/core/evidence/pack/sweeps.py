"""Coverage and gaps over time, from the evidence of sweeps. One sweep is in memory at a time, and what it changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter

from handlers.core.evidence.pack.reading import days
from handlers.core.redaction import redact_words, safe_code
from schemas.ids import PolicyId
from schemas.pack import CoverageDay, Gap, Period, SweepResult
from schemas.sweep import SweepEvidence, SweepReport


@dataclass
class _Open:
    """A gap that the last sweep found."""

    first_seen: datetime
    last_seen: datetime
    cause: str


@dataclass
class SweepRecords:
    """What the sweeps of a period found."""

    results: list[SweepResult] = field(default_factory=list)
    #: The accounts that a sweep found for the first time, and when. A first sweep finds all of them, so that says
    #: nothing about when they joined.
    appeared: list[tuple[str, datetime, bool]] = field(default_factory=list)
    departed: list[tuple[str, datetime]] = field(default_factory=list)
    #: The accounts that a sweep found without a policy, and when one first did.
    with_gaps: dict[str, datetime] = field(default_factory=dict)
    #: Whether a sweep found more gaps than its evidence names.
    is_cut: bool = False
    #: Whether the last sweep names every gap that it found.
    names_all: bool = False
    _open: dict[tuple[str, PolicyId], _Open] = field(default_factory=dict)
    _closed: list[tuple[str, PolicyId, _Open, datetime]] = field(default_factory=list)

    @classmethod
    def of(cls, evidence: Iterable[tuple[str, SweepEvidence]]) -> "SweepRecords":
        """Take the evidence of sweeps, day by day; within a day, the keys are in no order."""
        found = cls()
        for _, of_day in groupby(evidence, lambda each: each[1].report.decided_at.date()):
            for key, each in sorted(of_day, key=lambda each: each[1].report.decided_at):
                found._add(key, each)
        return found

    @property
    def last(self) -> SweepResult | None:
        """The last sweep of the period."""
        return self.results[-1] if self.results else None

    @property
    def open_gaps(self) -> dict[str, set[PolicyId]]:
        """The policies that accounts lacked in the last sweep, as far as it names them."""
        found: dict[str, set[PolicyId]] = {}
        for account, policy_id in self._open:
            found.setdefault(account, set()).add(policy_id)
        return found

    def gaps(self, shown: Callable[[str], str]) -> Iterator[Gap]:
        """Yield all gaps, those first that are still open, then the longest."""
        still = [(account, policy, each, None) for (account, policy), each in self._open.items()]
        found = [
            Gap(
                account=shown(account),
                policy_id=policy,
                cause=safe_code(each.cause),
                first_seen=each.first_seen,
                last_seen=each.last_seen,
                closed_at=closed_at,
            )
            for account, policy, each, closed_at in (*still, *self._closed)
        ]
        yield from sorted(found, key=_urgency)

    def by_day(self, period: Period, today: date) -> Iterator[CoverageDay]:
        """Yield each day of the period that has begun."""
        of_day = {day: list(each) for day, each in groupby(self.results, lambda each: each.decided_at.date())}
        for day in days(period.first, min(period.last, today)):
            if not (sweeps := of_day.get(day)):
                yield CoverageDay(day=day, sweeps=0)
                continue
            yield CoverageDay(
                day=day,
                sweeps=len(sweeps),
                members=sweeps[-1].members,
                covered=sweeps[-1].covered,
                most_gaps=max(map(attrgetter("with_gaps"), sweeps)),
                most_unclear=max(map(attrgetter("unclear"), sweeps)),
                most_drifted=max(map(attrgetter("drifted"), sweeps)),
            )

    def _add(self, key: str, evidence: SweepEvidence) -> None:
        report, at = evidence.report, evidence.report.decided_at
        self.results.append(_result(key, report))
        self.appeared += [(each.value, at, report.is_first) for each in evidence.appeared]
        self.departed += [(each.value, at) for each in evidence.departed]
        found = {(each.account.value, each.policy_id): each.cause for each in evidence.gaps}
        for name, cause in found.items():
            self.with_gaps.setdefault(name[0], at)
            begun = self._open.setdefault(name, _Open(at, at, cause))
            begun.last_seen, begun.cause = at, cause
        self.names_all = sum(report.gaps.values()) <= len(found)
        if self.names_all:
            # Of a gap that is not named, a sweep that does not name all of them says nothing.
            for account, policy_id in [each for each in self._open if each not in found]:
                self._closed.append((account, policy_id, self._open.pop((account, policy_id)), at))
        else:
            self.is_cut = True


def _result(key: str, report: SweepReport) -> SweepResult:
    return SweepResult(
        decided_at=report.decided_at,
        mode=report.mode,
        guardrails=report.guardrails,
        members=report.members,
        observed=report.observed,
        covered=report.covered,
        with_gaps=report.with_gaps,
        unclear=report.unclear,
        gaps={safe_code(cause): number for cause, number in report.gaps.items()},
        drifted=report.drifted,
        requested=report.requested,
        not_requested=report.not_requested,
        missed_events=report.missed_events,
        departed=report.departed,
        faults=tuple(redact_words(f"{each.kind} {each.what}") for each in report.faults),
        halted=redact_words(report.halted) if report.halted else None,
        evidence_key=key,
    )


def _urgency(gap: Gap) -> tuple[bool, float, str, PolicyId]:
    seconds = ((gap.closed_at or gap.last_seen) - gap.first_seen).total_seconds()
    return gap.closed_at is not None, -seconds, gap.account, gap.policy_id
