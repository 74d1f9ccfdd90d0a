"""Removing: the work of the worker for policies that an account no longer needs.

A policy is removed only if all of this holds, otherwise it is kept and its result says why:

- The guardrails say, with every fact that decides known, that the account does not need it, and allow the removal.
- The last claim about it is that Joinguard attached it.
- It is not AWS's own, and not the account's last SCP.
- It is one of today's `limits.removals`, or the plan that was approved names it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from handlers.core.errors import AccountNotFoundError, Cause, PermanentError, fault
from handlers.core.guardrails.evaluate import Decision
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.joins.attempt import AttemptRun, Dependencies, Result, combined
from handlers.core.joins.claims import Changed, attached_by_us
from handlers.core.joins.ports import Attempt, ClaimsReader, Detachments, Evaluations, Message, RemovalLimit, Settlement
from handlers.core.joins.requests import evaluation_request
from handlers.core.joins.worker import Handled, Worker
from handlers.core.redaction import redact
from handlers.core.timing import TimeSlice
from schemas.compiled_guardrails import SCP
from schemas.events import Join, NoJoin
from schemas.ids import PolicyId
from schemas.outcome import AttachmentResult, Fault, OutcomeStatus
from schemas.plan import ApprovedPlan

#: Why a policy is kept.
_ONLY_OBSERVED: Final = fault("ONLY_OBSERVED", "the worker only observes this account; see AttachTo in the stage")
_OF_AWS: Final = fault("AWS_MANAGED", "the policy is one of AWS's own, which are never removed")
_NOT_OURS: Final = fault("NOT_OURS", "Joinguard's records do not say that it attached the policy to this account")
_LEFT: Final = fault("ACCOUNT_LEFT", "the account is not a member of the organization any more")
LAST_POLICY: Final = fault("LAST_POLICY", "an account must carry at least one SCP, and this is its last")


@dataclass(frozen=True, kw_only=True)
class RemoveDependencies(Dependencies):
    """What an attempt to remove depends on."""

    detachments: Detachments
    claims: ClaimsReader
    limit: RemovalLimit
    evaluations: Evaluations
    #: The plan whose removals were approved although they are more than the limit.
    approved: ApprovedPlan | None = None


@dataclass
class RemoveRun(AttemptRun):
    """Remove the policies that the account no longer needs, as far as Joinguard attached them."""

    CHANGED: ClassVar[Changed] = AttachmentResult.REMOVED
    dependencies: RemoveDependencies

    def _done(self, policies: Collection[PolicyId], carried: Collection[PolicyId]) -> frozenset[PolicyId]:
        return frozenset(policies).difference(carried)

    def _carry_out(self, join: Join, attached: Sequence[AttachedPolicy]) -> Settlement:
        """Remove each policy that may be removed, whether or not others fail; one result for each removable policy."""
        carried = {each.id for each in attached}
        informed = self._informed(join)
        decision = informed.decision
        ours = self._done(self.ambiguous, carried)
        results: dict[PolicyId, Result] = dict.fromkeys(sorted(ours), AttachmentResult.REMOVED)
        may_become_removable = carried.intersection(self.requirements.guardrails.may_be_removed)
        results |= dict.fromkeys((each for each in decision.undecided if each in may_become_removable), informed.error)
        results |= self._not_to_remove(join, attached, decision)
        to_remove = [each for each in reversed(decision.removable(carried)) if each not in results]
        if to_remove or ours:
            self._intend((*to_remove, *sorted(ours)), ambiguous=self.ambiguous - ours)
        detach = self.dependencies.detachments.detach
        changed = self._change(to_remove, lambda policy_id: detach(policy_id, join.account_id))
        results |= {each: _kept_by_aws(result) for each, result in changed.items()}
        return _with_exceptions(combined(results, self.ambiguous), decision)

    def _not_read(self, error: PermanentError) -> Settlement:
        """Return that there is nothing to do for an account that has left, which took its policies off."""
        if isinstance(error, AccountNotFoundError):
            return Settlement(OutcomeStatus.IGNORED, fault=_LEFT)
        return super()._not_read(error)

    def _not_to_remove(
        self, join: Join, attached: Sequence[AttachedPolicy], decision: Decision
    ) -> Mapping[PolicyId, Result]:
        """Return the removable policies that are not removed, and why."""
        removable = decision.removable({each.id for each in attached})
        if not removable:
            return {}
        if not self.requirements.scope.attaches_to(join.account_id):
            return dict.fromkeys(removable, _ONLY_OBSERVED)
        try:
            kept = self._kept(join, removable, attached)
        except PermanentError as error:
            return dict.fromkeys(removable, error)
        return {
            **kept,
            **self._above_the_limit(join, [each for each in reversed(removable) if each not in kept], decision),
        }

    def _kept(
        self, join: Join, removable: Sequence[PolicyId], attached: Sequence[AttachedPolicy]
    ) -> dict[PolicyId, Fault]:
        """Return the removable policies that are kept, and why: the most important one, if they are the last SCPs."""
        dependencies, account_id = self.dependencies, join.account_id
        member_since = self._call(lambda: dependencies.detachments.member_since(account_id), remaining_calls=1)
        ours = attached_by_us(account_id, dependencies.claims.of(account_id), member_since, dependencies.pseudonyms)
        kept: dict[PolicyId, Fault] = {}
        scps = {each.id for each in attached if each.type == SCP}
        by_aws = {each.id for each in attached if each.aws_managed}
        for policy_id in reversed(removable):
            if policy_id in by_aws:
                kept[policy_id] = _OF_AWS
            elif policy_id not in ours:
                kept[policy_id] = _NOT_OURS
            elif scps == {policy_id}:
                kept[policy_id] = LAST_POLICY
            else:
                scps.discard(policy_id)
        return kept

    def _above_the_limit(
        self, join: Join, policies: Sequence[PolicyId], decision: Decision
    ) -> dict[PolicyId, PermanentError]:
        """Return the policies whose removal was not approved and exceeds today's limit."""
        approved, limit = self.dependencies.approved, self.requirements.guardrails.document.max_removals
        refused: dict[PolicyId, PermanentError] = {}
        for policy_id in policies:
            if approved and approved.names(policy_id, join.account_id, decision.sha256):
                self.approved_plan = approved.sha256()
                continue
            # The same removal counts once, however often it is tried.
            name = self.dependencies.pseudonyms.digest("removal", f"{join.account_id} {join.event_id} {policy_id}")
            if not self.dependencies.limit.take(name, limit, self.dependencies.clock.now()):
                refused[policy_id] = PermanentError(_above(limit), cause=Cause.REMOVAL_LIMIT)
        return refused

    def _follow_up(self, decision: Settlement) -> None:
        """Request an evaluation of the account if something was removed."""
        results = {each.result for each in decision.policies}
        maybe = {AttachmentResult.REMOVED, AttachmentResult.UNKNOWN}
        if isinstance(self.event, Join) and (self.changed_before or results & maybe):
            organization_id, now = self.requirements.organization_id, self.dependencies.clock.now()
            request = evaluation_request(self.event, self.attempt.number, organization_id, now)
            self.dependencies.evaluations.request(request)


@dataclass(frozen=True)
class Remover(Worker):
    """Remove the policies that accounts no longer need."""

    dependencies: RemoveDependencies

    def _not_for_this_queue(self, event: Join | NoJoin, message: Message) -> Handled | None:  # noqa: ARG002 - as above
        """Refuse everything but requests to remove policies."""
        if isinstance(event, Join) and event.cause == "removal":
            return None
        why = "source: must be joinguard.removal in this queue; find out who sent the message"
        return Handled(OutcomeStatus.FAILED, fault=fault("INVALID_EVENT", why))

    def _attempt(self, event: Join | NoJoin, message: Message, begun: Attempt, time_slice: TimeSlice) -> AttemptRun:
        return RemoveRun(self.requirements, self.dependencies, event, message, begun, time_slice)


def _above(limit: int) -> Fault:
    return fault(
        "REMOVAL_LIMIT",
        f"{limit} policies were removed today, as many as limits.removals allows; the policy is kept. Redrive the "
        "message tomorrow, or deploy with --approve and the digest of a plan that removes it",
    )


def _kept_by_aws(result: Result) -> Result:
    """Return that the last policy is kept, if others have detached the second last one meanwhile."""
    return LAST_POLICY if isinstance(result, PermanentError) and result.cause is Cause.LAST_POLICY else result


def _with_exceptions(settlement: Settlement, decision: Decision) -> Settlement:
    """Add the exceptions that take the policies from the account."""
    exceptions = {each.policy_id: tuple(map(redact, each.excepted_by)) for each in decision.policies}
    policies = tuple(
        each.model_copy(update={"exceptions": exceptions.get(each.policy_id, ())}) for each in settlement.policies
    )
    return replace(settlement, policies=policies)
