"""Attaching: the work of the worker for joins, moves and changes of tags."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from handlers.core.errors import JoinguardError, PermanentError, RetryableError, fault
from handlers.core.guardrails.evaluate import Decision
from handlers.core.guardrails.places import AttachedPolicy, NoPlace, places
from handlers.core.joins.attempt import FIRST_RECEIVES, AttemptRun, Dependencies, Result, combined
from handlers.core.joins.claims import Changed
from handlers.core.joins.ports import Attempt, Message, Removals, Settlement
from handlers.core.joins.requests import removal_request
from handlers.core.joins.worker import Handled, Worker
from handlers.core.timing import TimeSlice
from schemas.events import Join, NoJoin, Rehearsal
from schemas.ids import PolicyId
from schemas.outcome import AttachmentResult, OutcomeStatus, PolicyOutcome


@dataclass(frozen=True, kw_only=True)
class AttachDependencies(Dependencies):
    """What an attempt to attach depends on."""

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
        if missing or ours:
            self._intend((*missing, *sorted(ours)), ambiguous=self.ambiguous - ours)
        organizations = self.dependencies.organizations
        results |= self._change(missing, lambda policy_id: organizations.attach(policy_id, join.account_id))
        settlement = combined(results, self.ambiguous)
        return replace(settlement, status=OutcomeStatus.OBSERVED) if observes and not undecided else settlement

    def _attaches_to(self, join: Join) -> bool:
        return self.requirements.scope.attaches_to(join.account_id)

    def _decided(self, join: Join, carried: Collection[PolicyId]) -> tuple[Decision, dict[PolicyId, JoinguardError]]:
        """Return what the guardrails say, with the facts that they need, and why something is undecided.

        What is carried and undecided matters only if it might be removed.
        """
        informed = self._informed(join)
        decision, may_be_removed = informed.decision, set[PolicyId]()
        if self.dependencies.removals and self._attaches_to(join):
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
        if not self.removable or not self.dependencies.removals or not isinstance(self.event, Join):
            return ()
        organization_id, now = self.requirements.organization_id, self.dependencies.clock.now()
        pseudonyms = self.dependencies.pseudonyms
        request = removal_request(self.event, self.removable, organization_id, now, pseudonyms)
        self.dependencies.removals.request(request)
        # What this event's attempts attached has that result.
        known = {each.policy_id for each in decision.policies}
        requested = AttachmentResult.REMOVAL_REQUESTED
        return tuple(PolicyOutcome(policy_id=each, result=requested) for each in self.removable if each not in known)


@dataclass(frozen=True)
class Enforcer(Worker):
    """Make every account that joins, moves or gets other tags carry its policies."""

    dependencies: AttachDependencies

    def _not_for_this_queue(self, event: Join | NoJoin | Rehearsal, message: Message) -> Handled | None:
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

    def _attempt(self, event: Join | NoJoin, message: Message, begun: Attempt, time_slice: TimeSlice) -> AttemptRun:
        return AttachRun(self.requirements, self.dependencies, event, message, begun, time_slice)


def _without_place(no_place: NoPlace, leaving: Collection[PolicyId]) -> JoinguardError:
    """Return the error about a required policy for which the account has no place."""
    held = f"policies that are not in the guardrails hold {no_place.foreign} of them"
    less = ", ".join(no_place.held_by)
    also = f", and {less}, less important or not required, the others" if less else ""
    why = fault("NO_PLACE", f"the account has no place left for a policy of this type: {held}{also}")
    return RetryableError(why) if set(leaving).intersection(no_place.held_by) else PermanentError(why)
