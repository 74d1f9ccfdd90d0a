"""One attempt at one event: what attaching and removing have in common.

The order of writes is the invariant: intent, effect, announcement, evidence, outcome, success. After a crash between
any two of them, the row holds what the next attempt needs to write what is missing:

    crash after    the row holds               the next attempt
    intent         intent, lease expired       finds nothing changed; evidence `interrupted`, effect unknown
    effect         intent, lease expired       finds it changed; evidence `interrupted` says that the change was ours
    announcement   SHA-256 of the evidence     writes evidence `interrupted` under the same key, as after effect
    evidence       SHA-256 of the evidence     finds that very evidence, and writes none
    outcome        the outcome                 does not begin if the outcome is final

A call that fails without an answer may have taken effect: its policy is ambiguous. The row records this before the
evidence does, and keeps it until a later call or read shows whether the policy is attached. The attempt that finds the
effect records it as ours. If a read fails permanently, the policies that earlier attempts intended to change are
ambiguous too.

With the outcome, the row gets the claims: the policies that our evidence says we changed, so that only what Joinguard
attached is ever removed.

If an evidence key holds another object than the evidence to be written there, the evidence is written beside it, and
the settlement holds the conflict.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import ClassVar, Final, Literal, NoReturn, TypeAlias, TypeVar

from handlers.core.errors import (
    AccountNotFoundError,
    AttemptInProgressError,
    JoinguardError,
    NotYetEffectiveError,
    OutOfTimeError,
    PermanentError,
    RetryableError,
    fault,
)
from handlers.core.evidence.ports import EvidenceWriter
from handlers.core.evidence.references import event_reference
from handlers.core.guardrails.evaluate import Decision, Requirements
from handlers.core.guardrails.facts import Facts
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.reading import Informed, decide
from handlers.core.joins.claims import Changed, claims_of
from handlers.core.joins.ports import Attempt, Ledger, Message, Organizations, Pace, Settlement
from handlers.core.ports import Clock, Pseudonyms
from handlers.core.timing import TimeSlice, retry
from schemas.compiled_guardrails import PolicyType
from schemas.events import Join, NoJoin
from schemas.evidence import Evidence, RecordedFault, RecordedPolicy
from schemas.ids import AccountId, PolicyId, Sha256
from schemas.keys import evidence_key, key_beside
from schemas.outcome import AttachmentResult, Claim, Fault, OutcomeStatus, PolicyOutcome

T = TypeVar("T")
Course: TypeAlias = Literal["completed", "interrupted", "late"]
#: A fault stands for a policy that is kept because of it.
Result: TypeAlias = AttachmentResult | Fault | JoinguardError

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
    pseudonyms: Pseudonyms
    pace: Pace
    clock: Clock
    rng: Random = field(default_factory=Random)


@dataclass
class AttemptRun(ABC):
    """Change the policies of the account, write the evidence of it, and record the outcome."""

    #: The result of a policy that an attempt changed.
    CHANGED: ClassVar[Changed]

    requirements: Requirements
    dependencies: Dependencies
    event: Join | NoJoin
    message: Message
    attempt: Attempt
    time_slice: TimeSlice
    #: When this attempt began.
    begun_at: datetime = field(init=False)
    #: Policies that this attempt or an earlier one may have changed although the call failed.
    ambiguous: set[PolicyId] = field(init=False)
    #: Policies that earlier attempts changed, according to the evidence that this attempt wrote about them.
    changed_before: set[PolicyId] = field(default_factory=set, init=False)
    #: Attempts whose evidence is written.
    proven: set[int] = field(default_factory=set, init=False)
    #: The policies that this attempt is about to change.
    intended: tuple[PolicyId, ...] = field(default=(), init=False)
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
            decision = replace(decision, status=OutcomeStatus.RETRYING, fault=error.fault)
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
        if isinstance(self.event, NoJoin):
            return Settlement(OutcomeStatus.IGNORED, fault=fault("NOT_A_JOIN", self.event.reason))
        try:
            return self._decide_on(self.event)
        except RetryableError as error:
            return Settlement(OutcomeStatus.RETRYING, fault=error.fault)

    def _decide_on(self, join: Join) -> Settlement:
        try:
            self._check_target(join)
            guardrails = self.requirements.guardrails
            self.decision = guardrails.evaluate(Facts(join.account_id), self.dependencies.clock.now())
            attached = [policy for each in guardrails.policy_types for policy in self._attached(join.account_id, each)]
        except PermanentError as error:
            # Nothing shows what earlier attempts did. Their policies stay ambiguous until a later read succeeds.
            self._write_interrupted_evidence(frozenset())
            return self._not_read(error)
        carried = frozenset(each.id for each in attached)
        self._write_interrupted_evidence(self._done(self._intended_before(), carried))
        return self._carry_out(join, attached)

    @abstractmethod
    def _carry_out(self, join: Join, attached: Sequence[AttachedPolicy]) -> Settlement:
        """Make the changes that an account with these policies needs; return the result of each policy."""

    def _not_read(self, error: PermanentError) -> Settlement:
        """Return the result if the account's policies cannot be read."""
        return Settlement(OutcomeStatus.FAILED, fault=error.fault)

    @abstractmethod
    def _done(self, policies: Collection[PolicyId], carried: Collection[PolicyId]) -> frozenset[PolicyId]:
        """Return those of some policies that are as this attempt's changes leave them, if an account carries these."""

    @abstractmethod
    def _changed_at(self, policy_id: PolicyId) -> datetime:
        """Return the moment of a change for its claim."""

    @abstractmethod
    def _follow_up(self, decision: Settlement) -> tuple[PolicyOutcome, ...]:
        """Request what another worker has to do after this attempt, and return what the outcome says about that.

        Evidence does not say it, because it is written before. Raises RetryableError if the request fails.
        """

    def _attached(self, account_id: AccountId, policy_type: PolicyType) -> Sequence[AttachedPolicy]:
        """Read the policies of one type: with all types in one try, each throttle would repeat the calls before it."""
        organizations = self.dependencies.organizations
        return self._call(lambda: organizations.attached_policies(account_id, (policy_type,)), remaining_calls=1)

    def _check_target(self, join: Join) -> None:
        """Raise PermanentError for an account that nothing may be attached to."""
        if join.organization_id not in {None, self.requirements.organization_id}:
            why = "the event is about another organization; nothing was attached. Find out who put it on the queue"
            raise PermanentError(fault("WRONG_ORGANIZATION", why))
        if join.account_id == self.requirements.management_account_id:
            why = "the event names the management account, which SCPs do not affect; nothing was attached"
            raise PermanentError(fault("MANAGEMENT_ACCOUNT", why))

    def _informed(self, join: Join) -> Informed:
        """Return what the guardrails say, with the facts that they need."""
        dependencies = self.dependencies
        informed = decide(
            self.requirements.guardrails,
            join.account_id,
            dependencies.clock.now(),
            dependencies.organizations,
            lambda read: self._read_fact(join, read),
        )
        self.decision = informed.decision
        return informed

    def _read_fact(self, join: Join, read: Callable[[], Facts]) -> Facts:
        """Read facts; raise RetryableError if they do not show yet what the event reports.

        An account that was changed again never shows it, so the facts count after the first receives.
        """
        facts = self._call(read, remaining_calls=1)
        if self.message.receives <= FIRST_RECEIVES and facts.contradict(join.change):
            why = "AWS does not return the account's OU or tags as the event reports them; they are read again"
            raise RetryableError(fault("FACTS_STALE", why))
        return facts

    def _intend(self, policies: tuple[PolicyId, ...], *, ambiguous: set[PolicyId]) -> None:
        """Record the policies that this attempt is about to change or found changed, and the ambiguous ones."""
        self.dependencies.ledger.intend(self.event, self.attempt.number, policies, ambiguous=ambiguous)
        self.intended, self.ambiguous = policies, ambiguous

    def _change(
        self, policies: Sequence[PolicyId], call: Callable[[PolicyId], AttachmentResult]
    ) -> dict[PolicyId, Result]:
        """Change each policy by a call, whether or not others fail."""
        results: dict[PolicyId, Result] = {}
        for left, policy_id in zip(range(len(policies), 0, -1), policies, strict=True):
            try:
                results[policy_id] = self._change_one(policy_id, call, remaining_calls=left)
            except (PermanentError, RetryableError) as error:
                results[policy_id] = error
        return results

    def _change_one(
        self, policy_id: PolicyId, call: Callable[[PolicyId], AttachmentResult], *, remaining_calls: int
    ) -> AttachmentResult:
        """Change one policy. If the change is there after an ambiguous failure, that call made it."""

        def change() -> AttachmentResult:
            self._await_turn()
            try:
                return call(policy_id)
            except RetryableError as error:
                if error.ambiguous:
                    self.ambiguous.add(policy_id)
                raise

        result = self._call(change, remaining_calls=remaining_calls)
        if policy_id in self.ambiguous:
            self.ambiguous.remove(policy_id)
            return self.CHANGED
        return result

    def _await_turn(self) -> None:
        """Wait for the moment that the pace reserves; raise OutOfTimeError if that is after the deadline."""
        clock = self.dependencies.clock
        begin = self.dependencies.pace.reserve(clock.now())
        if begin > self.time_slice.deadline:
            raise OutOfTimeError(fault("OUT_OF_TIME", "other changes take the time left for this record"))
        clock.sleep(max(0.0, (begin - clock.now()).total_seconds()))

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
        # An account that was moved, tagged or evaluated was a member then: if it is not found, it has left.
        was_member = isinstance(self.event, Join) and self.event.cause in {"moved", "tagged", "removal"}
        if was_member or isinstance(error, NotYetEffectiveError):
            return self.message.receives <= FIRST_RECEIVES
        return abs(self.dependencies.clock.now() - self.attempt.event_time) < RECENT

    def _intended_before(self) -> set[PolicyId]:
        return {policy_id for intended in self.attempt.interrupted.values() for policy_id in intended}

    def _write_interrupted_evidence(self, done: frozenset[PolicyId]) -> None:
        """Write the evidence of earlier attempts that crashed, from their intents and from what is done of them.

        Their ambiguous policies are recorded as this attempt's changes. If a policy is not changed, the call may still
        take effect, or somebody undid it: its result is UNKNOWN, and it is ambiguous.
        """
        theirs = done - self.ambiguous
        self.ambiguous |= self._intended_before() - done
        for number, intended in self.attempt.interrupted.items():
            evidence = self._evidence(number, _interrupted(intended, theirs, self.CHANGED), "interrupted")
            self._announce(evidence)
            self._record(evidence)
            self.proven.add(number)
            self.changed_before |= theirs.intersection(intended)

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
        join = event if isinstance(event, Join) else None
        required = self.decision.required if self.decision else ()
        return Evidence(
            event_id=event_reference(event.event_id, dependencies.pseudonyms.digest),
            event_name=event.event_name,
            event_time=self.attempt.event_time,
            event_time_from=event.event_time_from,
            source=event.source,
            body_digest=dependencies.pseudonyms.digest("body", self.message.body),
            account=dependencies.pseudonyms.of(join.account_id) if join else None,
            organization_id=self.requirements.organization_id,
            attempt=number,
            course=course,
            status=settlement.status,
            guardrails=self.decision.sha256 if self.decision else None,
            approved_plan=None if course == "interrupted" else self.approved_plan,
            required=() if course == "interrupted" else required,
            policies=tuple(map(RecordedPolicy.of, settlement.policies)),
            fault=RecordedFault.of(settlement.fault),
            recorded_at=dependencies.clock.now(),
        )

    def _claims(self, settlement: Settlement) -> Mapping[PolicyId, Claim]:
        """Return what the row holds of the changes that our evidence claims."""
        if not isinstance(self.event, Join):
            return self.attempt.claims
        changed = {each.policy_id for each in settlement.policies if each.result is self.CHANGED}
        pseudonyms = self.dependencies.pseudonyms
        changed_at = {each: self._changed_at(each) for each in self.changed_before | changed}
        made = claims_of(self.event.account_id, changed_at, self.CHANGED, pseudonyms)
        return {**self.attempt.claims, **made}

    def _superseded(self, decision: Settlement, *, proven: bool) -> NoReturn:
        """Leave the outcome to the later attempt, and write the evidence of this attempt's own changes.

        This happens only if a worker runs longer than its lease, which takes a wrong clock. The later attempt has then
        written this attempt's evidence from its intent, perhaps before this attempt's last change.
        """
        if not proven and _needs_evidence(decision):
            self._record(self._evidence(self.attempt.number, decision, "late"))
        raise AttemptInProgressError(fault("SUPERSEDED", "a later attempt at this event has begun"))


def _bytes(evidence: Evidence) -> bytes:
    return evidence.model_dump_json(exclude_none=True).encode()


def _sha256(evidence: Evidence) -> Sha256:
    return sha256(_bytes(evidence)).hexdigest()


def _interrupted(intended: Sequence[PolicyId], changed: Collection[PolicyId], result: AttachmentResult) -> Settlement:
    """Return the result of an attempt that crashed, as far as the account's policies show it."""
    why = fault("INTERRUPTED", "the attempt ended before it recorded the answer about this policy")
    found = [
        PolicyOutcome(policy_id=policy_id, result=result)
        if policy_id in changed
        else PolicyOutcome(policy_id=policy_id, result=AttachmentResult.UNKNOWN, fault=why)
        for policy_id in intended
    ]
    return Settlement(OutcomeStatus.RETRYING, tuple(found), fault("INTERRUPTED", "the attempt ended"))


def combined(results: Mapping[PolicyId, Result], ambiguous: Collection[PolicyId]) -> Settlement:
    """Combine the results: RETRYING if a policy failed transiently, otherwise FAILED if one failed permanently."""
    outcomes: list[PolicyOutcome] = []
    errors: list[tuple[PolicyId, JoinguardError]] = []
    for policy_id, result in results.items():
        if isinstance(result, JoinguardError):
            errors.append((policy_id, result))
            failed = AttachmentResult.UNKNOWN if policy_id in ambiguous else AttachmentResult.FAILED
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=failed, fault=result.fault))
        elif isinstance(result, Fault):
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=AttachmentResult.KEPT, fault=result))
        else:
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=result))
    if not errors:
        return Settlement(OutcomeStatus.ENFORCED, tuple(outcomes))
    transient = [(policy_id, error) for policy_id, error in errors if isinstance(error, RetryableError)]
    policy_id, first = (transient or errors)[0]
    others = f" (and {len(errors) - 1} more of {len(results)} policies)" if len(errors) > 1 else ""
    why = fault(first.fault.code, f"{policy_id}: {first.fault.message}{others}", first.fault.reason)
    return Settlement(OutcomeStatus.RETRYING if transient else OutcomeStatus.FAILED, tuple(outcomes), why)


def _needs_evidence(settlement: Settlement) -> bool:
    """Return False for an attempt that certainly changed nothing and is tried again."""
    changed = {AttachmentResult.ATTACHED, AttachmentResult.REMOVED, AttachmentResult.UNKNOWN}
    is_changed = any(each.result in changed for each in settlement.policies)
    return is_changed or settlement.status is not OutcomeStatus.RETRYING
