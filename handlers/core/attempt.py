"""One attempt at one event.

The order of writes is the invariant: intent, effect, evidence, outcome, success. A crash between any
two of them leaves a row from which the next attempt repairs what is missing:

    crash after   the row shows               the next attempt
    intent        intent, lease run out       finds nothing attached; evidence says `interrupted`
    effect        intent, lease run out       finds it attached; evidence says that the change was ours
    evidence      intent, lease run out       its evidence is there already and is not written twice
    outcome       the outcome                 is not begun where the outcome is final

A call that fails without an answer may have taken effect all the same. Its policy is marked as unclear in
the row before the evidence calls it failed; the next attempt that finds it attached claims it.
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
from handlers.core.ports import Archive, Attempt, Clock, Directory, Ledger, Message, Pace, Pseudonyms, Settlement
from handlers.core.timing import Turn, retry
from schemas.events import Join, NoJoin
from schemas.evidence import Evidence
from schemas.ids import AccountId, OrganizationId, PolicyId
from schemas.outcome import AttachmentResult, Fault, OutcomeStatus, PolicyOutcome

T = TypeVar("T")

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


@dataclass(frozen=True)
class _Run:
    tools: Tools
    event: Join | NoJoin
    message: Message
    attempt: Attempt
    turn: Turn
    #: Attempts whose evidence is known to exist.
    proven: set[int] = field(default_factory=set)
    #: What this attempt set out to attach.
    intended: list[PolicyId] = field(default_factory=list)
    #: The faults of calls that Organizations put off.
    put_off: list[Fault] = field(default_factory=list)

    def settle(self) -> Settlement:
        """Decide, prove, write."""
        decision = self._decide()
        key, fresh = None, True
        try:
            if _is_worth_evidence(decision):
                if decision.unclear:
                    # Before the evidence, which cannot be mended: it is the next attempt that finds out.
                    self._intend(self.intended, unclear=decision.unclear)
                key, fresh = self._prove(self.attempt.number, decision)
            self.proven.add(self.attempt.number)
        except RetryableError as error:
            # The intent stays in the row, so that the next attempt writes the evidence that is missing.
            fresh = False
            decision = replace(decision, status=OutcomeStatus.RETRYING, fault=error.fault)
        settlement = replace(decision, evidence_key=key, proven=frozenset(self.proven), put_off=len(self.put_off))
        if not self.tools.ledger.settle(self.event, self.attempt.number, settlement, now=self.tools.clock.now()):
            self._superseded(decision, fresh=fresh)
        return settlement

    def _decide(self) -> Settlement:
        if isinstance(self.event, NoJoin):
            return Settlement(OutcomeStatus.IGNORED, fault=fault("NOT_A_JOIN", self.event.reason))
        try:
            self._admit(self.event)
            return self._attach_missing(self.event)
        except PermanentError as error:
            status, why = OutcomeStatus.FAILED, error.fault
        except RetryableError as error:
            status, why = OutcomeStatus.RETRYING, error.fault
        # Nothing was attached, nor found out about what an earlier attempt left unclear.
        return Settlement(status, fault=why, unclear=self.attempt.unclear)

    def _admit(self, join: Join) -> None:
        """Refuse what must never be attached to."""
        if join.organization_id not in {None, self.tools.organization_id}:
            message = "the event is about another organization; nothing was attached. Find out who put it on the queue"
            raise PermanentError(fault("WRONG_ORGANIZATION", message))
        if join.account_id == self.tools.management_account_id:
            message = "the event names the management account, which no SCP binds; nothing was attached"
            raise PermanentError(fault("MANAGEMENT_ACCOUNT", message))

    def _attach_missing(self, join: Join) -> Settlement:
        """Attach what is missing, one result for each policy; a failing one never keeps another from its try."""
        tools = self.tools
        attached = self._call(lambda: tools.directory.attached_policies(join.account_id), shares=1)
        self._prove_interrupted(attached)
        missing = [policy_id for policy_id in tools.policy_ids if policy_id not in attached]
        ours = self.attempt.unclear & attached
        if missing or ours:
            self._intend([*missing, *sorted(ours)])
        results: dict[PolicyId, AttachmentResult | JoinguardError] = dict.fromkeys(ours, AttachmentResult.ATTACHED)
        for waiting, policy_id in zip(range(len(missing), 0, -1), missing, strict=True):
            try:
                results[policy_id] = self._attach(policy_id, join.account_id, shares=waiting)
            except (PermanentError, RetryableError) as error:
                results[policy_id] = error
        return _verdict([(p, results.get(p, AttachmentResult.ALREADY_ATTACHED)) for p in tools.policy_ids])

    def _intend(self, policies: Sequence[PolicyId], *, unclear: Collection[PolicyId] = ()) -> None:
        """Write down what this attempt is about to attach, and what of it has an unclear effect."""
        self.tools.ledger.intend(self.event, self.attempt.number, policies, unclear=unclear)
        self.intended[:] = policies

    def _attach(self, policy_id: PolicyId, account_id: AccountId, *, shares: int) -> AttachmentResult:
        """Attach one policy; what is found attached after a failure of unclear effect was attached by us."""
        unclear = policy_id in self.attempt.unclear

        def attach() -> AttachmentResult:
            nonlocal unclear
            self._await_turn()
            try:
                result = self.tools.directory.attach(policy_id, account_id)
            except RetryableError as error:
                unclear = error.unclear = unclear or error.unclear
                raise
            return AttachmentResult.ATTACHED if unclear else result

        return self._call(attach, shares=shares)

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
            if tools.clock.now() - self.event.event_time < YOUNG:
                raise RetryableError(error.fault) from error
            raise

    def _prove_interrupted(self, attached: Collection[PolicyId]) -> None:
        """Write the evidence that attempts which died still owe, from what they intended and what is there.

        What they left unclear is not claimed for them: this attempt claims it.
        """
        theirs = set(attached) - self.attempt.unclear
        for number, intended in self.attempt.interrupted.items():
            died = fault("INTERRUPTED", "the attempt ended before this policy was attached, or before that was known")
            found = [
                PolicyOutcome(policy_id=policy_id, result=AttachmentResult.ATTACHED)
                if policy_id in theirs
                else PolicyOutcome(policy_id=policy_id, result=AttachmentResult.FAILED, fault=died)
                for policy_id in intended
            ]
            settlement = Settlement(OutcomeStatus.RETRYING, tuple(found), fault("INTERRUPTED", "the attempt died"))
            self._prove(number, settlement, course="interrupted")
            self.proven.add(number)

    def _prove(
        self, number: int, settlement: Settlement, *, course: Literal["completed", "interrupted", "late"] = "completed"
    ) -> tuple[str, bool]:
        """Write an attempt's evidence once; return its key and whether this call wrote it."""
        event, tools = self.event, self.tools
        evidence = Evidence(
            event_id=event.event_id,
            event_name=event.event_name,
            event_time=event.event_time,
            source=event.source,
            body_sha256=sha256(self.message.body.encode()).hexdigest(),
            account=tools.pseudonyms.of(event.account_id) if isinstance(event, Join) else None,
            organization_id=tools.organization_id,
            attempt=number,
            course=course,
            status=settlement.status,
            required=tools.policy_ids if isinstance(event, Join) else (),
            policies=settlement.policies,
            fault=settlement.fault,
            recorded_at=tools.clock.now(),
        )
        key = evidence_key(evidence)
        return key, tools.archive.record(key, evidence)

    def _superseded(self, decision: Settlement, *, fresh: bool) -> NoReturn:
        """Leave the outcome to the attempt that took over, but not without evidence of what this one changed.

        Only a worker that outlives its lease (a clock that is far off) comes here. The other then wrote
        this attempt's evidence from the intent, perhaps before the last change.
        """
        if not fresh:
            self._prove(self.attempt.number, decision, course="late")
        raise AttemptInProgressError(fault("SUPERSEDED", "a later attempt at this event took over"))


def evidence_key(evidence: Evidence) -> str:
    """Return where an attempt's evidence lies: by the day of the event (UTC), the event, the attempt."""
    late = "-late" if evidence.course == "late" else ""
    return f"evidence/{evidence.event_time:%Y/%m/%d}/{evidence.event_id}/{evidence.attempt:04d}{late}.json"


def _verdict(results: Sequence[tuple[PolicyId, AttachmentResult | JoinguardError]]) -> Settlement:
    """Sum the policies up: one passing failure brings the event back, else one lasting failure fails it."""
    outcomes, errors = [], []
    for policy_id, result in results:
        if isinstance(result, JoinguardError):
            errors.append((policy_id, result))
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=AttachmentResult.FAILED, fault=result.fault))
        else:
            outcomes.append(PolicyOutcome(policy_id=policy_id, result=result))
    if not errors:
        return Settlement(OutcomeStatus.ENFORCED, tuple(outcomes))
    passing = [(policy_id, error) for policy_id, error in errors if isinstance(error, RetryableError)]
    policy_id, first = (passing or errors)[0]
    others = f" (and {len(errors) - 1} more of {len(results)} policies)" if len(errors) > 1 else ""
    why = fault(first.fault.code, f"{policy_id}: {first.fault.message}{others}", first.fault.reason)
    status = OutcomeStatus.RETRYING if passing else OutcomeStatus.FAILED
    unclear = frozenset(policy_id for policy_id, error in passing if error.unclear)
    return Settlement(status, tuple(outcomes), why, unclear=unclear)


def _is_worth_evidence(settlement: Settlement) -> bool:
    """Leave no object of an attempt that changed nothing and only has to be repeated."""
    changed = any(policy.result is AttachmentResult.ATTACHED for policy in settlement.policies)
    return changed or settlement.status is not OutcomeStatus.RETRYING
