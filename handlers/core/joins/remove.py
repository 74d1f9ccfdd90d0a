"""Removing: the work of the worker for policies that an account no longer needs.

A policy is removed only if all of this holds, otherwise it is kept and its result says why:

- The guardrails say, with every fact that decides known, that the account does not need it, and allow the removal.
- The last claim about it is that Joinguard attached it.
- It is not AWS's own, and not the account's last SCP.
- It is one of today's `limits.removals`, or the plan that was approved names it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import ClassVar, Final, cast

from handlers.core.errors import (
    AccountNotFoundError,
    Cause,
    JoinguardError,
    PermanentError,
    RetryableError,
    fault,
)
from handlers.core.guardrails.evaluate import Decision
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.joins.attempt import AttemptRun, Result, combined
from handlers.core.joins.claims import Changed, attached_by_us
from handlers.core.joins.ports import Attempt, ClaimsReader, Detachments, Evaluations, Message, RemovalLimit, Settlement
from handlers.core.joins.requests import evaluation_request
from handlers.core.joins.run import FIRST_RECEIVES, Dependencies, Run
from handlers.core.joins.worker import Handled, Worker
from handlers.core.redaction import redact
from handlers.core.timing import TimeSlice
from schemas.compiled_guardrails import SCP
from schemas.events import Actionable, Join, Received
from schemas.ids import PolicyId, Sha256
from schemas.outcome import AttachmentResult, Fault, OutcomeStatus, PolicyOutcome
from schemas.plan import ApprovedPlan

#: Why a policy is kept.
_ONLY_OBSERVED: Final = fault("ONLY_OBSERVED", "the worker only observes this account; see AttachTo in the stage")
_OF_AWS: Final = fault("AWS_MANAGED", "the policy is one of AWS's own, which are never removed")
_NOT_OURS: Final = fault("NOT_OURS", "Joinguard's records do not say that it attached the policy to this account")
_OPEN: Final = fault(
    "OPEN_ATTEMPT",
    "an attempt at another event may have attached the policy, and has not recorded it; nothing was removed",
)
_LEFT: Final = fault("ACCOUNT_LEFT", "the account is not a member of the organization any more")
LAST_POLICY: Final = fault("LAST_POLICY", "an account must carry at least one SCP, and this is its last")


@dataclass(frozen=True, kw_only=True)
class RemoveDependencies(Dependencies):
    """What an attempt to remove depends on."""

    detachments: Detachments
    claims: ClaimsReader
    limit: RemovalLimit
    evaluations: Evaluations
    #: The plan whose removals were approved although they are more than the limit, and the last day of the approval.
    approved: ApprovedPlan | None = None
    approved_until: date | None = None


@dataclass
class RemoveRun(AttemptRun):
    """Remove the policies that the account no longer needs, as far as Joinguard attached them."""

    CHANGED: ClassVar[Changed] = AttachmentResult.REMOVED
    dependencies: RemoveDependencies

    def _changed_at(self, policy_id: PolicyId) -> datetime:  # noqa: ARG002 - all are dated at the latest moment
        return self.dependencies.clock.now()

    def _done(self, policies: Collection[PolicyId], carried: Collection[PolicyId]) -> frozenset[PolicyId]:
        # Of another policy, the type may not have been read.
        return frozenset(policies).intersection(self.requirements.guardrails.policy_ids).difference(carried)

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
        # Of an interrupted attempt too, whose own evidence cannot say under which plan it was.
        self.approved_plan = self._approved_plan({*to_remove, *ours, *self.changed_before}, join, decision)
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
            # Whoever deleted a key knows that these policies stay.
            result = error.fault if error.cause is Cause.CLAIMS_NOT_COMPARED else error
            return dict.fromkeys(removable, result)
        return {
            **kept,
            **self._above_the_limit(join, [each for each in reversed(removable) if each not in kept], decision),
        }

    def _kept(
        self, join: Join, removable: Sequence[PolicyId], attached: Sequence[AttachedPolicy]
    ) -> dict[PolicyId, Result]:
        """Return the removable policies that are kept, and why: the most important one, if they are the last SCPs."""
        dependencies, account_id = self.dependencies, join.account_id
        member_since = self._call(lambda: dependencies.organizations.membership(account_id), remaining_calls=1).since
        rows = list(dependencies.claims.of(account_id))
        ours = attached_by_us(account_id, rows, member_since, dependencies.pseudonyms)
        still_open = frozenset[PolicyId]().union(*(each.open for each in rows))
        kept: dict[PolicyId, Result] = {}
        scps = {each.id for each in attached if each.type == SCP}
        by_aws = {each.id for each in attached if each.aws_managed}
        for policy_id in reversed(removable):
            if policy_id in by_aws:
                kept[policy_id] = _OF_AWS
            elif policy_id not in ours:
                kept[policy_id] = self._open_elsewhere() if policy_id in still_open else _NOT_OURS
            elif scps == {policy_id}:
                kept[policy_id] = LAST_POLICY
            else:
                scps.discard(policy_id)
        return kept

    def _open_elsewhere(self) -> JoinguardError:
        """Return the error about a policy that another event's attempt may have attached, and has not claimed yet."""
        passes = self.message.receives <= FIRST_RECEIVES
        return RetryableError(_OPEN) if passes else PermanentError(_OPEN, cause=Cause.OPEN_ATTEMPT)

    def _above_the_limit(
        self, join: Join, policies: Sequence[PolicyId], decision: Decision
    ) -> dict[PolicyId, PermanentError]:
        """Return the policies whose removal was not approved and exceeds today's limit."""
        limit, now = self.requirements.guardrails.document.max_removals, self.dependencies.clock.now()
        refused: dict[PolicyId, PermanentError] = {}
        for policy_id in policies:
            if self._approved_plan({policy_id}, join, decision):
                continue
            # The same policy of an account counts once, however often and after which events its removal is tried.
            name = self.dependencies.pseudonyms.digest("removal", f"{join.account_id} {policy_id}")
            if not self.dependencies.limit.take(name, limit, now):
                refused[policy_id] = PermanentError(_above(limit), cause=Cause.REMOVAL_LIMIT)
        return refused

    def _approved_plan(self, policies: Collection[PolicyId], join: Join, decision: Decision) -> Sha256 | None:
        """Return the digest of the approved plan if it still holds and removes one of these policies from it."""
        approved, until = self.dependencies.approved, self.dependencies.approved_until
        if approved is None or (until is not None and self.dependencies.clock.now().date() > until):
            return None
        named = any(approved.names(each, join.account_id, decision.sha256) for each in policies)
        return approved.sha256() if named else None

    def _follow_up(self, decision: Settlement) -> tuple[PolicyOutcome, ...]:
        """Request an evaluation of the account if something was removed, or may have been and nothing more is tried."""
        results = {each.result for each in decision.policies}
        changed = {AttachmentResult.REMOVED}
        if decision.status is not OutcomeStatus.RETRYING:
            changed.add(AttachmentResult.UNKNOWN)
        if self.changed_before or results & changed:
            dependencies, organization_id = self.dependencies, self.requirements.organization_id
            request = evaluation_request(
                self.event, self.attempt.number, organization_id, dependencies.clock.now(), dependencies.pseudonyms
            )
            dependencies.evaluations.request(request)
        return ()


@dataclass(frozen=True)
class Remover(Worker):
    """Remove the policies that accounts no longer need."""

    dependencies: RemoveDependencies

    def _not_for_this_queue(self, event: Received, message: Message) -> Handled | None:  # noqa: ARG002 - as above
        """Refuse everything but requests to remove policies."""
        if isinstance(event, Join) and event.cause == "removal":
            return None
        why = "source: must be joinguard.removal in this queue; find out who sent the message"
        return Handled(OutcomeStatus.FAILED, fault=fault("INVALID_EVENT", why))

    def _run(self, event: Actionable, message: Message, begun: Attempt, time_slice: TimeSlice) -> Run:
        # Everything else is refused above.
        return RemoveRun(self.requirements, self.dependencies, cast("Join", event), message, begun, time_slice)


def _above(limit: int) -> Fault:
    if not limit:
        return fault(
            "REMOVAL_LIMIT", "limits.removals is 0, so each removal needs an approved plan; the policy is kept"
        )
    removals = f"{limit} removal{'' if limit == 1 else 's'}"
    return fault(
        "REMOVAL_LIMIT",
        f"without an approved plan, limits.removals allows {removals} a day (UTC), and they are used up; the policy "
        "is kept",
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
