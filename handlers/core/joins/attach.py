"""Attaching: the work of the worker for joins, moves and changes of tags."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Final

from handlers.core.errors import (
    AccountNotFoundError,
    Cause,
    JoinguardError,
    NotYetEffectiveError,
    PermanentError,
    RetryableError,
    fault,
)
from handlers.core.guardrails.evaluate import Decision
from handlers.core.guardrails.facts import Facts, Unknown
from handlers.core.guardrails.places import AttachedPolicy, NoPlace, places
from handlers.core.guardrails.ports import Pauses
from handlers.core.joins.attempt import AttemptRun, Result, combined
from handlers.core.joins.claims import Changed, is_sealed
from handlers.core.joins.depart import DepartureRun, account_left, departure_after
from handlers.core.joins.policy_change import PolicyChangeRun
from handlers.core.joins.ports import AccountOutcomes, Attempt, Message, Removals, RestoreLimit, Settlement
from handlers.core.joins.requests import removal_request
from handlers.core.joins.restores import PolicyHistory, restores_since_stable, stopped
from handlers.core.joins.run import FIRST_RECEIVES, Dependencies, Run
from handlers.core.joins.worker import Handled, Worker
from handlers.core.timing import TimeSlice
from schemas.dead_letter import read_attributes
from schemas.events import OPERATOR, REMOVAL, SWEEP, Actionable, Departure, Join, PolicyChange, Received
from schemas.ids import PolicyId
from schemas.outcome import FAILING, AttachmentResult, Departed, Fault, Outcome, OutcomeStatus, PolicyOutcome

_REMOVED_BY_US: Final = fault("REMOVED_BY_US", "Joinguard itself removed the policy, which the account does not need")
_REMOVAL_OPEN: Final = fault("OPEN_ATTEMPT", "a removal may have detached the policy, and has not recorded it yet")
_NOT_GONE_YET: Final = fault("FACTS_STALE", "the policy was detached, and AWS still lists it; it is read again")

_HALTED: Final = fault(
    "RESTORES_HALTED",
    "many accounts lost policies on one day; a person decides whether to put them back",
)
_GONE_AGAIN: Final = fault("GONE_AGAIN", "this event put the policy back, and it was detached again; it is read again")


@dataclass(frozen=True, kw_only=True)
class AttachDependencies(Dependencies):
    """What an attempt to attach depends on."""

    outcomes: AccountOutcomes
    pauses: Pauses
    restore_limit: RestoreLimit
    #: How often a policy that others detach is put back before it is left off.
    max_restores: int = 3
    #: Where removals are requested; None if nothing is removed.
    removals: Removals | None = None


@dataclass
class AttachRun(AttemptRun):
    """Attach the policies that the account lacks, and request the removal of those that it no longer needs."""

    CHANGED: ClassVar[Changed] = AttachmentResult.ATTACHED
    dependencies: AttachDependencies
    #: The policies that another worker may remove.
    removable: tuple[PolicyId, ...] = ()

    def _done(self, policies: Collection[PolicyId], carried: Collection[PolicyId]) -> frozenset[PolicyId]:
        return frozenset(policies).intersection(carried)

    def _changed_at(self, policy_id: PolicyId) -> datetime:
        earlier = self.attempt.ambiguous | self.changed_before | self._intended_before()
        return self.attempt.received_at if policy_id in earlier else self.begun_at

    def _carry_out(self, join: Join, attached: Sequence[AttachedPolicy]) -> Settlement:
        """Attach each missing policy, whether or not others fail; one result for each required or undecided policy."""
        carried = {each.id for each in attached}
        decision, undecided = self._decided(join, carried)
        ours = self._done(self.ambiguous, carried)
        results: dict[PolicyId, Result] = dict.fromkeys(decision.required, AttachmentResult.ALREADY_ATTACHED)
        results |= dict.fromkeys(sorted(ours), AttachmentResult.ATTACHED)
        results |= undecided
        missing, observes = self._fitted(decision, attached, results), not self._attaches_to(join)
        if observes:
            results |= dict.fromkeys(missing, AttachmentResult.WOULD_ATTACH)
            missing = ()
        else:
            left_off = self._left_off(missing)
            results |= left_off
            missing = tuple(each for each in missing if each not in left_off)
        if missing or ours:
            self._intend((*missing, *sorted(ours)), ambiguous=self.ambiguous - ours)
        organizations = self.dependencies.organizations
        results |= self._change(missing, lambda policy_id: organizations.attach(policy_id, join.account_id))
        settlement = self._combined(results)
        if any(isinstance(each, AccountNotFoundError) for each in results.values()) and self._departed:
            return replace(settlement, **self._closed(self._departed))
        return replace(settlement, status=OutcomeStatus.OBSERVED) if observes and not undecided else settlement

    def _left_off(self, missing: Sequence[PolicyId]) -> Mapping[PolicyId, JoinguardError]:  # noqa: ARG002 - for restores
        """Return the missing policies that are not attached although they are required, and why."""
        return {}

    def _combined(self, results: Mapping[PolicyId, Result]) -> Settlement:
        return combined(results, self.ambiguous)

    def _not_read(self, error: PermanentError) -> Settlement:
        """Return that nothing is left to do if the account has left since the event."""
        if isinstance(error, AccountNotFoundError) and self._departed:
            return Settlement(**self._closed(self._departed))
        return super()._not_read(error)

    def _may_pass(self, error: AccountNotFoundError | NotYetEffectiveError) -> bool:
        if isinstance(error, AccountNotFoundError) and self._departed:
            return False
        return super()._may_pass(error)

    @cached_property
    def _departed(self) -> Departed | None:
        """The departure of the account after the event; read only if Organizations does not find the account."""
        return departure_after(self._rows, self.attempt.event_time)

    @cached_property
    def _rows(self) -> tuple[Outcome, ...]:
        """The outcomes of all events of the account; read only if they decide something."""
        return tuple(self.dependencies.outcomes.outcomes(self.event.account_id))

    def _closed(self, departed: Departed) -> dict[str, Any]:
        return {"status": OutcomeStatus.CLOSED, "fault": account_left(departed), "departed": departed}

    def _attaches_to(self, join: Join) -> bool:
        return self.requirements.scope.attaches_to(join.account_id)

    def _decided(self, join: Join, carried: Collection[PolicyId]) -> tuple[Decision, dict[PolicyId, JoinguardError]]:
        """Return what the guardrails say, with the facts that they need, and why something is undecided.

        What is carried and undecided matters only if it might be removed.
        """
        informed = self._informed(join)
        decision, may_be_removed = informed.decision, set[PolicyId]()
        # Nothing becomes removable because a policy is gone.
        if self.dependencies.removals and self._attaches_to(join) and join.cause != "detached":
            self.removable = decision.removable(carried)
            may_be_removed = self.requirements.guardrails.may_be_removed
        kept = set(carried) - may_be_removed
        return decision, dict.fromkeys((each for each in decision.undecided if each not in kept), informed.error)

    def _fitted(
        self, decision: Decision, attached: Sequence[AttachedPolicy], results: dict[PolicyId, Result]
    ) -> tuple[PolicyId, ...]:
        """Return the missing policies for which the account has a place; add the others to the results."""
        document = self.requirements.guardrails.document
        fit = places(document.policies, decision.required, attached, document.policies_per_account)
        # A removal may make a place soon.
        leaving = self.removable if self.message.receives <= FIRST_RECEIVES else ()
        results |= {each.policy_id: _without_place(each, leaving) for each in fit.no_place}
        return fit.to_attach

    def _follow_up(self, decision: Settlement) -> tuple[PolicyOutcome, ...]:
        """Request the removal of what the account no longer needs."""
        if not self.removable or not self.dependencies.removals:
            return ()
        organization_id, now = self.requirements.organization_id, self.dependencies.clock.now()
        pseudonyms = self.dependencies.pseudonyms
        request = removal_request(self.event, self.removable, organization_id, now, pseudonyms)
        self.dependencies.removals.request(request)
        # What this event's attempts attached has that result.
        known = {each.policy_id for each in decision.policies}
        requested = AttachmentResult.REMOVAL_REQUESTED
        return tuple(PolicyOutcome(policy_id=each, result=requested) for each in self.removable if each not in known)


@dataclass
class RestoreRun(AttachRun):
    """Attach what an account lacks after an event that only says that something is gone, but not again and again."""

    def _handle(self) -> Settlement:
        # What earlier attempts were about to do needs evidence in any case.
        if not (self.attempt.interrupted or self.ambiguous) and (why := self._nothing_to_restore()):
            return Settlement(OutcomeStatus.IGNORED, fault=why)
        return super()._handle()

    def _nothing_to_restore(self) -> Fault | None:
        """Return why nothing is put back: it is not missing, or the account is paused; None if something may be."""
        policy_id = self.event.change.detached
        if policy_id and policy_id not in self.requirements.guardrails.policy_ids:
            return fault("NOT_GUARDED", f"policy {policy_id} is not in the guardrails")
        if policy_id and self._removed_by_us(policy_id):
            return _REMOVED_BY_US
        # An account that moves or gets other tags is evaluated although it is paused.
        only_restores = self.event.cause == "detached" or self.event.source == SWEEP
        return self._paused() if only_restores and not self._is_redriven else None

    def _paused(self) -> Fault | None:
        """Return that the account is paused; None if it is not.

        The next sweep after the pause finds what is missing then, so the event is decided.
        """
        dependencies, now = self.dependencies, self.dependencies.clock.now()
        known, ous = dependencies.pauses.read(), None
        if known.needs_ous(now):
            facts = Facts(self.event.account_id)
            # What cannot be read counts as paused.
            with suppress(PermanentError):
                read = self._call(lambda: dependencies.organizations.described(facts), remaining_calls=1)
                ous = None if isinstance(read.ous, Unknown) else read.ous
        paused = known.of(self.event.account_id, ous, now)
        if paused is None:
            return None
        until = f"until {paused.until:%Y-%m-%dT%H:%MZ}" if paused.until else "because its pauses are not readable"
        return fault(
            "PAUSED", f"the account is paused {until}; nothing is put back, and the sweep looks again after that"
        )

    @cached_property
    def _is_redriven(self) -> bool:
        """Whether an operator has sent the message back, and so decided that what is missing is attached."""
        return read_attributes(self.message.attributes, self.message.sent_at).redrives > 0

    @cached_property
    def _member_since(self) -> datetime:
        organizations = self.dependencies.organizations
        return self._call(lambda: organizations.membership(self.event.account_id), remaining_calls=1).since

    def _history(self, policy_id: PolicyId) -> PolicyHistory:
        others = [each for each in self._rows if each.event_id != self.event.event_id]
        pseudonyms = self.dependencies.pseudonyms
        return PolicyHistory(policy_id, self.event.account_id, others, self._member_since, pseudonyms)

    def _left_off(self, missing: Sequence[PolicyId]) -> Mapping[PolicyId, JoinguardError]:
        """Return the policies that were put back often enough, and the errors that say so."""
        found: dict[PolicyId, JoinguardError] = {}
        # Without a claim, Joinguard never attached it; then nobody has to be asked since when the account is a member.
        claimed = {each for row in self._rows for each in row.claims} if missing and not self._is_redriven else set()
        try:
            for policy_id in missing:
                if policy_id in claimed and (error := self._stopped(policy_id)):
                    found[policy_id] = error
            restored = claimed.intersection(missing).difference(found)
            if restored and self._is_halted():
                found |= dict.fromkeys(sorted(restored), PermanentError(_HALTED, cause=Cause.RESTORES_HALTED))
        except (PermanentError, RetryableError) as error:
            # It is not known how often.
            return dict.fromkeys(claimed.intersection(missing), error)
        return found

    def _is_halted(self) -> bool:
        """Return whether more accounts lost policies today than change at once. The sweep decides that for itself."""
        if self.event.cause != "detached":
            return False
        dependencies = self.dependencies
        account = dependencies.pseudonyms.digest("restore", self.event.account_id)
        return not dependencies.restore_limit.take(account, dependencies.clock.now())

    def _stopped(self, policy_id: PolicyId) -> JoinguardError | None:
        """Return the error about a policy that is not put back again; None if it is."""
        history = self._history(policy_id)
        restores = restores_since_stable(history.observations(), self.attempt.event_time)
        own = self.attempt.claims.get(policy_id)
        if own and own.at < self._member_since:
            # The account left and joined again since this event put the policy back.
            own = None
        # The event that reports the next loss may put it back meanwhile.
        if own and self.message.receives <= FIRST_RECEIVES:
            return RetryableError(_GONE_AGAIN)
        known = (*restores, own.at) if own else restores
        if not (own or history.was_ours()) or len(known) < self.dependencies.max_restores:
            return None
        return PermanentError(stopped(known, self._detached_by(history)), cause=Cause.RESTORES_STOPPED)

    def _detached_by(self, history: PolicyHistory) -> tuple[str, str] | None:
        """Return who detached a policy last: this event reports it, or an earlier one."""
        called = self._called()
        if called and called.principal and called.policy_id == history.policy_id:
            return called.principal.value, self.event.event_id
        return history.detached_last_by()

    def _combined(self, results: Mapping[PolicyId, Result]) -> Settlement:
        attached = [each for each, result in results.items() if result is AttachmentResult.ATTACHED]
        restored = sum(any(each in row.claims for row in self._rows) for each in attached)
        return replace(super()._combined({**results, **self._stale(results)}), restored=restored)

    def _removed_by_us(self, policy_id: PolicyId) -> bool:
        """Return whether the other worker removed a policy, according to its claim.

        Raises RetryableError while that worker may have removed it and has not recorded that.
        """
        account_id, pseudonyms = self.event.account_id, self.dependencies.pseudonyms
        claims = [row.claims[policy_id] for row in self._rows if policy_id in row.claims]
        removals = [each for each in claims if each.result is AttachmentResult.REMOVED]
        # A removal is dated when it is recorded, which is after it was made.
        if any(
            each.at >= self.attempt.event_time and is_sealed(account_id, policy_id, each, pseudonyms)
            for each in removals
        ):
            return True
        is_open = any(
            row.status in FAILING
            and row.source == REMOVAL
            and policy_id in {*row.unclear, *chain(*row.intents.values())}
            for row in self._rows
        )
        if is_open and self.message.receives <= FIRST_RECEIVES:
            raise RetryableError(_REMOVAL_OPEN)
        return False

    def _stale(self, results: Mapping[PolicyId, Result]) -> dict[PolicyId, Result]:
        """Return the error about a policy that was detached, and that AWS still lists as attached.

        If somebody attached it again, that does not change, so the answer counts after the first receives.
        """
        policy_id = self.event.change.detached
        if not policy_id or results.get(policy_id) is not AttachmentResult.ALREADY_ATTACHED:
            return {}
        # A stage that only observes would not put it back.
        if not self._attaches_to(self.event):
            return {}
        # The times of events are whole seconds.
        after = self.attempt.event_time + timedelta(seconds=1)
        claims = [row.claims[policy_id] for row in self._rows if policy_id in row.claims]
        by_us = policy_id in self.changed_before or any(each.at >= after for each in claims)
        if by_us or self.message.receives > FIRST_RECEIVES:
            return {}
        return {policy_id: RetryableError(_NOT_GONE_YET)}


@dataclass(frozen=True)
class Enforcer(Worker):
    """Make every account that joins, moves or gets other tags carry its policies."""

    dependencies: AttachDependencies

    def _not_for_this_queue(self, event: Received, message: Message) -> Handled | None:
        """Pass a request to remove policies on to its queue: a redriven message comes to this one."""
        if not isinstance(event, Join) or event.cause != "removal":
            return None
        handled = Handled(OutcomeStatus.FAILED, event_name=event.event_name)
        if self.dependencies.removals is None:
            why = "removing policies is not switched on; see RemovePolicies in the stage"
            return replace(handled, fault=fault("REMOVALS_OFF", why))
        try:
            self.dependencies.removals.pass_on(message)
        except RetryableError as error:
            return replace(handled, status=OutcomeStatus.RETRYING, fault=error.fault)
        why = "the request goes on to the queue of the worker that removes policies"
        return replace(handled, status=OutcomeStatus.IGNORED, fault=fault("PASSED_ON", why))

    def _run(self, event: Actionable, message: Message, begun: Attempt, time_slice: TimeSlice) -> Run:
        requirements, dependencies = self.requirements, self.dependencies
        if isinstance(event, PolicyChange):
            return PolicyChangeRun(requirements, dependencies, event, message, begun, time_slice)
        if isinstance(event, Departure):
            outcomes = dependencies.outcomes
            return DepartureRun(requirements, dependencies, event, message, begun, time_slice, outcomes)
        # A join begins anew, and an operator decides; after anything else, a policy may be put back.
        restores = event.cause != "joined" and event.source != OPERATOR
        kind = RestoreRun if restores else AttachRun
        return kind(requirements, dependencies, event, message, begun, time_slice)


def _without_place(no_place: NoPlace, leaving: Collection[PolicyId]) -> JoinguardError:
    """Return the error about a required policy for which the account has no place."""
    held = f"policies that are not in the guardrails hold {no_place.foreign} of them"
    less = ", ".join(no_place.held_by)
    also = f", and {less}, less important or not required, the others" if less else ""
    why = fault("NO_PLACE", f"the account has no place left for a policy of this type: {held}{also}")
    return RetryableError(why) if set(leaving).intersection(no_place.held_by) else PermanentError(why)
