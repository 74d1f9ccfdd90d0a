"""Make the data of an evidence pack from the records of a period."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from handlers.core.evidence.pack.changes import changes
from handlers.core.evidence.pack.controls import CONTROLS
from handlers.core.evidence.pack.failures import acted, failures, operator_actions
from handlers.core.evidence.pack.in_force import deployments, exceptions, guardrails_in_force
from handlers.core.evidence.pack.latency import latency
from handlers.core.evidence.pack.members import Describer, by_account
from handlers.core.evidence.pack.memberships import Memberships
from handlers.core.evidence.pack.ports import (
    Objects,
    OrganizationNow,
    Progress,
    ReadExceptions,
    Rows,
)
from handlers.core.evidence.pack.reading import Reader, days, end
from handlers.core.evidence.pack.rows import read_rows
from handlers.core.evidence.pack.sealed import Proofs, SealedLog, prove_objects
from handlers.core.evidence.pack.sweeps import SweepRecords
from handlers.core.evidence.pack.unproven import Known, unproven
from handlers.core.evidence.pack.wrong import OutcomeChecks, disagreements, doubted, wrong_keys
from handlers.core.ports import Pseudonyms
from handlers.core.redaction import redact_words
from schemas.evidence import RehearsalEvidence
from schemas.ids import OrganizationId
from schemas.outcome import OutcomeStatus
from schemas.pack import (
    CoverageDay,
    Disagreement,
    Failure,
    FailureEnd,
    Member,
    MemberState,
    Pack,
    Period,
    RehearsalDay,
    SourceRead,
    Summary,
)

_ORGANIZATION: Final = "organization"


@dataclass(frozen=True)
class Order:
    """Which pack to make."""

    period: Period
    now: datetime
    organization_id: OrganizationId
    #: The version of Joinguard.
    made_by: str
    #: Whether accounts are named by their ids.
    reveals: bool
    #: The command that verifies the sealed log.
    verify_command: str


@dataclass(frozen=True)
class Sources:
    """What the pack is made of."""

    objects: Objects
    rows: Rows
    pseudonyms: Pseudonyms
    read_exceptions: ReadExceptions
    log: SealedLog
    #: None if it could not be read.
    organization: OrganizationNow | None
    organization_problem: str | None = None


class _Names:
    """Shows accounts by their pseudonyms, or by their ids as far as these are known."""

    def __init__(self, ids: Mapping[str, str] | None) -> None:
        self._ids = ids
        self._unknown: set[str] = set()

    def __call__(self, pseudonym: str) -> str:
        if self._ids is None:
            return pseudonym
        if pseudonym not in self._ids:
            self._unknown.add(pseudonym)
        return self._ids.get(pseudonym, pseudonym)

    @property
    def unknown(self) -> int:
        return len(self._unknown)


def make_pack(order: Order, sources: Sources, progress: Progress) -> tuple[Pack, Proofs | None]:
    """Read the records of a period; return what they say and what they do not, and the proofs that they are sealed."""
    period, pseudonyms = order.period, sources.pseudonyms
    until, today = min(order.now, end(period)), order.now.date()
    reader = Reader(sources.objects, progress)
    evidence = list(reader.evidence(period))
    sweeps = SweepRecords.of(reader.sweeps(period))
    rehearsals = list(_rehearsals(reader.rehearsals(period), period, today))
    # Actions after the period can end what failed in it.
    actions = acted(dict(reader.audit_records(period.first, max(today, period.last))))
    in_force = deployments(reader.configurations(period.last), period)
    rows = read_rows(sources.rows, pseudonyms, OutcomeChecks(reader, pseudonyms, period), progress)
    proved = prove_objects(sources.log, sorted(reader.read, key=lambda each: each.key), progress)
    wrong = wrong_keys(rows.rows, proved.objects)
    listed = sources.organization.members if sources.organization else ()
    members_now = {pseudonyms.of(each.account_id).value: each for each in listed}
    ids = {**rows.ids, **{name: each.account_id for name, each in members_now.items()}}
    shown = _Names(ids if order.reveals else None)
    memberships = Memberships()
    memberships.add_evidence(each for _, each in evidence)
    memberships.add_rows(rows.rows)
    memberships.add_sweeps(sweeps)
    records = by_account((each for each in evidence if each[0] not in wrong), rows.rows)
    doubts = doubted(rows.rows, evidence, wrong)
    describer = Describer(period, until, records, sweeps, shown, members_now, wrong, doubts)
    members = tuple(describer.members(memberships.within(period, members_now)))
    # What is wrong proves no success.
    attempts = (each for key, each in evidence if key not in wrong or each.status is OutcomeStatus.FAILED)
    failed = tuple(failures(attempts, rows.rows, records, actions, shown))
    done = tuple(operator_actions(actions, period, {name for each in failed for name in each.actions}))
    by_day = tuple(sweeps.by_day(period, today))
    excepted, unread = exceptions(
        guardrails_in_force(in_force, (each for _, each in evidence)),
        sources.read_exceptions,
        [each for _, each in evidence],
        period,
        pseudonyms,
        shown,
    )
    times = latency(members)
    missing = tuple(disagreements(rows.rows, shown))
    changed = tuple(changes(evidence, shown))
    gaps = tuple(sweeps.gaps(shown))
    verification = sources.log.verification
    read = (*reader.sources(), rows.source, *_of_organization(sources))
    known = Known(
        period=period,
        made_at=order.now,
        members=members,
        latency=times,
        sweeps=sweeps,
        days=by_day,
        actions=done,
        deployments=in_force,
        sources=read,
        unread_guardrails=unread,
        key_versions=frozenset(each.account.key_version for _, each in evidence if each.account),
        verification=verification,
        log=sources.log,
        proved=proved,
        organization_problem=sources.organization_problem,
        ownerless=sum(each.owner is None for each in excepted),
        not_revealed=shown.unknown,
    )
    pack = Pack(
        organization_id=order.organization_id,
        period=period,
        made_at=order.now,
        made_by=order.made_by,
        reveals=order.reveals,
        not_revealed=shown.unknown,
        summary=_summary(members, failed, by_day, rehearsals, missing),
        policy_names={each: redact_words(name) for each, name in _policy_names(sources)},
        members=members,
        latency=times,
        days=by_day,
        sweeps=tuple(sweeps.results),
        gaps=gaps,
        exceptions=tuple(excepted),
        failures=failed,
        actions=done,
        changes=changed,
        rehearsals=tuple(rehearsals),
        deployments=tuple(in_force),
        disagreements=missing,
        verification=verification,
        not_verified=sources.log.not_verified,
        verify_command=order.verify_command,
        sealed_at=sources.log.sealed_at,
        unproven=unproven(known),
        controls=CONTROLS,
        sources=read,
        objects=proved.objects,
    )
    return pack, proved.proofs


def _policy_names(sources: Sources) -> list[tuple[str, str]]:
    return sorted(sources.organization.policy_names.items()) if sources.organization else []


def _of_organization(sources: Sources) -> Iterator[SourceRead]:
    if sources.organization:
        yield SourceRead(source=_ORGANIZATION, read=len(sources.organization.members))


def _rehearsals(
    evidence: Iterable[tuple[str, RehearsalEvidence]], period: Period, today: date
) -> Iterator[RehearsalDay]:
    counts: dict[date, int] = {}
    slowest: dict[date, float] = {}
    for _, each in evidence:
        day, seconds = each.event_time.date(), max(0.0, (each.recorded_at - each.event_time).total_seconds())
        counts[day] = counts.get(day, 0) + 1
        slowest[day] = max(slowest.get(day, 0.0), seconds)
    for day in days(period.first, min(period.last, today)):
        yield RehearsalDay(day=day, rehearsals=counts.get(day, 0), slowest=slowest.get(day))


def _summary(
    members: Sequence[Member],
    failed: Sequence[Failure],
    by_day: Sequence[CoverageDay],
    rehearsals: Sequence[RehearsalDay],
    missing: Sequence[Disagreement],
) -> Summary:
    new = [each for each in members if each.is_new]
    guarded = sum(each.guarded_at is not None for each in new)
    observed = sum(each.guarded_at is None and each.state is MemberState.OBSERVED for each in new)
    states = [each.state for each in members]
    left = states.count(MemberState.LEFT)
    return Summary(
        members=len(members),
        members_at_end=len(members) - left,
        joined=len(new),
        left=left,
        guarded=guarded,
        observed=observed,
        not_guarded=len(new) - guarded - observed,
        covered_at_end=states.count(MemberState.COVERED),
        gaps_at_end=states.count(MemberState.GAP),
        unclear_at_end=states.count(MemberState.UNCLEAR),
        failures=len(failed),
        open_failures=sum(each.end is FailureEnd.OPEN for each in failed),
        sweeps=sum(each.sweeps for each in by_day),
        days_without_sweep=sum(not each.sweeps for each in by_day),
        rehearsals=sum(each.rehearsals for each in rehearsals),
        disagreements=len(missing),
    )
