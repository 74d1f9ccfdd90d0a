"""What failed in a period and how each failure ended, and what operators did."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from handlers.core.evidence.pack.members import AccountRecords
from handlers.core.evidence.pack.reading import within
from handlers.core.evidence.pack.rows import Row
from handlers.core.redaction import redact_words, safe_code
from schemas.audit import AuditRecord
from schemas.evidence import Evidence
from schemas.keys import done_key
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.pack import Failure, FailureEnd, OperatorAction, Period

_NOT_DONE: Final = frozenset({AttachmentResult.FAILED, AttachmentResult.UNKNOWN})
#: How an event ends by its last status.
_ENDS: Final = {
    OutcomeStatus.ENFORCED: FailureEnd.ENFORCED,
    OutcomeStatus.OBSERVED: FailureEnd.OBSERVED,
    OutcomeStatus.IGNORED: FailureEnd.IGNORED,
    OutcomeStatus.RETRYING: FailureEnd.RETRYING,
    OutcomeStatus.FAILED: FailureEnd.OPEN,
}
_Event = tuple[str | None, str]


@dataclass(frozen=True)
class Acted:
    """An action of an operator, as it was intended and as it was done."""

    intended: AuditRecord
    #: None if it was cut off.
    done: AuditRecord | None


def acted(records: Mapping[str, AuditRecord]) -> list[Acted]:
    """Return the actions in audit records, by key, the earliest first."""
    intended = [(key, each) for key, each in records.items() if each.phase == "intended"]
    found = [Acted(each, records.get(done_key(key))) for key, each in intended]
    return sorted(found, key=lambda each: (each.intended.recorded_at, each.intended.act_id))


def failures(
    evidence: Iterable[Evidence],
    rows: Iterable[Row],
    records: Mapping[str, AccountRecords],
    actions: Iterable[Acted],
    shown: Callable[[str], str],
) -> Iterator[Failure]:
    """Yield the events of the period that failed, those first that are still open, then by time."""
    attempts: dict[_Event, list[Evidence]] = defaultdict(list)
    for each in evidence:
        attempts[each.account.value if each.account else None, each.event_id].append(each)
    # A row whose evidence is missing or wrong proves no success.
    by_event = {
        (each.account, each.event_id): each
        for each in rows
        if not (each.wrong and each.status is OutcomeStatus.ENFORCED)
    }
    named: dict[str, list[str]] = defaultdict(list)
    for action in actions:
        for event_id in {each.event_id for each in action.intended.letters if each.event_id}:
            named[event_id].append(action.intended.act_id)
    found = [
        _failure(event, sorted(each, key=_recorded), by_event.get(event), records, named.get(event[1], []), shown)
        for event, each in attempts.items()
        if any(one.status is OutcomeStatus.FAILED for one in each)
    ]
    yield from sorted(found, key=lambda each: (each.end is not FailureEnd.OPEN, each.failed_at, each.event_id))


def _recorded(evidence: Evidence) -> tuple[datetime, int]:
    return evidence.recorded_at, evidence.attempt


def _failure(  # noqa: PLR0913, PLR0917 - what a failure depends on
    event: _Event,
    attempts: Sequence[Evidence],
    row: Row | None,
    records: Mapping[str, AccountRecords],
    actions: Sequence[str],
    shown: Callable[[str], str],
) -> Failure:
    account, event_id = event
    failed = [each for each in attempts if each.status is OutcomeStatus.FAILED]
    last = failed[-1]
    end, ended_at = _end(attempts[-1], row)
    if end is FailureEnd.OPEN and account and account in records:
        later = [
            each.recorded_at
            for _, each in records[account].evaluations
            if each.status is OutcomeStatus.ENFORCED and each.recorded_at > last.recorded_at
        ]
        later += [
            each.done_at
            for each in records[account].rows
            if each.status is OutcomeStatus.ENFORCED and not each.wrong and each.done_at
            if each.done_at > last.recorded_at
        ]
        if later:
            end, ended_at = FailureEnd.ENFORCED_BY_ANOTHER_EVENT, min(later)
    return Failure(
        account=shown(account) if account else None,
        event_id=event_id,
        event_name=redact_words(last.event_name),
        event_time=last.event_time,
        failed_at=failed[0].recorded_at,
        code=safe_code(last.fault.code) if last.fault else "OTHER",
        reason=redact_words(last.fault.reason) if last.fault and last.fault.reason else None,
        message=redact_words(last.fault.message) if last.fault and last.fault.message else None,
        policies=tuple(each.policy_id for each in last.policies if each.result in _NOT_DONE),
        end=end,
        ended_at=ended_at,
        actions=tuple(actions),
    )


def _end(last: Evidence, row: Row | None) -> tuple[FailureEnd, datetime | None]:
    """Return how an event ended: as its outcome says, or its last evidence if there is no outcome."""
    if row is None:
        end = _ENDS.get(last.status, FailureEnd.CLOSED)
        return end, None if end is FailureEnd.OPEN else last.recorded_at
    if row.left_at:
        return FailureEnd.ACCOUNT_LEFT, row.left_at
    if row.status is OutcomeStatus.CLOSED:
        return FailureEnd.CLOSED, row.closed_at or row.updated_at
    end = _ENDS[row.status]
    return end, None if end in {FailureEnd.OPEN, FailureEnd.RETRYING} else row.done_at or row.updated_at


def operator_actions(actions: Iterable[Acted], period: Period, concerned: Collection[str]) -> Iterator[OperatorAction]:
    """Yield the actions that began in the period, and later ones that concern its failures."""
    for each in actions:
        intended, done = each.intended, each.done
        in_period = within(period, intended.recorded_at)
        if not in_period and intended.act_id not in concerned:
            continue
        yield OperatorAction(
            action_id=intended.act_id,
            action=intended.action,
            begun_at=intended.recorded_at,
            ended=done.ended if done else None,
            ended_at=done.recorded_at if done else None,
            actor=intended.actor.value,
            actor_name=intended.actor_name.value if intended.actor_name else None,
            actor_id=redact_words(intended.actor_id),
            reason=redact_words(intended.reason),
            messages=intended.messages,
            results={redact_words(name): number for name, number in done.results.items()} if done else {},
            in_period=in_period,
        )
