"""One attempt to change the policies of an account: what attaching and removing have in common.

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

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, TypeAlias

from handlers.core.errors import (
    AccountNotFoundError,
    JoinguardError,
    NotYetEffectiveError,
    OutOfTimeError,
    PermanentError,
    RetryableError,
    fault,
)
from handlers.core.guardrails.facts import Facts
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.reading import Informed, decide
from handlers.core.joins.claims import Changed, claims_of
from handlers.core.joins.ports import Settlement
from handlers.core.joins.run import FIRST_RECEIVES, RECENT, Run
from schemas.compiled_guardrails import PolicyType
from schemas.events import Join
from schemas.ids import AccountId, PolicyId
from schemas.outcome import AttachmentResult, Claim, Fault, OutcomeStatus, PolicyOutcome

#: A fault stands for a policy that is kept because of it.
Result: TypeAlias = AttachmentResult | Fault | JoinguardError


@dataclass
class AttemptRun(Run):
    """Change the policies of the account, write the evidence of it, and record the outcome."""

    #: The result of a policy that an attempt changed.
    CHANGED: ClassVar[Changed]

    event: Join
    #: Policies that earlier attempts changed, according to the evidence that this attempt wrote about them.
    changed_before: set[PolicyId] = field(default_factory=set, init=False)

    def _handle(self) -> Settlement:
        join = self.event
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

    def _attached(self, account_id: AccountId, policy_type: PolicyType) -> Sequence[AttachedPolicy]:
        """Read the policies of one type: with all types in one try, each throttle would repeat the calls before it."""
        organizations = self.dependencies.organizations
        return self._call(lambda: organizations.attached_policies(account_id, (policy_type,)), remaining_calls=1)

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
        clock, deadline = self.dependencies.clock, self.time_slice.deadline
        now = clock.now()
        begin = self.dependencies.pace.reserve(now) if now < deadline else now
        if begin >= deadline:
            raise OutOfTimeError(fault("OUT_OF_TIME", "other changes take the time left for this record"))
        clock.sleep(max(0.0, (begin - clock.now()).total_seconds()))

    def _may_pass(self, error: AccountNotFoundError | NotYetEffectiveError) -> bool:
        """Return whether AWS may answer otherwise soon, although nobody corrects anything."""
        # An account that was moved, tagged or evaluated was a member then: if it is not found, it has left.
        was_member = self.event.cause in {"moved", "tagged", "detached", "removal"}
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

    def _claims(self, settlement: Settlement) -> Mapping[PolicyId, Claim]:
        """Return what the row holds of the changes that our evidence claims."""
        changed = {each.policy_id for each in settlement.policies if each.result is self.CHANGED}
        pseudonyms = self.dependencies.pseudonyms
        changed_at = {each: self._changed_at(each) for each in self.changed_before | changed}
        made = claims_of(self.event.account_id, changed_at, self.CHANGED, pseudonyms)
        return {**self.attempt.claims, **made}


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
