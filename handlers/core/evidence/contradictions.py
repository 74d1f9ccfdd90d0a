"""What the row of an outcome says and its evidence does not: whoever can write to the table can write anything there.

A row says more than its evidence only in these cases, and each has its limits:

- An attempt is running, or crashed. Until it ends, the row says what the attempt before it recorded.
- An attempt failed for a passing cause and changed nothing. It writes no evidence, so nothing can contradict the row;
  but when SQS has deleted every message, nothing is tried again.
- An attempt could not write its evidence, or send the request that follows it. SQS delivers the message again soon. If
  no receive succeeds, the message is in the dead letters, and the row has a finding.
- An operator or a departure closed the outcome, or an operator reopened it. That changes the status and its time; who
  closed it is compared in `closings`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from handlers.core.evidence.checks import CheckedEvidence, Verdict
from handlers.core.timing import KEPT, MAX_LEASE, RECEIVED_AGAIN
from schemas.evidence import Evidence, RecordedFault, RecordedPolicy
from schemas.outcome import FAILING, AttachmentResult, Fault, Outcome, OutcomeStatus, PolicyOutcome

_OURS: Final = frozenset({Verdict.VALID, Verdict.NOT_COMPARED})
#: The verdicts on objects whose content is not known.
_NOT_READ: Final = frozenset({Verdict.ARCHIVED, Verdict.UNREADABLE})
#: The results with which an attempt writes evidence although it is made again.
_CHANGED: Final = frozenset({AttachmentResult.ATTACHED, AttachmentResult.REMOVED, AttachmentResult.UNKNOWN})
_FIRST: Final = "joinguard/evidence/1"
_LATEST: Final = "joinguard/evidence/3"


def ours(checked: Sequence[CheckedEvidence]) -> list[Evidence]:
    """Return the evidence that a worker wrote about an event, as far as its object shows."""
    return [each.evidence for each in checked if each.evidence and each.verdict in _OURS]


@dataclass(frozen=True)
class RowComparison:
    """The comparison of a row with the evidence of its event."""

    row: Outcome
    checked: Sequence[CheckedEvidence]
    now: datetime
    #: When the last batch of the log was sealed; None if the log is empty.
    sealed_until: datetime | None

    @property
    def is_recent(self) -> bool:
        """Whether the message of the row may be received again soon."""
        return self.now - RECEIVED_AGAIN <= self.row.updated_at <= self.now + MAX_LEASE

    @property
    def is_sealed(self) -> bool:
        """Whether the log has the records of what the row says, which are written within the hour after it at most.

        The end of the log is up to 75 minutes old, and older if nothing was sealed, which is a finding of its own.
        """
        return self.sealed_until is not None and self.sealed_until - self.row.updated_at > RECEIVED_AGAIN

    @cached_property
    def named(self) -> Evidence | None:
        """The evidence that the row names; None if there is none, or if it is not what the row names."""
        return next(iter(ours([each for each in self.checked if each.named])), None)

    @property
    def is_unproven(self) -> bool:
        """Whether no evidence says how the last attempt ended, because it failed for a passing cause."""
        return self._ended is OutcomeStatus.RETRYING and not self._is_retried_on_record

    @property
    def is_given_up(self) -> bool:
        """Whether the last attempt failed, and its message may be in the dead letters after SQS's last receive.

        If its evidence was not written, or the request that follows it not sent, no record but the row says so. That is
        a finding nevertheless: a row that says RETRYING counts for an hour only when policies that somebody detached
        are looked for, so whoever makes one of a decided row hides that.
        """
        return self.is_unproven and self.row.fault is not None

    def contradictions(self) -> Iterator[str]:
        """Yield what the row says and the evidence does not."""
        yield from _out_of_place(self.row)
        yield from self._times()
        if self.row.evidence_key and self.named is None:
            # The object has a finding of its own, or is archived.
            return
        if says := self._result():
            yield says
        if self.is_sealed and not any(each.verdict in _NOT_READ for each in self.checked):
            yield from self._unsupported()

    @cached_property
    def _ended(self) -> OutcomeStatus:
        """The status with which the last attempt ended: closing and reopening an outcome leave `done_at` as it is."""
        row, named = self.row, self.named
        if row.status is OutcomeStatus.CLOSED and named and named.status is OutcomeStatus.CLOSED:
            return OutcomeStatus.CLOSED
        if row.status in {OutcomeStatus.FAILED, OutcomeStatus.CLOSED}:
            return OutcomeStatus.FAILED if row.done_at else OutcomeStatus.RETRYING
        return row.status

    @property
    def _is_retried_on_record(self) -> bool:
        return bool(self._is_last and self.named and self.named.status is OutcomeStatus.RETRYING)

    @property
    def _is_last(self) -> bool:
        """Whether the evidence is that of the last attempt that ended."""
        running = 1 if self.row.lease_until else 0
        return self.named is not None and self.named.attempt == self.row.attempts - running

    def _times(self) -> Iterator[str]:
        row, now = self.row, self.now
        if max(row.updated_at, row.received_at) > now + MAX_LEASE:
            yield "the row was written in the future"
        # Differences of times, because a sum can be after the year 9999. An operator's clock can be slow.
        written_before = [each - row.updated_at for each in (row.received_at, row.done_at) if each]
        if max(written_before) > MAX_LEASE:
            yield "the row was written before the event was received or decided"
        if row.lease_until and not now - KEPT <= row.lease_until <= now + MAX_LEASE:
            yield "the row says that an attempt runs until a time that no attempt of a message in a queue has"
        if self.is_unproven and row.status in FAILING and row.updated_at < now - KEPT:
            yield f"the row says {row.status.value} for longer than SQS keeps a message that could be tried again"

    def _result(self) -> str | None:
        """Return what the row says of the last attempt that its evidence does not."""
        named, ended = self.named, self._ended
        if named is None:
            is_said = _is_changed(self.row.policies) and not self.is_recent
            needs = is_said or (self.row.status is OutcomeStatus.CLOSED and ended is not OutcomeStatus.RETRYING)
            return "the row says what an attempt did, and no evidence of the event says so" if needs else None
        if self.row.lease_until and named.attempt >= self.row.attempts:
            return f"the row says that attempt {self.row.attempts} is running, and its evidence that it has ended"
        if ended is OutcomeStatus.RETRYING and not self._is_retried_on_record:
            return None if self.is_recent else self._retried(named)
        if named.status is not ended:
            return f"the row says {self.row.status.value}, and its evidence {named.status.value}"
        # A crashed attempt leaves its number, and its lease until an operator closes the outcome.
        if not self._is_last and not self.row.lease_until and self.row.done_at == self.row.updated_at:
            return f"the row says that {self.row.attempts} attempts were made, and its evidence {named.attempt}"
        others = ", ".join(self._others(named))
        return f"the row has other values than its evidence ({others})" if others else None

    def _retried(self, named: Evidence) -> str | None:
        """Return what a row says of an attempt without evidence that its earlier evidence contradicts."""
        if self._is_last or named.status not in FAILING:
            return f"the row says {self.row.status.value}, and its evidence {named.status.value}"
        if _is_changed(self.row.policies) and not _same_policies(self.row.policies, named):
            return "the row has other results of policies than its evidence"
        return None

    def _others(self, named: Evidence) -> Iterator[str]:
        """Yield the fields of the row that are not as the evidence of the attempt says."""
        row = self.row
        same = {
            "event_time": row.event_time == named.event_time,
            "policies": _same_policies(row.policies, named),
            "fault": _same_fault(row.fault, named.fault),
            "evidence_sha256": row.evidence_sha256 is not None or named.schema_version == _FIRST,
            "done_at": row.done_at is None or abs(row.done_at - named.recorded_at) <= MAX_LEASE,
            "updated_at": self._is_written_then(named),
        }
        if named.schema_version == _LATEST:
            same |= {"guardrails": row.guardrails == named.guardrails, "called": row.called == named.called}
        if self._is_last and not row.lease_until:
            # A later attempt may be one at an event of another source with the same id.
            same |= {"event_name": row.event_name == named.event_name, "source": row.source == named.source}
        yield from (name for name, is_same in same.items() if not is_same)

    def _is_written_then(self, named: Evidence) -> bool:
        """Return whether the row was last written with the result, if nobody can have written it since."""
        row = self.row
        if row.lease_until or row.status in {OutcomeStatus.FAILED, OutcomeStatus.CLOSED}:
            return True
        return row.updated_at == row.done_at if row.done_at else abs(row.updated_at - named.recorded_at) <= MAX_LEASE

    def _unsupported(self) -> Iterator[str]:
        """Yield what the row says of all attempts, and no evidence of the event says."""
        row, evidence = self.row, ours(self.checked)
        recorded = {(policy.policy_id, policy.result) for each in evidence for policy in each.policies}
        # After a crash between evidence and outcome, the next attempt claims all that the crashed one intended and that
        # is done, although the evidence of the crashed one can say that it failed, or that somebody else did it.
        crashed = {policy.policy_id for each in evidence if each.attempt < row.attempts for policy in each.policies}
        claims = {(policy_id, claim.result) for policy_id, claim in row.claims.items() if policy_id not in crashed}
        if claims - recorded:
            yield "the row claims that Joinguard changed a policy, and no evidence of the event says so"
        is_settled = row.done_at == row.updated_at and not row.lease_until
        if is_settled and {*row.intents, *row.announced}.difference(each.attempt for each in evidence):
            yield "the row says that an attempt was interrupted, and no evidence of the event says so"


#: The statuses that an attempt decides for good.
_DONE: Final = frozenset({OutcomeStatus.ENFORCED, OutcomeStatus.IGNORED, OutcomeStatus.OBSERVED})


def _out_of_place(row: Outcome) -> Iterator[str]:
    """Yield fields that no row with this status has."""
    status = row.status.value
    if row.rehearsal:
        yield "the row says that it is one of a rehearsal, and is not under the key of rehearsals"
    if (row.status is OutcomeStatus.CLOSED) != bool(row.closed or row.departed) or (row.closed and row.departed):
        yield f"the row says {status}, and what it says of who closed it does not fit that"
    if row.lease_until and row.status not in FAILING:
        yield f"the row says {status}, and that an attempt is running"
    if (row.status in _DONE and not row.done_at) or (row.status is OutcomeStatus.RETRYING and row.done_at):
        yield f"the row says {status}, and its `done_at` does not fit that"
    if max([1, *row.intents, *row.announced]) > row.attempts:
        yield "the row names an attempt that has not begun"


def _is_changed(policies: Sequence[PolicyOutcome]) -> bool:
    return any(each.result in _CHANGED for each in policies)


def _same_policies(policies: Sequence[PolicyOutcome], evidence: Evidence) -> bool:
    """Return whether the results are those of the evidence, which is written before removals are requested."""
    requested = AttachmentResult.REMOVAL_REQUESTED
    said = {each.policy_id: each for each in policies if each.result is not requested}
    recorded = {each.policy_id: each for each in evidence.policies}
    has_exceptions = evidence.schema_version == _LATEST
    return said.keys() == recorded.keys() and all(
        _same_policy(said[each], recorded[each], has_exceptions=has_exceptions) for each in said
    )


def _same_policy(said: PolicyOutcome, recorded: RecordedPolicy, *, has_exceptions: bool) -> bool:
    same_exceptions = not has_exceptions or said.exceptions == (recorded.exceptions or ())
    return said.result is recorded.result and same_exceptions and _same_fault(said.fault, recorded.fault)


def _same_fault(said: Fault | None, recorded: RecordedFault | None) -> bool:
    """Return whether a fault is that of the evidence, which does not hold every message."""
    if said is None or recorded is None:
        return said is None and recorded is None
    same_message = recorded.message in {None, said.message}
    return (said.code, said.reason) == (recorded.code, recorded.reason) and same_message
