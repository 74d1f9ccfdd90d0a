"""One attempt at one event: decide, write evidence, record the outcome. What all events have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Final, Literal, NoReturn, TypeAlias, TypeVar

from handlers.core.errors import (
    AccountNotFoundError,
    AttemptInProgressError,
    NotYetEffectiveError,
    OutOfTimeError,
    PermanentError,
    RetryableError,
    fault,
)
from handlers.core.evidence.ports import EvidenceWriter, PrincipalPseudonyms
from handlers.core.evidence.references import event_reference
from handlers.core.guardrails.evaluate import Decision, Requirements
from handlers.core.joins.ports import Attempt, Ledger, Message, Organizations, Pace, Settlement
from handlers.core.ports import Clock, Pseudonyms
from handlers.core.timing import TimeSlice, retry
from schemas.events import AccountEvent, Event, Join, NoJoin, PolicyChange
from schemas.evidence import Evidence, RecordedDeparture, RecordedFault, RecordedPolicy
from schemas.ids import PolicyId, Sha256
from schemas.keys import evidence_key, key_beside
from schemas.outcome import AttachmentResult, Called, Claim, Departed, Fault, OutcomeStatus, PolicyOutcome

T = TypeVar("T")
Course: TypeAlias = Literal["completed", "interrupted", "late"]

#: How long after a join Organizations may not find the account.
RECENT: Final = timedelta(minutes=30)
#: The number of receives in which a missing permission, policy or former member, or a stale fact, is retried: 105 to
#: 210 s with the backoff.
FIRST_RECEIVES: Final = 3


@dataclass(frozen=True)
class Dependencies:
    """What an attempt depends on."""

    organizations: Organizations
    ledger: Ledger
    archive: EvidenceWriter
    pseudonyms: PrincipalPseudonyms
    pace: Pace
    clock: Clock
    rng: Random = field(default_factory=Random)


@dataclass
class Run(ABC):
    """Decide what an event requires and do it, write the evidence of that, and record the outcome."""

    requirements: Requirements
    dependencies: Dependencies
    event: Event
    message: Message
    attempt: Attempt
    time_slice: TimeSlice
    #: When this attempt began.
    begun_at: datetime = field(init=False)
    #: Policies that this attempt or an earlier one may have changed although the call failed.
    ambiguous: set[PolicyId] = field(init=False)
    #: The policies that this attempt is about to change.
    intended: tuple[PolicyId, ...] = field(default=(), init=False)
    #: Attempts whose evidence is written.
    proven: set[int] = field(default_factory=set, init=False)
    #: The faults of Organizations calls that failed and may be tried again.
    retried_faults: list[Fault] = field(default_factory=list, init=False)
    #: Evidence keys that held another object.
    conflicts: list[str] = field(default_factory=list, init=False)
    #: The approved plan that a change of this attempt is part of.
    approved_plan: Sha256 | None = field(default=None, init=False)
    #: What the guardrails say about the account, as far as its facts are known.
    decision: Decision | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Start with the policies that earlier attempts left ambiguous."""
        self.ambiguous = set(self.attempt.ambiguous)
        self.begun_at = self.dependencies.clock.now()

    def run(self) -> Settlement:
        """Decide, write evidence, record the outcome.

        Raises RetryableError if the outcome could not be written or a later attempt has begun.
        """
        decision = self._decide()
        written, requested = None, tuple[PolicyOutcome, ...]()
        try:
            if _needs_evidence(decision):
                written = self._write_evidence(decision)
            requested = self._follow_up(decision)
            self.proven.add(self.attempt.number)
            claims = self._claims(decision)
        except RetryableError as error:
            # All intents stay in the row, so that the next attempt writes the evidence or sends the request.
            decision = replace(decision, status=OutcomeStatus.RETRYING, fault=error.fault, departed=None, restored=0)
            self.proven.clear()
            claims = self.attempt.claims
        key, digest = written or (None, None)
        settlement = replace(
            decision,
            policies=(*decision.policies, *requested),
            evidence_key=key,
            evidence_sha256=digest,
            proven=frozenset(self.proven),
            ambiguous=frozenset(self.ambiguous),
            retried_calls=len(self.retried_faults),
            guardrails=self.decision.sha256 if self.decision else None,
            conflicts=tuple(self.conflicts),
            claims=claims,
        )
        ledger, clock = self.dependencies.ledger, self.dependencies.clock
        if not ledger.settle(self.event, self.attempt.number, settlement, now=clock.now()):
            self._superseded(decision, proven=written is not None)
        return settlement

    def _decide(self) -> Settlement:
        called = None
        try:
            called = self._called()
            return replace(self._handle(), called=called)
        except RetryableError as error:
            return Settlement(OutcomeStatus.RETRYING, fault=error.fault, called=called)

    def _called(self) -> Called | None:
        """Return who detached or changed a policy; None if the event does not report that."""
        event, principal = self.event, self.dependencies.pseudonyms.principal
        if isinstance(event, PolicyChange):
            by = principal(event.caller) if event.caller else None
            return Called(principal=by, policy_id=event.policy_id, policy_type=event.policy_type)
        if isinstance(event, Join) and event.change.detached:
            return Called(principal=principal(event.caller) if event.caller else None, policy_id=event.change.detached)
        return None

    @abstractmethod
    def _handle(self) -> Settlement:
        """Do what the event requires and return the result; raise RetryableError if it has to be tried again."""

    def _follow_up(self, decision: Settlement) -> tuple[PolicyOutcome, ...]:  # noqa: ARG002 - for those that request something
        """Request what another worker has to do after this attempt, and return what the outcome says about that.

        Evidence does not say it, because it is written before. Raises RetryableError if the request fails.
        """
        return ()

    def _claims(self, settlement: Settlement) -> Mapping[PolicyId, Claim]:  # noqa: ARG002 - for those that change policies
        """Return what the row holds of the changes that our evidence claims."""
        return self.attempt.claims

    def _check_target(self, event: AccountEvent) -> None:
        """Raise PermanentError for an account that is not a member account of the organization."""
        if event.organization_id not in {None, self.requirements.organization_id}:
            why = "the event is about another organization; nothing was attached. Find out who put it on the queue"
            raise PermanentError(fault("WRONG_ORGANIZATION", why))
        if event.account_id == self.requirements.management_account_id:
            why = "the event names the management account, which SCPs do not affect; nothing was attached"
            raise PermanentError(fault("MANAGEMENT_ACCOUNT", why))

    def _call(self, call: Callable[[], T], *, remaining_calls: int) -> T:
        """Call Organizations, and retry the call within its share of the time left."""
        dependencies, now = self.dependencies, self.dependencies.clock.now()

        def counted() -> T:
            try:
                return call()
            except RetryableError as error:
                if not isinstance(error, OutOfTimeError):
                    self.retried_faults.append(error.fault)
                raise

        deadline = now + (self.time_slice.deadline - now) / remaining_calls
        try:
            return retry(counted, deadline=deadline, clock=dependencies.clock, rng=dependencies.rng)
        except (AccountNotFoundError, NotYetEffectiveError) as error:
            if self._may_pass(error):
                raise RetryableError(error.fault, cause=error.cause) from error
            raise

    def _may_pass(self, error: AccountNotFoundError | NotYetEffectiveError) -> bool:
        """Return whether AWS may answer otherwise soon, although nobody corrects anything."""
        return isinstance(error, NotYetEffectiveError) and self.message.receives <= FIRST_RECEIVES

    def _write_evidence(self, settlement: Settlement) -> tuple[str, Sha256]:
        """Write this attempt's evidence, announced in the row if it changed anything; return its key and SHA-256."""
        evidence = self._evidence(self.attempt.number, settlement, "completed")
        if self.intended:
            self._announce(evidence)
        return self._record(evidence)

    def _announce(self, evidence: Evidence) -> None:
        """Record the evidence's SHA-256 before writing it, so that the next attempt recognizes it as ours."""
        self.dependencies.ledger.announce(
            self.event, self.attempt.number, evidence.attempt, _sha256(evidence), ambiguous=self.ambiguous
        )

    def _record(self, evidence: Evidence) -> tuple[str, Sha256]:
        """Write evidence once; return the key and SHA-256 of the evidence that the outcome refers to.

        An object that the key already holds stays. Unless it was announced for this attempt, that is a conflict, and
        the evidence is written beside it.
        """
        key, wanted = evidence_key(evidence), _sha256(evidence)
        found = self.dependencies.archive.record(key, _bytes(evidence))
        if found in {wanted, *self.attempt.announced.get(evidence.attempt, ())}:
            return key, found
        self.conflicts.append(key)
        beside = key_beside(key, wanted)
        if self.dependencies.archive.record(beside, _bytes(evidence)) != wanted:
            raise RetryableError(fault("EVIDENCE_CONFLICT", "the evidence's key and the one beside it are both taken"))
        return beside, wanted

    def _evidence(self, number: int, settlement: Settlement, course: Course) -> Evidence:
        event, dependencies = self.event, self.dependencies
        account_id = event.account_id if isinstance(event, AccountEvent) else None
        departed = settlement.departed
        required = self.decision.required if self.decision else ()
        return Evidence(
            event_id=event_reference(event.event_id, dependencies.pseudonyms.digest),
            event_name=event.event_name,
            event_time=self.attempt.event_time,
            event_time_from=event.event_time_from,
            source=event.source,
            body_digest=dependencies.pseudonyms.digest("body", self.message.body),
            account=dependencies.pseudonyms.of(account_id) if account_id else None,
            organization_id=self.requirements.organization_id,
            attempt=number,
            course=course,
            status=settlement.status,
            guardrails=self.decision.sha256 if self.decision else None,
            approved_plan=None if course == "interrupted" else self.approved_plan,
            required=() if course == "interrupted" else required,
            policies=tuple(map(RecordedPolicy.of, settlement.policies)),
            departure=_recorded(departed, dependencies.pseudonyms) if departed else None,
            called=settlement.called,
            fault=RecordedFault.of(settlement.fault),
            recorded_at=dependencies.clock.now(),
        )

    def _superseded(self, decision: Settlement, *, proven: bool) -> NoReturn:
        """Leave the outcome to the later attempt, and write the evidence of this attempt's own changes.

        This happens only if a worker runs longer than its lease, which takes a wrong clock. The later attempt has then
        written this attempt's evidence from its intent, perhaps before this attempt's last change.
        """
        if not proven and _needs_evidence(decision):
            self._record(self._evidence(self.attempt.number, decision, "late"))
        raise AttemptInProgressError(fault("SUPERSEDED", "a later attempt at this event has begun"))


@dataclass
class IgnoreRun(Run):
    """Record that an event requires nothing, and why."""

    event: NoJoin

    def _handle(self) -> Settlement:
        return Settlement(OutcomeStatus.IGNORED, fault=fault("NOT_A_JOIN", self.event.reason))


def _recorded(departed: Departed, pseudonyms: Pseudonyms) -> RecordedDeparture:
    reference = event_reference(departed.event_id, pseudonyms.digest)
    return RecordedDeparture(cause=departed.cause, left_at=departed.left_at, event_id=reference)


def _bytes(evidence: Evidence) -> bytes:
    return evidence.model_dump_json(exclude_none=True).encode()


def _sha256(evidence: Evidence) -> Sha256:
    return sha256(_bytes(evidence)).hexdigest()


def _needs_evidence(settlement: Settlement) -> bool:
    """Return False for an attempt that certainly changed nothing and is tried again."""
    changed = {AttachmentResult.ATTACHED, AttachmentResult.REMOVED, AttachmentResult.UNKNOWN}
    is_changed = any(each.result in changed for each in settlement.policies)
    return is_changed or settlement.status is not OutcomeStatus.RETRYING
