"""One attempt at one event.

The order of writes is the invariant: intent, effect, announcement, evidence, outcome, success. A crash between any
two of them leaves a row from which the next attempt repairs what is missing:

    crash after    the row shows               the next attempt
    intent         intent, lease run out       finds nothing attached; evidence `interrupted`, effect unknown
    effect         intent, lease run out       finds it attached; evidence `interrupted` says that the change was ours
    announcement   SHA-256 of the evidence     writes `interrupted` in its place, as after effect
    evidence       SHA-256 of the evidence     finds that very evidence, and writes none
    outcome        the outcome                 is not begun where the outcome is final

A call that fails without an answer may have taken effect all the same. Its policy is marked as unclear in the row
before the evidence says so, and stays marked until a later call or a later read tells; whoever finds it attached
claims it. Where a read fails for good, what earlier attempts intended is marked so too.

What lies under an evidence key is compared with what was to be written there. Where it is something else, the
evidence is written beside it, and the conflict is part of the settlement.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from random import Random
from typing import Final, Literal, NoReturn, TypeVar

from handlers.core.errors import (
    AccountNotFoundError,
    AttemptInProgressError,
    JoinguardError,
    OutOfTimeError,
    PermanentError,
    RetryableError,
    fault,
)
from handlers.core.evidence.references import reference
from handlers.core.ports import Archive, Attempt, Clock, Directory, Ledger, Message, Pace, Pseudonyms, Settlement
from handlers.core.timing import Turn, retry
from schemas.events import Join, NoJoin
from schemas.evidence import Evidence, RecordedFault, RecordedPolicy
from schemas.ids import AccountId, OrganizationId, PolicyId, Sha256
from schemas.keys import evidence_key, key_beside
from schemas.outcome import AttachmentResult, Fault, OutcomeStatus, PolicyOutcome

T = TypeVar("T")
Course = Literal["completed", "interrupted", "late"]
Result = AttachmentResult | JoinguardError

#: Organizations may not know an account for a while after it joined.
YOUNG: Final = timedelta(minutes=30)


@dataclass(frozen=True)
class Tools:
    """What an attempt works with."""

    #: The policies that an account must carry, in order of attachment.
    policy_ids: tuple[PolicyId, ...]
    organization_id: OrganizationId
    management_account_id: AccountId
    directory: Directory
    ledger: Ledger
    archive: Archive
    pseudonyms: Pseudonyms
    pace: Pace
    clock: Clock
    rng: Random = field(default_factory=Random)


def run_attempt(tools: Tools, event: Join | NoJoin, message: Message, attempt: Attempt, turn: Turn) -> Settlement:
    """Bring the account to carry its policies, prove what was done, and write down what is true now.

    Raises RetryableError where the outcome could not be written or a later attempt took over.
    """
    return _Run(tools, event, message, attempt, turn).settle()


@dataclass
class _Run:
    tools: Tools
    event: Join | NoJoin
    message: Message
    attempt: Attempt
    turn: Turn
    #: Policies whose attachment may have taken effect although no answer said so, by this attempt or an earlier one.
    unclear: set[PolicyId] = field(init=False)
    #: Attempts whose evidence is known to exist.
    proven: set[int] = field(default_factory=set, init=False)
    #: What this attempt set out to attach.
    intended: tuple[PolicyId, ...] = field(default=(), init=False)
    #: The faults of calls that Organizations put off.
    put_off: list[Fault] = field(default_factory=list, init=False)
    #: Evidence keys under which something else was found.
    conflicts: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.unclear = set(self.attempt.unclear)

    def settle(self) -> Settlement:
        """Decide, prove, write."""
        decision = self._decide()
        written = None
        try:
            if _is_worth_evidence(decision):
                written = self._prove(decision)
            self.proven.add(self.attempt.number)
        except RetryableError as error:
            # The intent stays in the row, so that the next attempt writes the evidence that is missing.
            decision = replace(decision, status=OutcomeStatus.RETRYING, fault=error.fault)
        key, digest = written or (None, None)
        settlement = replace(
            decision,
            evidence_key=key,
            evidence_sha256=digest,
            proven=frozenset(self.proven),
            unclear=frozenset(self.unclear),
            put_off=len(self.put_off),
            conflicts=tuple(self.conflicts),
        )
        if not self.tools.ledger.settle(self.event, self.attempt.number, settlement, now=self.tools.clock.now()):
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
            self._admit(join)
            attached = self._call(lambda: self.tools.directory.attached_policies(join.account_id), shares=1)
        except PermanentError as error:
            # Nobody can tell what earlier attempts did. The mark stays, for an attempt that may look again.
            self.unclear |= {policy_id for intended in self.attempt.interrupted.values() for policy_id in intended}
            self._prove_interrupted(())
            return Settlement(OutcomeStatus.FAILED, fault=error.fault)
        self._prove_interrupted(attached)
        return self._attach_missing(join, attached)

    def _admit(self, join: Join) -> None:
        """Refuse what must never be attached to."""
        if join.organization_id not in {None, self.tools.organization_id}:
            raise PermanentError(
                fault(
                    "WRONG_ORGANIZATION",
                    "the event is about another organization; nothing was attached. Find out who put it on the queue",
                )
            )
        if join.account_id == self.tools.management_account_id:
            raise PermanentError(
                fault(
                    "MANAGEMENT_ACCOUNT",
                    "the event names the management account, which no SCP binds; nothing was attached",
                )
            )

    def _attach_missing(self, join: Join, attached: Collection[PolicyId]) -> Settlement:
        """Attach what is missing, one result for each policy; a failing one never keeps another from its try."""
        required = self.tools.policy_ids
        missing = [policy_id for policy_id in required if policy_id not in attached]
        ours = self.unclear & set(attached)
        if missing or ours:
            self._intend((*missing, *sorted(ours)), unclear=self.unclear - ours)
        results: dict[PolicyId, Result] = dict.fromkeys(required, AttachmentResult.ALREADY_ATTACHED)
        results |= dict.fromkeys(sorted(ours), AttachmentResult.ATTACHED)
        for waiting, policy_id in zip(range(len(missing), 0, -1), missing, strict=True):
            try:
                results[policy_id] = self._attach(policy_id, join.account_id, shares=waiting)
            except (PermanentError, RetryableError) as error:
                results[policy_id] = error
        return _verdict(results, self.unclear)

    def _intend(self, policies: tuple[PolicyId, ...], *, unclear: set[PolicyId]) -> None:
        """Write down what this attempt is about to attach or to claim, and what stays unclear."""
        self.tools.ledger.intend(self.event, self.attempt.number, policies, unclear=unclear)
        self.intended, self.unclear = policies, unclear

    def _attach(self, policy_id: PolicyId, account_id: AccountId, *, shares: int) -> AttachmentResult:
        """Attach one policy; what is found attached after a failure of unclear effect was attached by us."""

        def attach() -> AttachmentResult:
            self._await_turn()
            try:
                return self.tools.directory.attach(policy_id, account_id)
            except RetryableError as error:
                if error.unclear:
                    self.unclear.add(policy_id)
                raise

        result = self._call(attach, shares=shares)
        if policy_id in self.unclear:
            self.unclear.remove(policy_id)
            return AttachmentResult.ATTACHED
        return result

    def _await_turn(self) -> None:
        """Wait for the moment that is kept for this attachment, unless the record's time is over before."""
        clock = self.tools.clock
        begin = self.tools.pace.reserve(clock.now())
        if begin > self.turn.deadline:
            raise OutOfTimeError(fault("OUT_OF_TIME", "others attach until the time of this record is over"))
        clock.sleep(max(0.0, (begin - clock.now()).total_seconds()))

    def _call(self, call: Callable[[], T], *, shares: int) -> T:
        """Call Organizations, trying again within a fair part of the record's time."""
        tools, now = self.tools, self.tools.clock.now()

        def counted() -> T:
            try:
                return call()
            except RetryableError as error:
                if not isinstance(error, OutOfTimeError):
                    self.put_off.append(error.fault)
                raise

        try:
            return retry(counted, deadline=now + (self.turn.deadline - now) / shares, clock=tools.clock, rng=tools.rng)
        except AccountNotFoundError as error:
            if abs(tools.clock.now() - self.attempt.event_time) < YOUNG:
                raise RetryableError(error.fault) from error
            raise

    def _prove_interrupted(self, attached: Collection[PolicyId]) -> None:
        """Write the evidence that attempts which died still owe, from what they intended and what is there.

        What they left unclear is not claimed for them: this attempt claims it. What is not there may be there
        later, or have been detached by others; so its effect is unknown, and it is marked.
        """
        theirs = set(attached) - self.unclear
        self.unclear |= {policy_id for each in self.attempt.interrupted.values() for policy_id in each} - set(attached)
        for number, intended in self.attempt.interrupted.items():
            evidence = self._evidence(number, _interrupted(intended, theirs), "interrupted")
            self._announce(evidence)
            self._record(evidence)
            self.proven.add(number)

    def _prove(self, settlement: Settlement) -> tuple[str, Sha256]:
        """Write this attempt's evidence, announced in the row where it is about changes; return key and SHA-256."""
        evidence = self._evidence(self.attempt.number, settlement, "completed")
        if self.intended:
            self._announce(evidence)
        return self._record(evidence)

    def _announce(self, evidence: Evidence) -> None:
        """Write down which evidence is ours, before it is written: the next attempt knows by that what it finds."""
        self.tools.ledger.announce(
            self.event, self.attempt.number, evidence.attempt, _sha256(evidence), unclear=self.unclear
        )

    def _record(self, evidence: Evidence) -> tuple[str, Sha256]:
        """Write evidence once; return where it lies and its SHA-256.

        What lies there already is left where it is. Unless it was announced for this attempt, that is a conflict,
        and the evidence is written beside it.
        """
        key, wanted = evidence_key(evidence), _sha256(evidence)
        found = self.tools.archive.record(key, _bytes(evidence))
        if found in {wanted, *self.attempt.announced.get(evidence.attempt, ())}:
            return key, found
        self.conflicts.append(key)
        beside = key_beside(key, wanted)
        if self.tools.archive.record(beside, _bytes(evidence)) != wanted:
            raise RetryableError(fault("EVIDENCE_CONFLICT", "the evidence's own key and the one beside it are taken"))
        return beside, wanted

    def _evidence(self, number: int, settlement: Settlement, course: Course) -> Evidence:
        event, tools = self.event, self.tools
        is_join = isinstance(event, Join)
        return Evidence(
            event_id=reference(event, tools.pseudonyms),
            event_name=event.event_name,
            event_time=self.attempt.event_time,
            event_time_from=event.event_time_from,
            source=event.source,
            body_digest=tools.pseudonyms.digest("body", self.message.body),
            account=tools.pseudonyms.of(event.account_id) if isinstance(event, Join) else None,
            organization_id=tools.organization_id,
            attempt=number,
            course=course,
            status=settlement.status,
            required=tools.policy_ids if is_join and course != "interrupted" else (),
            policies=tuple(map(RecordedPolicy.of, settlement.policies)),
            fault=RecordedFault.of(settlement.fault),
            recorded_at=tools.clock.now(),
        )

    def _superseded(self, decision: Settlement, *, proven: bool) -> NoReturn:
        """Leave the outcome to the attempt that took over, but not without evidence of what this one changed.

        Only a worker that outlives its lease (a clock that is far off) comes here. The other then wrote
        this attempt's evidence from the intent, perhaps before the last change.
        """
        if not proven and _is_worth_evidence(decision):
            self._record(self._evidence(self.attempt.number, decision, "late"))
        raise AttemptInProgressError(fault("SUPERSEDED", "a later attempt at this event took over"))


def _bytes(evidence: Evidence) -> bytes:
    return evidence.model_dump_json(exclude_none=True).encode()


def _sha256(evidence: Evidence) -> Sha256:
    return sha256(_bytes(evidence)).hexdigest()


def _interrupted(intended: Sequence[PolicyId], attached: Collection[PolicyId]) -> Settlement:
    """Return what an attempt that died came to, as far as what is attached tells."""
    why = fault("INTERRUPTED", "the attempt ended before the answer about this policy was on record")
    found = [
        PolicyOutcome(policy_id=policy_id, result=AttachmentResult.ATTACHED)
        if policy_id in attached
        else PolicyOutcome(policy_id=policy_id, result=AttachmentResult.UNKNOWN, fault=why)
        for policy_id in intended
    ]
    return Settlement(OutcomeStatus.RETRYING, tuple(found), fault("INTERRUPTED", "the attempt ended"))


def _verdict(results: dict[PolicyId, Result], unclear: Collection[PolicyId]) -> Settlement:
    """Sum the policies up: one passing failure brings the event back, else one lasting failure fails it."""
    outcomes: list[PolicyOutcome] = []
    errors: list[tuple[PolicyId, JoinguardError]] = []
    for policy_id, result in results.items():
        if isinstance(result, JoinguardError):
            errors.append((policy_id, result))
            failed = AttachmentResult.UNKNOWN if policy_id in unclear else AttachmentResult.FAILED
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=failed, fault=result.fault))
        else:
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=result))
    if not errors:
        return Settlement(OutcomeStatus.ENFORCED, tuple(outcomes))
    passing = [(policy_id, error) for policy_id, error in errors if isinstance(error, RetryableError)]
    policy_id, first = (passing or errors)[0]
    others = f" (and {len(errors) - 1} more of {len(results)} policies)" if len(errors) > 1 else ""
    why = fault(first.fault.code, f"{policy_id}: {first.fault.message}{others}", first.fault.reason)
    return Settlement(OutcomeStatus.RETRYING if passing else OutcomeStatus.FAILED, tuple(outcomes), why)


def _is_worth_evidence(settlement: Settlement) -> bool:
    """Leave no object of an attempt that changed nothing for sure and only has to be repeated."""
    changed = any(
        policy.result in {AttachmentResult.ATTACHED, AttachmentResult.UNKNOWN} for policy in settlement.policies
    )
    return changed or settlement.status is not OutcomeStatus.RETRYING
