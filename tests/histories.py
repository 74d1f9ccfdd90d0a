"""Histories of an installation, as its records tell them: objects of the evidence bucket and rows of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from handlers.core.evidence.references import event_reference
from schemas.audit import Action, AuditRecord, Ended, MessageDigest
from schemas.configuration import Configuration, ConfiguredPolicy
from schemas.events import REMOVAL
from schemas.evidence import Evidence, RecordedDeparture, RecordedFault, RecordedPolicy, RehearsalEvidence
from schemas.keys import audit_key, configuration_key, evidence_key, rehearsal_key, sweep_key
from schemas.outcome import AttachmentResult, Called, Departed, Fault, Outcome, OutcomeStatus, PolicyOutcome
from schemas.pseudonym import Pseudonym
from schemas.sweep import NamedGap, SweepEvidence, SweepMode, SweepReport
from tests.fakes import ORGANIZATION, POLICIES
from tests.operator_cli import OperatorCli, operator_cli

if TYPE_CHECKING:
    from pydantic import BaseModel

    from schemas.events import DepartureCause

JULY = datetime(2026, 7, 1, tzinfo=UTC)
#: The hash of the guardrails that all histories begin with.
GUARDRAILS = "6a" * 32
ATTACHED = AttachmentResult.ATTACHED


def at(day: float, hour: float = 12) -> datetime:
    """Return a moment: a day of the period, which begins with day 1, and an hour."""
    return JULY + timedelta(days=day - 1, hours=hour)


@dataclass(repr=False)
class History:
    """What happened, as it is on record; by default in the third quarter of 2026."""

    tool: OperatorCli = field(default_factory=operator_cli)
    required: tuple[str, ...] = POLICIES
    guardrails: str = GUARDRAILS
    _numbers: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.tool.queues.clock.time = datetime(2026, 10, 7, 9, 30, tzinfo=UTC)

    @property
    def objects(self) -> dict[str, bytes]:
        """The objects of the evidence bucket."""
        return self.tool.bucket.objects

    def pseudonym(self, account: str) -> Pseudonym:
        return self.tool.pseudonyms.of(account)

    def _put(self, key: str, model: BaseModel) -> str:
        body = model.model_dump_json(exclude_none=True).encode()
        self.objects[key] = body
        return sha256(body).hexdigest()

    # Events of accounts.

    def attempt(  # noqa: PLR0913 - what evidence says
        self,
        account: str | None,
        when: datetime,
        *,
        event: str = "AcceptHandshake",
        source: str = "aws.organizations",
        event_id: str | None = None,
        attempt: int = 1,
        seconds: float = 8,
        status: OutcomeStatus = OutcomeStatus.ENFORCED,
        results: Sequence[AttachmentResult] | None = None,
        policies: Sequence[RecordedPolicy] | None = None,
        fault: Fault | None = None,
        **changes: Any,
    ) -> str:
        """Write the evidence of an attempt at an event, and the row; return the event's id."""
        event_id = event_id or f"event-{next(self._numbers)}"
        results = results if results is not None else [ATTACHED] * len(self.required)
        recorded = policies
        if recorded is None:
            recorded = [
                RecordedPolicy(policy_id=each, result=result, fault=RecordedFault.of(fault) if fault else None)
                for each, result in zip(self.required, results, strict=True)
            ]
        done = when + timedelta(seconds=seconds)
        evidence = Evidence(
            event_id=event_reference(event_id, self.tool.pseudonyms.digest),
            event_name=event,
            event_time=when,
            source=source,
            account=self.pseudonym(account) if account else None,
            organization_id=ORGANIZATION,
            attempt=attempt,
            status=status,
            guardrails=self.guardrails,
            policies=tuple(recorded),
            fault=RecordedFault.of(fault),
            recorded_at=done,
            **{"required": self.required, **changes},
        )
        key = evidence_key(evidence)
        digest = self._put(key, evidence)
        departure: RecordedDeparture | None = changes.get("departure")
        row = Outcome(
            account_id=account or "none",
            event_id=event_id,
            event_name=event,
            source=source,
            status=status,
            policies=tuple(map(_as_in_the_row, recorded)),
            attempts=attempt,
            event_time=when,
            received_at=when,
            updated_at=done,
            done_at=None if status is OutcomeStatus.RETRYING else done,
            fault=fault,
            guardrails=evidence.guardrails,
            called=evidence.called,
            evidence_key=key,
            evidence_sha256=digest,
            departed=Departed(cause=departure.cause, left_at=departure.left_at, event_id=event_id)
            if departure
            else None,
        )
        self.tool.queues.rows[row.account_id, event_id] = [(done, row)]
        return event_id

    def fail(self, account: str, when: datetime, code: str = "PolicyNotFoundException", **changes: Any) -> str:
        """Let the join of an account fail for good; return the event's id."""
        return self.attempt(
            account,
            when,
            status=OutcomeStatus.FAILED,
            results=[ATTACHED, *[AttachmentResult.FAILED] * (len(self.required) - 1)],
            fault=Fault(code=code, message="We can't find a policy with the id"),
            **changes,
        )

    def depart(self, account: str, when: datetime, cause: DepartureCause = "removed") -> str:
        """Let an account leave."""
        event_id = f"event-{next(self._numbers)}"
        return self.attempt(
            account,
            when,
            event="RemoveAccountFromOrganization",
            event_id=event_id,
            status=OutcomeStatus.CLOSED,
            policies=(),
            required=(),
            departure=RecordedDeparture(cause=cause, left_at=when, event_id=event_id),
            fault=Fault(code="ACCOUNT_LEFT", message="the account is not in the organization any more"),
        )

    def detach(self, account: str, when: datetime, *, is_restored: bool = True, who: str = "arn:aws:iam::x") -> str:
        """Let somebody detach the first policy; Joinguard attaches it again, or leaves it off."""
        result = ATTACHED if is_restored else AttachmentResult.FAILED
        fault = None if is_restored else Fault(code="RESTORES_STOPPED", message="it was put back 3 times")
        return self.attempt(
            account,
            when,
            event="DetachPolicy",
            status=OutcomeStatus.ENFORCED if is_restored else OutcomeStatus.FAILED,
            policies=[
                RecordedPolicy(policy_id=self.required[0], result=result, fault=RecordedFault.of(fault)),
                *(
                    RecordedPolicy(policy_id=each, result=AttachmentResult.ALREADY_ATTACHED)
                    for each in self.required[1:]
                ),
            ],
            fault=fault,
            called=Called(principal=self.tool.pseudonyms.principal(who), policy_id=self.required[0]),
        )

    def remove(self, account: str, when: datetime, policy: str, *, exceptions: tuple[str, ...] = ()) -> str:
        """Let Joinguard remove a policy that an account no longer needs."""
        removed = RecordedPolicy(policy_id=policy, result=AttachmentResult.REMOVED, exceptions=exceptions or None)
        return self.attempt(
            account, when, event="RemovalRequest", source=REMOVAL, policies=[removed], required=self.required
        )

    # Everything else.

    def sweep(  # noqa: PLR0913 - what a sweep finds
        self,
        when: datetime,
        *,
        members: int,
        gaps: Sequence[tuple[str, str, str]] = (),
        appeared: Sequence[str] = (),
        departed: Sequence[str] = (),
        counted_gaps: int | None = None,
        **changes: Any,
    ) -> str:
        """Write the evidence of a sweep; a gap is an account, a policy and a cause. Return its key."""
        with_gaps = len({account for account, _, _ in gaps})
        causes = {cause: 0 for _, _, cause in gaps}
        for _, _, cause in gaps:
            causes[cause] += 1
        number = next(self._numbers)
        letters = "".join(chr(ord("a") + int(digit)) for digit in f"{number:032d}")
        report = SweepReport(
            **{
                "sweep_id": f"sweep-{letters}",
                "organization_id": ORGANIZATION,
                "guardrails": self.guardrails,
                "mode": SweepMode.ENFORCE,
                "begun_at": when - timedelta(minutes=1),
                "decided_at": when,
                "members": members,
                "covered": members - with_gaps,
                "with_gaps": with_gaps,
                "unclear": 0,
                "gaps": {"DRIFTED": counted_gaps} if counted_gaps is not None else causes,
                "requested": with_gaps,
                "departed": len(departed),
                **changes,
            }
        )
        evidence = SweepEvidence(
            report=report,
            appeared=tuple(map(self.pseudonym, appeared)),
            departed=tuple(map(self.pseudonym, departed)),
            gaps=tuple(
                NamedGap(account=self.pseudonym(account), policy_id=policy, cause=cause)
                for account, policy, cause in gaps
            ),
        )
        key = sweep_key(report)
        self._put(key, evidence)
        return key

    def act(  # noqa: PLR0913 - what an audit record says
        self,
        when: datetime,
        action: Action = "redrive",
        *,
        reason: str = "the policy is there again, INC-17",
        events: Sequence[str] = (),
        ended: Ended | None = "completed",
        results: dict[str, int] | None = None,
    ) -> str:
        """Write the records of an operator's action; return its id."""
        action_id = f"{next(self._numbers):032x}"
        pseudonyms = self.tool.pseudonyms
        letters = tuple(
            MessageDigest(message_id=f"m-{each}", event_id=event_reference(each, pseudonyms.digest)) for each in events
        )
        phases: tuple[Literal["intended", "done"], ...] = ("intended", "done") if ended else ("intended",)
        for phase in phases:
            record = AuditRecord(
                act_id=action_id,
                action=action,
                phase=phase,
                actor=pseudonyms.principal("arn:aws:iam::x:role/acts/jane"),
                actor_name=pseudonyms.name("jane@example.com"),
                actor_id="AROAEXAMPLE",
                reason=reason,
                letters=letters,
                results=(results or {"sent": len(events)}) if phase == "done" else {},
                ended=ended if phase == "done" else None,
                recorded_at=when if phase == "intended" else when + timedelta(minutes=2),
            )
            self._put(audit_key(when, action_id, phase), record)
        return action_id

    def rehearse(self, when: datetime, seconds: float = 3) -> None:
        evidence = RehearsalEvidence(
            event_id=f"rehearsal-{next(self._numbers)}",
            event_time=when,
            body_digest="0" * 64,
            organization_id=ORGANIZATION,
            receives=1,
            queued_at=when + timedelta(seconds=seconds / 3),
            received_at=when + timedelta(seconds=seconds / 2),
            recorded_at=when + timedelta(seconds=seconds),
        )
        body = evidence.model_dump_json().encode()
        self._put(rehearsal_key(evidence, sha256(body).hexdigest()), evidence)

    def deploy(self, when: datetime, guardrails: str = GUARDRAILS, **changes: Any) -> None:
        """Write the record of a deployment."""
        pseudonyms = self.tool.pseudonyms
        record = Configuration(
            **{
                "record_id": f"{next(self._numbers):032x}",
                "stack": "joinguard",
                "guardrails": guardrails,
                "policies": tuple(ConfiguredPolicy(policy_id=each, sha256="ab" * 32) for each in self.required),
                "attaches_to": "all",
                "removes": False,
                "code": "c0de" * 16,
                "commit": "f" * 40,
                "actor": pseudonyms.principal("arn:aws:iam::x:role/deploys"),
                "actor_name": pseudonyms.name("deployer@example.com"),
                "actor_id": "AROADEPLOYER",
                "reason": "first deployment",
                "recorded_at": when,
                **changes,
            }
        )
        self._put(configuration_key(record), record)


def accounts(number: int, begin: int = 300_000_000_000) -> list[str]:
    """Return ids of accounts that no other part of the tests uses."""
    return [f"{begin + each:012d}" for each in range(number)]


def quarter(members: int = 60, joins: int = 24, sweeps_a_day: int = 2) -> History:
    """Return a quarter with everything in it that a pack shows."""
    history = History()
    history.deploy(at(-20))
    history.deploy(at(40), reason="region-lock for production, CHG-4711", approved_plan="9a" * 32, removes=True)
    known = accounts(members)
    new = accounts(joins, 400_000_000_000)
    reader = history.tool.reader
    for each in known:
        reader.member(each)
        reader.members[each] = replace(reader.members[each], joined_at=at(-300))
    for number, each in enumerate(new):
        when = at(1 + number * 88 / joins, 9)
        reader.member(each)
        reader.members[each] = replace(reader.members[each], joined_at=when)
        seconds = (3.2, 4.1, 5.5, 7.9, 11, 18, 2.4, 6.1)[number % 8] + number % 5
        if number == 5:
            event = history.fail(each, when)
            history.act(when + timedelta(minutes=40), events=[event])
            history.attempt(each, when, event_id=event, attempt=2, seconds=2_590)
        else:
            history.attempt(each, when, event=("AcceptHandshake", "CreateAccountResult")[number % 2], seconds=seconds)
    for policy in POLICIES:
        reader.policy(policy, policy.replace("p-", "deny-"))
        reader.attach(policy, *known, *new)
    history.detach(known[3], at(33, 15))
    history.detach(known[4], at(55, 15), is_restored=False)
    history.depart(known[7], at(61))
    del reader.members[known[7]]
    history.fail("500000000000", at(70), code="WRONG_ORGANIZATION")
    history.act(at(56), "pause", reason="the payments team needs until Friday, CHG-5001", results={"paused": 1})
    _sweeps(history, known, new, sweeps_a_day)
    return history


def _sweeps(history: History, known: Sequence[str], new: Sequence[str], a_day: int) -> None:
    lacking = {number: [(known[4], POLICIES[0], "DRIFTED")] for number in range(55, 59)}
    for number in range(1, 93):
        if number in {20, 21}:
            continue
        for part in range(a_day):
            when = at(number, 1 + part * 24 / a_day)
            there = len(known) + sum(at(1 + each * 88 / len(new), 9) < when for each in range(len(new)))
            gaps = lacking.get(number, []) if part or number > 55 else []
            history.sweep(
                when,
                members=there - (when > at(61)),
                gaps=gaps,
                is_first=number == 1 and part == 0,
                appeared=known if number == 1 and part == 0 else (),
            )
            history.rehearse(when, 2.5 + number % 4)


def period(first: date = date(2026, 7, 1), last: date = date(2026, 9, 30)) -> tuple[str, ...]:
    """Return the options that choose a period."""
    return "--from", f"{first}", "--to", f"{last}"


def _as_in_the_row(recorded: RecordedPolicy) -> PolicyOutcome:
    why = recorded.fault
    fault = Fault(code=why.code, message=why.message or "AWS's own words", reason=why.reason) if why else None
    return PolicyOutcome(
        policy_id=recorded.policy_id, result=recorded.result, fault=fault, exceptions=recorded.exceptions or ()
    )
